"""Transposed convolutions of long lines."""

import itertools

import numpy as np
from support.bits import each_isa
from support.convolutions import SPECIAL, between_layouts, floats, moved, replace_some
from support.programs import described_steps
from support.randomized import random_cases

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
        for last, _ in itertools.product((False, True), each_isa()):
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
        for after, _ in itertools.product(("Identity", "Relu"), each_isa()):
            found = set()
            for line, sides in ((x, crops), (padded, crops + extra * stride)):
                own = attributes | {"pads": [int(side) for side in sides]}
                planner = Planner(between_layouts("ConvTranspose", [x, W, bias], own, (False, False), after))
                found.add(planner(line)[0].tobytes())
                steps = [step for program in planner.programs for step in described_steps(program)]
                assert not any(step.startswith("fill_border") for step in steps), steps
            assert len(found) == 1, (own, C, M, k)
