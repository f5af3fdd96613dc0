package builder

import (
	"archive/tar"

	"github.com/pdidev/pdibuild/internal/worker"
	"github.com/pdidev/pdibuild/pkg/layer"
)

// diffOptions say who owns what a command has made. Where there is more than
// one id, the file system knows. With a single id it is what the command
// asked for (internal/ownership has recorded it), else whom it ran as.
func (x *stepRun) diffOptions(wk *work, req *worker.Request) (_ layer.Options, err error) {
	if !x.run.b.ids.single {
		return layer.Options{}, nil
	}
	var below *rootView
	if req.UID != 0 || req.GID != 0 {
		if below, err = wk.before(); err != nil {
			return layer.Options{}, err
		}
	}
	owner := func(hdr *tar.Header) {
		if o, ok := wk.linkOwner(hdr); ok {
			hdr.Uid, hdr.Gid = o.uid, o.gid
			return
		}
		if below == nil || hdr.Uid != 0 || hdr.Gid != 0 {
			return
		}
		if old, err := below.header("/" + hdr.Name); err == nil {
			hdr.Uid, hdr.Gid = old.Uid, old.Gid
			return
		}
		hdr.Uid, hdr.Gid = int(req.UID), int(req.GID)
	}
	return layer.Options{Owner: owner}, nil
}
