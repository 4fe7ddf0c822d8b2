"""Which operations of graphs run in NumPy rather than in the core, and why."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from onward.errors import ArgumentError
from onward.graph import Model

PYTHON = "its values are strings, sequences or Python objects"
BY_VALUE = "the size of its result depends on values"
RANDOM = "its numbers are those of NumPy's generator"
CONSTANT = "it follows from shapes or options, and is a constant of almost all programs"
RARE = "no module of the tables computes it"

# The operations that never run in the core.
WITHOUT_STEPS = {
    name: reason
    for reason, names in {
        PYTHON: (
            "Python Optional OptionalGetElement OptionalHasElement SequenceEmpty SequenceConstruct "
            "SequenceLength SequenceAt SequenceErase SequenceInsert ConcatFromSequence SplitToSequence "
            "SequenceMap StringConcat StringSplit"
        ),
        BY_VALUE: "Compress NonZero NonMaxSuppression Unique",
        RANDOM: "RandomNormal RandomNormalLike RandomUniform RandomUniformLike Bernoulli Multinomial",
        CONSTANT: "Shape Size HannWindow HammingWindow BlackmanWindow MelWeightMatrix",
        RARE: "BitCast BitShift TensorScatter MaxUnpool Det GridSample AffineGrid",
        "it is a function of NumPy, for code that is recorded": "NumPy",
        "it runs once, at the end of a stream": "PadEnd",
        "it packs weights that differ in each call": "WeightedRecurrent RecurrentGradient",
        "it joins the sums of lanes in the order of a whole call": "RunningSum",
    }.items()
    for name in names.split()
}

_x, _cube = np.ones((2, 3), np.float32), np.ones((1, 1, 3, 3, 3), np.float32)
# Operations of which some cases run in NumPy: why, and such a case (inputs, attributes, known inputs), unless
# one node alone does not show it.
LEFT: dict[str, tuple[str, tuple[list[Any], dict[str, Any], list[int]] | None]] = {
    "Conv": ("windows over three axes, of images over time", ([_cube, _cube[..., :2]], {}, [1])),
    "Einsum": (
        "labels that only one array has, and the result lacks",
        ([_x, _x], {"equation": "ij,ik->i"}, []),
    ),
    "LastStep": ("rows of different lengths", ([_cube[0, 0], np.array([1, 3, 0], np.int32)], {}, [])),
    "Mod": ("the remainder of floats is exact only in NumPy", ([_x, _x], {}, [])),
    "Pow": ("powers of integers, and of float64", ([_x.astype(np.float64), _x.astype(np.float64)], {}, [])),
    "Slice": (BY_VALUE, None),
    "If": (BY_VALUE, None),
    "Loop": ("its body computes with the length of the sequence", None),
}


def in_numpy(model: Model, arrays: Sequence[Any]) -> set[str]:
    """Return the operations that run in NumPy when a model runs on some inputs, in the order of its graph."""
    try:
        general = model.general
    except ArgumentError:  # its code is recorded for each call
        return set()
    general.results(tuple(arrays), {})
    return {node.operation for node in general.planner.in_numpy()}


def unexpected(model: Model, arrays: Sequence[Any]) -> set[str]:
    """Return the operations that run in NumPy without a reason."""
    return in_numpy(model, arrays) - WITHOUT_STEPS.keys() - LEFT.keys()
