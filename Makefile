# make demo, make test: each works alone on a fresh clone. The environment is made once and used again.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

BIN := .venv/bin
READY := .venv/.ready-test
READY_DEV := .venv/.ready-dev
READY_BENCH := .venv/.ready-bench
# One torch thread per worker: two workers on two cores are faster than two threads that wait for each other.
WORKERS ?= logical
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
# Builds of ONNX Runtime may report usage over the network.
export ORT_DISABLE_TELEMETRY := 1
SOURCES := compiler passes backends kernels tools tests

.PHONY: help demo test lint format types bench bench-peers spine zoo zoo-big zoo-tensorrt zoo-rknn zoo-prune zoo-coreml zoo-coreai clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

demo: $(READY)  ## train, compile, run and measure a small net on handwritten digits
	$(BIN)/python -m fxc.tools.demo

test: $(READY)  ## everything that a change must not break
	$(ONE_THREAD) $(BIN)/python -m pytest --numprocesses=$(WORKERS) --maxprocesses=8 --dist=worksteal $(PYTEST)

lint: $(READY_DEV)  ## style, formatting and layout guards
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(ONE_THREAD) $(BIN)/python -m pytest -q tests/house

format: $(READY_DEV)  ## rewrite the sources in the house's format
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

types: $(READY_DEV)  ## type-check an installed wheel
	.ci/types

bench: $(READY)  ## the speed of single pieces (pytest-benchmark)
	$(ONE_THREAD) $(BIN)/python -m pytest -o addopts=--import-mode=importlib --benchmark-only $(PYTEST)

bench-peers: $(READY_BENCH)  ## compile time, latency, accuracy and memory beside ONNX Runtime's path and NNCF; half an hour
	$(BIN)/python -m fxc.tools.bench all -o build/bench/peers.md

spine: $(READY)  ## measure the fourteen models at 224x224 and rewrite tests/zoo/spine.md
	$(BIN)/python -m tests.zoo.spine

zoo: $(READY)  ## every torchvision classifier and more, one process each, then 10,000 random graphs; goes on where it stopped
	$(BIN)/python -m tests.zoo.sweep
	$(BIN)/python -m tests.random.sweep --examples 10000

zoo-rknn: $(READY)  ## Rockchip's simulator: our numbers beside the toolkit's own; needs fxc toolchain install rknn; 20 minutes
	$(BIN)/python -m tests.zoo.rknn

zoo-prune: $(READY)  ## prune every model at 30 and 50 %, compare with masking and rewrite tests/zoo/prune.md
	$(BIN)/python -m tests.zoo.prune

zoo-coreml: $(READY)  ## every classifier as a Core ML program, read back and evaluated; rewrites tests/zoo/coreml.md
	$(BIN)/python -m tests.zoo.coreml

zoo-coreai: $(READY)  ## the fourteen models in eight bits through Apple's Core AI runtime; rewrites tests/zoo/coreai.md
	$(BIN)/python -m tests.zoo.coreai

zoo-big: $(READY)  ## the four models above 300 million parameters
	$(BIN)/python -m tests.zoo.sweep --big

zoo-tensorrt: $(READY)  ## emit every classifier for TensorRT, judge the files and rewrite tests/zoo/tensorrt.md
	$(BIN)/python -m tests.zoo.tensorrt_sweep

clean:  ## remove the environment and everything that was built
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks

$(READY): pyproject.toml constraints.txt .ci/environment
	.ci/environment test
	touch $@

$(READY_DEV): pyproject.toml constraints.txt .ci/environment
	.ci/environment dev
	touch $(READY) $@

$(READY_BENCH): pyproject.toml constraints.txt .ci/environment
	.ci/environment bench
	touch $(READY) $@
