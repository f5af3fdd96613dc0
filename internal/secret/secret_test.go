package secret_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/internal/secret"
)

const (
	token = "s3cr3t/tok+en=&?" // changes when URL-encoded
	pem   = "-----BEGIN PRIVATE KEY-----\n" +
		"MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n" +
		"q83jX0dZkU2s7bWw5oH1\n" +
		"-----END PRIVATE KEY-----\n"
)

func set(values ...string) *secret.Set {
	m := map[string][]byte{}
	for i, v := range values {
		m[fmt.Sprintf("id%d", i)] = []byte(v)
	}
	return secret.NewSet(m, nil)
}

// mask writes text in the given pieces.
func mask(t testing.TB, s *secret.Set, pieces ...string) string {
	t.Helper()
	var out bytes.Buffer
	m := s.Masker(&out)
	for _, p := range pieces {
		if n, err := m.Write([]byte(p)); n != len(p) || err != nil {
			t.Fatalf("wrote %d of %d: %v", n, len(p), err)
		}
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestMask(t *testing.T) {
	b64 := base64.StdEncoding.EncodeToString
	for _, c := range []struct {
		values   []string
		in, want string
	}{
		{[]string{"hunter22"}, "password: hunter22!\n", "password: ***!\n"},
		{[]string{"hunter22\n"}, "hunter22", "***"},
		{[]string{"hunter22"}, "hunter2hunter22", "hunter2***"},
		{[]string{"hunter22"}, "hunter22hunter22", "******"},
		{[]string{"hunter22"}, "nothing here", "nothing here"},
		{[]string{"aaaaaa"}, "aaaaaaaaaab", "***b"},
		{[]string{"abcdef", "defghi"}, "xabcdefghix", "x***x"},
		{[]string{"abcdef", "bcdefg-longer"}, "xabcdefg-longx", "x***g-longx"},
		{[]string{"bcdefg", "abcdefgh"}, "abcdefgh abcdefgX", "*** a***X"},
		{[]string{token}, "u=" + url.QueryEscape(token) + ";", "u=***;"},
		{[]string{token}, "u=" + strings.ToLower(url.QueryEscape(token)) + ";", "u=***;"},
		{[]string{token}, "u=" + url.PathEscape(token) + ";", "u=***;"},
		{[]string{token}, "b=" + b64([]byte(token)) + ";", "b=***;"},
		{[]string{token}, "b=" + b64([]byte(token+"\n")) + ";", "b=***;"},
		{[]string{token}, "b=" + strings.TrimRight(b64([]byte(token)), "=") + ";", "b=***;"},
		{[]string{token}, "b=" + base64.URLEncoding.EncodeToString([]byte(token)) + ";", "b=***;"},
		{[]string{`quo"te\and`}, `{"x":"quo\"te\\and"}`, `{"x":"***"}`},
		{[]string{pem}, pem, "***\n"},
		{[]string{pem}, "> q83jX0dZkU2s7bWw5oH1 <", "> *** <"},
		{[]string{pem}, strings.ReplaceAll(pem, "\n", "\r\n"), "***\r\n***\r\n***\r\n***\r\n"},
		{[]string{"short"}, "short", "short"},
		{nil, "anything", "anything"},
	} {
		if got := mask(t, set(c.values...), c.in); got != c.want {
			t.Errorf("secrets %q: %q became %q, want %q", c.values, c.in, got, c.want)
		}
	}
}

// What base64(1) prints of a long key is in lines.
func TestMaskWrappedBase64(t *testing.T) {
	for _, width := range []int{64, 76} {
		got := mask(t, set(pem), wrapped([]byte(pem), width))
		if want := strings.Repeat("***\n", strings.Count(got, "\n")); got != want || got == "" {
			t.Errorf("width %d: %q", width, got)
		}
	}
}

func wrapped(data []byte, width int) string {
	return broken(base64.StdEncoding.EncodeToString(data), width)
}

// broken is text in lines.
func broken(text string, width int) string {
	var b strings.Builder
	for len(text) > 0 {
		n := min(width, len(text))
		b.WriteString(text[:n] + "\n")
		text = text[n:]
	}
	return b.String()
}

// Basic authentication puts a password somewhere into base64. What is left
// are bits of the bytes around it.
func TestMaskInsideBase64(t *testing.T) {
	const password = "correct horse battery"
	for n := range 7 {
		line := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("u", n) + password + ":end"))
		got := mask(t, set(password), line)
		if !strings.Contains(got, "***") || len(got) > len(line)-len(password)-3 {
			t.Errorf("%d bytes before it: %q became %q", n, line, got)
		}
	}
}

