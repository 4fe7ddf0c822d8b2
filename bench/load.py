"""Measure time and peak memory from a file to the first output, in Onward and in the framework of the file.

Each run is a new process and includes the imports. The medians of three alternating runs are reported.
`--cases DIR` also measures published models, in one directory each.

python bench/load.py --cases DIR
"""

import itertools
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import report

T = 50
SIZES = {"LSTM, 128": (128, 128, 1), "LSTM, 1024 x 3": (1024, 1024, 3)}  # input_size, hidden_size, num_layers

PROBE = """
import json, time
start = time.perf_counter()
import numpy as np
path = {path!r}
{x}
{program}
y = y if isinstance(y, (list, tuple)) else [y]
total = sum(float(np.abs(np.asarray(each)).sum()) for each in y)
seconds = time.perf_counter() - start
with open("/proc/self/status") as status:  # getrusage includes memory of the parent
    peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
print(json.dumps([seconds, peak, total]))
"""


class Row(NamedTuple):
    """A file, its input, and the code that computes y in Onward and in the framework, imports included."""

    file: Path
    model: str
    x: str
    onward: str
    framework: str


PARTS = "import onward; y, _ = onward.load(path)[''](x)"
SCRIPT = "import onward; y, *_ = onward.load(path)(x)"
TORCH = {  # the kinds of files that this script writes, and the code that PyTorch runs
    "state_dict.pt": "import torch; model = torch.nn.LSTM(I, H, L); model.load_state_dict(torch.load(path))\n"
    "with torch.no_grad(): y, _ = model(torch.from_numpy(x))",
    "state_dict.safetensors": "import torch, safetensors.torch; model = torch.nn.LSTM(I, H, L)\n"
    "model.load_state_dict(safetensors.torch.load_file(path))\n"
    "with torch.no_grad(): y, _ = model(torch.from_numpy(x))",
    "script.pt": "import torch; model = torch.jit.load(path)\n"
    "with torch.no_grad(): y, _ = model(torch.from_numpy(x))",
}
MODEL = "import onward; y = onward.load(path)(x)"
CASES = {  # for each file: the model, its input, and the code that Onward and the framework run
    "sleepecg/ws-gru-mesa.keras": (
        "2 bidirectional GRUs, 8; Keras",
        "x = np.load({inputs!r})['ws_X']",
        MODEL,
        "import os; os.environ['KERAS_BACKEND'] = 'torch'; import keras\n"
        "y = keras.models.load_model(path)(x).detach()",
    ),
    "crema_chord/model_stripped.h5": (
        "convolutions, 2 bidirectional GRUs, 128; tf_keras",
        "x = np.load({inputs!r})['cqt_mag']",
        "import onward; squeeze = {{'SqueezeLayer': lambda x: np.squeeze(x, 2)}}\n"
        "y = onward.load(path, custom_objects=squeeze)(x)",
        "import tensorflow, tf_keras\n"
        "class Squeeze(tf_keras.layers.Layer):\n"
        "    def __init__(self, axis=None, **options): super().__init__(**options)\n"
        "    def call(self, x): return tensorflow.squeeze(x, 2)\n"
        "y = tf_keras.models.load_model(path, {{'SqueezeLayer': Squeeze}}, compile=False)(x)",
    ),
    "textgenrnn/textgenrnn_weights.hdf5": (
        "2 LSTMs, 128, weights only; tf_keras",
        "x = np.load({inputs!r})['ids']",
        "import onward\n"
        "rnns = [onward.LSTM(I, 128, batch_first=True) for I in (100, 128)]\n"
        "layers = [onward.Embedding(465, 100), *rnns]\n"
        "net = onward.Sequential(*layers, onward.Linear(356, 1, bias=False), onward.Linear(356, 465))\n"
        "net.load_weights(path); y = onward.Sequential(*layers)(x)",
        "import tf_keras; L = tf_keras.layers; ids = L.Input((None,)); e = L.Embedding(465, 100)(ids)\n"
        "a = L.LSTM(128, return_sequences=True)(e); b = L.LSTM(128, return_sequences=True)(a)\n"
        "c = L.Concatenate()([e, a, b])\n"
        "net = tf_keras.Model(ids, [b, L.Dense(1, use_bias=False)(c), L.Dense(465)(c)])\n"
        "net.load_weights(path); y = tf_keras.Model(ids, b)(x)",
    ),
    "silero_vad/silero_vad.jit": (
        "convolutions, LSTM, 128; PyTorch",
        "x = np.load({inputs!r})['audio_16k'][None, :512]",
        "import onward; y = onward.load(path)(x, 16000)[0]",
        "import torch; model = torch.jit.load(path)\n"
        "with torch.no_grad(): y = model(torch.from_numpy(x), 16000)",
    ),
    "beatnet/model_1_weights.pt": (
        "LSTM, 150 x 2; PyTorch",
        "x = np.load({inputs!r})['lstm_x'].swapaxes(0, 1)",
        "import onward; y, _ = onward.load(path)['lstm'](x)",
        "import torch; model = torch.nn.LSTM(150, 150, 2); saved = torch.load(path)\n"
        "model.load_state_dict({{k[5:]: v for k, v in saved.items() if k.startswith('lstm.')}})\n"
        "with torch.no_grad(): y, _ = model(torch.from_numpy(x))",
    ),
    "silero_vad/silero_vad_16k_op15.onnx": (
        "convolutions, LSTM, 128, inside an If; onnxruntime",
        "x = [np.load({inputs!r})['frames576'][:1], np.zeros((2, 1, 128), 'f4'), np.array(16000)]",
        "import onward; y = onward.load(path)(*x)",
        "import onnxruntime; session = onnxruntime.InferenceSession(path)\n"
        "y = session.run(None, {{i.name: each for i, each in zip(session.get_inputs(), x)}})",
    ),
    "ddddocr/ddddocr_lstm.onnx": (
        "bidirectional LSTM, 512; onnxruntime",
        "x = [np.load({inputs!r})[name] for name in ('x_0', 'h0_0', 'c0_0')]",
        "import onward; y = onward.load(path)(*x)",
        "import onnxruntime; session = onnxruntime.InferenceSession(path)\n"
        "y = session.run(None, {{i.name: each for i, each in zip(session.get_inputs(), x)}})",
    ),
}


