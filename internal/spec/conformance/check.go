package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// checkAll is -check: what can be said without running a test.
func checkAll(rows []row, raw []byte, root, report string) error {
	ids := map[string]bool{}
	for _, r := range rows {
		ids[r.id] = true
	}
	wrong, err := unknownIDs(root, ids)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(report)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		wrong = append(wrong, report+" does not exist: run make spec")
	case err != nil:
		return err
	case !strings.Contains(string(text), origin+digest(raw)):
		wrong = append(wrong, report+" was made from another table: run make spec")
	}
	if wrong != nil {
		return errors.New(strings.Join(wrong, "\n"))
	}
	return nil
}

// unknownIDs looks through the tests below root for calls of spec.Covers with
// ids that are not in the table.
func unknownIDs(root string, ids map[string]bool) ([]string, error) {
	var wrong []string
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || len(d.Name()) > 1 && d.Name()[0] == '.'):
			return fs.SkipDir
		case !strings.HasSuffix(name, "_test.go"):
			return nil
		}
		files := token.NewFileSet()
		tree, err := parser.ParseFile(files, name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			for _, lit := range covered(n) {
				if id, err := strconv.Unquote(lit.Value); err != nil || !ids[id] {
					wrong = append(wrong, fmt.Sprintf("%s: %s is not in the table", files.Position(lit.Pos()), lit.Value))
				}
			}
			return true
		})
		return nil
	})
	return wrong, err
}

// covered gives the ids, as literals, that a call of spec.Covers names.
func covered(n ast.Node) []*ast.BasicLit {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return nil
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || sel.Sel.Name != "Covers" {
		return nil
	}
	if pkg, ok := sel.X.(*ast.Ident); !ok || pkg.Name != "spec" {
		return nil
	}
	var ids []*ast.BasicLit
	for _, arg := range call.Args {
		if lit, ok := arg.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			ids = append(ids, lit)
		}
	}
	return ids
}
