# Two commands: `make run` trains on the demo catalogue if nothing is trained yet, and serves;
# `make test` runs linters, types and tests. Both set up what they need in .venv first.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# By the environment, so that it holds for what builds the package too.
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
SOURCES := esci.py models pipelines service tests benchmarks

.PHONY: run test lint types check clean

run: $(VENV)/.training
	@$(BIN)/esci run $(ARGS)

test: lint types check

check: $(VENV)/.dev
	$(BIN)/pytest --numprocesses 2 --dist worksteal $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)

types: $(VENV)/.dev
	$(BIN)/mypy

$(VENV)/.venv:
	@test -n "$(PYTHON)" || { echo "no python3 found; expected Python 3.11: apt-get install python3.11"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "found $$($(PYTHON) --version); expected Python 3.11 or later: make PYTHON=/path/to/python3.11"; exit 2; }
	@echo "creating the environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { echo "no venv module; install it with: apt-get install python3-venv"; rm -rf $(VENV); exit 2; }
	@touch $@

$(VENV)/.training: pyproject.toml constraints.txt | $(VENV)/.venv
	@echo "installing what training and serving need"
	@$(PIP) --editable '.[training]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/.venv
	@echo "installing what the tests need"
	@$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.training

clean:
	rm -rf $(VENV) .esci .mypy_cache .ruff_cache .pytest_cache .hypothesis
