// Package inspect looks into container images: what each layer adds, changes
// and removes, which bytes nobody can see any more, which packages are there
// and why, and how two images differ. It builds nothing and changes nothing.
//
// Read goes once through the layers of a Source and returns an Image, which
// holds no content, only a compact table of the files. Report makes of it what
// is shown: WriteText, WriteHTML, or any JSON encoder. Image.Why, Compare,
// Limits.Check, SPDX and CycloneDX answer the other questions.
//
//	img, err := inspect.Read(ctx, source, inspect.Options{})
//	…
//	err = inspect.WriteText(os.Stdout, img.Report(inspect.ReportOptions{}))
//
// Names and contents of an image are never trusted: no name leads out of the
// table, and every form of output escapes what a terminal or a browser would
// obey.
package inspect
