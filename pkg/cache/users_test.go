package cache_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/pdidev/pdibuild/pkg/cache"
)

// enterEnv makes the test program enter the register in its value's directory,
// say so, and wait for its end.
const enterEnv = "PDIBUILD_TEST_ENTER"

func TestMain(m *testing.M) {
	dir := os.Getenv(enterEnv)
	if dir == "" {
		os.Exit(m.Run())
	}
	u, err := cache.OpenUsers(dir)
	if err == nil {
		_, err = u.Enter(context.Background())
	}
	fmt.Println("entered", err)
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
}

// enter starts another process that is present in dir.
func enter(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), enterEnv+"="+dir)
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "entered <nil>\n" {
		t.Fatalf("the other process: %q, %v", line, err)
	}
	return cmd
}

func sweep(t *testing.T, u *cache.Users) *cache.Sweep {
	t.Helper()
	s, err := u.Sweep(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAnotherProcessIsPresentUntilItEnds(t *testing.T) {
	dir := t.TempDir()
	u, err := cache.OpenUsers(dir)
	if err != nil {
		t.Fatal(err)
	}
	before := time.Now().Add(-time.Minute)
	cmd := enter(t, dir)
	s := sweep(t, u)
	if s.Others != 1 || s.Since.Before(before) || s.Since.After(time.Now().Add(time.Minute)) {
		t.Errorf("%d others since %v, want one since now", s.Others, s.Since)
	}
	s.End()
	_ = cmd.Process.Kill() // kill -9
	_ = cmd.Wait()
	s = sweep(t, u)
	defer s.End()
	if s.Others != 0 || s.Since.Before(time.Now().Add(24*time.Hour)) {
		t.Errorf("after kill -9: %d others since %v", s.Others, s.Since)
	}
	if files, _ := os.ReadDir(dir); len(files) != 1 {
		t.Errorf("the dead one has left %v", files)
	}
}

func TestNobodyEntersWhileASweepIsUnderWay(t *testing.T) {
	u, err := cache.OpenUsers(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := sweep(t, u)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := u.Enter(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Enter during a sweep: %v", err)
	}
	s.End()
	leave, err := u.Enter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s = sweep(t, u); s.Others != 1 {
		t.Errorf("%d others, want 1", s.Others)
	}
	s.End()
	leave()
	if s = sweep(t, u); s.Others != 0 {
		t.Errorf("%d others after leave, want 0", s.Others)
	}
	s.End()
}

// What a killed process has left goes when the next one enters.
func TestTheNextOneForgetsAKilledOne(t *testing.T) {
	dir := t.TempDir()
	there := enter(t, dir)
	killed := enter(t, dir)
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = killed.Wait()
	u, err := cache.OpenUsers(dir)
	if err != nil {
		t.Fatal(err)
	}
	leave, err := u.Enter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "user-*"))
	if err != nil || len(files) != 2 { // the one that is there, and this one
		t.Errorf("the register has %v, %v", files, err)
	}
	leave()
	if s := sweep(t, u); s.Others != 1 {
		t.Errorf("%d are present, want process %d alone", s.Others, there.Process.Pid)
	}
}
