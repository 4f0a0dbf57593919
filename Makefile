# Two commands: `make demo` and `make test`. Each sets itself up from Python 3.11, git and make.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := --extra pipeline --extra cluster --extra trainer --extra dev --extra s3 --extra gcs --extra azure --extra sftp

.PHONY: help setup demo docs check test test-servers test-servers-short servers test-trainer lint resolve readers lock
help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/'

setup: $(VENV)/.ready ## Make the environment from the lock

# uv links packages from its cache, so a second clone does not copy gigabytes. Compiled ahead, because
# torch and diffusers would be compiled by every command where bytecode is not written.
$(VENV)/.ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@

demo: setup ## Captions to scores on the embedded model
	$(BIN)/synth demo --out demo

check: lint ## Format, lint, types and the fast tests
	$(BIN)/python -m pytest -q $(PARALLEL) -m "not slow"

test: setup test-trainer ## All tests but those of servers
	$(BIN)/python -m pytest $(PARALLEL) -m "not servers" $(addprefix --ignore=,$(TRAINER_TESTS))
	@echo "left out: tests/servers, on a real Slurm, Ceph, Azurite and sshd (make test-servers)"

test-servers: setup servers ## On a real Slurm, Ceph, Azurite and sshd; installs them, and needs root of a Debian
	command -v npm || apt-get install -qq --yes --no-install-recommends npm
	$(BIN)/python -m pytest -v tests/servers

test-servers-short: setup servers ## Of these, the whole way on Ceph, an array and a training on Slurm, and sshd
	$(BIN)/python -m pytest -v tests/servers -k "on_ceph or an_array or two_ranks_train or sshd"

servers:
	apt-get update -qq
	apt-get install -qq --yes --no-install-recommends slurm-wlm munge ceph-mon ceph-osd radosgw ceph-common
	command -v sshd || apt-get install -qq --yes --no-install-recommends openssh-server

# A module's tests share a process, and with it their cluster; the fast modules come first.
PARALLEL := -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# The trainer as it is installed on a training cluster: neither Ray nor diffusers is there.
ALONE := .venv-trainer
TRAINER_TESTS := tests/trainer tests/integration/test_train_bad_input.py $(addprefix tests/conformance/test_, \
	objectives.py evaluations.py exports.py frozen_encoders.py labelled_sets.py sources.py strategies.py)

# The shapes in these modules' signatures are checked at every call.
SHAPES := trainer.losses,trainer.learner,trainer.models,trainer.objectives,trainer.classifiers,trainer.logistic,trainer.set_metrics,trainer.neighbours,trainer.augmented_probe,trainer.data.colours,beartype.beartype

$(ALONE)/.ready: $(VENV)/.ready
	$(PYTHON) -m venv $(ALONE)
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(ALONE)/bin/python --constraint requirements.lock \
		--editable '.[trainer,onnx]' beartype pytest pytest-xdist hypothesis scikit-learn
	touch $@

test-trainer: $(ALONE)/.ready ## The trainer's tests where only synth-rep[trainer,onnx] is installed
	SYNTH_TRAINER_ALONE=1 $(ALONE)/bin/python -m pytest -q $(PARALLEL) --jaxtyping-packages=$(SHAPES) $(TRAINER_TESTS)

docs: setup ## The documentation as a site, in site/; a broken link is an error
	$(BIN)/python -m sphinx -q -W --keep-going -c docs . site

lint: setup ## Format and check without running anything
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/mypy

PYTHON_VERSION := 3.14
resolve: ## Whether wheels of all packages are there for PYTHON_VERSION; needs uv alone
	uv pip compile --quiet --only-binary :all: --no-header --no-annotate --python-version $(PYTHON_VERSION) \
		--all-extras pyproject.toml --output-file /dev/null

READERS := .venv-readers
readers: ## Readers of other libraries on a small set, an environment for each; needs uv alone
	$(PYTHON) -m benchmarks.stock_readers --work $(READERS)

lock: setup ## Names and versions of everything, no address in it
	$(BIN)/uv pip compile --quiet --upgrade --no-emit-index-url --no-header --no-annotate \
		--python-version 3.11 $(EXTRAS) pyproject.toml --output-file requirements.lock
