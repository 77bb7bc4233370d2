//go:build !linux

package store

// inHugePages does nothing where the system has no such advice.
func inHugePages([]byte) {}
