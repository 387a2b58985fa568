# Everything runs in .venv. Pass options on with ARGS, for example: make run ARGS="speech.wav"
.DEFAULT_GOAL := help
.PHONY: help run demo demo-ops serve models test test-all test-cpu test-faults test-chaos test-gate test-torch test-browser test-release test-bulk test-foreign test-container test-scale audit licences hashes lint docs sweep sweep-gateway bench compare setup setup-dev clean
SHELL := /bin/bash

# The first supported Python that can make environments; choose another with `make PYTHON=... run`.
PYTHON ?= $(shell for candidate in python3 python3.12 python3.11; do \
  $$candidate -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null \
  && command -v $$candidate && break; done)
PIP_INSTALL := .venv/bin/python -m pip install --quiet --disable-pip-version-check --progress-bar off --constraint constraints.txt

help: ## Show this
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

run: .venv/ready models ## Start a real tritonserver, transcribe real speech through it, stop. ARGS: audio files
	@.venv/bin/asrloop run $(ARGS)

demo: .venv/ready-gateway models ## A server and the gateway with its page in the foreground until Ctrl-C. ARGS: --port
	@exec .venv/bin/python scripts/demo.py $(ARGS)

serve: .venv/ready models ## Serve in the foreground until Ctrl-C. ARGS: --http-port, --grpc-port, ... (see --help)
	@exec .venv/bin/asrloop serve $(ARGS)

models: .venv/ready ## Make the models where they are missing. ARGS when asked for by name: --family, --from, --precision, ...
	@.venv/bin/asrloop models $(if $(filter models,$(MAKECMDGOALS)),$(ARGS))

# Three tests at a time: most of them wait. --dist loadfile: a file's fixtures are made once.
PYTEST := .venv/bin/python -m pytest
BOTH := --numprocesses 3 --dist loadfile
test: .venv/ready-dev models ## Run the tests but the slow ones, three at a time. ARGS go to pytest
	@$(PYTEST) $(BOTH) $(ARGS)

test-all: .venv/ready-release models ## Run all tests, the slow ones too. ARGS go to pytest
	@$(PYTEST) -m "" $(BOTH) $(ARGS)

CPU ?= EPYC-Milan
test-cpu: .venv/ready-dev models ## The tests that run in one process, as another CPU would run them, by qemu-x86_64. CPU=EPYC-Milan
	@.venv/bin/asrloop models --precision int8 # models of the usual recipe may need more than that CPU has
	@qemu-x86_64 -cpu $(CPU) .venv/bin/python -m pytest --timeout 1800 tests/engine tests/families/moonshine tests/audio $(ARGS)

test-faults: .venv/ready-dev models ## Hurt a real server in every way we know, short and at length; prints faults and outcomes
	@$(PYTEST) -m "" tests/faults tests/live/test_nothing_said.py $(ARGS)

test-gate: .venv/ready-dev models ## Plant slowdowns in a throw-away worktree: does `make compare` find them, and nothing else?
	@$(PYTEST) -m "" -s tests/bench/compare $(ARGS)

test-chaos: .venv/ready-dev models ## Two real servers killed, hung and restarted in turn for 60 s under 16 callers: no call may fail
	@$(PYTEST) -m "" -s tests/faults/test_two_servers.py $(ARGS)

test-torch: .venv/ready-torch models ## Run the tests and the type check of what needs PyTorch: training. ARGS go to pytest
	@.venv/bin/mypy --package asrloop_train
	@$(PYTEST) -m torch $(ARGS)

test-browser: .venv/ready-browser models ## The gateway's page in a real Chromium (apt-get install chromium), with a microphone that plays a WAV
	@$(PYTEST) -m browser tests/gateway $(ARGS)

demo-ops: .venv/ready-dev models ## Server, gateway and Prometheus, a minute of traffic, the numbers and the state of each alert. ARGS: --keep, --seconds
	@.venv/bin/asrloop-bench demo-ops $(ARGS)

test-release: .venv/ready-release models ## Build the wheels, install them into a bare environment, serve and transcribe with them there
	@$(PYTEST) -m "" tests/release $(ARGS)

test-bulk: .venv/ready-bulk models ## Transcribe folders by Ray Data on this machine, stop it in the middle, go on (fetches Ray, 100 MB)
	@$(PYTEST) --timeout 600 tests/test_bulk.py $(ARGS)

