package ownership

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxRefused bounds what is remembered for messages.
const maxRefused = 16

func identityCalls() map[int32]handler {
	return map[int32]handler{
		unix.SYS_SETUID:    changeUser("setuid", 1),
		unix.SYS_SETREUID:  changeUser("setreuid", 2),
		unix.SYS_SETRESUID: changeUser("setresuid", 3),
		unix.SYS_SETFSUID:  changeUser("setfsuid", 1),
		unix.SYS_SETGID:    changeGroup("setgid", 1),
		unix.SYS_SETREGID:  changeGroup("setregid", 2),
		unix.SYS_SETRESGID: changeGroup("setresgid", 3),
		unix.SYS_SETFSGID:  changeGroup("setfsgid", 1),
		unix.SYS_SETGROUPS: handleSetgroups,
		unix.SYS_GETGROUPS: handleGetgroups,
	}
}

// handleGetgroups shows the groups that the command would have where it could be
// given them; see getgroups(2).
func handleGetgroups(s *Supervisor, c *call) verdict {
	if s.options.Groups == nil {
		return proceed
	}
	groups := slices.Clone(s.options.Groups)
	slices.Sort(groups) // as the kernel keeps them
	switch size := int(int32(c.args[0])); {
	case size < 0, size > 0 && size < len(groups):
		return failure(unix.EINVAL)
	case size == 0, len(groups) == 0:
	default:
		var raw []byte
		for _, id := range groups {
			raw = binary.NativeEndian.AppendUint32(raw, id)
		}
		if !c.pending() {
			return proceed
		}
		if err := c.write(c.args[1], raw); err != nil {
			return failure(unix.EFAULT)
		}
	}
	return verdict{value: len(groups)}
}

func changeUser(name string, args int) handler  { return changeID(name, "uid_map", args) }
func changeGroup(name string, args int) handler { return changeID(name, "gid_map", args) }

func changeID(name, idMap string, args int) handler {
	return func(s *Supervisor, c *call) verdict {
		ids := make([]uint32, args)
		for i := range ids {
			ids[i] = uint32(c.args[i])
		}
		if c.allMapped(idMap, ids) {
			return proceed
		}
		return s.refuse(c, name, ids)
	}
}

// handleSetgroups refuses more than it has to: a user namespace with one id
// does not allow any setgroups, but a program that asks for root's groups only
// can do without.
func handleSetgroups(s *Supervisor, c *call) verdict {
	ids, err := c.readIDs(c.args[1], c.args[0])
	if err != nil {
		return proceed
	}
	if !c.allMapped("gid_map", ids) {
		return s.refuse(c, "setgroups", ids)
	}
	if s.options.FakeSetID && !c.mayCallSetgroups() {
		return success
	}
	return proceed
}

// refuse remembers a change of identity that this host can't do.
func (s *Supervisor) refuse(c *call, name string, ids []uint32) verdict {
	words := make([]string, len(ids))
	for i, id := range ids {
		words[i] = strconv.Itoa(int(int32(id)))
		if id != unchanged {
			words[i] = strconv.FormatUint(uint64(id), 10)
		}
	}
	s.remember(fmt.Sprintf("%s: %s(%s)", c.comm(), name, strings.Join(words, ", ")))
	if s.options.FakeSetID {
		return success
	}
	return proceed
}

func (s *Supervisor) remember(refused string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.refused {
		if r == refused {
			return
		}
	}
	if len(s.refused) < maxRefused {
		s.refused = append(s.refused, refused)
	}
}

// allMapped reports whether the thread's user namespace has all the ids.
func (c *call) allMapped(idMap string, ids []uint32) bool {
	for _, id := range ids {
		if id != 0 && id != unchanged && !c.mapped(idMap, id) {
			return false
		}
	}
	return true
}

func (c *call) mapped(idMap string, id uint32) bool {
	file, err := os.Open(c.proc(idMap))
	if err != nil {
		return false
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var inside, outside, size uint64
		if _, err := fmt.Sscan(lines.Text(), &inside, &outside, &size); err != nil {
			return false
		}
		if uint64(id) >= inside && uint64(id)-inside < size {
			return true
		}
	}
	return false
}

func (c *call) mayCallSetgroups() bool {
	setting, err := os.ReadFile(c.proc("setgroups"))
	return err != nil || strings.TrimSpace(string(setting)) != "deny"
}
