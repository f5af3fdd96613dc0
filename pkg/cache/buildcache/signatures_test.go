package buildcache

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
)

func keysOf(t *testing.T, who ...*openpgp.Entity) *Keys {
	t.Helper()
	var files [][]byte
	for _, e := range who {
		files = append(files, public(t, e))
	}
	keys, err := ReadKeys(files...)
	must(t, err)
	return keys
}

// signatureProblems are the kinds of findings about signatures, sorted.
func signatureProblems(t *testing.T, address string, keys *Keys) (found []string, r *Report) {
	t.Helper()
	r, err := open(t, address).Verify(t.Context(), VerifyOptions{Keys: keys, Filters: []Filter{{Name: "zlib"}}})
	must(t, err)
	for _, f := range r.Findings {
		if slices.Contains([]Problem{BadSignature, UnknownSigner, Unsigned}, f.Problem) {
			found = append(found, string(f.Problem))
		}
	}
	return found, r
}

func TestVerifySignatures(t *testing.T) {
	zlib := world()["zlib"]
	changed := newV3(t, "zlib")
	text, err := os.ReadFile(manifestPath(changed, zlib))
	must(t, err)
	// The signed text names other content now.
	writeFile(t, manifestPath(changed, zlib), bytes.Replace(text, []byte(`"compression":"gzip"`), []byte(`"compression":"GZIP"`), 1))
	garbled := newV3(t, "zlib")
	writeFile(t, manifestPath(garbled, zlib), bytes.Replace(text, []byte("SIGNATURE-----\n\n"), []byte("SIGNATURE-----\n\nAAAA"), 1))
	none := newV3(t, "zlib")
	plain, _ := withoutSignature(text)
	writeFile(t, manifestPath(none, zlib), plain)
	for name, c := range map[string]struct {
		address string
		keys    *Keys
		want    string
		sound   bool
	}{
		"the cache's own key":     {newV3(t, "zlib"), nil, "", true},
		"the cache's own, before": {newV2(t, "zlib"), nil, "", true},
		"a key that is trusted":   {newV3(t, "zlib"), keysOf(t, newSigner("else"), signer()), "", true},
		"another key":             {newV3(t, "zlib"), keysOf(t, newSigner("else")), "unknown-signer", false},
		"another content":         {changed, nil, "bad-signature", false},
		"no signature at all":     {garbled, nil, "bad-signature", false},
		"unsigned":                {none, nil, "", true},
		"unsigned, but has to be": {none, keysOf(t, signer()), "unsigned", false},
	} {
		t.Run(name, func(t *testing.T) {
			got, report := signatureProblems(t, c.address, c.keys)
			if strings.Join(got, " ") != c.want || report.Sound() != c.sound {
				t.Errorf("Verify finds %+v, want %q, sound %v", report.Findings, c.want, c.sound)
			}
			if (report.Signed == 1) != (c.want == "" && c.address != none) {
				t.Errorf("Verify says that %d packages are signed", report.Signed)
			}
		})
	}
}

// Who names keys gets what they have signed, and nothing else.
func TestCopyRequiresSignatures(t *testing.T) {
	src, dst := open(t, newV3(t, stored()...)), open(t, t.TempDir())
	result, err := Copy(t.Context(), src, dst, CopyOptions{Keys: keysOf(t, signer())})
	if err == nil || !strings.Contains(err.Error(), "it is not signed") {
		t.Errorf("Copy returns %v", err)
	}
	if !slices.Equal(result.Copied, []string{world()["zlib"].hash()}) || len(result.Failed) != len(stored())-1 {
		t.Errorf("Copy returns %+v", result)
	}
	if _, err := src.Pull(t.Context(), t.TempDir(), PullOptions{Keys: keysOf(t, newSigner("else"))}); err == nil || !strings.Contains(err.Error(), "among the known keys") {
		t.Errorf("Pull returns %v", err)
	}
}

// What gpg signs, and exports, is what is understood here.
func TestSignaturesOfGPG(t *testing.T) {
	if _, err := exec.LookPath("gpg"); err != nil {
		t.Skip("SKIPPED: gpg is not installed, so its signatures are not compared")
	}
	home, err := os.MkdirTemp("", "gpg") // its socket wants a short path
	must(t, err)
	gpg := func(stdin []byte, args ...string) []byte {
		cmd := exec.CommandContext(t.Context(), "gpg", append([]string{"--homedir", home, "--batch", "--quiet", "--passphrase", ""}, args...)...)
		cmd.Stdin = bytes.NewReader(stdin)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("gpg %s: %v", args, err)
		}
		return out
	}
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		_ = os.RemoveAll(home)
	})
	gpg(nil, "--quick-gen-key", "gpg@example.org", "rsa3072", "sign", "never")
	root, zlib := newV3(t, "zlib"), world()["zlib"]
	text, err := os.ReadFile(manifestPath(root, zlib))
	must(t, err)
	plain, _ := withoutSignature(text)
	writeFile(t, manifestPath(root, zlib), gpg(plain, "--clearsign"))
	for _, args := range [][]string{{"--export"}, {"--armor", "--export"}} {
		keys, err := ReadKeys(gpg(nil, args...))
		must(t, err)
		if got, report := signatureProblems(t, root, keys); len(got) > 0 || report.Signed != 1 {
			t.Errorf("Verify finds %+v", report.Findings)
		}
	}
	// A signature of ours is good for gpg.
	file := filepath.Join(t.TempDir(), "ours")
	writeFile(t, file, sign(t, signer(), []byte("text\n")))
	gpg(public(t, signer()), "--import")
	gpg(nil, "--verify", file)
}
