package worker

import (
	"reflect"
	"strings"
	"testing"
)

// A worker gets what it was sent, also words that are no UTF-8, as arguments,
// variables and names of files of Linux may be.
func FuzzRequest(f *testing.F) {
	f.Add("ls\x00-l\xff", "A=\xc3\x28\x00B=", "/data\xfe", []byte{0, 0xff}, uint32(1), true)
	f.Add("", "", "", []byte(nil), uint32(0), false)
	f.Fuzz(func(t *testing.T, args, env, path string, secret []byte, id uint32, flag bool) {
		sent := &Request{
			Root: path, Args: strings.Split(args, "\x00"), Env: strings.Split(env, "\x00"), Cwd: path, UID: id, Groups: []uint32{id},
			MapUser: flag, Mounts: []Mount{{Type: "bind", Source: path, Target: args, Write: flag}},
			Secrets: []Secret{{Target: path, Value: secret}},
		}
		if flag {
			sent.Terminal = &TerminalSize{Rows: uint16(id), Cols: uint16(id >> 16)}
		}
		file, err := requestFile(sent)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		got, err := readRequest(file)
		if err != nil {
			t.Fatal(err)
		}
		if len(secret) == 0 {
			got.Secrets[0].Value = secret // an empty one may be nil
		}
		if !reflect.DeepEqual(sent, got) {
			t.Errorf("sent %+v, got %+v", sent, got)
		}
	})
}
