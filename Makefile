# Each target creates .venv if necessary and installs what it needs once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml CMakeLists.txt $(wildcard cpp/* cpp/*/*)

run: $(VENV)/.installed-cli
	$(BIN)/onward run vowels

test: $(VENV)/.installed-test
	$(BIN)/pytest

test-peers: $(VENV)/.installed-peers
	$(BIN)/pytest tests/peers

test-cases: $(VENV)/.installed-peers
	ONWARD_CASES=$(ONWARD_CASES) $(BIN)/pytest tests/real

# Compare the bits of this machine with those of an emulated Arm (Debian packages g++-aarch64-linux-gnu and qemu-user) or
# of Windows (g++-mingw-w64-x86-64-posix and wine). -mfma, because MinGW's fma function rounds twice.
BUILD_aarch64 := -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++
BUILD_windows := -DCMAKE_SYSTEM_NAME=Windows -DCMAKE_SYSTEM_PROCESSOR=AMD64 \
	-DCMAKE_CXX_COMPILER=x86_64-w64-mingw32-g++-posix -DCMAKE_CXX_FLAGS=-mfma
RUN_aarch64 := qemu-aarch64 build/answers-aarch64/answers
RUN_windows := WINEDEBUG=-all wine build/answers-windows/answers.exe
test-aarch64 test-windows: test-%: $(VENV)/.installed-test
	$(BIN)/pip install --quiet cmake
	$(BIN)/python -m cmake -S tests/answers -B build/answers-here
	$(BIN)/python -m cmake -S tests/answers -B build/answers-$* $(BUILD_$*) -DCMAKE_EXE_LINKER_FLAGS=-static
	$(BIN)/python -m cmake --build build/answers-here --parallel
	$(BIN)/python -m cmake --build build/answers-$* --parallel
	build/answers-here/answers >build/answers-here.txt
	$(RUN_$*) | tr -d '\r' >build/answers-$*.txt
	diff build/answers-here.txt build/answers-$*.txt && echo "the same bits: $$(wc -l <build/answers-here.txt) answers"

# Needs GCC with its sanitizers.
sanitize: | $(BIN)/python
	$(BIN)/python tools/sanitize.py

# The seconds per reader. Another seed tries other files.
SECONDS := 10
SEED := 1
fuzz: $(VENV)/.installed-fuzz
	$(BIN)/python fuzz/readers.py --seconds $(SECONDS) --seed $(SEED)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	! grep -nE '.{121}' cpp/*/* tests/answers/*.cpp

bench: $(VENV)/.installed-bench
	$(BIN)/python bench/peers.py

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Editable: changes of Python files take effect at once, and make rebuilds the core after changes of C++ files.
$(VENV)/.installed-%: $(SOURCES) | $(BIN)/python
	$(BIN)/pip install --quiet --editable '.[$*]'
	touch $@

clean:
	rm -rf $(VENV) build dist

.PHONY: run test test-peers test-cases test-aarch64 test-windows sanitize fuzz lint bench clean
.SECONDARY:
