//go:build integration

package differential

import (
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
)

// A generator makes the scenario of one seed.
type generator struct {
	*rand.Rand
	scenario scenario
	// seen are paths of the context and of images that something was done to.
	inContext, inImage []string
}

// generate returns scenario seed, always the same.
func generate(seed uint64) *scenario {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 1))}
	g.makeContext()
	for _, name := range []string{"one", "two"}[:g.IntN(3)] {
		g.scenario.stages = append(g.scenario.stages, stage{name: name, steps: g.sourceSteps()})
	}
	g.scenario.stages = append(g.scenario.stages, stage{name: "final", steps: g.finalSteps()})
	return &g.scenario
}

// chance is true in percent of all cases.
func (g *generator) chance(percent int) bool { return g.IntN(100) < percent }

func pick[T any](g *generator, all ...T) T { return all[g.IntN(len(all))] }

// name is one of few names, so that steps meet each other's files.
func (g *generator) name() string {
	if g.chance(80) {
		return pick(g, "a", "b", "c", "d")
	}
	return pick(g, "ab", "b.x", "c.x", "d d", "-e", "x*", "[ab]", "q?", `s\t`, "n\xff", "é", ".h", "'q'", "$v", "A")
}

func (g *generator) path(depth int) string {
	parts := []string{g.name()}
	for len(parts) < depth && g.chance(60) {
		parts = append(parts, g.name())
	}
	return path.Join(parts...)
}

func (g *generator) mode(directory bool) uint32 {
	switch usual := g.chance(70); {
	case usual && directory:
		return 0o755
	case usual:
		return 0o644
	case directory:
		return pick[uint32](g, 0o700, 0o1777, 0o2755, 0o711, 0o555, 0o775)
	}
	return pick[uint32](g, 0o600, 0o755, 0o4755, 0o2711, 0o444, 0o777, 0o6755, 0o400)
}

func (g *generator) linkTarget() string {
	return pick(g, g.name(), g.name(), "../"+g.name(), g.path(2), "/w/"+g.path(2), "/"+g.name(), ".", "..", "/w", "nowhere", "../../../../../../../etc", "/etc", "../w/"+g.name())
}

// makeContext makes a small tree. A name that is taken is not used again.
func (g *generator) makeContext() {
	kinds := map[string]byte{}
	for range 3 + g.IntN(12) {
		parent := ""
		if len(g.inContext) > 0 && g.chance(60) {
			parent = pick(g, g.inContext...)
		}
		if parent != "" && kinds[parent] != 'd' {
			parent = path.Dir(parent)
		}
		name := path.Join(parent, g.name())
		if kinds[name] != 0 || name == "" {
			continue
		}
		f := file{path: name, kind: pick[byte](g, 'd', 'd', 'd', 'f', 'f', 'f', 'f', 'l', 'l', 'h', 'p')}
		if f.kind == 'p' && g.chance(60) {
			f.kind = 'f'
		}
		if f.kind == 'h' {
			f.kind, f.text = g.hardLink(kinds)
		}
		switch f.kind {
		case 'f':
			f.text = fmt.Sprintf("content of %q\n", name)[:g.IntN(10)+3]
		case 'l':
			f.text = g.linkTarget()
		}
		f.mode = g.mode(f.kind == 'd')
		f.xattr, f.cap = g.chance(8), f.kind == 'f' && g.chance(4)
		kinds[name] = f.kind
		if f.kind != 'p' {
			g.inContext = append(g.inContext, name)
		}
		g.scenario.context = append(g.scenario.context, f)
	}
	if g.chance(30) {
		for range 1 + g.IntN(4) {
			g.scenario.ignore = append(g.scenario.ignore, g.pattern())
		}
	}
}

// hardLink names a file that is there, or makes a file.
func (g *generator) hardLink(kinds map[string]byte) (kind byte, target string) {
	for _, name := range g.inContext {
		if kinds[name] == 'f' && g.chance(60) {
			return 'h', name
		}
	}
	return 'f', ""
}

