# `make` alone lists the targets. Every target sets up what it needs in .venv first.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.NOTPARALLEL:
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Two processes, since starting TensorFlow costs seconds; `make test PYTEST_FLAGS=...` for others.
PYTEST_FLAGS ?= -n 2 --dist=loadfile
export TF_CPP_MIN_LOG_LEVEL ?= 3

# One stamp a layer of the environment: a layer is installed again only when its lock changes.
PROJECT := $(VENV)/.stamp-project
RUNTIME := $(VENV)/.stamp-runtime
QUICKSTART := $(VENV)/.stamp-quickstart
DEV := $(VENV)/.stamp-dev
DOCS := $(VENV)/.stamp-docs
TORCH := $(VENV)/.stamp-torch
BEAM := $(VENV)-beam/.stamp-beam

.PHONY: help
help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

$(BIN)/python:
	"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11) and "etd_tf needs Python 3.11 or newer; pass PYTHON=...")'
	"$(PYTHON)" -m venv $(VENV)

$(RUNTIME): requirements/runtime.lock | $(BIN)/python
	$(PIP) install --require-hashes -r $<
	touch $@

$(PROJECT): pyproject.toml $(RUNTIME)
	$(PIP) install --no-deps --no-build-isolation --editable .
	touch $@

# --no-deps: see the file.
$(QUICKSTART): requirements/quickstart.txt | $(BIN)/python
	$(PIP) install --no-deps --require-hashes -r $<
	touch $@

$(DEV): requirements/dev.lock $(RUNTIME)
	$(PIP) install --require-hashes -r $<
	touch $@

$(DOCS): requirements/docs.lock $(RUNTIME)
	$(PIP) install --require-hashes -r $<
	touch $@

$(TORCH): requirements/torch.txt $(DEV)
	$(PIP) install -r $<
	touch $@

# Beside .venv: see requirements/beam.txt.
$(BEAM): requirements/beam.lock
	test -d $(VENV)-beam || "$(PYTHON)" -m venv $(VENV)-beam
	$(VENV)-beam/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r $<
	touch $@

.PHONY: setup
setup: $(PROJECT) $(QUICKSTART)  ## Make .venv with the library and the quickstart's teacher

.PHONY: quickstart
quickstart: setup  ## Set up, then extract and distil a small student of a real teacher
	bin/etd_distill --flagfile=configs/quickstart.flags

.PHONY: test
test: setup $(DEV) $(TORCH)  ## Set up, then run all tests
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

.PHONY: beam-test
beam-test: $(BEAM)  ## Test preparation on Apache Beam, in .venv-beam
	$(VENV)-beam/bin/python -m pytest tests/text/test_beam.py

FUZZ_INPUTS ?= 100000
.PHONY: fuzz
fuzz: setup $(DEV) $(TORCH)  ## Read FUZZ_INPUTS damaged files with every reader of untrusted files
	$(BIN)/python -m tests.fuzz --inputs=$(FUZZ_INPUTS)

.PHONY: lint
lint: $(PROJECT) $(DEV) docs  ## Check style, types and documentation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.PHONY: docs
docs: $(DOCS)  ## Build the documentation into site/; a broken link fails it
	$(BIN)/python -m mkdocs build --strict --clean

.PHONY: format
format: $(DEV)  ## Format the code and apply the fixes that are safe
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: wheel
wheel: $(PROJECT)  ## Build the wheel into dist/
	$(PIP) wheel --no-deps --no-build-isolation --wheel-dir dist .

# All of them: make bazel-test BAZEL_TARGETS=//...
BAZEL_TARGETS ?= //tests:smoke
.PHONY: bazel-test
bazel-test: setup $(DEV)  ## Build everything and run the quick tests with Bazel
	third_party/bazel/run build //...
	third_party/bazel/run test $(BAZEL_TARGETS)

# pip's own configuration is left out, so that the locks name PyPI's files alone. Pins of the
# present locks stay where they still fit; delete a lock to renew it completely.
COMPILE := env -u PIP_FIND_LINKS PIP_CONFIG_FILE=/dev/null $(VENV)-lock/bin/pip-compile --quiet \
	--allow-unsafe --generate-hashes --strip-extras --no-annotate \
	--no-emit-find-links --no-emit-index-url
.PHONY: lock
lock:  ## Make the lock files again, after a change of requirements.txt or requirements/*.txt
	test -d $(VENV)-lock || "$(PYTHON)" -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet pip-tools==7.6.2
	CUSTOM_COMPILE_COMMAND="make lock" $(COMPILE) -o requirements/runtime.lock requirements.txt
	CUSTOM_COMPILE_COMMAND="make lock" $(COMPILE) -c requirements/runtime.lock \
		-o requirements/dev.lock requirements/dev.txt
	CUSTOM_COMPILE_COMMAND="make lock" $(COMPILE) -c requirements/dev.lock \
		-c requirements/torch.txt -o requirements/docs.lock requirements/docs.txt
	CUSTOM_COMPILE_COMMAND="make lock" $(COMPILE) -o requirements/beam.lock requirements/beam.txt

.PHONY: clean
clean:  ## Remove .venv and everything built
	rm -rf $(VENV) $(VENV)-beam $(VENV)-lock build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
