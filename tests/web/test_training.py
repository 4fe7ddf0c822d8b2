"""Training in JavaScript, and on the page, gives the bits of `train.fit`."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.javascript import evaluated

import onward
from onward.core.activations import FUNCTIONS
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


@needs_node
@pytest.mark.parametrize("cell", [onward.RNN, onward.LSTM, onward.GRU])
@pytest.mark.parametrize(
    "options", [{"bidirectional": True, "num_layers": 2}, {"bias": False}, {"proj_size": 3}]
)
def test_gradients_of_weights_are_those_of_backward_in_python(
    tmp_path: Path, cell: Any, options: dict[str, Any]
) -> None:
    if "proj_size" in options and cell is not onward.LSTM:
        options = {"num_layers": 3}
    rng = np.random.default_rng(0)
    layer = cell(3, 9, rng=1, **options)
    model = onward.Sequential(layer, onward.Linear(layer.cell.sizes.DP, 2, bias=cell is onward.GRU, rng=2))
    x, dy = rng.normal(size=(7, 5, 3)).astype(np.float32), rng.normal(size=(7, 5, 2)).astype(np.float32)
    model.save(tmp_path / "model.safetensors")
    program = f"""
        const {{ readFile }} = await import("node:fs/promises");
        const model = await onward.Onward.load(await readFile("{tmp_path / "model.safetensors"}"));
        const x = new onward.Tensor(Float32Array.from({x.reshape(-1).tolist()}), [7, 5, 3]);
        const {{ y, dx, weights }} = model.backward(x, Float32Array.from({dy.reshape(-1).tolist()}));
        const again = model.gradient(x, Float32Array.from({dy.reshape(-1).tolist()}));
        const plain = (key, value) => (value instanceof Float32Array ? [...value] : value);
        console.log(JSON.stringify([y.data, dx.data, again.data, weights], plain));
    """
    found = evaluated(program)
    y, _, cache = model.forward(x)
    dx, _, gradients = model.backward(dy, None, cache)
    for array, expected in zip(found[:3], (y, dx, dx), strict=True):
        np.testing.assert_array_equal(array, expected.reshape(-1))
    assert set(found[3]) == set(gradients)
    for name, gradient in gradients.items():
        np.testing.assert_array_equal(found[3][name], gradient.reshape(-1), name)


@needs_node
def test_gradients_of_functions_and_softmax_are_those_of_python(tmp_path: Path) -> None:
    numbers = {"affine": (1.5, 0.5), "scaled_tanh": (1.5, 0.7), "elu": (0.3,)}
    functions = [onward.Activation(name, *numbers.get(name, ())) for name in FUNCTIONS if name != "linear"]
    functions.append(onward.Softmax())
    rng, special = np.random.default_rng(0), [-80, -3.5, -2.7, -1, 0, 0.5, 1, 2.7, 3.5, 6, 20, 80]
    x = np.concatenate([rng.normal(size=(9, 2, 3)), np.reshape(special, (2, 2, 3))]).astype(np.float32)
    dy = rng.normal(size=x.shape).astype(np.float32)
    for number, function in enumerate(functions):
        onward.Sequential(function).save(tmp_path / f"{number}.safetensors")
    program = f"""
        const {{ readFile }} = await import("node:fs/promises");
        const x = new onward.Tensor(Float32Array.from({x.reshape(-1).tolist()}), [11, 2, 3]);
        const dy = Float32Array.from({dy.reshape(-1).tolist()}), found = [];
        for (let number = 0; number < {len(functions)}; number++) {{
            const model = await onward.Onward.load(await readFile(`{tmp_path}/${{number}}.safetensors`));
            found.push([...model.gradient(x, dy).data]);
        }}
        console.log(JSON.stringify(found));
    """
    for function, found in zip(functions, evaluated(program), strict=True):
        _, _, cache = function.forward(x)
        dx = function.backward(dy, None, cache)[0]
        np.testing.assert_allclose(found, dx.reshape(-1), rtol=1e-4, atol=1e-6, err_msg=str(function))


@needs_node
def test_models_without_weights_take_vectors_sequences_and_batches(tmp_path: Path) -> None:
    layers = (
        [onward.Softmax()],
        [onward.Activation("tanh")],
        [onward.Last()],
        [onward.Last(), onward.Softmax()],
    )
    x = np.random.default_rng(0).normal(size=(4, 2, 3)).astype(np.float32)
    for number, each in enumerate(layers):
        model = onward.Sequential(*each)
        model.save(tmp_path / "model.safetensors")
        inputs = [x, x[:, 0], *([] if number > 1 else [x[0, 0]])]
        program = f"""
            const {{ readFile }} = await import("node:fs/promises");
            const model = await onward.Onward.load(await readFile("{tmp_path}/model.safetensors"));
            const run = (x) => {{ const {{ data, shape }} = model.run(x); return [[...data], shape]; }};
            console.log(JSON.stringify({json.dumps([each.tolist() for each in inputs])}.map(run)));
        """
        for (data, shape), given in zip(evaluated(program), inputs, strict=True):
            np.testing.assert_array_equal(np.reshape(data, shape), model(given))


@needs_node
def test_weights_that_do_not_fit_are_errors_and_others_replace_those_of_the_model(tmp_path: Path) -> None:
    model = onward.Sequential(onward.GRU(2, 3, rng=0), onward.Linear(3, 1, rng=1))
    model.save(tmp_path / "model.safetensors")
    model.quantize("int8").save(tmp_path / "small.safetensors")
    other = onward.Sequential(onward.GRU(2, 3, rng=5), onward.Linear(3, 1, rng=6))
    weights = {name: array.reshape(-1).tolist() for name, array in other.state_dict().items()}
    program = f"""
        const {{ readFile }} = await import("node:fs/promises"), {{ Onward }} = onward;
        const [model, small] = await Promise.all(["model", "small"].map(async (name) =>
          Onward.load(await readFile(`{tmp_path}/${{name}}.safetensors`))));
        const error = (call) => {{
          try {{ call(); }} catch ({{ name, message }}) {{ return `${{name}}: ${{message}}`; }}
        }};
        const x = new Float32Array([1, 2, 3, 4]), before = model.weights;
        const found = [
          error(() => model.update({{ "2.weight": x }})), error(() => model.update({{ "1.weight": x }})),
          error(() => small.update({{ "1.bias": x }})), error(() => small.weights),
        ];
        before["1.weight"].fill(7); // a copy
        const all = Object.entries({json.dumps(weights)});
        model.update(Object.fromEntries(all.map(([name, array]) => [name, Float32Array.from(array)])));
        console.log(JSON.stringify([found, [...model.run(x).data]]));
    """
    (unknown, size, *quantized), y = evaluated(program)
    assert unknown.startswith("ArgumentError: the model has no weight 2.weight") and "1.weight" in unknown
    assert size.startswith("ShapeError: 1.weight has 4 numbers; expected 3")
    assert all(error.startswith("ArgumentError: the model has weights in int8") for error in quantized)
    np.testing.assert_array_equal(y, other(np.array([[1, 2], [3, 4]], np.float32)).reshape(-1))


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
    marks = page.locator("#trained .axis span, #live .axis span").all_text_contents()
    assert marks and not any(re.search(r"^10\D?\d*\.\d", mark) for mark in marks)  # no 10^-0.2
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


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (320, "dark")])
def test_training_fits_a_narrow_page_with_its_program_and_says_what_its_pictures_show(
    visit: Any, width: int, scheme: str
) -> None:
    page = visit(width=width, scheme=scheme)
    page.wait_for_selector("#trained [data-kind]")
    page.click("#live summary")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    pictures = page.locator("#live [role=img]").all()
    assert len(pictures) == 10  # the curves of the gradients, and three for each network
    assert all(picture.get_attribute("aria-label") for picture in pictures)
    assert page.get_attribute("#progress", "role") == "status"
