# Every target makes what it needs in .venv: Python 3.11+, make and a package index are enough.
PYTHON ?= python3
VENV ?= .venv
LOWEST ?= .venv-lowest
BIN := $(VENV)/bin
ENGINE := $(VENV)/dynoxide/package/dynoxide
ENGINE_PACKAGE := @dynoxide/linux-x64@1.2.1
PYTEST_ARGS ?=
# Servers are started by each worker for itself; a file stays on one worker, so its servers are started once.
PARALLEL := -n auto --dist loadfile

.PHONY: help install demo test test-lowest test-engine test-wheel lint types docs bench clean
help:
	@echo "make install      the package with every extra and the tools, in $(VENV)"
	@echo "make demo         the whole loop on embedded engines, in a minute"
	@echo "make test         unit, property, integration and docs tests"
	@echo "make test-lowest  the same with the lowest admitted versions, in $(LOWEST)"
	@echo "make test-engine  those that ask DynamoDB against a second engine (needs npm)"
	@echo "make test-wheel   the same against the built wheel"
	@echo "make lint         ruff, import contracts, rendered SQL"
	@echo "make types        mypy --strict and pyright"
	@echo "make docs         the documentation, strictly, into site/"
	@echo "make bench        the benchmarks"

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "agentmodel needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: install
	$(BIN)/agentmodel demo

test: install
	$(BIN)/python -m pytest $(PARALLEL) $(PYTEST_ARGS)

$(LOWEST)/.installed: pyproject.toml scripts/lowest.py
	$(PYTHON) -m venv --clear $(LOWEST)
	$(PYTHON) scripts/lowest.py > $(LOWEST)/lowest.txt
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(LOWEST)/lowest.txt \
		--editable '.[redshift,local,testing]' boto3 pytest-timeout pytest-xdist
	touch $@

test-lowest: $(LOWEST)/.installed
	$(LOWEST)/bin/python -m pytest $(PARALLEL) $(PYTEST_ARGS)

$(ENGINE): Makefile | install
	@command -v npm >/dev/null || { echo "the second engine comes as an npm package, and npm is not installed"; exit 1; }
	rm -rf $(VENV)/dynoxide && mkdir -p $(VENV)/dynoxide
	cd $(VENV)/dynoxide && npm pack --silent $(ENGINE_PACKAGE) && tar -xzf *.tgz
	chmod +x $@ && touch $@

test-engine: install $(ENGINE)
	$(BIN)/python scripts/with_engine.py $(ENGINE) -- $(BIN)/python -m pytest $(PARALLEL) -m table $(PYTEST_ARGS)

test-wheel: install
	PYTEST_ARGS="$(PYTEST_ARGS)" scripts/test_wheel $(BIN)/python

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/agentmodel sql --check

types: install
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: install
	$(BIN)/mkdocs build --strict

bench: install
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) $(LOWEST) site dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis
