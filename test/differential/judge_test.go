//go:build integration

package differential

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.podman.io/buildah/define"
	"go.podman.io/buildah/imagebuildah"
	"go.podman.io/common/libnetwork/types"
	"go.podman.io/image/v5/copy"
	"go.podman.io/image/v5/signature"
	"go.podman.io/image/v5/transports/alltransports"
	imagetypes "go.podman.io/image/v5/types"
	"go.podman.io/storage"
)

// A judge builds Containerfiles with the Buildah libraries in a store of its own.
type judge struct {
	dir, policy string
	store       storage.Store
}

// newJudge makes a store that has the base image of an OCI layout.
func newJudge(dir, base string) (*judge, error) {
	j := &judge{dir: dir, policy: filepath.Join(dir, "policy.json")}
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(j.policy, []byte(`{"default": [{"type": "insecureAcceptAnything"}]}`), 0o644)); err != nil {
		return nil, err
	}
	var err error
	j.store, err = storage.GetStore(storage.StoreOptions{
		GraphRoot: filepath.Join(dir, "store"), RunRoot: filepath.Join(dir, "run"), GraphDriverName: "overlay",
	})
	if err != nil {
		return nil, err
	}
	return j, j.load(base)
}

func (j *judge) load(base string) error {
	policy, err := signature.NewPolicyFromFile(j.policy)
	if err != nil {
		return err
	}
	allow, err := signature.NewPolicyContext(policy)
	if err != nil {
		return err
	}
	from, err := alltransports.ParseImageName("oci:" + base)
	if err != nil {
		return err
	}
	to, err := alltransports.ParseImageName(fmt.Sprintf("containers-storage:[overlay@%s/store+%s/run]%s", j.dir, j.dir, baseImage))
	if err != nil {
		return err
	}
	_, err = copy.Image(context.Background(), allow, to, from, nil)
	return errors.Join(err, allow.Destroy())
}

func (j *judge) remove() error {
	_, err := j.store.Shutdown(true)
	return errors.Join(err, os.RemoveAll(j.dir))
}

// noNetwork has the commands use the host's network: Buildah asks for a network
// program otherwise.
type noNetwork struct{ types.ContainerNetwork }

// build builds a Containerfile. Its image goes to the OCI layout out. Without
// layers, all steps share one container. target names the stage; "" is the last.
func (j *judge) build(sc *scene, target, out string, layers bool) (*outcome, error) {
	var log bytes.Buffer
	options := define.BuildOptions{
		ContextDirectory:        sc.context,
		AdditionalBuildContexts: map[string]*define.AdditionalBuildContext{"files": {Value: sc.files}},
		PullPolicy:              define.PullNever,
		Isolation:               define.IsolationChroot,
		ConfigureNetwork:        define.NetworkEnabled,
		NetworkInterface:        noNetwork{},
		NamespaceOptions:        define.NamespaceOptions{{Name: "network", Host: true}},
		Output:                  "oci:" + out,
		OutputFormat:            define.OCIv1ImageManifest,
		SignaturePolicyPath:     j.policy,
		SystemContext:           &imagetypes.SystemContext{SignaturePolicyPath: j.policy},
		CommonBuildOpts:         &define.CommonBuildOptions{Ulimit: []string{"nofile=1024:1024", "nproc=4096:4096"}},
		Layers:                  layers,
		Target:                  target,
		NoCache:                 true,
		Quiet:                   true,
		RemoveIntermediateCtrs:  true,
		ForceRmIntermediateCtrs: true,
		Out:                     &log,
		Err:                     &log,
		ReportWriter:            &log,
	}
	if _, _, err := imagebuildah.BuildDockerfiles(context.Background(), j.store, options, sc.containerfile); err != nil {
		return &outcome{refusal: or(err.Error(), "an error without a text")}, nil
	}
	im, err := readImage(out)
	if err != nil {
		return nil, fmt.Errorf("read Buildah's image: %w", err)
	}
	return &outcome{image: im}, nil
}
