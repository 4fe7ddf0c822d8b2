"""Transposed convolutions of long lines."""

import numpy as np
from support.bits import with_each_isa
from support.convolutions import SPECIAL, between_layouts, floats, moved, replace_some
from support.programs import described_steps
from support.randomized import random_cases

from onward.graph import Graph
from onward.graph.operations import OPERATIONS
from onward.graph.operations.sliding import LARGE
from onward.graph.operations.transposed import LONG
from onward.graph.plan.planner import Planner


def test_long_lines_of_a_transposed_convolution_have_the_bits_of_short_ones() -> None:
    """The products of a long line are added line by line, those of a short one input by input."""
    rng = np.random.default_rng(4)
    for _ in range(random_cases(6)):
        group, C, M, k, stride, dilation = (
            int(rng.integers(low, high)) for low, high in ((1, 3), (1, 9), (5, 16), (1, 8), (1, 5), (1, 3))
        )
        C, reach = C * group, (k - 1) * dilation + 1
        x, W, bias = floats(rng, 2, C, LONG + 30), floats(rng, C, M, k), floats(rng, M * group)
        for array in (x, W, bias):
            replace_some(rng, array, SPECIAL[3:])
        bias[::3] = -0.0
        x[:, :, 7:80] = 0
        before, after = (int(pad) for pad in rng.integers(0, reach, 2))
        attributes = {"group": group, "strides": [stride], "dilations": [dilation], "pads": [before, after]}
        constants = [x, W, bias] if rng.random() < 0.7 else [x, W]
        short = x[:, :, : LONG - 1]
        found = set()
        for last in with_each_isa((False, True)):
            layouts = (last, False)
            planner = Planner(between_layouts("ConvTranspose", constants, attributes, layouts, "Identity"))
            ys = [planner(moved(line, 1, -1) if last else line)[0] for line in (x, short)]
            count = min(ys[1].shape[2], (LONG - 1) * stride - before)  # later inputs reach later outputs
            found |= {y[:, :, :count].tobytes() for y in ys}
        assert count > stride * LONG // 2
        assert len(found) == 1, (attributes, C, M, k)


def test_the_ends_of_a_long_input_have_the_bits_of_a_padded_input() -> None:
    """A long input with few outputs is not copied, but both of its ends are, with their padding."""
    rng = np.random.default_rng(5)
    for _ in range(random_cases(8)):
        C, M, k, stride, dilation = (
            int(rng.integers(low, high)) for low, high in ((2, 16), (1, 5), (1, 12), (1, 9), (1, 3))
        )
        x, W = floats(rng, 2, C, LARGE // C + int(rng.integers(1, 40))), floats(rng, C, M, k)
        bias, reach = floats(rng, M), (k - 1) * dilation + 1
        replace_some(rng, x, SPECIAL[3:])
        attributes = {"strides": [stride], "dilations": [dilation]}
        crops, extra = rng.integers(0, reach, 2), reach // stride + 1
        padded = np.pad(x, [(0, 0), (0, 0), (extra, extra)])
        for after in with_each_isa(("Identity", "Relu")):
            found = set()
            for line, sides in ((x, crops), (padded, crops + extra * stride)):
                own = attributes | {"pads": [int(side) for side in sides]}
                planner = Planner(between_layouts("ConvTranspose", [x, W, bias], own, (False, False), after))
                found.add(planner(line)[0].tobytes())
                steps = [step for program in planner.programs for step in described_steps(program)]
                assert not any(step.startswith("fill_border") for step in steps), steps
            assert len(found) == 1, (own, C, M, k)


def test_few_outputs_of_a_long_input_and_far_taps_equal_numpy() -> None:
    """Such a call was refused: a view had a negative size, or exceeded its array."""
    cases = [
        ((1, 16, 2000), (16, 1, 9), 1, 1, (0, 2006)),
        ((1, 16, 2000), (16, 1, 9), 1, 1, (2005, 0)),
        ((1, 400, 49), (400, 1, 4), 3, 50, (146, 146)),
        ((1, 50, 332), (50, 1, 4), 3, 331, (989, 962)),
    ]
    rng = np.random.default_rng(6)
    for _ in range(random_cases(12)):
        C, M, k, stride, dilation = (
            int(rng.integers(low, high)) for low, high in ((8, 200), (1, 5), (1, 12), (1, 8), (1, 60))
        )
        length = LARGE // C + int(rng.integers(1, 40))
        whole = (length - 1) * stride + (k - 1) * dilation + 1
        left = int(rng.choice([1, 2, 9, 30, whole // 2, whole - 1]))
        before = int(rng.integers(0, max(1, whole - left)))
        cases.append(((1, C, length), (C, M, k), stride, dilation, (before, max(0, whole - left - before))))
    for shape, filters, stride, dilation, pads in cases:
        x, W = floats(rng, *shape), floats(rng, *filters)
        attributes = {"strides": [stride], "dilations": [dilation], "pads": list(pads)}
        expected = OPERATIONS["ConvTranspose"].compute([x, W], attributes)[0]
        for before_it in ("Identity", "Neg"):
            graph = Graph()
            y = graph.add(before_it, graph.add_input("x", np.float32))
            graph.outputs = (graph.add("ConvTranspose", y, graph.add_constant(W), **attributes),)
            given = x if before_it == "Identity" else -x
            (found,) = Planner(graph)(given)
            message = str((shape, filters, attributes))
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4, err_msg=message)
