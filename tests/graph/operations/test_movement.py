"""Operations that move, create and pad elements, against NumPy and loops."""

import itertools
from typing import Any

import numpy as np
import pytest
from support.bits import with_each_isa

from onward.core import budget
from onward.errors import ArgumentError, ShapeError, WorkLimitError
from onward.graph import Graph, Model
from onward.graph.node import Signature
from onward.graph.operations import OPERATIONS

LARGEST = np.iinfo(np.int64).max
SMALLEST = np.iinfo(np.int64).min
FLOAT32: Any = np.dtype(np.float32)


def computed(name: str, *inputs: Any, **attributes: Any) -> Any:
    arrays = [None if x is None else np.asarray(x) for x in inputs]
    found = OPERATIONS[name].compute(arrays, attributes)
    return found[0] if len(found) == 1 else found


def signature(name: str, *inputs: Any, **attributes: Any) -> Any:
    found = OPERATIONS[name].signatures(inputs, attributes)
    return found and found[0]


X = np.arange(60.0, dtype=np.float32).reshape(3, 4, 5)


@pytest.mark.parametrize(
    ("shape", "sizes", "expected"),
    [
        ((0, 4, 5), [0, -1], (0, 20)),
        ((0, 4, 5), [-1, 20], (0, 20)),
        ((3, 0, 14), [0, 0, 2, -1], (3, 0, 2, 7)),
        ((2, 0), [0, -1], (2, 0)),
        ((3, 4, 5), [0, 2, -1], (3, 2, 10)),
    ],
)
def test_reshape_of_an_empty_batch_has_the_size_of_every_batch(shape: Any, sizes: Any, expected: Any) -> None:
    assert computed("Reshape", np.zeros(shape), sizes).shape == expected


def test_reshape_of_no_elements_refuses_sizes_that_nothing_determines() -> None:
    with pytest.raises(ShapeError, match="no elements from which to infer -1"):
        computed("Reshape", np.zeros((0, 4)), [0, -1], allowzero=1)
    with pytest.raises(ShapeError, match="cannot be reshaped"):
        computed("Reshape", np.zeros((0, 4)), [0, 3, -1])


def test_slices_are_clipped_as_onnx_defines() -> None:
    x = np.arange(5)
    assert computed("Slice", x, [1], [LARGEST]).tolist() == [1, 2, 3, 4]
    assert computed("Slice", x, [-1], [SMALLEST], [0], [-1]).tolist() == [4, 3, 2, 1, 0]
    assert computed("Slice", x, [LARGEST], [1], [0], [-2]).tolist() == [4, 2]
    assert computed("Slice", x, [-9], [SMALLEST], [0], [-1]).tolist() == [0]
    assert computed("Slice", x, [3], [-3], [0], [-1]).tolist() == [3]
    assert computed("Slice", x[:0], [LARGEST], [SMALLEST], [0], [-1]).tolist() == []
    with pytest.raises(ArgumentError, match="expected no 0"):
        computed("Slice", x, [0], [1], [0], [0])


def test_reshape_copies_and_infers_sizes() -> None:
    assert computed("Reshape", X, [0, -1]).shape == (3, 20)
    assert computed("Reshape", X[:0], [2, 0, 7], allowzero=1).shape == (2, 0, 7)
    assert computed("Reshape", X[:0], [0, 20]).shape == (0, 20)
    for shape in ([7, -1], [61], [-1, -1], [-2, -30], [60, 1, 1, 0]):
        with pytest.raises(ShapeError):
            computed("Reshape", X, shape)


def test_squeeze_and_unsqueeze_count_axes_from_the_end() -> None:
    assert computed("Unsqueeze", X, [-1, 0]).shape == (1, 3, 4, 5, 1)
    assert computed("Squeeze", X[:1, :, :1], [-1]).shape == (1, 4)
    assert computed("Squeeze", X[:1, :, :1]).shape == (4,)
    with pytest.raises(ShapeError, match="do not all have size 1"):
        computed("Squeeze", X, [1])
    with pytest.raises(ArgumentError, match="axis=3; expected -3 to 2"):
        computed("Squeeze", X, [3])


