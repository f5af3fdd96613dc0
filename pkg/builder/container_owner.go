package builder

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/rootfs"
	"github.com/pdidev/pdibuild/internal/worker"
	fail "github.com/pdidev/pdibuild/pkg/failure"
	"github.com/pdidev/pdibuild/pkg/progress"
)

// chooseOwner arranges that what the command writes to a volume belongs to the
// user who runs it, whoever the command is in the image. There is nothing to
// arrange when it is root, which this user is in his namespace.
func (c *Container) chooseOwner(opt ContainerOptions) error {
	req := c.req
	if req.UID == 0 && req.GID == 0 {
		return nil
	}
	if err := c.addAccount(); err != nil {
		return err
	}
	switch {
	case c.b.ids.single:
		req.MapUser = true
	case !c.b.ids.rootless:
		c.mapVolumes(opt)
	case c.failed != nil: // its files stay whose they are
	case slices.ContainsFunc(opt.Volumes, func(v Volume) bool { return !v.ReadOnly }), !c.b.ids.all.Has(int(req.UID), int(req.GID)):
		req.MapUser = true
		return c.giveFiles()
	}
	return nil
}

// mapVolumes is for root of the host, who may map the ids of mounts where the
// kernel and the file system can.
func (c *Container) mapVolumes(opt ContainerOptions) {
	for i := range c.req.Mounts {
		m := &c.req.Mounts[i]
		err := worker.TryIDMap(m.Source, c.req.UID, c.req.GID)
		if err == nil {
			m.IDMap = true
			continue
		}
		if opt.Events != nil && m.Write {
			opt.Events(Event{Kind: progress.Warning, Code: string(fail.VolumeOwner), Text: fmt.Sprintf("volume %s: what is written there belongs to uid %d, the container's user, because this file system cannot map ids (%v)", m.Source, c.req.UID, err)})
		}
	}
}

// giveFiles gives what belongs to the command's user or group in the image to
// root of the namespace, which this user will be in the command's.
func (c *Container) giveFiles() error {
	layers, err := c.b.layers(c.wk.parent)
	if err != nil {
		return err
	}
	dirs, err := newLayerFiles(c.b.store, c.wk.parent)
	if err != nil {
		return err
	}
	if !dirs.known() {
		return c.giveTree(c.wk.root)
	}
	for i, l := range layers { // the lowest first, unlike dirs
		if len(l.UIDs) == 0 || slices.Contains(l.UIDs, c.req.UID) || slices.Contains(l.GIDs, c.req.GID) {
			if err := c.giveLayer(dirs.dirs[len(layers)-1-i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// giveLayer gives the files whose names a layer's directory has.
func (c *Container) giveLayer(dir string) error {
	names, err := rootfs.Open(dir)
	if err != nil {
		return err
	}
	defer names.Close()
	return c.giveTree(names)
}

// giveTree gives the files whose names a root has.
func (c *Container) giveTree(names *rootfs.Root) error {
	return names.Walk("/", func(named *rootfs.File) error {
		if uid, gid := c.given(named.Info); uid < 0 && gid < 0 {
			return nil
		}
		f, err := c.wk.root.FileExact(named.Name)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
			return nil // a layer above has removed it
		}
		if err != nil {
			return err
		}
		defer f.Close()
		return c.give(f)
	})
}

// given says whom a file is given to; -1 is its owner or group as it is.
func (c *Container) given(info fs.FileInfo) (uid, gid int) {
	uid, gid = -1, -1
	st, ok := info.Sys().(*syscall.Stat_t)
	if ok && c.req.UID != 0 && st.Uid == c.req.UID {
		uid = 0
	}
	if ok && c.req.GID != 0 && st.Gid == c.req.GID {
		gid = 0
	}
	return uid, gid
}

func (c *Container) give(f *rootfs.File) error {
	uid, gid := c.given(f.Info)
	if uid < 0 && gid < 0 {
		return nil
	}
	if err := os.Lchown(f.HostPath(), uid, gid); err != nil {
		return fmt.Errorf("give a file to the user: %w", err)
	}
	if mode := f.Info.Mode(); mode&(fs.ModeSetuid|fs.ModeSetgid) != 0 && mode&fs.ModeSymlink == 0 { // chown has cleared them
		return os.Chmod(f.HostPath(), mode)
	}
	return nil
}

// addAccount makes an account for a user that the image does not know, because
// MPI libraries and shells ask for their user's name.
func (c *Container) addAccount() error {
	view := &rootView{Root: c.wk.root}
	uid := fmt.Sprint(c.req.UID)
	fields, err := view.lookup("/etc/passwd", uid, 4)
	if err != nil || fields != nil {
		return err
	}
	old, err := view.read("/etc/passwd")
	if err != nil || old == nil {
		return err // an image without accounts does without this one, too
	}
	name := "user"
	if taken, err := view.lookup("/etc/passwd", name, 4); err != nil || taken != nil {
		name = "user" + uid
	}
	line := fmt.Sprintf("%s:x:%s:%d::/:/bin/sh\n", name, uid, c.req.GID)
	if text := string(old); text != "" && !strings.HasSuffix(text, "\n") {
		line = "\n" + line
	}
	f, err := view.OpenAppend("/etc/passwd")
	if err != nil {
		return fmt.Errorf("make an account: %w", err)
	}
	_, err = f.WriteString(line)
	return errors.Join(err, f.Close())
}
