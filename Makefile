# Every target makes what it needs: `make repro` on a fresh clone is enough.
.DEFAULT_GOAL := help
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: help install repro test check verify audit format clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .venv/installed ## .venv with the pinned packages

.venv/installed: requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "make: Python 3.11 or newer is needed; got " + sys.version.split()[0] + "; set PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

repro: install ## the whole pipeline: dvc repro
	dvc repro

test: install ## the tests
	python -m pytest -n 2

check: install ## format, lint, tests; CI runs this, then verify
	ruff format --check .
	ruff check .
	python -m pytest -n 2

verify: install ## whether a clone of the commit gives the committed results
	python -m tools.verify

audit: install ## known vulnerabilities of the installed packages; needs a network
	@python -m tools.audit

format: install ## format the code, complete dvc.yaml and the schema
	ruff format .
	ruff check --fix .
	python -m tools.dependencies
	python -m tools.schema

clean: ## remove what can be made again, except .venv and DVC's cache
	rm -rf .audit .pytest_cache .ruff_cache dvc_plots reports data/unfinished.safetensors
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
	find data metrics plots -name '.*.part' -delete 2>/dev/null || true
