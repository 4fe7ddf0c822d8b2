"""Questions to the model on the page: what if, which inputs matter, what a unit remembers, and gradients."""

import json

import numpy as np
import pytest
from support.page import link, shown

import onward
from onward.cli.explore import PLAYS
from onward.tracing.explore import PAGE

TEXT = "Now is the winter of our discontent"


def test_clamping_the_forget_gates_of_a_layer_leaves_only_the_new_input(visit):
    page = visit(link(model="shakespeare", text=TEXT, layer="1.l0", unit=9, step=12))
    before = shown(page)
    page.select_option("#clamp-gate", "f")
    page.select_option("#clamp-scope", "layer")
    page.click("#clamp")
    after = shown(page)
    # the core divides once for both factors, so the last bit may differ
    assert after["f"] == 0 and after["c"] == pytest.approx(after["i"] * after["g"], rel=2e-7)
    assert page.is_visible("#whatif-banner")
    page.click("#compare-samples")
    assert page.locator("#compare .quote").count() == 2
    page.click("#clear")
    assert shown(page) == before


def test_clamping_a_gate_of_a_unit_changes_this_unit_first_and_then_the_prediction(visit):
    page = visit(link(model="shakespeare", text="Th", layer="1.l0", unit=9, step=1))
    before = shown(page)
    page.select_option("#clamp-gate", "i")
    page.select_option("#clamp-value", "1")
    page.click("#clamp")
    assert shown(page)["i"] == 1 and shown(page)["c"] == before["g"] and shown(page)["o"] == before["o"]
    page.fill("#unit-number", "10")
    page.press("#unit-number", "Enter")
    changed = shown(page)
    assert page.locator("#bars .before").count() == 8
    page.get_by_role("button", name="Undo: i of unit 9").click()
    assert shown(page) == changed and not page.locator("#bars .before").count()


def test_scaling_the_forget_gates_and_changing_a_step_change_the_numbers(visit):
    page = visit(link(model="shakespeare", text=TEXT, layer="1.l0", unit=9, step=12))
    before = shown(page)
    page.locator("#forget").evaluate("e => { e.value = 0.5; e.dispatchEvent(new Event('input')); }")
    assert shown(page)["c"] != before["c"]
    page.click("#clear")
    page.fill("#swap", "z")
    assert shown(page)["i"] != before["i"]


def changes(page):
    """How much the answer changes with each input erased, once the page knows."""
    page.wait_for_selector("#influence[data-changes]", timeout=60_000)
    return json.loads(page.get_attribute("#influence", "data-changes"))


def erased(net, inputs, answer):
    """The same in Python, for inputs (T, I) of a network."""
    found = []
    for t in range(len(inputs)):
        without = inputs.copy()
        without[t] = inputs.mean(0)
        found.append(answer(net(inputs)[-1]) - answer(net(without)[-1]))
    return found


def test_the_influence_of_inputs_is_the_change_of_the_answer_without_each_of_them(visit, tmp_path):
    embedding, rest = onward.Embedding(4, 3, rng=0), (onward.GRU(3, 9, rng=1), onward.Linear(9, 4, rng=2))
    model, net, x = onward.Sequential(embedding, *rest), onward.Sequential(*rest), np.arange(60) ** 2 % 11 % 4
    best = model(x)[-1].argmax()
    expected = erased(net, embedding(x), lambda y: np.exp(y[best]) / np.exp(y).sum())
    characters = "abcd"
    model.trace(x).explore(classes=characters, text="".join(characters[k] for k in x)).save(
        tmp_path / "gates.html"
    )
    page = visit((tmp_path / "gates.html").as_uri())
    np.testing.assert_allclose(changes(page), expected, atol=1e-6)
    assert f"depends most on step {np.abs(expected).argmax() + 1}, " in page.text_content("#influence")
    assert page.locator("#influence .arcs path").count() >= 1


def test_the_influence_follows_what_if_also_at_a_single_step(visit):
    page = visit(link(model="latch", step=90))
    lstm, linear = onward.load(PAGE / "models/latch.safetensors")
    signal = np.array(json.loads((PAGE / "entries.json").read_text())[-1]["examples"][0]["x"], np.float32)
    intact = changes(page)
    np.testing.assert_allclose(
        intact, erased(lambda x: linear(lstm(x)[0]), signal, lambda y: y[0]), atol=1e-5
    )
    assert np.abs(intact).argmax() == 45 and abs(intact[45]) > 1  # the pulse, 44 steps before
    page.fill("#step-number", "60")
    page.press("#step-number", "Enter")
    for name, value in {"gate": "f", "scope": "layer", "when": "step"}.items():
        page.select_option(f"#clamp-{name}", value)
    page.click("#clamp")
    assert "f of all units = 0 at step 60" in page.text_content("#whatif-banner")
    page.fill("#step-number", "90")
    page.press("#step-number", "Enter")
    page.wait_for_timeout(400)
    assert abs(changes(page)[45]) < 0.1  # what is forgotten cannot matter


