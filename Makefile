# Needs python3 (3.11 or newer), make and a package index; `.venv` is made on first use.
# Another interpreter: make test PYTHON=python3.13

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NEWEST := .venv-newest
RUNS := $(VENV)/runs
READY := $(VENV)/ready
NODE := tests/clients/node
CLIENTS := $(NODE)/node_modules/ready
PROMETHEUS := $(VENV)/prometheus/ready
TESTS ?=
# A profile for the demos: claudin, claude-code-proxy, claudexia, multimodal, capio.
PROFILE ?=
# Tests wait for processes and for time as often as they compute: four workers keep two cores busy.
WORKERS ?= 4
SPREAD = -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help demo demo-local test test-newest coverage test-clients proofs image-proof check fix bench schema monitoring chart vendor lock clean

# Tests start processes by the hundred: each compiles every module again where this is set.
unexport PYTHONDONTWRITEBYTECODE

# Coverage by sys.monitoring where there is one (3.12), with branches where it reports them (3.14).
# The tracer used before can spin for ever on CPython 3.11: greenlet frees the state of a dead thread
# in a pending call, and the traced callback that runs there asks for pending calls again.
CORE = $(shell $(BIN)/python -c 'import sys; v = sys.version_info; print("COVERAGE_CORE=" + ( \
  "ctrace" if v < (3, 12) else "sysmon COVERAGE_GREENLETS=thread COVERAGE_BRANCHES=" + ( \
  "false" if v < (3, 14) else "true")))')

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | column -t -s '|' 2>/dev/null \
	  || sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1: \2/p' Makefile

demo: SMALL := yes
demo: $(RUNS)  ## a gateway with a simulated model, one streamed call shown, then it keeps serving (PROFILE=capio)
	PYTHONDONTWRITEBYTECODE=1 $(BIN)/penstock demo $(PROFILE:%=--profile %)

demo-local: $(READY)  ## the same with real models on this machine: text, speech, transcription, pictures, a film
	$(BIN)/penstock demo --local $(PROFILE:%=--profile %)

# What the tests run is fetched while the checks compute: npm waits for the network and mypy for one core.
test: $(READY)  ## everything that has to hold: check, then all tests, none skipped
	@$(MAKE) --no-print-directory --jobs=3 check $(CLIENTS) $(PROMETHEUS)
	$(BIN)/python -m pytest $(SPREAD) --no-skips $(TESTS)

# The pinned environment lends its uv and its Node clients. Overrides replace the upper bounds of
# $(BOUNDED), and constraints.txt has no part in it; the test of the lock files is left out.
test-newest: $(CLIENTS) $(PROMETHEUS)  ## the tests again with the newest release of everything, in .venv-newest
	@$(PIP) install --quiet uv
	@[ -x $(NEWEST)/bin/python ] || $(PYTHON) -m venv --without-pip $(NEWEST)
	@printf '%s\n' $(BOUNDED) > $(NEWEST)/overrides.txt
	@echo "Installing the newest releases in $(NEWEST) ..."
	@$(INSTALL_NEWEST) --upgrade --requirements pyproject.toml --all-extras --group dev \
	  --overrides $(NEWEST)/overrides.txt
	@$(INSTALL_NEWEST) --no-deps --no-build-isolation --editable .
	@$(BIN)/uv pip freeze --python $(NEWEST)/bin/python | grep $(BOUNDED:%=-e ^%==)
	$(NEWEST)/bin/python -m pytest $(SPREAD) --no-skips --ignore tests/test_lock.py $(TESTS)

coverage: $(CLIENTS) $(PROMETHEUS)  ## all tests again with their coverage, which must be 95 % at least; slow
	$(CORE) $(BIN)/python -m pytest $(SPREAD) --no-skips --cov --cov-report=term $(TESTS)

test-clients: $(READY) $(CLIENTS)  ## real clients and a real model alone: SDKs, Claude Code, Codex, llama.cpp
	$(BIN)/python -m pytest --no-skips tests/clients

proofs: $(READY)  ## limits and money at full size, with figures: overspend, ledger, kill -9, Redis gone, throttle
	$(BIN)/python -m pytest --no-skips --full tests

image-proof: $(READY)  ## build the container image without a registry and run it as a cluster does; root, Debian
	@missing=; for one in $(IMAGE_PROGRAMS); do command -v $$one >/dev/null || missing=yes; done; \
	  if [ -z "$$missing" ]; then :; elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get install --yes --no-install-recommends $(IMAGE_PACKAGES); \
	  else echo "The proof runs as root and needs $(IMAGE_PROGRAMS)" \
	    "(Debian: apt-get install $(IMAGE_PACKAGES))." >&2; exit 1; fi
	@[ "$$(id -u)" = 0 ] || { echo "The proof runs as root: it makes a base image." >&2; exit 1; }
	PENSTOCK_TEST_IMAGE=yes $(BIN)/python -m pytest --no-skips tests/image $(TESTS)

check: $(READY)  ## lint, format and types, without changing anything
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fix: $(READY)  ## repair what lint and format can repair
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## compare with other gateways on this machine; writes bench/results/ (PEERS=all for more)
	$(BIN)/python -m bench.compare

