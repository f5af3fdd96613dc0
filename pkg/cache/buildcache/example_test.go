package buildcache_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"

	"github.com/pdidev/pdibuild/pkg/cache/buildcache"
)

// Bring a package and what it runs with from a registry to a directory, and
// check what has arrived.
func ExampleCopy() {
	ctx := context.Background()
	src, err := buildcache.Open(ctx, "oci://ghcr.io/site/cache", buildcache.Options{
		Credentials: buildcache.AuthFiles(os.Getenv("HOME") + "/.docker/config.json"),
		Proxy:       http.ProxyFromEnvironment,
		Report:      func(text string) { log.Print(text) },
	})
	if err != nil {
		log.Fatal(err)
	}
	dst, err := buildcache.Open(ctx, "/scratch/cache", buildcache.Options{})
	if err != nil {
		log.Fatal(err)
	}
	pdi, err := buildcache.ParseFilter("pdi@1.9 target=zen4")
	if err != nil {
		log.Fatal(err)
	}
	result, err := buildcache.Copy(ctx, src, dst, buildcache.CopyOptions{Filters: []buildcache.Filter{pdi}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(result.Copied), "packages copied")
	report, err := dst.Verify(ctx, buildcache.VerifyOptions{Deep: true})
	if err != nil {
		log.Fatal(err)
	}
	for _, finding := range report.Findings {
		fmt.Println(finding)
	}
}
