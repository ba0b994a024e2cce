# Every target does its own set-up: it needs make and a Python of at least 3.11, nothing else.
#   make demo             train a network on handwritten digits, write demo.png
#   make test             formatting, lint, types, the whole test suite
#   make quick            the same without the slow tests
#   make thorough         what the test suite shows by a sample, in full: kills, mutants, networks
#   make peers            install PyTorch, transformers and ONNX, which `make test` then compares with
#   make docs             the documentation, with its notebooks run, into build/docs
#   make lint             formatting, lint and types alone
#   make benchmark        fnn against its peers, written into benchmarks/README.md
#   make benchmark-check  the ratios beside their bounds; fails where one is exceeded
#   make clean            remove what these made

CANDIDATES := python3 python3.13 python3.12 python3.11 python3.14 python
PYTHON ?= $(firstword $(foreach name,$(CANDIDATES),$(shell $(name) -c \
	'import sys; sys.version_info >= (3, 11) and print("$(name)")' 2>/dev/null)))
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
WORKERS ?= logical
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 4 --dist worksteal

.PHONY: demo test quick thorough peers docs lint benchmark benchmark-check clean
.DELETE_ON_ERROR:

demo: $(VENV)/demo.stamp
	$(BIN)/python -m examples.mnist

test: lint
	$(PYTEST)

quick: lint
	$(PYTEST) -m "not slow and not thorough"

thorough: $(VENV)/test.stamp
	$(PYTEST) -m thorough

peers: $(VENV)/peers.stamp

docs: $(VENV)/docs.stamp
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/docs
	@echo "open build/docs/index.html"

lint: $(VENV)/test.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --num-workers 2 fnn

benchmark: $(VENV)/benchmark.stamp
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.inference
	$(BIN)/python -m benchmarks.layers
	$(BIN)/python -m benchmarks.depth
	$(BIN)/python -m benchmarks.streaming
	$(BIN)/python -m benchmarks.cores
	$(BIN)/python -m benchmarks.augmentation

benchmark-check: $(VENV)/benchmark.stamp
	$(BIN)/python -m benchmarks.check $(CHECK)

clean:
	rm -rf $(VENV) build dist fnn.egg-info demo.png
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis

# One stamp for each set of packages; a change of pyproject.toml installs anew.
$(VENV)/pyvenv.cfg:
	@test -n "$(PYTHON)" || { echo "expected Python 3.11 or newer, found none; \
	do install it, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo.stamp: EXTRAS := datasets,plot
$(VENV)/test.stamp: EXTRAS := test
$(VENV)/peers.stamp: EXTRAS := peers
$(VENV)/docs.stamp: EXTRAS := docs
$(VENV)/benchmark.stamp: EXTRAS := datasets,benchmark
$(VENV)/%.stamp: pyproject.toml | $(VENV)/pyvenv.cfg
	@echo "installing fnn[$(EXTRAS)] into $(VENV)"
	@$(PIP) --editable '.[$(EXTRAS)]'
	@touch $@
