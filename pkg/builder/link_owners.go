package builder

import (
	"archive/tar"
	"bytes"
	"encoding/gob"
	"fmt"
	"path"
	"syscall"

	"github.com/pdidev/pdibuild/internal/fileentry"
	"github.com/pdidev/pdibuild/internal/ownership"
	"github.com/pdidev/pdibuild/internal/rootfs"
	"github.com/pdidev/pdibuild/internal/worker"
)

// An owner is whose a file is.
type owner struct{ uid, gid int }

// linkOwners are the owners of what cannot have attributes in a working layer on
// a host with a single id: symbolic links, pipes, devices and sockets.
type linkOwners struct {
	// now are those after the last command by name, byInode also by what
	// identifies the file, for its further names.
	now     map[string]owner
	byInode map[fileentry.Inode]owner
	// upper are files with several names in the directory in which an overlay
	// keeps the changes, and upperOwners their owners: a further name of one
	// of the layers below has another inode number in the overlay.
	upper       map[string]fileentry.Inode
	upperOwners map[fileentry.Inode]owner
}

// linkOwners returns what is known of the owners now.
func (wk *work) linkOwners() (*linkOwners, error) {
	if wk.links != nil {
		return wk.links, nil
	}
	noted, err := ownersOf(wk.owner.store, wk.parent)
	if err != nil {
		return nil, err
	}
	wk.links = &linkOwners{now: map[string]owner{}}
	for _, o := range noted { // of several the last one, from the top layer, counts
		if name := path.Clean("/" + o.Name); o.Bare && (o.UID != 0 || o.GID != 0) {
			wk.links.now[name] = owner{o.UID, o.GID}
		} else {
			delete(wk.links.now, name)
		}
	}
	return wk.links, nil
}

// supervised adds to the options of a command what is known of owners.
func (wk *work) supervised(opt worker.Options) (worker.Options, error) {
	if !wk.owner.single {
		return opt, nil
	}
	links, err := wk.linkOwners()
	if err != nil {
		return opt, err
	}
	opt.Supervise, opt.Files = true, wk.root
	for name, o := range links.now {
		opt.Owners = append(opt.Owners, ownership.Entry{Path: name, UID: o.uid, GID: o.gid})
	}
	return opt, nil
}

// recordLinks takes what is known after a command.
func (wk *work) recordLinks(report worker.Report) {
	if wk.links == nil {
		return
	}
	wk.links.now, wk.links.byInode = map[string]owner{}, map[fileentry.Inode]owner{}
	for _, e := range report.Owners {
		o := owner{e.UID, e.GID}
		wk.links.byInode[fileentry.Inode{Dev: e.Dev, Ino: e.Ino}] = o
		if e.Path != "" {
			wk.links.now[e.Path] = o
		}
	}
}

// noteUpper remembers a file of the changes by its further names.
func (l *linkOwners) noteUpper(f *rootfs.File) {
	st, ok := f.Info.Sys().(*syscall.Stat_t)
	if l == nil || !ok || st.Nlink < 2 || f.Info.IsDir() || f.Info.Mode().IsRegular() {
		return
	}
	if l.upper == nil {
		l.upper, l.upperOwners = map[string]fileentry.Inode{}, map[fileentry.Inode]owner{}
	}
	id := fileentry.InodeOf(f.Info)
	l.upper[f.Name] = id
	if o, ok := l.now[f.Name]; ok {
		l.upperOwners[id] = o
	}
}

// linkOwner returns the owner that is recorded for an entry of the layer.
func (wk *work) linkOwner(hdr *tar.Header) (owner, bool) {
	if wk.links == nil || len(wk.links.byInode) == 0 {
		return owner{}, false
	}
	name := path.Clean("/" + hdr.Name)
	if o, ok := wk.links.now[name]; ok {
		return o, true
	}
	if o, ok := wk.links.upperOwners[wk.links.upper[name]]; ok {
		return o, true
	}
	info, err := wk.root.LstatExact(name)
	if err != nil {
		return owner{}, false
	}
	o, ok := wk.links.byInode[fileentry.InodeOf(info)]
	return o, ok
}

// savedLinks is what restoreLinks takes in another process.
func (wk *work) savedLinks() ([]byte, error) {
	if wk.links == nil || len(wk.links.now) == 0 {
		return nil, nil
	}
	var owners []fileOwner
	for name, o := range wk.links.now {
		owners = append(owners, fileOwner{name, o.uid, o.gid, true})
	}
	var data bytes.Buffer
	if err := gob.NewEncoder(&data).Encode(owners); err != nil {
		return nil, fmt.Errorf("note owners: %w", err)
	}
	return data.Bytes(), nil
}

func (wk *work) restoreLinks(data []byte) error {
	if len(data) == 0 {
		return nil
	}
	links, err := wk.linkOwners()
	if err != nil {
		return err
	}
	var owners []fileOwner
	if err := gob.NewDecoder(bytes.NewReader(data)).Decode(&owners); err != nil {
		return fmt.Errorf("read owners: %w", err)
	}
	links.now = map[string]owner{}
	for _, o := range owners {
		links.now[o.Name] = owner{o.UID, o.GID}
	}
	return nil
}
