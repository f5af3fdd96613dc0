package secret

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// The forms in which a value is found. docs/isolation.md has them in a table,
// which a test compares with what is found.
const (
	// FormRaw is the value as it is, or with other line breaks.
	FormRaw = "raw"
	// FormJSON is the inside of a JSON string.
	FormJSON = "json-escaped"
	// FormURL is percent-encoding in one of its dialects.
	FormURL = "url-encoded"
	// FormBase64 is base64 of either alphabet, also as part of a longer text.
	FormBase64 = "base64"
	// FormHex is two hexadecimal digits for each byte, without blanks.
	FormHex = "hex"
	// FormQuoted is how Go and a shell quote. It is masked only: in a file it is
	// FormRaw or FormJSON for all but a few characters.
	FormQuoted = "quoted"
)

type form struct{ text, form string }

// textForms are those that data holds byte by byte.
func textForms(value string) []form {
	forms := []form{{value, FormRaw}}
	for _, escapeHTML := range []bool{false, true} {
		text := jsonEscape(value, escapeHTML)
		forms = append(forms, form{text, FormJSON}, form{asciiJSON(text), FormJSON})
	}
	for _, d := range urlDialects {
		upper := d.escape(value, "0123456789ABCDEF")
		lower := d.escape(value, "0123456789abcdef")
		forms = append(forms, form{upper, FormURL}, form{lower, FormURL})
	}
	return distinct(forms)
}

// packedForms are those that may be broken into lines anywhere.
func packedForms(value string) []form {
	var forms []form
	for _, core := range base64Cores(value) {
		forms = append(forms, form{core, FormBase64})
	}
	for _, text := range hexForms(value) {
		forms = append(forms, form{text, FormHex})
	}
	if strings.ContainsAny(value, "\r\n") {
		fresh := true
		for _, text := range []string{string(pack(nil, []byte(value), &fresh)), pemBody(value)} {
			if len(text) >= minLine {
				forms = append(forms, form{text, FormRaw})
			}
		}
	}
	return distinct(forms)
}

// minLine is the length of the shortest line of a longer secret that is masked.
const minLine = 8

// outputForms are those that are masked, in addition to textForms. Lines of
// what would be one match are there because output comes with prefixes and
// other line breaks. To search layers for single lines would be wrong: the
// first line of a key or of a JSON document is in many files.
func outputForms(value string) []form {
	var forms []form
	add := func(text, kind string) {
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); len(line) >= minLine {
				forms = append(forms, form{line, kind})
			}
		}
	}
	if strings.Contains(value, "\n") {
		add(value, FormRaw)
	}
	for _, text := range quotedForms(value) {
		forms = append(forms, form{text, FormQuoted})
	}
	for _, text := range hexForms(value) {
		forms = append(forms, form{text, FormHex})
		add(wrap(text, 60), FormHex) // as xxd -p does
	}
	for _, core := range base64Cores(value) {
		forms = append(forms, form{core, FormBase64})
	}
	for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
		for _, end := range []string{"", "\n"} { // echo adds one
			text := enc.EncodeToString([]byte(value + end))
			add(text, FormBase64)
			add(strings.TrimRight(text, "="), FormBase64)
			add(wrap(text, 64), FormBase64) // as openssl does
			add(wrap(text, 76), FormBase64) // as base64 does
		}
	}
	return distinct(forms)
}

// hexForms are the value in small and in capital digits.
func hexForms(value string) []string {
	text := hex.EncodeToString([]byte(value))
	return []string{text, strings.ToUpper(text)}
}

// quotedForms are those that error messages and command lines have: Go's %q and
// %+q, single quotes of a shell, and a step's summary, which has one blank where
// the recipe has several.
func quotedForms(value string) []string {
	inside := func(quoted string) string { return quoted[1 : len(quoted)-1] }
	return slices.DeleteFunc([]string{
		inside(strconv.Quote(value)), inside(strconv.QuoteToASCII(value)),
		strings.ReplaceAll(value, "'", `'\''`), strings.Join(strings.Fields(value), " "),
	}, func(text string) bool { return len(text) < minValue })
}

func distinct(forms []form) []form {
	seen := map[string]bool{}
	return slices.DeleteFunc(forms, func(f form) bool {
		again := seen[f.text]
		seen[f.text] = true
		return again
	})
}

// base64Cores returns what base64 of any text that contains the value has in
// common: the characters that depend on the value alone, for each of the three
// ways in which its first byte can fall into a group of three, in both
// alphabets.
func base64Cores(value string) []string {
	var cores []string
	for before := range 3 {
		whole := base64.RawStdEncoding.EncodeToString([]byte("\x00\x00"[:before] + value))
		first := (8*before + 5) / 6
		end := 8 * (before + len(value)) / 6
		core := whole[first:end]
		cores = append(cores, core, strings.NewReplacer("+", "-", "/", "_").Replace(core))
	}
	slices.Sort(cores)
	return slices.Compact(cores)
}

// pemBody returns the lines between those of dashes, joined.
func pemBody(value string) string {
	var body strings.Builder
	inside := false
	for line := range strings.Lines(value) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "-----BEGIN "):
			inside = true
		case strings.HasPrefix(line, "-----END "):
			return body.String()
		case inside:
			body.WriteString(line)
		}
	}
	return ""
}

func wrap(text string, width int) string {
	var b strings.Builder
	for len(text) > width {
		b.WriteString(text[:width] + "\n")
		text = text[width:]
	}
	return b.String() + text
}

func jsonEscape(value string, escapeHTML bool) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(escapeHTML)
	if err := enc.Encode(value); err != nil {
		return value // strings always encode
	}
	return strings.TrimSuffix(strings.TrimPrefix(b.String(), `"`), "\"\n")
}

// asciiJSON escapes what else may be escaped in JSON, as Python's json does.
func asciiJSON(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r < utf8.RuneSelf:
			b.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// A urlDialect is one opinion on what need not be percent-encoded.
type urlDialect struct {
	safe string // besides letters and digits
	plus bool   // a space becomes +
}

var urlDialects = []urlDialect{
	{safe: "-_.~", plus: true},     // forms: Go's QueryEscape, Python's quote_plus
	{safe: "-_.", plus: true},      // Java's and PHP's
	{safe: "-_.~"},                 // RFC 3986, curl
	{safe: "-_.~/"},                // Python's quote
	{safe: "-_.~$&+=:@"},           // path segments: Go's PathEscape
	{safe: "-_.~$&+,;="},           // user and password in a URL
	{safe: "-_.!~*'()"},            // JavaScript's encodeURIComponent
	{safe: "-_.!~*'();/?:@&=+$,#"}, // JavaScript's encodeURI
}

func (d urlDialect) escape(value, digits string) string {
	var b strings.Builder
	for _, c := range []byte(value) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte(d.safe, c) >= 0:
			b.WriteByte(c)
		case c == ' ' && d.plus:
			b.WriteByte('+')
		default:
			b.Write([]byte{'%', digits[c>>4], digits[c&15]})
		}
	}
	return b.String()
}