schema: $(READY)  ## write config/schema.json, and what the Helm chart has of it
	$(BIN)/penstock schema > config/schema.json.new
	mv config/schema.json.new config/schema.json
	$(BIN)/python -m tests.helm.generated

monitoring: $(READY)  ## write the alert rules and the dashboard into the Helm chart
	@mkdir -p helm/penstock/files
	$(BIN)/penstock monitoring rules --json > helm/penstock/files/rules.json.new
	mv helm/penstock/files/rules.json.new helm/penstock/files/rules.json
	$(BIN)/penstock monitoring dashboard > helm/penstock/files/dashboard.json.new
	mv helm/penstock/files/dashboard.json.new helm/penstock/files/dashboard.json

chart: $(READY)  ## write the generated files of the Helm chart: schema and page of its values, manifests to read
	$(BIN)/python -m tests.helm.generated

vendor: $(READY)  ## fetch the pinned style sheets and scripts of others for the dashboard, and compare their hashes
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m tests.vendor

lock: $(READY)  ## pin the newest versions of everything, with hashes, in the files constraints*.txt
	@echo "Choosing the newest versions that fit together ..."
	$(PIP) install --quiet uv
	$(COMPILE) --upgrade --all-extras --group dev --output-file constraints.txt
	$(COMPILE) --group build --constraints constraints.txt $(UNUSED:%=--no-emit-package %) \
	  --output-file constraints-run.txt
	$(COMPILE) $(IMAGE_EXTRAS:%=--extra %) --constraints constraints.txt $(UNUSED:%=--no-emit-package %) \
	  --output-file constraints-image.txt
	$(COMPILE_GROUP) --group build --constraints constraints.txt --output-file constraints-build.txt
	cd $(NODE) && PATH="$(abspath $(BIN)):$$PATH" npm run lock

clean:  ## remove the environment and everything that can be made again
	rm -rf $(VENV) $(NEWEST) $(NODE)/node_modules .coverage* htmlcov .mypy_cache .pytest_cache .ruff_cache .hypothesis dist

PIP = $(BIN)/python -m pip --disable-pip-version-check
INSTALL = $(PIP) install --quiet --no-deps
COMPILE_GROUP = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
  --generate-hashes --no-annotate --system-certs --custom-compile-command "make lock"
COMPILE = $(COMPILE_GROUP) pyproject.toml
INSTALL_NEWEST = $(BIN)/uv pip install --quiet --system-certs --python $(NEWEST)/bin/python
# What pyproject.toml gives an upper bound, as its internals are used.
BOUNDED := granian prometheus-client
# What Typer takes for texts in colours, which this program does not have: 18 MB.
UNUSED := rich pygments markdown-it-py mdurl
IMAGE_PROGRAMS := buildah mmdebstrap bwrap nsenter systemd-nspawn
IMAGE_PACKAGES := buildah mmdebstrap bubblewrap util-linux systemd-container
# What the image has besides: HTTP/2 to upstreams, reading of media, export of spans.
IMAGE_EXTRAS := http2 media otlp

# An install that was broken off leaves `installing` behind, and starts from nothing the next time:
# pip takes a half-copied package for a whole one.
define ENVIRONMENT
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Penstock needs" \
	  "Python 3.11 or newer as $(PYTHON); name another with make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "$(PYTHON) cannot make environments: install" \
	  "its venv package (Debian and Ubuntu: apt-get install python3-venv)." >&2; exit 1; }
	@if [ -e $(VENV)/installing ]; then rm -rf $(VENV); fi
	@mkdir -p $(VENV) && touch $(VENV)/installing
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
	  echo "Making a Python environment in $(VENV) ..."; $(PYTHON) -m venv $(VENV); }
endef

# What the program needs to run. pip itself is a sixth of that: a demo alone goes on without it.
$(RUNS): constraints-run.txt pyproject.toml
	$(ENVIRONMENT)
	@echo "Installing Penstock and what it needs (30 MB to fetch, some seconds) ..."
	@$(INSTALL) --no-compile --require-hashes -r constraints-run.txt
	@$(INSTALL) --no-build-isolation -e .
	@if [ "$(SMALL)" ] && [ ! -e $(READY) ]; then $(PIP) uninstall --quiet --yes pip setuptools 2>/dev/null; fi
	@rm $(VENV)/installing && touch $@

# What its tests need besides.
$(READY): constraints.txt pyproject.toml | $(RUNS)
	$(ENVIRONMENT)
	@echo "Installing what the tests need (700 MB to fetch, some minutes) ..."
	@$(INSTALL) --require-hashes -r constraints.txt
	@$(INSTALL) --no-build-isolation -e .
	@rm $(VENV)/installing && touch $@

# Node.js itself is in the environment: a wheel of it is pinned in constraints.txt.
$(CLIENTS): $(NODE)/package-lock.json $(NODE)/package.json | $(READY)
	@echo "Installing the clients for Node that the tests run ..."
	cd $(NODE) && PATH="$(abspath $(BIN)):$$PATH" npm ci --loglevel=error
	@touch $@

# No package index has these two programs: see the module.
$(PROMETHEUS): tests/monitoring_programs.py | $(READY)
	@echo "Looking for Prometheus and promtool, which the tests run ..."
	@$(BIN)/python -m tests.monitoring_programs
