//go:build manual

package main

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// addManual adds the command that writes the man pages. Its library spends a
// third of the tool's start on preparing to read Markdown, so that only the
// program that `make docs` builds has it.
func addManual(t *tool, root *cobra.Command) { root.AddCommand(t.manual()) }

// manualDate stands on the pages; a fixed one, so that they change only with
// the commands.
var manualDate = time.Date(2026, time.November, 24, 0, 0, 0, 0, time.UTC)

// manual writes the man pages and the completions; `make docs` calls it.
func (t *tool) manual() *cobra.Command {
	return &cobra.Command{
		Use: "docs FOLDER", Short: "write the man pages and shell completions", Args: cobra.ExactArgs(1), Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			root, dir := cmd.Root(), args[0]
			root.DisableAutoGenTag = true
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			date := manualDate
			header := &doc.GenManHeader{Title: "DIRECTCTL", Section: "1", Source: "Direct Node", Manual: "User commands", Date: &date}
			return errors.Join(
				doc.GenManTree(root, header, dir),
				root.GenBashCompletionFileV2(filepath.Join(dir, "directctl.bash"), true),
				root.GenZshCompletionFile(filepath.Join(dir, "_directctl")),
				root.GenFishCompletionFile(filepath.Join(dir, "directctl.fish"), true),
			)
		},
	}
}
