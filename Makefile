# demo and test set up .venv by themselves from the pinned versions in requirements*.lock; nothing else need be installed.

SHELL  := bash
BIN    := .venv/bin
JOBS   ?= 2
ARGS   ?=
# The first Python of 3.11 or newer; 3.11 is what the lock was resolved for. Another one: make test PYTHON=/path/to/python
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13 python; do $$p -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; break; }; done)
# One thread a worker, children included: two workers of two threads each would wait for one another.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS) --dist worksteal --jaxtyping-packages=foretell,shapes.checked $(ARGS)
PIP    := $(BIN)/python -m pip -qq --disable-pip-version-check

.PHONY: help demo test check lint style types suite bench clean

help:
	@echo 'make demo    set up, forecast a real series, write a report (minutes the first time)'
	@echo 'make test    set up, then format, lint, types, tests: what CI runs'
	@echo 'make check   the same with every slow test and many more random examples'
	@echo 'make bench   every script in benchmarks/'
	@echo 'make clean   back to a fresh clone: caches, run folders and .venv go'

demo: .venv/ready-demo
	$(BIN)/foretell demo $(ARGS)

# Types are checked beside the tests: mypy knows one core, and the workers' last tests leave one free.
test: style
	@$(MAKE) --no-print-directory -j2 types suite

check: lint
	$(PYTEST) -m "slow or not slow" --hypothesis-profile=long

lint: style types

style: .venv/ready-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check --no-cache .

types: .venv/ready-test
	$(BIN)/mypy

suite: .venv/ready-test
	$(PYTEST)

bench: .venv/ready-test
	@set -e; shopt -s nullglob; for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python "$$script"; done

# Each stamp is written last: an installation that broke off starts again. Build isolation is off because it would fetch
# a build backend that no lock names; setuptools is in the lock.
define set-up
	@[ -n "$(PYTHON)" ] || { echo 'foretell needs Python 3.11 or newer with venv; found none. Say which: make PYTHON=/path/to/python' >&2; exit 1; }
	@[ -x $(BIN)/python ] || { echo 'creating .venv with $(PYTHON)'; "$(PYTHON)" -m venv .venv; }
	@echo 'installing from $(1): a few minutes, once'
	@$(PIP) install -r $(1)
	@$(PIP) install --no-deps --no-build-isolation -e .
	@$(PIP) check
	@touch $@
endef

.venv/ready-demo: requirements.lock pyproject.toml
	$(call set-up,requirements.lock)

.venv/ready-test: requirements.lock requirements-test.lock pyproject.toml
	$(call set-up,requirements-test.lock)

clean:
	rm -rf .venv build dist src/*.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis runs
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
