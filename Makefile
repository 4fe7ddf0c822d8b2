# Each target makes its own .venv when there is none, and installs what it needs once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml CMakeLists.txt $(wildcard cpp/* cpp/bind/*)

run: $(VENV)/.installed-cli
	$(BIN)/onward run vowels

test: $(VENV)/.installed-test
	$(BIN)/pytest

test-peers: $(VENV)/.installed-peers
	$(BIN)/pytest tests/peers

test-cases: $(VENV)/.installed-peers
	ONWARD_CASES=$(ONWARD_CASES) $(BIN)/pytest tests/real

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed-bench
	$(BIN)/python bench/peers.py

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Editable, so that Python files are read where they are; a changed core is built again.
$(VENV)/.installed-%: $(SOURCES) | $(BIN)/python
	$(BIN)/pip install --quiet --editable '.[$*]'
	touch $@

clean:
	rm -rf $(VENV) build dist

.PHONY: run test test-peers test-cases lint bench clean
.SECONDARY:
