# Everything runs in .venv. Pass options on with ARGS, for example: make run ARGS="speech.wav"
.DEFAULT_GOAL := help
.PHONY: help run serve models test test-torch lint sweep bench setup setup-dev clean
SHELL := /bin/bash

# The first supported Python that can make environments; choose another with `make PYTHON=... run`.
PYTHON ?= $(shell for candidate in python3 python3.12 python3.11; do \
  $$candidate -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null \
  && command -v $$candidate && break; done)
PIP_INSTALL := .venv/bin/python -m pip install --quiet --disable-pip-version-check --progress-bar off --constraint constraints.txt

help: ## Show this
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

run: .venv/ready models ## Start a real tritonserver, transcribe real speech through it, stop. ARGS: audio files
	@.venv/bin/python scripts/run.py $(ARGS)

serve: .venv/ready models ## Serve in the foreground until Ctrl-C. ARGS: --http-port, --grpc-port, ... (see --help)
	@exec .venv/bin/python scripts/serve.py $(ARGS)

models: .venv/ready ## Make the encoder and the decoder where they are missing. ARGS go to the script when asked for by name
	@.venv/bin/python scripts/prepare_models.py $(if $(filter models,$(MAKECMDGOALS)),$(ARGS))

test: .venv/ready-dev models ## Run the tests. ARGS go to pytest
	@.venv/bin/python -m pytest $(ARGS)

test-torch: .venv/ready-torch models ## Run the tests and the type check of what needs PyTorch: training. ARGS go to pytest
	@.venv/bin/mypy --package asrloop_train
	@.venv/bin/python -m pytest -m torch $(ARGS)

sweep: .venv/ready-dev models ## Measure latency and throughput under load with perf_analyzer; writes report.html. ARGS: --quick, ...
	@.venv/bin/python scripts/sweep.py $(ARGS)

bench: .venv/ready-dev models ## Measure the ladder from a channel per request to continuous batching. ARGS: --quick, ...
	@.venv/bin/python scripts/benchmark.py run $(ARGS)

lint: .venv/ready-dev ## ruff and mypy
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

setup: .venv/ready ## Make .venv with what running needs
setup-dev: .venv/ready-dev ## Make .venv with what the tests need as well

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or 3.12 with venv and pip found; install one (Debian, Ubuntu: apt-get install python3 python3-venv) or name it: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "Making .venv with $(PYTHON)"
	@$(PYTHON) -m venv .venv

.venv/ready: .venv/bin/python pyproject.toml client/pyproject.toml constraints.txt
	@echo "Installing what running needs (small wheels, about a minute) ..."
	@$(PIP_INSTALL) --editable . --editable './client[cli]'
	@touch $@

.venv/ready-dev: .venv/ready
	@echo "Installing what the tests need ..."
	@$(PIP_INSTALL) --editable '.[dev]' --editable './client[cli]'
	@touch $@

.venv/ready-torch: .venv/ready-dev
	@echo "Installing PyTorch ..."
	@$(PIP_INSTALL) --editable '.[train]'
	@touch $@

clean: ## Remove the environment, the cache and the built models
	rm -rf .venv .cache model_repository/{encoder,decoder}/1/{*.onnx,family.json,tokenizer.bin,vocab.txt} benchmarks/models/*/1/model.onnx results
