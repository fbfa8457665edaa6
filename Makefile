# SPDX-License-Identifier: Apache-2.0
# `make help` lists the targets. VENV and PYTHON may be set: make test VENV=/path/to/venv SKIP_SETUP=1
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV ?= .venv
PYTHON ?= python3
JOBS ?= 2
BIN := $(VENV)/bin
PY := $(BIN)/python
STAMP := $(VENV)/.headrace-setup
DEVELOPMENT := $(VENV)/.headrace-development
DEVELOPED := sdk,host,test
NATIVE_SOURCES := $(shell find native CMakeLists.txt src/headrace/hef/microcode.py -type f 2>/dev/null | sort)
CXX_FILES = $(shell git ls-files 'native/*.cpp' 'native/*.hpp' 'native/*.h')

.PHONY: help setup pages demo test test-slow lint format fuzz bench results metrics clean

help:  ## list the targets
	@grep -hE '^[a-z][a-z-]*:.*  ## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*  ## (.*)/  make \1\t\2/' | expand -t 20

# What using Headrace takes, and what tests, lint and benchmarks take beside it.
SETUP_INPUTS := pyproject.toml constraints.txt tools/setup.sh $(NATIVE_SOURCES)
ifdef SKIP_SETUP
$(STAMP) $(DEVELOPMENT):
	@true
else
$(STAMP): $(SETUP_INPUTS)
	@PYTHON="$(PYTHON)" JOBS="$(JOBS)" bash tools/setup.sh "$(VENV)" "$(if $(wildcard $(DEVELOPMENT)),$(DEVELOPED),sdk)"
	@touch $@
$(DEVELOPMENT): $(SETUP_INPUTS)
	@PYTHON="$(PYTHON)" JOBS="$(JOBS)" bash tools/setup.sh "$(VENV)" $(DEVELOPED)
	@touch $(STAMP) $@
endif

setup: $(DEVELOPMENT)  ## create .venv with pinned packages, those of development too, and build the native library into it

pages: $(STAMP)  ## build the user interface (ui/) where it changed
	@$(PY) tools/build_ui.py

demo: $(STAMP)  ## a real text-direction classifier from its package to the virtual device, with one table
	@$(PY) demo/run_demo.py

lint: $(DEVELOPMENT)  ## style, types, import rule, C++ format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYTHONPATH=src $(BIN)/lint-imports --no-cache
	$(BIN)/basedpyright --level error --pythonpath $(PY)
	$(if $(strip $(CXX_FILES)),$(BIN)/clang-format --dry-run -Werror $(CXX_FILES),@true)
	@$(PY) tools/build_ui.py --check --if-possible
	@$(PY) tools/check_repository.py

format: $(DEVELOPMENT)  ## rewrite the sources in the style that lint asks for
	$(BIN)/ruff check --fix-only --quiet . || true
	$(BIN)/ruff format .
	$(if $(strip $(CXX_FILES)),$(BIN)/clang-format -i $(CXX_FILES),@true)

test: lint  ## lint, then the fast tests, then end to end on real models
	@$(PY) tools/run_tests.py --jobs $(JOBS) fast e2e

test-slow: $(DEVELOPMENT)  ## the tests marked slow: sanitizers, long random runs
	@$(PY) tools/run_tests.py --jobs $(JOBS) slow

fuzz: $(DEVELOPMENT)  ## changed files for SECONDS_EACH into the reader TARGET (all of them by default); findings into build/fuzz
	@cd tests && $(abspath $(PY)) -m fuzz $(or $(TARGET),all) --seconds $(or $(SECONDS_EACH),60) --out ../build/fuzz

bench: $(DEVELOPMENT)  ## seconds and memory of each stage into bench/out; with [bench] installed also quality and speed of peers
	@$(PY) bench/run_bench.py
	@if $(PY) -c 'import nncf, openvino' 2>/dev/null; then $(PY) bench/quality.py && $(PY) bench/speed.py; fi

results: $(DEVELOPMENT)  ## every real network through every stage: bytes, SNR, accuracy, into docs/results.md
	@$(PY) tools/results_page.py

metrics: $(DEVELOPMENT)  ## the figures of every real network into tests/golden/metrics.json, and a table of what moved
	@$(PY) tools/metrics.py

clean:  ## remove what the other targets made
	rm -rf ui/node_modules src/headrace/pages/bundle .venv build dist demo/out demo/cache bench/out .pytest_cache .hypothesis .ruff_cache .import_linter_cache
	find src tests tools demo bench -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
	rm -f src/headrace/runtime/_native*.so src/headrace/runtime/_native*.pyd
