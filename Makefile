# The two commands a newcomer needs: `make serve` and `make test`. Each sets up what it needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TRAIN := .venv-training
# Processes that share the tests, file by file, in the order that tests/conftest.py gives. Most tests
# wait for servers, so two suit any machine.
WORKERS ?= 2

.PHONY: help serve test lint format bench evaluate train-setup clean

help:  ## List the targets
	@awk -F ':.*## *' '/^[a-z-]+:.*##/ { printf "%-16s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Menura needs Python 3.11 or newer; set PYTHON=..." >&2; exit 1; }
	@# What a failed try leaves behind would pass for an environment the next time.
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.serve: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.serve

serve: $(VENV)/.serve  ## Start the server on 127.0.0.1:8000, with an API key and a curl line to paste
	@$(BIN)/menura serve

test: $(VENV)/.dev  ## Run every test, the official SDKs and a real browser included
	@sh tests/setup.sh $(BIN)/python
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder $(PYTEST)

lint: $(VENV)/.dev  ## Types and style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev  ## Put the code into the house's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev  ## Measure speed and memory
	$(BIN)/python -m benchmarks $(BENCH)

$(TRAIN)/.ready: pyproject.toml evaluation/referees.txt
	@$(PYTHON) -m venv $(TRAIN) || { rm -rf $(TRAIN); exit 1; }
	$(TRAIN)/bin/python -m pip install --quiet --disable-pip-version-check 'torch==2.13.0'
	$(TRAIN)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[training,evaluation]'
	$(TRAIN)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r evaluation/referees.txt
	@touch $@

train-setup: $(TRAIN)/.ready  ## Set up the environment for training and evaluation (needs torch)

evaluate: $(TRAIN)/.ready  ## Judge the engines on unseen speakers
	$(TRAIN)/bin/python -m evaluation $(EVALUATE)

clean:  ## Remove environments and caches
	rm -rf $(VENV) $(TRAIN) .venv-sdk-old .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
