"""The loss follows from the last layer: a softmax or a sigmoid is never applied twice."""

from functools import partial
from typing import Any

import numpy as np
import pytest

from onward import LSTM, Activation, Dropout, Last, Linear, Sequential, Softmax, train
from onward.errors import ArgumentError
from onward.graph import Model
from onward.graph.over_time.named_carries import from_zeros
from onward.layers.graphs import graph_of
from onward.train.losses import as_loss, describe

RNG = np.random.default_rng(0)
X, CLASSES, BINARY = RNG.normal(size=(7, 6, 2)), RNG.integers(0, 3, 6), RNG.integers(0, 2, 6)


def classifier(*last: Any, outputs: int = 3) -> Sequential:
    return Sequential(LSTM(2, 4, rng=0), Last(), Linear(4, outputs, rng=1), *last)


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        ((), "cross_entropy"),
        ((Softmax(),), "cross_entropy(from_logits=False)"),
        ((Softmax(1), Dropout()), "cross_entropy(from_logits=False)"),
        ((Softmax(0),), "cross_entropy"),
        ((Softmax(), Linear(3, 2)), "cross_entropy"),
        ((Activation("sigmoid"),), "bce(from_logits=False)"),
        ((Activation("hard_sigmoid"), Dropout()), "bce(from_logits=False)"),
        ((Activation("tanh"),), "cross_entropy"),
    ],
)
def test_the_default_loss_follows_from_the_last_layer(last: Any, expected: str) -> None:
    model = classifier(*last)
    assert describe(as_loss(None, model)) == expected
    assert describe(as_loss(None, Model(from_zeros(graph_of(model))))) == expected


@pytest.mark.parametrize("is_graph", [False, True])
def test_a_softmax_is_not_applied_twice(is_graph: bool) -> None:
    model = classifier(Softmax())
    expected = train.evaluate(model[:-1], (X, CLASSES))
    given: Any = Model(from_zeros(graph_of(model))) if is_graph else model
    for loss in (None, "cross_entropy"):
        score = train.evaluate(given, train.Batches(X, CLASSES), loss)
        assert score.loss == pytest.approx(expected.loss, rel=1e-6) and score.accuracy == expected.accuracy
    history = train.fit(model, (X, CLASSES), epochs=1, rng=0, progress=False)
    assert history.losses[0] == pytest.approx(expected.loss, rel=1e-6)
    twice = train.evaluate(given, train.Batches(X, CLASSES), partial(train.cross_entropy, from_logits=True))
    assert abs(twice.loss - expected.loss) > 0.01


def test_a_sigmoid_is_scored_by_bce_with_its_accuracy() -> None:
    model = classifier(Activation("sigmoid"), outputs=1)
    expected = train.evaluate(model[:-1], (X, BINARY), "bce")
    for loss in (None, "bce"):
        for targets in (BINARY, BINARY[:, None]):
            score = train.evaluate(model, (X, targets), loss)
            assert score.loss == pytest.approx(expected.loss, rel=1e-5)
            assert score.accuracy == expected.accuracy == ((model(X)[:, 0] > 0.5) == BINARY).mean()
    with pytest.raises(ArgumentError, match="ends in a sigmoid: use 'bce'"):
        train.evaluate(model, (X, BINARY), "cross_entropy")
    assert train.evaluate(model, (X, BINARY.astype(float)), "mse").accuracy is None
