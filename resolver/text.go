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
		if why := r.whyNot(); why != "" {
			fmt.Fprintf(&b, "   why not others: %s\n", why)
		}
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
		branch := "├─"
		if s.Parent > 0 {
			branch = "│  └─"
		}
		fmt.Fprintf(b, " %s %d %-4s %s", branch, s.N, strings.ToUpper(s.Kind), printable(s.Question))
		if s.Server != "" {
			fmt.Fprintf(b, "  at %s %s", printable(s.Server), s.Transport)
			if s.Cached {
				fmt.Fprintf(b, " from the cache, %.0f s old", s.AgeS)
			} else {
				fmt.Fprintf(b, " %.1f ms", s.RTTMS)
			}
		}
		if s.AD {
			b.WriteString("  AD")
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
	}
	return strings.ReplaceAll(s.Outcome, "_", " ")
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
	c.writeGrounds(b)
}

// writeGrounds shows what was fetched to judge a certificate, what its issuers say of it, and the ways up that led nowhere.
func (c ReportCandidate) writeGrounds(b *bytes.Buffer) {
	for _, f := range c.Fetches {
		fmt.Fprintf(b, " │    │    issuer of %s: %s  %s", printable(f.For), printable(f.URL), f.Outcome)
		if f.Certificates > 0 {
			fmt.Fprintf(b, ", %d certificates", f.Certificates)
		}
		if f.Detail != "" {
			fmt.Fprintf(b, ", %s", printable(f.Detail))
		}
		fmt.Fprintf(b, ", %d B%s\n", f.Octets, spent(f.TookMS, f.Cached))
	}
	for _, s := range c.Revocation {
		fmt.Fprintf(b, " │    │    revocation of %s: %s", printable(s.Subject), s.Status)
		if s.Detail != "" {
			fmt.Fprintf(b, ", %s", printable(s.Detail))
		}
		if s.Source != "" {
			fmt.Fprintf(b, " (%s", printable(s.Source))
			if s.NextUpdate != nil {
				fmt.Fprintf(b, ", counts until %s", s.NextUpdate.UTC().Format("2006-01-02 15:04"))
			}
			b.WriteString(")")
		}
		b.WriteByte('\n')
	}
	for _, p := range c.Paths {
		if !p.Chosen && len(c.Paths) > 1 {
			fmt.Fprintf(b, " │    │    not by %s: %s: %s\n", printable(strings.Join(p.Subjects, " → ")), p.Check, printable(p.Detail))
		}
	}
}

// spent says what something cost.
func spent(ms float64, cached bool) string {
	if cached {
		return ", from the cache"
	}
	return fmt.Sprintf(", %.1f ms", ms)
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

// barWidth is the number of columns for the time of a discovery.
const barWidth = 40

// writeTime says where the time went: a bar for everything that was waited for, on one scale.
func (r Report) writeTime(b *bytes.Buffer) {
	spent := map[string]float64{}
	for _, s := range r.Steps {
		spent[s.Kind] += s.RTTMS
	}
	fmt.Fprintf(b, " └─ time  DNS %.1f ms  LDAP %.1f ms  total %.1f ms\n", spent[KindDNS], spent[KindLDAP], r.TimingMS)
	for _, s := range r.Steps {
		if s.RTTMS <= 0 || r.TimingMS <= 0 {
			continue
		}
		from := min(max(int(s.StartMS/r.TimingMS*barWidth), 0), barWidth-1)
		length := min(max(int(s.RTTMS/r.TimingMS*barWidth), 1), barWidth-from)
		fmt.Fprintf(b, "      %3d %-4s |%s%s%s| %.1f + %.1f ms\n", s.N, strings.ToUpper(s.Kind),
			strings.Repeat(" ", from), strings.Repeat("█", length), strings.Repeat(" ", barWidth-from-length), s.StartMS, s.RTTMS)
	}
}

// whyNot names the certificates that were left out, each with the check that it fails.
func (r Report) whyNot() string {
	var out []string
	for i, c := range r.Candidates {
		if c.Usable {
			continue
		}
		for _, name := range trust.CheckNames() {
			if check := c.Checks[name]; check.State == "fail" || check.State == "undetermined" {
				out = append(out, fmt.Sprintf("#%d %s: %s", i+1, name, printable(check.Detail)))
				break
			}
		}
	}
	return strings.Join(out, "; ")
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
