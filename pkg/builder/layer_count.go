package builder

import (
	"fmt"

	"github.com/pdidev/pdibuild/pkg/progress"
)

// mostDockerLayers is what Docker's overlay2 can mount.
const mostDockerLayers = 127

// warnLayers says, once for each image, that it has more layers than Docker can
// run. Events may be nil.
func (b *Builder) warnLayers(id string, layers int, events func(Event)) {
	if layers <= mostDockerLayers || events == nil {
		return
	}
	if _, said := b.manyLayers.LoadOrStore(id, true); said {
		return
	}
	events(Event{Kind: progress.Warning, Text: fmt.Sprintf("the image has %d layers: Docker's overlay2 mounts %d at most, podman's overlay 500. "+
		"A base image with fewer layers, or fewer steps, make fewer", layers, mostDockerLayers)})
}
