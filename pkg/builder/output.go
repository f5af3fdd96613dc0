package builder

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
)

// tailLines is how many lines of output an error carries.
const tailLines = 15

// maxLine bounds what is held back waiting for the end of a line.
const maxLine = 64 << 10

// An output takes what a step prints: it masks secrets, keeps all of it in
// the step's log, passes it on line by line and remembers the last lines.
// Writes may come from several goroutines.
type output struct {
	mu     sync.Mutex
	mask   io.WriteCloser
	log    *os.File
	logErr error
	lines  func(line []byte)
	line   []byte
	tail   []string
}

// newOutput returns an output that writes its log to log and calls lines, if
// it is not nil, for each line.
func newOutput(mask func(io.Writer) io.WriteCloser, log *os.File, lines func([]byte)) *output {
	o := &output{log: log, lines: lines}
	o.mask = mask(writerFunc(o.masked))
	return o
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// Write takes raw output.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.mask.Write(p)
}

// masked takes output without secrets. A log that cannot be written does not
// stop the step.
func (o *output) masked(p []byte) (int, error) {
	if _, err := o.log.Write(p); err != nil && o.logErr == nil {
		o.logErr = err
	}
	rest := p
	for {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			break
		}
		o.endLine(rest[:i])
		rest = rest[i+1:]
	}
	o.line = append(o.line, rest...)
	if len(o.line) > maxLine {
		o.endLine(nil)
	}
	return len(p), nil
}

func (o *output) endLine(rest []byte) {
	o.line = append(o.line, rest...)
	line := bytes.TrimRight(o.line, "\r")
	// Progress bars overwrite their line: the last version counts.
	if i := bytes.LastIndexByte(line, '\r'); i >= 0 {
		line = line[i+1:]
	}
	if len(o.tail) == tailLines {
		o.tail = o.tail[1:]
	}
	o.tail = append(o.tail, strings.ToValidUTF8(string(line), "\uFFFD"))
	if o.lines != nil {
		o.lines(line)
	}
	o.line = o.line[:0]
}

// Close releases what was held back and closes the log.
func (o *output) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	err := o.mask.Close()
	if len(o.line) > 0 {
		o.endLine(nil)
	}
	return errors.Join(err, o.logErr, o.log.Close())
}

// Tail returns the last lines, masked.
func (o *output) Tail() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]string(nil), o.tail...)
}
