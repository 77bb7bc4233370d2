package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"directnode/internal/config"
	"directnode/store"
)

// Exit codes (docs/OPERATING.md lists those of both programs).
const (
	exitUsage  = 2
	exitConfig = 30
	exitStore  = 40
	exitBug    = 70
)

// exitError is an error that ends the program with its code.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func configError(err error) error { return &exitError{exitConfig, err} }
func storeError(err error) error  { return &exitError{exitStore, err} }

// command is the command line; serve runs the node.
func command(serve func(path string) error) *cobra.Command {
	var path, makeKey, man string
	var check, print bool
	cmd := &cobra.Command{
		Use:   "directd --config FILE",
		Short: "publish certificates by DNS and LDAP and run a Direct Security/Trust Agent",
		Long: `directd serves one organization's Direct node: an authoritative DNS server and
an LDAP directory that publish its certificates, and a Security/Trust Agent that
signs, encrypts, sends, receives, decrypts and verifies its messages.

SIGTERM and SIGINT drain and end it; SIGHUP reads the TLS
certificate, the level of the log and the query log again.`,
		Version:       version(),
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case man != "":
				return doc.GenManTree(cmd, manHeader(), man)
			case makeKey != "":
				if _, err := store.CreateMasterKey(makeKey); err != nil {
					return configError(err)
				}
				return nil
			case print:
				return config.Print(os.Stdout, config.Default())
			case path == "":
				return fmt.Errorf("no configuration: give --config FILE; `directd --print-config` prints one to begin with")
			case check:
				if _, err := config.Load(path); err != nil {
					return configError(err)
				}
				fmt.Println(path + ": ok")
				return nil
			}
			return serve(path)
		},
	}
	cmd.Flags().StringVar(&path, "config", "", "the configuration `FILE`")
	cmd.Flags().BoolVar(&check, "check", false, "validate the configuration and exit: 0 ok, 30 not")
	cmd.Flags().BoolVar(&print, "print-config", false, "print every key with its default and a comment")
	cmd.Flags().StringVar(&makeKey, "make-key", "", "make a new master key in `FILE` and exit")
	cmd.Flags().StringVar(&man, "man", "", "write the manual page into `FOLDER` and exit")
	_ = cmd.Flags().MarkHidden("man")
	cmd.CompletionOptions.HiddenDefaultCmd = true
	cmd.DisableAutoGenTag = true
	return cmd
}

// manHeader carries a fixed date, so that the page changes only with the flags.
func manHeader() *doc.GenManHeader {
	date := time.Date(2026, time.November, 24, 0, 0, 0, 0, time.UTC)
	return &doc.GenManHeader{Title: "DIRECTD", Section: "8", Source: "Direct Node", Manual: "System administration", Date: &date}
}

// goVersion is the Go release that the program was built with.
func goVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.GoVersion
	}
	return "unknown"
}

// version comes from the build information.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			v += " " + s.Value[:12]
		}
	}
	return v
}
