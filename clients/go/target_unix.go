//go:build unix

package sidecar

import (
	"os"
	"syscall"
)

// mostPath is how long the path of a Unix socket may be, in bytes: 107 on Linux. A zero follows it.
const mostPath = len(syscall.RawSockaddrUnix{}.Path) - 1

// checkOurs refuses a directory in which another user could pose as our sidecar.
func checkOurs(directory string) error {
	found, err := os.Lstat(directory)
	if err != nil {
		return nil //nolint:nilerr // nobody serves there; connecting will say so
	}
	owner, ok := found.Sys().(*syscall.Stat_t)
	if !ok || !found.IsDir() || int(owner.Uid) != os.Getuid() || found.Mode().Perm()&0o022 != 0 {
		return newError(ErrSidecarUnavailable,
			"%s is not a directory that only this user can write to; it is not trusted", directory)
	}
	return nil
}