def test_the_last_part_of_a_split_is_smaller() -> None:
    parts = computed("Split", X, axis=2, num_outputs=3)
    assert [part.shape[2] for part in parts] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate(parts, 2), X)
    with pytest.raises(ShapeError, match="do not add up to 4"):
        computed("Split", X, [1, 2], axis=1)


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
def test_negative_pads_crop_before_the_others_pad(mode: str) -> None:
    y = computed("Pad", X, [-1, 2, 1, -1], None, [1, -1], mode=mode)
    expected = np.pad(X[:, 1:, :-1], ((0, 0), (0, 1), (2, 0)), mode=mode)  # type: ignore[call-overload]
    np.testing.assert_array_equal(y, expected)


def test_pads_that_remove_more_than_an_axis_has_remove_what_others_added() -> None:
    for before, after in ((3, -4), (-6, 3), (4, -6), (-4, 0), (-5, 2), (1, -4)):
        whole = np.pad(X, ((0, 0), (max(0, before), max(0, after)), (0, 0)), constant_values=7)
        expected = whole[:, max(0, -before) :][:, : 4 + before + after]
        found = computed("Pad", X, [before, after], 7, [1])
        np.testing.assert_array_equal(found, expected)


def test_pad_writes_its_constant() -> None:
    assert computed("Pad", [1, 2], [1, 1], 7).tolist() == [7, 1, 2, 7]
    assert computed("Pad", np.array(["a"], object), [0, 1], np.array("b", object)).tolist() == ["a", "b"]


def test_center_crop_pad_is_the_inverse_of_itself() -> None:
    padded = computed("CenterCropPad", X, [6, 9], axes=[0, 2])
    assert padded.shape == (6, 4, 9)
    np.testing.assert_array_equal(padded[1:4, :, 2:7], X)
    np.testing.assert_array_equal(computed("CenterCropPad", padded, X.shape), X)


def test_sequences_are_reversed_up_to_their_lengths() -> None:
    y = computed("ReverseSequence", X, [5, 0, 2], batch_axis=0, time_axis=2)
    expected = X.copy()
    expected[0], expected[2, :, :2] = X[0, :, ::-1], X[2, :, 1::-1]
    np.testing.assert_array_equal(y, expected)
    with pytest.raises(ArgumentError, match="expected 0 to 5"):
        computed("ReverseSequence", X, [6, 0, 2], batch_axis=0, time_axis=2)


def test_lengths_that_differ_from_call_to_call_are_reversed_in_the_core() -> None:
    graph = Graph()
    x = graph.add_input("x", np.float32, (2, "batch", 3, "time"))
    lengths = graph.add_input("lengths", np.int32, ("batch",))
    graph.outputs = (graph.add("ReverseSequence", x, lengths, batch_axis=1, time_axis=3),)
    model, rng = Model(graph), np.random.default_rng(0)
    for B, T in ((3, 5), (1, 7), (4, 2)):
        array, counts = rng.standard_normal((2, B, 3, T)).astype(np.float32), rng.integers(0, T + 1, B)
        expected = array.copy()
        for row, n in enumerate(counts):
            expected[:, row, :, :n] = array[:, row, :, :n][..., ::-1]
        np.testing.assert_array_equal(model(array, counts.astype(np.int32)), expected, strict=True)
        for wrong in (-1, T + 1):
            with pytest.raises(ArgumentError, match=f"out of range for an axis of size {T}"):
                model(array, np.full(B, wrong, np.int32))
    assert not any(program.in_numpy for program in model.programs)


def test_ranges_count_exactly() -> None:
    assert computed("Range", 10, 3, -3).tolist() == [10, 7, 4]
    assert computed("Range", 3, 10, -3).tolist() == []
    assert computed("Range", LARGEST - 2, LARGEST, 1).tolist() == [LARGEST - 2, LARGEST - 1]
    assert computed("Range", np.float32(0), np.float32(1), np.float32(0.3)).dtype == np.float32
    with pytest.raises(ArgumentError, match="not 0"):
        computed("Range", 0, 1, 0)


def test_triangles_and_diagonals() -> None:
    np.testing.assert_array_equal(computed("Trilu", X, -1, upper=0), np.tril(X, -1))
    np.testing.assert_array_equal(computed("Trilu", X, 2), np.triu(X, 2))
    np.testing.assert_array_equal(computed("EyeLike", X[0], k=-1, dtype="int8"), np.eye(4, 5, -1))


