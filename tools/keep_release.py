"""Write tests/data/releases/VERSION: files saved by this version of Onward, which later versions must read.

python tools/keep_release.py     # once per release, never again for the same version
"""

from pathlib import Path
from typing import Any

import numpy as np

import onward

FOLDER = Path(__file__).parent.parent / "tests" / "data" / "releases" / onward.__version__


def models() -> dict[str, Any]:
    """Models that together use every feature of the file format, by name."""
    tagger = onward.Sequential(
        onward.LSTM(5, 7, 2, bidirectional=True, proj_size=3, rng=0),
        onward.Linear(6, 4, rng=1),
        onward.Softmax(),
    )
    streaming = onward.Sequential(onward.GRU(5, 9, 2, rng=2), onward.Linear(9, 4, rng=3))
    options: dict[str, Any] = {"peephole": True, "clip": 0.5, "activations": ("silu", "softsign", "tanh")}
    return {
        "tagger": tagger,
        "streaming": streaming,
        "float64": onward.RNN(5, 7, nonlinearity="relu", dtype="float64", rng=4),
        "options": onward.LSTM(5, 7, batch_first=True, bias=False, rng=5, **options),
        "reset_before": onward.GRU(5, 7, reset_after=False, rng=6),
        "float16": streaming.quantize("float16"),
        "int8": streaming.quantize("int8"),
    }


def main() -> None:
    FOLDER.mkdir(parents=True)
    x = np.random.default_rng(7).standard_normal((11, 3, 5))
    answers = {"x": x}
    for name, model in models().items():
        model.save(FOLDER / f"{name}.safetensors")
        y = model(x)
        answers[name] = y[0] if isinstance(y, tuple) else y
    stream, pool = models()["streaming"].stream(batch=3), models()["streaming"].pool(4)
    stream(x[:6])
    stream.save(FOLDER / "stream.state")
    ids = pool.open(4)
    pool.close(ids[:1])
    for x_t in x[:6]:
        pool.step(ids[1:], x_t)
    pool.save(FOLDER / "pool.state")
    np.savez_compressed(FOLDER / "answers.npz", **answers)


if __name__ == "__main__":
    main()
