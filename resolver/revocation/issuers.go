package revocation

import (
	"context"
	"crypto/x509"
	"errors"
	"strings"

	"directnode/resolver/fetch"
	"directnode/resolver/trust"
)

// Issuers fetches the certificates of issuers from where a certificate says that they are (RFC 5280 §4.2.2.1: caIssuers by HTTP; AS 4.2.2
// wants it). It implements trust.Issuers.
type Issuers struct {
	Fetch Fetcher
}

// Issuers implements trust.Issuers. The first place that gives certificates ends the search: they are one authority's, and which of them is
// of use is for trust to find out.
func (i Issuers) Issuers(ctx context.Context, cert *x509.Certificate) ([]*x509.Certificate, []trust.Fetch) {
	var fetches []trust.Fetch
	for _, url := range cert.IssuingCertificateURL {
		if scheme, _, _ := strings.Cut(strings.ToLower(url), ":"); scheme != "http" && scheme != "https" {
			continue // directories, which some authorities name beside
		}
		if len(fetches) == maxURLs || ctx.Err() != nil {
			break
		}
		certs, f := i.from(ctx, url)
		fetches = append(fetches, f)
		if len(certs) > 0 {
			return certs, fetches
		}
	}
	return nil, fetches
}

// from asks one place.
func (i Issuers) from(ctx context.Context, url string) ([]*x509.Certificate, trust.Fetch) {
	body, ev, err := i.Fetch.Get(ctx, fetch.AIA, url)
	f := trust.Fetch{URL: clip(url), Outcome: string(ev.Outcome), Detail: ev.Detail, Octets: len(body), Took: ev.Elapsed, Cached: ev.Outcome == fetch.Cached}
	if err != nil {
		var e *fetch.Error
		f.Temporary = !errors.As(err, &e) || e.Temporary()
		if f.Outcome == "" {
			f.Outcome, f.Detail = string(fetch.Refused), clip(err.Error())
		}
		return nil, f
	}
	certs, err := trust.ParseCertificates(body)
	if err != nil {
		f.Outcome, f.Detail = string(fetch.BadAnswer), clip(err.Error())
		return nil, f
	}
	f.Certificates = len(certs)
	return certs, f
}

// Certificate fetches the certificate that a CERT record points to (RFC 4398 §2.1, type IPKIX; type URI is read the same way) and gives its DER.
// What it is worth is for trust to say.
func Certificate(ctx context.Context, f Fetcher, url string) ([]byte, fetch.Evidence, error) {
	body, ev, err := f.Get(ctx, fetch.IPKIX, url)
	if err != nil {
		return nil, ev, err
	}
	certs, err := trust.ParseCertificates(body)
	if err != nil {
		ev.Outcome, ev.Detail = fetch.BadAnswer, clip(err.Error())
		return nil, ev, &fetch.Error{URL: url, Outcome: fetch.BadAnswer, Detail: clip(err.Error()), Err: err}
	}
	if len(certs) > 1 {
		ev.Detail = "several certificates; the first is taken"
	}
	return certs[0].Raw, ev, nil
}
