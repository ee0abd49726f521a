# Git, make and a Python >= 3.11 are enough: every target sets up what it needs, once.
#
#   make test                                            in .venv, with the newest Python that runs
#   make test ARGS="-k supervisor -x"                    ARGS goes to the tool behind the target
#   make test JOBS=0                                     one process, in order; else one for each core
#   make test VENV=.venvs/3.12 PYTHON=/usr/bin/python3.12    another environment, another Python

VENV   ?= .venv
PYTHON ?=
ARGS   ?=
JOBS   ?= auto

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input --quiet
# Folders that are checked when they exist.
TYPED := src $(wildcard tests/typing)
SCRIPTS := $(wildcard benchmarks examples)

# An environment whose Python is gone, upgraded away or moved, is made again.
GONE := $(shell test -x $(BIN)/python || echo gone)

# The tests import 300 files in each process of pytest, and start hundreds of programs: none of them is to compile all of it anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup test simulate conformance soak check format serve bench bench-peers dist clean gone

help:
	@echo "setup        the development environment in $(VENV) (the other targets call it)"
	@echo "test         the test suite"
	@echo "simulate     the suites, in 20,000 interleavings of each test, and the races in 10,000: some hours"
	@echo "conformance  the scripts of tests/conformance on the real OTP, where Elixir is installed"
	@echo "soak         servers under load that are made to crash at random, for ten minutes (ARGS=\"--seconds 60\")"
	@echo "check        formatting, lint, types, and no test that really sleeps"
	@echo "format       put formatting and import order right"
	@echo "serve        the search service, for a browser"
	@echo "bench        the benchmarks"
	@echo "bench-peers  the same work, done by other libraries"
	@echo "dist         the wheel and the source archive, in dist/"
	@echo "clean        take away what was generated, environments included"

# One environment in two steps: `make serve` needs the first only, and is not kept waiting for tools.
$(VENV)/.web: pyproject.toml $(GONE)
	@sh scripts/make_venv.sh "$(VENV)" "$(PYTHON)"
	@echo "Installing beamish[web] in $(VENV)"
	@$(PIP) install -e ".[web]"
	@touch $@

$(VENV)/.dev: $(VENV)/.web
	@echo "Installing beamish[dev] in $(VENV)"
	@$(PIP) install -e ".[dev]"
	@touch $@

gone:

setup: $(VENV)/.dev

test: setup
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

# ARGS="-k registry" for some of it. The time limit of a test is that of a run under few seeds, so there is none here.
simulate: setup
	BEAMISH_SIMULATE=1 $(BIN)/python -m pytest tests/simulated tests/testing --timeout 0 -o faulthandler_timeout=0 $(ARGS)

conformance: setup
	$(BIN)/python scripts/conformance.py $(ARGS)

soak: setup
	$(BIN)/python -m benchmarks.soak $(ARGS)

check: setup
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy --strict $(TYPED) $(SCRIPTS)
	$(BIN)/python -m pyright --pythonpath $(BIN)/python --warnings
	$(BIN)/python scripts/check_sleeps.py

format: setup
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

serve: $(VENV)/.web
	$(BIN)/beamish serve $(ARGS)

bench: setup
	$(BIN)/python -m benchmarks $(ARGS)

bench-peers: setup
	$(BIN)/python -m benchmarks.peers $(ARGS)

dist: setup
	rm -rf dist
	$(BIN)/python -m build --outdir dist .

clean:
	rm -rf .venv .venvs build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
