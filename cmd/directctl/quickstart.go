package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"directnode/internal/admin"
	"directnode/internal/direct"
	"directnode/sta/smtpclient"
)

const (
	alice = "alice@a.direct.test"
	bob   = "bob@b.direct.test"

	// quickstartWait bounds every wait of the quickstart; a step takes
	// milliseconds on an idle machine.
	quickstartWait = 20 * time.Second

	// marker says that a folder was made by the quickstart and may be emptied.
	marker = ".directnode-quickstart"
)

func (t *tool) quickstart() *cobra.Command {
	var dir string
	var once bool
	cmd := &cobra.Command{
		Use: "quickstart", Short: "two nodes on loopback: a message and its processed notification", Args: cobra.NoArgs,
		Long: `quickstart makes a test CA, starts two nodes on loopback (a.direct.test publishes
by DNS, b.direct.test by LDAP), sends one message from alice to bob, waits for the
processed notification, and leaves what crossed the wire in DIR/evidence. It keeps
both nodes up until Ctrl-C, unless --once is given.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := &quickstart{tool: t, once: once, start: time.Now()}
			return q.run(cmd.Context(), dir)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "quickstart", "`FOLDER` for both nodes and the evidence; an earlier quickstart in it is replaced")
	cmd.Flags().BoolVar(&once, "once", false, "end after the notification: 0 only if both arrived and verified")
	return cmd
}

// quickstart is one run.
type quickstart struct {
	tool  *tool
	once  bool
	start time.Time
	steps []step
	world *world
	mail  sentMail
}

type step struct {
	AtMS int64  `json:"at_ms"`
	What string `json:"what"`
}

// sentMail is the message that the quickstart sends.
type sentMail struct {
	text      []byte
	messageID string
}

func (q *quickstart) run(ctx context.Context, dir string) (err error) {
	// The nodes get a signal when the thread that started them dies, so that
	// nothing stays behind whatever becomes of this process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if dir, err = prepareFolder(dir); err != nil {
		return err
	}
	if q.world, err = newWorld(dir); err != nil {
		return quickstartError("the certificates could not be made", err)
	}
	q.say("made a test CA and certificates for %s and %s", alice, bob)
	defer q.world.stop()
	for _, phase := range []func(context.Context) error{q.startNodes, q.publish, q.submit, q.await, q.collect} {
		if err := phase(ctx); err != nil {
			return err
		}
	}
	return q.end(ctx)
}

// prepareFolder makes the folder, and empties one that an earlier quickstart
// left. Anything else it does not touch.
func prepareFolder(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return "", quickstartError("the folder cannot be used", err)
	case len(entries) > 0:
		if _, err := os.Stat(filepath.Join(dir, marker)); err != nil {
			return "", quickstartError("the folder cannot be used", fmt.Errorf("%s is not empty and no earlier quickstart; give another with --dir", dir))
		}
		if err := os.RemoveAll(dir); err != nil {
			return "", quickstartError("the earlier quickstart could not be removed", err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "evidence"), 0o755); err != nil {
		return "", quickstartError("the folder cannot be made", err)
	}
	return dir, os.WriteFile(filepath.Join(dir, marker), nil, 0o644)
}

func quickstartError(what string, err error) error {
	var e *admin.Error
	if errors.As(err, &e) {
		return e
	}
	return &admin.Error{ID: "DN-QUICK-001", Code: admin.CodeFailed, What: what, Why: err.Error(), Do: "look at the nodes' logs, node-a.log and node-b.log, in the quickstart's folder"}
}

// say notes a step and prints it with its time.
func (q *quickstart) say(format string, args ...any) {
	s := step{time.Since(q.start).Milliseconds(), fmt.Sprintf(format, args...)}
	q.steps = append(q.steps, s)
	if q.tool.format == "text" {
		fmt.Fprintf(q.tool.out, "%6.2f s  %s\n", float64(s.AtMS)/1000, s.What)
	}
}

func (q *quickstart) startNodes(ctx context.Context) error {
	for _, n := range q.world.nodes() {
		if err := n.start(); err != nil {
			return quickstartError("node "+n.name+" did not start", err)
		}
	}
	for _, n := range q.world.nodes() {
		if err := n.ready(ctx); err != nil {
			return quickstartError("node "+n.name+" did not start", err)
		}
		q.say("node %s serves %s: dns %s, ldap %s, smtp %s, submission %s", n.name, n.domain, n.cfg.DNS.Listen[0], n.cfg.LDAP.Listen[0], n.cfg.SMTP.Listen[0], n.cfg.SMTP.Submission[0])
	}
	return nil
}

// publish gives both nodes their domain, anchor, certificate and key by the
// orders that an operator would give.
func (q *quickstart) publish(ctx context.Context) error {
	for _, n := range q.world.nodes() {
		var files []admin.File
		for _, name := range []string{"root.pem", n.user + ".crt.pem", n.user + ".key.pem"} {
			f, err := readFile(q.world.evidence(name))
			if err != nil {
				return err
			}
			files = append(files, f)
		}
		var d admin.Domain
		var res admin.ImportResult
		for _, order := range []struct {
			name string
			req  any
			ans  any
		}{
			{"domain.add", admin.DomainRequest{Domain: n.domain, Addresses: []string{"127.0.0.1"}}, &d},
			{"anchor.add", admin.AnchorRequest{Domain: n.domain, File: files[0], In: true, Out: true}, &res},
			{"cert.import", admin.ImportRequest{Files: files[1:], Publish: []string{n.publishes}}, &res},
		} {
			if err := n.client.Do(ctx, order.name, order.req, order.ans); err != nil {
				return quickstartError("node "+n.name+" refused "+order.name, err)
			}
			if res.Refused > 0 {
				return quickstartError("node "+n.name+" refused "+order.name, errors.New(res.Items[0].Reason))
			}
		}
		q.say("%s publishes the certificate of %s@%s by %s", n.domain, n.user, n.domain, map[string]string{"dns": "DNS", "ldap": "LDAP only"}[n.publishes])
	}
	return nil
}

func (q *quickstart) submit(ctx context.Context) error {
	q.mail = composeMail(time.Now())
	if err := os.WriteFile(q.world.evidence("submitted.eml"), q.mail.text, 0o644); err != nil {
		return quickstartError("the evidence could not be written", err)
	}
	from, _ := direct.ParseAddress(alice)
	to, _ := direct.ParseAddress(bob)
	body := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(q.mail.text)), nil }
	client := smtpclient.New(smtpclient.Options{Hostname: "quickstart.a.direct.test"})
	results := client.Submit(ctx, q.world.a.cfg.SMTP.Submission[0], from, []direct.Address{to}, body)
	if err := errors.Join(results...); err != nil {
		return quickstartError("node a did not take the message", err)
	}
	q.say("submitted a message from %s to %s: discovered by LDAP, trusted, signed, sealed, queued", alice, bob)
	return nil
}

// await waits until A counts the processed notification.
func (q *quickstart) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, quickstartWait)
	defer cancel()
	delivered := false
	for {
		if !delivered && q.state(ctx, q.world.b) == "delivered" && q.world.deliveredFile() != "" {
			delivered = true
			q.say("delivered to %s: decrypted, verified, trusted", bob)
		}
		if delivered && q.state(ctx, q.world.a) == "processed" {
			q.say("the processed notification came back, verified, and was counted")
			return nil
		}
		select {
		case <-ctx.Done():
			return quickstartError("the message did not come through", fmt.Errorf("at A it is %q, at B %q", q.state(context.Background(), q.world.a), q.state(context.Background(), q.world.b)))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (q *quickstart) state(ctx context.Context, n *node) string {
	var m admin.Message
	if err := n.client.Do(ctx, "message.show", admin.MessageQuery{ID: q.mail.messageID}, &m); err != nil || len(m.Recipients) == 0 {
		return ""
	}
	return m.Recipients[0].State
}

// collect writes the evidence and verifies it once more by itself.
func (q *quickstart) collect(context.Context) error {
	if err := q.world.collect(q.mail); err != nil {
		return quickstartError("the evidence does not hold", err)
	}
	q.say("evidence in %s: wire.eml and mdn-wire.eml as they crossed, opened and verified again", q.world.evidence(""))
	return nil
}

// end prints what to try and waits for Ctrl-C, unless --once.
func (q *quickstart) end(ctx context.Context) error {
	if q.tool.format == "json" {
		enc := json.NewEncoder(q.tool.out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(map[string]any{"dir": q.world.dir, "message_id": q.mail.messageID, "steps": q.steps, "code": 0}); err != nil {
			return err
		}
	}
	if q.once {
		return nil
	}
	if q.tool.format == "text" {
		fmt.Fprint(q.tool.out, q.world.hints())
	}
	select {
	case <-ctx.Done():
		return nil
	case n := <-q.world.died():
		return quickstartError("node "+n.name+" ended by itself", errors.New("its log says why"))
	}
}

// composeMail writes the message that alice sends.
func composeMail(at time.Time) sentMail {
	id := fmt.Sprintf("%d.quickstart@a.direct.test", at.UnixNano())
	text := "From: Alice <" + alice + ">\r\n" +
		"To: Bob <" + bob + ">\r\n" +
		"Subject: Discharge summary\r\n" +
		"Date: " + at.Format(time.RFC1123Z) + "\r\n" +
		"Message-ID: <" + id + ">\r\n" +
		"MIME-Version: 1.0\r\n" +
		"Content-Type: text/plain; charset=us-ascii\r\n" +
		"\r\n" +
		"Dear Bob,\r\n\r\nthe canary of this message is a word that must never cross in clear:\r\nzugunruhe.\r\n\r\nAlice\r\n"
	return sentMail{[]byte(text), id}
}
