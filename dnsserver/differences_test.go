package dnsserver_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// difference is one kind of answer in which we differ from a peer on purpose.
// docs/DNS-DIFFERENCES.md has a section of the same name with the reason. A
// rule says as exactly as it can what the two answers look like, so that it
// hides nothing else.
type difference struct {
	name     string
	peers    string // "" = any
	explains func(q differentialQuery, ours, theirs *answerView) bool
}

// differences are tried in this order.
var differences = []difference{
	{"class-not-in", "", func(q differentialQuery, ours, _ *answerView) bool {
		return q.qclass != dns.ClassINET && ours.empty() && (ours.rcode == dns.RcodeRefused || ours.rcode == dns.RcodeBadVers)
	}},
	{"any-one-rrset", "", func(q differentialQuery, ours, theirs *answerView) bool {
		return q.qtype == dns.TypeANY && sameHead(ours, theirs) && ours.oneType() && slices.Equal(ours.ns, theirs.ns) &&
			(theirs.oneType() || subset(ours.answer, theirs.answer))
	}},
	{"any-stops-at-an-alias", "nsd knot", func(q differentialQuery, ours, theirs *answerView) bool {
		return q.qtype == dns.TypeANY && sameFlags(ours, theirs) && ours.onlyAliases() && ours.aliases() == 1 && len(ours.answer) == 2 && subset(ours.answer, theirs.answer)
	}},
	{"zones-share-no-names", "nsd", func(q differentialQuery, ours, theirs *answerView) bool {
		const glue = "ns.lower.upper.example." // stands in the zone above only
		return (strings.EqualFold(q.name, glue) || ours.leadsTo(glue)) && ours.rcode == dns.RcodeNameError && theirs.rcode == dns.RcodeSuccess &&
			sameFlags(ours, theirs) && slices.Equal(ours.answer, theirs.answer) && slices.Equal(ours.ns, theirs.ns)
	}},
	{"badvers-keeps-do", "nsd", func(q differentialQuery, ours, theirs *answerView) bool {
		return ours.rcode == dns.RcodeBadVers && theirs.rcode == dns.RcodeBadVers && ours.do && !theirs.do && ours.empty() && theirs.empty()
	}},
	{"beside-an-alias", "nsd", func(q differentialQuery, ours, theirs *answerView) bool {
		return (q.qtype == dns.TypeRRSIG || q.qtype == dns.TypeNSEC) && sameFlags(ours, theirs) && ours.rcode == dns.RcodeSuccess &&
			subset(ours.answer, theirs.answer) && theirs.goesOn(q.name, ours)
	}},
	{"broken-name-is-answered", "knot", func(q differentialQuery, ours, theirs *answerView) bool {
		return questionEnd(q.packet)-12-4 > 255 && ours.rcode == dns.RcodeFormatError && ours.empty() && theirs.silent
	}},
	{"too-long-below-a-dname", "knot", func(q differentialQuery, ours, theirs *answerView) bool {
		return ours.rcode == dns.RcodeYXDomain && theirs.rcode == dns.RcodeNameError && sameFlags(ours, theirs) && ours.onlyAliases() && slices.Equal(ours.answer, theirs.answer) && len(ours.ns) == 0
	}},
	{"one-zone-only", "knot bind", func(q differentialQuery, ours, theirs *answerView) bool {
		return sameFlags(ours, theirs) && theirs.rcode == dns.RcodeSuccess && theirs.onlyAliases() && len(theirs.ns) == 0 &&
			subset(theirs.answer, ours.answer) && ours.leavesZone()
	}},
	{"alias-chains", "", func(q differentialQuery, ours, theirs *answerView) bool {
		long, short := ours, theirs
		if subset(ours.answer, theirs.answer) {
			long, short = theirs, ours
		}
		return sameFlags(ours, theirs) && short.onlyAliases() && subset(short.answer, long.answer) && (long.aliases() >= 6 || long.circle())
	}},
}

