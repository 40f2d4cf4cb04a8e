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
