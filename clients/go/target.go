package sidecar

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"slices"
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

// findTarget is the target that was given, else that of SIDECAR_API, else the socket of SIDECAR_API_SOCKET, which tells a
// sidecar where to serve, else the one that it serves by default.
func findTarget(given string) (target, error) {
	if given != "" {
		return parseTarget(given, "as given")
	}
	if named := environment("SIDECAR_API"); named != "" {
		return parseTarget(named, "from SIDECAR_API")
	}
	if configured := environment("SIDECAR_API_SOCKET"); configured != "" {
		return socketTarget(configured, "from SIDECAR_API_SOCKET")
	}
	directory := defaultDirectory()
	if err := checkOurs(directory); err != nil {
		return target{}, err
	}
	return socketTarget(directory+"/api.sock", "the default, SIDECAR_API is not set")
}

// environment is a variable without the end of a line, which files of variables written elsewhere leave there.
func environment(name string) string { return strings.TrimRight(os.Getenv(name), "\r\n") }

// defaultDirectory is where a sidecar of this user serves when nothing says otherwise. Sidecars and all clients go by the
// same rule (docs/clients.md), and nothing is tried out: who starts later, or may write less, finds the same place.
func defaultDirectory() string {
	if runtime := environment("XDG_RUNTIME_DIR"); strings.HasPrefix(runtime, "/") {
		return strings.TrimRight(runtime, "/") + "/sidecar"
	}
	temporary := strings.TrimRight(environment("TMPDIR"), "/")
	if found, err := os.Stat(temporary); !strings.HasPrefix(temporary, "/") || err != nil || !found.IsDir() {
		temporary = "/tmp"
	}
	return temporary + "/sidecar-" + strconv.Itoa(os.Getuid())
}

func parseTarget(text, origin string) (target, error) {
	switch {
	case strings.HasPrefix(text, "unix:"):
		path := strings.TrimPrefix(text, "unix:")
		if after, ok := strings.CutPrefix(path, "//"); ok { // gRPC's own form unix:///PATH
			path = after
		}
		if path == "" {
			return target{}, badField("target", "target %q (%s) names no socket", text, origin)
		}
		return socketTarget(path, origin)
	case strings.HasPrefix(text, "/"), strings.HasPrefix(text, "./"), strings.HasPrefix(text, "../"), strings.HasPrefix(text, "~/"):
		return socketTarget(text, origin)
	}
	address, secured := strings.CutPrefix(text, "tls://")
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return target{}, badField("target", "target %q (%s) is none of these: "+
			"unix:PATH, a path that begins with / ./ ../ or ~/, HOST:PORT or tls://HOST:PORT", text, origin)
	}
	if number, err := strconv.ParseUint(port, 10, 16); err != nil || number == 0 {
		return target{}, badField("target", "target %q (%s): %q is no port", text, origin, port)
	}
	return target{text: text, origin: origin, network: "tcp", address: address, tls: secured}, nil
}

// socketTarget is the socket at a path, which is taken as it is: nothing in it is an escape. It refuses what the system would
// call an invalid argument, again and again.
func socketTarget(path, origin string) (target, error) {
	whole, err := wholePath(path)
	if err != nil {
		return target{}, badField("target", "%v (%s)", err, origin)
	}
	if strings.ContainsRune(whole, 0) {
		return target{}, badField("target", "the path of a Unix socket holds no NUL: %s (%s)", shown(whole), origin)
	}
	if len(whole) > mostPath {
		return target{}, badField("target", "the path of a Unix socket has at most %d bytes, this one has %d: %s",
			mostPath, len(whole), shown(whole))
	}
	return target{text: "unix:" + shown(whole), origin: origin, network: "unix", address: whole}, nil
}

// wholePath is a path from the root on: a relative one would be another after a chdir. A `~` at the beginning is the home
// directory. `..` stays, for it may lead out of a symbolic link.
func wholePath(path string) (string, error) {
	if path == "~" || strings.HasPrefix(path, "~/") {
		home, err := homeDirectory()
		if err != nil {
			return "", fmt.Errorf("%s is in the home directory: %w", shown(path), err)
		}
		path = home + path[1:]
	}
	if filepath.IsAbs(path) && !strings.HasPrefix(path, "/") {
		return path, nil // a drive
	}
	if !strings.HasPrefix(path, "/") {
		current, err := os.Getwd()
		if err != nil {
			return "", fmt.Errorf("%s counts from the current directory, which is gone: %w", shown(path), err)
		}
		path = current + "/" + path
	}
	parts := slices.DeleteFunc(strings.Split(path, "/"), func(part string) bool { return part == "" || part == "." })
	return "/" + strings.Join(parts, "/"), nil
}

// homeDirectory is HOME, else that of the system's list of users.
func homeDirectory() (string, error) {
	if home := environment("HOME"); strings.HasPrefix(home, "/") {
		return home, nil
	}
	if found, err := user.LookupId(strconv.Itoa(os.Getuid())); err == nil && strings.HasPrefix(found.HomeDir, "/") {
		return found.HomeDir, nil
	}
	return "", errors.New("this user has none, and HOME is not set")
}

// shown is a path for people and logs: one line of text.
func shown(path string) string {
	quoted := strconv.Quote(path)
	return strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(quoted[1 : len(quoted)-1])
}

// missing says so where a socket's directory is not there; empty where it is.
func (t target) missing() string {
	if t.network != "unix" {
		return ""
	}
	directory := filepath.Dir(t.address)
	if found, err := os.Stat(directory); err == nil && !found.IsDir() {
		return "; " + shown(directory) + " is not a directory"
	} else if errors.Is(err, os.ErrNotExist) {
		return "; the directory " + shown(directory) + " does not exist"
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
