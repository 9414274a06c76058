# The front door. `make demo` and `make test` need only Python 3.11+ with venv, and make.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

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

test: $(STAMP)  ## The whole test suite
	@exec $(BIN)/python -m pytest

lint: $(STAMP)  ## ruff, import contracts, buf
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(STAMP)  ## mypy --strict
	$(BIN)/mypy

lock: $(STAMP)  ## Pin the Python dependencies again (requirements/*.txt)
	sed '/sidecar-client==/d' pyproject.toml > requirements/pyproject.toml
	cd requirements && ../$(BIN)/uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-annotate --group pyproject.toml:dev pyproject.toml -o dev.txt
	rm -f requirements/pyproject.toml
	$(BIN)/uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  requirements/build.in -o requirements/build.txt

clean:  ## Remove what the targets made
	rm -rf $(VENV) .tools .mypy_cache .pytest_cache .ruff_cache

.PHONY: help install demo test lint types lock clean
