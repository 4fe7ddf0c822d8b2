"""Optimisers: what they remember, weight decay, clipping. See tests/peers for PyTorch's numbers."""

import numpy as np
import pytest

from onward import train
from onward.errors import ArgumentError
from onward.train.optimizers import Optimizer

OPTIMIZERS = [
    train.SGD(0.1),
    train.SGD(0.1, momentum=0.9, nesterov=True),
    train.RMSprop(0.1),
    train.Adam(0.1),
    train.AdamW(0.1),
]
every_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)


def weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {"0.weight": rng.normal(0, 1, (3, 4)), "0.bias_ih_l0": rng.normal(0, 1, 3)}


@every_optimizer
def test_it_finds_the_minimum_of_a_bowl(optimizer: Optimizer) -> None:
    w, goal = weights(), {name: np.full_like(each, 0.5) for name, each in weights().items()}
    memory = optimizer.start(w)
    for n in range(400):
        gradients = {name: w[name] - goal[name] for name in w}
        w, memory = optimizer.step(w, gradients, memory, lr=0.1 * (1 - n / 400))
    assert memory.step == 400
    for name in w:
        np.testing.assert_allclose(w[name], goal[name], atol=0.02)


@every_optimizer
def test_nothing_that_was_passed_in_is_changed(optimizer: Optimizer) -> None:
    w = weights()
    memory = optimizer.start(w)
    after, later = optimizer.step(w, weights(), memory)
    assert later.step == 1 and memory.step == 0
    for name, before in weights().items():
        np.testing.assert_array_equal(w[name], before)
        assert (after[name] != before).any()
    assert not any(average.any() for named in memory.averages.values() for average in named.values())


@every_optimizer
def test_float32_stays_float32(optimizer: Optimizer) -> None:
    w = {name: each.astype(np.float32) for name, each in weights().items()}
    after, memory = optimizer.step(w, w, optimizer.start(w))
    arrays = [*after.values(), *(a for named in memory.averages.values() for a in named.values())]
    assert {a.dtype for a in arrays} == {np.dtype(np.float32)}


@pytest.mark.parametrize("kind", [train.SGD, train.RMSprop, train.Adam, train.AdamW])
def test_weight_decay_leaves_biases_alone_on_request(kind: type[Optimizer]) -> None:
    w = weights()
    nothing = {name: np.zeros_like(each) for name, each in w.items()}
    for decay_biases in (True, False):
        optimizer = kind(1e-3, weight_decay=0.5, decay_biases=decay_biases)
        after, _ = optimizer.step(w, nothing, optimizer.start(w))
        assert (np.abs(after["0.weight"]) < np.abs(w["0.weight"])).all()
        assert (after["0.bias_ih_l0"] != w["0.bias_ih_l0"]).all() == decay_biases


def test_clipping_bounds_the_norm_of_all_and_the_size_of_each() -> None:
    gradients = {"a": np.array([3.0, -4.0], np.float32), "b": np.array([12.0], np.float32)}
    assert train.global_norm(gradients) == 13
    clipped = train.clip_norm(gradients, 6.5)
    np.testing.assert_allclose(clipped["a"], [1.5, -2])
    assert clipped["a"].dtype == np.float32 and train.global_norm(clipped) == pytest.approx(6.5)
    np.testing.assert_array_equal(train.clip_norm(gradients, 20)["b"], gradients["b"])
    assert train.clip_value(gradients, 3.5)["a"].tolist() == [3, -3.5]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: train.Adam(-1), "lr=-1"),
        (lambda: train.Adam(float("nan")), "lr=nan"),
        (lambda: train.Adam(1e-3, betas=(0.9, 1.0)), "betas=1.0.*below 1"),
        (lambda: train.Adam(1e-3, betas=0.9), "two numbers"),
        (lambda: train.SGD(0.1, nesterov=True), "needs a momentum"),
        (lambda: train.SGD(0.1, weight_decay="a"), "weight_decay='a'"),
        (lambda: train.RMSprop(0.1, alpha=2), "alpha=2"),
        (lambda: train.clip_norm({}, -1), "max_norm=-1"),
        (lambda: train.Adam().step({}, {}, train.Adam().start({}), lr=float("nan")), "lr=nan"),
    ],
)
def test_bad_settings_are_named(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(ArgumentError, match=message):
        make()


@pytest.mark.parametrize("scalar", [np.float64, np.float32, np.float16])
def test_numpy_scalars_as_settings_leave_float32_as_it_is(scalar: type[np.floating]) -> None:
    w = {name: each.astype(np.float32) for name, each in weights().items()}
    half = scalar(0.5)
    for optimizer in (
        train.SGD(half, half, momentum=half, nesterov=np.bool_(True)),
        train.RMSprop(half, half, alpha=half, eps=half),
        train.Adam(half, half, betas=[half, half], eps=half),
        train.AdamW(half, half),
    ):
        after, memory = optimizer.step(w, w, optimizer.start(w), lr=half)
        arrays = [*after.values(), *(a for named in memory.averages.values() for a in named.values())]
        assert {a.dtype for a in arrays} == {np.dtype(np.float32)}
    plain = train.Adam(0.5, 0.5, betas=(0.5, 0.5), eps=0.5)
    assert repr(train.Adam(half, half, betas=[half, half], eps=half)) == repr(plain)  # what a resume compares
