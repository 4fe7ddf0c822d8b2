"""Time one call of TensorFlow Lite models in Onward, and in LiteRT with XNNPACK, its default delegate.

    python bench/tflite.py [--cases DIR]

The models are those in tests/data, those of DIR and ten that TFLiteConverter makes of tf_keras layers with
random weights. A model that keeps a state is timed step by step in a stream. All run on one thread; the
outputs are compared before timing. The last row is for 1,000 listeners of a wake word on one core: a step of
the pool every 30 ms, and the micro front end every 10 ms. Needs onward[bench,wakeword].
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import models
import numpy as np
import report

import onward

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
import tf_keras

DATA = Path(__file__).parents[1] / "tests" / "data" / "tflite"
L = tf_keras.layers

SPOTTER = [
    lambda: L.Conv2D(32, (10, 4), 2, "same", activation="relu"),
    *[lambda: L.DepthwiseConv2D(3, padding="same"), lambda: L.Conv2D(32, 1, activation="relu")] * 3,
    L.GlobalAveragePooling2D,
    lambda: L.Dense(12),
]
CAUSAL = [
    lambda d=d: L.Conv1D(32, 3, padding="causal", dilation_rate=d, activation="relu") for d in (1, 2, 4, 8)
]


def steps(layer: Any, units: int) -> Callable[[], Any]:
    """A recurrent layer that returns all steps."""
    return lambda: layer(units, return_sequences=True)


# the shape of the input, the form of the weights, and the layers
GENERATED: dict[str, tuple[tuple[int, ...], str, list[Callable[[], Any]]]] = {
    "LSTM classifier": ((100, 16), "float", [lambda: L.LSTM(64), lambda: L.Dense(6, activation="softmax")]),
    "LSTM step": ((1, 16), "float", [steps(L.LSTM, 64), lambda: L.Dense(6)]),
    "LSTM, dynamic int8": ((50, 64), "dynamic", [steps(L.LSTM, 128), lambda: L.Dense(32)]),
    "LSTM, int8": ((50, 16), "int8", [steps(L.LSTM, 64), lambda: L.Dense(6)]),
    "GRU tagger": ((40, 32), "float", [steps(L.GRU, 64), lambda: L.Dense(12)]),
    "BiLSTM tagger": ((40, 32), "float", [lambda: L.Bidirectional(steps(L.LSTM, 32)()), lambda: L.Dense(12)]),
    "masked LSTM": ((40, 32), "float", [L.Masking, lambda: L.LSTM(64), lambda: L.Dense(4)]),
    "causal convolutions": ((100, 32), "float", CAUSAL),
    "keyword spotter": ((49, 10, 1), "float", SPOTTER),
    "keyword spotter, int8": ((49, 10, 1), "int8", SPOTTER),
}


def converted(name: str) -> bytes:
    """A model with random weights as a file of TensorFlow Lite."""
    shape, form, layers = GENERATED[name]
    tf_keras.utils.set_random_seed(0)
    model = tf_keras.Sequential([tf_keras.Input(shape, batch_size=1), *[make() for make in layers]])
    converter, rng = tf.lite.TFLiteConverter.from_keras_model(model), np.random.default_rng(0)
    if form != "float":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if form == "int8":
        converter.representative_dataset = lambda: (
            [rng.standard_normal((1, *shape)).astype(np.float32)] for _ in range(8)
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    content: bytes = converter.convert()
    return content


def files(cases: Path | None, folder: Path) -> Iterator[Path]:
    """The paths of all models."""
    yield from sorted(DATA.glob("*.tflite"))
    if cases is not None:
        yield from sorted((cases / "tflite").glob("dtln*.tflite"))
    for name in GENERATED:
        path = folder / f"{name}.tflite"
        path.write_bytes(converted(name))
        yield path


def contestants(path: Path) -> dict[str, Callable[[], Any]]:
    """Functions that run one call, in Onward and in LiteRT, whose outputs are close."""
    interpreter = tf.lite.Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    model, rng = onward.load(path), np.random.default_rng(0)
    run: Any = model.stream() if model.carries else model
    given = []
    for each in inputs:
        x = rng.standard_normal(each["shape"])
        given.append((x if each["dtype"] == np.float32 else x * 40).astype(each["dtype"]))

    def litert() -> Any:
        for each, x in zip(inputs, given, strict=True):
            interpreter.set_tensor(each["index"], x)
        interpreter.invoke()
        return [interpreter.get_tensor(each["index"]) for each in outputs]

    found = run(*given)
    for y, expected in zip(found if isinstance(found, tuple) else [found], litert(), strict=True):
        scale = max(1.0, float(np.abs(expected.astype(np.float64)).max()))
        assert np.abs(y.astype(np.float64) - expected).max() <= 0.03 * scale, f"{path.name} differs"
    return {"onward": lambda: run(*given), "litert": litert}


def listeners(measured: report.Report, count: int, rounds: int) -> None:
    """Time the pool and the front ends of many wake words."""
    import pymicro_features

    model = onward.load(DATA / "mww_okay_nabu.tflite")
    pool, x = model.pool(count), np.load(DATA / "mww_okay_nabu.npz")["x"]
    ids, rows = pool.open(count), np.concatenate([x[k % len(x)] for k in range(count)])
    frontends = [pymicro_features.MicroFrontend() for _ in range(count)]
    sound = (np.random.default_rng(0).standard_normal(160) * 3000).astype(np.int16).tobytes()
    steps, fronts = [], []
    for _ in range(rounds):
        start = time.perf_counter()
        pool.step(ids, rows)
        steps.append(time.perf_counter() - start)
        start = time.perf_counter()
        for frontend in frontends:
            frontend.process_samples(sound)
        fronts.append(time.perf_counter() - start)
    step, front = (float(np.median(each[1:])) for each in (steps, fronts))
    measured.add("listeners", count=count, pool=step, front_ends=front, load=step / 0.03 + front / 0.01)


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--cases", type=Path, metavar="DIR", help="published models, as tests/real has them")
    arguments = parser.parse_args()
    measured = report.Report(arguments, ("tensorflow", "tf_keras"))
    onward.set_num_threads(1)
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        for path in files(arguments.cases, Path(folder)):
            took = models.medians(contestants(path), 0.02 if arguments.quick else 0.6)
            ratios.append(took["litert"] / took["onward"])
            measured.add("models", model=path.stem, **took, ratio=ratios[-1])
    measured.add("mean", models=len(ratios), ratio=float(np.exp(np.mean(np.log(ratios)))), least=min(ratios))
    listeners(measured, 1000, 3 if arguments.quick else 30)


if __name__ == "__main__":
    main()
