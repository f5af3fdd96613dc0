package worker

import (
	"reflect"
	"testing"

	"go.podman.io/storage/pkg/idtools"
)

// The kernel refuses a mapping with an id twice, or an extent that spans two
// of the outer namespace's.
func TestSwappedIDs(t *testing.T) {
	range65536 := []idRange{{0, 1}, {1, 65536}}
	tests := []struct {
		name   string
		id     uint32
		ranges []idRange
		want   []idtools.IDMap
	}{
		{"single id", 1001, []idRange{{0, 1}}, []idtools.IDMap{{ContainerID: 1001, HostID: 0, Size: 1}}},
		{"single id, root", 0, []idRange{{0, 1}}, []idtools.IDMap{{ContainerID: 0, HostID: 0, Size: 1}}},
		{"inside of the range", 1001, range65536, []idtools.IDMap{
			{ContainerID: 1001, HostID: 0, Size: 1},
			{ContainerID: 0, HostID: 1001, Size: 1},
			{ContainerID: 1, HostID: 1, Size: 1000},
			{ContainerID: 1002, HostID: 1002, Size: 64535},
		}},
		{"its first", 1, range65536, []idtools.IDMap{
			{ContainerID: 1, HostID: 0, Size: 1}, {ContainerID: 0, HostID: 1, Size: 1}, {ContainerID: 2, HostID: 2, Size: 65535},
		}},
		{"its last", 65536, range65536, []idtools.IDMap{
			{ContainerID: 65536, HostID: 0, Size: 1}, {ContainerID: 0, HostID: 65536, Size: 1}, {ContainerID: 1, HostID: 1, Size: 65535},
		}},
		{"root", 0, range65536, []idtools.IDMap{{ContainerID: 0, HostID: 0, Size: 1}, {ContainerID: 1, HostID: 1, Size: 65536}}},
		{"outside of the range", 1987654321, range65536, []idtools.IDMap{
			{ContainerID: 1987654321, HostID: 0, Size: 1}, {ContainerID: 1, HostID: 1, Size: 65536},
		}},
		{"all ids", 1001, []idRange{{0, 1<<32 - 1}}, []idtools.IDMap{
			{ContainerID: 1001, HostID: 0, Size: 1},
			{ContainerID: 0, HostID: 1001, Size: 1},
			{ContainerID: 1, HostID: 1, Size: 1000},
			{ContainerID: 1002, HostID: 1002, Size: 1<<32 - 1003},
		}},
	}
	for _, test := range tests {
		if got := swapped(test.id, test.ranges); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

// The ids that a message names are those that the kernel knows.
func TestIDs(t *testing.T) {
	sub := IDs{users: []idRange{{0, 1}, {1, 65536}}, groups: []idRange{{0, 1}, {1, 65536}}}
	other := IDs{users: []idRange{{0, 1}, {1, 1000}, {5000, 10}}, groups: []idRange{{0, 100}}}
	for _, c := range []struct {
		ids      IDs
		uid, gid int
		want     bool
	}{{sub, 0, 0, true}, {sub, 65536, 65536, true}, {sub, 65537, 0, false}, {sub, 0, 65537, false}, {sub, -1, 0, false}, {other, 5009, 99, true}, {other, 1001, 0, false}} {
		if got := c.ids.Has(c.uid, c.gid); got != c.want {
			t.Errorf("%s have %d:%d: %v", c.ids, c.uid, c.gid, got)
		}
	}
	if got := sub.String(); got != "the user and group ids 0-65536" || sub.Users() != 65537 {
		t.Errorf("%q, %d", got, sub.Users())
	}
	if got := other.String(); got != "the user ids 0-1000, 5000-5009 and the group ids 0-99" {
		t.Errorf("%q", got)
	}
	if ids, err := CurrentIDs(); err != nil || !ids.Has(0, 0) {
		t.Errorf("this process has %s, %v", ids, err)
	}
}
