package fetch_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"directnode/resolver/fetch"
)

// door opens loopback, as tests and private networks do, and resolves every name to it.
func door(change func(*fetch.Options)) *fetch.Door {
	o := fetch.Options{
		Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		Lookup: func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
		},
	}
	if change != nil {
		change(&o)
	}
	return fetch.New(o)
}

// server answers by h and counts what it was asked.
func server(t *testing.T, h http.HandlerFunc) (url string, asked *atomic.Int64) {
	t.Helper()
	asked = new(atomic.Int64)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		h(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL, asked
}

// outcome wants an *Error with this outcome.
func outcome(t *testing.T, err error, want fetch.Outcome) {
	t.Helper()
	var e *fetch.Error
	if !errors.As(err, &e) || e.Outcome != want {
		t.Errorf("error %v, want outcome %s", err, want)
	}
}

func TestWhatGoesOut(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1/")
	t.Setenv("http_proxy", "http://127.0.0.1:1/")
	var head http.Header
	url, _ := server(t, func(w http.ResponseWriter, r *http.Request) {
		head = r.Header.Clone()
		head.Set("Host", r.Host)
		w.Header().Set("Set-Cookie", "a=b")
		w.Header().Set("Content-Type", "text/html") // servers of issuers say anything
		w.Write([]byte("body"))
	})
	d := door(nil)
	for _, u := range []string{"/", "/again"} {
		body, ev, err := d.Get(t.Context(), fetch.AIA, url+u)
		if err != nil || string(body) != "body" || ev.Status != 200 || ev.Octets != 4 || ev.ContentType != "text/html" || ev.Addr != strings.TrimPrefix(url, "http://") {
			t.Fatalf("%q %+v %v", body, ev, err)
		}
	}
	for _, name := range []string{"Cookie", "Authorization", "Accept-Encoding", "Referer"} {
		if head.Get(name) != "" {
			t.Errorf("%s went out: %q", name, head.Get(name))
		}
	}
	if head.Get("User-Agent") != "directnode" {
		t.Errorf("User-Agent %q", head.Get("User-Agent"))
	}
}

// TestHostileServers: each is refused with a word that says why, in bounded time and memory.
func TestHostileServers(t *testing.T) {
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	io.CopyN(z, zeros{}, 64<<20)
	z.Close()
	for name, tc := range map[string]struct {
		kind fetch.Kind
		h    http.HandlerFunc
		want fetch.Outcome
	}{
		"announced too large": {fetch.OCSP, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "65537")
			w.Write(make([]byte, 65537))
		}, fetch.TooLarge},
		"endless": {fetch.IPKIX, func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := w.Write(make([]byte, 32<<10)); err != nil {
					return
				}
			}
		}, fetch.TooLarge},
		"gzip bomb": {fetch.AIA, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(bomb.Bytes())
		}, fetch.BadAnswer},
		"huge header": {fetch.AIA, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 32<<10))
			w.Write([]byte("x"))
		}, fetch.Unreachable},
		"many headers": {fetch.AIA, func(w http.ResponseWriter, _ *http.Request) {
			for i := range 2000 {
				w.Header().Set(fmt.Sprintf("X-%d", i), "y")
			}
		}, fetch.Unreachable},
		"redirects without end": {fetch.AIA, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path+"x", http.StatusFound) }, fetch.BadAnswer},
		"redirect to nowhere":   {fetch.AIA, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusFound) }, fetch.BadAnswer},
		"broken off": {fetch.AIA, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			w.Write([]byte("half"))
		}, fetch.Unreachable},
		"no HTTP": {fetch.AIA, func(w http.ResponseWriter, _ *http.Request) {
			c, _, _ := w.(http.Hijacker).Hijack()
			c.Write([]byte("220 mail.example.org ESMTP\r\n"))
			c.Close()
		}, fetch.Unreachable},
		"empty":       {fetch.AIA, func(http.ResponseWriter, *http.Request) {}, fetch.BadAnswer},
		"not there":   {fetch.AIA, http.NotFound, fetch.Absent},
		"wants a key": {fetch.AIA, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) }, fetch.BadAnswer},
		"overloaded":  {fetch.AIA, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, fetch.BadAnswer},
	} {
		t.Run(name, func(t *testing.T) {
			url, _ := server(t, tc.h)
			body, ev, err := door(nil).Get(t.Context(), tc.kind, url+"/")
			outcome(t, err, tc.want)
			if body != nil || ev.Outcome != tc.want {
				t.Errorf("%d octets, evidence %+v", len(body), ev)
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestDripEndsInTime: an octet a second would take years; the whole fetch has its time.
func TestDripEndsInTime(t *testing.T) {
	url, _ := server(t, func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			w.Write([]byte("x"))
			w.(http.Flusher).Flush()
			time.Sleep(10 * time.Millisecond)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, _, err := door(nil).Get(ctx, fetch.AIA, url)
	outcome(t, err, fetch.TimedOut)
}

func TestPost(t *testing.T) {
	url, _ := server(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/kept":
			http.Redirect(w, r, "/", http.StatusTemporaryRedirect)
		case "/turned":
			http.Redirect(w, r, "/", http.StatusFound)
		default:
			body, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %s %s", r.Method, r.Header.Get("Content-Type"), body)
		}
	})
	d := door(nil)
	for _, path := range []string{"/", "/kept"} {
		got, _, err := d.Post(t.Context(), fetch.OCSP, url+path, "application/ocsp-request", []byte("question"))
		if err != nil || string(got) != "POST application/ocsp-request question" {
			t.Errorf("%s: %q %v", path, got, err)
		}
	}
	_, _, err := d.Post(t.Context(), fetch.OCSP, url+"/turned", "application/ocsp-request", []byte("question"))
	outcome(t, err, fetch.BadAnswer)
}

// TestOneQuestionForAll: a message to a thousand recipients of one issuer asks for its certificate once.
func TestOneQuestionForAll(t *testing.T) {
	gate := make(chan struct{})
	url, asked := server(t, func(w http.ResponseWriter, _ *http.Request) {
		<-gate
		w.Write([]byte("certificate"))
	})
	d := door(nil)
	var g sync.WaitGroup
	for range 50 {
		g.Go(func() {
			if body, _, err := d.Get(t.Context(), fetch.AIA, url); err != nil || string(body) != "certificate" {
				t.Errorf("%q %v", body, err)
			}
		})
	}
	close(gate)
	g.Wait()
	if asked.Load() != 1 {
		t.Errorf("asked %d times", asked.Load())
	}
	if n := d.Counts()[fetch.AIA]; n[fetch.OK] != 1 || n[fetch.OK]+n[fetch.Cached] < 50 {
		t.Errorf("counts %v", n)
	}
}

// TestWhoWaitsIsNotLostWithTheLeader: the first who asks gives up, and the others still get their answer.
func TestWhoWaitsIsNotLostWithTheLeader(t *testing.T) {
	first := make(chan struct{})
	var asked atomic.Int64
	url, _ := server(t, func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 {
			close(first)
			<-r.Context().Done()
			return
		}
		w.Write([]byte("x"))
	})
	d := door(nil)
	ctx, cancel := context.WithCancel(t.Context())
	leader := make(chan error, 1)
	go func() {
		_, _, err := d.Get(ctx, fetch.AIA, url)
		leader <- err
	}()
	<-first
	waiter := make(chan error, 1)
	go func() {
		_, _, err := d.Get(t.Context(), fetch.AIA, url)
		waiter <- err
	}()
	cancel()
	if err := <-leader; err == nil {
		t.Error("the leader was not cancelled")
	}
	if err := <-waiter; err != nil {
		t.Error(err)
	}
}

// TestFailuresAreRemembered, and for the kind that keeps nothing else they are too.
func TestFailuresAreRemembered(t *testing.T) {
	url, asked := server(t, http.NotFound)
	d := door(nil)
	for range 5 {
		_, _, err := d.Get(t.Context(), fetch.IPKIX, url)
		outcome(t, err, fetch.Absent)
	}
	if asked.Load() != 1 {
		t.Errorf("asked %d times", asked.Load())
	}
}

func TestBudget(t *testing.T) {
	url, asked := server(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/r" {
			http.Redirect(w, r, "/end", http.StatusFound)
			return
		}
		w.Write([]byte("x"))
	})
	d := door(nil)
	ctx := fetch.WithBudget(t.Context(), 3)
	for i, want := range []bool{true, true, true, false, false} {
		_, _, err := d.Get(ctx, fetch.AIA, fmt.Sprintf("%s/%d", url, i))
		if (err == nil) != want {
			t.Errorf("%d: %v", i, err)
		}
	}
	if _, _, err := d.Get(ctx, fetch.AIA, url+"/0"); err != nil {
		t.Errorf("what is cached costs nothing: %v", err)
	}
	_, _, err := d.Get(fetch.WithBudget(t.Context(), 1), fetch.AIA, url+"/r")
	outcome(t, err, fetch.Budget)
	if _, _, err := d.Get(t.Context(), fetch.AIA, url+"/r"); err != nil {
		t.Errorf("somebody else's budget was remembered: %v", err)
	}
	if asked.Load() != 6 {
		t.Errorf("asked %d times", asked.Load())
	}
}

