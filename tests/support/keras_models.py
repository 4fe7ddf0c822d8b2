"""Keras 3 models with random weights, and a check that Onward gives their outputs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers as L

import onward

from .frameworks import onnxruntime_outputs

RNG = np.random.default_rng(0)


T, F = 7, 5


def steps(*shape: int) -> keras.KerasTensor:
    return keras.Input(shape or (T, F))


def through(*layers: Any, shape: tuple[int, ...] = (T, F)) -> keras.Model:
    return keras.Sequential([keras.Input(shape), *layers])


def graph(build: Callable[[Any], Any], shape: tuple[int, ...] = (T, F)) -> keras.Model:
    x = keras.Input(shape)
    return keras.Model(x, build(x))


def masked(layer: Any) -> keras.Model:
    return through(L.Masking(0.0), layer)


def with_random_weights(model: keras.Model) -> keras.Model:
    """The model with random weights; variances are positive."""
    for variable in model.weights:
        values = RNG.uniform(-0.6, 0.6, variable.shape)
        variable.assign(np.abs(values) + 0.5 if "variance" in variable.path else values)
    return model


def random_inputs(model: keras.Model, batch: int = 5) -> list[np.ndarray]:
    """Random inputs; some steps with features are zero, at the start, in the middle and at the end."""
    arrays = []
    for tensor in model.inputs:
        shape = (batch, *(6 if size is None else size for size in tensor.shape[1:]))
        if tensor.name.startswith("ids"):
            arrays.append(RNG.integers(0, 4, shape).astype(tensor.dtype))
            continue
        x = RNG.normal(size=shape).astype(np.float32)
        if x.ndim == 3:
            for row, masked_steps in enumerate(([0, 1], [-1, -2], [2], [*range(x.shape[1])])):
                x[row, [step % x.shape[1] for step in masked_steps]] = 0
        arrays.append(x)
    return arrays


def agree(model: keras.Model, path: Path, **tolerance: float) -> None:
    """Check that Onward gives the outputs of Keras for each file format, and its own and ONNX files."""
    inputs = random_inputs(with_random_weights(model))
    expected = keras.tree.flatten(model(inputs if len(inputs) > 1 else inputs[0], training=False))
    for suffix in ("keras", "h5"):
        file = path / f"model.{suffix}"
        model.save(file)
        opened = onward.load(file)
        given = inputs if len(inputs) > 1 else inputs[0]
        answers = keras.tree.flatten(opened(given))
        assert len(answers) == len(expected)
        for y, wanted in zip(answers, expected, strict=True):
            np.testing.assert_allclose(
                y, wanted.detach().numpy(), **({"rtol": 2e-5, "atol": 2e-6} | tolerance)
            )
        opened.save(path / "model.safetensors")
        again = onward.load(path / "model.safetensors")(given)
        for y, before in zip(keras.tree.flatten(again), answers, strict=True):
            np.testing.assert_array_equal(y, before)
        for row in range(len(inputs[0])):
            alone = opened(
                [x[row : row + 1] for x in inputs] if len(inputs) > 1 else inputs[0][row : row + 1]
            )
            for y, all_rows in zip(keras.tree.flatten(alone), answers, strict=True):
                np.testing.assert_array_equal(y[0], all_rows[row])
    opened.export_onnx(path / "model.onnx")
    for y, wanted in zip(onnxruntime_outputs(path / "model.onnx", inputs), answers, strict=True):
        scale = max(1.0, float(np.abs(wanted).max(initial=0)))
        np.testing.assert_allclose(y, wanted, rtol=0, atol=1e-5 * scale)