def test_blocks_of_columns_add_up() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3 * 6, 5 * 3))
    options = {"dilations": [2, 1], "pads": [1, 0, 2, 1], "strides": [1, 2]}
    image = computed("Col2Im", x, [4, 7], [2, 3], **options)
    expected = np.zeros((2, 3, 4 + 3, 7 + 1))
    for row, column, i, j in np.ndindex(5, 3, 2, 3):
        block = x.reshape(2, 3, 2, 3, 5, 3)[:, :, i, j, row, column]
        expected[:, :, row + 2 * i, 2 * column + j] += block
    np.testing.assert_allclose(image, expected[:, :, 1:5, :7], atol=1e-14)
    with pytest.raises(ShapeError, match="does not hold blocks"):
        computed("Col2Im", x, [9, 9], [2, 3])


def test_shapes_are_known_from_signatures() -> None:
    x = Signature((2, 10**10, 3), FLOAT32)
    for name, expected in {"Shape": [2, 10**10, 3], "Size": 6 * 10**10}.items():
        assert not OPERATIONS[name].reads_values
        (found,) = OPERATIONS[name].compute([x], {})
        assert found.tolist() == expected
    assert computed("Shape", X, start=-2, end=-1).tolist() == [4]
    assert OPERATIONS["Cast"].reads_values


def test_signatures_of_growing_operations_take_no_memory_and_do_not_overflow() -> None:
    huge, x = 2**62, Signature((1, 1), FLOAT32)
    sizes = np.array([huge, huge])
    grown = {
        "Expand": signature("Expand", x, sizes),
        "Tile": signature("Tile", x, sizes),
        "ConstantOfShape": signature("ConstantOfShape", sizes),
        "Pad": signature("Pad", x, np.array([huge - 1, huge - 1, 0, 0])),
        "CenterCropPad": signature("CenterCropPad", x, sizes),
        "EyeLike": signature("EyeLike", x._replace(shape=(huge, huge))),
    }
    assert {name: found.shape for name, found in grown.items()} == dict.fromkeys(grown, (huge, huge))
    assert signature("Tile", Signature((huge,), FLOAT32), np.array([huge])).shape == (huge * huge,)
    start, end = np.array(SMALLEST), np.array(LARGEST)
    assert signature("Range", start, end, np.array(1)).shape == (2**64 - 1,)
    assert signature("OneHot", x, np.array([huge]), x, axis=0).shape == (huge, 1, 1)
    joined = signature("Concat", *[Signature((huge, 2), FLOAT32)] * 4, axis=0)
    assert joined.shape == (4 * huge, 2)


def test_signatures_wait_for_the_values_that_decide_them() -> None:
    sizes = Signature((2,), np.dtype(np.int64))
    for name in ("Reshape", "Expand", "Tile", "Pad", "Squeeze", "Split"):
        assert OPERATIONS[name].signatures([Signature((2, 3), FLOAT32), sizes], {}) is None
    assert OPERATIONS["NonZero"].signatures([Signature((2, 3), FLOAT32)], {}) is None


def test_moved_signatures_take_no_memory() -> None:
    x = Signature((2**20, 2**20), FLOAT32)
    assert signature("Transpose", x).shape == (2**20, 2**20)
    assert signature("Slice", x, np.array([1]), np.array([LARGEST])).shape == (2**20 - 1, 2**20)
    assert signature("Unsqueeze", x, np.array([1])).shape == (2**20, 1, 2**20)


def test_dropout_runs_in_inference_mode() -> None:
    y, mask = computed("Dropout", X, 0.5, False)
    assert y is X or np.array_equal(y, X)
    assert mask.dtype == bool
    assert mask.all()
    with pytest.raises(ArgumentError, match="training mode"):
        computed("Dropout", X, 0.5, True)


def test_a_split_into_billions_of_parts_is_refused_at_once() -> None:
    with budget.of_file(1000), pytest.raises(WorkLimitError):
        computed("Split", np.zeros((2, 3)), num_outputs=10**30)


@pytest.mark.parametrize(
    "shape", [(3, 5, 7), (2, 64, 33), (1, 300, 17), (4, 3, 100), (3, 2, 39), (3, 39, 2), (47, 1, 31)]
)
@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint8])
def test_transposed_copies_with_each_instruction_set(shape: tuple[int, ...], dtype: Any) -> None:
    x = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    for perm in with_each_isa(itertools.permutations(range(3))):
        graph = Graph()
        graph.outputs = (graph.add("Transpose", graph.add_input("x", dtype, shape), perm=list(perm)),)
        np.testing.assert_array_equal(Model(graph)(x), x.transpose(perm))
