# make demo   finds targets in a made-up clip with the shipped weights
# make test   linters, types and all tests, as .ci/run does
# Both make .venv and use it; a second call installs nothing.
# make test-runtime   what runs on a device, on the oldest Python (python3.10, or PYTHON=...), without torch and onnx

# Asked for before PYTHON gets its default.
OLDEST := $(or $(PYTHON),python3.10)
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10; do \
	$$p -c 'import sys, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
JOBS ?= 2
DEMO := runs/demo

RUNTIME := .venv-runtime/bin/python
RUNTIME_TESTS := core engines runtime tracking doctor metrics evaluation/bench evaluation/test_evaluate.py \
	cli/test_app.py cli/test_infer.py cli/test_eval.py cli/test_bench.py cli/test_verify.py test_layers.py test_shipped.py

.PHONY: demo test test-runtime lint clean
.NOTPARALLEL:

demo: .venv/.demo
	rm -rf $(DEMO)
	$(BIN)/irdet synth clip $(DEMO)/clip.mkv
	$(BIN)/irdet infer $(DEMO)/clip.mkv --output $(DEMO)/found

test: lint
	$(BIN)/python -m pytest -q -n $(JOBS)

test-runtime: .venv-runtime/.test
	$(RUNTIME) -m pytest -q $(addprefix tests/,$(RUNTIME_TESTS))

lint: .venv/.test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

clean:
	rm -rf .venv .venv-runtime build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis $(DEMO)

# Half an environment would be taken for a whole one the next time.
.venv/pyvenv.cfg:
	@test -n "$(PYTHON)" || { echo "make: no Python of 3.10 or newer found; name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv || { rm -rf .venv; exit 1; }

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

.venv-runtime/.test: pyproject.toml
	@command -v $(OLDEST) >/dev/null || { echo "make: $(OLDEST) is not there; name it: make test-runtime PYTHON=/path/to/python3.10" >&2; exit 1; }
	@echo "installing irdet's runtimes with $(OLDEST) into .venv-runtime, which takes a minute or two"
	$(OLDEST) -m venv --clear .venv-runtime
	$(RUNTIME) -m pip install --quiet --disable-pip-version-check -e ".[cpu,openvino,track]" "pytest>=8.0" "hypothesis>=6.100"
	touch $@
