# `demo`, `test` and `docs` set up a virtual environment on their first call, and again when the requirements change.
# On Linux, PyPI's torch brings CUDA along; for the smaller CPU build, where PyTorch's own index can be reached:
#     PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make test

PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
OMP_NUM_THREADS ?= 2
export OMP_NUM_THREADS

RUN = $(VENV)/bin/python
INSTALL = $(RUN) -m pip install -qq --disable-pip-version-check --constraint $(CONSTRAINTS)
INSTALLED = $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test lint pytest test-lower docs clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: $(INSTALLED) ## train and evaluate on phantoms; the results go to demo/
	$(RUN) -m scripts.tools.demo

test: lint pytest ## lint, types and all tests

lint: $(INSTALLED) ## ruff and mypy only
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

pytest: $(INSTALLED) ## the tests only
	OMP_NUM_THREADS=1 $(RUN) -m pytest --numprocesses auto --dist loadfile --durations=10 # one process a core

test-lower: ## the tests with the oldest supported versions
	$(MAKE) pytest VENV=.venv-lower CONSTRAINTS=constraints-lower.txt

docs: export NO_MKDOCS_2_WARNING = 1 # an advertisement of another tool
docs: $(INSTALLED) ## the pages and the API as a site in site/; a broken link is an error
	$(RUN) -m mkdocs build --strict --quiet
	@echo "Open site/index.html"

clean: ## remove environments, demo/, site/ and caches; runs/ stays
	rm -rf .venv .venv-lower demo site build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml $(CONSTRAINTS)
	@echo "Installing into $(VENV): a few minutes the first time"
	@$(PYTHON) -m venv $(VENV)
	@$(INSTALL) torch # on its own first, see constraints.txt
	@$(INSTALL) --editable '.[itk,report,dicom,test,docs]'
	@touch $@
