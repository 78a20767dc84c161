# The same few verbs everywhere, here and in CI. Needs make and any Python 3.11 or newer.
#   make demo    fuse a made-up landscape and look at the result
#   make test    the tests          (make test PYTEST_FLAGS="-k writer")
#   make coverage   the tests, and which lines none of them runs
#   make test-fast  those of the house and of steps that need no files, in a minute
#   make lint    ruff, mypy, spelling and the sizes of the house (make format repairs the layout)
#   make docs    the documentation as a web site, in site/
#   make bench   the benchmarks
#   make setup   only the environment in .venv, redone when pyproject.toml or constraints.txt change

VENV ?= .venv
DEMO_DIR ?= geolift-demo
PIP_FLAGS ?=
PYTEST_FLAGS ?=
BIN := $(VENV)/bin
READY := $(VENV)/.geolift-ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test coverage test-fast lint format docs bench clean

help:
	@sed -n 's/^#   //p' Makefile

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@sh .ci/make-venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt -e '.[dev]'
	@touch $@
	@echo "geolift is ready: $(BIN)/geolift --help, or activate the environment first: . $(BIN)/activate"

demo: setup
	$(BIN)/geolift demo $(DEMO_DIR) --overwrite

test: setup
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile $(PYTEST_FLAGS)

coverage: setup
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --cov=geolift --cov-report=term-missing:skip-covered $(PYTEST_FLAGS)

# The storeys whose tests make no files; for one's own change. `make test` is what counts.
test-fast: setup
	$(BIN)/python -m pytest -p no:xdist tests/test_00*.py tests/test_1*.py tests/test_3[01]*.py tests/test_36_information.py $(PYTEST_FLAGS)

lint: setup
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy geolift
	$(BIN)/python tools/count_code.py
	$(BIN)/codespell

format: setup
	$(BIN)/python -m ruff check --fix-only --quiet .
	$(BIN)/python -m ruff format .

docs: setup
	$(BIN)/python tools/build_cli_reference.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "open site/index.html"

bench: setup
	@set -e; for script in benchmarks/bench_*.py; do \
	    [ -e "$$script" ] || { echo "no benchmarks/bench_*.py yet" >&2; exit 1; }; \
	    echo "== $$script"; $(BIN)/python "$$script"; done

clean:
	rm -rf build dist site $(DEMO_DIR) .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis
