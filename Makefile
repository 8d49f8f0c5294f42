# Every target makes what it needs in .venv: Python 3.11+, make and a package index are enough.
PYTHON ?= python3
VENV ?= .venv
LOWEST ?= .venv-lowest
LOWEST_FRAMEWORKS ?= .venv-lowest-frameworks
MUTANTS ?= .venv-mutants
CREWAI ?= .venv-crewai
BIN := $(VENV)/bin
ENGINE := $(VENV)/dynoxide/package/dynoxide
ENGINE_PACKAGE := @dynoxide/linux-x64@1.2.1
PYTEST_ARGS ?=
ARCH ?= arm64
# Servers are started by each worker for itself; a file stays on one worker, so its servers are started once.
PARALLEL := -n auto --dist loadfile

.PHONY: help install check demo test test-browser pictures test-lowest test-lowest-frameworks test-engine test-crewai test-wheel lint types docs bench lambda mutants clean
help:
	@echo "make install      the package with every extra and the tools, in $(VENV)"
	@echo "make check        before a commit: format, lint, types and unit tests, side by side"
	@echo "make demo         the whole loop on embedded engines, in a minute"
	@echo "make test         unit, property, integration and docs tests"
	@echo "make test-browser console and documentation in a real Chromium (needs one: apt-get install chromium)"
	@echo "make pictures     the screenshots of the console in the documentation, in both languages"
	@echo "make test-lowest  the same with the lowest admitted versions, in $(LOWEST)"
	@echo "make test-lowest-frameworks  those of the recorders, with the lowest admitted versions of the frameworks"
	@echo "make test-engine  those that ask DynamoDB against a second engine (needs npm)"
	@echo "make test-crewai  those of CrewAI, which does not install beside the rest, in $(CREWAI)"
	@echo "make test-wheel   the same against the built wheel"
	@echo "make lint         ruff, import contracts, rendered files, what Redshift takes of the SQL, and the prose of the pages"
	@echo "make types        mypy --strict and pyright"
	@echo "make docs         the documentation, strictly, into site/ (DOCS_URL=… DOCS_REPOSITORY=… for its links)"
	@echo "make bench        the benchmarks"
	@echo "make lambda       the archive of the functions on AWS, in dist/ (ARCH=x86_64 for the other processors)"
	@echo "make mutants      small changes of the code that no test notices, for hours: see CONTRIBUTING.md"

install: $(VENV)/.installed

$(VENV)/.made:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "agentmodel needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.installed: pyproject.toml | $(VENV)/.made
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@ $(VENV)/.installed-local

# The demo needs the engines and the command, and no framework: a tenth of what the tests need.
$(VENV)/.installed-local: pyproject.toml | $(VENV)/.made
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[local]'
	touch $@

demo: $(VENV)/.installed-local
	$(BIN)/agentmodel demo

# Those of the browser keep an event loop running, which no other test of their process could do without.
test: install
	$(BIN)/python -m pytest $(PARALLEL) --ignore=tests/browser $(PYTEST_ARGS)

$(VENV)/.installed-browser: pyproject.toml | install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[browser]'
	touch $@

test-browser: $(VENV)/.installed-browser docs
	$(BIN)/python -m pytest tests/browser $(PYTEST_ARGS)

# The test makes them as it checks what they show; look at them before you commit them.
pictures: $(VENV)/.installed-browser
	CONSOLE_PICTURES=docs $(BIN)/python -m pytest tests/browser/test_console_browser.py -k pictures

$(LOWEST)/.installed: pyproject.toml scripts/lowest.py
	$(PYTHON) -m venv --clear $(LOWEST)
	$(PYTHON) scripts/lowest.py > $(LOWEST)/lowest.txt
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(LOWEST)/lowest.txt \
		--editable '.[redshift,local,testing]' boto3 flask flask-cors pytest-timeout pytest-xdist
	touch $@

test-lowest: $(LOWEST)/.installed
	$(LOWEST)/bin/python -m pytest $(PARALLEL) $(PYTEST_ARGS)

FRAMEWORKS := langchain,strands,openai-agents,pydantic-ai,google-adk,claude-agent-sdk,opentelemetry,mcp
$(LOWEST_FRAMEWORKS)/.installed: pyproject.toml scripts/lowest.py
	$(PYTHON) -m venv --clear $(LOWEST_FRAMEWORKS)
	$(PYTHON) scripts/lowest.py $(FRAMEWORKS) > $(LOWEST_FRAMEWORKS)/lowest.txt
	$(LOWEST_FRAMEWORKS)/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint $(LOWEST_FRAMEWORKS)/lowest.txt \
		--editable '.[local,testing,similarity,$(FRAMEWORKS)]' pytest-timeout pytest-xdist
	touch $@

