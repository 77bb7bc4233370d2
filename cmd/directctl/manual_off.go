//go:build !manual

package main

import "github.com/spf13/cobra"

// addManual: only the program that `make docs` builds writes man pages.
func addManual(*tool, *cobra.Command) {}
