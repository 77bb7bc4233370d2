# The verbs of the project; each is the same in CI.

GO        ?= go
FUZZTIME  ?= 20s

# One set of flags for everything that is built, so that a package is compiled
# once for the programs, vet, staticcheck and the nodes under test.
export CGO_ENABLED ?= 0
export GOFLAGS := $(filter-out -trimpath,$(shell $(GO) env GOFLAGS)) -trimpath

.PHONY: all run test check interop fuzz crash spec bench bench-quick gobench docs clean FORCE

all: ## build bin/directd and bin/directctl
	$(GO) build -o bin/ ./cmd/directd ./cmd/directctl

run: all ## two nodes on loopback: a message and its processed notification; Ctrl-C ends them
	bin/directctl quickstart

# The race detector needs a C compiler; where there is none the suite runs without.
RACE := $(if $(shell command -v gcc || command -v clang),-race)

test: ## the whole suite, race detector on
	@[ -n "$(RACE)" ] || echo "SKIP race detector: no C compiler"
	CGO_ENABLED=$(if $(RACE),1,0) $(GO) test $(RACE) -vet=off -shuffle=on -timeout=10m ./...
	cd tools && CGO_ENABLED=$(if $(RACE),1,0) $(GO) test $(RACE) -vet=off -shuffle=on ./...

check: ## formatting, vet, staticcheck, import law, generated files current
	tools/check

interop: all ## dig, kdig, LDAP clients, slapd, openssl, swaks and others against the nodes; fails where one is absent
	DIRECTNODE_PEERS=required $(GO) test -count=1 -run '^TestInterop' -timeout=10m ./...

fuzz: ## every fuzz target for FUZZTIME (a duration, or executions: 20000x)
	FUZZTIME=$(FUZZTIME) tools/fuzz

crash: all ## kill -9 of either node at random moments while messages flow
	DIRECTNODE_CRASH=50 $(GO) test -count=1 -run '^TestCrash' -timeout=30m -v ./cmd/directd

# make bench BENCH_NAMES=1000000 for the large zone; BENCH_FLAGS as `bin/bench -h` has them.
BENCH_NAMES ?= 100000
BENCH_FLAGS ?=

bench: all bin/bench ## directd beside NSD, Knot, BIND and slapd on this machine; writes docs/PERFORMANCE.md
	bin/bench -names $(BENCH_NAMES) -o docs/PERFORMANCE.md $(BENCH_FLAGS)

bench-quick: all bin/bench ## a minute of the same with 1,000 names: shows that it works, measures nothing
	bin/bench -quick

bin/bench: FORCE
	cd tools && $(GO) build -o ../bin/bench ./bench
FORCE:

gobench: ## the benchmarks of every package
	$(GO) test -run '^$$' -bench . -benchmem ./...

spec: ## run the tests and write docs/CONFORMANCE.md
	tools/spec

docs: all ## write the man pages and shell completions
	$(GO) run -tags manual ./cmd/directctl docs docs/man
	bin/directd --man docs/man

clean: ## remove what was built
	rm -rf bin
