# The commands of this repository; CMake and its presets do the work. Every target may be run first, on a fresh clone:
# scripts/setup.sh installs what is missing and does nothing when nothing is.

PRESET ?= release
JOBS   ?= $(shell nproc)
PROGRAM = build/$(PRESET)/bittern
# rustup installs here without touching the PATH of shells that are already open.
export PATH := $(PATH):$(HOME)/.cargo/bin

.PHONY: all setup build test demo bench format tidy clean
all: build

setup:
	@scripts/setup.sh

build: setup
	@cmake --preset $(PRESET) --log-level=WARNING
	@cmake --build --preset $(PRESET) --parallel $(JOBS)

# ctest runs last, so that its summary closes the output. It includes the layer check and the check of ISA symbols.
test: build
	@if [ -f tests/e2e/requirements.txt ]; then \
	  BITTERN_PROGRAM=$(abspath $(PROGRAM)) .venv/bin/python -m pytest -q tests/e2e; fi
	@ctest --preset $(PRESET)

demo: build
	@scripts/demo.sh $(PROGRAM)

bench: build
	@$(PROGRAM) bench

format:
	@scripts/setup.sh clang-format
	@git ls-files '*.h' '*.cpp' '*.cu' '*.cuh' | xargs clang-format -i

tidy: build
	@scripts/setup.sh clang-tidy
	@git ls-files 'src/*.cpp' 'apps/*.cpp' | xargs -P $(JOBS) -n 4 clang-tidy -p build/$(PRESET) --quiet

clean:
	@rm -rf build
