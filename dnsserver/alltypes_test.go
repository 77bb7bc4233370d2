package dnsserver_test

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// typeSamples is the RDATA of one record of every type that a zone may hold, as
// text or, where no text is agreed on, in the generic form (RFC 3597 §5).
var typeSamples = map[uint16]string{
	dns.TypeA:          "192.0.2.77",
	dns.TypeAAAA:       "2001:db8::77",
	dns.TypeAFSDB:      "1 afs.elsewhere.example.",
	dns.TypeAMTRELAY:   "10 0 1 192.0.2.7",
	dns.TypeAPL:        "1:192.0.2.0/24 !2:2001:db8::/32",
	dns.TypeAVC:        `"app-name:x|app-class:y"`,
	dns.TypeCAA:        `0 issue "ca.example"`,
	dns.TypeCDNSKEY:    "257 3 13 mdsswUyr3DPW132mOi8V9xESWE8jTo0dxCjjnopKl+GqJxpVXckHAeF+KkxLbxILfDLUT0rAK9iUzy1L53eKGQ==",
	dns.TypeCDS:        "4711 13 2 " + strings.Repeat("0c", 32),
	dns.TypeCERT:       "URI 0 0 aHR0cDovL2EuZXhhbXBsZS8=",
	dns.TypeCSYNC:      "7 3 A NS AAAA",
	dns.TypeDHCID:      "AAIBY2/AuCccgoJbsaxcQc9TUapptP69lOjxfNuVAA2kjEA=",
	dns.TypeDLV:        "4711 13 2 " + strings.Repeat("0d", 32),
	dns.TypeDNSKEY:     "256 3 13 mdsswUyr3DPW132mOi8V9xESWE8jTo0dxCjjnopKl+GqJxpVXckHAeF+KkxLbxILfDLUT0rAK9iUzy1L53eKGQ==",
	dns.TypeEID:        `\# 4 e32c6f78`,
	dns.TypeEUI48:      "00-00-5e-00-53-2a",
	dns.TypeEUI64:      "00-00-5e-ef-10-00-00-2a",
	dns.TypeGID:        `\# 4 00000064`,
	dns.TypeGPOS:       "-32.6882 116.8652 10.0",
	dns.TypeHINFO:      `"CPU" "OS"`,
	dns.TypeHIP:        "2 200100107B1A74DF365639CC39F1D578 AwEAAbdxyhNuSutc5EMzxTs9LBPCIkOFH8cIvM4p9+LrV4e19WzK00+CI6zBCQTdtWsuxKbWIy87UOoJTwkUs7lBu+Upr1gsNrut79ryra+bSRGQb1slImA8YVJyuIDsj7kwzG7jnERNqnWxZ48AWkskmdHaVDP4BcelrTI3rMXdXF5D",
	dns.TypeHTTPS:      "1 . alpn=h2 port=8443",
	dns.TypeIPSECKEY:   "10 1 2 192.0.2.38 AQNRU3mG7TVTO2BkR47usntb102uFJtugbo6BSGvgqt4AQ==",
	dns.TypeISDN:       `"150862028003217" "004"`,
	dns.TypeKEY:        "256 3 13 mdsswUyr3DPW132mOi8V9xESWE8jTo0dxCjjnopKl+GqJxpVXckHAeF+KkxLbxILfDLUT0rAK9iUzy1L53eKGQ==",
	dns.TypeKX:         "10 kx.elsewhere.example.",
	dns.TypeL32:        "10 10.1.2.0",
	dns.TypeL64:        "10 2001:0db8:1140:1000",
	dns.TypeLOC:        "52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m",
	dns.TypeLP:         "10 l64.elsewhere.example.",
	dns.TypeMB:         "mb.elsewhere.example.",
	dns.TypeMD:         "md.elsewhere.example.",
	dns.TypeMF:         "mf.elsewhere.example.",
	dns.TypeMG:         "mg.elsewhere.example.",
	dns.TypeMINFO:      "a.elsewhere.example. b.elsewhere.example.",
	dns.TypeMR:         "mr.elsewhere.example.",
	dns.TypeMX:         "10 mail.elsewhere.example.",
	dns.TypeNAPTR:      `100 10 "u" "E2U+sip" "" r.elsewhere.example.`,
	dns.TypeNID:        "10 0014:4fff:ff20:ee64",
	dns.TypeNIMLOC:     `\# 4 32250800`,
	dns.TypeNINFO:      `"zone" "status"`,
	dns.TypeNSAPPTR:    "n.elsewhere.example.",
	dns.TypeNULL:       `\# 3 010203`,
	dns.TypeOPENPGPKEY: "mQENBFVHm5sBCAAD",
	dns.TypePTR:        "p.elsewhere.example.",
	dns.TypePX:         "10 a.elsewhere.example. b.elsewhere.example.",
	dns.TypeRESINFO:    `"qnamemin" "exterr=15-17"`,
	dns.TypeRKEY:       "0 255 13 mdsswUyr3DPW132mOi8V9w==",
	dns.TypeRP:         "a.elsewhere.example. b.elsewhere.example.",
	dns.TypeRT:         "10 r.elsewhere.example.",
	dns.TypeSMIMEA:     "3 0 1 " + strings.Repeat("0e", 32),
	dns.TypeSPF:        `"v=spf1 -all"`,
	dns.TypeSRV:        "0 5 389 s.elsewhere.example.",
	dns.TypeSSHFP:      "4 2 " + strings.Repeat("0f", 32),
	dns.TypeSVCB:       "1 svc.elsewhere.example. alpn=h2",
	dns.TypeTA:         "4711 13 2 " + strings.Repeat("1a", 32),
	dns.TypeTALINK:     "a.elsewhere.example. b.elsewhere.example.",
	dns.TypeTLSA:       "3 1 1 " + strings.Repeat("1b", 32),
	dns.TypeTXT:        `"text" "of two"`,
	dns.TypeUID:        `\# 4 00000065`,
	dns.TypeUINFO:      `"a user"`,
	dns.TypeURI:        `10 1 "https://a.example/"`,
	dns.TypeX25:        "311061700956",
	dns.TypeZONEMD:     "2018031500 1 1 " + strings.Repeat("1c", 48),
}

