"""Writes tests/data/golden_layers.npz: what PyTorch and onnxruntime answer to the cases of tests/cases.py.

Needs torch, onnx and onnxruntime. Inputs are not kept, as a seed makes them again, and of answers a sample.
"""

import sys
from pathlib import Path

import numpy as np

TESTS = Path(__file__).parent.parent / "tests"
sys.path += [str(TESTS), str(TESTS / "peers")]

from cases import CASES, inputs_of, sample  # noqa: E402
from frameworks import onnx_gru_answer, torch_answer  # noqa: E402


def main() -> None:
    golden = {}
    for case in CASES:
        if case.cell == "gru_reset_before" and case.dtype == "float64":  # onnxruntime has it in float32 alone
            continue
        answer = onnx_gru_answer if case.cell == "gru_reset_before" else torch_answer
        for name, array in zip("yhc", answer(case, inputs_of(case)), strict=True):
            if array is not None:
                golden[f"{case.id}/{name}"] = sample(array)
    np.savez_compressed(TESTS / "data" / "golden_layers.npz", **golden)


if __name__ == "__main__":
    main()
