"""Time one call of Keras models in Onward, and in onnxruntime and OpenVINO as tf2onnx converts them.

    python bench/keras_models.py

Onward opens what Keras saves. The outputs are compared before timing. The calls are interleaved in one
process, and the medians are reported. OpenVINO is skipped for models that it cannot convert. Needs
onward[bench].
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import models
import numpy as np
import report

import onward

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # TensorFlow, which it imports, reads the environment
import tensorflow
import tf2onnx
from keras import layers


def saved(folder: Path) -> Iterator[models.Model]:
    """Keras models with random weights, as Keras saves them and as tf2onnx converts them."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    words, frames = rng.integers(1, 999, (1, 40)), rng.standard_normal((1, 100, 12)).astype(np.float32)
    words[:, 30:] = 0  # masked
    stacks = {
        "masked tagger": [
            layers.Embedding(1000, 64, mask_zero=True),
            layers.Bidirectional(layers.LSTM(64, return_sequences=True)),
            layers.Dense(12, activation="softmax"),
        ],
        "sleep stager": [
            layers.Masking(),
            layers.Bidirectional(layers.GRU(32, return_sequences=True)),
            layers.Bidirectional(layers.GRU(32, return_sequences=True)),
            layers.Dense(5, activation="softmax"),
        ],
        "activity recognizer": [
            layers.Conv1D(64, 5, activation="relu", padding="causal"),
            layers.LSTM(100, return_sequences=True),
            layers.LSTM(100),
            layers.Dense(6, activation="softmax"),
        ],
        "forecaster": [layers.SimpleRNN(64, return_sequences=True), layers.GRU(64), layers.Dense(24)],
    }
    for name, stack in stacks.items():
        x = words.astype(np.int32) if "tagger" in name else frames
        model = keras.Sequential([keras.Input(x.shape[1:], dtype=x.dtype.name), *stack])
        source, path = folder / f"{name}.keras", folder / f"{name}.onnx"
        model.save(source)
        signature = [tensorflow.TensorSpec((None, *x.shape[1:]), x.dtype, name="x")]
        function = tensorflow.function(lambda x, model=model: model(x))
        tf2onnx.convert.from_function(function, signature, opset=17, output_path=str(path))
        yield models.Model(name, path, {"x": x}, source=source)


def main() -> None:
    arguments = report.parser(__doc__).parse_args()
    measured = report.Report(arguments, ("onnxruntime", "openvino", "keras", "tf2onnx"))
    onward.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for model in saved(Path(folder)):
            took = models.medians(models.contestants(model, threads=1), 0.02 if arguments.quick else 0.6)
            best = min(took[name] for name in models.PEERS if name in took)
            measured.add("models", model=model.name, **took, ratio=best / took["onward"])


if __name__ == "__main__":
    main()
