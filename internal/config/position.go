package config

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// lines holds the line of every key and table of a file.
type lines map[string]int

// line gives where a key stands, or its table where the value is the default,
// or the first line.
func (l lines) line(key string) int {
	for {
		if n, ok := l[key]; ok {
			return n
		}
		i := strings.LastIndexAny(key, ".[")
		if i < 0 {
			return 1
		}
		key = key[:i]
	}
}

// positions maps dotted keys (arrays of tables with an index) to lines. The
// text has been decoded before, so errors cannot occur any more.
func positions(text []byte) lines {
	l := make(lines)
	count := make(map[string]int)
	var p unstable.Parser
	p.Reset(text)
	table := ""
	for p.NextExpression() {
		e := p.Expression()
		name, line := keyOf(&p, e, text)
		switch e.Kind {
		case unstable.Table:
			table = name + "."
			l[name] = line
		case unstable.ArrayTable:
			table = fmt.Sprintf("%s[%d].", name, count[name])
			l[strings.TrimSuffix(table, ".")] = line
			count[name]++
		case unstable.KeyValue:
			l[table+name] = line
		}
	}
	return l
}

func keyOf(p *unstable.Parser, e *unstable.Node, text []byte) (string, int) {
	var parts []string
	line := 0
	for it := e.Key(); it.Next(); {
		n := it.Node()
		parts = append(parts, string(n.Data))
		if line == 0 {
			line = 1 + bytes.Count(text[:n.Raw.Offset], []byte("\n"))
		}
	}
	return strings.Join(parts, "."), line
}

// suggest names the known key that is nearest to an unknown one.
func suggest(key string) string {
	best, distance := "", len(key)/2+1
	for _, known := range knownKeys(reflect.TypeFor[Config](), "") {
		if d := editDistance(key, known); d < distance {
			best, distance = known, d
		}
	}
	if best == "" {
		return "remove it; `directd --print-config` shows every key"
	}
	return fmt.Sprintf("did you mean %s?", best)
}

func knownKeys(t reflect.Type, prefix string) []string {
	var keys []string
	for i := range t.NumField() {
		if !t.Field(i).IsExported() {
			continue
		}
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("toml"), ",")
		keys = append(keys, prefix+name)
		ft := f.Type
		if ft.Kind() == reflect.Slice {
			ft = ft.Elem()
		}
		if ft.Kind() == reflect.Struct {
			keys = append(keys, knownKeys(ft, prefix+name+".")...)
		}
	}
	return keys
}

// editDistance is Levenshtein's, one row at a time.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
