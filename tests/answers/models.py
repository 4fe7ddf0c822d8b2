"""Compile models to a folder, for the program that prints what the C library computes for them."""

import sys
from pathlib import Path

import numpy as np
from support.c_library import MODELS
from support.examples import detector_of_voices
from support.sequence_graphs import RandomGraph

from onward.errors import ArgumentError
from onward.graph import Graph, Model


def pooled_convolution() -> Model:
    """A convolution of images that max pooling follows, which the core computes in one step."""
    rng, graph = np.random.default_rng(0), Graph()
    graph.add_input("x", np.dtype(np.float32), ("batch", 2, 11, "time"))
    W, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((37, 2, 3, 3), (37,)))
    weights = graph.add_constant(W), graph.add_constant(b)
    y = graph.add("Relu", graph.add("Conv", "x", *weights, pads=[1, 1, 1, 2]))
    graph.outputs = (graph.add("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2]),)
    return Model(graph)


def write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in MODELS.items():
        make().compile(folder / f"{name.replace(' ', '_')}.onward")
    pooled_convolution().compile(folder / "pooled_convolution.onward")
    detector_of_voices(576).compile(folder / "detector.onward")
    for seed in range(20):
        try:
            RandomGraph(seed).build(6).compile(folder / f"graph_{seed}.onward")
        except ArgumentError as error:
            assert "runs in NumPy" in str(error), seed


if __name__ == "__main__":
    write(Path(sys.argv[1]))
