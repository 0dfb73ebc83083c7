# Works with GNU make 3.81, which is what macOS has.

STATICCHECK = go run honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK = go run golang.org/x/vuln/cmd/govulncheck@v1.9.0
FUZZTIME ?= 30s

# The directories of all go.mod files that git tracks. Outside a clone, of all there are.
MODULES = $(patsubst %/,%,$(dir $(or \
	$(shell git ls-files go.mod '*/go.mod' 2>/dev/null), \
	$(shell find . -name go.mod -not -path '*/.*/*'))))

# The race detector needs cgo and a platform it supports.
RACE = $$(go list -race runtime >/dev/null 2>&1 && echo -race)

# each runs a command in every module. It goes on after a failure, and fails at the end.
define each
@failed=; for module in $(MODULES); do \
	echo "== $$module"; \
	(cd "$$module" && set -x && $(1)) || failed="$$failed $$module"; \
done; \
if [ -n "$$failed" ]; then echo "failed in:$$failed" >&2; exit 1; fi
endef

# Tests run in two modules at a time, and each module prints its output at its end.
# internal/integration comes first: it takes longest, and waits most of the time.
SLOW = $(filter %/integration,$(MODULES))
TESTS = $(patsubst %,test-%,$(SLOW) $(filter-out $(SLOW),$(MODULES)))

.PHONY: help demo test check bench lint fuzz release tidy update vuln $(TESTS)

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## send signed, repeated, stale and forged deliveries to examples/nethttp
	@cd examples/nethttp && go test -count=1 -run TestDemo

test: ## test every module, with the race detector if there is one
	@$(MAKE) -k -j 2 --no-print-directory TESTFLAGS="$(RACE) -shuffle=on -count=1" $(TESTS)

check: lint ## lint, then run the tests that don't take long
	@$(MAKE) -k -j 2 --no-print-directory TESTFLAGS=-short $(TESTS)

$(TESTS): test-%:
	@output=$$(cd $* && go test $(TESTFLAGS) ./... 2>&1); status=$$?; \
	printf '== %s: go test %s ./...\n%s\n' '$*' '$(TESTFLAGS)' "$$output"; exit $$status

bench: ## run the benchmarks of the root package and of grants, and of the stores if their servers are there
	go test -run '^$$' -bench . -count 1 . ./grants
	cd internal/integration && go test -run '^$$' -bench . -count 1 .

lint: ## check format, vet, staticcheck and go.mod of every module
	@unformatted=$$(gofmt -l $$(find . -name '*.go' -not -path '*/.*/*')) || exit 1; \
	if [ -n "$$unformatted" ]; then printf 'gofmt would change:\n%s\n' "$$unformatted" >&2; exit 1; fi
	$(call each,go vet ./...)
	$(call each,$(STATICCHECK) ./...)
	$(call each,go mod tidy -diff)

# go test fuzzes one target of one package at a time. By default it spends up to a
# minute on making one interesting input smaller.
fuzz: ## fuzz each target for FUZZTIME, 30s if not given
	$(call each,{ set +x; } 2>/dev/null; \
	packages=$$(go list ./...) || exit 1; \
	for package in $$packages; do \
		targets=$$(go test -list '^Fuzz' "$$package") || exit 1; \
		for target in $$(echo "$$targets" | grep '^Fuzz'); do \
			(set -x; go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1s "$$package") || exit 1; \
		done; \
	done)

release: ## use every module from an empty project, as if this tree were released
	go run ./internal/release

tidy: ## tidy go.mod of every module
	$(call each,go mod tidy)

update: ## bring what every module requires to its newest version
	$(call each,go get -u -t ./... && go mod tidy)

vuln: ## look for known vulnerabilities in every module
	$(call each,$(GOVULNCHECK) ./...)
