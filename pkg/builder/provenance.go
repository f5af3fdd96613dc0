package builder

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/transports/alltransports"

	"github.com/pdidev/pdibuild/internal/secret"
	fail "github.com/pdidev/pdibuild/pkg/failure"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// ProvenanceType is the media type of what Provenance returns.
const ProvenanceType = "application/vnd.in-toto+json"

const (
	// originsKey names what is kept beside an image in the store. It is not
	// part of the image: the same image may come of several recipes.
	originsKey = "pdibuild-origins"

	statementType = "https://in-toto.io/Statement/v1"
	predicateType = "https://slsa.dev/provenance/v1"
	buildType     = "https://github.com/pdidev/pdibuild/build/v1"
	builderID     = "https://github.com/pdidev/pdibuild"
)

// Origins are what an image was made of. No value of an argument or a secret
// is among them.
type origins struct {
	// Recipe is the digest of the recipe in its canonical form, with the
	// arguments in their places.
	Recipe   digest.Digest `json:"recipe"`
	Name     string        `json:"name,omitempty"`
	Target   string        `json:"target"`
	Platform string        `json:"platform"`
	Epoch    int64         `json:"source_date_epoch"`
	// Args and Secrets are names.
	Args    []string     `json:"args,omitempty"`
	Secrets []string     `json:"secrets,omitempty"`
	Bases   []dependency `json:"bases"`
}

// A dependency is a resource descriptor of in-toto.
type dependency struct {
	URI    string            `json:"uri"`
	Digest map[string]string `json:"digest,omitempty"`
}

// noteOrigins keeps beside an image what it was made of, in which values of
// secrets are masked: it may be pushed with the image.
func (b *Builder) noteOrigins(ctx context.Context, p *Plan, secrets *secret.Set, id string) error {
	text, err := recipe.Marshal(p.Recipe)
	if err != nil {
		return fmt.Errorf("note the origins of the image: %w", err)
	}
	o := origins{
		Recipe: digest.FromBytes(text), Name: p.Recipe.Name, Target: p.target, Platform: p.Platform, Epoch: p.epoch,
		Args: slices.Sorted(maps.Keys(p.args)), Secrets: slices.Sorted(maps.Keys(p.Recipe.Secrets)), Bases: []dependency{},
	}
	stages := map[string]bool{"scratch": true}
	for _, s := range p.Stages {
		stages[s.Name] = true
	}
	for _, s := range p.Stages {
		if stages[s.From] {
			continue
		}
		d := b.baseOf(ctx, s.From, p.Platform)
		d.URI = secrets.Mask(d.URI)
		if !slices.ContainsFunc(o.Bases, func(x dependency) bool { return x.URI == d.URI }) {
			o.Bases = append(o.Bases, d)
		}
	}
	o.Name, o.Target, o.Args = secrets.Mask(o.Name), secrets.Mask(o.Target), maskAll(secrets, o.Args)
	data, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("note the origins of the image: %w", err)
	}
	if old, err := b.store.ImageBigData(id, originsKey); err == nil && bytes.Equal(old, data) {
		return nil
	}
	if err := b.store.SetImageBigData(id, originsKey, data, nil); err != nil {
		return fmt.Errorf("note the origins of the image: %w", err)
	}
	return nil
}

// baseOf identifies a base image. What was bootstrapped has no digest: its
// origin is the distribution's mirror.
func (b *Builder) baseOf(ctx context.Context, from, platform string) dependency {
	if _, _, ok := bootstrapTool(from); ok {
		return dependency{URI: from}
	}
	name := strings.TrimPrefix(from, "docker://")
	if img, err := b.localImage(strings.TrimPrefix(name, "containers-storage:")); err == nil {
		uri := from
		if named, err := reference.ParseNormalizedNamed(name); err == nil {
			uri = "docker://" + reference.TagNameOnly(named).String()
		}
		return dependency{uri, map[string]string{img.Digest.Algorithm().String(): img.Digest.Encoded()}}
	}
	if ref, err := alltransports.ParseImageName(from); err == nil {
		if id, err := b.fileImageID(ctx, b.remote.SystemContext(platform), from, ref); err == nil {
			return dependency{from, map[string]string{id.Algorithm().String(): id.Encoded()}}
		}
	}
	return dependency{URI: from}
}

// Provenance says how an image of the store was built: an in-toto statement
// with SLSA's provenance. Subject and digest are the name and the manifest's
// digest where the image was pushed to. The statement holds no secret, and
// nothing of the host or of the time: the same build has the same statement.
func (b *Builder) Provenance(image, subject, manifestDigest, version string) ([]byte, error) {
	img, err := b.findImage(image)
	if err != nil {
		return nil, err
	}
	raw, err := b.store.ImageBigData(img.ID, originsKey)
	if err != nil {
		return nil, &InputError{Subject: "provenance of " + image, Err: errors.New("this store does not know how the image was built"), Hint: "build it here", Code: fail.NoProvenance}
	}
	var o origins
	if err := json.Unmarshal(raw, &o); err != nil {
		return nil, fmt.Errorf("provenance of %s: %w", image, err)
	}
	d := digest.Digest(manifestDigest)
	if err := d.Validate(); err != nil {
		return nil, fmt.Errorf("provenance of %s: digest %q: %w", image, manifestDigest, err)
	}
	return json.Marshal(statement(o, dependencyOf(subject, d), version))
}

// A subject of a statement has a name instead of a URI.
type statementSubject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
}

func dependencyOf(name string, d digest.Digest) statementSubject {
	return statementSubject{strings.TrimPrefix(name, "docker://"), map[string]string{d.Algorithm().String(): d.Encoded()}}
}

func statement(o origins, subject statementSubject, version string) map[string]any {
	recipeOf := dependency{URI: "pdibuild.yaml", Digest: map[string]string{o.Recipe.Algorithm().String(): o.Recipe.Encoded()}}
	return map[string]any{
		"_type": statementType, "subject": []statementSubject{subject}, "predicateType": predicateType,
		"predicate": map[string]any{
			"buildDefinition": map[string]any{
				"buildType": buildType,
				"externalParameters": map[string]any{
					"recipe": recipeOf, "name": o.Name, "target": o.Target, "platform": o.Platform,
					"source_date_epoch": o.Epoch, "args": o.Args, "secrets": o.Secrets,
				},
				"internalParameters":   map[string]any{},
				"resolvedDependencies": o.Bases,
			},
			"runDetails": map[string]any{"builder": map[string]any{"id": builderID, "version": map[string]string{"pdibuild": version}}},
		},
	}
}