func TestMaskEverySplit(t *testing.T) {
	s := set("hunter22", "ter22-and", token, "aabaab", pem)
	text := "hunter22-and hunter2 aabaabaab " + url.QueryEscape(token) + " " + base64.StdEncoding.EncodeToString([]byte("x"+token)) + " " + pem[:60] + " hunter2"
	want := mask(t, s, text)
	if strings.Count(want, "***") < 5 || strings.Contains(want, "hunter22") {
		t.Fatalf("unsplit: %q", want)
	}
	for i := range text {
		if got := mask(t, s, text[:i], text[i:]); got != want {
			t.Fatalf("split at %d: %q, want %q", i, got, want)
		}
		for j := i; j < len(text); j += 7 {
			if got := mask(t, s, text[:i], text[i:j], text[j:]); got != want {
				t.Fatalf("split at %d and %d: %q, want %q", i, j, got, want)
			}
		}
	}
	if got := mask(t, s, strings.Split(text, "")...); got != want {
		t.Fatalf("byte by byte: %q, want %q", got, want)
	}
}

func TestMaskHoldsBackNoMoreThanNeeded(t *testing.T) {
	var out bytes.Buffer
	m := set("hunter22").Masker(&out)
	for _, c := range []struct{ in, want string }{
		{"hello\n", "hello\n"}, {"hunt", ""}, {"ing\n", "hunting\n"}, {"a hunter2", "a "}, {"2", "***"}, {"x", "x"},
	} {
		out.Reset()
		if _, err := m.Write([]byte(c.in)); err != nil {
			t.Fatal(err)
		}
		if out.String() != c.want {
			t.Errorf("after %q: %q, want %q", c.in, out.String(), c.want)
		}
	}
}

func TestFlush(t *testing.T) {
	var out bytes.Buffer
	m := set("hunter22").Masker(&out)
	step := func(in, want string) {
		t.Helper()
		out.Reset()
		_, err1 := m.Write([]byte(in))
		if err := errors.Join(err1, m.Flush()); err != nil {
			t.Fatal(err)
		}
		if out.String() != want {
			t.Errorf("after %q and Flush: %q, want %q", in, out.String(), want)
		}
	}
	step("Oh", "Oh")     // no beginning of it
	step("h", "h")       // a beginning that says nothing
	step("un", "")       // more than that
	step("ter22", "***") // and the rest is masked, although its "h" is out
	step("hu", "hu")
	step("nt", "")
	step("ing", "nting")
	step("hunter2", "")
	out.Reset()
	if err := m.Close(); err != nil || out.String() != "hunter2" {
		t.Errorf("Close: %q, %v", out.String(), err)
	}
}

