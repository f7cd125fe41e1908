// Package lint answers: do the suites of others find fault with what we make, or with how we judge? It is a module of
// its own, so that nobody who imports the library gets what the suites need.
package lint
