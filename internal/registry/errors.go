package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"oras.land/oras-go/v2/registry/remote/errcode"
)

// A StatusError is a server's refusal.
type StatusError struct {
	Method, URL string
	Status      int
	// Message is what the server said, if it did.
	Message string
}

func (e *StatusError) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("status %d (%s %s)", e.Status, e.Method, e.URL)
	}
	return fmt.Sprintf("%s (status %d, %s %s)", e.Message, e.Status, e.Method, e.URL)
}

// NewStatusError makes an error of an answer and closes its body.
func NewStatusError(resp *http.Response) *StatusError {
	defer resp.Body.Close()
	_, message := said(resp)
	return &StatusError{Method: resp.Request.Method, URL: resp.Request.URL.Redacted(), Status: resp.StatusCode, Message: message}
}

// A RefusedError says that a registry does not let a user do something.
type RefusedError struct {
	// Host is the registry's name.
	Host string
	// User is whose password or token was refused; empty if none was given.
	User string
	// Status is 401 or 403.
	Status int
	// Message is the registry's reason, if it gave one.
	Message string
	Err     error
}

func (e *RefusedError) Error() string {
	text := e.Host + " refused"
	if e.User != "" {
		text += " the user " + e.User
	}
	text += fmt.Sprintf(" (%d)", e.Status)
	if e.Message != "" {
		text += ": " + e.Message
	}
	return text
}
func (e *RefusedError) Unwrap() error { return e.Err }

// A NoCredentialError says that a registry wants a user and a password, and
// that none were given.
type NoCredentialError struct {
	Host string
	Err  error
}

func (e *NoCredentialError) Error() string {
	return e.Host + " wants a user and a password, and none were given for it"
}
func (e *NoCredentialError) Unwrap() error { return e.Err }

// A WebPageError says that a web page came instead of a registry's answer.
type WebPageError struct {
	Host string
	// Page is the address that the page came from.
	Page string
}

func (e *WebPageError) Error() string {
	return fmt.Sprintf("%s answered with a web page (%s) instead of as a registry", e.Host, e.Page)
}

// A RealmError says that a registry wants a credential sent where it could be
// read on the way.
type RealmError struct{ Host, Realm string }

func (e *RealmError) Error() string {
	return fmt.Sprintf("%s wants the login sent to %s, without TLS: refused", e.Host, e.Realm)
}

// maxMessage bounds what is read of a refusal.
const maxMessage = 8 << 10

// said returns what a refusal says: as the specification of the registries has
// it, and as text. The body stays readable.
func said(resp *http.Response) (errcode.Errors, string) {
	text := peek(resp, maxMessage)
	var body struct {
		Errors errcode.Errors `json:"errors"`
	}
	if json.Unmarshal(text, &body) != nil || len(body.Errors) == 0 {
		if isHTML(resp) {
			return nil, ""
		}
		return nil, strings.TrimSpace(string(text[:min(len(text), 300)]))
	}
	var messages []string
	for _, e := range body.Errors {
		if e.Message == "" {
			e.Message = errcode.Error{Code: e.Code}.Error()
		}
		messages = append(messages, e.Message)
	}
	return body.Errors, strings.Join(messages, "; ")
}

// peek returns the start of an answer's body, which stays readable.
func peek(resp *http.Response, n int64) []byte {
	start, _ := io.ReadAll(io.LimitReader(resp.Body, n)) // what came is better than nothing
	resp.Body = &struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(start), resp.Body), resp.Body}
	return start
}

// isHTML says what an answer claims to be. That alone does not make it a web
// page: there are registries that call a short text HTML.
func isHTML(resp *http.Response) bool {
	return strings.Contains(resp.Header.Get("Content-Type"), "html")
}

func isPage(start []byte) bool { return bytes.HasPrefix(bytes.TrimSpace(start), []byte("<")) }

// plainRefusals are messages that say no more than the status does.
var plainRefusals = []string{"authentication required", "unauthorized", "access denied", "denied"}

// reason is what a refusal says beyond its status.
func reason(message string) string {
	for _, plain := range plainRefusals {
		if strings.EqualFold(message, plain) {
			return ""
		}
	}
	return message
}

// HostOf returns the server that an error is about, where the error tells.
func HostOf(err error) (string, bool) {
	var (
		status   *StatusError
		refused  *RefusedError
		nobody   *NoCredentialError
		page     *WebPageError
		realm    *RealmError
		response *errcode.ErrorResponse
		request  *url.Error
	)
	address := ""
	switch {
	case errors.As(err, &refused):
		return refused.Host, true
	case errors.As(err, &nobody):
		return nobody.Host, true
	case errors.As(err, &page):
		return page.Host, true
	case errors.As(err, &realm):
		return realm.Host, true
	case errors.As(err, &response):
		return response.URL.Host, true
	case errors.As(err, &status):
		address = status.URL
	case errors.As(err, &request):
		address = request.URL
	default:
		return "", false
	}
	u, err := url.Parse(address)
	if err != nil {
		return "", true
	}
	return u.Host, true
}
