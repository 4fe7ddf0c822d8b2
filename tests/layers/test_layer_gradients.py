"""The gradients of layers without a state against central differences, through the graphs of the layers."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from support.randomized import random_cases

import onward
from onward import train
from onward.errors import ArgumentError, ShapeError
from onward.layers.base import Layer

F64: dict[str, Any] = {"dtype": "float64"}
# layers in float64, each with the shapes of x
CASES: list[tuple[Layer, list[tuple[int, ...]]]] = [
    (
        onward.Conv1d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2, rng=0, **F64),
        [(1, 4, 7), (5, 4, 33), (4, 9)],
    ),
    (onward.Conv1d(3, 2, 4, padding="same", bias=False, rng=0, **F64), [(5, 3, 50), (3, 1)]),
    (onward.Conv2d(2, 3, (3, 2), stride=(1, 2), padding=(1, 0), rng=0, **F64), [(5, 2, 7, 4), (2, 3, 6)]),
    (onward.Conv2d(3, 3, 2, groups=3, rng=0, **F64), [(1, 3, 5, 4)]),
    (onward.MaxPool1d(3, 2, 1), [(5, 4, 33), (4, 7)]),
    (onward.MaxPool2d((2, 3), (1, 2), ceil_mode=True), [(2, 3, 7, 6), (3, 5, 7)]),
    (onward.AvgPool1d(3, 2, 1), [(5, 4, 33), (4, 7)]),
    (onward.AvgPool2d(2, 1, 1, ceil_mode=True, count_include_pad=False), [(2, 3, 7, 6)]),
    (onward.BatchNorm1d(7, **F64), [(17, 7), (5, 7, 33)]),
    (onward.BatchNorm2d(3, affine=False, **F64), [(5, 3, 4, 2)]),
    (onward.LayerNorm(7, **F64), [(7,), (17, 7), (50, 5, 7)]),
    (onward.LayerNorm((3, 7), bias=False, **F64), [(5, 3, 7)]),
    (onward.LayerNorm(7, elementwise_affine=False, **F64), [(5, 7)]),
    (onward.GroupNorm(3, 6, **F64), [(5, 6), (2, 6, 9), (2, 6, 3, 4)]),
    (onward.Activation("mish"), [(33,), (1, 5, 7)]),
    (onward.Activation("selu"), [(5, 7)]),
    (onward.Softmax(0), [(5, 7), (3, 1, 2)]),
    (onward.Linear(7, 3, rng=0, **F64), [(7,), (5, 2, 7)]),
]


def filled(layer: Layer, rng: np.random.Generator) -> Layer:
    """The layer with weights of which none is a one or a zero."""
    weights = {name: np.abs(rng.standard_normal(w.shape)) + 0.2 for name, w in layer.state_dict().items()}
    layer.load_state_dict(
        {name: w for name, w in weights.items() if name != "num_batches_tracked"}, strict=False
    )
    return layer


@pytest.mark.parametrize(("layer", "shapes"), CASES, ids=lambda each: repr(each)[:40])
def test_gradients_equal_central_differences(layer: Any, shapes: list[tuple[int, ...]]) -> None:
    for seed in range(random_cases(2)):
        rng = np.random.default_rng(seed)
        layer = filled(layer, rng)
        for shape in shapes:
            x, trained = rng.standard_normal(shape), dict(layer.trained_weights())
            y, state, cache = layer.forward(x)
            assert state is None
            assert np.array_equal(y, layer(x))
            dy = rng.standard_normal(y.shape)
            dx, _, gradients = layer.backward(dy, None, cache)
            assert dx.shape == x.shape
            assert {name: g.shape for name, g in gradients.items()} == {
                n: w.shape for n, w in trained.items()
            }
            way, ways = (
                rng.standard_normal(shape),
                {n: rng.standard_normal(w.shape) for n, w in trained.items()},
            )
            sides = []
            for size in (1e-6, -1e-6):
                layer.load_state_dict({n: w + size * ways[n] for n, w in trained.items()}, strict=False)
                sides.append((layer(x + size * way) * dy).sum())
            layer.load_state_dict(trained, strict=False)
            found = (dx * way).sum() + sum((gradients[name] * ways[name]).sum() for name in trained)
            assert found == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-5, abs=1e-7)


def test_the_statistics_of_batch_norm_do_not_train() -> None:
    norm = onward.BatchNorm1d(3)
    assert list(norm.trained_weights()) == ["weight", "bias"]
    before, x = norm.state_dict(), np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32)
    train.fit(norm, [(x, x)], loss="mse", optimizer=train.AdamW(0.1), progress=False)
    for name, weight in norm.state_dict().items():
        assert np.array_equal(weight, before[name]) == (name not in ("weight", "bias"))


def test_a_network_of_convolutions_trains_and_resumes_with_the_same_bits(tmp_path: Any) -> None:
    def net() -> onward.Sequential:
        return onward.Sequential(
            onward.Conv1d(2, 4, 3, padding=1, rng=0), onward.BatchNorm1d(4), onward.Activation("relu"),
            onward.MaxPool1d(2), onward.Conv1d(4, 1, 5, rng=1),
        )  # fmt: skip

    rng = np.random.default_rng(0)
    x, y = (
        rng.standard_normal((33, 2, 10)).astype(np.float32),
        rng.standard_normal((33, 1, 1)).astype(np.float32),
    )
    data = train.Batches(x, y, batch_size=5, batch_first=True, per_step=False)
    options: dict[str, Any] = {"loss": "mse", "rng": 0, "progress": False, "checkpoint": tmp_path / "run"}
    whole, part = net(), net()
    losses = train.fit(whole, data, epochs=4, **options).losses
    assert np.mean(losses[-7:]) < np.mean(losses[:7])
    (tmp_path / "run").unlink()
    train.fit(net(), data, epochs=2, **options)
    assert train.fit(part, data, epochs=4, resume=True, **options).losses == losses
    assert all(np.array_equal(w, part.state_dict()[name]) for name, w in whole.state_dict().items())


def test_copies_share_the_programs_of_gradients_and_pickles_leave_them_out() -> None:
    norm, x = onward.LayerNorm(4), np.ones((3, 4), np.float32)
    copied = copy.deepcopy(norm)
    for layer in (copied, norm, pickle.loads(pickle.dumps(norm))):
        layer.backward(x, None, layer.forward(x)[2])
    assert len(pickle.dumps(norm)) < 2000


def test_what_does_not_fit_raises() -> None:
    layer, x = onward.Conv1d(2, 3, 3), np.ones((5, 2, 9))
    *_, cache = layer.forward(x)
    with pytest.raises(ShapeError, match=r"dy has shape \(5, 3\); expected \(5, 3, 7\)"):
        layer.backward(np.ones((5, 3)), None, cache)
    for other in (None, x, (x,), (3, 4)):
        with pytest.raises(ArgumentError, match="cache was not returned by the forward method of"):
            layer.backward(np.ones((5, 3, 7)), None, other)
