package main

import (
	"io"
	"reflect"
	"strings"
	"text/tabwriter"
	"unicode"
)

// showText prints an answer for people. Much in an answer was written by
// others (Message-IDs, replies of peers, subjects of certificates): none of it
// may speak to the terminal, or begin a line or a column of its own.
func showText[Ans any](out io.Writer, ans Ans, text func(io.Writer, Ans)) error {
	oneLine(reflect.ValueOf(&ans).Elem())
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	text(w, ans)
	return w.Flush()
}

// oneLine makes every text inside v printable on one line, PEM excepted, which
// we wrote.
func oneLine(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		if v.CanSet() {
			v.SetString(printable(v.String(), ""))
		}
	case reflect.Slice:
		for i := range v.Len() {
			oneLine(v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && f.Name != "PEM" {
				oneLine(v.Field(i))
			}
		}
	}
}

// printable replaces what a terminal would obey rather than show: controls
// (ESC, C1), and the format characters that turn the order of a line around.
func printable(s, keep string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case strings.ContainsRune(keep, r):
			return r
		case r == '\n', r == '\t', r == '\r':
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r):
			return unicode.ReplacementChar
		}
		return r
	}, s)
}
