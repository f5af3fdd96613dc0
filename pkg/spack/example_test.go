package spack_test

import (
	"fmt"
	"io"
	"log"
	"os"

	"github.com/pdidev/pdibuild/pkg/spack"
)

// The environment of an image is the user's, with paths of its own and
// without what is about the image itself.
func ExampleEnvironment_Rewrite() {
	env, err := spack.ParseEnvironment("spack.yaml", []byte(`spack:
  # What we need.
  specs: [pdi, cmake]
  container:
    images: {os: "ubuntu:24.04", spack: "1.0"}
`))
	if err != nil {
		log.Fatal(err)
	}
	base, err := env.Container.Base()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("build in", base.Build, "and copy to", base.Final)
	data, err := env.Rewrite(spack.Remove("container"), spack.Set("/opt/software", "config", "install_tree", "root"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(string(data))
	// Output:
	// build in spack/ubuntu-noble:1.0 and copy to ubuntu:24.04
	// spack:
	//   # What we need.
	//   specs: [pdi, cmake]
	//   config:
	//     install_tree:
	//       root: /opt/software
}

// What an image must have is less than what is installed to build it.
func ExampleLock_Closure() {
	data, err := os.ReadFile("testdata/spack-1.3/spack.lock")
	if err != nil {
		log.Fatal(err)
	}
	lock, err := spack.ParseLock("spack.lock", data)
	if err != nil {
		log.Fatal(err)
	}
	specs, err := lock.Closure(spack.Link, spack.Run)
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range specs {
		if s.External == nil {
			fmt.Println(s.Name, s.Version)
		}
	}
	// Output:
	// gcc-runtime 12.2.0
	// hello-lib 1.2
	// hello-compiled 1.0
	// hello-tool 0.4.1
}

// An Output goes between Spack and those who wait.
func ExampleOutput() {
	f, err := os.Open("testdata/spack-1.3/install-failed.log") // the pipe of a command
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	out := &spack.Output{Handle: func(e spack.Event) {
		if e.Kind == spack.EventPhase && e.Phase == "install" {
			fmt.Println("installing", e.Name)
		}
	}}
	if _, err := io.Copy(out, f); err != nil {
		log.Fatal(err)
	}
	if err := out.Close(); err != nil {
		log.Fatal(err)
	}
	for _, f := range out.Failures() {
		fmt.Printf("%s@%s failed in its phase %s:\n%s\n", f.Name, f.Version, f.Phase, f.Lines[6])
	}
	// Output:
	// installing hello-broken
	// hello-broken@6.6 failed in its phase install:
	// > hello.c:3:1: error: nothing works
}