// pattern is one of an ignore file or of exclude.
func (g *generator) pattern() string {
	p := pick(g, g.plainName(), g.plainName(), g.glob(g.contextPath()), "**/"+g.plainName(), "*", "*.x", g.plainName()+"/*", g.plainName()+"/**", "**", g.plainName()+"/"+g.plainName(), "*/"+g.plainName())
	if g.chance(30) {
		p = "!" + p
	}
	if strings.ContainsAny(p, " '\\$") || strings.Contains(p, "\xff") {
		return "a*"
	}
	return p
}

func (g *generator) plainName() string { return pick(g, "a", "b", "c", "d", "ab", "b.x", ".h") }

func (g *generator) contextPath() string {
	if len(g.inContext) == 0 || g.chance(2) {
		return g.path(2)
	}
	return pick(g, g.inContext...)
}

// imagePath is an absolute path; most are below /w.
func (g *generator) imagePath() string {
	if n := len(g.inImage); n > 0 && g.chance(65) {
		p := pick(g, g.inImage[max(0, n-8):]...)
		if g.chance(25) {
			p = path.Join(p, g.name())
		}
		return p
	}
	p := path.Join("/w", g.path(3))
	if g.chance(5) {
		p = "/" + g.path(2)
	}
	g.inImage = append(g.inImage, p)
	return p
}

// glob makes a pattern of a path, that matches it as a rule.
func (g *generator) glob(p string) string {
	parts := strings.Split(p, "/")
	for i, part := range parts {
		if part == "" || part == "w" || g.chance(50) {
			continue
		}
		parts[i] = pick(g, "*", "*", "?", "[a-c]", "[a-c]*", part[:1]+"*", "*"+part[len(part)-1:])
	}
	return strings.ToValidUTF8(strings.Join(parts, "/"), "?")
}

// stagePaths are there at the beginning of each stage that others copy from.
var stagePaths = []string{"/w/a", "/w/a/b", "/w/a/b/c", "/w/a/c", "/w/b", "/w/b/c", "/w/b/a", "/w/c", "/w/c/a", "/w/d", "/w/ab"}

// sourceSteps make the tree of a stage that others copy from.
func (g *generator) sourceSteps() []step {
	steps := []step{{verb: "run", lines: []string{
		"mkdir -p /w/a/b /w/b/a /w/c/d", "echo " + g.name2() + " >/w/a/c", "echo x >/w/a/b/c", "echo x >/w/b/c", "echo y >/w/b/a/ab", "echo y >/w/d", "ln -s " + quote(g.linkTarget()) + " /w/c/a", "ln -s a/b /w/ab",
	}}}
	g.inImage = append(g.inImage, stagePaths...)
	if g.chance(30) {
		steps = append(steps, g.copy())
	}
	for range g.IntN(3) {
		steps = append(steps, g.run())
	}
	return steps
}

func (g *generator) name2() string { return pick(g, "x", "y") }

func (g *generator) finalSteps() []step {
	var steps []step
	for range 2 + g.IntN(5) {
		switch n := g.IntN(100); {
		case n < 46:
			steps = append(steps, g.copy())
		case n < 86:
			steps = append(steps, g.run())
		case n < 93:
			steps = append(steps, step{verb: "file", to: g.validPath(), text: pick(g, "", "text\n", "no newline"), owner: g.owner(), mode: g.stepMode()})
		case n < 96:
			steps = append(steps, step{verb: "user", text: pick(g, "1001", "1001:1002", "root", "0:0")})
		default:
			steps = append(steps, step{verb: "workdir", text: g.validPath()})
			if g.chance(30) {
				steps = append(steps, step{verb: "workdir", text: pick(g, "sub", "sub/"+g.name2(), "..")})
			}
		}
	}
	return steps
}

// validPath is one that can stand in a recipe.
func (g *generator) validPath() string {
	for {
		if p := g.imagePath(); !strings.Contains(p, "\xff") {
			return p
		}
	}
}

func (g *generator) owner() string {
	if g.chance(75) {
		return ""
	}
	return pick(g, "1001", "1001:1002", "0:5", "root", "7:0")
}

// stepMode is a mode in which directories can be entered where they can be read.
func (g *generator) stepMode() string {
	if g.chance(80) {
		return ""
	}
	return pick(g, "0755", "0700", "4755", "1777", "0555", "2750", "0644", "600")
}

