package archtest

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// Load reads the imports of all Go files of the module in dir. Folders that the
// go command skips are skipped: testdata, and names that begin with . or _;
// so are modules within the module.
func Load(dir string) ([]File, error) {
	root := os.DirFS(dir)
	var files []File
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			if name != "." && skip(root, name) {
				return fs.SkipDir
			}
			return nil
		case path.Ext(name) != ".go":
			return nil
		}
		f, err := imports(dir, name)
		if err != nil {
			return err
		}
		files = append(files, f)
		return nil
	})
	return files, err
}

func skip(root fs.FS, name string) bool {
	base := path.Base(name)
	if base == "testdata" || base[0] == '.' || base[0] == '_' {
		return true
	}
	_, err := fs.Stat(root, path.Join(name, "go.mod"))
	return err == nil
}

// imports reads one file as far as its imports.
func imports(dir, name string) (File, error) {
	tree, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, filepath.FromSlash(name)), nil, parser.ImportsOnly)
	if err != nil {
		return File{}, fmt.Errorf("archtest: %w", err)
	}
	f := File{Package: path.Dir(name), Name: name, Test: strings.HasSuffix(name, "_test.go")}
	for _, spec := range tree.Imports {
		imp, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return File{}, fmt.Errorf("archtest: %s: %w", name, err)
		}
		f.Imports = append(f.Imports, imp)
	}
	return f, nil
}