test-foreign: .venv/ready-dev models ## Programs of others, unmodified, through the gateway: LiteLLM, LiveKit, Pipecat, wyoming_openai, AIPerf, Node (fetches 2 GB)
	@$(PYTEST) -m "" tests/gateway/foreign $(ARGS)

test-container: .venv/ready-dev ## Build deploy/Dockerfile by mmdebstrap and runc, serve from it, stop it. As root; apt-get install mmdebstrap runc
	@$(PYTEST) -m "" -s tests/deploy/test_container.py $(ARGS)

test-scale: .venv/ready-dev models ## Three servers behind HAProxy killed, drained and added under load. apt-get install haproxy
	@$(PYTEST) -m "" -s tests/deploy/test_scale_out.py $(ARGS)

audit: .venv/ready-release ## Ask PyPI's advisories about every pinned version. Fails where they cannot be asked
	@.venv/bin/pip-audit --strict --progress-spinner off --no-deps --disable-pip --requirement constraints.txt $(ARGS)

licences: .venv/ready-release ## Write docs/licences.md from an environment that has the wheels and nothing else
	@bare=$$(mktemp -d) && trap 'rm -rf $$bare' EXIT && $(PYTHON) -m venv $$bare \
	&& $$bare/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt . './client[cli]' ./gateway \
	&& .venv/bin/python scripts/write_licences.py $$bare/bin/python

hashes: .venv/ready-dev ## Write deploy/requirements*.txt, what the images install, when constraints or dependencies have changed. ARGS: --check
	@.venv/bin/python scripts/write_hashes.py $(ARGS)

sweep: .venv/ready-dev models ## Measure latency and throughput under load with perf_analyzer; writes report.html. ARGS: --quick, ...
	@.venv/bin/python scripts/sweep.py $(ARGS)

sweep-gateway: .venv/ready-dev models ## Measure the gateway under load with AIPerf and real speech (fetches 700 MB). ARGS: --write, --requests
	@.venv/bin/asrloop-bench gateway-load $(ARGS)

bench: .venv/ready-dev models ## Measure the ladder from a channel per request to continuous batching. ARGS: --quick, ...
	@.venv/bin/python scripts/benchmark.py run $(ARGS)

compare: .venv/ready-dev models ## The gate: this checkout against another commit, served side by side. BASE=COMMIT ARGS: --cells, --rounds, ...
	@test -n "$(BASE)" || { echo 'error: name the other commit: make compare BASE=v0.1.0 (a hash, a branch or a tag)'; exit 1; }
	@.venv/bin/python scripts/benchmark.py compare $(ARGS) -- '$(BASE)'

lint: .venv/ready-dev ## ruff, mypy, and whether the generated docs are up to date
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	@# One by one, because each is a module of the name "model".
	for model in model_repository/*/1/model.py; do .venv/bin/mypy $$model || exit 1; done
	.venv/bin/python scripts/write_docs.py --check

docs: .venv/ready-dev ## Write what follows in docs/ from code and measurements: commands, metrics, settings, capacity
	@.venv/bin/python scripts/write_docs.py

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

.venv/ready-gateway: .venv/ready gateway/pyproject.toml
	@echo "Installing the gateway ..."
	@$(PIP_INSTALL) --editable ./client --editable ./gateway
	@touch $@

.venv/ready-dev: .venv/ready-gateway benchmarks/pyproject.toml training/pyproject.toml
	@echo "Installing what the tests need ..."
	@$(PIP_INSTALL) --editable '.[dev]' --editable './client[cli]' --editable ./gateway --editable ./benchmarks --editable ./training
	@touch $@

.venv/ready-release: .venv/ready-dev
	@echo "Installing what a release needs ..."
	@$(PIP_INSTALL) --editable '.[dev,release]'
	@touch $@

.venv/ready-browser: .venv/ready-dev
	@echo "Installing what drives a browser ..."
	@$(PIP_INSTALL) --editable '.[dev,browser]'
	@touch $@

.venv/ready-bulk: .venv/ready-dev
	@echo "Installing Ray ..."
	@$(PIP_INSTALL) --editable '.[dev,bulk]'
	@touch $@

.venv/ready-torch: .venv/ready-dev
	@echo "Installing PyTorch ..."
	@$(PIP_INSTALL) --editable '.[dev]' --editable './training[torch]'
	@touch $@

clean: ## Remove the environment, the cache and the built models
	git clean -fdXq model_repository bls_repository benchmarks results; rm -rf .venv .cache
