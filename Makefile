# The front door. `make demo` and `make test` need only Python 3.11+ with venv, and make.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
WORKERS ?= 2
# A bare environment often has it set. The tests start Python some thousand times, which then compiles all it imports.
unexport PYTHONDONTWRITEBYTECODE
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
IMAGE ?= localhost/sidecar:latest
BUF := protos/node_modules/.bin/buf

help:  ## Show what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

$(STAMP): requirements/build.txt requirements/dev.txt pyproject.toml clients/python/pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements/build.txt
	@$(BIN)/uv pip install -q --python $(BIN)/python --require-hashes -r requirements/dev.txt
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e clients/python -e .
	@touch $@

install: $(STAMP)  ## Install into .venv (every other target does it by itself)

demo: $(STAMP)  ## Five sidecars on loopback find each other, talk and gossip; under a minute
	@exec $(BIN)/sidecar demo

demo-nat: $(STAMP)  ## Two sidecars behind two NATs meet through a third and gossip directly (needs Linux, root, ip and nft)
	@exec $(BIN)/python tools/demo_nat.py

# Two at a time (WORKERS=3 for more): most of the tests wait for other processes. Short paths, for those of Unix sockets have at most 107 bytes.
# What is built for tests is built meanwhile, and they come last (tests/conftest.py), so files keep their order.
test: $(STAMP)  ## The test suite, but for what `make test-slow` runs
	@temporary=$$(mktemp -d) && { $(BIN)/python -m tests.prepare & preparing=$$!; } && \
	  trap "kill $$preparing 2> /dev/null; rm -rf $$temporary" EXIT && \
	  $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --basetemp=$$temporary

test-slow: $(STAMP)  ## The tests that cost much: large meshes, every way to install, grpcurl, Go's ingest (needs Go and Node)
	@temporary=$$(mktemp -d) && trap "rm -rf $$temporary" EXIT && $(BIN)/python -m tests.prepare grpcurl && \
	  $(BIN)/python -m pytest -m slow -n $(WORKERS) --dist loadfile --basetemp=$$temporary && \
	  API_ENGINE=grpcio $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --basetemp=$$temporary \
	    tests/api tests/clients/python tests/conformance

test-tools: $(STAMP)  ## Build and install what the tests need beside Python, Go and Node (`make test` does it by itself)
	@exec $(BIN)/python -m tests.prepare

interop-peers: $(STAMP)  ## Build the peers of the interop tests
	@exec $(BIN)/python -m tests.interop.build

interop: $(STAMP)  ## Run the whole interop matrix and write docs/interop.md (needs Go, Node and Rust as well)
	@exec $(BIN)/python -m tests.interop.run $(INTEROP)

conformance: $(STAMP)  ## Play the conformance scenarios with every client and write docs/conformance.md (needs Go and Node)
	@exec $(BIN)/python -m tests.conformance.run $(CONFORMANCE)

example: $(STAMP)  ## A chat across Go, JavaScript and Python, played by itself on three sidecars (needs Go and Node)
	@exec $(BIN)/python -m tests.conformance.chat

page-test: $(VENV)/.page  ## Try the dashboard and the simulation's page in a real Chromium; makes the pictures in docs/images
	@exec $(BIN)/python -m pytest tests/page/in_chromium.py tests/page/reports_in_chromium.py $(PAGE)

$(VENV)/.page: $(STAMP) requirements/page.txt
	@$(BIN)/uv pip install -q --python $(BIN)/python --require-hashes -r requirements/page.txt
	@touch $@

site: $(STAMP) .tools/site/.installed  ## Make the documentation site in .cache/site/html; a link that leads nowhere is an error
	@exec $(BIN)/python tools/docs_site.py $(CURDIR)/.tools/site/bin/zensical

.tools/site/.installed: requirements/site.txt
	@test -x .tools/site/bin/python || $(PYTHON) -m venv .tools/site
	@.tools/site/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/site.txt
	@touch $@

transcripts: $(STAMP)  ## Record the golden transcripts again: a session with each peer (needs Go, Node and others)
	@exec $(BIN)/python -m tests.interop.record $(TRANSCRIPTS)

