package builder

import (
	"context"

	"github.com/pdidev/pdibuild/pkg/recipe"
)

// PLACEHOLDER signatures; being implemented.

type Builder struct{}

func Init() bool            { return false }
func EnterNamespace() error { return nil }
func Open(opt StoreOptions) (*Builder, error) { return nil, nil }
func (b *Builder) Close() error { return nil }
func (b *Builder) Plan(ctx context.Context, r *recipe.Recipe, contextDir string, opt PlanOptions) (*Plan, error) { return nil, nil }
func (b *Builder) Build(ctx context.Context, p *Plan, opt BuildOptions) (*Result, error) { return nil, nil }
func (b *Builder) Push(ctx context.Context, image, destination string, opt PushOptions) (digest string, err error) { return "", nil }
func (b *Builder) Export(ctx context.Context, image, destination string, opt PushOptions) error { return nil }
func (b *Builder) Images(ctx context.Context) ([]Image, error) { return nil, nil }
func (b *Builder) Remove(ctx context.Context, image string) error { return nil }

// An Image is one image of the store.
type Image struct {
	ID, Digest string
	Names []string
	Size int64
	Created int64
}
