package zones

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// generate makes the records of a $GENERATE directive, which is BIND's and in
// no RFC:
//
//	$GENERATE start-stop[/step] owner [TTL] [class] type data
//
// For each number of the range, "$" in owner and data becomes the number, and
// "${offset,width,base}" the number plus offset, with leading zeros up to width,
// in base d, o, x or X, or as labels of hexadecimal digits, the last digit
// first (n, N). "\$" stays a dollar sign. Data of several words stands in quotes.
func (p *masterParser) generate(e entry) error {
	if len(e.tokens) < 5 {
		return errors.New("$GENERATE takes a range, an owner, a type and data")
	}
	r, err := parseRange(e.tokens[1])
	if err != nil {
		return err
	}
	if r.count() > maxGenerate {
		return fmt.Errorf("$GENERATE of %d records; at most %d", r.count(), maxGenerate)
	}
	if p.generated += r.count(); p.generated > maxGenerated {
		return fmt.Errorf("more than %d records by $GENERATE in one text", maxGenerated)
	}
	tokens, err := generated(e.tokens[2:])
	if err != nil {
		return err
	}
	for i := r.start; i <= r.stop; i += r.step {
		made, err := p.expandAll(tokens, e.line, i)
		if err != nil {
			return err
		}
		if err := p.record(made); err != nil {
			return fmt.Errorf("$GENERATE for %d: %w", i, err)
		}
	}
	return nil
}

// generated is what the records are made from, data without its quotes.
func generated(tokens []string) ([]string, error) {
	last := len(tokens) - 1
	if _, ok := parseType(tokens[last-1]); !ok {
		return nil, errors.New("$GENERATE ends in a type and its data; data of several words stands in quotes")
	}
	data, quoted := strings.CutPrefix(tokens[last], `"`)
	if !quoted {
		return tokens, nil
	}
	words, err := tokenize(strings.ReplaceAll(strings.TrimSuffix(data, `"`), `\"`, `"`))
	return append(tokens[:last:last], words...), err
}

// expandAll makes the entry of one record.
func (p *masterParser) expandAll(tokens []string, line int, i int64) (entry, error) {
	out := entry{line: line, tokens: make([]string, 0, len(tokens))}
	for _, t := range tokens {
		made, err := expand(t, i)
		if err != nil {
			return out, err
		}
		if p.octets += len(made); p.octets > maxGeneratedOctets {
			return out, fmt.Errorf("more than %d octets by $GENERATE in one text", maxGeneratedOctets)
		}
		out.tokens = append(out.tokens, made)
	}
	return out, nil
}

// numbers is the range of a $GENERATE.
type numbers struct{ start, stop, step int64 }

func (n numbers) count() int64 { return (n.stop-n.start)/n.step + 1 }

// parseRange reads start-stop or start-stop/step.
func parseRange(s string) (numbers, error) {
	bad := fmt.Errorf("$GENERATE range %.30q; it is start-stop or start-stop/step, from 0 to %d", s, maxTTL)
	limits, stepText, stepped := strings.Cut(s, "/")
	first, last, ok := strings.Cut(limits, "-")
	if !ok {
		return numbers{}, bad
	}
	if !stepped {
		stepText = "1"
	}
	start, err1 := strconv.ParseUint(first, 10, 31)
	stop, err2 := strconv.ParseUint(last, 10, 31)
	step, err3 := strconv.ParseUint(stepText, 10, 31)
	if errors.Join(err1, err2, err3) != nil || start > stop || step == 0 {
		return numbers{}, bad
	}
	return numbers{int64(start), int64(stop), int64(step)}, nil
}

// expand puts the number into one token.
func expand(token string, i int64) (string, error) {
	var b strings.Builder
	for at := 0; at < len(token); at++ {
		switch c := token[at]; {
		case c == '\\' && at+1 < len(token):
			b.WriteString(token[at : at+2])
			at++
		case c != '$':
			b.WriteByte(c)
		case strings.HasPrefix(token[at:], "$$"): // an older way to write \$
			b.WriteByte('$')
			at++
		case strings.HasPrefix(token[at:], "${"):
			end := strings.IndexByte(token[at:], '}')
			if end < 0 {
				return "", fmt.Errorf("$GENERATE: no } after %.30q", token[at:])
			}
			made, err := format(token[at+2:at+end], i)
			if err != nil {
				return "", err
			}
			b.WriteString(made)
			at += end
		default:
			b.WriteString(strconv.FormatInt(i, 10))
		}
	}
	return b.String(), nil
}

// format writes a number as "offset,width,base" says; the latter two may be
// absent.
func format(how string, i int64) (string, error) {
	bad := fmt.Errorf("$GENERATE: ${%.30s}; it is ${offset,width,base} with base d, o, x, X, n or N and width at most %d", how, maxWidth)
	fields := strings.Split(how, ",")
	if len(fields) > 3 {
		return "", bad
	}
	fields = append(fields, []string{"", "0", "d"}[len(fields):]...)
	offset, err := strconv.ParseInt(fields[0], 10, 32)
	if err != nil {
		return "", bad
	}
	width, err := strconv.ParseUint(fields[1], 10, 8)
	if err != nil || width > maxWidth {
		return "", bad
	}
	v := i + offset
	if v < 0 {
		return "", fmt.Errorf("$GENERATE: %d%+d is less than 0", i, offset)
	}
	switch fields[2] {
	case "d":
		return fmt.Sprintf("%0*d", int(width), v), nil
	case "o":
		return fmt.Sprintf("%0*o", int(width), v), nil
	case "x":
		return fmt.Sprintf("%0*x", int(width), v), nil
	case "X":
		return fmt.Sprintf("%0*X", int(width), v), nil
	case "n":
		return nibbles(v, int(width), "0123456789abcdef"), nil
	case "N":
		return nibbles(v, int(width), "0123456789ABCDEF"), nil
	}
	return "", bad
}

// nibbles writes hexadecimal digits as labels, the last first, as reverse
// zones have them (RFC 3596 §2.5). The dots count for the width, the one after
// an even width too.
func nibbles(v int64, width int, digits string) string {
	var b strings.Builder
	for {
		b.WriteByte(digits[v&0xF])
		if v >>= 4; v == 0 && b.Len() >= width {
			return b.String()
		}
		if b.WriteByte('.'); v == 0 && b.Len() >= width {
			return b.String()
		}
	}
}
