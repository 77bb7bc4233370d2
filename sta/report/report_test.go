package report_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"directnode/internal/direct"
	"directnode/internal/mail"
	"directnode/internal/spec"
	"directnode/sta/report"
)

var update = flag.Bool("update", false, "write testdata/*/want anew")

func address(t *testing.T, s string) direct.Address {
	t.Helper()
	if s == "" {
		return direct.Address{}
	}
	a, err := direct.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// facts is a report to compose, as it stands in testdata/compose/*/in.
type facts struct {
	Kind, Disposition, From, To, FinalRecipient, OriginalRecipient string
	OriginalMessageID, ReportingUA, ReportingMTA, MessageID        string
	Failure, Error                                                 string
	FinalDestination                                               bool
	At, Arrival                                                    time.Time
	Failures                                                       []struct{ Recipient, Status, Reason, Remedy, Diagnostic string }
}

func (f facts) compose(t *testing.T) ([]byte, error) {
	t.Helper()
	if f.Kind == report.KindMDN {
		return report.MDN{
			Disposition: f.Disposition, From: address(t, f.From), To: address(t, f.To), FinalRecipient: address(t, f.FinalRecipient),
			OriginalRecipient: address(t, f.OriginalRecipient), OriginalMessageID: f.OriginalMessageID, ReportingUA: f.ReportingUA, MessageID: f.MessageID,
			At: f.At, Failure: f.Failure, Error: f.Error, FinalDestination: f.FinalDestination,
		}.Compose()
	}
	d := report.DSN{From: address(t, f.From), To: address(t, f.To), ReportingMTA: f.ReportingMTA, OriginalMessageID: f.OriginalMessageID, MessageID: f.MessageID, At: f.At, Arrival: f.Arrival}
	for _, x := range f.Failures {
		d.Failures = append(d.Failures, report.Failure{Recipient: address(t, x.Recipient), Status: x.Status, Reason: x.Reason, Remedy: x.Remedy, Diagnostic: x.Diagnostic})
	}
	return d.Compose()
}

// view is a Notification with its addresses as text, as it stands in testdata/parse/*/want.
type view struct {
	Error             string   `json:",omitempty"`
	Kind              string   `json:",omitempty"`
	MessageID         string   `json:",omitempty"`
	OriginalMessageID string   `json:",omitempty"`
	Recipient         string   `json:",omitempty"`
	Disposition       string   `json:",omitempty"`
	Modifiers         []string `json:",omitempty"`
	Action, Status    string   `json:",omitempty"`
	Reason            string   `json:",omitempty"`
	Reporter          string   `json:",omitempty"`
	FinalDestination  bool     `json:",omitempty"`
	Recipients        []string `json:",omitempty"`
	Oddities          []string `json:",omitempty"`
}

func viewOf(n report.Notification, err error) view {
	if err != nil {
		return view{Error: err.Error()}
	}
	v := view{
		Kind: n.Kind, MessageID: n.MessageID, OriginalMessageID: n.OriginalMessageID, Recipient: n.Recipient.String(), Disposition: n.Disposition, Modifiers: n.Modifiers,
		Action: n.Action, Status: n.Status, Reason: n.Reason, Reporter: n.Reporter, FinalDestination: n.FinalDestination, Oddities: n.Oddities,
	}
	for _, r := range n.Recipients {
		v.Recipients = append(v.Recipients, strings.Join([]string{r.Address.String(), r.Action, r.Status, r.Disposition, r.Reason}, " | "))
	}
	return v
}

// golden runs make on testdata/<folder>/*/in and compares with want.
func golden(t *testing.T, folder string, make func(*testing.T, []byte) []byte) {
	dirs, err := filepath.Glob(filepath.Join("testdata", folder, "*"))
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no folders: %v", err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			in, err := os.ReadFile(filepath.Join(dir, "in"))
			if err != nil {
				t.Fatal(err)
			}
			got := make(t, in)
			wantFile := filepath.Join(dir, "want")
			if *update {
				if err := os.WriteFile(wantFile, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(wantFile)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestComposedReportsAreTheGoldenOnes(t *testing.T) {
	spec.Covers(t, "AS-3.0-a", "AS-3.0-b", "AS-3.0-c", "AS-3.1.2-a", "AS-3.1.2-b", "AS-3.3-c", "AS-3.3-d")
	golden(t, "compose", func(t *testing.T, in []byte) []byte {
		var f facts
		if err := json.Unmarshal(in, &f); err != nil {
			t.Fatal(err)
		}
		out, err := f.compose(t)
		if err != nil {
			t.Fatal(err)
		}
		checkReport(t, out)
		return out
	})
}

func TestOddReportsAreUnderstood(t *testing.T) {
	spec.Covers(t, "AS-3.1.1-a", "AS-3.1.2-c")
	golden(t, "parse", func(t *testing.T, in []byte) []byte {
		out, err := json.MarshalIndent(viewOf(report.Parse(in)), "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		return append(out, '\n')
	})
}

// checkReport holds a composed report against what every report must be.
func checkReport(t *testing.T, out []byte) mail.Header {
	t.Helper()
	if traits := mail.TraitsOf(out); traits != (mail.Traits{}) {
		t.Errorf("not 7-bit lines with CRLF: %+v", traits)
	}
	if err := mail.CheckStructure(out); err != nil {
		t.Error(err)
	}
	h, body, err := mail.Split(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"From", "To", "Date", "Message-ID", "Subject", "MIME-Version", "Content-Type"} {
		if len(h.All(name)) != 1 || h.Get(name) == "" {
			t.Errorf("%d fields %s", len(h.All(name)), name)
		}
	}
	if h.Has("Disposition-Notification-To") || h.Has("Bcc") {
		t.Error("a report asks for a report, or has a blind copy")
	}
	if !report.IsReport(h) {
		t.Error("not recognized as a report")
	}
	_, params, err := h.ContentType()
	if err != nil {
		t.Fatal(err)
	}
	parts, err := mail.SplitMultipart(body, params["boundary"], mail.Limits{})
	if err != nil || len(parts) != 2 {
		t.Fatalf("%d parts, %v", len(parts), err)
	}
	if mediaType, _, err := parts[0].Header.ContentType(); err != nil || mediaType != "text/plain" {
		t.Errorf("part 1 is %s, %v", mediaType, err)
	}
	if mediaType, _, err := parts[1].Header.ContentType(); err != nil || mediaType != "message/"+params["report-type"] {
		t.Errorf("part 2 is %s, %v", mediaType, err)
	}
	n, err := report.Parse(out)
	if err != nil || len(n.Oddities) > 0 {
		t.Errorf("our own report is odd: %q, %v", n.Oddities, err)
	}
	return h
}

func TestMDNSaysWhatItWasGiven(t *testing.T) {
	spec.Covers(t, "AS-3.1.1-g")
	for _, disposition := range []string{report.Processed, report.Dispatched, report.Displayed, report.Failed} {
		m := example(t)
		m.Disposition = disposition
		m.FinalDestination = disposition == report.Dispatched
		out, err := m.Compose()
		if err != nil {
			t.Fatal(err)
		}
		h := checkReport(t, out)
		if h.Get("From") != "bob@b.example" || h.Get("To") != "ann@a.example" || h.Get("In-Reply-To") != "<original@a.example>" {
			t.Errorf("header %q", h)
		}
		if !bytes.Contains(out, []byte("\r\nDisposition: automatic-action/MDN-sent-automatically; "+disposition+"\r\n")) {
			t.Errorf("no line of the exact form for %s in\n%s", disposition, out)
		}
		n, err := report.Parse(out)
		if err != nil || n.Disposition != disposition || n.OriginalMessageID != "original@a.example" || !n.Recipient.Equal(m.From) || n.FinalDestination != m.FinalDestination || n.MessageID != "mdn@b.example" {
			t.Errorf("%s: came back as %+v, %v", disposition, n, err)
		}
	}
}

func example(t *testing.T) report.MDN {
	return report.MDN{
		Disposition: report.Processed, From: address(t, "bob@b.example"), To: address(t, "ann@a.example"), OriginalMessageID: "<original@a.example>",
		ReportingUA: "node.b.example", MessageID: "<mdn@b.example>", At: time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC),
	}
}

// awkward are explanations that would break a careless composer.
var awkward = []string{
	"one line", "LF\nbetween", "CR\rbetween", "CRLF\r\nbetween", "tab\tbetween\x00", "an 8-bit é and a bad \xff octet", "dot\r\n.\r\nalone", "injected\r\nBcc: mallory@m.example\r\n\r\n--dn-",
	"(open", "shut)", `back\slash`, "=?utf-8?q?not_encoded", strings.Repeat("five thousand characters ", 200), strings.Repeat("é", 2500), strings.Repeat("x", 5000),
}

func normal(s string) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "?"), "\x00", " ")
	return strings.Join(strings.Fields(s), " ")
}

func TestExplanationsFoldAndComeBack(t *testing.T) {
	spec.Covers(t, "AS-3.1.1-d", "AS-3.1.1-e", "AS-3.1.1-f", "AS-3.3-f")
	for _, text := range awkward {
		m := example(t)
		m.Disposition, m.Error = report.Failed, text
		withError, err := m.Compose()
		if err != nil {
			t.Fatalf("%.20q: %v", text, err)
		}
		if !bytes.Contains(withError, []byte("; failed/error\r\nError: ")) {
			t.Errorf("%.20q: the modifier error without its field", text)
		}
		m.Failure, m.Error = text, ""
		withFailure, err := m.Compose()
		if err != nil {
			t.Fatalf("%.20q: %v", text, err)
		}
		d := report.DSN{To: m.To, ReportingMTA: "node.a.example", OriginalMessageID: "<o@a.example>", MessageID: "<d@a.example>", At: m.At,
			Failures: []report.Failure{{Recipient: m.From, Status: "5.2.2", Reason: text}}}
		withComment, err := d.Compose()
		if err != nil {
			t.Fatalf("%.20q: %v", text, err)
		}
		for form, out := range map[string][]byte{"Error": withError, "Failure": withFailure, "Status": withComment} {
			if mail.TraitsOf(out) != (mail.Traits{}) || bytes.Contains(out, []byte("\nBcc:")) {
				t.Errorf("%s of %.20q: not clean:\n%s", form, text, out)
			}
			n, err := report.Parse(out)
			want := normal(text)
			got := n.Reason
			if len(want) > 2000 {
				want, got = strings.ReplaceAll(want, " ", "")[:1500], strings.ReplaceAll(got, " ", "")[:1500]
			}
			if err != nil || got != want || n.Disposition != report.Failed || !n.Recipient.Equal(m.From) {
				t.Errorf("%s of %.20q came back as %.60q (%s, %s), %v", form, text, got, n.Disposition, n.Recipient, err)
			}
		}
	}
}

func TestComposeRefusesWhatIsNoReport(t *testing.T) {
	for name, change := range map[string]func(*report.MDN){
		"no disposition":      func(m *report.MDN) { m.Disposition = "" },
		"read-only type":      func(m *report.MDN) { m.Disposition = report.Denied },
		"injected type":       func(m *report.MDN) { m.Disposition = "processed\r\nBcc: x@y.example" },
		"no From":             func(m *report.MDN) { m.From = direct.Address{} },
		"no To":               func(m *report.MDN) { m.To = direct.Address{} },
		"no Message-ID":       func(m *report.MDN) { m.MessageID = "" },
		"injected Message-ID": func(m *report.MDN) { m.MessageID = "<a@b>\r\nBcc: x@y.example" },
	} {
		m := example(t)
		change(&m)
		if out, err := m.Compose(); err == nil && bytes.Contains(out, []byte("Bcc")) || err == nil && name != "injected Message-ID" {
			t.Errorf("%s: composed\n%s", name, out)
		}
	}
	good := report.Failure{Recipient: address(t, "bob@b.example"), Status: "4.4.7"}
	for name, d := range map[string]report.DSN{
		"no To":         {MessageID: "<a@b>", Failures: []report.Failure{good}},
		"no Message-ID": {To: good.Recipient, Failures: []report.Failure{good}},
		"nothing":       {To: good.Recipient, MessageID: "<a@b>"},
		"no recipient":  {To: good.Recipient, MessageID: "<a@b>", Failures: []report.Failure{{Status: "5.0.0"}}},
		"success":       {To: good.Recipient, MessageID: "<a@b>", Failures: []report.Failure{{Recipient: good.Recipient, Status: "2.0.0"}}},
		"no status":     {To: good.Recipient, MessageID: "<a@b>", Failures: []report.Failure{{Recipient: good.Recipient, Status: "5.x.0"}}},
	} {
		if out, err := d.Compose(); err == nil {
			t.Errorf("DSN with %s: composed\n%s", name, out)
		}
	}
}

func TestEveryFailureHasReasonAndRemedyForPeople(t *testing.T) {
	spec.Covers(t, "AS-3.3-e")
	seen := map[string]bool{}
	for _, status := range []string{"", "5.1.1", "5.1.2", "5.2.2", "5.3.4", "4.4.7", "5.4.4", "5.6.1", "5.7.1"} {
		d := report.DSN{To: address(t, "ann@a.example"), ReportingMTA: "node.a.example", MessageID: "<d@a.example>", OriginalMessageID: "<o@a.example>",
			Failures: []report.Failure{{Recipient: address(t, "bob@b.example"), Status: status, Reason: "the reason of <" + status + ">"}}}
		out, err := d.Compose()
		if err != nil {
			t.Fatal(err)
		}
		_, text, _ := strings.Cut(string(out), "text/plain")
		text, _, _ = strings.Cut(text, "message/delivery-status")
		_, remedy, ok := strings.Cut(text, "What to do: ")
		remedy, _, _ = strings.Cut(remedy, "\r\n--")
		if !ok || !strings.Contains(text, "the reason of <"+status+">") || !strings.Contains(text, "bob@b.example") || seen[remedy] {
			t.Errorf("status %q says:\n%s", status, text)
		}
		seen[remedy] = true
	}
}

func TestComposingTwiceGivesTheSameOctets(t *testing.T) {
	a, err := example(t).Compose()
	b, err2 := example(t).Compose()
	if err != nil || err2 != nil || !bytes.Equal(a, b) {
		t.Errorf("%v, %v, equal %v", err, err2, bytes.Equal(a, b))
	}
}

func TestIsReportByTheHeaderAlone(t *testing.T) {
	spec.Covers(t, "AS-3.0-a")
	for header, want := range map[string]bool{
		"Content-Type: multipart/report; report-type=disposition-notification; boundary=b": true,
		"content-type : MULTIPART/REPORT;\r\n boundary=b; report-type=delivery-status":     true,
		"Content-Type: multipart/report (x); report-type=something-else":                   true,
		"Content-Type: multipart/report; boundary=a; boundary=b":                           true,
		"Content-Type: text/plain\r\nContent-Type: multipart/report":                       true,
		"Content-Type: message/disposition-notification":                                   true,
		"Content-Type: multipart/mixed; x=\"multipart/report\"":                            false,
		"Content-Type: application/pkcs7-mime":                                             false,
		"Subject: multipart/report":                                                        false,
	} {
		h, _, err := mail.Split([]byte(header + "\r\n\r\n"))
		if err != nil {
			t.Fatal(err)
		}
		if report.IsReport(h) != want {
			t.Errorf("IsReport(%q) = %v", header, !want)
		}
	}
}

func TestParseTellsNoReportFromABrokenOne(t *testing.T) {
	for msg, want := range map[string]error{
		"Content-Type: text/plain\r\n\r\nx":       report.ErrNotReport,
		"garbage":                                 report.ErrNotReport,
		"Content-Type: multipart/report\r\n\r\nx": report.ErrMalformed,
		"Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\n\r\ntext\r\n--b--":                     report.ErrMalformed,
		"Content-Type: message/disposition-notification\r\nContent-Transfer-Encoding: base64\r\n\r\n***": report.ErrMalformed,
		"Content-Type: message/delivery-status\r\n\r\n" + strings.Repeat("x", 512<<10+1):                 report.ErrMalformed,
		"Content-Type: message/delivery-status\r\n\r\n" + strings.Repeat("X: y\r\n", 8001):               report.ErrMalformed,
	} {
		if n, err := report.Parse([]byte(msg)); !errors.Is(err, want) {
			t.Errorf("%.60q: %+v, %v; want %v", msg, n, err, want)
		}
	}
}

// FuzzParse: whatever comes in, the facts that come out are fit for a log line
// and for the report composer.
func FuzzParse(f *testing.F) {
	dirs, err := filepath.Glob("testdata/parse/*/in")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range dirs {
		in, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(in)
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		n, err := report.Parse(msg)
		if err != nil {
			if !errors.Is(err, report.ErrNotReport) && !errors.Is(err, report.ErrMalformed) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		for _, s := range []string{n.OriginalMessageID, n.MessageID, n.Disposition, n.Reason} {
			if strings.ContainsAny(s, "\r\n\x00") || len(s) > 2000 {
				t.Fatalf("%q is not fit for a log", s)
			}
		}
		switch n.Disposition {
		case "", report.Processed, report.Dispatched, report.Displayed, report.Failed, report.Deleted, report.Denied, report.Other:
		default:
			t.Fatalf("disposition %q", n.Disposition)
		}
		if n.OriginalMessageID == "" {
			return
		}
		m := report.MDN{Disposition: report.Failed, From: mustAddress("bob@b.example"), To: mustAddress("ann@a.example"), OriginalMessageID: n.OriginalMessageID, MessageID: "<m@b.example>", Failure: n.Reason}
		out, err := m.Compose()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := report.Parse(out); err != nil || back.OriginalMessageID != n.OriginalMessageID {
			t.Fatalf("%q came back as %q, %v", n.OriginalMessageID, back.OriginalMessageID, err)
		}
	})
}

func mustAddress(s string) direct.Address {
	a, err := direct.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}
