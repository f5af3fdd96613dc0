package hosthelp

import (
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
)

// A User is who runs this program, as the host sees it.
type User struct {
	// ID is the user id outside of this process's user namespace, Name what the
	// user database calls it, "" if it has no entry.
	ID   uint64
	Name string
	// IDs is how many user ids this namespace has, 0 if nobody has given it any.
	IDs uint64
	// Unmapped says that this process is none of them: it is nobody here.
	Unmapped bool
}

// CurrentUser reads the outer id from the mapping of this namespace; see
// user_namespaces(7). Without /proc it is the id in here.
func CurrentUser() User {
	u := User{ID: uint64(os.Getuid())}
	if data, err := os.ReadFile("/proc/self/uid_map"); err == nil {
		u.read(string(data))
	}
	if entry, err := user.LookupId(strconv.FormatUint(u.ID, 10)); err == nil && !u.Unmapped {
		u.Name = entry.Username
	}
	return u
}

func (u *User) read(mapping string) {
	inner := u.ID
	u.Unmapped = true
	for line := range strings.Lines(mapping) {
		var inside, outside, size uint64
		if _, err := fmt.Sscan(line, &inside, &outside, &size); err != nil {
			continue
		}
		if inner >= inside && inner-inside < size {
			u.ID, u.Unmapped = outside+inner-inside, false
		}
		u.IDs += size
	}
}

// IsRoot reports whether this is root outside of any user namespace.
func (u User) IsRoot() bool { return u.ID == 0 && u.IDs >= 1<<32-1 }

func (u User) String() string {
	if u.Name == "" {
		return fmt.Sprintf("uid %d (without an entry in the user database)", u.ID)
	}
	return fmt.Sprintf("%s (uid %d)", u.Name, u.ID)
}

// The files that give ranges of ids to users, and the one of the users that
// usermod knows; see subuid(5).
const (
	subuidFile, subgidFile = "/etc/subuid", "/etc/subgid"
	passwdFile             = "/etc/passwd"
)

// Where ranges begin, and how long one is that is enough for every image.
const firstSubordinate, rangeSize = 100_000, 65_536

// A subordinateRange is a line of a file such as /etc/subuid.
type subordinateRange struct {
	owner        string
	start, count uint64
}

func readRanges(files ...string) (all []subordinateRange) {
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(data)) {
			fields := strings.Split(strings.TrimSpace(line), ":")
			if len(fields) != 3 {
				continue
			}
			start, startErr := strconv.ParseUint(fields[1], 10, 32)
			count, countErr := strconv.ParseUint(fields[2], 10, 32)
			if startErr == nil && countErr == nil {
				all = append(all, subordinateRange{fields[0], start, count})
			}
		}
	}
	return all
}

// Ranges counts the ids that a file such as /etc/subuid gives the user.
func (u User) Ranges(file string) (total uint64) {
	for _, r := range readRanges(file) {
		if r.owner == u.Name && u.Name != "" || r.owner == strconv.FormatUint(u.ID, 10) {
			total += r.count
		}
	}
	return total
}

// freeRange is where a range of that size begins that overlaps none of these:
// users who share ids can change each other's files.
func freeRange(taken []subordinateRange, size uint64) uint64 {
	slices.SortFunc(taken, func(a, b subordinateRange) int { return int(a.start) - int(b.start) })
	start := uint64(firstSubordinate)
	for _, r := range taken {
		if r.start < start+size && start < r.start+r.count {
			start = r.start + r.count
		}
	}
	return start
}

// giveRange is the command that gives the user a range of that size. usermod
// knows only the users of /etc/passwd, newuidmap nobody without a name.
func (u User) giveRange(start, size uint64, passwd string) string {
	last := start + size - 1
	usermod := fmt.Sprintf("usermod --add-subuids %d-%d --add-subgids %d-%d ", start, last, start, last)
	switch data, err := os.ReadFile(passwd); {
	case u.Name == "":
		return fmt.Sprintf("useradd --no-create-home --uid %d NAME && %sNAME", u.ID, usermod)
	case err != nil, strings.Contains("\n"+string(data), "\n"+u.Name+":"):
		return usermod + u.Name
	}
	return fmt.Sprintf("echo %s:%d:%d | tee -a %s %s", u.Name, start, size, subuidFile, subgidFile)
}

// GiveRange is the command by which an administrator of this host gives the
// user ids that nobody else has.
func (u User) GiveRange() string { return u.giveRangeOf(rangeSize) }

func (u User) giveRangeOf(size uint64) string {
	return u.giveRange(freeRange(readRanges(subuidFile, subgidFile), size), size, passwdFile)
}

// GiveID is the command that gives the user enough ids for one of this number,
// in addition to those that there are; "" if no range is that long.
func (u User) GiveID(id uint64) string {
	if id < u.IDs || u.IDs == 0 {
		return u.GiveRange()
	}
	size := (id - u.IDs + rangeSize) / rangeSize * rangeSize
	if freeRange(readRanges(subuidFile, subgidFile), size)+size > 1<<32-1 {
		return ""
	}
	return u.giveRangeOf(size)
}
