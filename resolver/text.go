package resolver

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"directnode/resolver/trust"
)

// WriteText writes the report for people: one line with the verdict and one with the reason, and with explain the whole tree of
// steps, certificates, path and checks. What strangers wrote (names in certificates, texts of servers) is written without control
// characters.
func (r Report) WriteText(w io.Writer, explain bool) error {
	var b bytes.Buffer
	r.writeVerdict(&b)
	if explain {
		r.writeSteps(&b)
		r.writePath(&b)
		r.writeTime(&b)
	}
	if hint := r.hint(); hint != "" {
		fmt.Fprintf(&b, "   %s\n", hint)
	}
	_, err := w.Write(b.Bytes())
	return err
}

func (r Report) writeVerdict(b *bytes.Buffer) {
	fmt.Fprintf(b, "%-50s  %s", printable(r.Address), strings.ToUpper(strings.ReplaceAll(r.Verdict, "_", " ")))
	if r.Source != "" {
		fmt.Fprintf(b, "  (%s)", r.how())
	}
	fmt.Fprintf(b, "  %.0f ms\n", r.TimingMS)
	if r.Reason != nil {
		fmt.Fprintf(b, "   %s: %s (%s)\n", r.Reason.Check, printable(r.Reason.Detail), r.Reason.Citation)
	}
}

// how says "address-bound, via DNS".
func (r Report) how() string {
	via := "DNS"
	if strings.HasPrefix(r.Source, "ldap") {
		via = "LDAP"
	}
	for _, c := range r.Candidates {
		if c.Usable && c.Bound != "" {
			return c.Bound + "-bound, via " + via
		}
	}
	return "via " + via
}

func (r Report) writeSteps(b *bytes.Buffer) {
	for _, s := range r.Steps {
		fmt.Fprintf(b, " ├─ %d %-4s %s", s.N, strings.ToUpper(s.Kind), printable(s.Question))
		if s.Server != "" {
			fmt.Fprintf(b, "  at %s %s %.1f ms", printable(s.Server), s.Transport, s.RTTMS)
		}
		fmt.Fprintf(b, "  %s", outcomeText(s))
		if s.Detail != "" {
			fmt.Fprintf(b, ": %s", printable(s.Detail))
		}
		b.WriteByte('\n')
		for i, c := range r.Candidates {
			if c.Step == s.N {
				r.writeCandidate(b, i, c)
			}
		}
	}
}

func outcomeText(s ReportStep) string {
	switch {
	case s.Outcome == "answer" && s.Question == "bind":
		return "ok"
	case s.Outcome == "answer":
		return fmt.Sprintf("%d found", s.Answers)
	case s.Outcome == "not_asked":
		return "not asked"
	}
	return s.Outcome
}

// writeCandidate shows the certificate, then each check that says something, then the names of those that passed in silence.
func (r Report) writeCandidate(b *bytes.Buffer, i int, c ReportCandidate) {
	subject := printable(c.Subject)
	if c.Subject == "" {
		subject = "no subject"
	}
	fmt.Fprintf(b, " │    ├ #%d X.509 %d B  %s  %s\n", i+1, c.Size, subject, c.mark())
	fmt.Fprintf(b, " │    │    sha256 %s\n", c.SHA256)
	var silent []string
	for _, name := range trust.CheckNames() {
		check, there := c.Checks[name]
		switch {
		case !there: // a report from elsewhere
			continue
		case check.State == "pass" && check.Detail == "":
			silent = append(silent, name)
			continue
		}
		fmt.Fprintf(b, " │    │    %-8s %-20s %s (%s)\n", checkMark(check.State), name, printable(check.Detail), check.Citation)
	}
	if len(silent) > 0 {
		fmt.Fprintf(b, " │    │    %-8s %s\n", checkMark("pass"), strings.Join(silent, ", "))
	}
}

// mark is the verdict on one certificate in a few words.
func (c ReportCandidate) mark() string {
	if c.Usable {
		return "✓ usable"
	}
	for _, name := range trust.CheckNames() {
		if check := c.Checks[name]; check.State == "fail" || check.State == "undetermined" {
			return "✗ " + name + ": " + printable(check.Detail)
		}
	}
	return "✗"
}

func checkMark(state string) string {
	switch state {
	case "pass":
		return "✓ ok"
	case "fail":
		return "✗ FAIL"
	case "undetermined":
		return "? open"
	}
	return "- " + state
}

func (r Report) writePath(b *bytes.Buffer) {
	if len(r.Chain) == 0 {
		return
	}
	b.WriteString(" ├─ path\n")
	for i, c := range r.Chain {
		fmt.Fprintf(b, " │    %s%s", strings.Repeat("  ", i), printable(c.Subject))
		if r.Anchor != nil && i == len(r.Chain)-1 {
			b.WriteString("  ◀ TRUST ANCHOR")
		}
		b.WriteByte('\n')
	}
}

// writeTime says where the time went.
func (r Report) writeTime(b *bytes.Buffer) {
	spent := map[string]float64{}
	for _, s := range r.Steps {
		spent[s.Kind] += s.RTTMS
	}
	fmt.Fprintf(b, " └─ time  DNS %.1f ms  LDAP %.1f ms  total %.1f ms\n", spent["dns"], spent["ldap"], r.TimingMS)
}

func (r Report) hint() string {
	switch {
	case r.Verdict == "untrusted" && !r.AnchorsKnown:
		return "No trust anchors were given: name them with --anchor FILE."
	case r.Verdict == "temporary":
		return "Nothing is known about this address now; ask again later."
	}
	return ""
}

// printable replaces control characters, so that nothing in a certificate or a server's answer can steer a terminal.
func printable(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c >= 0x7f && c < 0xa0 || c >= 0x202a && c <= 0x202e || c >= 0x2066 && c <= 0x2069 {
			return '\uFFFD'
		}
		return c
	}, s)
}
