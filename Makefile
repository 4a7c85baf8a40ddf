# Every target sets up what it needs. Nothing is asked, nothing is installed outside this folder.
PYTHON = python3
VENV = .venv
BIN = $(VENV)/bin
READY = $(VENV)/.ready
PYTEST = $(BIN)/python -m pytest -n 2
PYTHONS = 3.11 3.12 3.13

.DEFAULT_GOAL := help
.PHONY: help run test check lint types test-all bench cov lock check-all-pythons clean

help:               ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 20

$(READY): pyproject.toml requirements-dev.txt
	@echo "Setting up $(VENV) (only when the locked requirements change)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --upgrade pip
	@$(BIN)/python -m pip install -qq --require-hashes -r requirements-dev.txt
	@$(BIN)/python -m pip install -qq --no-deps --no-build-isolation --editable .
	@touch $@

run: $(READY)       ## the operations desk on real input
	$(BIN)/python -m examples.operations_desk

test: $(READY)      ## the tests, without the slow ones
	$(PYTEST) -m "not slow"

check: lint types test-all  ## everything: lint, types, arrows, all tests

lint: $(READY)      ## ruff and the arrows between the rooms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(READY)     ## pyright, strict on the source
	$(BIN)/pyright --warnings

test-all: $(READY)  ## all tests, the slow ones too
	$(PYTEST)

bench: $(READY)     ## the benchmarks: a table and JSON
	$(BIN)/python -m benchmarks

cov: $(READY)       ## all tests, with coverage
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n 2
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

LOCK = $(BIN)/uv pip compile pyproject.toml --quiet --upgrade --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --custom-compile-command "make lock"

lock: $(READY)      ## newest versions into both lock files
	$(LOCK) --output-file requirements.txt
	$(LOCK) --group dev --output-file requirements-dev.txt

check-all-pythons:  ## the tests under every Python we support
	@missing=""; \
	for version in $(PYTHONS); do \
	    python="$$(pyenv prefix $$version 2>/dev/null)/bin/python"; \
	    "$$python" -c "" 2>/dev/null || python="python$$version"; \
	    if "$$python" -c "" 2>/dev/null; then \
	        echo "== Python $$version: $$python"; \
	        $(MAKE) --no-print-directory test PYTHON="$$python" VENV=".venv-$$version" || exit 1; \
	    else \
	        echo "== Python $$version: NOT FOUND, NOT TESTED" >&2; missing="$$missing $$version"; \
	    fi; \
	done; \
	[ -z "$$missing" ] || { echo "MISSING INTERPRETERS:$$missing" >&2; exit 1; }

clean:              ## everything that was made, the environments too
	rm -rf .venv .venv-3.* .aos build dist htmlcov .coverage .coverage.* \
	    .pytest_cache .hypothesis .ruff_cache .import_linter_cache benchmarks/results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
