# Two commands: `make demo` and `make test`. Each sets itself up from Python 3.11, git and make.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := --extra pipeline --extra trainer --extra dev --extra s3 --extra gcs --extra azure

.PHONY: help setup demo test lint lock
help: ## List the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/'

setup: $(VENV)/.ready ## Make the environment from the lock

# uv links packages from its cache, so a second clone does not copy gigabytes.
$(VENV)/.ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@

demo: setup ## Generate, verify and report on the embedded model
	$(BIN)/synth demo --out demo

test: setup ## All tests
	$(BIN)/python -m pytest

lint: setup ## Format and check without running anything
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/mypy

lock: setup ## Names and versions of everything, no address in it
	$(BIN)/uv pip compile --quiet --upgrade --no-emit-index-url --no-header --no-annotate \
		--python-version 3.11 $(EXTRAS) pyproject.toml --output-file requirements.lock
