"""Import the examples, and small models with the interfaces of those that they need."""

import importlib.util
import wave
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onward.graph import Graph, Input, Model

from . import ROOT

FLOAT = np.dtype(np.float32)


def example(name: str) -> Any:
    """Import an example as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_wav(path: Path, sound: NDArray[Any]) -> None:
    """Write sound between -1 and 1 as 16-bit samples at 16 kHz."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes((sound * 32767).round().astype("<i2").tobytes())


def detector_of_voices(samples: int | str = "sequence") -> Model:
    """The interface of Silero's ONNX files; the probability is the loudness of a frame."""
    graph = Graph()
    x = graph.add_input("input", FLOAT, ("batch", samples))
    state = graph.add_input("state", FLOAT, (2, "batch", 128))
    rate = graph.add_input("sr", np.int64, ())
    new = graph.add_constant(np.array([64]))
    end, axis = graph.add_constant(np.array([576])), graph.add_constant(np.array([1]))
    loudness = graph.add(
        "ReduceMax", graph.add("Abs", graph.add("Slice", x, new, end, axis)), axis, keepdims=1
    )
    speed = graph.add(
        "Div", graph.add("Cast", rate, to=FLOAT), graph.add_constant(np.array(8000, np.float32))
    )
    y = graph.add("Mul", loudness, speed, output="output")
    after = graph.add("Neg", state, output="stateN")
    graph.outputs = (y, after)
    graph.declared_outputs = (Input("output", FLOAT, ("batch", 1)), Input("stateN", FLOAT, (2, "batch", 128)))
    return Model(graph)


def dtln_stage(features: int) -> Model:
    """The interface of a stage of DTLN.

    state' = (state + 1) / 2, and y = state', or x state' for 512 features.
    """
    graph, shape = Graph(), (1, 2, 128, 2)
    x = graph.add_input("input_2", FLOAT, (1, 1, features))
    state = graph.add_input("input_3", FLOAT, shape)
    one, half = (graph.add_constant(np.array(value, np.float32)) for value in (1, 0.5))
    after = graph.add("Mul", graph.add("Add", state, one), half, output="stack")
    axes = graph.add_constant(np.array([2, 3]))
    mean = graph.add("ReduceMean", after, axes, keepdims=0)
    first = graph.add("Gather", mean, graph.add_constant(np.array([[0]])), axis=1)
    source = x if features == 512 else graph.add("Sub", x, x)
    y = graph.add("Mul", source, first) if features == 512 else graph.add("Add", source, first)
    graph.outputs = (graph.add("Identity", y, output="mask"), after)
    graph.declared_outputs = (Input("mask", FLOAT, (1, 1, features)), Input("stack", FLOAT, shape))
    return Model(graph)
