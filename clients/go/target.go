package sidecar

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// target is where a sidecar is.
type target struct {
	text    string // as it is shown: unix:PATH, HOST:PORT or tls://HOST:PORT
	origin  string // where it came from, for error messages
	network string // unix or tcp
	address string // a path, or HOST:PORT
	tls     bool
}

// findTarget is the target that was given, else that of SIDECAR_API, else the socket that a sidecar serves by default.
func findTarget(given string) (target, error) {
	if given != "" {
		return parseTarget(given, "as given")
	}
	if named := os.Getenv("SIDECAR_API"); named != "" {
		return parseTarget(named, "from SIDECAR_API")
	}
	directory := filepath.Join(os.TempDir(), "sidecar-"+strconv.Itoa(os.Getuid()))
	if runtime := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(runtime) {
		directory = filepath.Join(runtime, "sidecar")
	}
	if err := checkOurs(directory); err != nil {
		return target{}, err
	}
	return parseTarget(filepath.Join(directory, "api.sock"), "the default")
}

func parseTarget(text, origin string) (target, error) {
	switch {
	case strings.HasPrefix(text, "unix:"):
		path := strings.TrimPrefix(text, "unix:")
		if after, ok := strings.CutPrefix(path, "//"); ok { // gRPC's own form unix:///PATH
			path = after
		}
		if path == "" {
			return target{}, badField("target", "target %q names no socket", text)
		}
		return socketTarget(path, origin)
	case strings.HasPrefix(text, "/"), strings.HasPrefix(text, "./"), strings.HasPrefix(text, "../"):
		return socketTarget(text, origin)
	}
	address, secured := strings.CutPrefix(text, "tls://")
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return target{}, badField("target", "target %q is none of unix:PATH, a path, HOST:PORT and tls://HOST:PORT", text)
	}
	if number, err := strconv.ParseUint(port, 10, 16); err != nil || number == 0 {
		return target{}, badField("target", "target %q: %q is no port", text, port)
	}
	return target{text: text, origin: origin, network: "tcp", address: address, tls: secured}, nil
}

// socketTarget refuses what the system would call an invalid argument, again and again.
func socketTarget(path, origin string) (target, error) {
	if len(path) > mostPath {
		return target{}, badField("target", "the path of a Unix socket has at most %d bytes, this one has %d: %s",
			mostPath, len(path), path)
	}
	return target{text: "unix:" + path, origin: origin, network: "unix", address: path}, nil
}

// missing says so where a socket's directory is not there; empty where it is.
func (t target) missing() string {
	if t.network != "unix" {
		return ""
	}
	directory := filepath.Dir(t.address)
	if found, err := os.Stat(directory); err == nil && !found.IsDir() {
		return "; " + directory + " is not a directory"
	} else if errors.Is(err, os.ErrNotExist) {
		return "; the directory " + directory + " does not exist"
	}
	return ""
}

// private tells whether what is sent there in plain text stays on this machine.
func (t target) private() bool {
	if t.network == "unix" {
		return true
	}
	host, _, err := net.SplitHostPort(t.address)
	return err == nil && (host == "localhost" || loopback(host))
}

func loopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return err == nil && address.Unmap().IsLoopback()
}
