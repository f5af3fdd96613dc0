package inspect

import (
	"strings"
	"testing"
)

func TestLimitsFile(t *testing.T) {
	l, err := ParseLimits("ci.yaml", []byte("highest_size: 1.5 GB\nhighest_waste: 64MiB\nhighest_waste_percent: 5%\nsetuid_allowed: [/usr/bin/su]\nsecret_patterns: {site key: 'SITE-[0-9]{6}'}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if l.HighestSize != 1_500_000_000 || l.HighestWaste != 64<<20 || l.HighestWastePercent != 5 || !l.Setuid || len(l.Secrets) != 1 || l.HighestLayers != -1 {
		t.Errorf("%+v", l)
	}
}

func TestWrongLimitsFile(t *testing.T) {
	for text, want := range map[string]string{
		"highest_sise: 1GB\n":                      "ci.yaml:1:1: unknown key \"highest_sise\"",
		"highest_layers: 3\nhighest_size: large\n": "ci.yaml:2:15: highest_size: \"large\" is not a size",
		"forbidden_paths: /root\n":                 "ci.yaml:1:18: forbidden_paths: is not a list",
		"forbidden_paths: ['[']\n":                 "ci.yaml:1:19: forbidden_paths: \"[\" is not a pattern",
		"setuid: no\n":                             "ci.yaml:1:9: setuid: \"no\" is not forbid or allow",
		"secret_patterns: {x: '('}\n":              "ci.yaml:1:22: secret_patterns: pattern of x",
		"secret_patterns: {x: 'a*'}\n":             "matches everything",
		"highest_size: 1GB\nhighest_size: 2GB\n":   "ci.yaml:2:1: highest_size is there twice",
		"highest_waste_percent: 200\n":             "ci.yaml:1:24",
		"a: [\n":                                   "ci.yaml:",
		"":                                         "sets no limit",
		"- x\n":                                    "ci.yaml:1:1",
	} {
		if _, err := ParseLimits("ci.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %q", text, err, want)
		}
	}
}

func TestCheck(t *testing.T) {
	token := "glpat-" + strings.Repeat("x", 20)
	img := read(t, imageOf(t,
		[]file{{"/root/.ssh/id_rsa", "key", 0o600}, {"/usr/bin/su", "s", 0o4755}, {"/usr/bin/evil", "e", 0o4755}, {"/cfg", token, 0}, {"/ok", token, 0}, {"/big", kilo(50, "b"), 0}},
		[]file{{"/root/.ssh/.wh.id_rsa", "", 0}, {".wh.big", "", 0}},
	))
	l, err := ParseLimits("ci.yaml", []byte("highest_waste: 1kB\nhighest_size: 10kB\nhighest_layers: 1\nforbidden_paths: ['/root/.ssh/*']\nsetuid_allowed: [/usr/bin/su]\nsecrets: forbid\nsecrets_allowed: [/ok]\n"))
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, v := range l.Check(img) {
		lines = append(lines, v.String())
	}
	all := strings.Join(lines, "\n")
	for _, want := range []string{
		"highest_size: the image has", "highest_waste: 50 kB are hidden", "highest_layers: the image has 2",
		"forbidden_paths: /root/.ssh/id_rsa in layer 1 fits /root/.ssh/* (hidden by layer 2, but still in the image)",
		"setuid: /usr/bin/evil in layer 1 has mode 4755", "secrets: /cfg in layer 1 looks as if it has a GitLab token",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("lacks %q:\n%s", want, all)
		}
	}
	if len(lines) != 6 {
		t.Errorf("%d violations:\n%s", len(lines), all)
	}
	if got := DefaultLimits().Check(read(t, imageOf(t, []file{{"/x", "x", 0o4755}}))); len(got) != 0 {
		t.Errorf("by default: %v", got)
	}
}
