# A fresh machine needs Python 3.11 (or later) and a package index; everything else comes as wheels, pinned by hash.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
TESTS ?= tests
STAMP := $(VENV)/.installed

.PHONY: up test fuzz soak check install stubs lint types contracts format bench lock build clean help

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | sort

up: install ## run a whole gateway on this machine: PostgreSQL, Valkey, control plane, decisions, Envoy, demo upstreams
	@exec $(BIN)/gwctl up $(ARGS)

test: check ## everything CI runs: linters, types, contracts, and the whole test suite on real servers
	$(BIN)/pytest -n 2 --dist loadfile -q $(TESTS) $(ARGS)

fuzz: install ## long campaigns of what `make test` does briefly: broken documents and messages, requests against a real Envoy
	TOLLHOUSE_EXPLAINED=$${TOLLHOUSE_EXPLAINED:-10000} \
		TOLLHOUSE_DOCUMENTS=$${TOLLHOUSE_DOCUMENTS:-200000} TOLLHOUSE_PAIRS=$${TOLLHOUSE_PAIRS:-200000} \
		TOLLHOUSE_MESSAGES=$${TOLLHOUSE_MESSAGES:-50000} $(BIN)/pytest -n 2 --dist worksteal -q \
		tests/gateway/test_fuzz.py tests/compiler/test_differential_on_envoy.py tests/compiler/test_explained_on_envoy.py \
		tests/ads/test_fuzz.py tests/policy/test_fuzz.py \
		tests/policy/transport/test_fuzz_transport.py $(ARGS)

soak: install ## the campaigns against the xDS server and the control plane at their full size, and their table
	TOLLHOUSE_MODE=soak TOLLHOUSE_CLIENTS=1000 TOLLHOUSE_KILLS=20 TOLLHOUSE_LOSSLESS=500 TOLLHOUSE_STORM=1000 \
		TOLLHOUSE_STALLED=100 TOLLHOUSE_UPDATES=1000 TOLLHOUSE_CHANGES=300 TOLLHOUSE_REPLACEMENTS=20 \
		TOLLHOUSE_REPLACING_REQUESTS=20000 TOLLHOUSE_NACKS=20 TOLLHOUSE_OUTAGES=50 TOLLHOUSE_STATES=1000 \
		TOLLHOUSE_RESTARTING_REQUESTS=20000 TOLLHOUSE_ROTATIONS=50 TOLLHOUSE_BAD_REVISIONS=50 \
		$(BIN)/pytest -n 1 -q tests/delivery tests/overload tests/rollout tests/ads/test_identity.py $(ARGS)
	$(BIN)/python -m tests.support.results

check: install stubs lint types contracts ## linters, types and import contracts

install: $(STAMP) ## make the environment .venv with the console script gwctl in it

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tollhouse needs Python 3.11 or later")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

stubs: .stubs/.made ## type stubs for Envoy's protobufs, made from their descriptors

.stubs/.made: $(STAMP) tools/make_stubs.py
	$(BIN)/python tools/make_stubs.py .stubs
	@touch $@

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install stubs
	$(BIN)/mypy

contracts: install
	$(BIN)/lint-imports --no-cache

format: install ## rewrite the source as the linters want it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install ## compile time, apply-to-live latency, requests/s through Envoy against a hand-written chain
	$(BIN)/python -m tests.bench $(ARGS)

lock: install ## refresh requirements.lock after a change of pyproject.toml
	$(BIN)/uv pip compile --quiet --generate-hashes --python-version 3.11 --universal --extra up --group dev \
		--no-emit-index-url --no-emit-find-links --no-header pyproject.toml --output-file requirements.lock

build: install ## the wheel, in dist/
	$(BIN)/python -m build --wheel --no-isolation

clean:
	rm -rf $(VENV) .stubs dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
