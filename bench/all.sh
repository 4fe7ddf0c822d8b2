#!/usr/bin/env bash
# Run all benchmarks one after the other, write their JSON, and show it in the README and the pages.
#
#   bench/all.sh CASES [--quick] [ROOT]
#
# CASES is the folder of trained models. ROOT, the checkout by default, has the README.md and docs to write. --quick tries
# every script in a few minutes; its figures are worth nothing. A script that fails keeps its old JSON and ends the run with an error.
# ZOO_PYTHON is a Python with the packages of bench/zoo_models.py; without it, only the models that need none of them run.
set -uo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
cases=$(realpath "$1"); shift
quick=(); [ "${1:-}" != --quick ] || { quick=(--quick); shift; }
root=$(realpath "${1:-$here}")
python=${PYTHON:-$here/.venv/bin/python}
cd "$here"
failed=()
run() {
  local script=$1 start=$SECONDS; shift
  echo "== $script"
  if "$python" "bench/$script.py" --json "$root/build/$script.json" "${quick[@]}" "$@"; then
    mv "$root/build/$script.json" "$root/docs/benchmarks/$script.json"
  else
    failed+=("$script")
  fi
  echo "== $script took $((SECONDS - start)) s"
}
mkdir -p "$root/build"
run startup
run models --cases "$cases"
run keras_models
python=${ZOO_PYTHON:-$python} run zoo --cases "$cases"
run lengths
run latency --cases "$cases"
run pool --cases "$cases"
run denormals
run load --cases "$cases"
run quantized --cases "$cases"
run serve --cases "$cases"
run train
run scan_gradients
run tflite --cases "$cases"
run scale
run peers
run convolutions
run c --cases "$cases"
run microcontroller
run javascript --cases "$cases"
"$python" bench/tables.py "$root" || failed+=(tables)
[ ${#failed[@]} = 0 ] || { echo "failed: ${failed[*]}"; exit 1; }
