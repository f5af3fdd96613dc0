// Command library is a program that builds an image with pdibuild's packages.
// Its recipe is data that it makes itself, and has two stages: the first computes
// a table with a program of this host, the image has the table alone.
//
//	go run ./examples/library /bin/busybox
//
// The program, /bin/busybox, has to be linked statically: the stage has nothing
// else. Only the image's id goes to standard output.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/pdidev/pdibuild/pkg/builder"
	"github.com/pdidev/pdibuild/pkg/progress"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

func main() {
	err := builder.Main(func() int {
		if err := run(); err != nil {
			fmt.Fprintln(os.Stderr, "library:", err)
			return 1
		}
		return 0
	})
	fmt.Fprintln(os.Stderr, "library:", err) // this host cannot build
	os.Exit(1)
}

func run() (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if len(os.Args) != 2 {
		return fmt.Errorf("give a statically linked busybox, such as /bin/busybox")
	}
	program := filepath.Base(os.Args[1])
	table := recipe.Exec("/"+program, "sh", "-c", "for i in 1 2 3; do echo $i $((i * i)); done >/squares")
	rec := &recipe.Recipe{Version: recipe.Version, Name: "squares", Stages: []recipe.Stage{
		{Name: "computed", From: "scratch", Steps: []recipe.Step{
			recipe.Copy{Sources: []string{program}, To: "/", Mode: "0755"},
			recipe.Run{Command: table},
		}},
		{Name: "final", From: "scratch", Steps: []recipe.Step{
			recipe.Copy{From: "computed", Sources: []string{"/squares"}, To: "/data/squares"},
		}},
	}}
	b, err := builder.Open(builder.StoreOptions{}) // the store of podman and pdibuild
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	plan, err := b.Plan(ctx, rec, filepath.Dir(os.Args[1]), builder.PlanOptions{})
	if err != nil {
		return err
	}
	shown := progress.NewPlain(os.Stderr, progress.PlainOptions{})
	result, err := b.Build(ctx, plan, builder.BuildOptions{
		Tags:   []string{"example"}, // of the recipe's name: localhost/squares:example
		Events: shown.Event,
		Output: shown.Output,
	})
	if err != nil {
		return err
	}
	fmt.Println(result.ImageID)
	return nil
}
