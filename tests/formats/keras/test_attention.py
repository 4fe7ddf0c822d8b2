"""Attention layers of Keras with unusual options."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.keras_files import written

import onward
from onward.errors import FileError


def heads(shape: Any, folder: Path) -> Any:
    """A model with two heads of queries and keys of 3 elements, whose outputs have this shape."""
    rng = np.random.default_rng(0)
    sizes = {f"{name}_dense/vars": [(4, 2, 3), (2, 3)] for name in ("query", "key", "value")}
    outputs = tuple(np.atleast_1d(shape))
    sizes["output_dense/vars"] = [(2, 3, *outputs), outputs]
    weights = {f"{path}/{i}": rng.normal(size=own[i]) for path, own in sizes.items() for i in (0, 1)}
    config = {"num_heads": 2, "key_dim": 3, "value_dim": 3, "output_shape": shape, "attention_axes": [1]}
    path = written(folder / "heads.keras", "MultiHeadAttention", config, weights, (5, 4), (6, 4))
    return onward.load(path)


@pytest.mark.parametrize("shape", [[6], [2, 3], [1, 6], [3, 1, 2]], ids=str)
def test_multi_head_attention_returns_outputs_of_several_axes(shape: list[int], tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    inputs = [rng.normal(size=(2, steps, 4)).astype(np.float32) for steps in (5, 6)]
    expected = heads(6, tmp_path)(inputs)
    y = heads(shape, tmp_path)(inputs)
    np.testing.assert_array_equal(y, expected.reshape(2, 5, *shape), strict=True)


@pytest.mark.parametrize("kind", ["Attention", "AdditiveAttention"])
def test_attention_over_further_axes_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    shapes = [(5, 3, 4)] * 2
    path = written(tmp_path / "x.keras", kind, {"use_scale": False, "score_mode": "dot"}, {}, *shapes)
    with pytest.raises(FileError, match=r"layer it .* takes a value with 4 axes; expected 3"):
        onward.load(path)
