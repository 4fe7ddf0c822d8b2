"""Arrays with equal borders share them."""

from typing import Any

import numpy as np
import pytest
from onnx import helper
from support.evaluate import meaning
from support.onnx_nodes import model_of, open_model
from support.programs import described_steps

CHANNELS, SIZES = 16, (7, 5)
RNG = np.random.default_rng(0)
WEIGHTS = {
    "V": RNG.standard_normal((CHANNELS, CHANNELS, 3, 3)).astype(np.float32) / 12,
    "D": RNG.standard_normal((CHANNELS, 1, 3, 3)).astype(np.float32) / 3,
    "half": np.array(0.5, np.float32),
    "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
}


def padded(name: str, x: str, y: str) -> list[Any]:
    """The nodes of an operation that pads x and keeps its shape."""
    pads = {"pads": [1, 1, 1, 1]}
    if name == "pool":
        return [helper.make_node("MaxPool", [x], [y], kernel_shape=[3, 3], **pads)]
    if name == "half":
        weights = {"kernel_shape": [3, 3], "group": CHANNELS}
        return [
            helper.make_node("Pad", [x, "pads", "half"], [f"{y}_padded"]),
            helper.make_node("Conv", [f"{y}_padded", "D"], [y], **weights),
        ]
    group = {"group": CHANNELS} if name == "D" else {}
    return [helper.make_node("Conv", [x, name], [y], **group, **pads)]


def random_nodes(rng: np.random.Generator) -> list[Any]:
    """Operations of earlier results, all of one shape; the last one adds all results that nothing reads."""
    nodes, unread = [], ["x"]
    for number in range(int(rng.integers(2, 9))):
        x, y = str(rng.choice(unread)), f"v{number}"
        kind = str(rng.choice(["V", "D", "pool", "half", "Tanh"]))
        nodes += [helper.make_node("Tanh", [x], [y])] if kind == "Tanh" else padded(kind, x, y)
        if rng.random() < 0.7:
            unread.remove(x)
        unread.append(y)
    return [*nodes, helper.make_node("Sum", unread, ["y"])]


def fills_of(nodes: list[Any], x: np.ndarray[Any, Any]) -> int:
    """Compare two calls with NumPy, and return how many steps fill a border."""
    model = open_model(model_of(nodes, {"x": x}, ["y"], WEIGHTS))
    for factor in (1, -2):
        (expected,) = meaning(model, factor * x)
        np.testing.assert_allclose(model(factor * x)[0], expected, rtol=1e-5, atol=1e-5)
    (program,) = model.programs
    return sum("fill_border" in step for step in described_steps(program))


def test_random_graphs_with_borders_match_numpy() -> None:
    rng, fills, pads = np.random.default_rng(1), 0, 0
    for _ in range(8):
        nodes = random_nodes(rng)
        fills += fills_of(nodes, rng.standard_normal((2, CHANNELS, *SIZES)).astype(np.float32))
        pads += sum(node.op_type in ("Conv", "MaxPool") for node in nodes)
    assert fills < 0.8 * pads


# A product of rows of one padded array is written to another one.
@pytest.mark.parametrize(("operations", "fills"), [("DTDTD", 1), ("DpDpD", 3), ("VVVV", 2)])
def test_borders_that_nothing_reads_any_more_are_not_filled_again(operations: str, fills: int) -> None:
    names = {"p": "pool"}
    nodes, before = [], "x"
    for number, each in enumerate(operations):
        y = f"v{number}" if number + 1 < len(operations) else "y"
        nodes += (
            [helper.make_node("Tanh", [before], [y])]
            if each == "T"
            else padded(names.get(each, each), before, y)
        )
        before = y
    x = np.random.default_rng(2).standard_normal((1, CHANNELS, *SIZES)).astype(np.float32)
    assert fills_of(nodes, x) == fills


def test_products_write_into_the_arrays_that_the_next_operations_pad() -> None:
    names = ["x", "v0", "v1", "v2", "y"]
    kinds = zip(("V", "D", "V", "V"), names, names[1:], strict=False)
    nodes = [node for kind in kinds for node in padded(*kind)]
    x = np.random.default_rng(3).standard_normal((2, CHANNELS, *SIZES)).astype(np.float32)
    model = open_model(model_of(nodes, {"x": x}, ["y"], WEIGHTS))
    np.testing.assert_allclose(model(x)[0], meaning(model, x)[0], rtol=1e-5, atol=1e-5)
    copies = [step for step in described_steps(model.programs[0]) if step.startswith("copy")]
    assert len(copies) == 1  # the input; the last step writes the output with the channels in front
