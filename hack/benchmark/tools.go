package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A tool builds images, or is a floor: the least that could be done.
type tool struct {
	name  string
	order int
	floor bool
	// build and push are commands; {dir} stands for the context and {file}
	// for its recipe or Containerfile, {registry} for where to push.
	build, push []string
	// daemon does the work of the command.
	daemon *exec.Cmd
	script string
	port   int
}

func shellFloor(name, script string) tool {
	return tool{name: name, order: 100, floor: true, script: script}
}

// do runs the tool once.
func (t tool) do(ctx context.Context, c benchCase, dir string) usage {
	if t.floor {
		return t.command(ctx, dir, []string{"sh", "-c", t.script})
	}
	file, text := filepath.Join(dir, "Containerfile"), c.containerfile
	if t.name == "pdibuild" {
		file, text = filepath.Join(dir, "pdibuild.yaml"), c.recipe
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return usage{err: err}
	}
	u := t.command(ctx, dir, t.fill(t.build, dir, file))
	if !c.push || u.err != nil {
		return u
	}
	return t.command(ctx, dir, t.fill(t.push, dir, file))
}

func (t tool) fill(args []string, dir, file string) []string {
	r := strings.NewReplacer("{dir}", dir, "{file}", file, "{registry}", fmt.Sprintf("127.0.0.1:%d/bench/%s:%d", t.port, t.name, time.Now().UnixNano()))
	var filled []string
	for _, a := range args {
		filled = append(filled, r.Replace(a))
	}
	return filled
}

func (t tool) command(ctx context.Context, dir string, args []string) usage {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	start := time.Now()
	err := cmd.Run()
	u := usage{took: time.Since(start), err: err}
	if err != nil {
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		u.err = fmt.Errorf("%w: %s", err, strings.Join(lines[max(0, len(lines)-3):], "; "))
		return u
	}
	if ru, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		u.rss = ru.Maxrss << 10
	}
	if t.daemon != nil {
		u.rss = peakRSS(t.daemon.Process.Pid)
	}
	return u
}

// peakRSS is the most memory that a running process ever had, in bytes.
func peakRSS(pid int) int64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(data), "VmHWM:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	kb, _ := strconv.ParseInt(fields[0], 10, 64)
	return kb << 10
}

// diskWritten is what all disks have written, in bytes.
func diskWritten() int64 {
	stats, _ := filepath.Glob("/sys/block/*/stat")
	var sum int64
	for _, file := range stats {
		data, err := os.ReadFile(file)
		if f := strings.Fields(string(data)); err == nil && len(f) > 6 {
			n, _ := strconv.ParseInt(f[6], 10, 64) // sectors of 512 bytes, see the kernel's stat.rst
			sum += n * 512
		}
	}
	return sum
}

func flush() { syscall.Sync() }

// findTools looks for what is installed; what is missing is said, not an error.
func (b *bench) findTools(ctx context.Context, pdibuild, buildkit string) error {
	path, err := filepath.Abs(pdibuild)
	if err != nil {
		return err
	}
	if _, err := os.Stat(path); err != nil {
		return err
	}
	store := func(name string) string { return filepath.Join(b.dir, "store-"+name) }
	b.tools = append(b.tools, tool{
		name:  "pdibuild",
		build: []string{path, "build", "--storage-root", store("pdibuild"), "--tag", "bench", "-f", "{file}", "{dir}"},
		push:  []string{path, "push", "--storage-root", store("pdibuild"), "--tls-verify=false", "localhost/bench:bench", "{registry}"},
	})
	for i, name := range []string{"buildah", "podman"} {
		path, err := exec.LookPath(name)
		if err != nil {
			fmt.Fprintf(b.progress, "%s is not installed: left out\n", name)
			continue
		}
		global := []string{path, "--root", store(name), "--runroot", filepath.Join("/tmp", fmt.Sprintf("bench%d-%d", os.Getpid(), i)), "--storage-driver", "overlay"}
		build := []string{"build", "--layers", "--isolation", "chroot", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096", "-t", "localhost/bench:bench", "-f", "{file}", "{dir}"}
		b.tools = append(b.tools, tool{
			name: name, order: i + 1, build: append(global[:len(global):len(global)], build...),
			push: append(global[:len(global):len(global)], "push", "--tls-verify=false", "localhost/bench:bench", "docker://{registry}"),
		})
	}
	if buildkit == "" {
		fmt.Fprintln(b.progress, "BuildKit is left out: give its directory with --buildkit")
	} else if err := b.startBuildKit(ctx, buildkit); err != nil {
		return err
	}
	return b.startRegistry(ctx)
}

func (b *bench) startBuildKit(ctx context.Context, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	socket := "unix://" + filepath.Join(b.dir, "buildkit.sock")
	daemon := exec.CommandContext(ctx, filepath.Join(dir, "buildkitd"), "--addr", socket, "--root", filepath.Join(b.dir, "store-buildkit"),
		"--oci-worker-snapshotter", "overlayfs", "--oci-worker-net", "host")
	if daemon.Stderr, err = os.Create(filepath.Join(b.dir, "buildkitd.log")); err != nil {
		return err
	}
	if err := daemon.Start(); err != nil {
		return err
	}
	ctl := filepath.Join(dir, "buildctl")
	for range 100 {
		if exec.CommandContext(ctx, ctl, "--addr", socket, "debug", "workers").Run() == nil {
			b.tools = append(b.tools, tool{name: "buildkit", order: 3, daemon: daemon, build: []string{
				ctl, "--addr", socket, "build", "--frontend", "dockerfile.v0", "--local", "context={dir}", "--local", "dockerfile={dir}",
				"--opt", "filename=Containerfile", "--output", "type=image,name=localhost/bench:bench,push=false,compression=uncompressed",
			}})
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return errors.New("buildkitd did not start")
}

// startRegistry gives the tools a registry, if one is installed.
func (b *bench) startRegistry(ctx context.Context) error {
	if _, err := exec.LookPath("docker-registry"); err != nil {
		fmt.Fprintln(b.progress, "docker-registry is not installed: nothing can be pushed")
		return nil //nolint:nilerr // a benchmark without pushes is still one
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		return err
	}
	config := filepath.Join(b.dir, "registry.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: 127.0.0.1:%d}\n", filepath.Join(b.dir, "registry"), port)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return err
	}
	registry := exec.CommandContext(ctx, "docker-registry", "serve", config)
	if err := registry.Start(); err != nil {
		return err
	}
	b.registry = registry
	for i := range b.tools {
		b.tools[i].port = port
	}
	return nil
}

// stop ends the daemons.
func (b *bench) stop() {
	daemons := []*exec.Cmd{b.registry}
	for _, t := range b.tools {
		daemons = append(daemons, t.daemon)
	}
	for _, d := range daemons {
		if d != nil {
			_ = d.Process.Signal(syscall.SIGTERM)
			_ = d.Wait()
		}
	}
}
