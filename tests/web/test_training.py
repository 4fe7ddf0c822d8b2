"""Training in JavaScript, and on the page, gives the bits of `train.fit`."""

import json
import shutil
from typing import Any

import numpy as np
import pytest
from support.javascript import evaluated

from onward.tracing.explore import PAGE

KINDS = ("RNN", "LSTM", "GRU")
EPOCHS = 3
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="needs Node")


def in_python(program: str) -> dict[str, Any]:
    """What the program that the page shows computes."""
    found: dict[str, Any] = {}
    exec(program, found)
    return found


def in_node(delay: int, bias: float, epochs: int = EPOCHS) -> dict[str, Any]:
    """The losses and the final weights of each kind of model, and the program in Python."""
    program = f"""
        const latch = await import("{(PAGE / "latch.js").as_uri()}");
        const {{ fit }} = await import("{(PAGE / "train.js").as_uri()}");
        const batches = latch.batches({delay});
        const found = {{ python: latch.python({delay}, {bias}, {epochs}) }};
        for (const kind of latch.KINDS) {{
          const {{ description, weights }} = latch.untrained(kind, {bias});
          const model = await onward.Onward.create(description, weights);
          const training = fit(model, batches, latch.SETTINGS);
          const losses = Array.from({{ length: {epochs} }}, () => training.next().value);
          found[kind] = {{ losses, weights: model.weights }};
        }}
        const plain = (key, value) => (value instanceof Float32Array ? [...value] : value);
        console.log(JSON.stringify(found, plain));
    """
    found: dict[str, Any] = evaluated(program)
    return found


@needs_node
@pytest.mark.parametrize(("delay", "bias"), [(5, 0), (20, 1), (50, -1), (15, 3.5)])
def test_losses_and_weights_are_those_of_fit_to_the_bit(delay: int, bias: float) -> None:
    found = in_node(delay, bias)
    expected = in_python(found["python"])
    for kind in KINDS:
        losses = [epoch.loss for epoch in expected["histories"][kind].epochs]
        assert found[kind]["losses"] == losses
        assert losses[-1] != losses[0]
        weights = expected["models"][kind].state_dict()
        assert list(found[kind]["weights"]) == list(weights)
        for name, weight in weights.items():
            np.testing.assert_array_equal(found[kind]["weights"][name], weight.reshape(-1), name)


@needs_node
@pytest.mark.parametrize("seed", [0, 1, 2, 12345, 2**32 - 1])
def test_random_numbers_are_those_of_numpy(seed: int) -> None:
    program = f"""
        const {{ generator }} = await import("{(PAGE / "generator.js").as_uri()}");
        const random = generator({seed});
        console.log(JSON.stringify(Array.from({{ length: 200 }}, random)));
    """
    assert evaluated(program) == np.random.default_rng(seed).random(200).tolist()


def losses_of(page: Any) -> dict[str, list[float]]:
    """The losses that the page shows."""
    columns = page.locator("#trained [data-kind]").all()
    return {
        column.get_attribute("data-kind"): json.loads(column.get_attribute("data-losses"))
        for column in columns
    }


def wait_for(page: Any, epochs: int) -> None:
    """Wait until all models have trained for some epochs."""
    page.wait_for_function(
        """(epochs) => [...document.querySelectorAll("#trained [data-kind]")]
             .every(({ dataset }) => JSON.parse(dataset.losses).length >= epochs)""",
        arg=epochs,
        timeout=60_000,
    )


def test_the_page_trains_in_workers_with_the_losses_of_fit(visit: Any) -> None:
    page = visit()
    page.fill("#delay", "10")
    page.dispatch_event("#delay", "change")
    page.click("#train")
    wait_for(page, 2)
    page.click("#train")
    assert page.text_content("#train") == "Train"
    page.wait_for_timeout(500)
    found = losses_of(page)
    page.wait_for_timeout(500)
    assert losses_of(page) == found  # paused
    assert "After " in page.text_content("#progress")
    most = max(map(len, found.values()))
    program = page.text_content("#python").replace(", 60\n", f", {most}\n", 1)
    expected = in_python(program)
    assert set(found) == set(KINDS)
    for kind, losses in found.items():
        assert losses == [epoch.loss for epoch in expected["histories"][kind].epochs][: len(losses)]
    page.click("#train-reset")
    page.wait_for_function("document.querySelector('#progress').textContent.startsWith('Not trained')")
    assert losses_of(page) == {kind: [] for kind in KINDS}


def test_training_starts_and_pauses_with_the_keyboard(visit: Any) -> None:
    page = visit()
    page.focus("#train")
    page.keyboard.press("Space")
    wait_for(page, 1)
    page.keyboard.press("Space")
    assert page.text_content("#train") == "Train"
    page.focus("#forget-bias")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('#python').textContent.includes('20, 1.5, 60')")
    assert losses_of(page) == {kind: [] for kind in KINDS}
