# One word each: demo, test, test-peers, test-compilers, lint, bench, gpu. Each sets up what it needs in .venv, once:
# a stamp file in .venv says that a set of dependencies is installed, and is out of date when pyproject.toml changes.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMPS := $(VENV)/stamps
# Modules are compiled when they are imported: most of what is installed never is, and compiling all takes longer.
INSTALL := $(BIN)/python -m pip install --quiet --no-compile
TORCH  := $(shell sed -n 's/.*"\(torch==[^"]*\)".*/\1/p' pyproject.toml | sort -u)

# The models call a small matrix product, a kernel, a small matrix product, …: threads of one library that spin for work
# while the other computes make it several times slower, above all on a busy machine.
QUIET := OPENBLAS_NUM_THREADS=1 OMP_WAIT_POLICY=passive

# With WHEELS=folder nothing is downloaded: what PYTHON has is used as it is, and the rest comes from there.
ifdef WHEELS
export PIP_NO_INDEX := 1
export PIP_FIND_LINKS := $(abspath $(WHEELS))
SITE := --system-site-packages
endif

.PHONY: help demo test test-peers test-compilers lint bench gpu wheels gallery clean

help:
	@echo "make demo        train a small language model with irc's forward and backward (under two minutes)"
	@echo "make test        the tests; downloads no framework"
	@echo "make test-peers  the tests against PyTorch, transformers and JAX"
	@echo "make test-compilers  kernels and the emulator of CUDA as clang++ compiles them, for x86-64 and ARM"
	@echo "make lint        ruff, mypy --strict, import directions, the wheel in an empty environment"
	@echo "make gallery     docs/examples.md, masks.md, variants.md, pictures, bugzoo.md, from examples"
	@echo "make gpu         on a machine with a CUDA device: its tests there, and speed beside PyTorch's fused attention"
	@echo "make wheels      what that needs but PyTorch, into wheels/, for a machine without a network: there make gpu WHEELS=wheels"
	@echo "make bench       speed beside PyTorch, ONNX Runtime, OpenVINO and JAX in the same run; ARGS=--help tells more"

demo: $(STAMPS)/plot
	$(QUIET) $(BIN)/python examples/charlm/train.py --steps 400 --plot out/charlm.png

test: $(STAMPS)/test $(STAMPS)/pycuda
	$(BIN)/python -m pytest -q -n auto --dist worksteal tests --ignore=tests/peers --ignore=tests/compilers

test-peers: $(STAMPS)/peers
	$(QUIET) $(BIN)/python -m pytest -q -n auto --dist loadfile tests/peers

test-compilers: $(STAMPS)/test $(STAMPS)/compilers
	$(BIN)/python -m pytest -q tests/compilers

lint: $(STAMPS)/lint $(STAMPS)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -q tests/test_imports.py
	@$(BIN)/mypy --strict -p irc & types=$$!; $(BIN)/python tests/wheel.py; made=$$?; wait $$types && exit $$made

bench: $(STAMPS)/bench
	$(BIN)/python -m benchmarks $(ARGS)

# Each of its two scripts exits with 3 where there is no device.
gpu: $(STAMPS)/gpu $(STAMPS)/pycuda
	$(BIN)/python tests/cuda/real.py
	$(BIN)/python -m benchmarks.gpu $(ARGS)

# pycuda's source, and of all others wheels for this Python; it is compiled where it runs.
wheels: $(STAMPS)/test
	$(BIN)/python -m pip download --quiet --dest wheels '.[test]' 'setuptools>=77' wheel
	$(BIN)/python tests/cuda/build_pycuda.py wheels

gallery: $(STAMPS)/plot
	$(BIN)/python docs/gallery.py
	$(BIN)/python docs/bugzoo.py

clean:
	rm -rf $(VENV) build dist out *.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(SITE) $(VENV)

$(STAMPS)/plot $(STAMPS)/test $(STAMPS)/lint $(STAMPS)/compilers: $(STAMPS)/%: pyproject.toml | $(BIN)/python
	@mkdir -p $(STAMPS)
	$(INSTALL) -e '.[$*]'
	@touch $@

# After everything that might bring another numpy: it is compiled against the one that is there.
$(STAMPS)/pycuda: tests/cuda/build_pycuda.py | $(STAMPS)/test
	$(BIN)/python $<
	@touch $@

# A machine with a device may have its own build of the framework.
$(STAMPS)/gpu: pyproject.toml | $(BIN)/python
	@mkdir -p $(STAMPS)
	$(BIN)/python -c 'import torch' 2>/dev/null || $(INSTALL) '$(TORCH)'
	$(INSTALL) -e '.[test,gpu]'
	@touch $@

# The framework first, at its pinned version, so that nothing else pulls in another one.
$(STAMPS)/peers $(STAMPS)/bench: $(STAMPS)/%: pyproject.toml | $(BIN)/python
	@mkdir -p $(STAMPS)
	$(INSTALL) '$(TORCH)'
	$(INSTALL) -e '.[test,$*]'
	@touch $@
