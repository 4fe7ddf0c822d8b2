"""Time one call of Keras models in Onward, and in onnxruntime and OpenVINO as tf2onnx converts them.

    python bench/keras_models.py

Onward opens what Keras saves. The outputs are compared before timing. The calls are interleaved in one
process, and the medians are reported. OpenVINO is skipped for models that it cannot convert. Needs
onward[bench].
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import models
import numpy as np
import report

import onward

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # TensorFlow, which it imports, reads the environment
import tensorflow
import tf2onnx
from keras import layers

STACKS: dict[str, Callable[[], list[Any]]] = {
    "masked tagger": lambda: [
        layers.Embedding(1000, 64, mask_zero=True),
        layers.Bidirectional(layers.LSTM(64, return_sequences=True)),
        layers.Dense(12, activation="softmax"),
    ],
    "sleep stager": lambda: [
        layers.Masking(),
        layers.Bidirectional(layers.GRU(32, return_sequences=True)),
        layers.Bidirectional(layers.GRU(32, return_sequences=True)),
        layers.Dense(5, activation="softmax"),
    ],
    "activity recognizer": lambda: [
        layers.Conv1D(64, 5, activation="relu", padding="causal"),
        layers.LSTM(100, return_sequences=True),
        layers.LSTM(100),
        layers.Dense(6, activation="softmax"),
    ],
    "forecaster": lambda: [layers.SimpleRNN(64, return_sequences=True), layers.GRU(64), layers.Dense(24)],
}


def inputs_of(name: str, rows: int, steps: int, seed: int = 0) -> Any:
    """Words, of which the last quarter is masked, or frames."""
    rng = np.random.default_rng(seed)
    if "tagger" not in name:
        return rng.standard_normal((rows, steps, 12)).astype(np.float32)
    words = rng.integers(1, 999, (rows, steps)).astype(np.int32)
    words[:, -(-3 * steps // 4) :] = 0
    return words


def saved(folder: Path, name: str, steps: int | None) -> tuple[Path, Path]:
    """A model with random weights, as Keras saves it and as tf2onnx converts it.

    The number of steps is open if it is None.
    """
    keras.utils.set_random_seed(0)
    x = inputs_of(name, 1, 8)
    shape = (steps, *x.shape[2:])
    model = keras.Sequential([keras.Input(shape, dtype=x.dtype.name), *STACKS[name]()])
    source, path = folder / f"{name}.keras", folder / f"{name}.onnx"
    model.save(source)
    signature = [tensorflow.TensorSpec((None, *shape), x.dtype, name="x")]
    function = tensorflow.function(lambda x: model(x))
    tf2onnx.convert.from_function(function, signature, opset=17, output_path=str(path))
    return source, path


def main() -> None:
    arguments = report.parser(__doc__).parse_args()
    measured = report.Report(arguments, ("onnxruntime", "openvino", "keras", "tf2onnx"))
    onward.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for name in STACKS:
            x = inputs_of(name, 1, 40 if "tagger" in name else 100)
            source, path = saved(Path(folder), name, x.shape[1])
            model = models.Model(name, path, {"x": x}, source=source)
            took = models.medians(models.contestants(model, threads=1), 0.02 if arguments.quick else 0.6)
            best = min(took[name] for name in models.PEERS if name in took)
            measured.add("models", model=model.name, **took, ratio=best / took["onward"])


if __name__ == "__main__":
    main()