func TestMaskerReportsErrors(t *testing.T) {
	broken := errors.New("broken pipe")
	m := set("hunter22").Masker(failing{broken})
	if _, err := m.Write([]byte("hello")); !errors.Is(err, broken) {
		t.Errorf("error is %v", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestFind(t *testing.T) {
	std, raw := base64.StdEncoding, base64.RawStdEncoding
	for _, c := range []struct{ value, in, form string }{
		{"hunter22", "a hunter22 b", secret.FormRaw},
		{"hunter22\r\n", "hunter22", secret.FormRaw},
		{"hunter22", "a hunter2 b", ""},
		{"hunter22", "HUNTER22", ""},
		{token, url.QueryEscape(token), secret.FormURL},
		{token, url.PathEscape(token), secret.FormURL},
		{token, strings.ToLower(url.QueryEscape(token)), secret.FormURL},
		{token, url.UserPassword("me", token).String(), secret.FormURL},
		{"with space and ü", "q=with+space+and+%c3%bc", secret.FormURL},
		{"with space and ü", "q=with%20space%20and%20%C3%BC", secret.FormURL},
		{"with/slash and", "with/slash%20and", secret.FormURL},
		{"two\nlines <x>", `{"k":"two\nlines \u003cx\u003e"}`, secret.FormJSON},
		{"two\nlines <x>", `{"k":"two\nlines <x>"}`, secret.FormJSON},
		{"hunter22", std.EncodeToString([]byte("hunter22")), secret.FormBase64},
		{"hunter22", raw.EncodeToString([]byte("a:hunter22")), secret.FormBase64},
		{"hunter22", raw.EncodeToString([]byte("ab:hunter22 and more")), secret.FormBase64},
		{"hunter22", raw.EncodeToString([]byte("hunter2")), ""},
		{"\xff\xfe\xfd\xff\xfe\xfd", base64.URLEncoding.EncodeToString([]byte("x\xff\xfe\xfd\xff\xfe\xfd")), secret.FormBase64},
		{"\xff\xfe\xfd\xff\xfe\xfd", std.EncodeToString([]byte("xy\xff\xfe\xfd\xff\xfe\xfd")), secret.FormBase64},
		{pem, pem, secret.FormRaw},
		{pem, strings.ReplaceAll(pem, "\n", "\r\n"), secret.FormRaw},
		{pem, strings.ReplaceAll(pem, "\n", "\n    "), secret.FormRaw},
		{pem, "key=MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLs\nLMREScVpezJpGXA7rAMcrn9gq83jX0dZkU2s7bWw5oH1", secret.FormRaw},
		{pem, "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLs\n", ""},
		{pem, wrapped([]byte(pem), 76), secret.FormBase64},
		{pem, wrapped([]byte("prefix"+pem), 64), secret.FormBase64},
		{pem, strings.ReplaceAll(wrapped([]byte("a"+pem), 60), "\n", "\r\n\t"), secret.FormBase64},
		{"short", "short", ""},
	} {
		hit, ok := set(c.value).FindString(c.in)
		if ok != (c.form != "") || hit.Form != c.form || ok && hit.ID != "id0" {
			t.Errorf("secret %q in %q: %+v, %v, want %q", c.value, c.in, hit, ok, c.form)
		}
	}
}

func TestScannerEverySplit(t *testing.T) {
	s := set(token, pem)
	for _, text := range []string{
		"....." + token + ".....",
		"....." + url.QueryEscape(token) + ".....",
		"....." + base64.StdEncoding.EncodeToString([]byte("xx"+token+"yy")) + ".....",
		"head:\r\n  " + strings.ReplaceAll(wrapped([]byte(pem), 20), "\n", "\r\n  ") + "tail",
		"..." + pem + "...",
	} {
		for i := range text {
			for _, j := range []int{i, min(i+1, len(text)), min(i+9, len(text)), len(text)} {
				sc := s.Scanner()
				for _, p := range []string{text[:i], text[i:j], text[j:]} {
					if _, err := sc.Write([]byte(p)); err != nil {
						t.Fatal(err)
					}
				}
				if _, ok := sc.Hit(); !ok {
					t.Fatalf("%q is not found when split at %d and %d", text, i, j)
				}
			}
		}
	}
}

func TestScannerReset(t *testing.T) {
	sc := set("hunter22").Scanner()
	write := func(text string) {
		if _, err := io.WriteString(sc, text); err != nil {
			t.Fatal(err)
		}
	}
	write("hunt")
	sc.Reset()
	write("er22")
	if hit, ok := sc.Hit(); ok {
		t.Errorf("found %+v across two files", hit)
	}
	write("hunter22")
	write("more")
	if _, ok := sc.Hit(); !ok {
		t.Error("not found")
	}
	sc.Reset()
	if _, ok := sc.Hit(); ok {
		t.Error("still found after Reset")
	}
}

func TestWhichSecret(t *testing.T) {
	s := secret.NewSet(map[string][]byte{
		"b": []byte("value-of-b"), "a": []byte("value-of-a"), "user": []byte("thomas-bouvier"), "pin": []byte("1234\n\n"), "none": nil, "z": []byte("value-of-a"),
	}, map[string]bool{"user": true, "a": false})
	for _, c := range []struct{ in, id string }{{"value-of-a", "a"}, {"x value-of-b", "b"}, {"thomas-bouvier 1234", ""}} {
		if hit, _ := s.FindString(c.in); hit.ID != c.id {
			t.Errorf("%q: found %q, want %q", c.in, hit.ID, c.id)
		}
	}
	if got := mask(t, s, "thomas-bouvier value-of-b"); got != "thomas-bouvier ***" {
		t.Errorf("masked: %q", got)
	}
	if got := s.TooShort(); !slices.Equal(got, []string{"pin"}) {
		t.Errorf("too short: %q", got)
	}
}

func TestNilSet(t *testing.T) {
	var s *secret.Set
	if _, ok := s.FindString("x"); ok || s.TooShort() != nil {
		t.Error("a nil set has secrets")
	}
	if got := mask(t, s, "text"); got != "text" {
		t.Errorf("masked: %q", got)
	}
}

func TestNothingIsPrinted(t *testing.T) {
	s := set("hunter22")
	m, sc := s.Masker(io.Discard), s.Scanner()
	if _, err := m.Write([]byte("hunter2")); err != nil {
		t.Fatal(err)
	}
	var logged bytes.Buffer
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", "set", s)
	texts := []string{logged.String()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, v := range []any{s, m, sc, struct{ S *secret.Set }{s}, []any{s}} {
			texts = append(texts, fmt.Sprintf(verb, v))
		}
	}
	encoded, err := json.Marshal(map[string]any{"s": s})
	if err != nil {
		t.Fatal(err)
	}
	texts = append(texts, string(encoded))
	for _, text := range texts {
		if strings.Contains(text, "hunter") || strings.Contains(text, "68756e74") || len(text) > 200 {
			t.Errorf("printed: %q", text)
		}
	}
	if string(encoded) != `{"s":"[secret]"}` || s.String() != "[secret]" || s.GoString() != "[secret]" {
		t.Errorf("printed: %s, %s, %s", encoded, s.String(), s.GoString())
	}
}

// A slow and obvious way to find patterns agrees with the fast one, for few
// letters, where everything overlaps.
func TestMaskLikeTheObviousWay(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	letters := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = "ab"[rnd.IntN(2)]
		}
		return string(b)
	}
	for range 3000 {
		values := []string{letters(6 + rnd.IntN(3)), letters(6 + rnd.IntN(6)), letters(9)}
		text := letters(rnd.IntN(60))
		want := obviousMask(text, values)
		i := rnd.IntN(len(text) + 1)
		j := i + rnd.IntN(len(text)+1-i)
		if got := mask(t, set(values...), text[:i], text[i:j], text[j:]); got != want {
			t.Fatalf("secrets %q in %q (split at %d, %d): %q, want %q", values, text, i, j, got, want)
		}
		if _, ok := set(values...).FindString(text); ok != strings.Contains(want, "***") {
			t.Fatalf("secrets %q in %q: found %v", values, text, ok)
		}
	}
}

func obviousMask(text string, values []string) string {
	hidden := make([]bool, len(text))   // this byte is part of a value
	joined := make([]bool, len(text)+1) // a value covers the border before this byte
	for i := range text {
		for _, v := range values {
			if !strings.HasPrefix(text[i:], v) {
				continue
			}
			for k := range v {
				hidden[i+k] = true
				joined[i+k] = joined[i+k] || k > 0
			}
		}
	}
	var b strings.Builder
	for i := range text {
		switch {
		case !hidden[i]:
			b.WriteByte(text[i])
		case !joined[i]:
			b.WriteString("***")
		}
	}
	return b.String()
}

func FuzzMask(f *testing.F) {
	f.Add("hunter22", "xhunter22y hunter2", uint(5))
	f.Add(pem, pem, uint(40))
	f.Add(token, url.QueryEscape(token), uint(3))
	f.Add("aabaab", "aabaabaab", uint(4))
	f.Fuzz(func(t *testing.T, value, text string, cut uint) {
		trimmed := strings.TrimRight(value, "\r\n")
		if len(trimmed) < 6 || strings.Contains(value, "*") || len(value) > 1000 || len(text) > 2000 {
			return
		}
		s := set(value)
		for _, in := range []string{text, text + value, value + text + value} {
			whole := mask(t, s, in)
			if strings.Contains(whole, trimmed) {
				t.Errorf("secret %q is in %q", value, whole)
			}
			at := int(cut % uint(len(in)+1))
			if got := mask(t, s, in[:at], in[at:]); got != whole {
				t.Errorf("secret %q in %q: %q when split at %d, else %q", value, in, got, at, whole)
			}
		}
		at := int(cut % uint(len(text)+1))
		for _, form := range []string{value, url.QueryEscape(trimmed), base64.StdEncoding.EncodeToString([]byte(text + value)), wrapped([]byte(text+value), 1+int(cut%80))} {
			sc := s.Scanner()
			for _, p := range []string{text[:at] + "\n", form[:min(at, len(form))], form[min(at, len(form)):], text[at:]} {
				if _, err := io.WriteString(sc, p); err != nil {
					t.Fatal(err)
				}
			}
			if _, ok := sc.Hit(); !ok {
				t.Errorf("secret %q is not found as %q", value, form)
			}
		}
	})
}

func benchData(kind string) []byte {
	data := make([]byte, 8<<20)
	rnd := rand.New(rand.NewPCG(3, 4))
	if kind == "binary" {
		for i := range data {
			data[i] = byte(rnd.Uint32())
		}
		return data
	}
	words := strings.Fields("the quick brown fox jumps over /usr/lib/x86_64-linux-gnu/libc.so.6 int main(void) { return 0; } checking for gcc... yes")
	var b bytes.Buffer
	for b.Len() < len(data) {
		b.WriteString(words[rnd.IntN(len(words))])
		b.WriteByte(" \n"[rnd.IntN(8)/7])
	}
	return b.Bytes()[:len(data)]
}

var benchSet = set("ghp_16C7e42F292c6912E7710c838347Ae178B4a", token, pem, "thomas-bouvier-numpex", "hunter22")

func BenchmarkScanner(b *testing.B) {
	for _, kind := range []string{"binary", "text"} {
		data := benchData(kind)
		b.Run(kind, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				sc := benchSet.Scanner()
				for p := range slices.Chunk(data, 32<<10) {
					_, _ = sc.Write(p)
				}
				if _, ok := sc.Hit(); ok {
					b.Fatal("found a secret where there is none")
				}
			}
		})
	}
}

