.DEFAULT_GOAL := help
VENV := .venv
PYTHON ?= python3
MINUTES ?= 10
SCALE ?= 10
REF ?= HEAD
INPUTS ?= 3000000
# What the container image is built with: the same pins, without what only development needs.
IMAGE := --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate \
  -c requirements.txt
SPHINX := $(VENV)/bin/python -m sphinx --quiet --fail-on-warning --keep-going -c docs -d build/doctrees -b
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: help install demo test faults campaign fuzz mutants bench bench-compare bench-memory bench-more bench-peers lint docs links lock clean

help: ## list these commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

install: $(VENV)/ready ## create .venv with everything, pinned by hash

$(VENV)/ready: requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --require-hashes -r requirements.txt
	$(VENV)/bin/pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

demo: install ## watch 200,000 orders flow into a database: no service needed (ARGS=--postgres)
	@$(VENV)/bin/microbatch demo $(ARGS)

test: install ## every test, against a real Kafka and a real PostgreSQL that it starts itself
	$(VENV)/bin/pytest -n 2 --dist loadfile --no-loadscope-reorder

faults: install ## kill, stop and join members under load, SCALE=10 times as often as `make test` does
	MICROBATCH_FAULTS=$(SCALE) $(VENV)/bin/pytest tests/faults

campaign: install ## 500 faults of databases, 500 of brokers, 300 of dead-letter topics, 500 mixes; resumed if ended
	MICROBATCH_CAMPAIGN=1 $(VENV)/bin/pytest -s $(foreach kind,poison dead_letter_faults database_faults broker_faults,\
	  tests/faults/test_$(kind).py)

fuzz: install ## INPUTS=3000000 hostile records into both databases, in a process that must not die
	$(VENV)/bin/python -m tests.fuzz --inputs $(INPUTS)

mutants: install ## put every seeded defect in, one after the other: a test must catch it
	$(VENV)/bin/python -m tests.mutants

bench: install ## the daemon's speed, as ratios to what is possible and to loops written by hand (some minutes)
	$(VENV)/bin/python -m tests.benchmarks
	$(VENV)/bin/python -m tests.benchmarks.isolation
	$(VENV)/bin/python -m tests.benchmarks.operating

bench-compare: install ## the daemon of this tree against that of REF=HEAD, a commit, in turn
	$(VENV)/bin/python -m tests.benchmarks.compare $(REF)

bench-memory: install ## the daemon's memory under load for MINUTES=10
	$(VENV)/bin/python -m tests.benchmarks.memory --minutes $(MINUTES)

bench-more: install ## latency, start, idle processor time, large records' memory, more members, partitions, rows, bytes
	$(VENV)/bin/python -m tests.benchmarks.latency
	$(VENV)/bin/python -m tests.benchmarks.start
	$(VENV)/bin/python -m tests.benchmarks.idle
	$(VENV)/bin/python -m tests.benchmarks.memory --minutes 2 --partitions 64 --bytes 1000000
	$(VENV)/bin/python -m tests.benchmarks.memory --minutes 2 --partitions 16 --bytes 100000
	$(VENV)/bin/python -m tests.benchmarks.scale

bench-peers: install ## against Quix Streams, FastStream, arroyo, Debezium and a naive loop; fetches them (10 minutes)
	$(VENV)/bin/python -m tests.benchmarks.peers

lint: install ## style, types and layers
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

docs: install ## reference, boards and PrometheusRule, made from code and alerts, and the site, into build/docs
	$(VENV)/bin/python -m tests.docs
	$(VENV)/bin/python -m tests.boards
	$(VENV)/bin/python -m tests.rules
	$(SPHINX) html . build/docs

links: install ## ask every address that the documentation links to outside of it (needs a network)
	$(SPHINX) linkcheck . build/links

lock: ## pin the newest allowed versions again
	$(VENV)/bin/uv pip compile --quiet --upgrade --extra dev --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header pyproject.toml -o requirements.txt
	$(VENV)/bin/uv pip compile $(IMAGE) pyproject.toml -o deploy/requirements.txt
	echo setuptools | $(VENV)/bin/uv pip compile $(IMAGE) - -o deploy/requirements-build.txt

clean: ## remove what the other commands made
	rm -rf $(VENV) .cache build *.egg-info