def written(folder: Path) -> Iterator[Row]:
    """Models with random weights, written by PyTorch."""
    for kind, program in TORCH.items():
        for name, size in SIZES.items():
            path = folder / kind
            write(kind, size, path)
            x = f"I, H, L = {size}; x = np.ones(({T}, 1, I), np.float32)"
            yield Row(path, name, x, SCRIPT if kind == "script.pt" else PARTS, program)


def write(kind: str, size: tuple[int, int, int], path: Path) -> None:
    I, H, L = size  # noqa: E741 (axes' letters)
    import torch

    module = torch.nn.LSTM(I, H, L)
    if kind == "state_dict.pt":
        torch.save(module.state_dict(), path)
    elif kind == "state_dict.safetensors":
        import safetensors.torch

        safetensors.torch.save_file(module.state_dict(), path)
    else:
        torch.jit.trace(module, torch.ones(T, 1, I)).save(path)


def trained(folder: Path) -> Iterator[Row]:
    """Published models."""
    for file, (model, *programs) in CASES.items():
        path = folder / file
        x, onward, framework = (code.format(inputs=str(path.parent / "inputs.npz")) for code in programs)
        yield Row(path, model, x, onward, framework)


def probe(row: Row, program: str) -> tuple[float, float, float]:
    """Seconds, peak bytes, and a sum of the output that shows whether both ran the same model."""
    code = PROBE.format(path=str(row.file), x=row.x, program=program)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(f"{row.file}: {result.stderr}")
    seconds, peak, total = json.loads(result.stdout.splitlines()[-1])
    return seconds, peak, total


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--cases", type=Path, help="the directory of published models")
    parser.add_argument("--only", default="", help="measure files whose name contains this")
    options = parser.parse_args()
    measured = report.Report(options, ["torch", "onnxruntime", "keras", "tf_keras"])
    with tempfile.TemporaryDirectory() as folder:
        rows = [] if options.cases is None else trained(options.cases)
        for row in itertools.chain(rows, written(Path(folder))):  # one at a time: files are overwritten
            if options.only in row.file.name:
                measured.add("files", **measure(row, 1 if options.quick else 3))


def measure(row: Row, repeats: int) -> dict[str, Any]:
    runs = [[probe(row, program) for program in (row.onward, row.framework)] for _ in range(repeats)]
    (mine, my_peak, my_sum), (theirs, their_peak, their_sum) = (
        [statistics.median(values) for values in zip(*side, strict=True)] for side in zip(*runs, strict=True)
    )
    np.testing.assert_allclose(my_sum, their_sum, rtol=1e-4)
    megabytes = {"onward_MB": my_peak / 1e6, "framework_MB": their_peak / 1e6}
    return {
        "file": row.file.name,
        "model": row.model,
        "size_MB": row.file.stat().st_size / 1e6,
        "onward": mine,
        "framework": theirs,
        "ratio": theirs / mine,
        **megabytes,
    }


if __name__ == "__main__":
    main()
