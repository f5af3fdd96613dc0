package builder

import "github.com/pdidev/pdibuild/internal/fileentry"

type (
	inode     = fileentry.Inode
	hardLinks = fileentry.Links
)

var (
	inodeOf        = fileentry.InodeOf
	hasLinks       = fileentry.HasLinks
	fileEntry      = fileentry.New
	unlinkedEntry  = fileentry.Unlinked
	readAttributes = fileentry.ReadAttributes
	attributeNames = fileentry.AttributeNames
	attribute      = fileentry.Attribute
)
