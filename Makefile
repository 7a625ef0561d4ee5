# Every target makes what it needs: `make repro` in a fresh clone is enough.
.DEFAULT_GOAL := help
PYTHON ?= python3
LOCK ?= cpu
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: help install repro test check verify stress audit lock generate format clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-8s  %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .venv/installed-$(LOCK) ## .venv with the locked packages; LOCK=cuda: with PyPI's torch

.venv/installed-$(LOCK): requirements/$(LOCK).txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "make: Python 3.11 or newer is needed; got " + sys.version.split()[0] + "; set PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m dev.install $(LOCK)
	rm -f .venv/installed-* # the other lock's packages were replaced
	touch $@

repro: install ## the whole pipeline: dvc repro
	dvc repro

test: install ## the tests
	python -m pytest -n 2

check: install ## format, lint, types, tests; CI runs this, then verify
	ruff format --check .
	ruff check .
	python -m mypy
	python -m pytest -n 2

verify: install ## whether a clone of the commit reproduces the committed results
	python -m tools.verify

stress: install ## long tests: bad input, kills, losses of power, other CPUs
	python -m tests.stress

audit: install ## known vulnerabilities of the installed packages; needs a network
	@python -m dev.audit

lock: install ## resolve requirements/*.in into locks
	python -m dev.lock

generate: install ## all generated files: code dependencies in dvc.yaml, schema, plots page
	python -m dev.generate

format: install ## format the code, fix what lint can
	ruff format .
	ruff check --fix .

clean: ## remove what can be made again, except .venv and DVC's cache
	rm -rf .audit .mypy_cache .pytest_cache .ruff_cache dvc_plots reports data/unfinished.safetensors
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
	find data metrics plots -name '.*.part' -delete 2>/dev/null || true
