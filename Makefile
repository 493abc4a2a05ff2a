# Needs Python 3.10 to 3.13 and make. `make` by itself lists the commands.
#
#   PYTHON=python3.12 make test     use another Python
#   MODEL=provider/name make demo   ask a real model

PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip --disable-pip-version-check --quiet install
EXTRAS := test,postgres,redis,crypto,otel,parquet,mlflow,analytics,plots,cli,server
WORKERS ?= 2

.PHONY: help demo test coverage crash mutants lint api format bench docs reference packages clean

help:
	@echo 'make demo      hold a conversation, offline (MODEL=provider/name: with a real model)'
	@echo 'make test      the whole test suite (ARGS=tests/session: a part of it)'
	@echo 'make coverage  the same, with branch coverage and its floor; wants PostgreSQL and Redis'
	@echo 'make crash     kill writers of every store, 300 times each'
	@echo 'make mutants   break the code in small ways and list what no test notices (ARGS=history: a part)'
	@echo 'make lint      style, types, imports'
	@echo 'make api       compare the public API with that of the last release'
	@echo 'make format    put the style right'
	@echo 'make bench     what it costs, beside other libraries; writes docs/explanation/performance.md'
	@echo 'make docs      write what the code in README and docs prints into the pages'
	@echo 'make reference build the documentation into build/docs, the reference among it'
	@echo 'make packages  wheel and sdist, installed and tested in environments of their own'
	@echo 'make clean     remove what these commands made'

$(RUN):
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo '$(PYTHON) is no Python 3.10 to 3.13; name one with PYTHON=…'; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo 'on Debian and Ubuntu, python3-venv is a package of its own'; exit 1; }

# One mark for each set of packages, so that `make demo` need not wait for the test tools.
$(VENV)/.installed: pyproject.toml | $(RUN)
	@echo 'Installing into $(VENV) …'
	@$(PIP) -e .
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(RUN)
	@echo 'Installing into $(VENV), with what the tests need …'
	@$(PIP) -e '.[$(EXTRAS)]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-lint: pyproject.toml | $(RUN)
	@echo 'Installing into $(VENV), with the linters …'
	@$(PIP) -e '.[$(EXTRAS),lint]'
	@touch $@ $(VENV)/.installed $(VENV)/.installed-test

$(VENV)/.installed-docs: pyproject.toml | $(RUN)
	@echo 'Installing into $(VENV), with what builds the documentation …'
	@$(PIP) -e '.[$(EXTRAS),docs]'
	@touch $@ $(VENV)/.installed $(VENV)/.installed-test

demo: $(VENV)/.installed
	@$(RUN) docs/demo.py

test: $(VENV)/.installed-test
	$(RUN) -m pytest -n $(WORKERS) $(ARGS)

coverage: $(VENV)/.installed-test
	$(RUN) -m pytest -n $(WORKERS) --cov $(ARGS)

crash: $(VENV)/.installed-test
	DSPY_SESSION_CRASH_ROUNDS=300 $(RUN) -m pytest tests/stores/test_crashes.py -k kill_9

# Hours for all of it; it goes on where it was stopped. tests/mutants/survivors.md explains those that may live.
mutants: $(VENV)/.installed-test
	@$(PIP) -e '.[mutants]'
	WORKERS=$(WORKERS) $(RUN) -m tests.mutants $(ARGS)

lint: $(VENV)/.installed-lint
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(VENV)/bin/lint-imports
	$(RUN) -m mypy
	$(RUN) -m mypy tests/typing/public_*.py
	$(VENV)/bin/pyright --pythonpath $(RUN)

api: $(VENV)/.installed-test
	$(RUN) -m tests.packaging.public_api

packages:
	.ci/run packages

format: $(VENV)/.installed-lint
	$(RUN) -m ruff check --fix-only .
	$(RUN) -m ruff format .

bench: $(VENV)/.installed-test
	$(RUN) -m tests.benchmarks $(ARGS)

docs: $(VENV)/.installed-test
	$(RUN) -m docs._scripts.pages
	$(RUN) -m docs._scripts.notebooks

reference: $(VENV)/.installed-docs
	$(RUN) -m sphinx -b html -W -q docs build/docs

clean:
	rm -rf $(VENV) .venv-peers build dist docs/reference/api .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
