package main

// reference says what a target is held against.
type reference uint8

const (
	noTarget   reference = iota
	knotAlone            // Knot's figure
	betterPeer           // the lower of Knot's and NSD's
	slapdAlone           // slapd's figure
)

// measurement is one row of the table.
type measurement struct {
	key, title string
	load       load
	ask        question
	echo       int // length of the echo's answer; 0: the case has no echo
	target     float64
	against    reference
}

// What is asked and right.
var (
	askCert = question{qtype: typeCERT, edns: 4096, label: "u%07d", want: want{answers: 1, size: 1000}}
	askCut  = question{qtype: typeCERT, edns: 1232, label: "u%07d", want: want{tc: true}}
	askNone = question{qtype: typeCERT, edns: 1232, label: "x%07d", want: want{rcode: rcodeNXDomain}}
	askMX   = question{qtype: typeMX, edns: 1232, want: want{answers: 1}}

	askDirectory = question{ldap: true}
)

// How it is asked. 96 outstanding keep a server busy without filling a socket's
// queue.
var (
	byUDP       = load{over: overUDP, window: 96}
	byPipeline  = load{over: overTCP, conns: 20, window: 8}
	byTurns     = load{over: overTCP, conns: 50, window: 1}
	byConnector = load{over: perConnection, conns: 20, window: 1}

	// A directory's clients are mail servers, which keep few connections.
	keptSearch = load{over: overTCP, conns: 20, window: 1}
)

const smallAnswer = 100 // octets: an NXDOMAIN with its SOA

// measurements are all rows, in the order of the report.
func measurements(certOctets int) []measurement {
	whole := certOctets + 65 // header, question, record header and OPT around the certificate
	return []measurement{
		{"cert", "UDP CERT", byUDP, askCert, whole, 0.75, knotAlone},
		{"tc", "UDP CERT, TC=1", byUDP, askCut, smallAnswer, 0.85, betterPeer},
		{"nx", "UDP NXDOMAIN", byUDP, askNone, smallAnswer, 0.85, betterPeer},
		{"mx", "UDP MX", byUDP, askMX, smallAnswer, 0.85, betterPeer},
		{"tcp8", "TCP CERT, 8 pipelined on 20 connections", byPipeline, askCert, 0, 0.25, knotAlone},
		{"tcp1", "TCP CERT, 1 outstanding on 50 connections", byTurns, askCert, 0, 0.75, knotAlone},
		{"connect", "TCP CERT, a connection for each query", byConnector, askCert, 0, 1.05, knotAlone},
	}
}

// directoryMeasurements are all rows about LDAP.
func directoryMeasurements() []measurement {
	return []measurement{
		{"ldap", "search, 1 outstanding on 20 connections", keptSearch, askDirectory, 0, 0.35, slapdAlone},
		{"ldap8", "search, 8 pipelined on 20 connections", byPipeline, askDirectory, 0, 0.12, slapdAlone},
		{"ldapconnect", "connect, bind, search, unbind", byConnector, askDirectory, 0, 0.40, slapdAlone},
	}
}

// Cases beside those of a query.
const (
	caseStart  = "start"  // from exec to the first right answer, and memory
	caseImport = "import" // of many certificates
	caseChange = "change" // of one certificate, under load
	caseSigned = "signed" // answers with signatures beside answers without

	caseGoLDAP = "goldap"   // the go-ldap client end to end
	caseSlow   = "ldapslow" // searches among thousands of connections that do next to nothing
	caseMemory = "ldapmem"  // of the directories
)

func dnsCases() []string {
	keys := []string{caseStart, caseImport, caseChange, caseSigned}
	for _, m := range measurements(0) {
		keys = append(keys, m.key)
	}
	return keys
}

func directoryCases() []string {
	var keys []string
	for _, m := range directoryMeasurements() {
		keys = append(keys, m.key)
	}
	return append(keys, caseGoLDAP, caseSlow, caseMemory)
}

func allCases() []string { return append(dnsCases(), directoryCases()...) }

// manyNames is where a zone is large.
const manyNames = 500_000

// autoCases are those that the claims for a size are about.
func autoCases(names int) []string {
	if names >= manyNames {
		return []string{caseStart, caseImport, "cert", caseChange, caseMemory, "ldap"}
	}
	return append([]string{"cert", "tc", "nx", "mx", "tcp8", "tcp1", "connect", caseSigned}, directoryCases()...)
}
