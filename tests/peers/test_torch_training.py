"""Losses, optimizers, clipping and schedules against those of PyTorch."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from support.randomized import random_cases
from torch import optim
from torch.nn import functional as F
from torch.optim import lr_scheduler

from onward import train
from onward.train.optimizers import Optimizer
from onward.train.schedules import Progress

DRAWS = np.random.default_rng(3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(33, 7), (5, 17, 7)], ids=str)
@pytest.mark.parametrize(
    "options", [{}, {"ignore_index": 3}, {"label_smoothing": 0.1, "ignore_index": 2}], ids=str
)
def test_cross_entropy_and_its_gradient_match_torch(
    dtype: str, shape: tuple[int, ...], options: dict[str, Any]
) -> None:
    logits, targets = DRAWS.normal(0, 3, shape).astype(dtype), DRAWS.integers(0, 7, shape[:-1])
    loss, dlogits = train.cross_entropy(logits, targets, **options)
    y = torch.tensor(logits, requires_grad=True)
    right = F.cross_entropy(y.reshape(-1, 7), torch.tensor(targets).reshape(-1), **options)
    right.backward()
    assert_alike(loss, dlogits, right, y)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_losses_of_probabilities_and_their_gradients_match_torch(dtype: str) -> None:
    y = DRAWS.uniform(0.01, 0.99, (6, 5, 7)).astype(dtype)
    classes, targets = DRAWS.integers(0, 7, (6, 5)), DRAWS.uniform(0, 1, (6, 5, 7)).astype(dtype)
    for mine, theirs in (
        (
            train.cross_entropy(y, classes, from_logits=False),
            lambda p: F.nll_loss(torch.log(p).reshape(-1, 7), torch.tensor(classes).reshape(-1)),
        ),
        (
            train.bce(y, targets, from_logits=False),
            lambda p: F.binary_cross_entropy(p, torch.tensor(targets)),
        ),
    ):
        p = torch.tensor(y, requires_grad=True)
        right = theirs(p)
        right.backward()
        assert_alike(*mine, right, p)


NUMBERS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "mse": (train.mse, F.mse_loss),
    "mae": (train.mae, F.l1_loss),
    "huber": (partial(train.huber, delta=0.6), partial(F.huber_loss, delta=0.6)),
    "bce": (train.bce, F.binary_cross_entropy_with_logits),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(33, 7), (5, 17, 1)], ids=str)
@pytest.mark.parametrize("name", NUMBERS)
def test_losses_of_numbers_and_their_gradients_match_torch(
    name: str, shape: tuple[int, ...], dtype: str
) -> None:
    mine, theirs = NUMBERS[name]
    values, targets = DRAWS.normal(0, 3, shape).astype(dtype), DRAWS.uniform(0, 1, shape).astype(dtype)
    loss, dy = mine(values, targets)
    y = torch.tensor(values, requires_grad=True)
    right = theirs(y, torch.tensor(targets))
    right.backward()
    assert_alike(loss, dy, right, y)


def assert_alike(loss: float, dy: np.ndarray, right: torch.Tensor, y: torch.Tensor) -> None:
    accuracy = 1e-6 if dy.dtype == np.float32 else 1e-13
    assert loss == pytest.approx(right.item(), rel=accuracy)
    assert y.grad is not None
    np.testing.assert_allclose(dy, y.grad.numpy(), rtol=0, atol=accuracy * np.abs(dy).max())


OPTIMIZERS: list[tuple[Optimizer, Callable[..., optim.Optimizer]]] = [
    (train.SGD(0.05), partial(optim.SGD, lr=0.05)),
    (
        train.SGD(0.05, weight_decay=0.1, momentum=0.9),
        partial(optim.SGD, lr=0.05, weight_decay=0.1, momentum=0.9),
    ),
    (
        train.SGD(0.05, momentum=0.9, nesterov=True),
        partial(optim.SGD, lr=0.05, momentum=0.9, nesterov=True),
    ),
    (
        train.RMSprop(0.01, weight_decay=0.1, alpha=0.95),
        partial(optim.RMSprop, lr=0.01, weight_decay=0.1, alpha=0.95),
    ),
    (train.Adam(0.01), partial(optim.Adam, lr=0.01)),
    (
        train.Adam(0.01, weight_decay=0.1, betas=(0.8, 0.99), eps=1e-6),
        partial(optim.Adam, lr=0.01, weight_decay=0.1, betas=(0.8, 0.99), eps=1e-6),
    ),
    (train.AdamW(0.01), partial(optim.AdamW, lr=0.01)),
    (train.AdamW(0.01, weight_decay=0.2, decay_biases=False), partial(optim.AdamW, lr=0.01)),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("optimizer", "peer"), OPTIMIZERS, ids=lambda given: repr(given) if given else "")
def test_a_hundred_steps_of_each_optimizer_match_torch(
    optimizer: Optimizer, peer: Callable[..., optim.Optimizer], dtype: str
) -> None:
    rng = np.random.default_rng(0)
    weights = {"weight": rng.normal(0, 1, (7, 5)).astype(dtype), "bias": rng.normal(0, 1, 7).astype(dtype)}
    parameters = {name: torch.nn.Parameter(torch.tensor(weight)) for name, weight in weights.items()}
    groups: Any = list(parameters.values())
    if not optimizer.decay_biases:
        groups = [
            {"params": [parameters["weight"]], "weight_decay": optimizer.weight_decay},
            {"params": [parameters["bias"]], "weight_decay": 0.0},
        ]
    theirs = peer(groups)
    memory = optimizer.start(weights)
    for _ in range(100):
        gradients = {name: rng.normal(0, 1, w.shape).astype(dtype) for name, w in weights.items()}
        weights, memory = optimizer.step(weights, gradients, memory)
        for name, parameter in parameters.items():
            parameter.grad = torch.tensor(gradients[name])
        theirs.step()
    for name, parameter in parameters.items():
        right = parameter.detach().numpy()
        accuracy = (1e-6 if dtype == "float32" else 1e-12) * np.abs(right).max()
        np.testing.assert_allclose(weights[name], right, rtol=0, atol=accuracy)


@pytest.mark.parametrize("bound", [0.5, 100.0])
def test_clipping_matches_torch(bound: float) -> None:
    gradients = {name: DRAWS.normal(0, 1, shape) for name, shape in (("a", (7, 5)), ("b", (9,)))}

    def expected(clip: Callable[..., Any]) -> list[np.ndarray]:
        parameters = [torch.nn.Parameter(torch.tensor(g)) for g in gradients.values()]
        for parameter, g in zip(parameters, gradients.values(), strict=True):
            parameter.grad = torch.tensor(g)
        clip(parameters, bound)
        return [parameter.grad.numpy() for parameter in parameters if parameter.grad is not None]

    for mine, theirs in (
        (train.clip_norm, torch.nn.utils.clip_grad_norm_),
        (train.clip_value, torch.nn.utils.clip_grad_value_),
    ):
        for one, other in zip(mine(gradients, bound).values(), expected(theirs), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12)


SCHEDULES: list[tuple[train.Constant, Callable[[Any], Any]]] = [
    (train.Constant(), lambda o: lr_scheduler.LambdaLR(o, lambda step: 1.0)),
    (train.StepLR(7, 0.3), lambda o: lr_scheduler.StepLR(o, 7, 0.3)),
    (train.CosineAnnealingLR(eta_min=0.01), lambda o: lr_scheduler.CosineAnnealingLR(o, 60, 0.01)),
    (train.OneCycleLR(), lambda o: lr_scheduler.OneCycleLR(o, 0.5, total_steps=60, cycle_momentum=False)),
    (
        train.OneCycleLR(60, 0.2, 10, 100),
        lambda o: lr_scheduler.OneCycleLR(
            o, 0.5, 60, pct_start=0.2, div_factor=10, final_div_factor=100, cycle_momentum=False
        ),
    ),
    (
        train.Warmup(9, 0.1, train.CosineAnnealingLR()),
        lambda o: lr_scheduler.SequentialLR(
            o, [lr_scheduler.LinearLR(o, 0.1, 1, 9), lr_scheduler.CosineAnnealingLR(o, 51)], [9]
        ),
    ),
]


@pytest.mark.parametrize(
    ("schedule", "peer"), SCHEDULES, ids=lambda given: "" if callable(given) else repr(given)
)
def test_schedules_match_torch(schedule: train.Constant, peer: Callable[[Any], Any]) -> None:
    optimizer = optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    theirs = peer(optimizer)
    for step in range(60):
        assert schedule.lr(0.5, Progress(step, 60)) == pytest.approx(
            optimizer.param_groups[0]["lr"], rel=1e-9
        )
        optimizer.step()
        if step < 59:
            theirs.step()


@pytest.mark.parametrize("name", ["SGD", "Adam"])
@pytest.mark.parametrize(
    "options", [{}, {"base_momentum": 0.7, "max_momentum": 0.8, "pct_start": 0.1}], ids=str
)
def test_one_cycle_with_momentum_matches_torch(name: str, options: dict[str, float]) -> None:
    mine: Optimizer = train.SGD(0.1, momentum=0.9) if name == "SGD" else train.Adam(0.1)
    schedule = train.OneCycleLR(**options)  # type: ignore[arg-type]  # the options are numbers
    w = {"weight": DRAWS.normal(0, 1, (7, 5))}
    parameter = torch.nn.Parameter(torch.tensor(w["weight"]))
    theirs = optim.SGD([parameter], 0.1, momentum=0.9) if name == "SGD" else optim.Adam([parameter], 0.1)
    cycle = lr_scheduler.OneCycleLR(theirs, 0.1, total_steps=50, **options)  # type: ignore[arg-type]  # as above
    memory = mine.start(w)
    for step in range(50):
        g = DRAWS.normal(0, 1, (7, 5))
        progress = Progress(step, 50)
        momentum = schedule.momentum(progress)
        assert momentum is not None
        group = theirs.param_groups[0]
        assert momentum == pytest.approx(group["momentum"] if name == "SGD" else group["betas"][0])
        w, memory = mine.with_momentum(momentum).step(w, {"weight": g}, memory, schedule.lr(0.1, progress))
        parameter.grad = torch.tensor(g)
        theirs.step()
        if step < 49:
            cycle.step()
    np.testing.assert_allclose(w["weight"], parameter.detach().numpy(), rtol=1e-10)


@pytest.mark.parametrize("seed", range(random_cases(20)))
def test_reduce_on_plateau_matches_torch(seed: int) -> None:
    rng = np.random.default_rng(seed)
    factor, patience = float(rng.uniform(0.01, 0.99)), int(rng.integers(0, 4))
    options = {"threshold": float(rng.choice([0, 1e-4, 0.1])), "eps": float(rng.choice([1e-8, 1e-3, 0]))}
    optimizer = optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    theirs = lr_scheduler.ReduceLROnPlateau(optimizer, factor=factor, patience=patience, **options)
    schedule = train.ReduceLROnPlateau(factor, patience, **options)
    losses: list[float] = []
    for loss in rng.choice([1.0, *rng.normal(0, 1, 3)], 60).tolist():
        losses.append(loss)
        theirs.step(loss)
        rate = optimizer.param_groups[0]["lr"]
        assert schedule.lr(0.5, Progress(0, None, losses)) == pytest.approx(rate, rel=1e-12, abs=0)
