# The commands of this repository; `make` alone lists them.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
WORKERS ?= 2
PYTEST_ARGS ?=

# One thread a worker: two workers share two cores. Tests that need more call torch.set_num_threads.
TEST_ENV := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MPLBACKEND=Agg
XDIST    := -n $(WORKERS) --dist worksteal

# A stamp stands for one finished installation and is redone when these files change.
PACKAGING := setup.cfg pyproject.toml constraints.txt
RUN_STAMP  := $(VENV)/.installed
TEST_STAMP := $(VENV)/.installed-test

LINTED := $(wildcard hgraph kernels datasets tests tutorials benchmarks tools)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test test-full test-gpu test-torch lint format pages clean

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

# $(call install,extras,what): no compiler is needed, everything comes as wheels. Python compiles to bytecode what it
# imports; doing that for all of torch beforehand takes longer than the tests' own share.
define install
	@test -x $(BIN)/python || { echo "creating $(VENV) with $(PYTHON)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing hgraph and $(2) into $(VENV) (about a minute)"; start=$$(date +%s); \
	$(BIN)/python -m pip install -qq --no-compile --disable-pip-version-check -c constraints.txt -e '.$(1)' \
	&& echo "installed in $$(( $$(date +%s) - start )) s"
endef

$(RUN_STAMP): $(PACKAGING)
	$(call install,,what it requires)
	@touch $@

$(TEST_STAMP): $(PACKAGING)
	$(call install,[test],the tools to test it)
	@touch $(RUN_STAMP) $@

setup: $(TEST_STAMP)  ## install the library and its test tools into .venv
	@echo '$(VENV) is ready'

demo: $(RUN_STAMP)  ## distill a hypergraph teacher into an MLP on the digits, into runs/demo
	$(BIN)/hgraph distill digits --teacher hgnn+ --seed 0 --out runs/demo --overwrite

test: lint  ## lint, types, and every test that is not slow
	$(TEST_ENV) HGRAPH_FAST=1 $(BIN)/python -m pytest $(XDIST) --durations=10 $(PYTEST_ARGS)

test-full: lint  ## also the slow tests, or those of PAPERS=07,21; the log goes to benchmarks/results/test-full.txt
	@mkdir -p benchmarks/results
	@bash -o pipefail -c '$(TEST_ENV) $(BIN)/python -m pytest $(XDIST) -m "not gpu" --durations=30 $(PYTEST_ARGS) \
	$(FULL_TESTS) 2>&1 | tee $(FULL_LOG)'

comma := ,
FULL_TESTS := $(foreach paper,$(subst $(comma), ,$(PAPERS)),$(wildcard tests/papers/test_$(paper)_*.py))
FULL_LOG := $(if $(PAPERS),/dev/null,benchmarks/results/test-full.txt)

# On a machine whose own Python has torch for its GPU: make test-gpu GPU_PYTHON=python3
GPU_PYTHON ?= $(BIN)/python
test-gpu: $(if $(filter $(BIN)/python,$(GPU_PYTHON)),$(TEST_STAMP))  ## the tests that need a CUDA device
	$(GPU_PYTHON) -m pytest -m gpu --durations=10 $(PYTEST_ARGS)

# A venv of its own, removed afterwards; torch's CUDA packages take gigabytes.
TORCH ?= 2.14.1
test-torch:  ## the fast tests with TORCH=2.14.1, in a scratch environment that is removed afterwards
	@place=$$(mktemp -d) && trap 'rm -rf "$$place"' EXIT INT TERM && $(PYTHON) -m venv $$place/venv && \
	grep -vE '^(torch|triton|sympy|setuptools|fsspec|filelock|networkx|typing-extensions|typing_extensions)[= ]' constraints.txt > $$place/constraints.txt && \
	$$place/venv/bin/python -m pip install -qq --no-compile --disable-pip-version-check -c $$place/constraints.txt \
		'torch==$(TORCH)' -e '.[test]' && \
	$$place/venv/bin/python -c 'import torch, sys; print("torch", torch.__version__, "Python", sys.version.split()[0])' && \
	$(TEST_ENV) HGRAPH_FAST=1 $$place/venv/bin/python -m pytest $(XDIST) -p no:cacheprovider $(PYTEST_ARGS)

lint: $(TEST_STAMP)  ## ruff (rules and format) and mypy
	$(BIN)/ruff check --quiet $(LINTED)
	$(BIN)/ruff format --quiet --check $(LINTED) || { echo 'run: make format'; exit 1; }
	$(BIN)/mypy

format: $(TEST_STAMP)  ## put every file into the common format
	$(BIN)/ruff check --quiet --fix-only $(LINTED)
	$(BIN)/ruff format $(LINTED)

pages: $(TEST_STAMP)  ## regenerate PAPERS.md, CHECKS.md, benchmarks/README.md and the tables of README.md
	$(BIN)/python tools/pages.py

clean:  ## remove the environment, caches and build results
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage htmlcov
	find $(LINTED) -name __pycache__ -type d -prune -exec rm -rf {} +
