package ownership

import (
	"maps"
	"slices"

	"golang.org/x/sys/unix"
)

// handler answers one system call of a supervised process.
type handler func(*Supervisor, *call) verdict

// verdict is the answer to a system call: let the kernel do it, or return
// errno or, where that is 0, value without.
type verdict struct {
	proceed bool
	errno   unix.Errno
	value   int
}

var (
	proceed = verdict{proceed: true}
	success = verdict{}
)

func failure(errno unix.Errno) verdict { return verdict{errno: errno} }

// handlers are the system calls that a supervisor answers.
func handlers(stat bool) map[int32]handler {
	all := identityCalls()
	maps.Copy(all, chownCalls())
	if stat {
		maps.Copy(all, statCalls())
	}
	return all
}

// callNumbers lists the system calls to be notified of.
func callNumbers(stat bool) []int32 {
	return slices.Sorted(maps.Keys(handlers(stat)))
}
