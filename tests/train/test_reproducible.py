"""Training gives the same bits whichever instructions NumPy, BLAS, libm and the core dispatch to."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import onward
from onward import _core
from onward.train.schedules import cos_pi, power

# Short trainings that use every loss, every optimizer, every layer and each schedule that computes something.
PROGRAM = """
import hashlib, sys
from functools import partial
from pathlib import Path
import numpy as np
import onward
from onward import train

rng = np.random.default_rng(0)
items = [rng.uniform(-1, 1, (n, 3)) for n in (7, 1, 33, 5, 17, 9, 2, 26)]
classes, numbers = rng.integers(0, 37, 8), rng.uniform(0, 1, (8, 37))
path = Path(sys.argv[1])
digest = hashlib.sha256()
cycle, step = train.OneCycleLR(), train.StepLR(3, 0.9)
for loss, optimizer, schedule in (
    (partial(train.cross_entropy, label_smoothing=0.1), train.AdamW(1e-2), cycle),
    ("cross_entropy", train.SGD(0.1, momentum=0.9), train.CosineAnnealingLR()),
    ("bce", train.Adam(1e-2), step),
    ("mse", train.RMSprop(1e-3), train.Warmup(4)),
    (partial(train.huber, delta=0.3), train.Adam(1e-2), cycle),
    ("mae", train.Adam(1e-2), cycle),
):
    for dtype in ("float32", "float64"):
        net = onward.Sequential(
            onward.LSTM(3, 33, dtype=dtype, rng=0), onward.Last(), onward.Dropout(0.2),
            onward.Linear(33, 37, dtype=dtype, rng=1),
        )
        y = classes if "cross_entropy" in repr(loss) else numbers
        train.fit(
            net, train.Batches(items, y, batch_size=3), validation=(items, y), loss=loss, optimizer=optimizer,
            schedule=schedule, epochs=4, max_norm=0.5, average=0.9, recurrent_dropout=0.1, rng=0,
            checkpoint=path, progress=False,
        )
        digest.update(path.read_bytes())
tokens = rng.integers(0, 10, 501)
net = onward.Sequential(
    onward.Embedding(10, 5, rng=0), onward.GRU(5, 7, 2, dropout=0.1, rng=1), onward.RNN(7, 33, rng=2),
    onward.Linear(33, 10, rng=3), onward.Softmax(),
)
train.fit(
    net, train.Chunks(tokens[:-1], np.eye(10)[tokens[1:]], 3, 20), loss="mse", optimizer=train.AdamW(1e-2),
    schedule=cycle, epochs=2, max_value=0.01, rng=0, checkpoint=path, progress=False,
)
digest.update(path.read_bytes())
print(digest.hexdigest())
"""


def numpy_features() -> str:
    """The features that this NumPy dispatches to here, which NPY_DISABLE_CPU_FEATURES accepts."""
    from numpy._core._multiarray_umath import (
        __cpu_dispatch__,
        __cpu_features__,
    )  # NumPy has no public list of them

    return " ".join(name for name in __cpu_dispatch__ if __cpu_features__.get(name))


def checkpoints(tmp_path: Path, **environment: str) -> str:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "run")],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> str:
    return checkpoints(tmp_path_factory.mktemp("default"))


@pytest.mark.parametrize(
    "environment",
    [
        {"OPENBLAS_CORETYPE": "Haswell"},
        {"OPENBLAS_CORETYPE": "Prescott"},
        {"NPY_DISABLE_CPU_FEATURES": numpy_features()},
        {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX512F,-AVX2_Usable,-FMA_Usable"},
        *({"ONWARD_ISA": isa} for isa in _core.available_isas()),
    ],
    ids=str,
)
def test_a_training_gives_the_same_checkpoint_on_every_instruction_set(
    environment: dict[str, str], expected: str, tmp_path: Path
) -> None:
    assert checkpoints(tmp_path, **environment) == expected


def test_powers_and_cosines_match_the_c_library() -> None:
    for x in np.linspace(-3, 3, 1001).tolist():
        assert cos_pi(x) == pytest.approx(math.cos(math.pi * x), abs=1e-15)
    for base, exponent in ((0.999, 100_000), (0.9, 0), (0.0, 0), (0.0, 3), (1.0, 7), (0.3, 33)):
        assert power(base, exponent) == pytest.approx(base**exponent, rel=1e-10)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [0, 1, 7, 15, 16, 17, 33, 1000])
def test_sums_of_the_core_are_exact_to_float64(dtype: str, n: int) -> None:
    x = np.random.default_rng(n).normal(0, 1, n).astype(dtype)
    assert _core.sum(x) == pytest.approx(math.fsum(x.tolist()), abs=1e-13 * n)
    assert _core.sum_of_squares(x, 0.5) == pytest.approx(math.fsum((x / 2) ** 2), rel=1e-6)


@pytest.mark.parametrize("isa", _core.available_isas())
@pytest.mark.parametrize("classes", [1, 2, 7, 16, 33, 100])
def test_cross_entropy_matches_extended_precision(isa: str, classes: int) -> None:
    rng, default = np.random.default_rng(classes), _core.isa()
    y, targets = rng.normal(0, 5, (17, classes)), rng.integers(0, classes, 17)
    wide = y.astype(np.longdouble)
    p = np.exp(wide - wide.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    q = np.full(y.shape, np.longdouble(0.1) / classes)
    q[np.arange(17), targets] += 1 - np.longdouble(0.1)
    try:
        _core.set_isa(isa)
        loss, dy = onward.train.cross_entropy(y, targets, label_smoothing=0.1)
    finally:
        _core.set_isa(default)
    assert loss == pytest.approx(float(-(q * np.log(p)).sum(1).mean()), rel=1e-14, abs=1e-15)
    np.testing.assert_allclose(dy, ((p - q) / 17).astype(float), rtol=0, atol=1e-16)
