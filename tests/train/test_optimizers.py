"""Optimizers and clipping. tests/peers compares them with PyTorch."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from onward import train
from onward.errors import ArgumentError, SignatureError
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
def test_it_converges_to_the_minimum_of_a_quadratic(optimizer: Optimizer) -> None:
    w, goal = weights(), {name: np.full_like(each, 0.5) for name, each in weights().items()}
    memory = optimizer.start(w)
    for n in range(400):
        gradients = {name: w[name] - goal[name] for name in w}
        w, memory = optimizer.step(w, gradients, memory, lr=0.1 * (1 - n / 400))
    assert memory.step == 400
    for name in w:
        np.testing.assert_allclose(w[name], goal[name], atol=0.02)


@every_optimizer
def test_a_step_does_not_modify_its_arguments(optimizer: Optimizer) -> None:
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
def test_biases_do_not_decay_with_decay_biases_false(kind: type[Optimizer]) -> None:
    w = weights()
    nothing = {name: np.zeros_like(each) for name, each in w.items()}
    for decay_biases in (True, False):
        optimizer = kind(1e-3, weight_decay=0.5, decay_biases=decay_biases)
        after, _ = optimizer.step(w, nothing, optimizer.start(w))
        assert (np.abs(after["0.weight"]) < np.abs(w["0.weight"])).all()
        assert (after["0.bias_ih_l0"] != w["0.bias_ih_l0"]).all() == decay_biases


def test_clipping_bounds_the_global_norm_or_each_value() -> None:
    gradients = {"a": np.array([3.0, -4.0], np.float32), "b": np.array([12.0], np.float32)}
    assert train.global_norm(gradients) == 13
    clipped = train.clip_norm(gradients, 6.5)
    np.testing.assert_allclose(clipped["a"], [1.5, -2])
    assert clipped["a"].dtype == np.float32 and train.global_norm(clipped) == pytest.approx(6.5)
    np.testing.assert_array_equal(train.clip_norm(gradients, 20)["b"], gradients["b"])
    assert train.clip_value(gradients, 3.5)["a"].tolist() == [3, -3.5]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("dtype", "size"), [("float32", 1e20), ("float32", 3e38), ("float64", 1e200)])
def test_norms_of_huge_gradients_neither_overflow_nor_warn(dtype: str, size: float) -> None:
    gradients = {"a": np.full((7, 5), size, dtype), "b": np.full(14, -size, dtype)}
    size = float(gradients["a"][0, 0])
    assert train.global_norm(gradients) == pytest.approx(7 * size)
    for name, clipped in train.clip_norm(gradients, 1.0).items():
        np.testing.assert_allclose(clipped, np.sign(gradients[name]) / 7, rtol=1e-6)


@pytest.mark.filterwarnings("error")
def test_norms_of_tiny_gradients_do_not_underflow() -> None:
    assert train.global_norm({"a": np.full(49, 1e-300)}) == pytest.approx(7e-300)
    assert train.global_norm({"a": np.full(49, 5e-324)}) == pytest.approx(7 * 5e-324, rel=1e-3)
    assert train.global_norm({"a": np.full(49, 1e-44, np.float32)}) == pytest.approx(7e-44, rel=0.02)


def test_the_norm_adds_arrays_in_the_same_order_in_every_version_of_python() -> None:
    for seed in range(20):  # the built-in sum compensates its rounding errors from Python 3.12 on
        values = np.random.default_rng(seed).normal(size=7)
        scale = 2.0 ** -np.frexp(np.abs(values).max())[1]
        sums = np.zeros(16)
        sums[:7] = (values * scale) ** 2
        while len(sums) > 1:
            sums = sums[: len(sums) // 2] + sums[len(sums) // 2 :]
        norm = train.global_norm({str(n): np.array([value]) for n, value in enumerate(values)})
        assert norm == np.sqrt(sums[0]) / scale


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_norm_of_gradients_that_are_not_finite_is_not_finite(bad: float) -> None:
    for place in (0, 1):
        gradients = {"a": np.ones(3), "b": np.ones(3)}
        gradients["ab"[place]][1] = bad
        assert not np.isfinite(train.global_norm(gradients))


def test_no_gradients_have_norm_0() -> None:
    assert train.global_norm({}) == train.global_norm({"a": np.zeros((0, 3)), "b": np.zeros(3)}) == 0


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
def test_errors_name_the_bad_setting(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(ArgumentError, match=message):
        make()


@pytest.mark.parametrize("scalar", [np.float64, np.float32, np.float16])
def test_settings_given_as_numpy_scalars_do_not_promote_float32(scalar: type[np.floating]) -> None:
    w = {name: each.astype(np.float32) for name, each in weights().items()}
    half = scalar(0.5)
    for optimizer in (
        train.SGD(half, weight_decay=half, momentum=half, nesterov=np.bool_(True)),
        train.RMSprop(half, weight_decay=half, alpha=half, eps=half),
        train.Adam(half, weight_decay=half, betas=[half, half], eps=half),
        train.AdamW(half, weight_decay=half),
    ):
        after, memory = optimizer.step(w, w, optimizer.start(w), lr=half)
        arrays = [*after.values(), *(a for named in memory.averages.values() for a in named.values())]
        assert {a.dtype for a in arrays} == {np.dtype(np.float32)}
    plain = train.Adam(0.5, weight_decay=0.5, betas=(0.5, 0.5), eps=0.5)
    assert repr(train.Adam(half, weight_decay=half, betas=[half, half], eps=half)) == repr(
        plain
    )  # resuming compares this


@pytest.mark.parametrize("kind", [train.SGD, train.RMSprop, train.Adam, train.AdamW])
def test_options_are_keywords_because_pytorch_orders_them_differently(kind: Any) -> None:
    with pytest.raises(
        SignatureError, match=rf"^{kind.__name__}: too many positional .* it takes \(lr.*, \*, "
    ):
        kind(0.1, 0.9)
    with pytest.raises(SignatureError, match="has no argument nesterow"):
        kind(0.1, nesterow=True)
    assert pickle.loads(pickle.dumps(kind(0.1))) == copy.copy(kind(0.1)) == kind(lr=0.1)
