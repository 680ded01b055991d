# The commands of this repository; CMake and its presets do the work. Every target may be run first, on a fresh clone:
# scripts/setup.sh installs what is missing and does nothing when nothing is.

PRESET ?= release
JOBS   ?= $(shell nproc)
PROGRAM = build/$(PRESET)/bittern
# rustup installs here without touching the PATH of shells that are already open.
export PATH := $(PATH):$(HOME)/.cargo/bin

.PHONY: all setup build test test-references test-lm-eval demo bench format tidy clean
all: build

setup:
	@scripts/setup.sh

# The program alone; `make test` builds the tests too.
build: setup
	@cmake --preset $(PRESET) --log-level=WARNING
	@cmake --build --preset $(PRESET) --parallel $(JOBS) --target bittern

# ctest runs last, so that its summary closes the output. It includes the layer check and the check of ISA symbols.
test: build
	@cmake --build --preset $(PRESET) --parallel $(JOBS)
	@if [ -f tests/e2e/requirements.txt ]; then \
	  BITTERN_PROGRAM=$(abspath $(PROGRAM)) .venv/bin/python -m pytest -q tests/e2e; fi
	@ctest --preset $(PRESET)

# Against the other programs' own code: transformers, compressed-tensors, AutoAWQ, AutoGPTQ, GPT-QModel, llm-compressor.
REFERENCES = .venv-references
test-references: build
	@[ -x $(REFERENCES)/bin/python ] || python3 -m venv $(REFERENCES)
	@$(REFERENCES)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/e2e/requirements-references.txt
	@$(REFERENCES)/bin/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps \
	  -r tests/e2e/requirements-packages.txt
	@BITTERN_PROGRAM=$(abspath $(PROGRAM)) $(REFERENCES)/bin/python -m pytest -q \
	  tests/e2e/test_interop.py tests/e2e/test_formats.py tests/e2e/test_eval_reference.py tests/e2e/test_mixed_bits.py

# lm-evaluation-harness as a client of the server (docs/evaluation.md).
LM_EVAL = .venv-lm-eval
test-lm-eval: build
	@[ -x $(LM_EVAL)/bin/python ] || python3 -m venv $(LM_EVAL)
	@$(LM_EVAL)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/e2e/requirements-lm-eval.txt
	@BITTERN_PROGRAM=$(abspath $(PROGRAM)) $(LM_EVAL)/bin/python -m pytest -q tests/e2e/test_lm_eval.py

demo: build
	@scripts/demo.sh $(PROGRAM)

# Limits of this machine, then each kernel over real shapes as a fraction of them.
bench: build
	@$(PROGRAM) bench limits
	@$(PROGRAM) bench ops

format:
	@scripts/setup.sh clang-format
	@git ls-files '*.h' '*.cpp' '*.cu' '*.cuh' | xargs clang-format -i

tidy: build
	@scripts/setup.sh clang-tidy
	@git ls-files 'src/*.cpp' 'apps/*.cpp' | xargs -P $(JOBS) -n 4 clang-tidy -p build/$(PRESET) --quiet

clean:
	@rm -rf build