def test_the_units_that_the_latch_needs_are_its_memory_and_an_open_gate_is_not(visit):
    page = visit(link(model="latch"))
    page.wait_for_selector("#needed [data-unit]")
    lstm, linear = onward.load(PAGE / "models/latch.safetensors")
    samples = [
        np.array(example["x"], np.float32)
        for example in json.loads((PAGE / "entries.json").read_text())[-1]["examples"]
    ]

    def error(x, h):
        pulse, target = 0.0, []
        for value in x[:, 0]:
            target.append(pulse := value or pulse)
        return np.sqrt(np.mean((linear(h)[:, 0] - target) ** 2))

    def frozen(x, unit, mean):
        h, state = [], None
        for t in range(len(x)):
            out, state = lstm(x[t : t + 1], state)
            out[..., unit] = state[0][..., unit] = mean
            h.append(out)
        return error(x, np.concatenate(h))

    means = np.concatenate([lstm(x)[0] for x in samples]).mean(0)
    expected = [np.mean([frozen(x, unit, means[unit]) for x in samples]) for unit in range(16)]
    intact = np.mean([error(x, lstm(x)[0]) for x in samples])
    bars = page.locator("#needed [data-unit]")
    found = {
        int(bar.get_attribute("data-unit")): float(bar.get_attribute("data-error")) for bar in bars.all()
    }
    assert list(found)[:10] == sorted(range(16), key=lambda unit: -expected[unit])[:10]
    np.testing.assert_allclose(list(found.values()), [expected[unit] for unit in found], rtol=1e-3)
    assert set(list(found)[:2]) == {3, 7} and min(expected[3], expected[7]) > 5 * intact
    forget = np.mean([lstm.trace(x)["f"].mean((0, 1)) for x in samples], 0)
    assert forget.argmax() == 5 and expected[5] < 1.5 * intact  # the open gate keeps nothing that is needed


def test_the_places_at_which_a_unit_reacts_are_those_of_its_largest_state(visit, shakespeare):
    model, vocabulary = shakespeare
    c = np.abs(model.trace(vocabulary.encode(PLAYS))["1.l1.c"][:, 0, 30])
    page = visit(link(model="shakespeare", text=TEXT, layer="1.l1", unit=30))
    page.click("#search")
    quotes = page.locator("#memories .quote")
    assert quotes.count() == 6
    assert f"{c.max():.3f}" in quotes.first.text_content()
    character = quotes.first.locator("mark").text_content()
    assert character == {"\n": "↵", " ": "␣"}.get(PLAYS[c.argmax()], PLAYS[c.argmax()])
    page.fill("#unit-number", "31")  # the answer follows
    page.press("#unit-number", "Enter")
    largest = np.abs(model.trace(vocabulary.encode(PLAYS))["1.l1.c"][:, 0, 31]).max()
    assert f"{largest:.3f}" in quotes.first.text_content()


def float64(layer):
    """A copy of a layer that computes in float64."""
    copy = type(layer)(**layer.config() | {"dtype": "float64"})
    copy.load_state_dict({name: weight.astype(float) for name, weight in layer.state_dict().items()})
    return copy


@pytest.mark.parametrize("name", ["latch", "latch_rnn"])
def test_gradients_through_time_are_central_differences(visit, name):
    recurrent, linear = map(float64, onward.load(PAGE / f"models/{name}.safetensors"))
    x = np.random.default_rng(0).normal(size=(40, 1)).round(3)
    found = visit().evaluate(
        """async ([name, x]) => {
            const { Onward } = await import("./onward.js");
            const { stateGradients } = await import("./backward.js");
            const model = await Onward.load(`models/${name}.safetensors`);
            return [...stateGradients(model, Float32Array.from(x)).data];
        }""",
        [name, x[:, 0].tolist()],
    )
    found = np.reshape(found, (40, -1))

    def output(state, t):
        """The last output if step t hands on this state."""
        if t == 39:
            h, c = state if isinstance(state, tuple) else (state, None)
            o = None if c is None else recurrent.trace(x)["o"][-1, 0]
            return linear(h if c is None else o * np.tanh(c))[0, 0]
        return linear(recurrent(x[t + 1 :], state)[0][-1])[0]

    for t in (0, 20, 38, 39):
        _, state = recurrent(x[: t + 1])
        h, c = state if isinstance(state, tuple) else (state, None)
        for unit in (0, 7):
            ends = []
            for step in (1e-5, -1e-5):
                change = np.zeros_like(h)
                change[0, unit] = step
                ends.append(output((h, c + change) if c is not None else h + change, t))
            np.testing.assert_allclose(found[t][unit], (ends[0] - ends[1]) / 2e-5, rtol=2e-3, atol=1e-5)


def test_gradients_are_shown_for_several_initializations_with_what_each_model_had(visit):
    page = visit(link(model="latch"))
    page.wait_for_selector("[data-ratio]")
    notes = {note.get_attribute("data-name"): note for note in page.locator("[data-ratio]").all()}
    ratios = {name: float(note.get_attribute("data-ratio")) for name, note in notes.items()}
    biases = [ratios[f"LSTM, forget bias {bias}"] for bias in (0, 1, 3)]
    assert biases == sorted(biases) and biases[0] < 1e-4 and biases[2] > 0.1
    assert ratios["RNN, uniform"] < 1e-4 < 0.5 < ratios["RNN, orthogonal"]
    assert "3 added to the biases of the forget gates" in notes["LSTM, forget bias 3"].text_content()
    for name, bias in {"start_bias0": 0, "start_bias3": 3}.items():
        weights = onward.load(PAGE / f"models/latch_{name}.safetensors").state_dict()
        assert weights["0.bias_ih_l0"][16:32].mean() == pytest.approx(bias, abs=0.1)
    R = onward.load(PAGE / "models/latch_rnn_start_orthogonal.safetensors").state_dict()["0.weight_hh_l0"]
    np.testing.assert_allclose(R @ R.T, np.eye(16), atol=1e-6)
    assert "cannot learn" not in page.text_content("#gradients")
