package layer

import (
	"archive/tar"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"
)

const (
	xattrRecord = "SCHILY.xattr."
	ownXattrs   = "user.pdibuild."

	// OwnerXattr is the extended attribute that records an owner ("uid:gid",
	// decimal) that the file system could not be given. It is consumed.
	OwnerXattr = ownXattrs + "owner"
)

// canonical makes the header of an entry anew. It does not modify src.
func canonical(src *tar.Header, p place, epoch time.Time) (*tar.Header, error) {
	if p.whiteout {
		return whiteout(src, p, epoch)
	}
	hdr := &tar.Header{
		Typeflag: src.Typeflag,
		Name:     p.name,
		Mode:     src.Mode & 0o7777,
		Uid:      src.Uid,
		Gid:      src.Gid,
		ModTime:  clamp(src.ModTime, epoch),
	}
	if err := setKind(hdr, src); err != nil {
		return nil, err
	}
	if err := setXattrs(hdr, src); err != nil {
		return nil, err
	}
	if !isID(hdr.Uid) || !isID(hdr.Gid) {
		return nil, fmt.Errorf("layer entry %q: its owner %d:%d is outside of the ids from 0 to %d", src.Name, hdr.Uid, hdr.Gid, uint64(maxID))
	}
	return hdr, nil
}

// maxID is the largest user or group id: chown(2) takes the next one for -1, and
// cuts larger ones to 32 bits.
const maxID = 1<<32 - 2

func isID(id int) bool { return id >= 0 && id <= maxID }

// SameAttributes reports whether two entries have the same mode, owner and
// extended attributes in a layer.
func SameAttributes(a, b *tar.Header) bool {
	x, err1 := canonical(a, place{name: "x"}, time.Time{})
	y, err2 := canonical(b, place{name: "x"}, time.Time{})
	return err1 == nil && err2 == nil && x.Mode == y.Mode && x.Uid == y.Uid && x.Gid == y.Gid && maps.Equal(x.PAXRecords, y.PAXRecords)
}

func whiteout(src *tar.Header, p place, epoch time.Time) (*tar.Header, error) {
	if !isRegular(src) || src.Size != 0 {
		return nil, &ReservedError{Name: "/" + p.name}
	}
	return &tar.Header{Typeflag: tar.TypeReg, Name: p.name, ModTime: clamp(epoch, epoch)}, nil
}

// isRegular reports whether the entry has content.
func isRegular(hdr *tar.Header) bool {
	switch hdr.Typeflag {
	case tar.TypeReg, tar.TypeRegA, tar.TypeCont, tar.TypeGNUSparse: //nolint:staticcheck // TypeRegA is the zero value
		return true
	}
	return false
}

// setKind sets what depends on the type of the entry.
func setKind(hdr, src *tar.Header) error {
	if isRegular(src) {
		hdr.Typeflag, hdr.Size = tar.TypeReg, src.Size
		if hdr.Size < 0 {
			return fmt.Errorf("layer entry %q: size %d is negative", src.Name, hdr.Size)
		}
		return nil
	}
	switch src.Typeflag {
	case tar.TypeDir:
		hdr.Name += "/"
	case tar.TypeSymlink:
		hdr.Linkname = src.Linkname
		hdr.Mode = 0o777 // Linux knows no other
		if hdr.Linkname == "" || strings.ContainsRune(hdr.Linkname, 0) {
			return fmt.Errorf("layer entry %q: symbolic link to %q, which cannot be a name", src.Name, hdr.Linkname)
		}
	case tar.TypeLink:
		target, err := placeOf(src.Linkname)
		if err != nil {
			return fmt.Errorf("hard link %q: %w", src.Name, err)
		}
		hdr.Linkname = target.name
	case tar.TypeChar, tar.TypeBlock:
		hdr.Devmajor, hdr.Devminor = src.Devmajor, src.Devminor
		if hdr.Devmajor < 0 || hdr.Devminor < 0 {
			return fmt.Errorf("layer entry %q: device number %d:%d is negative", src.Name, hdr.Devmajor, hdr.Devminor)
		}
	case tar.TypeFifo:
	default:
		return fmt.Errorf("layer entry %q: type %q cannot be in an image layer", src.Name, src.Typeflag)
	}
	return nil
}

// clamp returns whole seconds from 1970 to epoch.
func clamp(t, epoch time.Time) time.Time {
	seconds := min(t.Unix(), epoch.Unix())
	return time.Unix(max(0, seconds), 0).UTC()
}

// setXattrs copies the extended attributes that belong into a layer, and
// applies the owner that is recorded in one.
func setXattrs(hdr, src *tar.Header) error {
	if owner, ok := src.PAXRecords[xattrRecord+OwnerXattr]; ok {
		if err := setOwner(hdr, owner); err != nil {
			return fmt.Errorf("layer entry %q: %w", src.Name, err)
		}
	}
	if kept := Attributes(src.PAXRecords); len(kept) > 0 {
		hdr.PAXRecords = kept
	}
	return nil
}

// Attributes returns the extended attributes among a header's PAX records that
// belong into a layer, as they are in one.
func Attributes(pax map[string]string) map[string]string {
	var kept map[string]string
	for key, value := range pax {
		name, ok := strings.CutPrefix(key, xattrRecord)
		switch {
		case !ok:
			continue
		case name == "security.capability":
			value = capabilityV2(value)
		case !keepXattr(name):
			continue
		}
		if kept == nil {
			kept = map[string]string{}
		}
		kept[key] = value
	}
	return kept
}

// keepXattr knows the attributes that are neither the host's nor a storage
// driver's.
func keepXattr(name string) bool {
	if !strings.HasPrefix(name, "user.") {
		return false
	}
	for _, foreign := range []string{ownXattrs, "user.overlay.", "user.fuseoverlayfs.", "user.containers.override_stat"} {
		if strings.HasPrefix(name, foreign) {
			return false
		}
	}
	return true
}

var errOwnerXattr = errors.New("the extended attribute " + OwnerXattr + " must be uid:gid in decimal")

func setOwner(hdr *tar.Header, value string) error {
	user, group, ok := strings.Cut(value, ":")
	uid, err1 := strconv.ParseUint(user, 10, 32)
	gid, err2 := strconv.ParseUint(group, 10, 32)
	if !ok || err1 != nil || err2 != nil || uid > maxID || gid > maxID {
		return fmt.Errorf("%w, not %q", errOwnerXattr, value)
	}
	hdr.Uid, hdr.Gid = int(uid), int(gid)
	return nil
}

// capabilityV2 rewrites file capabilities that are bound to a user namespace
// (struct vfs_ns_cap_data of linux/capability.h) without that binding.
func capabilityV2(value string) string {
	const (
		revision2, revision3 = 0x02000000, 0x03000000
		flags                = 0x00ffffff
		size2, size3         = 20, 24
	)
	if len(value) != size3 {
		return value
	}
	magic := binary.LittleEndian.Uint32([]byte(value))
	if magic&^flags != revision3 {
		return value
	}
	v2 := binary.LittleEndian.AppendUint32(nil, revision2|magic&flags)
	return string(append(v2, value[4:size2]...))
}
