# Everything starts here: `make demo` to hear it, `make test` to check it, `make help` for the rest.

SHELL := /bin/bash
VENV ?= .venv
export VENV
BIN := $(VENV)/bin
DEMO := pkontext/data/demo.mid

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev demo test lint bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: ## install the program into .venv
	@scripts/setup.sh run

setup-dev: ## install what tests and training need as well
	@scripts/setup.sh dev

demo: setup ## perform the bundled piece to out/demo.wav, and open the app where there is a display
	@mkdir -p out
	@$(BIN)/pkontext render $(DEMO) -o out/demo.wav --force
	@if [ -f gui/__main__.py ] && [ -n "$${DISPLAY:-}$${WAYLAND_DISPLAY:-}" ]; then \
		$(BIN)/python -m gui $(DEMO); \
	fi

lint: setup-dev ## style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright

# What runs through a sound server has a process for each file, as JACK's library keeps the state of one server in
# a process, and a second chance: a server drops a client that a busy machine keeps waiting, and JACK's library may
# then wait for ever.
REALTIME := $(shell grep -lE 'tests.(jack_server|live_midi) import' tests/test_*.py)
test: lint ## lint, then the tests
	@for file in $(REALTIME); do \
		timeout -k 10 600 $(BIN)/python -m pytest -q $$file \
			|| timeout -k 10 600 $(BIN)/python -m pytest -q $$file --last-failed || exit 1; \
	done
	@$(BIN)/python -m pytest -m "not realtime"

bench: setup-dev ## real-time factor, time to first audio and memory, stage by stage, and of the player
	@$(BIN)/python scripts/bench.py
	@$(BIN)/python scripts/bench_player.py

clean: ## remove caches and build output, keep .venv and what you rendered
	@rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +
