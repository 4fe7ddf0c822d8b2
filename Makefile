# Each target creates .venv if there is none and installs what it needs on first use.
PYTHON ?= python3
export CMAKE_BUILD_PARALLEL_LEVEL ?= $(shell getconf _NPROCESSORS_ONLN)
VENV := .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml CMakeLists.txt $(wildcard cpp/* cpp/*/* cpp/*/*/*)

## Run a bundled model on its test data
run: $(VENV)/.installed-cli
	$(BIN)/onward run vowels

# Caches of compiled modules save seconds in each process that collects the tests, and some in the many that they start.
test test-peers test-web: export PYTHONDONTWRITEBYTECODE :=
# A process for each core; the tests of a file stay in one.
PARALLEL := --numprocesses auto --dist loadfile
## Run the tests that need no other framework
test: $(VENV)/.installed-test
	$(BIN)/pytest $(PARALLEL)

## Compare Onward with PyTorch, onnxruntime, Keras and Ray
test-peers: $(VENV)/.installed-peers
	$(BIN)/pytest $(PARALLEL) tests/peers

## Compare published models with their original outputs: ONWARD_CASES=DIR
test-cases: $(VENV)/.installed-peers
	ONWARD_CASES=$(ONWARD_CASES) $(BIN)/pytest tests/real

# On Debian, the Arm build needs g++-aarch64-linux-gnu and qemu-user; the Windows build needs g++-mingw-w64-x86-64-posix
# and wine, and -mfma, because MinGW's own fma, which the portable kernels would call, rounds twice.
BUILD_aarch64 := -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc \
	-DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++
BUILD_windows := -DCMAKE_SYSTEM_NAME=Windows -DCMAKE_SYSTEM_PROCESSOR=AMD64 \
	-DCMAKE_C_COMPILER=x86_64-w64-mingw32-gcc-posix -DCMAKE_CXX_COMPILER=x86_64-w64-mingw32-g++-posix \
	-DCMAKE_CXX_FLAGS=-mfma
BUILD_wasm := -DCMAKE_TOOLCHAIN_FILE=$(shell em-config EMSCRIPTEN_ROOT 2>/dev/null)/cmake/Modules/Platform/Emscripten.cmake \
	-DCMAKE_CXX_FLAGS=-msimd128 -DCMAKE_EXE_LINKER_FLAGS_RELEASE='-O1 -sALLOW_MEMORY_GROWTH'
RUN_aarch64 = qemu-aarch64 build/answers-aarch64/$(1)
RUN_windows = WINEDEBUG=-all wine build/answers-windows/$(1).exe
RUN_wasm = node build/answers-wasm/$(1).js
answers-%: | $(BIN)/python
	$(BIN)/pip install --quiet cmake
	$(BIN)/python -m cmake -S tests/answers -B build/answers-here
	$(BIN)/python -m cmake -S tests/answers -B build/answers-$* $(BUILD_$*) -DCMAKE_EXE_LINKER_FLAGS=-static
	$(BIN)/python -m cmake --build build/answers-here
	$(BIN)/python -m cmake --build build/answers-$*
	build/answers-here/answers >build/answers-here.txt
	$(call RUN_$*,answers) >build/answers-$*.txt
	tr -d '\r' <build/answers-$*.txt | diff build/answers-here.txt -
	echo "the same bits: $$(wc -l <build/answers-here.txt) answers"

## Check that an emulated Arm (test-aarch64) or Windows under Wine gives the same bits, the C library included
test-aarch64 test-windows: test-%: answers-% $(VENV)/.installed-test
	PYTHONPATH=tests $(BIN)/python tests/answers/models.py build/models
	build/answers-here/library build/models/* >build/library-here.txt
	$(call RUN_$*,library) build/models/* | tr -d '\r' | diff build/library-here.txt -
	echo "the same bits: $$(wc -l <build/library-here.txt) calls and blocks of compiled models"

## Check that WebAssembly in Node gives the same bits
test-wasm: answers-wasm

## Test the core with the address, undefined behavior and thread sanitizers of GCC
sanitize: | $(BIN)/python
	$(BIN)/python tools/sanitize.py

PROGRAMS := onward.wasm onward-graph.wasm onward-graph-relaxed.wasm
## Build Onward for JavaScript, src/onward/tracing/page/*.wasm, with Emscripten
web: build/web/onward.wasm
	cp $(PROGRAMS:%=build/web/%) src/onward/tracing/page

build/web/onward.wasm: $(wildcard web/* cpp/* cpp/*/* cpp/*/*/*) | $(BIN)/python
	$(BIN)/pip install --quiet cmake
	emcmake $(BIN)/python -m cmake -S web -B build/web-relaxed -DONWARD_RELAXED=ON
	$(BIN)/python -m cmake --build build/web-relaxed
	emcmake $(BIN)/python -m cmake -S web -B build/web
	$(BIN)/python -m cmake --build build/web
	cp build/web-relaxed/onward-graph-relaxed.wasm build/web

## Test Onward for JavaScript in Node, and the page of `onward explore` in Chromium
test-web: $(VENV)/.installed-web build/web/onward.wasm test-wasm
	for program in $(PROGRAMS); do cmp build/web/$$program src/onward/tracing/page/$$program || \
		{ echo "$$program is not up to date: run make web"; exit 1; }; done
	$(BIN)/pytest tests/web

SECONDS := 5
SEED := 1
## Fuzz each reader of files for SECONDS=5; another SEED tries other files
fuzz: $(VENV)/.installed-fuzz
	$(BIN)/python fuzz/readers.py --seconds $(SECONDS) --seed $(SEED)

## Run ruff and mypy, and check the width of C++ lines and that the answers compile
lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(CXX) -std=c++20 -fsyntax-only -Icpp tests/answers/*.cpp
	! grep -rnE --include='*.cpp' --include='*.h' '.{121}' cpp web tests/answers

## Build the documentation in build/site and fail on warnings, broken links and failing lessons
docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

## Serve the documentation at http://127.0.0.1:8000 and rebuild it when a page changes
docs-serve: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

## Compare the speed of single layers with onnxruntime, OpenVINO and PyTorch
bench: $(VENV)/.installed-bench
	$(BIN)/python bench/peers.py

## Compare the speed of whole models with onnxruntime and PyTorch
bench-models: $(VENV)/.installed-bench
	$(BIN)/python bench/models.py

## Run all benchmarks in half an hour and show them in the pages: CASES=DIR
bench-all: $(VENV)/.installed-bench
	PYTHON=$(BIN)/python bench/all.sh $(CASES)

$(BIN)/python:
	@echo "Creating the virtual environment $(VENV)"
	$(PYTHON) -m venv $(VENV)

# An editable install, so that changes of Python files take effect at once; a changed core is rebuilt.
$(VENV)/.installed-%: $(SOURCES) | $(BIN)/python
	@echo "Installing Onward and its dependencies for '$*' in $(VENV). The core takes minutes to compile at first."
	$(BIN)/pip install --disable-pip-version-check --editable '.[$*]'
	touch $@

## Delete .venv and everything that was built
clean:
	rm -rf $(VENV) build dist

## List the targets
help:
	@awk '/^## / { help = substr($$0, 4) } /^[a-z]/ && help { sub(/:.*/, ""); sub(/ .*/, ""); printf "%-13s %s\n", $$0, help; help = "" }' Makefile

.PHONY: run test test-peers test-cases test-aarch64 test-windows test-wasm test-web web sanitize fuzz lint docs docs-serve bench bench-models bench-all clean help
.SECONDARY:
