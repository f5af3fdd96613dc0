// Package registry is how this program talks to registries and to servers of
// binary caches: certificates, proxies, credentials, repetitions, redirections
// and what their refusals mean are decided here, for images and binary caches
// alike.
//
// Connect finds a registry and returns its Client, which oras-go uses for
// requests. A Front lets the containers/image library, which has an HTTP client
// of its own, send its requests through such Clients. NewTransport alone is for
// servers that are no registries.
//
// A credential is sent to the origin that it was given for (scheme, host and
// port), and to the token server that this origin names, over TLS unless the
// origin may do without; see guard. What a registry leads elsewhere for, by a
// redirection or by the Location of an upload, gets no credential.
package registry