func (g *generator) copy() step {
	s := step{verb: "copy", to: g.destination(), owner: g.owner(), mode: g.stepMode()}
	if done := g.scenario.stages; len(done) > 0 && g.chance(60) {
		s.from = pick(g, done...).name
	}
	for range pick(g, 1, 1, 1, 1, 2, 3) {
		p := "."
		switch {
		case s.from != "":
			p = g.imagePath()
			if g.chance(80) {
				p = pick(g, append(stagePaths, "/w")...)
			}
		case !g.chance(10):
			p = g.contextPath()
		}
		if g.chance(35) || strings.Contains(p, "\xff") {
			p = g.glob(p)
		}
		if g.chance(6) {
			p += "/"
		}
		s.sources = append(s.sources, p)
	}
	// What a pattern matches more than once needs a directory.
	if strings.ContainsAny(strings.Join(s.sources, ""), "*?[") && !strings.HasSuffix(s.to, "/") && g.chance(90) {
		s.to += "/"
	}
	if g.chance(25) {
		for range 1 + g.IntN(2) {
			s.exclude = append(s.exclude, g.pattern())
		}
	}
	return s
}

func (g *generator) destination() string {
	to := g.validPath()
	if g.chance(3) {
		to = "/"
	}
	if g.chance(40) && to != "/" {
		to += "/"
	}
	return to
}

// run makes a step of several commands. One that fails is passed over, so that
// the others are tried.
func (g *generator) run() step {
	s := step{verb: "run"}
	for range 1 + g.IntN(4) {
		s.lines = append(s.lines, g.command())
	}
	return s
}

func (g *generator) command() string {
	p, q := quote(g.imagePath()), quote(g.imagePath())
	mode := fmt.Sprintf("%o", g.mode(g.chance(50)))
	owner := pick(g, "0:0", "1001:1001", "1001", ":5", "7:8")
	return pick(g,
		"mkdir -p "+p, "mkdir -p "+p, "mkdir -m "+mode+" "+p,
		"rm -rf "+p, "rm -rf "+p+"; mkdir "+p, "rm -rf "+p+"; mkdir -p "+p+"/"+g.name2(),
		"mv "+p+" "+q, "mv "+p+" "+q, "mv -T "+p+" "+q,
		"rm -rf "+p+"; ln -s "+quote(g.linkTarget())+" "+p, "ln -s "+quote(g.linkTarget())+" "+p, "ln -sfn "+quote(g.linkTarget())+" "+p,
		"ln "+p+" "+q, "ln -f "+p+" "+q,
		"cp -a "+p+" "+q, "cp -a "+p+" "+q, "cp -a "+p+"/. "+q, "cp -r "+p+" "+q,
		"touch "+p, "echo "+g.name2()+" >"+p, "echo "+g.name2()+" >"+p, "echo more >>"+p, "true >"+p,
		"rm -rf "+p+"; echo "+g.name2()+" >"+p, "mkdir -p "+p+"; echo "+g.name2()+" >"+p+"/f",
		"chmod "+mode+" "+p, "chmod -R "+mode+" "+p, "chown "+owner+" "+p, "chown -h "+owner+" "+p, "chown -R "+owner+" "+p,
		"mkfifo "+p, "mv "+p+" /w/z; mv "+q+" "+p+"; mv /w/z "+q, "rmdir "+p, "rm "+p,
	)
}

// quote makes one word of a shell of any name.
func quote(s string) string {
	if strings.ToValidUTF8(s, "") == s {
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	var b strings.Builder
	for _, c := range []byte(s) {
		fmt.Fprintf(&b, `\%03o`, c)
	}
	return `"$(printf '` + b.String() + `')"`
}

// clone copies what making a scenario smaller changes.
func (s *scenario) clone() *scenario {
	c := &scenario{context: slices.Clone(s.context), ignore: slices.Clone(s.ignore), stages: slices.Clone(s.stages)}
	for i := range c.stages {
		c.stages[i].steps = slices.Clone(c.stages[i].steps)
		for j := range c.stages[i].steps {
			st := &c.stages[i].steps[j]
			st.lines, st.sources, st.exclude = slices.Clone(st.lines), slices.Clone(st.sources), slices.Clone(st.exclude)
		}
	}
	return c
}
