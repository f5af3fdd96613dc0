package builder

import (
	"fmt"
	"regexp"
	"strconv"

	"github.com/pdidev/pdibuild/internal/hosthelp"
)

// beyond is the error for ids that this user namespace does not have; what names
// them and whose they are.
func (i identity) beyond(what string, uid, gid int) *HostError {
	e := hostError(what, fmt.Errorf("this user has only %s%s", i.all, i.origin()), hosthelp.SmallRange)
	e.Hint = beyondHint(max(uid, gid))
	return e
}

// check is beyond where it applies: root of the host has all ids, and a single
// id stands for all.
func (i identity) check(what string, uid, gid int) error {
	if i.single || !i.rootless || i.all.Has(uid, gid) {
		return nil
	}
	return i.beyond(what, uid, gid)
}

// ownerOf names a file and its owner.
func ownerOf(file string, uid, gid int) string {
	return fmt.Sprintf("owner %d:%d of file %s", uid, gid, file)
}

func (i identity) origin() string {
	if OwnUserNamespace() {
		return " (their own and the ranges of /etc/subuid and /etc/subgid)"
	}
	return " (those of the user namespace around this program)"
}

// beyondHint is the way to have an id, of which there is no more to know where
// it is 0.
func beyondHint(id int) string {
	if !OwnUserNamespace() {
		return hosthelp.Here(hosthelp.OuterNamespace).Hint()
	}
	return hosthelp.HereForID(uint64(id)).Hint()
}

// beyond adds the step to an error about ids, and leaves out how it came about.
func (x *stepRun) beyond(host *HostError) error {
	e := *host
	e.Op = fmt.Sprintf("stage %q, step %d (%s): %s", x.stage.Name, x.n, x.planned.Text, host.Op)
	return &e
}

// saysBeyond is what the storage library says when it unpacks a layer, in a
// process of its own or not.
var saysBeyond = regexp.MustCompile(`potentially insufficient UIDs or GIDs available in (?:the )?user namespace \(requested (\d+):(\d+) for (.+?)\): Check /etc/subuid`)

// unpackError recognises an error about ids that this namespace does not have in
// what the storage library says about a layer; nil if it is none.
func (i identity) unpackError(err error) *HostError {
	m := saysBeyond.FindStringSubmatch(err.Error())
	if m == nil || i.single {
		return nil
	}
	uid, _ := strconv.Atoi(m[1]) // the expression takes nothing but digits
	gid, _ := strconv.Atoi(m[2])
	return i.beyond(ownerOf(m[3], uid, gid), uid, gid)
}

// refusedOwner is what chown, tar, dpkg and others say when the kernel does not
// know an id.
var refusedOwner = regexp.MustCompile(`(?i)(?:chown|chgrp|owner|set(?:re|res)?[ug]id|setgroups|setup user).*invalid argument`)

// commandHint explains a command that has failed for want of ids.
func (i identity) commandHint(tail []string) string {
	for _, line := range tail {
		if i.rootless && !i.single && refusedOwner.MatchString(line) {
			return fmt.Sprintf("the command has perhaps used an id that this user does not have: there are only %s%s; %s", i.all, i.origin(), beyondHint(0))
		}
	}
	return ""
}