// noSample are the types that a zone holds at certain names alone, or never.
var noSample = map[uint16]string{
	dns.TypeCNAME: "beside nothing", dns.TypeDNAME: "above nothing", dns.TypeNS: "at cuts", dns.TypeDS: "at cuts", dns.TypeSOA: "at the apex",
	dns.TypeRRSIG: "made by the signer", dns.TypeNSEC: "made by the signer", dns.TypeNSEC3: "made by the signer", dns.TypeNSEC3PARAM: "made by the signer", dns.TypeSIG: "made by the signer",
	dns.TypeNXT: "made by the signer", dns.TypeNXNAME: "made by the signer", dns.TypeOPT: "of messages", dns.TypeTSIG: "of messages", dns.TypeTKEY: "of messages", dns.TypeANY: "of questions",
}

// everyType writes a name for each type, and one with all types, in the generic
// form, which every server reads whether it knows the type or not, but for some.
func everyType(t testing.TB, b *strings.Builder, but ...uint16) {
	t.Helper()
	for _, rrtype := range slices.Sorted(maps.Keys(typeSamples)) {
		if slices.Contains(but, rrtype) {
			continue
		}
		text, err := genericSample(rrtype)
		if err != nil {
			t.Fatalf("%s: %v", dns.Type(rrtype), err)
		}
		fmt.Fprintf(b, "type%d.every TYPE%d %s\nevery TYPE%d %s\n", rrtype, rrtype, text, rrtype, text)
	}
}

func genericSample(rrtype uint16) (string, error) {
	text := typeSamples[rrtype]
	if strings.HasPrefix(text, `\#`) {
		return text, nil
	}
	rr, err := dns.NewRR(". 0 IN " + dns.Type(rrtype).String() + " " + text)
	if err != nil {
		return "", err
	}
	buf := make([]byte, 1024)
	end, err := dns.PackRR(rr, buf, 0, nil, false)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf(`\# %d %s`, end-11, hex.EncodeToString(buf[11:end])), nil
}

// TestEveryTypeIsServed: every type that the codec knows is taken as text and in
// the generic form, and answered.
func TestEveryTypeIsServed(t *testing.T) {
	for rrtype := range dns.TypeToRR {
		if _, ok := typeSamples[rrtype]; !ok && noSample[rrtype] == "" {
			t.Errorf("no sample of type %s", dns.Type(rrtype))
		}
	}
	var b strings.Builder
	b.WriteString(minimum)
	everyType(t, &b)
	for _, rrtype := range slices.Sorted(maps.Keys(typeSamples)) {
		fmt.Fprintf(&b, "text%d %s %s\n", rrtype, dns.Type(rrtype), typeSamples[rrtype])
	}
	set := oneZone(t, "types.example", b.String())
	for rrtype, text := range typeSamples {
		var rdata []string
		for _, name := range []string{fmt.Sprintf("type%d.every", rrtype), "every", fmt.Sprintf("text%d", rrtype)} {
			m := reply(t, set, ask(t, name+".types.example.", rrtype, 0), overTCP)
			if len(m.Answer) != 1 || m.Answer[0].Header().Rrtype != rrtype {
				t.Errorf("%s %s: %s", name, dns.Type(rrtype), show(m))
				continue
			}
			buf := make([]byte, 1024)
			m.Answer[0].Header().Name = "."
			end, err := dns.PackRR(m.Answer[0], buf, 0, nil, false)
			if err != nil {
				t.Error(err)
			}
			rdata = append(rdata, hex.EncodeToString(buf[11:end]))
		}
		if len(slices.Compact(rdata)) != 1 {
			t.Errorf("%s %s became %q", dns.Type(rrtype), text, rdata)
		}
	}
}
