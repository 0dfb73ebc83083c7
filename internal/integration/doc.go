// Package integration tests the library together with the adapters that do not
// import it, against the real databases. It is never published.
package integration
