# `make help` lists what there is. Nothing but pip's cache, and the data of `make run`, is written outside the checkout.
PYTHON ?= python3
ARGS ?=
# How many processes run the tests, each with a Postgres and servers of its own; 0: this one alone.
JOBS ?= auto
# How often `make test-busy` runs the tests, and how many processes keep the machine busy meanwhile.
RUNS ?= 5
BUSY ?= $(shell nproc)
# The release whose clients must not break: the last one whose tag this commit has behind it.
AGAINST ?= $(shell git describe --tags --abbrev=0 --match 'v*' 2>/dev/null)

VENV := .venv
BIN := $(VENV)/bin
LOCKED := $(VENV)/locked
INSTALLED := $(VENV)/installed

# Tools that would write to the home directory get one here; there may be none, or not one to write to.
export BUF_CACHE_DIR := $(CURDIR)/.cache/buf
export BUF_CONFIG_DIR := $(CURDIR)/.cache/buf
export MPLCONFIGDIR := $(CURDIR)/.cache/matplotlib
export UV_CACHE_DIR := $(CURDIR)/.cache/uv
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore
ifeq ($(strip $(HOME)),)
export PIP_CACHE_DIR := $(CURDIR)/.cache/pip
endif

# An environment holds absolute paths: one that came along in a copy of the checkout is made anew.
ifneq ($(shell cat $(LOCKED) 2>/dev/null),$(CURDIR))
$(LOCKED): FORCE
endif

TEST = $(BIN)/python -m pytest --numprocesses $(JOBS) --maxprocesses 8 --dist worksteal -m "not long"

.DEFAULT_GOAL := help
.PHONY: help setup run test test-busy test-long check format generate protos-languages breaking bench lock clean FORCE

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(INSTALLED) ## Make .venv with everything locked (PYTHON=python3.12 picks the interpreter)

run: setup ## Run the service, with its own Postgres unless told otherwise (ARGS="--help")
	$(BIN)/sessiond serve $(ARGS)

test: setup ## Run the tests (ARGS="tests/store -k replay", JOBS=0 for one after the other)
	$(TEST) $(ARGS)

test-busy: setup ## Run the tests RUNS times while BUSY processes take the cores; stop at the first failure
	$(BIN)/python tools/busy.py --runs $(RUNS) --busy $(BUSY) -- $(TEST) $(ARGS)

test-long: setup ## Run the tests that take long
	$(BIN)/python -m pytest -m long $(ARGS)

check: setup ## Check format, lint, types, protos and generated code
	$(BIN)/ruff format --check --quiet --diff
	$(BIN)/ruff check --quiet
	$(BIN)/mypy
	$(BIN)/buf format --diff --exit-code protos
	$(BIN)/buf lint protos
	$(BIN)/python tools/generate.py --check
	$(BIN)/python tools/check_options.py

format: setup ## Format and mend what can be mended
	$(BIN)/ruff check --quiet --fix-only
	$(BIN)/ruff format --quiet
	$(BIN)/buf format --write protos

generate: setup ## Make the code that is generated from the protos
	$(BIN)/python tools/generate.py

protos-languages: setup ## Make code of other languages from protos/ alone, and compile that of Go and Java
	$(BIN)/python tools/languages.py

breaking: setup ## Tell what in the protos would break the clients of a release (AGAINST=v1.2.0)
	@if [ -z '$(AGAINST)' ]; then echo 'There is no release yet, so nothing can break.'; \
	else $(BIN)/buf breaking protos --against '.git#ref=$(AGAINST),subdir=protos'; fi

bench: setup ## Measure (ARGS="--help")
	$(BIN)/python -m bench $(ARGS)

lock: setup ## Write the locks again (ARGS=--upgrade takes newer versions)
	$(BIN)/python tools/lock.py $(ARGS)

clean: ## Remove the environment, caches and build results
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis dist clients/python/dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(LOCKED): requirements/dev.txt
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.exit(0 if sys.version_info >= (3, 11) else "sessiond needs Python 3.11 or later, and $(PYTHON) is " + v + "; name another one: make PYTHON=python3.12")'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps -r requirements/dev.txt
	@printf '%s\n' '$(CURDIR)' > $@

$(INSTALLED): $(LOCKED) pyproject.toml clients/python/pyproject.toml
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable clients/python --editable .
	@touch $@
