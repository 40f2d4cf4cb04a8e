# One entry point. `make` alone lists the targets; every step is also a `turnout` command with --help.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# The first Python that fits requires-python; override with `make PYTHON=/path/to/python3.12 …`.
PYTHON ?= $(shell for p in python3.11 python3.12 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null && echo $$p && break; done)
UV_VERSION := 0.13.9
VENV := .venv
BIN := $(VENV)/bin
ENV := $(VENV)/.ready

.PHONY: help env demo up down test lint format bench lock clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

env: $(ENV) ## make the Python environment in .venv (quick when nothing changed)

$(ENV): requirements.lock pyproject.toml
	@if [ -z "$(PYTHON)" ]; then echo "Turnout needs Python 3.11 or 3.12; none was found. Install one, or call: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; fi
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check "uv==$(UV_VERSION)"
	@echo "installing the locked environment into $(VENV)"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $(ENV)

demo: $(ENV) ## everything once on sample data: files, Airflow, models, service, a plan; stops it all
	@$(BIN)/turnout demo

up: $(ENV) ## start everything and leave it running
	@$(BIN)/turnout up

down: $(ENV) ## stop what `make up` started
	@$(BIN)/turnout down

test: $(ENV) ## the whole test suite, on real PostgreSQL and Redis from the environment
	@$(BIN)/pytest -n 2 --dist loadgroup $(ARGS)

PACKAGES := turnout ingestion expectations feature_repo training serving benchmarks

lint: $(ENV) ## style, types and import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy $(PACKAGES)
	@MYPYPATH=. $(BIN)/mypy --no-explicit-package-bases dags/*.py
	@$(BIN)/lint-imports --no-logo

format: $(ENV) ## format the code
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

bench: $(ENV) ## measure: ratios in one run, against the limit or a peer
	@$(BIN)/python -m benchmarks.allocation
	@$(BIN)/python -m benchmarks.quality
	@$(BIN)/python -m benchmarks.ingest --rows 100000 1000000
	@$(BIN)/python -m benchmarks.crash --kills 20

lock: $(ENV) ## resolve the dependencies again into requirements.lock
	@$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-annotate --no-header --quiet --upgrade -o requirements.lock

clean: ## stop what runs, remove the environment and caches; the data in .turnout only with CONFIRM=1
	@if [ -x $(BIN)/turnout ]; then $(BIN)/turnout down || true; fi
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@if [ "$(CONFIRM)" = 1 ]; then rm -rf .turnout; else test ! -d .turnout || echo "kept .turnout (your data); make clean CONFIRM=1 removes it"; fi
