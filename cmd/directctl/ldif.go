package main

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"directnode/internal/admin"
	"directnode/internal/ldif"
)

// maxValueFile bounds a file that an LDIF file names: it holds one certificate,
// and as much of it is what the daemon takes.
const maxValueFile = 64 << 10

func (t *tool) ldif() *cobra.Command {
	var req admin.ImportRequest
	imp := &cobra.Command{
		Use: "import FILE", Short: "take mail and userCertificate from an LDIF file", Args: cobra.ExactArgs(1),
		Long: `import reads LDIF (RFC 2849) as slapcat, ldapsearch, db2ldif and ApacheDS write it and
adds the values of userCertificate and userCertificate;binary of every entry to the
owner that its mail names, published by LDAP. Change records count where they add an
entry. All other attributes are ignored; userSMIMECertificate is not taken.

What an entry names by a URL (userCertificate:< file:///…) is read here, if it lies in
the folder of FILE or below; other URLs are refused, and nothing is imported then.

A plan is printed before anything is done; with --dry-run nothing else happens. A
malformed entry is refused whole, with its line, and the others are taken (exit code 1).
Certificates that do not bind to their owner are counted as warnings (exit code 3), or
left out with --strict. --timeout is the longest time without progress.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := uploadLDIF(args[0])
			if err != nil {
				return err
			}
			return t.imported(cmd.Context(), "ldif.import", req, []admin.Upload{f})
		},
	}
	imp.Flags().BoolVar(&req.Strict, "strict", false, "refuse certificates that do not bind to their owner")
	imp.Flags().BoolVar(&req.DryRun, "dry-run", false, "say what would be done and change nothing")
	var format string
	export := &cobra.Command{
		Use: "export DOMAIN", Short: "print a domain's published entries as LDIF", Args: cobra.ExactArgs(1),
		Long: `export prints what LDAP publishes of a domain as LDIF (RFC 2849) for slapadd, ldapadd,
ldif2db and others: the entry of the domain and one inetOrgPerson for each owner,
sorted. An import of it changes nothing. slapadd refuses the line "version: 1", which
RFC 2849 begins a file with: --format rfc2849 writes it.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.exported(cmd.Context(), "ldif.export", admin.ExportRequest{Domain: args[0], Format: format})
		},
	}
	export.Flags().StringVar(&format, "format", "plain", "plain, or rfc2849 with a line for the version")
	return group("ldif", "directory entries in and out", imp, export)
}

// uploadLDIF makes an upload of an LDIF file in which the values that it names
// by URLs stand themselves: the daemon opens no path that a file gives it.
func uploadLDIF(path string) (admin.Upload, error) {
	u, err := upload(path)
	if err != nil {
		return u, err
	}
	regular := u.Size >= 0
	u.Size, u.About = -1, u.Size
	open := u.Open
	u.Open = func() (io.ReadCloser, error) {
		in, err := open()
		if err != nil {
			return nil, err
		}
		if !regular {
			return &inlined{in, ldif.NewInliner(in, path, admin.TakesLDIF, fromPipe), nil}, nil
		}
		f, err := openFolder(filepath.Dir(path))
		if err != nil {
			return nil, errors.Join(missing(path, err), in.Close())
		}
		return &inlined{in, ldif.NewInliner(in, path, admin.TakesLDIF, f.fetch), f}, nil
	}
	return u, nil
}

// inlined is the text that is sent.
type inlined struct {
	file   io.ReadCloser
	text   *ldif.Inliner
	folder *folder // nil: of a pipe
}

func (i *inlined) Read(p []byte) (int, error) {
	n, err := i.text.Read(p)
	if err == nil || err == io.EOF {
		return n, err
	}
	do := "correct the path"
	var e *valueError
	switch {
	case errors.Is(err, ldif.ErrTooLong):
		do = "give an LDIF file; this one is hardly what it should be"
	case errors.As(err, &e):
		do = e.do
	}
	return n, &admin.Error{ID: "DN-LDIF-003", Code: admin.CodeFailed, What: "nothing was imported", Why: err.Error(), Do: do}
}

func (i *inlined) Close() error {
	err := i.file.Close()
	if i.folder != nil {
		err = errors.Join(err, i.folder.root.Close())
	}
	return err
}

// valueError is why the value behind a URL is not read.
type valueError struct{ why, do string }

func (e *valueError) Error() string { return e.why }

const inBase64 = "put the value itself there in Base64 (userCertificate:: …)"

func fromPipe(string) ([]byte, error) {
	return nil, &valueError{"a text that comes through a pipe has no folder in which the file could lie", "give the LDIF file by its path, or " + inBase64}
}

// folder reads the files that an LDIF file names. Nothing outside of it is
// opened, whatever the names and the links in it say.
type folder struct {
	root *os.Root
	path []string // the folder's own, absolute: as it was given, and without links
}

func openFolder(dir string) (*folder, error) {
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(absolute)
	if err != nil {
		return nil, err
	}
	f := &folder{root: root, path: []string{absolute}}
	if plain, err := filepath.EvalSymlinks(absolute); err == nil && plain != absolute {
		f.path = append(f.path, plain)
	}
	return f, nil
}

// fetch reads the file behind a URL: file:///PATH, or file:PATH for one that is
// relative to the folder.
func (f *folder) fetch(text string) ([]byte, error) {
	name, err := f.inside(text)
	if err != nil {
		return nil, err
	}
	// A pipe or a device would keep the tool waiting.
	file, err := f.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, &valueError{reason(err), "put the file there, inside of the folder, without links that lead out of it, or " + inBase64}
	}
	defer file.Close()
	info, err := file.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, &valueError{"is no regular file", inBase64}
	case info.Size() > maxValueFile:
		return nil, &valueError{fmt.Sprintf("has more than %d octets", maxValueFile), "give one certificate in DER; this is hardly one"}
	}
	data, err := io.ReadAll(io.LimitReader(file, maxValueFile+1))
	switch {
	case err != nil:
		return nil, err
	case len(data) > maxValueFile:
		return nil, &valueError{fmt.Sprintf("has more than %d octets", maxValueFile), "give one certificate in DER; this is hardly one"}
	}
	return data, nil
}

// inside is the path below the folder that a URL names.
func (f *folder) inside(text string) (string, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return "", &valueError{"is no URL", inBase64}
	case !strings.EqualFold(u.Scheme, "file"):
		return "", &valueError{fmt.Sprintf("URLs of %q are not fetched, only files inside of the folder of the LDIF file are read", u.Scheme), "fetch the certificate and " + inBase64}
	case u.Host != "" && !strings.EqualFold(u.Host, "localhost"):
		return "", &valueError{fmt.Sprintf("the file is on the host %q, and nothing is fetched", u.Host), "copy the file into the folder of the LDIF file, or " + inBase64}
	case u.RawQuery != "" || u.Fragment != "":
		return "", &valueError{"a file URL has no query and no fragment; write '?' as %3F and '#' as %23", inBase64}
	}
	name := u.Path
	if u.Opaque != "" {
		if name, err = url.PathUnescape(u.Opaque); err != nil {
			return "", &valueError{"is no URL", inBase64}
		}
	}
	if !filepath.IsAbs(name) {
		if filepath.IsLocal(name) {
			return name, nil
		}
		return "", outside()
	}
	for _, base := range f.path {
		if rel, err := filepath.Rel(base, filepath.Clean(name)); err == nil && filepath.IsLocal(rel) {
			return rel, nil
		}
	}
	return "", outside()
}

func outside() error {
	return &valueError{"lies outside of the folder of the LDIF file", "copy the file into that folder and correct the URL, or " + inBase64}
}
