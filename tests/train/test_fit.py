"""The training loop: it learns, validates, stops early, and reports what is wrong."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onward
from onward import train
from onward.errors import ArgumentError, DtypeError, NotFiniteError, ShapeError
from onward.layers.activation import dropout_mask
from onward.train.schedules import Progress

Net = onward.Sequential


def words(count: int = 200, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """Sequences whose class is the sign of a number in the first step, which the model must remember."""
    rng = np.random.default_rng(seed)
    items = [rng.normal(0, 1, (length, 3)).astype(np.float32) for length in rng.integers(1, 9, count)]
    return items, np.array([int(item[0, 1] > 0) for item in items])


def classifier(cell: Any = onward.LSTM, **options: Any) -> Net:
    width = 8 * (1 + options.get("bidirectional", False))
    last = onward.Last(batch_first=options.get("batch_first", False))
    return Net(cell(3, 8, rng=0, **options), last, onward.Linear(width, 2, rng=1))


@pytest.mark.parametrize(
    ("cell", "options"),
    [(onward.LSTM, {}), (onward.GRU, {"batch_first": True}), (onward.RNN, {"bidirectional": True})],
)
def test_a_classifier_learns_from_sequences_of_different_lengths(cell: Any, options: dict[str, Any]) -> None:
    net = classifier(cell, **options)
    batches = train.Batches(*words(), batch_size=20, batch_first=options.get("batch_first", False))
    before = train.evaluate(net, batches)
    history = train.fit(net, batches, epochs=25, optimizer=train.Adam(2e-2), max_norm=1.0, rng=0)
    after = train.evaluate(net, batches)
    assert after.accuracy is not None and after.accuracy > 0.9 and after.loss < before.loss / 3
    assert [epoch.step for epoch in history.epochs] == [10 * n for n in range(1, 26)]
    assert len(history.losses) == 250 and history.epochs[-1].loss == pytest.approx(
        np.mean(history.losses[-10:])
    )


def test_targets_of_time_steps_are_learned_and_padding_does_not_count() -> None:
    items, _ = words()
    sums = [np.cumsum(item[:, :1], axis=0) / 5 for item in items]
    net = Net(onward.GRU(3, 12, rng=0), onward.Linear(12, 1, rng=1))
    train.fit(net, (items, sums), loss="mse", epochs=20, optimizer=train.Adam(1e-2), rng=0)
    score = train.evaluate(net, (items, sums), "mse")
    each = [((net(item) - goal) ** 2).sum() for item, goal in zip(items, sums, strict=True)]
    assert score.accuracy is None
    assert score.loss == pytest.approx(sum(each) / sum(map(len, items)), rel=1e-5) and score.loss < 0.01


@pytest.mark.parametrize(
    ("loss", "ignored"), [("cross_entropy", -100), (partial(train.cross_entropy, ignore_index=2), 2)]
)
def test_ignored_targets_do_not_count_towards_the_accuracy(loss: Any, ignored: int) -> None:
    net = Net(onward.GRU(3, 4, rng=0), onward.Linear(4, 5, rng=1))
    rng = np.random.default_rng(0)
    items = [rng.standard_normal((length, 3)) for length in (5, 9)]
    targets = [rng.choice([0, 1, 3, 4, ignored], len(item)) for item in items]
    score = train.evaluate(net, train.Batches(items, targets, batch_size=1), loss)
    y, kept = np.concatenate([net(item) for item in items]), np.concatenate(targets)
    y, kept = y[kept != ignored], kept[kept != ignored]
    assert 4 < len(kept) < 14
    assert score.accuracy == pytest.approx((y.argmax(1) == kept).mean())
    assert score.loss == pytest.approx(train.cross_entropy(y, kept)[0], rel=1e-5)


def test_the_state_is_carried_from_chunk_to_chunk() -> None:
    """Each target is the input of 3 steps earlier, so a chunk of 4 steps needs the previous state."""
    x = np.random.default_rng(0).integers(0, 2, 4000)
    net = Net(onward.Embedding(2, 4, rng=0), onward.LSTM(4, 16, rng=1), onward.Linear(16, 2, rng=2))
    data = train.Chunks(x[3:], x[:-3], batch_size=10, steps=4)
    train.fit(net, data, epochs=12, optimizer=train.Adam(2e-2), rng=0)
    score = train.evaluate(net, data)
    assert score.accuracy is not None and score.accuracy > 0.95
    sides = [part[:3990].reshape(10, 399).T for part in (x[3:], x[:-3])]
    whole, _ = train.cross_entropy(net(sides[0]), sides[1])
    assert score.loss == pytest.approx(whole, rel=1e-5)


def test_a_bidirectional_model_cannot_be_trained_on_chunks() -> None:
    net = Net(onward.GRU(1, 2, bidirectional=True), onward.Linear(4, 1))
    with pytest.raises(ArgumentError, match="needs the whole sequence"):
        train.fit(net, train.Chunks(np.ones((9, 1)), np.ones((9, 1)), 1, 3), loss="mse")


def test_a_single_layer_can_be_trained() -> None:
    layer = onward.LSTM(2, 1, rng=0)
    x = np.random.default_rng(0).normal(0, 1, (6, 30, 2))
    goal, _ = onward.LSTM(2, 1, rng=1)(x)
    history = train.fit(layer, (x, goal), loss="huber", optimizer=train.Adam(0.03), epochs=60, rng=0)
    assert history.epochs[-1].loss < history.epochs[0].loss / 20


def test_batches_of_empty_sequences_are_allowed() -> None:
    items, classes = [np.ones((length, 3)) for length in (0, 0, 2, 3)], np.array([0, 1, 0, 1])
    history = train.fit(classifier(), train.Batches(items, classes, batch_size=2), epochs=1, rng=0)
    assert len(history.losses) == 2 and np.isfinite(history.losses).all()


def test_an_iterable_provides_the_batches_of_every_epoch() -> None:
    items, classes = words(40)
    batches = [(item[:, None], classes[n : n + 1]) for n, item in enumerate(items)]
    net = classifier()
    history = train.fit(net, batches, epochs=3, rng=0)
    assert [epoch.step for epoch in history.epochs] == [40, 80, 120]
    with pytest.raises(ArgumentError, match="no batch in epoch 2"):
        train.fit(net, iter(batches), epochs=3, rng=0)


def test_the_best_weights_are_restored_and_training_stops_early() -> None:
    net, rng = classifier(), np.random.default_rng(0)
    noise = [rng.normal(0, 1, (5, 3)) for _ in range(20)], rng.integers(0, 2, 20)  # labels are random
    other = [rng.normal(0, 1, (5, 3)) for _ in range(50)], rng.integers(0, 2, 50)
    history = train.fit(
        net, noise, validation=other, epochs=300, patience=4, optimizer=train.Adam(3e-2), rng=0
    )
    assert history.best is not None and len(history.epochs) == history.best + 1 + 4 < 300
    score = train.evaluate(net, other)
    assert score.loss == min(history.validation_losses)
    assert score.accuracy == history.epochs[history.best].accuracy


def test_the_averaged_weights_are_validated_and_returned() -> None:
    nets, seen = [classifier() for _ in range(2)], []
    for net, average in zip(nets, (None, 0.5), strict=True):
        train.fit(net, words(), epochs=1, optimizer=train.SGD(0.1), rng=0, average=average)
        seen.append(net.state_dict()["2.bias"])
    assert (seen[0] != seen[1]).all()
    still = classifier()
    train.fit(still, words(), epochs=1, rng=0, average=1.0)  # the average never moves
    np.testing.assert_array_equal(still.state_dict()["2.bias"], classifier().state_dict()["2.bias"])


def test_the_schedule_sets_the_learning_rate_of_each_step() -> None:
    net = classifier()
    history = train.fit(net, words(64), epochs=4, schedule=train.CosineAnnealingLR(), rng=0)
    assert [epoch.lr for epoch in history.epochs] == pytest.approx(
        [1e-3 * (1 + np.cos(np.pi * step / 8)) / 2 for step in (1, 3, 5, 7)]
    )
    history = train.fit(net, words(64), epochs=2, schedule=train.StepLR(1, 0.0), rng=0)
    assert history.epochs[-1].lr == 0


def test_a_seed_determines_the_bits_and_the_global_generator_is_not_used() -> None:
    seen = []
    for seed in (0, 0, 1):
        np.random.seed(seed + 5)  # noqa: NPY002 tests the global generator
        before = np.random.get_state()[1].tobytes()  # type: ignore[index,union-attr]  # noqa: NPY002 as above
        net = Net(
            *classifier(num_layers=2, dropout=0.3).layers[:2], onward.Dropout(0.2), onward.Linear(8, 2, rng=1)
        )
        train.fit(net, words(), epochs=2, rng=seed)
        assert np.random.get_state()[1].tobytes() == before  # type: ignore[index,union-attr]  # noqa: NPY002
        seen.append(net.state_dict())
    assert all((seen[0][name] == seen[1][name]).all() for name in seen[0])
    assert not all((seen[0][name] == seen[2][name]).all() for name in seen[0])


def test_a_layer_without_gradients_raises() -> None:
    net = Net(onward.LSTM(3, 8, clip=1.0, rng=0), onward.Last(), onward.Linear(8, 2))
    with pytest.raises(ArgumentError, match="has no gradients"):
        train.fit(net, words())


def test_recurrent_dropout_masks_the_columns_of_the_recurrent_weights() -> None:
    x, seen = np.random.default_rng(0).normal(0, 1, (6, 2)), []

    def loss(y: Any, targets: Any, mask: Any) -> Any:
        seen.append(y.copy())
        return train.mse(y, targets, mask)

    layer, plain = (onward.LSTM(2, 5, 2, dtype="float64", rng=0) for _ in range(2))
    before = layer.state_dict()
    options: dict[str, Any] = {
        "loss": loss,
        "optimizer": train.SGD(1.0),
        "recurrent_dropout": 0.5,
    }
    train.fit(layer, train.Chunks(x, np.ones((6, 5)), batch_size=1, steps=6), epochs=1, rng=3, **options)
    draws = np.random.default_rng(3)
    masks = {
        name: dropout_mask(draws, 0.5, (5,), layer.dtype) for name in before if name.startswith("weight_hh")
    }
    plain.load_state_dict(before | {name: before[name] * mask for name, mask in masks.items()})
    y, _, cache = plain.forward(x[:, None])
    np.testing.assert_array_equal(seen[0], y)
    _, _, gradients = plain.backward(train.mse(y, np.ones((6, 1, 5)))[1], None, cache)
    for name, weight in layer.state_dict().items():
        moved = before[name] - gradients[name] * masks.get(name, 1)
        np.testing.assert_allclose(weight, moved, rtol=0, atol=1e-15)


def test_a_numpy_scalar_as_learning_rate_does_not_promote_float32() -> None:
    class Falling(train.Constant):
        def lr(self, base: float, progress: Any) -> float:
            return np.float64(base) / (1 + progress.step)  # type: ignore[no-any-return]

    net = classifier()
    train.fit(net, words(), epochs=1, optimizer=train.Adam(np.float64(1e-3)), schedule=Falling(), rng=0)
    assert {weight.dtype for weight in net.state_dict().values()} == {np.dtype(np.float32)}


def test_a_layer_used_twice_gets_the_sum_of_its_gradients(tmp_path: Path) -> None:
    x, goal = np.random.default_rng(0).normal(0, 1, (2, 5, 4, 3))
    data, gru = [(x, goal)], onward.GRU(3, 3, dtype="float64", rng=0)
    shared = Net(gru, gru)
    y, _, cache = shared.forward(x)
    _, _, gradients = shared.backward(train.mse(y, goal)[1], None, cache)
    before = gru.state_dict()
    sums = {name: gradients[f"0.{name}"] + gradients[f"1.{name}"] for name in before}
    half = train.global_norm(sums) / 2
    train.fit(shared, data, loss="mse", epochs=1, optimizer=train.SGD(1.0), max_norm=half, average=0.0)
    for name, weight in gru.state_dict().items():
        np.testing.assert_allclose(weight, before[name] - sums[name] / 2, rtol=1e-4)
    options: dict[str, Any] = {"loss": "mse", "recurrent_dropout": 0.5, "average": 0.5, "validation": data}
    for epochs in (1, 2):
        train.fit(shared, data, **options, epochs=epochs, rng=0, checkpoint=tmp_path / "run", resume=True)


def test_an_interrupt_cannot_leave_masked_or_averaged_weights_in_the_model() -> None:
    net, changed = classifier(), []

    def loss(y: Any, targets: Any, mask: Any) -> Any:
        initial = classifier().state_dict()
        changed.append([bool((initial[name] != weight).any()) for name, weight in net.state_dict().items()])
        return train.cross_entropy(y, targets, mask)

    data = words(9)
    train.fit(net, data, validation=data, loss=loss, epochs=1, average=1.0, recurrent_dropout=0.5, rng=0)
    assert changed == [[False] * 6, [True] * 6]  # in the only training step, then during validation


# --- NaN and infinities --------------------------------------------------------------------------------


class Poisoned(train.Batches):
    """Batches, the third of which contains NaN."""

    def epoch(self, rng: Any) -> Iterator[train.Batch]:
        for number, batch in enumerate(super().epoch(rng)):
            if number == 2:
                batch.x[3, 1, 0] = np.nan
            yield batch


def test_nan_in_the_data_is_located() -> None:
    items = [np.ones((5, 3)) for _ in range(40)]
    with pytest.raises(
        NotFiniteError, match=r"loss is nan at step 2 \(epoch 1, batch 2.*in x, first at step 3 of row 1"
    ):
        train.fit(classifier(), Poisoned(items, np.zeros(40, int), batch_size=10))


def test_nan_in_the_weights_is_located() -> None:
    net = classifier()
    net.load_state_dict(net.state_dict() | {"2.weight": np.full((2, 8), np.nan)})
    with pytest.raises(NotFiniteError, match=r"in 2\.weight"):
        train.fit(net, words())


def test_an_overflowing_layer_is_named_with_its_step() -> None:
    net = Net(onward.RNN(1, 1, nonlinearity="relu", rng=0), onward.Linear(1, 1, rng=0))
    big = {"0.weight_ih_l0": [[1e30]], "0.weight_hh_l0": [[1e30]]}
    net.load_state_dict(net.state_dict() | {name: np.array(w, np.float32) for name, w in big.items()})
    x = np.ones((4, 1, 1))
    with pytest.raises(NotFiniteError, match=r"layer 0, RNN.*first at step 1 of row 0.*weights are finite"):
        train.fit(net, (x, x), loss="mse")


def test_a_huge_finite_gradient_is_clipped_instead_of_rejected() -> None:
    def loss(y: Any, targets: Any, mask: Any) -> Any:
        return 1.0, np.full_like(y, 1e20)

    for options in ({"max_value": 1.0}, {"max_norm": 1.0}):
        net = Net(onward.Linear(2, 3, rng=0))
        before = net.state_dict()["0.bias"]
        data = [(np.ones((4, 5, 2)), np.zeros((4, 5, 3)))]
        train.fit(net, data, loss=loss, epochs=1, optimizer=train.SGD(0.5), **options)  # type: ignore[arg-type]
        expected = 0.5 if "max_value" in options else 0.5 / 3
        np.testing.assert_allclose(before - net.state_dict()["0.bias"], expected, rtol=1e-5)


def test_nan_in_the_targets_or_the_validation_data_is_reported() -> None:
    net, x = Net(onward.RNN(1, 1)), np.ones((4, 1, 1))
    with pytest.raises(NotFiniteError, match="in the targets"):
        train.fit(net, (x, x * np.nan), loss="mse")
    with pytest.raises(NotFiniteError, match="validation data is nan after epoch 1: it arose in the targets"):
        train.fit(net, (x, x), validation=(x, x * np.nan), loss="mse")


def test_divergence_is_reported() -> None:
    net = Net(onward.RNN(1, 4, nonlinearity="relu", rng=0), onward.Linear(4, 1, rng=0))
    x = np.ones((4, 32, 1))
    with pytest.raises(NotFiniteError, match="it arose in"):
        train.fit(net, (x, x), loss="mse", optimizer=train.SGD(1e6), epochs=20)


# --- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"data": (words()[0], words()[1] + 1)},
            ArgumentError,
            r"targets\[.*\] is 2, expected 0 to 1",
        ),
        ({"data": (words()[0], words()[1] * 1.0)}, DtypeError, "float64, but must hold integers"),
        ({"data": (words()[0], np.repeat(words()[1][:, None], 3, 1))}, ShapeError, "targets"),
        ({"data": ([np.full((2, 3), "a")], [0])}, DtypeError, "<U1"),
        ({"data": ([np.ones((2, 4))], [0])}, ShapeError, "4 features.*input_size=3"),
        ({"data": []}, ArgumentError, "no batch in epoch 1: it is empty"),
        ({"data": ()}, ArgumentError, "a tuple of 0"),
        ({"data": 7}, ArgumentError, "data is a int"),
        ({"data": [7]}, ArgumentError, "yielded a int"),
        ({"loss": "crossentropy"}, ArgumentError, "loss='crossentropy', but must be one of cross_entropy"),
        ({"loss": ["mse"]}, ArgumentError, "loss=\\['mse'\\], but must be one of"),
        ({"optimizer": train.Adam}, ArgumentError, r"optimizer=<class .*such as Adam\(1e-3\)"),
        ({"optimizer": "adam"}, ArgumentError, "optimizer='adam', but must be an optimizer"),
        ({"schedule": "cosine"}, ArgumentError, "schedule='cosine', but must be a schedule"),
        ({"schedule": lambda base, progress: base}, ArgumentError, "schedule=<function"),
        ({"checkpoint": 3}, ArgumentError, "checkpoint=3, but must be the path of a file"),
        ({"model": "lstm"}, ArgumentError, "model='lstm', but must be a layer or a model"),
        ({"epochs": -1}, ArgumentError, "epochs=-1"),
        ({"patience": 2}, ArgumentError, "needs validation"),
        ({"rng": "a"}, ArgumentError, "rng='a'"),
        ({"average": 2}, ArgumentError, "average=2"),
        ({"max_norm": -1}, ArgumentError, "max_norm=-1"),
        ({"resume": True}, ArgumentError, "needs a checkpoint"),
        ({"resume": "yes"}, ArgumentError, "resume='yes'"),
        (
            {"data": [train.Batch(np.ones((4, 2, 3)), [0, 1], weights=np.ones(3))]},
            ShapeError,
            r"weights of a batch have shape \(3,\); expected \(2,\)",
        ),
        ({"validation": ([], [])}, ArgumentError, "empty"),
    ],
)
def test_errors_name_the_bad_argument_and_leave_the_model_unchanged(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    net = classifier()
    with pytest.raises(error, match=message):
        train.fit(**{"model": net, "data": words(), **options})
    if "model" in options:
        with pytest.raises(error, match=message):
            train.evaluate(options["model"], words())
    for name, weight in classifier().state_dict().items():
        np.testing.assert_array_equal(net.state_dict()[name], weight)


def test_the_history_plots_losses_and_rates() -> None:
    history = train.fit(classifier(), words(), validation=words(seed=1), epochs=2, rng=0)
    figure = history.plot()
    figure.draw_without_rendering()
    assert [len(ax.lines) for ax in figure.axes] == [3, 1]
    assert figure.axes[0].get_title("left") == "loss: cross entropy in nats"
    assert len(figure.axes[0].lines[0].get_xdata()) == len(history.losses)


def test_the_plot_shows_the_learning_rate_of_every_step() -> None:
    history = train.fit(classifier(), words(), epochs=1, schedule=train.OneCycleLR(), rng=0)
    steps = len(history.losses)
    expected = [train.OneCycleLR().lr(1e-3, Progress(step, steps)) for step in range(steps)]
    assert history.rates == expected and max(expected) > 2 * max(expected[0], expected[-1])
    assert list(history.plot().axes[1].lines[0].get_ydata()) == expected


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("per_step", [False, True])
def test_weights_of_sequences_are_those_of_their_rows_in_the_loss(per_step: bool, batch_first: bool) -> None:
    rng = np.random.default_rng(0)
    items = [rng.normal(size=(length, 2)) for length in (3, 5, 4, 2)]
    y = [rng.integers(0, 3, len(item)) for item in items] if per_step else rng.integers(0, 3, 4)
    weights = [0.5, 0.0, 2.0, 0.5]
    layers: list[Any] = [onward.LSTM(2, 4, batch_first=batch_first, rng=0)]
    layers += [] if per_step else [onward.Last(batch_first=batch_first)]
    net = onward.Sequential(*layers, onward.Linear(4, 3, rng=1))
    losses, counts = [], []
    for n, item in enumerate(items):  # one sequence alone
        batch = train.Batches([item], [y[n]], per_step=per_step)
        losses.append(train.evaluate(net, batch).loss)
        counts.append(len(item) if per_step else 1)
    total = np.multiply(weights, counts)
    expected = (total * losses).sum() / total.sum()
    data = train.Batches(items, y, weights=weights, per_step=per_step)
    assert train.evaluate(net, data).loss == pytest.approx(expected, rel=1e-6)
    before = net.state_dict()
    train.fit(net, data, optimizer=train.SGD(0.0), epochs=1, progress=False, rng=0)
    history = train.fit(net, data, optimizer=train.SGD(1e-3), epochs=1, progress=False, rng=0)
    assert history.losses[0] == pytest.approx(expected, rel=1e-6)
    step = {name: (before[name] - weight) / 1e-3 for name, weight in net.state_dict().items()}
    slope = sum(float((g.astype(np.float64) ** 2).sum()) for g in step.values())
    moved = onward.Sequential(*layers, net[-1])
    moved.load_state_dict({name: before[name] - np.float32(1e-3) * g for name, g in step.items()})
    assert expected - train.evaluate(moved, data).loss == pytest.approx(1e-3 * slope, rel=0.02)


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [0.0, 0.0], [1.0, np.nan], [[1.0], [1.0]]])
def test_weights_that_do_not_fit_are_errors(weights: list[Any]) -> None:
    with pytest.raises((ArgumentError, ShapeError), match="weights"):
        train.Batches(np.zeros((3, 2, 1)), [0, 1], weights=weights)