func BenchmarkMasker(b *testing.B) {
	data := benchData("text")
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		m := benchSet.Masker(io.Discard)
		for p := range slices.Chunk(data, 4<<10) {
			if _, err := m.Write(p); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func BenchmarkNewSet(b *testing.B) {
	value := strings.Repeat(pem, 20) // 3 kB
	for b.Loop() {
		set(value, token)
	}
}

// The table of docs/recipe.md says what is found and masked. Each of its rows is
// written here with a value that has the characters which the forms change.
func TestTableOfTheDocumentation(t *testing.T) {
	const value, lines = `p'ss "wörd" \n+/=?&`, "first line of it\nsecond line of it\n"
	hexOf := func(v string) string { return hex.EncodeToString([]byte(v)) }
	type sample struct{ value, text string }
	rows := map[string][]sample{
		"as it is, also with other line breaks or indented": {
			{value, value},
			{lines, strings.ReplaceAll(lines, "\n", "\r\n")},
			{lines, "key: |\n  " + strings.ReplaceAll(lines, "\n", "\n  ")},
		},
		"in a JSON string":            {{value, jsonOf(t, value, true)}, {value, jsonOf(t, value, false)}, {value, `p'ss \"w\u00f6rd\" \\n+/=?&`}},
		"percent-encoded as in a URL": {{value, url.QueryEscape(value)}, {value, url.PathEscape(value)}, {value, strings.ToLower(url.QueryEscape(value))}},
		"in base64, of either alphabet, also of a longer text and broken into lines": {
			{value, base64.StdEncoding.EncodeToString([]byte(value))},
			{value, base64.URLEncoding.EncodeToString([]byte("u:" + value + "\n"))},
			{pem, wrapped([]byte(pem), 76)},
		},
		"in hexadecimal digits, small or capital, also broken into lines": {
			{value, "id=" + hexOf(value)}, {value, strings.ToUpper(hexOf(value))}, {pem, broken(hexOf(pem), 60)},
		},
		"quoted as a shell or Go's `%q` does it":                          {{value, fmt.Sprintf("%+q", value)}, {"it's secret", `'it'\''s secret'`}, {"a\x01\tb-cde", fmt.Sprintf("%q", "a\x01\tb-cde")}},
		"one line of several, of at least 8 bytes":                        {{lines, "  second line of it"}},
		"the beginning of it, at which a message was shortened (`…`)":     {{"hunter22", "run login hunt…"}},
		"of less than 6 bytes":                                            {{"12345", "12345"}},
		"in hexadecimal digits with blanks, as `hexdump -C` writes them":  {{value, fmt.Sprintf("% x", value)}},
		"compressed (gzip, xz, zstd, zip), encrypted, or cut into pieces": {{value, gzipped(t, strings.Repeat(value, 9))}, {value, "p'ss \"wö" + " " + "rd\" \\n+/=?&"}},
	}
	data, err := os.ReadFile("../../docs/recipe.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(data), "| a value of a secret |")
	table, _, _ = strings.Cut(table, "\n\n")
	found := 0
	for _, line := range strings.Split(table, "\n")[2:] {
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		samples, ok := rows[cells[0]]
		if !ok || len(cells) != 3 {
			t.Errorf("no sample of the row %q", line)
			continue
		}
		found++
		for _, c := range samples {
			s := set(c.value)
			if _, hit := s.FindString(c.text); hit != strings.HasPrefix(cells[1], "yes") && !strings.HasPrefix(cells[1], "only") {
				t.Errorf("%s: %q is found in %q: %v", cells[0], c.value, c.text, hit)
			}
			if masked := s.Mask(c.text) != c.text; masked != strings.HasPrefix(cells[2], "yes") {
				t.Errorf("%s: %q becomes %q", cells[0], c.text, s.Mask(c.text))
			}
		}
	}
	if found != len(rows) {
		t.Errorf("the table has %d of %d rows", found, len(rows))
	}
}

func jsonOf(t *testing.T, value string, escapeHTML bool) string {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(escapeHTML)
	if err := enc.Encode(map[string]string{"k": value}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func gzipped(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := io.WriteString(w, text)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Mask leaves no part of a value, however it is quoted or shortened.
func TestMaskText(t *testing.T) {
	for _, c := range []struct{ value, in, want string }{
		{"hunter22", `layer entry "hunter22": in file /hunter22 (raw)`, `layer entry "***": in file /*** (raw)`},
		{"hunter22", "run login hunter22", "run login ***"},
		{"hunter22", "run login hunt…", "run login ***…"},
		{"hunter22", "run login hun…", "run login hun…"},
		{"hunter22", "run login hunter2", "run login hunter2"},
		{"with…inside", "x with…inside y", "x *** y"},
		{"two words\nand lines", "run echo two words and lines", "run echo ***"},
		{"sp  ace d", fmt.Sprintf("%q", []string{"sp  ace d"}), `["***"]`},
		{"bell\a\x1b[0m", fmt.Sprintf("mount %q", "/bell\a\x1b[0m"), `mount "/***"`},
		{"wörd-wörd", fmt.Sprintf("%+q", "wörd-wörd"), `"***"`},
		{"it's secret", `pdibuild build --build-arg 'A=it'\''s secret'`, `pdibuild build --build-arg 'A=***'`},
	} {
		if got := set(c.value).Mask(c.in); got != c.want {
			t.Errorf("secret %q: %q became %q, want %q", c.value, c.in, got, c.want)
		}
	}
	var none *secret.Set
	if got := none.Mask("text"); got != "text" || !none.Empty() {
		t.Errorf("no secrets: %q", got)
	}
}
