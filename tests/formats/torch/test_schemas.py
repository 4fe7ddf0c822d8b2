"""The table of ATen's schemas fits the functions that compute the operators."""

import inspect
from pathlib import Path

import numpy as np
import pytest

from onward.errors import ArgumentError
from onward.formats.torch import exported_graph  # noqa: F401 - it registers the operators
from onward.formats.torch.aten import registry
from onward.formats.torch.aten.overloads import overload
from onward.formats.torch.aten.registry import OPERATORS, Tensor
from onward.formats.torch.aten.schemas import REQUIRED, completed, overloads, schema, taken

# of operators that are not ATen's
DOMAINS = ("_operator.", "torch.", "math.", "higher_order.", "transformers.", "quantized_decomposed.")
ATEN = sorted(key for key in OPERATORS if not key.startswith(DOMAINS))
X = Tensor("x", np.dtype(np.float32), (None, None))


@pytest.mark.parametrize("keys", [ATEN[start::8] for start in range(8)])
def test_every_operator_has_a_schema_with_the_arguments_of_its_function(keys: list[str]) -> None:
    for key in keys:
        parameters = schema(key)
        assert parameters, f"{key}: run tools/make_schemas.py"
        given = {p.name: p.default for p in parameters if p.default is REQUIRED}
        arguments = taken(key, OPERATORS[key], completed(key, given))
        inspect.signature(OPERATORS[key]).bind(None, **arguments)


def test_no_operator_reads_its_own_name() -> None:
    """Functions told variants by a part of the name, so that a new name could change their meaning."""
    files = Path(registry.__file__).parent.glob("*.py")
    readers = {path.name for path in files if "node.target" in path.read_text()}
    assert readers == {"translator.py"}  # which names nodes and errors


def test_overloads_of_one_function_order_their_arguments_differently() -> None:
    order = ("self", "n_fft", "hop_length", "win_length", "window")
    for count, following in (("stft.default", "normalized"), ("stft.center", "center")):
        names = [p.name for p in overloads("stft")[count]]
        assert names[:6] == [*order, following]
    key, arguments = overload("stft", [X, 256, 128, None, None, False, "constant"], {})
    assert (key, arguments["center"], arguments["pad_mode"]) == ("stft.center", False, "constant")
    key, arguments = overload("stft", [X, 256, 128, None, None, True, False], {})
    assert (key, arguments["normalized"], arguments["onesided"]) == ("stft.default", True, False)


def test_omitted_arguments_have_the_default_values_of_the_overload() -> None:
    assert overload("stft", [X, 256], {"pad_mode": "reflect"})[1]["center"] is True
    assert overload("tril_indices", [3, 3], {})[1]["dtype"] == np.dtype(np.int64)
    assert completed("linalg_cross.default", {"self": X, "other": X})["dim"] == -1


def test_unsupported_arguments_and_overloads_are_refused() -> None:
    key, function = "stft.center", OPERATORS["hann_window.default"]
    with pytest.raises(ArgumentError, match="takes no other value of align_to_window than None"):
        taken(key, function, {"window_length": 3, "align_to_window": True})
    assert taken(key, function, {"window_length": 3, "align_to_window": None}) == {"window_length": 3}
    with pytest.raises(ArgumentError, match=r"the overload mm\.dtype of an operator is not supported"):
        overload("mm", [X, X, 6], {})
    with pytest.raises(ArgumentError, match="mm does not take these arguments: the argument mat2 is missing"):
        overload("mm", [X], {})
