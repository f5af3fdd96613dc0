package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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
	// The commands; {dir} stands for the context with its recipe or
	// Containerfile, {registry} for where to push.
	build, push, keepCommand, tidyCommand, emptyCommand []string
	// recipe says that it reads ours, not the Containerfile.
	recipe bool
	// daemon does the work of the command.
	daemon *exec.Cmd
	script string
	port   int
	blobs  string // where the registry keeps them
	store  string // of its images; empty: its daemon has it
}

func shellFloor(name, script string) tool {
	return tool{name: name, order: 100, floor: true, script: script}
}

// do runs the tool once. What is measured of a push is the push alone.
func (t tool) do(ctx context.Context, c benchCase, dir string) usage {
	if t.floor {
		return t.command(ctx, dir, []string{"sh", "-c", t.script})
	}
	u := t.buildOnce(ctx, c, dir)
	if !c.push || u.err != nil {
		return u
	}
	if err := flush(dir); err != nil {
		return usage{err: err}
	}
	before := blobBytes(t.blobs)
	u = t.command(ctx, dir, t.fill(t.push, dir))
	u.pushed = blobBytes(t.blobs) - before
	return u
}

func (t tool) buildOnce(ctx context.Context, c benchCase, dir string) usage {
	file, text := filepath.Join(dir, "Containerfile"), c.containerfile
	if t.recipe {
		file, text = filepath.Join(dir, "pdibuild.yaml"), c.recipe
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return usage{err: err}
	}
	return t.command(ctx, dir, t.fill(t.build, dir))
}

// keep gives what the case's first stage makes a name, so that tidy leaves it
// alone; afterwards tidy removes the images of older rounds.
func (t tool) keep(ctx context.Context, dir string) error {
	if t.keepCommand == nil {
		return nil
	}
	return t.command(ctx, dir, t.fill(t.keepCommand, dir)).err
}

func (t tool) tidy(ctx context.Context, dir string) error {
	if t.tidyCommand == nil {
		return nil
	}
	return t.command(ctx, dir, t.fill(t.tidyCommand, dir)).err
}

func (t tool) fill(args []string, dir string) []string {
	name := strings.ToLower(strings.ReplaceAll(t.name, " ", "-"))
	r := strings.NewReplacer("{dir}", dir, "{registry}", fmt.Sprintf("127.0.0.1:%d/bench/%s:%d", t.port, name, time.Now().UnixNano()))
	var filled []string
	for _, a := range args {
		filled = append(filled, r.Replace(a))
	}
	return filled
}

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
		name: "pdibuild", recipe: true, store: store("pdibuild"), emptyCommand: []string{"rm", "-rf", store("pdibuild")},
		build: []string{path, "build", "--storage-root", store("pdibuild"), "--tag", "bench", "-f", "{dir}/pdibuild.yaml", "{dir}"},
		push:  []string{path, "push", "--storage-root", store("pdibuild"), "--tls-verify=false", "localhost/bench:bench", "{registry}"},
	})
	// Its path has to be short: there are sockets in it.
	if b.runroots, err = os.MkdirTemp("/tmp", "bench"); err != nil {
		return err
	}
	for i, name := range []string{"buildah", "podman"} {
		path, err := exec.LookPath(name)
		if err != nil {
			fmt.Fprintf(b.progress, "%s is not installed: left out\n", name)
			continue
		}
		global := []string{path, "--root", store(name), "--runroot", filepath.Join(b.runroots, strconv.Itoa(i)), "--storage-driver", "overlay"}
		build := []string{"build", "--layers", "--isolation", "chroot", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096", "-f", "{dir}/Containerfile"}
		if name == "buildah" {
			build[0] = "bud"
		}
		with := func(args []string, more ...string) []string { return slices.Concat(args, more) }
		b.tools = append(b.tools, tool{
			name: name, order: i + 1, store: store(name), emptyCommand: []string{"rm", "-rf", store(name)},
			build:       with(with(global, build...), "-t", "localhost/bench:bench", "{dir}"),
			push:        with(global, "push", "--tls-verify=false", "localhost/bench:bench", "docker://{registry}"),
			keepCommand: with(with(global, build...), "--target", "made", "-t", "localhost/made", "{dir}"),
			tidyCommand: with(global, map[string][]string{"buildah": {"rmi", "--prune", "--force"}, "podman": {"image", "prune", "-f"}}[name]...),
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
	daemon.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if daemon.Stderr, err = os.Create(filepath.Join(b.dir, "buildkitd.log")); err != nil {
		return err
	}
	if err := daemon.Start(); err != nil {
		return err
	}
	b.daemons = append(b.daemons, daemon)
	ctl := filepath.Join(dir, "buildctl")
	for range 100 {
		if exec.CommandContext(ctx, ctl, "--addr", socket, "debug", "workers").Run() == nil {
			b.tools = append(b.tools, tool{name: "BuildKit", order: 3, daemon: daemon, emptyCommand: []string{ctl, "--addr", socket, "prune", "--all"}, build: []string{
				ctl, "--addr", socket, "build", "--frontend", "dockerfile.v0", "--local", "context={dir}", "--local", "dockerfile={dir}",
				"--opt", "filename=Containerfile", "--output", "type=image,name=localhost/bench:bench,push=false,compression=uncompressed",
			}, push: []string{
				ctl, "--addr", socket, "build", "--frontend", "dockerfile.v0", "--local", "context={dir}", "--local", "dockerfile={dir}",
				"--opt", "filename=Containerfile", "--output", "type=image,name={registry},push=true,registry.insecure=true,compression=gzip,force-compression=true",
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
	registry.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := registry.Start(); err != nil {
		return err
	}
	b.daemons = append(b.daemons, registry)
	for i := range b.tools {
		b.tools[i].port, b.tools[i].blobs = port, filepath.Join(b.dir, "registry")
	}
	return nil
}

// stop ends the daemons.
func (b *bench) stop() {
	for _, d := range b.daemons {
		_ = d.Process.Signal(syscall.SIGTERM)
		ended := time.AfterFunc(10*time.Second, func() { _ = d.Process.Kill() })
		_ = d.Wait()
		ended.Stop()
	}
}
