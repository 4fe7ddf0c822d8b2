"""Convolutions with few outputs, or a kernel for each channel, in the layout of their input."""

import itertools
from typing import Any

import numpy as np
import pytest
from support.bits import each_isa, with_each_isa
from support.convolutions import SPECIAL, between_layouts, floats, moved, replace_some
from support.lowering import run_lowered
from support.programs import described_steps
from support.randomized import random_cases
from support.skips import counted_cases

import onward
from onward.errors import ShapeError
from onward.graph.graph import Graph
from onward.graph.node import Node
from onward.graph.operations import OPERATIONS
from onward.graph.operations.convolutions import FEW_CHANNELS
from onward.graph.operations.sliding import LARGE
from onward.graph.plan.planner import Planner


def random_case(rng: Any, operation: str) -> tuple[list[Any], dict[str, Any]]:
    """A convolution with few or many channels in each group, over lines shorter or longer than vectors."""
    n = int(rng.integers(1, 3))
    kernel, dilations = rng.integers(1, 5, n), rng.integers(1, 3, n)
    strides = np.where(rng.random(n) < 0.7, 1, rng.integers(1, 4, n))
    if rng.random() < 0.2:  # runs of as many elements as the stride are read several times
        kernel[-1] = strides[-1] * rng.integers(2, 5)
    if n == 2 and rng.random() < 0.3:  # rows of kernels that overlap
        kernel[0], dilations[0], strides[0] = 3, 1, 1
    sizes = kernel * dilations + rng.integers(0, 40 if n > 1 or rng.random() < 0.7 else 700, n)
    group = 1 if rng.random() < 0.5 else int(rng.integers(2, 7))
    C, M = (group * int(rng.integers(1, high)) for high in rng.permutation([4, rng.choice([4, 20])]))
    if group > 1 and rng.random() < 0.5:
        C = M = group  # a kernel for each channel
    first, second = (M, C // group) if operation == "Conv" else (C, M // group)
    inputs = [floats(rng, int(rng.integers(1, 3)), C, *sizes), floats(rng, first, second, *kernel)]
    if rng.random() < 0.5:
        inputs.append(floats(rng, M))
    pads = [int(pad) for pad in rng.integers(0, 3, 2 * n)]
    if operation == "ConvTranspose":
        whole = (sizes - 1) * strides + (kernel - 1) * dilations + 1
        pads = [int(min(pad, (size - 1) // 2)) for pad, size in zip(pads, [*whole, *whole], strict=True)]
    attributes = {
        "group": group,
        "dilations": dilations.tolist(),
        "strides": strides.tolist(),
        "pads": pads,
    }
    if operation == "ConvTranspose" and rng.random() < 0.5:
        attributes["output_padding"] = rng.integers(0, np.maximum(strides, dilations)).tolist()
    return inputs, attributes


@pytest.mark.parametrize("operation", ["Conv", "ConvTranspose"])
def test_random_convolutions(operation: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(random_cases(40)):
        inputs, attributes = random_case(rng, operation)
        found = run_lowered(operation, inputs, attributes, known=range(1, len(inputs)))
        assert found is not None
        expected = OPERATIONS[operation].compute(inputs, attributes)
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-5, err_msg=str(attributes))


def product_of_windows(x: Any, W: Any, bias: Any, attributes: dict[str, Any]) -> Any:
    """The convolution as matrix products of all windows of the padded x, one for each group."""
    n, groups, pads = W.ndim - 2, attributes["group"], attributes["pads"]
    padded = np.pad(x, [(0, 0), (0, 0), *zip(pads[:n], pads[n:], strict=True)])
    spans = [(k - 1) * d + 1 for k, d in zip(W.shape[2:], attributes["dilations"], strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(padded, spans, tuple(range(2, 2 + n)))
    every = [slice(None, None, step) for step in attributes["strides"] + attributes["dilations"]]
    windows = np.moveaxis(windows[:, :, *every], 1, -1)  # (N, *out, *kernel, C)
    outputs = []
    for part, own, b in zip(
        np.split(windows, groups, -1), np.split(W, groups), np.split(bias, groups), strict=True
    ):
        rows, matrix = part.reshape(-1, own[0].size), np.moveaxis(own, 1, -1).reshape(len(own), -1)
        found = run_lowered("Gemm", [rows, np.ascontiguousarray(matrix.T), b], {}, known=[1, 2])
        assert found is not None
        outputs.append(found[0])
    y = np.concatenate(outputs, 1).reshape(*windows.shape[: 1 + n], len(W))
    return np.moveaxis(y, -1, 1)


def test_few_outputs_or_terms_of_strided_windows_and_of_channels_last_have_the_bits_of_a_product() -> None:
    """Vectors hold their windows, which are adjacent in a copy of the input, whatever its length."""
    rng = np.random.default_rng(2)
    for _ in range(random_cases(16)):
        n, step, M = (int(rng.integers(1, high)) for high in (3, 4, rng.choice([10, 70])))
        strides, dilation = [*rng.integers(1, 3, n - 1), step], 1 if step > 1 else int(rng.integers(1, 3))
        kernel = [*rng.integers(1, 3, n - 1), step * int(rng.integers(1 if M > 10 else 3, 5))]
        W, bias = floats(rng, M, int(rng.integers(1, 6)), *kernel), floats(rng, M)
        attributes = {
            "group": 1,
            "strides": list(map(int, strides)),
            "dilations": [*[1] * (n - 1), dilation],
            "pads": [int(pad) for pad in rng.integers(0, 3, 2 * n) * int(rng.integers(2))],
        }
        calls = []
        for length in (*rng.integers(kernel[-1] * dilation, 40, 2), 200):
            x = floats(rng, 2, W.shape[1], *[int(size) for size in rng.integers(3, 6, n - 1)], int(length))
            calls.append((x, product_of_windows(x, W, bias, attributes).tobytes()))
        for last, to_last in with_each_isa(itertools.product((False, True), (M <= 10, True))):
            planner = Planner(between_layouts("Conv", [W, W, bias], attributes, (last, to_last), "Identity"))
            for x, expected in calls:
                y = planner(moved(x, 1, -1) if last else x)[0]
                assert (moved(y, -1, 1) if to_last else y).tobytes() == expected, attributes
            steps = [step for program in planner.programs for step in described_steps(program)]
            is_filter = any(step.startswith("filter") for step in steps)
            assert is_filter or (to_last and M > FEW_CHANNELS)


def test_windows_at_the_ends_of_a_long_line_have_the_bits_of_a_padded_line() -> None:
    """A long line is not copied, but both of its ends are, with their padding.

    If lines are a multiple of a vector apart, the vectors of the line start where stores are aligned.
    """
    rng = np.random.default_rng(3)
    for case, is_depthwise in itertools.product(range(random_cases(6)), (False, True)):
        C, k, dilation = (int(rng.integers(low, high)) for low, high in ((2, 40), (1, 6), (1, 4)))
        group, M = (C, C) if is_depthwise else (1, int(rng.integers(1, 5)))
        pads = [int(pad) for pad in rng.integers(0, 12, 2) * [(0, 1), (1, 0), (1, 1)][case % 3]]
        T = LARGE // C + int(rng.integers(1, 40))
        T += -T % (1, 16)[case % 2]
        x, W, bias = floats(rng, 2, C, T), floats(rng, M, C // group, k), floats(rng, M)
        replace_some(rng, x, SPECIAL[3:])
        attributes = {"group": group, "dilations": [dilation]}
        for after in with_each_isa(("Identity", "Relu", "Tanh")):
            found = []
            for line, sides in ((x, pads), (np.pad(x, [(0, 0), (0, 0), pads]), [0, 0])):
                own = attributes | {"pads": sides}
                planner = Planner(between_layouts("Conv", [x, W, bias], own, (False, False), after))
                found += [
                    planner(line)[0].tobytes(),
                    np.concatenate([planner(row[None])[0] for row in line]).tobytes(),
                ]
                steps = [step for program in planner.programs for step in described_steps(program)]
                assert not any(step.startswith("fill_border") for step in steps), steps
            assert len({*found}) == 1, (own, C, M, T)


@pytest.mark.parametrize("operation", ["Conv", "QuantizedConv"])
def test_padding_has_the_bits_of_zeros(operation: str) -> None:
    """A convolution skips zeros, which change the sign of a sum of zero, and make NaN of infinite weights."""
    negative_zeros, zeros = 0, np.array([0.0, -0.0], np.float32)
    for case in counted_cases(80):
        with case:
            assert case.seed is not None
            rng = np.random.default_rng(case.seed)
            (x, W, *_), attributes = random_case(rng, "Conv")
            bias = floats(rng, len(W))
            if rng.random() < 0.5:  # many sums are zero
                bias[rng.random(len(bias)) < 0.8] = -0.0
                x[rng.random(x.shape) < 0.7] = 0
                W *= rng.choice(np.float32([1e-3, 1]), len(W)).reshape(-1, *[1] * (W.ndim - 1))
                x *= rng.choice(np.float32([1e-36, 1]))
            x[..., : int(rng.integers(x.shape[2])), :] = 0
            replace_some(rng, x, zeros)
            replace_some(rng, W, zeros)
            if rng.random() < 0.4:
                replace_some(rng, (x, W, bias)[rng.integers(3)], SPECIAL)
            inputs = [x, W, bias]
            if operation == "QuantizedConv":
                with np.errstate(over="ignore"):
                    inputs = [x, W.astype(np.float16), None, bias]
                W = inputs[1].astype(np.float32)
            is_depthwise = operation == "Conv" and 1 < attributes["group"] == len(W) == x.shape[1]
            y = product_of_windows(x, W, bias, attributes)
            if is_depthwise:
                y += 0  # the steps that sum over the taps of each channel return no -0
            found = {np.where(np.isnan(y), np.float32(np.nan), y).tobytes()}
            for _ in each_isa():
                result = run_lowered(operation, inputs, attributes, known=range(1, len(inputs)))
                assert result is not None
                found.add(np.where(np.isnan(result[0]), np.float32(np.nan), result[0]).tobytes())
            assert len(found) == 1, attributes
            negative_zeros += np.count_nonzero((y == 0) & np.signbit(y))
    assert negative_zeros


@pytest.mark.parametrize("operation", ["Conv", "ConvTranspose"])
def test_the_bits_of_random_convolutions_depend_on_nothing_but_the_row(operation: str) -> None:
    """Not on the instruction set, the layouts of input and output, the batch, the threads or what follows.

    The layouts decide whether vectors hold outputs, channels or adjacent windows.
    """
    rng = np.random.default_rng(1)
    for _ in range(random_cases(8)):
        inputs, attributes = random_case(rng, operation)
        after, found = str(rng.choice(["Identity", "Relu", "Tanh"])), set()
        for layouts in with_each_isa(itertools.product((False, True), repeat=2)):
            planner = Planner(between_layouts(operation, inputs, attributes, layouts, after))
            x = moved(inputs[0], 1, -1) if layouts[0] else inputs[0]
            whole, rows = planner(x)[0], np.concatenate([planner(row[None])[0] for row in x])
            with onward.num_threads(2):
                shared = planner(x)[0]
            found |= {(moved(y, -1, 1) if layouts[1] else y).tobytes() for y in (whole, rows, shared)}
        assert len(found) == 1, (attributes, [array.shape for array in inputs], after)


def sliced(a: Any, steps: Any) -> tuple[Any, list[Any]]:
    """Every step-th element of a along each axis, and the arguments of Slice that select them."""
    beyond = 1 << 30
    starts, ends = np.where(steps > 0, 0, beyond), np.where(steps > 0, beyond, -beyond)
    return a[*(slice(None, None, step) for step in steps)], [starts, ends, np.arange(a.ndim), steps]


def test_the_bits_of_a_product_do_not_depend_on_the_strides_of_its_rows_and_results() -> None:
    """Its rows or its units may be adjacent, or none of them, in x and in y, where other numbers follow."""
    for case in counted_cases(60):
        with case:
            rng = np.random.default_rng(case.seed)
            rank = int(rng.integers(2, 5))
            shape = rng.choice([1, 2, 3, 5, 17], rank)
            shape[rng.integers(rank)] = rng.choice([1, 4, 16, 33, 260, 700])
            if shape.prod() > 20_000:
                case.skip()
            x, before, after = floats(rng, *shape), rng.permutation(rank), rng.permutation(rank)
            replace_some(rng, x, SPECIAL if rng.random() < 0.4 else [0, -0.0])
            rows, numbers = sliced(x, rng.choice([1, 1, 1, 2, -1], rank))
            rows, pads = rows.transpose(before), rng.integers(0, 3, (2, rank)) * int(rng.integers(2))
            W = floats(rng, rows.shape[-1], int(rng.choice([1, 2, 3, 4, 5, 8, 16, 17, 33])))
            function = str(rng.choice(["Identity", "Relu", "Tanh"]))
            plain, moves = Graph(outputs=("z",)), Graph(outputs=("y",))
            for graph, name in ((plain, "rows"), (moves, "x")):
                graph.add_input(name, np.dtype(np.float32))
                graph.add_constant(W, "W")
            moves.add_constant(pads.ravel(), "pads")
            names = [moves.add_constant(array, f"c{i}") for i, array in enumerate(numbers)]
            moves.nodes.append(Node("Slice", ("x", *names), ("s",), {}, "slice"))
            moves.nodes.append(Node("Transpose", ("s",), ("rows",), {"perm": before.tolist()}, "before"))
            for graph in (plain, moves):
                graph.nodes.append(Node("MatMul", ("rows", "W"), ("p",), {}, "product"))
                graph.nodes.append(Node(function, ("p",), ("z",), {}, "function"))
            moves.nodes.append(Node("Transpose", ("z",), ("t",), {"perm": after.tolist()}, "after"))
            moves.nodes.append(Node("Pad", ("t", "pads"), ("y",), {}, "padded"))
            for _ in each_isa():
                z = Planner(plain)(np.ascontiguousarray(rows))[0].transpose(after)
                expected, planner = np.pad(z, pads.T), Planner(moves)
                zeros = expected == 0
                for threads in (1, 2):
                    with onward.num_threads(threads):
                        y = planner(x)[0]
                    np.testing.assert_array_equal(y, expected)  # equates NaN
                    np.testing.assert_array_equal(np.signbit(y[zeros]), np.signbit(expected[zeros]))


@pytest.mark.parametrize(("group", "M"), [(1, 3), (5, 5)])
@pytest.mark.parametrize("operation", ["Conv", "ConvTranspose"])
def test_a_program_for_all_lengths_runs_a_single_window(operation: str, group: int, M: int) -> None:
    rng = np.random.default_rng(3)
    shape = (M, 5 // group, 4) if operation == "Conv" else (5, M // group, 4)
    graph = Graph(outputs=("y",))
    graph.add_input("x", np.dtype(np.float32))
    graph.add_constant(floats(rng, *shape), "W")
    graph.nodes.append(Node(operation, ("x", "W"), ("y",), {"group": group}, "conv"))
    planner = Planner(graph)
    for T in (30, 4, 9, 1 if operation == "ConvTranspose" else 5):
        x = floats(rng, 1, 5, T)
        (expected,) = OPERATIONS[operation].compute([x, graph.constants["W"]], {"group": group})
        np.testing.assert_allclose(planner(x)[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("operation", ["Conv", "ConvTranspose"])
def test_a_program_for_all_lengths_has_the_bits_of_a_program_for_each(operation: str) -> None:
    for case in counted_cases(15):
        with case:
            rng = np.random.default_rng(case.seed)
            inputs, attributes = random_case(rng, operation)
            last, after = tuple(rng.random(2) < 0.5), str(rng.choice(["Identity", "Relu", "Tanh"]))
            graph = between_layouts(operation, inputs, attributes, last, after)
            planner, sizes = Planner(graph), inputs[0].shape[1:-1]
            with case.skipping(ShapeError):  # of windows that are longer than the input
                for T in (inputs[0].shape[-1], *rng.integers(1, 60, 3), 400):
                    x = floats(rng, int(rng.integers(1, 3)), *sizes, T)
                    x = moved(x, 1, -1) if last[0] else x
                    assert planner(x)[0].tobytes() == Planner(graph)(x)[0].tobytes(), (attributes, x.shape)


def random_pooling(rng: Any, n: int) -> dict[str, Any]:
    """The attributes of a MaxPool over n axes whose windows are mostly apart and have no padding."""
    kernel, dilations = rng.integers(1, 4, n), np.where(rng.random(n) < 0.8, 1, 2)
    spans = (kernel - 1) * dilations + 1
    strides = spans + (rng.integers(0, 3, n) if rng.random() < 0.3 else 0)
    pads = [0] * 2 * n
    if rng.random() < 0.2:
        strides = rng.integers(1, 4, n)
        pads = np.minimum([*kernel, *kernel], 2 * n * [2]).astype(int) // 2
    return {
        "kernel_shape": kernel.tolist(),
        "dilations": dilations.tolist(),
        "strides": np.asarray(strides).tolist(),
        "pads": [int(pad) for pad in pads],
        "ceil_mode": int(rng.random() < 0.2),
    }


@pytest.mark.parametrize("operation", ["Conv", "QuantizedConv"])
def test_a_convolution_that_is_pooled_at_once_has_the_bits_of_both_steps(operation: str) -> None:
    """Whatever the function between them, the instruction set, the threads, the layouts and the lengths."""
    merged = 0
    for case in counted_cases(40):
        with case:
            rng = np.random.default_rng(case.seed)
            inputs, attributes = random_case(rng, "Conv")
            if operation == "QuantizedConv":
                W, M = inputs[1], len(inputs[1])
                q = rng.integers(-127, 128, W.shape).astype(np.int8)
                inputs[1:] = [q, rng.random(M, np.float32) / 500, *inputs[2:]]
            last, after = tuple(rng.random(2) < 0.3), str(rng.choice(["Identity", "Relu", "Tanh"]))
            pooling, is_read = random_pooling(rng, inputs[0].ndim - 2), rng.random() < 0.2
            if rng.random() < 0.4:
                replace_some(rng, inputs[0], SPECIAL)
            first = between_layouts(operation, inputs, attributes, (last[0], False), after)
            second = between_layouts("MaxPool", inputs[:1], pooling, (False, last[1]), "Identity")
            both = between_layouts(operation, inputs, attributes, last, "MaxPool")
            pool = Node("MaxPool", ("f",), ("a",), pooling, "pool")
            both.nodes[-2:-1] = [Node(after, ("z",), ("f",), {}, "after"), pool]
            both.outputs = ("y", "f") if is_read else ("y",)
            longer = floats(rng, *inputs[0].shape[:-1], inputs[0].shape[-1] + rng.integers(1, 60))
            calls, apart = [], (Planner(first), Planner(second))
            for x in (inputs[0], longer):
                x = moved(x, 1, -1) if last[0] else x
                with case.skipping(ShapeError):
                    calls.append((x, apart[1](apart[0](x)[0])[0]))
            for isa in each_isa():
                planner = Planner(both)
                for threads, (x, expected) in itertools.product((1, 2), calls):
                    with onward.num_threads(threads):
                        y = planner(x)[0]
                    bits = [np.where(np.isnan(a), np.float32(np.nan), a).tobytes() for a in (y, expected)]
                    assert bits[0] == bits[1], (isa, attributes, pooling)
            steps = "".join(described_steps(planner.programs[-1]))
            merged += "pooled_product" in steps
            assert not (is_read and "pooled_product" in steps)
    assert merged


def test_a_convolution_that_is_pooled_at_once_needs_no_memory_for_its_output() -> None:
    rng, x = np.random.default_rng(0), np.zeros((2, 1, 30, 50), np.float32)
    graph = between_layouts("Conv", [x, floats(rng, 32, 1, 3, 3)], {}, (False, False), "Relu")
    graph.nodes[-1:] = [Node("MaxPool", ("a",), ("y",), {"kernel_shape": [2, 2], "strides": [2, 2]}, "pool")]
    planner = Planner(graph)
    assert planner(x)[0].shape == (2, 32, 14, 24)
    assert planner.find([x]).plan.memory < (2 * 32 * 28 * 48) * 4


def channels_last(operation: str, inputs: list[Any], attributes: dict[str, Any]) -> Graph:
    """The operation on x (N, H, W, C), whose other inputs are constants."""
    graph = Graph(outputs=("y",))
    graph.add_input("x", np.dtype(np.float32))
    for i, array in enumerate(inputs[1:]):
        graph.add_constant(array, f"c{i}")
    names = ("t", *(f"c{i}" for i in range(len(inputs) - 1)))
    graph.nodes.append(Node("Transpose", ("x",), ("t",), {"perm": [0, 3, 1, 2]}, "t"))
    graph.nodes.append(Node(operation, names, ("y",), attributes, "windows"))
    return graph


@pytest.mark.parametrize("operation", ["Conv", "MaxPool", "AveragePool"])
def test_windows_over_channels_do_not_depend_on_lines_batch_or_instruction_set(operation: str) -> None:
    """Lines of few windows, and channels that fill vectors or not."""
    rng = np.random.default_rng(5)
    for _ in range(random_cases(6)):
        kernel, strides, dilations = (rng.integers(1, high, 2) for high in (4, 4, 3))
        sizes, C = kernel * dilations + rng.integers(0, 8, 2), int(rng.integers(2, 41))
        pads = [int(pad) for pad in rng.integers(0, (kernel + 1).repeat(2) // 2)]
        attributes = {
            "strides": strides.tolist(),
            "dilations": dilations.tolist(),
            "pads": pads[::2] + pads[1::2],
        }
        inputs = [floats(rng, 3, C, *sizes)]
        if operation == "Conv":
            inputs += [floats(rng, C, 1, *kernel), floats(rng, C)]
            attributes["group"] = C
        else:
            attributes["kernel_shape"] = kernel.tolist()
        expected = OPERATIONS[operation].compute(inputs, attributes)[0]
        x, found = inputs[0].transpose(0, 2, 3, 1).copy(), set()
        for _ in each_isa():
            planner = Planner(channels_last(operation, inputs, attributes))
            (y,) = planner(x)
            np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5, err_msg=str(attributes))
            single = np.concatenate([planner(row[None])[0] for row in x])
            found |= {y.tobytes(), single.tobytes()}
        assert len(found) == 1, attributes


def test_relu_of_a_product_has_the_bits_of_relu() -> None:
    rng = np.random.default_rng(6)
    for K, units, rows in ((3, 17, 30), (1, 5, 1), (40, 64, 7)):
        W, x, bias = floats(rng, K, units), floats(rng, rows, K), floats(rng, units)
        x.flat[rng.integers(x.size, size=3)] = rng.choice(SPECIAL, 3)
        W.flat[rng.integers(W.size, size=9)] = rng.choice(SPECIAL, 9)
        found = set()
        for outputs in with_each_isa((("y",), ("y", "z"))):  # z keeps Relu apart
            graph = Graph(outputs=outputs)
            graph.add_input("x", np.dtype(np.float32))
            graph.add_constant(W, "W")
            graph.add_constant(bias, "b")
            graph.nodes.append(Node("Gemm", ("x", "W", "b"), ("z",), {}, "product"))
            graph.nodes.append(Node("Relu", ("z",), ("y",), {}, "relu"))
            y, *z = Planner(graph)(x)
            if z:
                np.testing.assert_array_equal(y, np.where(z[0] < 0, 0, z[0]))
            found.add(np.where(np.isnan(y), np.float32(np.nan), y).tobytes())
        assert len(found) == 1


def test_random_blocks_that_overlap_add_up() -> None:
    rng = np.random.default_rng(4)
    for _ in range(random_cases(40)):
        n = int(rng.integers(1, 3))
        block, dilations, strides = (rng.integers(1, high, n) for high in (5, 3, 6))
        counts, pads = rng.integers(1, 6, n), rng.integers(0, 3, 2 * n)
        spans = (block - 1) * dilations + 1 + (counts - 1) * strides + rng.integers(0, strides)
        image = spans - pads[:n] - pads[n:]
        if image.min() < 1:
            continue
        x = floats(rng, 2, 3 * int(block.prod()), int(counts.prod()))
        options = {"dilations": dilations.tolist(), "strides": strides.tolist(), "pads": pads.tolist()}
        found = run_lowered("Col2Im", [x, image, block], options, known=[1, 2])
        assert found is not None
        (expected,) = OPERATIONS["Col2Im"].compute([x, image, block], options)
        np.testing.assert_allclose(found[0], expected, rtol=1e-5, atol=1e-5, err_msg=str(options))


def test_rows_of_images_have_the_bits_of_windows_that_are_computed_apart() -> None:
    """Vectors are read once for the three rows of a kernel, whatever the rows of the image and its width."""
    rng = np.random.default_rng(7)
    for case, is_depthwise in itertools.product(range(random_cases(8)), (False, True)):
        C, k, H, W = (int(rng.integers(low, high)) for low, high in ((2, 20), (1, 6), (2, 12), (1, 90)))
        H, group, M = H + (case % 2) * 20, C if is_depthwise else 1, C if is_depthwise else 1
        inputs = [floats(rng, 2, C, H + 2, W + k), floats(rng, M, C // group, 3, k), floats(rng, M)]
        for array in inputs:
            replace_some(rng, array, SPECIAL[3:])
        attributes = {"group": group, "pads": [int(pad) for pad in rng.integers(0, 3, 4)]}
        apart = attributes | {"strides": [1, 1], "dilations": [1, 1]}
        expected = product_of_windows(*inputs, apart) + np.float32(0 if is_depthwise else -0.0)
        for function in with_each_isa(("Identity", "Relu", "Tanh")):
            planner = Planner(between_layouts("Conv", inputs, attributes, (False, False), function))
            z = OPERATIONS[function].compute([expected], {})[0]
            for threads in (1, 2):
                with onward.num_threads(threads):
                    assert planner(inputs[0])[0].tobytes() == z.tobytes(), (attributes, C, k, H, W)
