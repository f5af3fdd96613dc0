package main

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// The help and docs/exit-codes.md have the same codes, with the same words.
func TestExitCodesAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/exit-codes.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`(?m)^\| (\d+) \| ([^|]+) \|`)
	documented := map[int]string{}
	for _, m := range row.FindAllStringSubmatch(string(doc), -1) {
		code, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		documented[code] = strings.TrimSpace(m[2])
	}
	for _, c := range exitCodes() {
		if got := documented[c.code]; got != c.meaning {
			t.Errorf("docs/exit-codes.md says %q about code %d, the program %q", got, c.code, c.meaning)
		}
		delete(documented, c.code)
	}
	for code := range documented {
		t.Errorf("docs/exit-codes.md has code %d, which the program does not have", code)
	}
}

func TestExitCodesAreInTheHelp(t *testing.T) {
	var out bytes.Buffer
	a := &app{stdout: &out, stderr: &out}
	if code := a.main([]string{"--help"}); code != codeOK {
		t.Fatalf("--help ends with %d", code)
	}
	for _, c := range exitCodes() {
		if want := fmt.Sprintf("%3d  %s", c.code, c.meaning); !strings.Contains(out.String(), want) {
			t.Errorf("the help lacks %q", want)
		}
	}
}
