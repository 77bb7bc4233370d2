package main

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/jimlambrt/gldap"
)

const (
	// gldapMode is the argument that makes this program a directory server.
	gldapMode   = "gldap-server"
	gldapModule = "github.com/jimlambrt/gldap"
)

// moduleVersion is that of a library in this program.
func moduleVersion(module string) (string, error) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "", errors.New("the program does not know what it was built of")
	}
	for _, m := range info.Deps {
		if m.Path == module {
			return module + " " + m.Version, nil
		}
	}
	return "", fmt.Errorf("%s is not in this program", module)
}

// person is an entry of the plain server.
type person struct {
	dn   string
	cert []byte
}

// serveGldap answers for ever.
func serveGldap(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("%s ADDRESS POOL NAMES", gldapMode)
	}
	raw, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	p, err := parsePool(raw)
	if err != nil {
		return err
	}
	names, err := strconv.Atoi(args[2])
	if err != nil || names < 1 || names > maxNames {
		return fmt.Errorf("names %q", args[2])
	}
	s, err := gldapOf(p, names)
	if err != nil {
		return err
	}
	return s.Run(args[0])
}

// gldapOf makes a server as the library's own examples have it.
func gldapOf(p *pool, names int) (*gldap.Server, error) {
	people := make(map[string]person, names)
	for i := range names {
		people[mailOf(i)] = person{dn: "uid=" + localPart(i) + "," + directoryBase, cert: p.certificate(i, 0)}
	}
	routes, err := gldap.NewMux()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(routes.Bind(gldapBind), routes.Search(gldapSearch(people))); err != nil {
		return nil, err
	}
	s, err := gldap.NewServer()
	if err != nil {
		return nil, err
	}
	return s, s.Router(routes)
}

func gldapBind(w *gldap.ResponseWriter, r *gldap.Request) {
	_ = w.Write(r.NewBindResponse(gldap.WithResponseCode(gldap.ResultSuccess))) // the client sees what is missing
}

func gldapSearch(people map[string]person) gldap.HandlerFunc {
	return func(w *gldap.ResponseWriter, r *gldap.Request) {
		done := r.NewSearchDoneResponse(gldap.WithResponseCode(gldap.ResultSuccess))
		defer func() { _ = w.Write(done) }() // as above
		m, err := r.GetSearchMessage()
		if err != nil {
			done.SetResultCode(gldap.ResultOperationsError)
			return
		}
		mail, ok := strings.CutPrefix(m.Filter, "(mail=")
		if !ok {
			done.SetResultCode(gldap.ResultUnwillingToPerform)
			return
		}
		found, ok := people[strings.ToLower(strings.TrimSuffix(mail, ")"))]
		if !ok {
			return
		}
		_ = w.Write(r.NewSearchResponseEntry(found.dn, gldap.WithAttributes(map[string][]string{certificateType: {string(found.cert)}}))) // as above
	}
}
