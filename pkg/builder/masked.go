package builder

import (
	"errors"
	"maps"
	"reflect"

	"github.com/pdidev/pdibuild/internal/secret"
	fail "github.com/pdidev/pdibuild/pkg/failure"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// secretSet prepares the values of a recipe's secrets.
func secretSet(r *recipe.Recipe, values map[string][]byte) *secret.Set {
	public := map[string]bool{}
	for id := range r.Secrets {
		public[id] = r.Secrets[id].Public
	}
	return secret.NewSet(values, public)
}

// maskError returns an error without values of secrets in its text or in the
// fields of the errors that errors.As finds in it. One that holds none is
// returned as it is.
func maskError(s *secret.Set, err error) error {
	if err == nil || s.Empty() || !holdsSecret(s, err) {
		return err
	}
	return &maskedError{s, err}
}

// A maskedError stands for an error that holds the value of a secret. It has no
// Unwrap: what it wraps is found by its own Is and As.
type maskedError struct {
	secrets *secret.Set
	err     error
}

func (e *maskedError) Error() string { return e.secrets.Mask(e.err.Error()) }

// Is reports whether target is in what is masked.
func (e *maskedError) Is(target error) bool { return errors.Is(e.err, target) }

// As gives a masked copy of an error with exported fields, as those of this
// package and of the standard library have. Another one is found only if there is
// nothing to mask in its text.
func (e *maskedError) As(target any) bool {
	if !errors.As(e.err, target) {
		return false
	}
	found := reflect.ValueOf(target).Elem()
	if clean, ok := maskFields(e.secrets, found); ok {
		found.Set(clean)
		return true
	}
	if err, ok := found.Interface().(error); ok && !holdsSecret(e.secrets, err) {
		return true
	}
	found.SetZero()
	return false
}

// holdsSecret reports whether an error, or what it wraps, has something to mask.
func holdsSecret(s *secret.Set, err error) bool {
	if err == nil {
		return false
	}
	if text := err.Error(); s.Mask(text) != text || fieldsHold(s, err) {
		return true
	}
	switch err := err.(type) { //nolint:errorlint // each error of the chain is looked at
	case interface{ Unwrap() error }:
		return holdsSecret(s, err.Unwrap())
	case interface{ Unwrap() []error }:
		for _, e := range err.Unwrap() {
			if holdsSecret(s, e) {
				return true
			}
		}
	}
	return false
}

// fieldsHold looks at texts that are in an error's fields and need not be in its
// message.
func fieldsHold(s *secret.Set, err error) bool {
	v := reflect.ValueOf(err)
	clean, ok := maskFields(s, v)
	if !ok {
		return false
	}
	for i := range v.Elem().NumField() {
		before, after := v.Elem().Field(i), clean.Elem().Field(i)
		if before.Kind() != reflect.Interface && !reflect.DeepEqual(before.Interface(), after.Interface()) {
			return true
		}
	}
	return false
}

// maskFields copies what v points to and masks its fields. A type that hides
// some, or has others than texts, errors and numbers, is left alone.
func maskFields(s *secret.Set, v reflect.Value) (reflect.Value, bool) {
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return v, false
	}
	c := reflect.New(v.Type().Elem())
	c.Elem().Set(v.Elem())
	for i := range c.Elem().NumField() {
		if !c.Elem().Type().Field(i).IsExported() || !maskField(s, c.Elem().Field(i)) {
			return v, false
		}
	}
	return c, true
}

func maskField(s *secret.Set, f reflect.Value) bool {
	if f.CanInt() || f.CanUint() || f.Kind() == reflect.Bool {
		return true
	}
	if f.Kind() == reflect.String {
		f.SetString(s.Mask(f.String()))
		return true
	}
	switch value := f.Addr().Interface().(type) {
	case *[]string:
		*value = maskAll(s, *value)
	case *error:
		*value = maskError(s, *value)
	case *fail.Data:
		clean := maps.Clone(*value)
		for name, text := range clean {
			clean[name] = s.Mask(text)
		}
		*value = clean
	default:
		return false
	}
	return true
}

// maskAll masks each text of a list.
func maskAll(s *secret.Set, texts []string) []string {
	if texts == nil {
		return nil
	}
	clean := make([]string, len(texts))
	for i, text := range texts {
		clean[i] = s.Mask(text)
	}
	return clean
}

// maskEvent masks all that an event says.
func maskEvent(s *secret.Set, e Event) Event {
	if s.Empty() {
		return e
	}
	e.Stage, e.Text = s.Mask(e.Stage), s.Mask(e.Text)
	if e.Packages != nil {
		p := *e.Packages
		p.Building = maskAll(s, p.Building)
		e.Packages = &p
	}
	return e
}