// TestEveryDifferenceHasItsReason: the list of the test and that of the document
// are one.
func TestEveryDifferenceHasItsReason(t *testing.T) {
	b, err := os.ReadFile("../docs/DNS-DIFFERENCES.md")
	if err != nil {
		t.Fatal(err)
	}
	var written, known []string
	for line := range strings.Lines(string(b)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "## "); ok {
			written = append(written, name)
		}
	}
	for _, d := range differences {
		known = append(known, d.name)
	}
	if !slices.Equal(written, known) {
		t.Errorf("docs/DNS-DIFFERENCES.md explains %q, the test knows %q", written, known)
	}
}

// aliases counts the CNAMEs of the answer section, those that stand there twice once.
func (v *answerView) aliases() int {
	n := 0
	for _, line := range slices.Compact(slices.Clone(v.answer)) {
		if recordType(line) == "cname" {
			n++
		}
	}
	return n
}

// circle tells that each CNAME leads to another of the answer section.
func (v *answerView) circle() bool {
	for _, line := range v.answer {
		if recordType(line) == "cname" && !v.owns(strings.Split(line, "\t")[4]) {
			return false
		}
	}
	return v.aliases() > 0
}

func (v *answerView) onlyAliases() bool {
	for _, line := range v.answer {
		if t := recordType(line); t != "cname" && t != "dname" {
			return false
		}
	}
	return len(v.answer) > 0
}

// owns tells whether a record of the answer section stands at the name.
func (v *answerView) owns(name string) bool {
	return slices.ContainsFunc(v.answer, func(line string) bool {
		owner, _, _ := strings.Cut(line, "\t")
		return strings.EqualFold(owner, name)
	})
}

// goesOn tells that the answer section follows an alias from where the other,
// for the same name, stops.
func (v *answerView) goesOn(name string, other *answerView) bool {
	return slices.ContainsFunc(v.answer, func(line string) bool {
		owner, _, _ := strings.Cut(line, "\t")
		return recordType(line) == "cname" && !other.owns(owner) && (strings.EqualFold(owner, name) || other.leadsTo(owner))
	})
}

// leadsTo tells whether an alias of the answer section leads to the name.
func (v *answerView) leadsTo(name string) bool {
	return slices.ContainsFunc(v.answer, func(line string) bool {
		return recordType(line) == "cname" && strings.Split(line, "\t")[4] == name
	})
}

// leavesZone tells that an alias leads from one zone into another of the test.
func (v *answerView) leavesZone() bool {
	return slices.ContainsFunc(v.answer, func(line string) bool {
		f := strings.Split(line, "\t")
		return recordType(line) == "cname" && zoneOf(f[0]) != zoneOf(f[4]) && zoneOf(f[4]) != ""
	})
}

func zoneOf(name string) string {
	for _, origin := range []string{"lower.upper.example.", "upper.example.", "structure.example.", "diff.example.", "random.example."} {
		if dns.IsSubDomain(origin, name) {
			return origin
		}
	}
	return ""
}

// subset tells that each line of a is one of b.
func subset(a, b []string) bool {
	for _, line := range a {
		if !slices.Contains(b, line) {
			return false
		}
	}
	return true
}

// empty tells an answer without records.
func (v *answerView) empty() bool { return len(v.answer)+len(v.ns)+len(v.all) == 0 }

// sameHead tells that nothing but records differs.
func sameHead(v, w *answerView) bool {
	return !v.silent && !w.silent && v.broken+w.broken == "" && v.rcode == w.rcode && sameFlags(v, w)
}

func sameFlags(v, w *answerView) bool {
	return v.aa == w.aa && v.tc == w.tc && v.edns == w.edns && v.version == w.version && v.do == w.do && v.question == w.question
}

// recordType is the type of a record that lines wrote.
func recordType(line string) string { return strings.Split(line, "\t")[3] }

// oneType tells that the answer section is one RRset.
func (v *answerView) oneType() bool {
	for _, line := range v.answer {
		if recordType(line) != recordType(v.answer[0]) {
			return false
		}
	}
	return len(v.answer) > 0
}
