package sta_test

import (
	"context"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"directnode/internal/direct"
	"directnode/internal/mail"
	"directnode/internal/testpki"
	"directnode/resolver/trust"
	"directnode/sta"
)

// said is what somebody who is asked for revocation says about everybody.
type said struct{ result *trust.RevocationResult }

func (s said) Status(context.Context, *x509.Certificate, *x509.Certificate, time.Time) trust.RevocationResult {
	return *s.result
}

// asking makes the world's agent ask, and gives what it is told.
func (w *world) asking(domains map[direct.Domain]trust.Policy) *trust.RevocationResult {
	r := new(trust.RevocationResult)
	w.agent = sta.New(sta.Options{Hostname: "node-b.direct.test", Policy: trust.Policy{Profile: trust.AS12, Revocation: trust.RevocationGrace}, Domains: domains, Revocation: said{r}},
		func() sta.Keys { return keys{w} }, finder{w}, queue{w}, mailbox{w}, story{w})
	return r
}

// TestASenderIsAskedFor: mail of a revoked signer is refused, that of one who cannot be asked about waits for an hour and no longer.
func TestASenderIsAskedFor(t *testing.T) {
	w := newWorld(t, trust.AS12)
	a := w.user(alice)
	w.user(bob)
	raw := w.seal(letter(alice, bob, ""), a, alice, bob)
	told := w.asking(nil)
	env := w.envelope(alice, bob)
	at := func(after time.Duration) error {
		return w.agent.Receive(context.Background(), env.ID, env, raw, testpki.Now().Add(after))
	}
	*told = trust.RevocationResult{Why: "the list cannot be fetched", Temporary: true}
	if err := at(0); err == nil || errors.Is(err, sta.ErrRefused) || w.deliveries > 0 || len(w.outcomes) > 0 {
		t.Errorf("undetermined: %v, %d deliveries, %v", err, w.deliveries, w.outcomes)
	}
	if err := at(59 * time.Minute); errors.Is(err, sta.ErrRefused) {
		t.Errorf("undetermined within the hour: %v", err)
	}
	if err := at(61 * time.Minute); !errors.Is(err, sta.ErrRefused) {
		t.Errorf("undetermined after an hour: %v", err)
	}
	*told = trust.RevocationResult{Status: trust.StatusRevoked, RevokedAt: testpki.Now()}
	if err := at(0); !errors.Is(err, sta.ErrRefused) {
		t.Errorf("revoked: %v", err)
	}
	*told = trust.RevocationResult{Status: trust.StatusGood}
	if err := at(10 * time.Minute); err != nil || w.mailbox[bob] == nil && w.deliveries == 0 && len(w.staged) == 0 {
		t.Errorf("good: %v", err)
	}
}

// TestARecipientIsAskedFor: the submitter is told to come again where that may help.
func TestARecipientIsAskedFor(t *testing.T) {
	soft, err := direct.ParseDomain("a.direct.test")
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		told    trust.RevocationResult
		domains map[direct.Domain]trust.Policy
		code    int // of the reply, 0 is accepted
	}{
		"good":                   {told: trust.RevocationResult{Status: trust.StatusGood}},
		"revoked":                {told: trust.RevocationResult{Status: trust.StatusRevoked}, code: 550},
		"cannot be learned now":  {told: trust.RevocationResult{Why: "x", Temporary: true}, code: 451},
		"cannot be learned ever": {told: trust.RevocationResult{Why: "x"}, code: 550},
		"nobody to ask":          {told: trust.RevocationResult{Why: "x", Unpublished: true}},
		"the domain is soft":     {told: trust.RevocationResult{Why: "x", Temporary: true}, domains: map[direct.Domain]trust.Policy{soft: {Revocation: trust.RevocationSoft}}},
		"soft, and revoked":      {told: trust.RevocationResult{Status: trust.StatusRevoked}, domains: map[direct.Domain]trust.Policy{soft: {Revocation: trust.RevocationSoft}}, code: 550},
		"the domain is strict":   {told: trust.RevocationResult{Why: "x", Unpublished: true}, domains: map[direct.Domain]trust.Policy{soft: {Revocation: trust.RevocationStrict}}, code: 550},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, trust.AS12)
			w.user(alice)
			w.user(bob)
			*w.asking(tc.domains) = tc.told
			_, err := w.send(w.envelope(alice, bob), letter(alice, bob, ""))
			var reply *mail.Reply
			switch {
			case tc.code == 0 && err != nil:
				t.Error(err)
			case tc.code != 0 && (!errors.As(err, &reply) || reply.Code != tc.code):
				t.Errorf("%v, want %d", err, tc.code)
			}
		})
	}
}
