"""Random trainings: resumed ones have the same bits, and the mean loss is that of a loop over the rows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.random_trainings import Training, training
from support.randomized import random_cases

from onward import train


class Stopping(train.Data):
    """Raises KeyboardInterrupt before the batch with index `stop`."""

    def __init__(self, data: train.Data, stop: int) -> None:
        self.data, self.left, self.size = data, stop, data.size

    def settings(self) -> dict[str, Any]:
        return self.data.settings()

    def for_model(self, model: Any) -> "Stopping":
        return Stopping(self.data.for_model(model), self.left)

    def epoch(self, rng: Any) -> Iterator[train.Batch]:
        for batch in self.data.epoch(rng):
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            yield batch


@pytest.mark.parametrize("seed", range(random_cases(30)))
def test_a_training_interrupted_anywhere_ends_with_the_same_checkpoint(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    make, data, options = training(rng, in_chunks=seed % 3 == 0)
    model, whole, cut = make(), tmp_path / "whole", tmp_path / "cut"
    history = train.fit(model, data, rng=1, checkpoint=whole, **options)
    options |= {"checkpoint": cut, "checkpoint_every": int(rng.integers(1, 4)), "resume": True}
    left = len(history.losses)  # at least so many steps
    while left > 0 and rng.random() < 0.7:
        stop = int(rng.integers(0, left))
        with pytest.raises(KeyboardInterrupt):
            train.fit(make(), Stopping(data, stop), rng=1, **options)
        left -= stop
    resumed = make()
    assert train.fit(resumed, data, rng=1, **options) == history
    assert cut.read_bytes() == whole.read_bytes()
    for name, weight in model.state_dict().items():
        np.testing.assert_array_equal(resumed.state_dict()[name], weight)


@pytest.mark.parametrize("seed", range(random_cases(30)))
def test_the_mean_loss_is_that_of_a_loop_over_sequences_and_steps(seed: int) -> None:
    case = training(np.random.default_rng(seed), in_chunks=False)
    found = train.evaluate(case.model(), case.data, case.options["loss"])
    assert found.loss == pytest.approx(mean_loss(case), rel=1e-5, abs=1e-6)


def mean_loss(case: Training) -> float:
    """Return the mean of the losses of the rows, one after the other, with the weights of their sequences."""
    model, data, loss = case.model(), case.data, case.options["loss"]
    assert isinstance(data, train.Batches)
    total = count = 0.0
    for number, (item, target) in enumerate(zip(data.items, data.targets, strict=True)):
        rows = zip(model(item), target, strict=True) if data.per_step else [(model(item), target)]
        for y, t in rows:
            if np.ndim(t) == 0 and t == loss.keywords.get("ignore_index"):
                continue
            weight = 1.0 if data.weights is None else float(data.weights[number])
            total += weight * loss(y[None], np.array(t)[None])[0]
            count += weight
    return total / count