# The table of recorders is that of the newest versions: those that make spans are instrumentations of the newest ones.
test-lowest-frameworks: $(LOWEST_FRAMEWORKS)/.installed
	$(LOWEST_FRAMEWORKS)/bin/python -m pytest $(PARALLEL) -W ignore \
		$(addprefix tests/integration/integrations/test_,guard_texts.py calls.py $(addprefix recorder_,claude_agent_sdk.py \
		google_adk.py langchain.py langchain_middleware.py openai_agents.py openai_agents_guard.py pydantic_ai.py \
		pydantic_ai_guard.py strands.py strands_guard.py)) $(PYTEST_ARGS)

$(ENGINE): Makefile | install
	@command -v npm >/dev/null || { echo "the second engine comes as an npm package, and npm is not installed"; exit 1; }
	rm -rf $(VENV)/dynoxide && mkdir -p $(VENV)/dynoxide
	cd $(VENV)/dynoxide && npm pack --silent $(ENGINE_PACKAGE) && tar -xzf *.tgz
	chmod +x $@ && touch $@

test-engine: install $(ENGINE)
	$(BIN)/python scripts/with_engine.py $(ENGINE) -- $(BIN)/python -m pytest $(PARALLEL) -m table $(PYTEST_ARGS)

$(CREWAI)/.installed: pyproject.toml
	$(PYTHON) -m venv --clear $(CREWAI)
	$(CREWAI)/bin/python -m pip install --quiet --disable-pip-version-check \
		--editable '.[local,testing,crewai]' pytest-timeout
	touch $@

# In one process, since importing CrewAI takes longer than most of the tests; it warns of its own deprecated parts.
test-crewai: $(CREWAI)/.installed
	$(CREWAI)/bin/python -m pytest -W ignore -k crewai \
		tests/integration/integrations/test_recorder_crewai.py tests/integration/integrations/test_guard_texts.py \
		tests/integration/integrations/test_calls.py tests/integration/integrations/test_process_end.py \
		tests/integration/test_other_users.py tests/integration/test_redaction_everywhere.py \
		tests/docs/test_examples.py $(PYTEST_ARGS)

test-wheel: install
	PYTEST_ARGS="$(PYTEST_ARGS)" scripts/test_wheel $(BIN)/python

# The three that take long run side by side; what each printed comes out in one piece.
check: install
	$(BIN)/ruff format .
	@$(MAKE) --no-print-directory --output-sync=target --jobs=3 lint types unit

# Without the examples: each is a program of its own, and together they take as long as all the other tests here.
.PHONY: unit
unit: install
	$(BIN)/python -m pytest -q tests/unit tests/docs --ignore=tests/docs/test_examples.py $(PYTEST_ARGS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/agentmodel sql --check
	$(BIN)/agentmodel deploy template --check
	$(BIN)/python -m pytest -q -p no:cacheprovider -k no_ tests/unit/test_redshift_lint.py
	$(BIN)/python scripts/pictures.py --check
	$(BIN)/python scripts/prose.py

types: install
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: install
	SITE_URL='$(DOCS_URL)' REPOSITORY_URL='$(DOCS_REPOSITORY)' EDIT_URI='$(if $(DOCS_REPOSITORY),edit/main/docs/)' \
		$(BIN)/mkdocs build --strict
	SITE_URL='$(if $(DOCS_URL),$(DOCS_URL:/=)/ko/)' REPOSITORY_URL='$(DOCS_REPOSITORY)' \
		EDIT_URI='$(if $(DOCS_REPOSITORY),edit/main/docs/ko/)' $(BIN)/mkdocs build --strict --config-file mkdocs.ko.yml

lambda: install
	$(BIN)/python scripts/lambda_package.py --arch $(ARCH)

bench: install
	$(BIN)/python -m benchmarks

$(MUTANTS)/.installed: pyproject.toml Makefile
	$(PYTHON) -m venv --clear $(MUTANTS)
	$(MUTANTS)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[redshift,local,testing]' \
		mutmut==3.8.1 pytest-timeout
	touch $@

mutants: $(MUTANTS)/.installed
	nice -n 19 $(MUTANTS)/bin/python scripts/mutants.py $(MUTANTS_ARGS)

clean:
	rm -rf $(VENV) $(LOWEST) $(LOWEST_FRAMEWORKS) $(MUTANTS) $(CREWAI) site dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis
