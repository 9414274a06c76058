// Package sidecar is the Go client of the p2p sidecar.
package sidecar

// Version is the version of this client.
const Version = "0.1.0"
