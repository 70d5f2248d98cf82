# make demo   finds targets in a made-up clip with the shipped weights
# make test   linters, types and all tests, as .ci/run does
# Both make .venv and use it; a second call installs nothing.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10; do \
	$$p -c 'import sys, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
JOBS ?= 2
DEMO := runs/demo

.PHONY: demo test lint clean
.NOTPARALLEL:

demo: .venv/.demo
	rm -rf $(DEMO)
	$(BIN)/irdet synth clip $(DEMO)/clip.mkv
	$(BIN)/irdet infer $(DEMO)/clip.mkv --output $(DEMO)/found

test: lint
	$(BIN)/python -m pytest -q -n $(JOBS)

lint: .venv/.test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis $(DEMO)

.venv/pyvenv.cfg:
	@test -n "$(PYTHON)" || { echo "make: no Python of 3.10 or newer found; name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.demo: pyproject.toml | .venv/pyvenv.cfg
	@echo "installing irdet into .venv, which takes a minute or two"
	$(PIP) -e ".[cpu]"
	touch $@

# torch first and by its version, so that the extras find it installed and take it as it is.
.venv/.test: pyproject.toml | .venv/pyvenv.cfg
	@echo "installing irdet with torch and the test tools into .venv, which takes some minutes"
	$(PIP) "torch==2.13.0"
	$(PIP) -e ".[cpu,train,export,track,dev]"
	touch $@