// TestHostThatIsDownIsLeftAlone, and asked again later.
func TestHostThatIsDownIsLeftAlone(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	synctest.Test(t, func(t *testing.T) {
		d := door(nil)
		for i, want := range []fetch.Outcome{fetch.Unreachable, fetch.Unreachable, fetch.Unreachable, fetch.Backoff, fetch.Backoff} {
			_, _, err := d.Get(t.Context(), fetch.AIA, fmt.Sprintf("http://pki.example.org:%s/%d", addr[strings.LastIndex(addr, ":")+1:], i))
			outcome(t, err, want)
		}
		time.Sleep(31 * time.Second)
		_, _, err := d.Get(t.Context(), fetch.AIA, fmt.Sprintf("http://pki.example.org:%s/later", addr[strings.LastIndex(addr, ":")+1:]))
		outcome(t, err, fetch.Unreachable)
	})
}

// TestListenersOfOurOwnStayClosed, whatever the operator opens.
func TestListenersOfOurOwnStayClosed(t *testing.T) {
	url, asked := server(t, func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("x")) })
	port := netip.MustParseAddrPort(strings.TrimPrefix(url, "http://")).Port()
	for _, own := range []string{"127.0.0.1", "0.0.0.0", "::"} {
		d := door(func(o *fetch.Options) { o.Own = []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr(own), port)} })
		_, _, err := d.Get(t.Context(), fetch.AIA, url)
		outcome(t, err, fetch.Refused)
	}
	d := door(func(o *fetch.Options) {
		o.Own = []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), port)}
	})
	if _, _, err := d.Get(t.Context(), fetch.AIA, url); err != nil || asked.Load() != 1 {
		t.Errorf("%v, asked %d", err, asked.Load())
	}
}

func TestHTTPS(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/down" {
			http.Redirect(w, r, "http://example.com/", http.StatusFound)
			return
		}
		w.Write([]byte(r.Proto))
	}))
	defer s.Close()
	url := "https://example.com" + s.URL[strings.LastIndex(s.URL, ":"):]
	roots := s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	d := door(func(o *fetch.Options) { o.Roots = roots })
	if body, _, err := d.Get(t.Context(), fetch.Bundle, url); err != nil || string(body) != "HTTP/1.1" {
		t.Errorf("%q %v", body, err)
	}
	_, _, err := d.Get(t.Context(), fetch.Bundle, url+"/down")
	outcome(t, err, fetch.Refused)
	_, _, err = d.Get(t.Context(), fetch.CRL, url) // RFC 5280 §8: a list must not be needed to fetch a list
	outcome(t, err, fetch.Refused)
	_, _, err = door(nil).Get(t.Context(), fetch.Bundle, url) // another root
	outcome(t, err, fetch.Unreachable)
	_, _, err = d.Get(t.Context(), fetch.Bundle, strings.Replace(url, "example.com", "example.net", 1)) // another name
	outcome(t, err, fetch.Unreachable)
}

// TestSaveStreams: what is large goes where the caller wants it.
func TestSaveStreams(t *testing.T) {
	url, _ := server(t, func(w http.ResponseWriter, _ *http.Request) {
		for range 64 {
			w.Write(make([]byte, 64<<10))
		}
	})
	var n counter
	ev, err := door(nil).Save(t.Context(), fetch.CRL, url, &n)
	if err != nil || n != 4<<20 || ev.Octets != 4<<20 {
		t.Errorf("%d octets, %+v, %v", n, ev, err)
	}
	full := errors.New("no space")
	if _, err := door(nil).Save(t.Context(), fetch.CRL, url, failing{full}); !errors.Is(err, full) {
		t.Errorf("%v", err)
	}
}

type counter int64

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// TestTheCacheIsBounded: URLs are chosen by strangers.
func TestTheCacheIsBounded(t *testing.T) {
	url, asked := server(t, func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 512<<10)) })
	d := door(nil)
	get := func(i int) {
		t.Helper()
		if _, _, err := d.Get(t.Context(), fetch.AIA, fmt.Sprintf("%s/%d", url, i)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 64 { // 32 MiB into 16
		get(i)
	}
	before := asked.Load()
	get(63)
	if asked.Load() != before {
		t.Error("the newest is gone")
	}
	get(0)
	if asked.Load() != before+1 {
		t.Error("the oldest is still there")
	}
}

func FuzzURL(f *testing.F) {
	for _, r := range []string{"http://8.8.8.8/x", "http://a.example.org:80/", "http://[::1]/", "http://127.1/", "https://x.y/", "http://u@h.example/", "http://h.example./#f"} {
		f.Add(r)
	}
	f.Fuzz(func(t *testing.T, url string) {
		asked := ""
		d := fetch.New(fetch.Options{HTTPS: true, Lookup: func(_ context.Context, host string) ([]netip.Addr, error) {
			asked = host
			return []netip.Addr{netip.MustParseAddr("10.0.0.1")}, nil
		}})
		// A literal address of the public internet would be asked for real.
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, _, err := d.Get(ctx, fetch.AIA, url)
		if err == nil {
			t.Fatal("something was fetched")
		}
		if asked != "" && (asked != strings.ToLower(asked) || strings.HasSuffix(asked, ".") || !strings.Contains(asked, ".") || net.ParseIP(asked) != nil) {
			t.Errorf("%q was looked up", asked)
		}
	})
}
