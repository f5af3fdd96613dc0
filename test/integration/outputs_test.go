//go:build integration

package integration

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const smallRecipe = `version: 1
name: localhost/outputs
stages:
  - name: final
    from: scratch
    steps:
      - {file: /hello, content: "NONCE\n"}
`

// wantArchive wants an archive that has the image.
func wantArchive(t *testing.T, transport string, archive []byte, id string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "archive.tar")
	if err := os.WriteFile(file, archive, 0o600); err != nil {
		t.Fatal(err)
	}
	needTool(t, "skopeo")
	if config := judge(t, "skopeo", "inspect", "--raw", "--config", transport+":"+file); sha256Hex(config) != strings.TrimSpace(id) && sha256Hex(strings.TrimSuffix(config, "\n")) != strings.TrimSpace(id) {
		t.Errorf("the archive does not have image %s:\n%s", id, config)
	}
}

// An archive on standard output is alone there, as 'docker load' wants it, and
// the same each time.
func TestArchiveOnStdout(t *testing.T) {
	t.Parallel()
	p := newProject(t, smallRecipe)
	id := p.build().ok().ImageID
	for _, transport := range []string{"docker-archive", "oci-archive"} {
		for _, place := range []string{"-", "/dev/stdout", "/proc/self/fd/1"} {
			o := p.build("-o", transport+":"+place)
			if o.code != 0 || o.ImageID != id {
				t.Fatalf("%s:%s: exit code %d, image %s\n%s", transport, place, o.code, o.ImageID, o.stderr)
			}
			wantArchive(t, transport, []byte(o.stdout), id)
		}
	}
	once, again := p.run("export", "--storage-root", p.store, id, "oci-archive:-"), p.run("export", "--storage-root", p.store, id, "oci-archive:-")
	if once.code != 0 || once.stdout != again.stdout {
		t.Errorf("two exports differ (exit code %d)\n%s", once.code, once.stderr)
	}
	p.build("-o", "oci-archive:-", "-o", "docker-archive:/dev/fd/1").fails(2, "written twice")
	p.build("-o", "oci-archive:-", "--iidfile", "/dev/stdout").fails(2, "standard output can have only one")
}

// What a shell has opened is written to, whatever its number and whoever builds.
func TestArchiveOnDescriptor(t *testing.T) {
	t.Parallel()
	p := newProject(t, smallRecipe)
	id := p.build().ok().ImageID
	for i, fd := range []string{"3", "4", "5", "63"} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd := p.command(p.buildArgs("-q", "-o", "oci-archive:/dev/fd/"+fd)...)
		for range map[string]int{"3": 0, "4": 1, "5": 2, "63": 60}[fd] {
			cmd.ExtraFiles = append(cmd.ExtraFiles, nil)
		}
		cmd.ExtraFiles = append(cmd.ExtraFiles, w)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := errors.Join(cmd.Start(), w.Close()); err != nil {
			t.Fatal(err)
		}
		archive, err := io.ReadAll(r)
		if err := errors.Join(err, cmd.Wait()); err != nil {
			t.Fatalf("descriptor %s: %v\n%s", fd, err, &stderr)
		}
		if i == 0 {
			wantArchive(t, "oci-archive", archive, id)
		}
		if len(archive) == 0 {
			t.Errorf("nothing was written to descriptor %s", fd)
		}
	}
}

// A named pipe stays one, and its reader gets the archive.
func TestArchiveInPipe(t *testing.T) {
	t.Parallel()
	p := newProject(t, smallRecipe)
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	got := make(chan []byte)
	go func() {
		data, _ := os.ReadFile(pipe)
		got <- data
	}()
	id := p.build("-o", "docker-archive:"+pipe).ok().ImageID
	wantArchive(t, "docker-archive", <-got, id)
	if info, err := os.Lstat(pipe); err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		t.Errorf("it is no pipe any more: %v", err)
	}
}

// A pipe whose reader goes away, or never reads, ends the command.
func TestArchiveWithoutReader(t *testing.T) {
	t.Parallel()
	p := newProject(t, smallRecipe)
	p.write("large", strings.Repeat("0123456789abcdef", 1<<16))
	p.recipe(strings.Replace(smallRecipe, "steps:", "steps:\n      - {copy: large, to: /large}", 1))
	id := p.build().ok().ImageID
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	start := func() (*exec.Cmd, *bytes.Buffer) {
		cmd := p.command("export", "-q", "--storage-root", p.store, "--compression", "none", id, "docker-archive:-")
		var stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = w, &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd, &stderr
	}
	cmd, stderr := start()
	time.Sleep(time.Second)
	_ = cmd.Process.Signal(syscall.SIGTERM)
	if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != 130 {
		t.Errorf("while nobody reads, SIGTERM gives exit code %d\n%s", cmd.ProcessState.ExitCode(), stderr)
	}
	cmd, stderr = start()
	if err := errors.Join(w.Close(), r.Close()); err != nil {
		t.Fatal(err)
	}
	if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != 1 || !strings.Contains(stderr.String(), "the program that reads it has ended") {
		t.Errorf("without a reader, exit code %d\n%s", cmd.ProcessState.ExitCode(), stderr)
	}
}

// A link stays, and what it leads to is replaced, also where nothing is yet.
func TestArchiveThroughLink(t *testing.T) {
	t.Parallel()
	p := newProject(t, smallRecipe)
	dir := t.TempDir()
	link, target := filepath.Join(dir, "link.tar"), filepath.Join(dir, "to", "target.tar")
	if err := errors.Join(os.Mkdir(filepath.Dir(target), 0o755), os.Symlink("to/target.tar", link)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		id := p.build("-o", "oci-archive:"+link).ok().ImageID
		archive, err := os.ReadFile(target)
		if err != nil {
			t.Fatal(err)
		}
		wantArchive(t, "oci-archive", archive, id)
		if _, err := os.Readlink(link); err != nil {
			t.Error(err)
		}
	}
	if entries, err := os.ReadDir(filepath.Dir(target)); err != nil || len(entries) != 1 {
		t.Errorf("beside the archive there is %v (%v)", entries, err)
	}
	if o := p.run("export", "--storage-root", p.store, "outputs", "oci-archive:"+link); o.code != 0 || !strings.Contains(o.stderr, "in the place of the file that was there") {
		t.Errorf("export does not tell that it has replaced a file (exit code %d)\n%s", o.code, o.stderr)
	}
}

// What is no file is refused before anything is built, and stays what it is.
func TestOutputsAreRefusedFirst(t *testing.T) {
	t.Parallel()
	p := newProject(t, strings.Replace(smallRecipe, "file: /hello", "file: /hello", 1))
	for _, args := range [][]string{
		{"-o", "oci-archive:/dev/full"},
		{"-o", "docker-archive:" + t.TempDir()},
		{"-o", "oci-archive:/dev/fd/77"},
		{"--iidfile", t.TempDir() + "/no/such/dir"},
		{"--iidfile", "/dev/full"},
		{"-o", "oci:-"},
	} {
		o := p.build(args...)
		o.fails(2)
		if strings.Contains(o.stderr, "[final") {
			t.Errorf("%v: it was built all the same:\n%s", args, o.stderr)
		}
	}
	if info, err := os.Stat("/dev/full"); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		t.Errorf("/dev/full is %v (%v)", info.Mode(), err)
	}
}
