"""Messages hold steps as bytes or as JSON, and errors state what they should hold."""

import json

import numpy as np
import pytest

from onward.errors import ArgumentError, DtypeError, OnwardError, ShapeError
from onward.serve.messages import InputFormat, Port, parsed, to_bytes, to_json

TWO = InputFormat([Port("x", (2, 3), np.dtype("f4")), Port("n", (), np.dtype("i8"))])
ONE = InputFormat([Port("x", (3,), np.dtype("f4"))])
OPEN = InputFormat([Port("x", (None, 3), np.dtype("f4"))])


def test_bytes_and_json_give_the_same_arrays() -> None:
    rng = np.random.default_rng(0)
    x, n = rng.standard_normal((4, 5, 2, 3)).astype("f4"), rng.integers(0, 9, (4, 5))
    binary = [
        TWO.from_bytes(b"".join([x[i, t].tobytes() + n[i, t].tobytes() for t in range(5)])) for i in range(4)
    ]
    as_json = [TWO.from_object({"n": n[i].tolist(), "x": x[i].tolist()}) for i in range(4)]
    for inputs in (binary, as_json):
        for found, expected in zip(TWO.arrays(inputs), (x, n), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_a_size_that_the_model_leaves_open_follows_from_the_message() -> None:
    x = np.arange(12, dtype="f4").reshape(4, 3)
    for found in (OPEN.from_bytes(x.tobytes()), OPEN.from_object(x.tolist())):
        np.testing.assert_array_equal(OPEN.arrays([found])[0], x[None, None])
    with pytest.raises(ArgumentError, match="cannot tell the sizes of x, y"):
        InputFormat([Port("x", (None,), np.dtype("f4")), Port("y", (), np.dtype("f4"))])


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ("{", ArgumentError),
        ("[" * 100_000, ArgumentError),
        ('{"y": [1, 2, 3]}', ArgumentError),
        ('{"x": [1, 2, 3], "y": 1}', ArgumentError),
        ('["a", "b", "c"]', DtypeError),
        ("[1, 2, null]", DtypeError),
        ("[[1, 2], [3]]", ShapeError),
        ("[1, 2]", ShapeError),
        ("[]", ShapeError),
        ("3", ShapeError),
        ("[[[1, 2, 3]]]", ShapeError),
        (f"[{10**400}, 0, 0]", OnwardError),
    ],
)
def test_faulty_json_raises_errors_of_onward(data: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        ONE.from_object(parsed(data.encode()))


@pytest.mark.parametrize("size", [0, 1, 13])
def test_faulty_sizes_state_the_inputs(size: int) -> None:
    with pytest.raises(ShapeError, match=r"a multiple of 12: x \[3\] float32"):
        ONE.from_bytes(bytes(size))


def test_answers_hold_all_outputs_of_a_stream() -> None:
    y, n = np.arange(6, dtype="f4").reshape(2, 1, 3), [np.arange(2), np.arange(0)]
    assert to_bytes([y, n], 2) == [y[i].tobytes() + n[i].tobytes() for i in range(2)]
    assert to_bytes([y], 2) == [row.tobytes() for row in y]


def test_json_has_null_for_numbers_that_json_lacks() -> None:
    y = np.array([[1, np.nan, -np.inf]], "f4")
    text = to_json(["y", "n"], [y, np.array([7])], is_step=True)
    assert json.loads(text, parse_constant=pytest.fail) == {"y": [1, None, None], "n": 7}
