"""Files of TensorFlow Lite run in onnxruntime after an export: integers keep their bits."""

from pathlib import Path

import numpy as np
import pytest
import support
from support.frameworks import onnxruntime_session
from support.tflite_files import Tensor, file

import onward
from onward import bundled
from onward.errors import ArgumentError, FileError


@pytest.mark.parametrize("name", ["keras_lstm_int8", "mww_vad", "mww_okay_nabu", "keras_gru", "keras_lstm"])
def test_exported_files_give_the_same_answers(name: str, tmp_path: Path) -> None:
    model = onward.load(support.DATA / "tflite" / f"{name}.tflite")
    model.export_onnx(tmp_path / "m.onnx")
    again = onward.load(tmp_path / "m.onnx")
    session = onnxruntime_session(tmp_path / "m.onnx", optimize=False)
    for x in np.load(support.DATA / "tflite" / f"{name}.npz")["x"][:5]:
        y = model(x)
        found = again(x)  # an ONNX file also returns the states
        np.testing.assert_array_equal(found[0] if isinstance(found, tuple) else found, y)
        found = session.run(None, {session.get_inputs()[0].name: x})[0]
        np.testing.assert_allclose(found, y, atol=1e-5 * (y.dtype.kind == "f"))


@pytest.mark.parametrize(("name", "steps"), [("keras_lstm_int8", 1), ("mww_vad", 6), ("mww_okay_nabu", 1)])
def test_qdq_files_are_a_few_steps_from_the_exact_answers(name: str, steps: int, tmp_path: Path) -> None:
    model, path = onward.load(support.DATA / "tflite" / f"{name}.tflite", qdq=True), tmp_path / "m.onnx"
    model.export_onnx(path)
    session, states = onnxruntime_session(path, optimize=False), {}
    first, names = session.get_inputs()[0].name, [each.name for each in session.get_outputs()]
    arrays = np.load(support.DATA / "tflite" / f"{name}.npz")
    for x, y in zip(arrays["x"], arrays["y0"], strict=True):
        found = dict(zip(names, session.run(None, {first: x, **states}), strict=True))
        np.testing.assert_allclose(found[names[0]].astype(int), y, atol=steps)
        states = {before: found[after] for before, after in model.graph.carries.items()}


@pytest.mark.filterwarnings("ignore::UserWarning:tensorflow")
@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("keras_lstm_int8", "tfl.unidirectional_sequence_lstm"),
        ("mww_vad", "model/activation/Relu;model/stream/conv2d/Conv2D"),
    ],
)
def test_a_trace_shows_the_integers_of_a_tensor_of_the_file(name: str, tensor: str) -> None:
    import tensorflow as tf

    path, x = (
        support.DATA / "tflite" / f"{name}.tflite",
        np.load(support.DATA / "tflite" / f"{name}.npz")["x"][0],
    )
    interpreter = tf.lite.Interpreter(
        model_path=str(path),
        experimental_op_resolver_type=tf.lite.experimental.OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    (number,) = [each["index"] for each in interpreter.get_tensor_details() if each["name"] == tensor]
    found = onward.load(path).trace(x, values=[tensor])[tensor]
    np.testing.assert_array_equal(found, interpreter.get_tensor(number))


def test_qdq_applies_to_tflite_files_without_int16(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="TensorFlow Lite files only; remove the arg"):
        onward.load(bundled.models()["vowels"], qdq=True)
    x, y = (Tensor([3], "INT16", None, np.float32(0.01)) for _ in range(2))
    (tmp_path / "m.tflite").write_bytes(file("EXP", [x], y, None, 2))
    with pytest.raises(FileError, match="has the type int16; expected int8 or uint8"):
        onward.load(tmp_path / "m.tflite", qdq=True)
