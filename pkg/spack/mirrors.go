package spack

import "gopkg.in/yaml.v3"

// A Mirror is a place that Spack gets sources and binaries from, and may push
// binaries to.
type Mirror struct {
	Name string
	// Fetch and Push are the same unless the file says otherwise.
	Fetch, Push Connection
	// Signed says whether binaries have to be signed; nil if the file doesn't.
	Signed *bool
	// Autopush pushes each package as soon as it is installed.
	Autopush bool
	// Source and Binary say what the mirror has.
	Source, Binary bool
}

// A Connection is a URL and the names of the environment variables that hold
// the credentials for it.
type Connection struct {
	URL string
	// ID is a user's name, IDVariable the variable that has it.
	ID, IDVariable string
	// SecretVariable is the variable with the password, TokenVariable the one
	// with a token that is used instead of a name and a password.
	SecretVariable, TokenVariable string
}

// mirrors reads the map from names to mirrors.
func (d *decoder) mirrors(n *yaml.Node, path string, to *[]Mirror) {
	d.eachPair(n, path, func(key, n *yaml.Node, path string) {
		m := Mirror{Name: sectionName(key.Value), Source: true, Binary: true}
		if n.Kind == yaml.MappingNode {
			d.mirror(n, path, &m)
		} else {
			d.text(&m.Fetch.URL)(n, path)
			m.Push = m.Fetch
		}
		*to = append(*to, m)
	})
}

func (d *decoder) mirror(n *yaml.Node, path string, m *Mirror) {
	readers := d.connection(&m.Fetch)
	readers["autopush"] = d.flag(&m.Autopush)
	readers["source"] = d.flag(&m.Source)
	readers["binary"] = d.flag(&m.Binary)
	readers["signed"] = func(n *yaml.Node, path string) {
		m.Signed = new(bool)
		d.flag(m.Signed)(n, path)
	}
	d.mapping(n, path, false, readers)
	m.Push = m.Fetch
	d.mapping(n, path, false, map[string]reader{
		"fetch": d.direction(&m.Fetch),
		"push":  d.direction(&m.Push),
	})
}

// direction reads what is different for fetching or pushing.
func (d *decoder) direction(c *Connection) reader {
	return func(n *yaml.Node, path string) {
		if n.Kind == yaml.MappingNode {
			d.mapping(n, path, false, d.connection(c))
			return
		}
		d.text(&c.URL)(n, path)
	}
}

func (d *decoder) connection(c *Connection) map[string]reader {
	return map[string]reader{
		"url":                   d.text(&c.URL),
		"access_token_variable": d.textOrNothing(&c.TokenVariable),
		"access_pair":           d.accessPair(c),
		"access_token":          d.noSecret,
	}
}

func (d *decoder) textOrNothing(to *string) reader {
	return func(n *yaml.Node, path string) {
		if !isNull(n) {
			d.text(to)(n, path)
		}
	}
}

// accessPair reads the names of variables. An older form is a list with the
// password itself.
func (d *decoder) accessPair(c *Connection) reader {
	return func(n *yaml.Node, path string) {
		if n.Kind == yaml.SequenceNode && len(n.Content) > 0 {
			d.noSecret(n, path)
			return
		}
		d.mapping(n, path, false, map[string]reader{
			"id": d.text(&c.ID), "id_variable": d.text(&c.IDVariable),
			"secret_variable": d.text(&c.SecretVariable), "secret": d.noSecret,
		})
	}
}

// noSecret refuses a secret in the file, since the file is part of the image.
func (d *decoder) noSecret(n *yaml.Node, path string) {
	if !isNull(n) {
		d.fail(n, path, "a secret in the file would be readable in the image; name environment variables: "+
			"access_pair: {id_variable: …, secret_variable: …}")
	}
}