sim: $(STAMP)  ## Play the shipped scenarios of up to 1,000 nodes on virtual time; reports go to sim/ (docs/simulation.md)
	@for scenario in $(filter-out scenarios/baseline-10000%,$(wildcard scenarios/*.toml)); do $(BIN)/sidecar sim run $$scenario || exit; done

attack-sim: $(STAMP)  ## Play the published attacks, and others, on virtual time; writes docs/defence.md; SIZE=full: all of the nodes
	@exec $(BIN)/python -m bench.attack_sim.run $(if $(filter full,$(SIZE)),--full) $(ATTACKS)

probe-check: $(STAMP)  ## Hold the probe against the truth and the simulator, with 20 sidecars in namespaces; writes docs/propagation.md (needs root)
	@exec $(BIN)/python -m bench.probes.run $(PROBE_CHECK)

reach: $(STAMP)  ## Who behind which NAT reaches whom, and how, in namespaces; writes docs/reach.md; TRIES=100: how often holes are punched (needs root)
	@exec $(BIN)/python -m bench.reach.run $(if $(TRIES),--tries $(TRIES)) $(REACH)

bench: $(STAMP)  ## Measure the sidecar beside others, go-libp2p-daemon too by P2PD=PATH; writes docs/benchmarks.md (needs Go)
	@exec $(BIN)/python -m bench.run $(if $(P2PD),--p2pd $(P2PD)) $(BENCH)

bench-growth: $(STAMP)  ## Measure what a message costs as topics, subscribers, connections and sizes grow; prints exponents (needs Go)
	@exec $(BIN)/python -m bench.growth $(if $(P2PD),--p2pd $(P2PD)) $(BENCH)

profile: $(VENV)/.profile  ## Flame graphs of a row of the benchmark: make profile ROW="new stream"; SVG files go to profiles/
	@exec $(BIN)/python -m bench.profile "$(ROW)" $(PROFILE)

$(VENV)/.profile: $(STAMP) requirements/profile.txt
	@$(BIN)/uv pip install -q --python $(BIN)/python --require-hashes -r requirements/profile.txt
	@touch $@

bench-gate: $(STAMP)  ## Measure what somebody who is banned costs, coming again and again
	@exec $(BIN)/python -m bench.gate $(BENCH)

chaos: $(STAMP)  ## Kill sidecars, set clocks, cut networks while messages are sent; ends with 1 where a promise is broken; CHAOS="--scenes kill,clock --write"
	@exec $(BIN)/python -m bench.chaos $(CHAOS)

attack: $(STAMP)  ## Play the attacks of docs/defence.md against real sidecars; ends with 1 where an honest message is lost; ATTACK='--write --kinds forged'
	@exec $(BIN)/python -m bench.defence $(ATTACK)

bench-attack: $(STAMP)  ## Measure what a peer that floods costs the attacked sidecar and the others; prints a table
	@exec $(BIN)/python -m bench.attack $(BENCH)

bench-idle: $(STAMP)  ## Measure what a sidecar costs that is connected to 20 others and has nothing to do; prints a table
	@exec $(BIN)/python -m bench.idle $(BENCH)

bench-durable: $(STAMP)  ## Measure durable messages: stored in batches, one at a time, settled, beside the disk's fsync; prints a table
	@exec $(BIN)/python -m bench.durable $(BENCH)

bench-history: $(STAMP)  ## Measure what keeping topics on disk costs, with nothing lost, and reading back; prints a table
	@exec $(BIN)/python -m bench.history $(BENCH)

bench-points: $(STAMP)  ## Measure what the entries cost that budgets of work count; prints a table
	@exec $(BIN)/python -m bench.points

bench-clients: $(STAMP)  ## Measure the client libraries beside bare stubs; writes docs/benchmarks-clients.md (needs Go)
	@exec $(BIN)/python -m bench.clients.run $(BENCH)

bench-guard: $(STAMP)  ## Measure what tokens and quotas cost for each call; prints a table
	@exec $(BIN)/python -m bench.guard $(BENCH)

bench-metrics: $(STAMP)  ## Measure what metrics cost on the way of gossip and in memory; writes docs/benchmarks-metrics.md
	@exec $(BIN)/python -m bench.metrics $(BENCH)

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

race-go:  ## The Go client's vet, staticcheck, and its tests with the race detector (needs a C compiler); RACE=-count=20 for more
	cd clients/go && go vet ./... && go run $(STATICCHECK) ./... && go test -race -timeout 20m $(RACE) ./...
	cd clients/go/examples/ingest && go vet ./... && go mod tidy -diff && go run $(STATICCHECK) ./...

lint: $(STAMP)  ## ruff, import contracts, buf; vet, staticcheck and eslint for the clients
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	@if command -v npm > /dev/null; then $(MAKE) -s $(BUF) && cd protos && node_modules/.bin/buf lint && $(MAKE) -s -C .. breaking && echo "buf: no findings"; \
	elif [ "$$CI" = true ]; then echo "npm is needed for buf: install Node 20 or later"; exit 1; \
	else echo "buf is skipped: it needs npm (Node 20 or later)"; fi
	@$(MAKE) -s lint-go lint-js

lint-go: $(STAMP)  # but for the example with SQLite, which `race-go` looks at: that takes long to compile
	@if command -v go > /dev/null; then (cd clients/go && \
	  unformatted=$$(gofmt -l .) && test -z "$$unformatted" || { echo "gofmt: $$unformatted"; exit 1; }; \
	  go vet ./... && go mod tidy -diff && go run $(STATICCHECK) ./...) || exit 1; echo "Go client: no findings"; \
	elif [ "$$CI" = true ]; then echo "Go is needed for the Go client"; exit 1; \
	else echo "The Go client is skipped: it needs Go"; fi

lint-js: $(STAMP)  # typedoc without links to sources, which it makes of git's remote: a checkout need not have one
	@if command -v npm > /dev/null; then $(BIN)/python -m tests.prepare "js client" && cd clients/js && npm run lint --silent && \
	  node_modules/.bin/typedoc --emit none --disableSources && echo "JavaScript client: no findings"; \
	elif [ "$$CI" = true ]; then echo "Node is needed for the JavaScript client"; exit 1; \
	else echo "The JavaScript client is skipped: it needs Node"; fi

RELEASED := $(shell ls protos/released/*.binpb 2> /dev/null | sort -V | tail -n 1)

breaking: $(BUF)  ## Compare the schemas with those of the last release, protos/released (needs npm); part of lint
	@test -n "$(RELEASED)" || { echo "protos/released has no schemas: make release-schemas"; exit 1; }
	@cd protos && node_modules/.bin/buf breaking --against $(RELEASED:protos/%=%)

release-schemas: $(BUF)  ## Keep the schemas as those of the release (VERSION=, else the version in sidecar/__init__.py), for `make breaking`
	@version=$(VERSION); test -n "$$version" || version=$$(sed -n 's/^__version__ = "\(.*\)"/\1/p' sidecar/__init__.py); mkdir -p protos/released; \
	cd protos && node_modules/.bin/buf build --exclude-source-info -o released/$$version.binpb && echo "protos/released/$$version.binpb"

$(BUF): protos/package.json protos/package-lock.json
	@cd protos && npm install --no-save --silent && touch node_modules/.bin/buf

grpcurl: .tools/bin/grpcurl  ## Install grpcurl with Go, to try the API by hand; its tests run only where it is

.tools/bin/grpcurl:
	GOBIN=$(CURDIR)/.tools/bin go install github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4

promtool: .tools/bin/promtool  ## Install promtool, which tests metrics and alerts: from Debian's package, without root

.tools/bin/promtool:
	@tools/from_debian.sh prometheus usr/bin/promtool $@

miniupnpd: .tools/bin/miniupnpd  ## Install miniupnpd, the router that port mapping is tested with: from Debian's package, without root

.tools/bin/miniupnpd:
	@tools/from_debian.sh miniupnpd-nftables usr/sbin/miniupnpd $@

protos: $(STAMP)  ## Generate the code of the schemas in protos/ again
	@$(BIN)/python tools/generate.py

dist: $(STAMP)  ## Build wheels, sdists and the npm package into dist/, and say which tags the Go module needs (needs Node)
	@exec $(BIN)/python tools/dist.py

image:  ## Build the container image with docker, podman or buildah (IMAGE=name:tag, BUILDER=, IMAGE_FLAGS=)
	@builder="$(BUILDER)"; for tool in docker podman buildah; do \
	  test -n "$$builder" || ! $$tool info > /dev/null 2>&1 || builder=$$tool; done; \
	revision=$$(git rev-parse HEAD 2> /dev/null || echo unknown); \
	version=$$(sed -n 's/^__version__ = "\(.*\)"/\1/p' sidecar/__init__.py); \
	flags="--build-arg VERSION=$$version --build-arg REVISION=$$revision --tag $(IMAGE) $(IMAGE_FLAGS)"; \
	case "$$builder" in \
	  docker) exec docker build $$flags . ;; \
	  podman) exec podman build --format docker $$flags . ;; \
	  buildah) exec buildah bud --format docker $$flags . ;; \
	  *) echo "docker, podman or buildah is needed to build the image, and docker's service must run"; exit 1 ;; esac

image-base:  ## Make a base for the image's build stage where no registry can be reached (needs mmdebstrap, buildah)
	@deploy/image/base.sh localhost/sidecar-base:latest

image-figures: $(STAMP)  ## Build the image; its size, start to ready, and memory when idle
	@exec $(BIN)/python -m tests.deploy.figures

deploy-test: $(STAMP)  ## Test the image and all in deploy/ with the tools that are here (`make tools` installs what it can)
	@DEPLOY_TEST=1 IMAGE_FLAGS="$(IMAGE_FLAGS)" exec $(BIN)/python -m pytest tests/deploy $(DEPLOY)

manifests: $(STAMP) .tools/bin/helm  ## Make deploy/kubernetes from the charts (needs helm: `make tools`)
	@exec $(BIN)/python tools/manifests.py .tools/bin/helm

tools: .tools/python/.installed .tools/bin/helm .tools/crds/.installed  ## Install the tools of deploy-test into .tools: hadolint, kubernetes-validate, podman-compose, helm, CRDs
	@missing=; for tool in podman buildah runc netavark aardvark-dns iptables catatonit mmdebstrap systemd prometheus; do \
	  dpkg-query -W $$tool > /dev/null 2>&1 || missing="$$missing $$tool"; done; \
	test -z "$$missing" || echo "From the system's packages (Debian): apt-get install$$missing"

.tools/python/.installed: requirements/tools.txt
	@test -x .tools/python/bin/python || $(PYTHON) -m venv .tools/python
	@.tools/python/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/tools.txt
	@mkdir -p .tools/bin && for tool in hadolint kubernetes-validate podman-compose; do \
	  ln -sf ../python/bin/$$tool .tools/bin/$$tool; done; touch $@

.tools/bin/helm:
	@if command -v go > /dev/null; then GOBIN=$(CURDIR)/.tools/bin go install helm.sh/helm/v4/cmd/helm@v4.3.1; \
	else echo "Go is needed to install helm; or put a helm into .tools/bin"; fi

# The definitions of what the chart makes for the Prometheus operator; the operator's Go module holds them.
.tools/crds/.installed:
	@if command -v go > /dev/null; then mkdir -p $(@D) && cd $(@D) && \
	  module=$$(go mod download -json github.com/prometheus-operator/prometheus-operator@v0.85.0 | sed -n 's/.*"Dir": "\(.*\)".*/\1/p') && \
	  for kind in servicemonitors podmonitors prometheusrules; do \
	    cp "$$module/example/prometheus-operator-crd/monitoring.coreos.com_$$kind.yaml" . || exit 1; done && touch .installed; \
	else echo "Go is needed to fetch the definitions of the monitors"; fi

types: $(STAMP)  ## mypy --strict
	$(BIN)/mypy

docs: $(STAMP)  ## Make docs/configuration.md and the chart's table and schema from the table of keys
	$(BIN)/python -c 'from sidecar.config import describe; print(describe.reference(), end="")' > docs/configuration.md
	$(BIN)/python tools/chart.py

metrics: $(STAMP)  ## Make docs/metrics.md from what a small mesh of sidecars tells
	@exec $(BIN)/python -m tests.observe.reference

lock: $(STAMP)  ## Pin the Python dependencies again (requirements/*.txt)
	sed '/p2p-sidecar-client==/d' pyproject.toml > requirements/pyproject.toml
	cd requirements && ../$(BIN)/uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-annotate --group pyproject.toml:dev pyproject.toml -o dev.txt
	cd requirements && ../$(BIN)/uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-annotate --extra tracing -c dev.txt pyproject.toml -o run.txt
	rm -f requirements/pyproject.toml
	$(BIN)/uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  -c requirements/dev.txt requirements/build.in -o requirements/build.txt
	$(BIN)/uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  requirements/tools.in -o requirements/tools.txt
	$(BIN)/uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  requirements/page.in -o requirements/page.txt
	$(BIN)/uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  requirements/site.in -o requirements/site.txt
	$(BIN)/uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  requirements/profile.in -o requirements/profile.txt

clean:  ## Remove what the targets made
	rm -rf $(VENV) .tools protos/node_modules .mypy_cache .pytest_cache .ruff_cache

.PHONY: help install demo demo-nat test test-slow test-tools probe-check reach attack-sim dist promtool miniupnpd grpcurl lint-go lint-js interop-peers interop conformance example transcripts sim bench attack bench-attack bench-clients bench-durable bench-gate bench-growth bench-guard bench-history bench-idle bench-metrics bench-points race-go lint types protos docs metrics lock clean \
  breaking release-schemas image image-base image-figures deploy-test manifests tools page-test site profile
