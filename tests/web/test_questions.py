"""Questions to the model on the page: what if, which inputs matter, what a unit remembers, and gradients."""

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
    assert after["f"] == 0 and after["c"] == np.float32(after["i"]) * np.float32(after["g"])
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


def influence(page):
    """The lengths of the gradients on display, as far as they are shown."""
    spans = page.locator("#influence .tape span")
    page.wait_for_selector("#influence .tape span")
    return [float(span.get_attribute("title").split(": ")[1]) for span in spans.all()]


def test_the_influence_of_inputs_is_the_gradient_of_python(visit, tmp_path):
    """With respect to the embedded characters, of the most probable next one."""
    embedding, rest = onward.Embedding(4, 3, rng=0), (onward.GRU(3, 9, rng=1), onward.Linear(9, 4, rng=2))
    model, net, x = onward.Sequential(embedding, *rest), onward.Sequential(*rest), np.arange(60) ** 2 % 11 % 4
    y, _, cache = net.forward(embedding(x))
    dy = np.zeros_like(y)
    dy[-1, y[-1].argmax()] = 1
    expected = np.linalg.norm(net.backward(dy, None, cache)[0], axis=1)
    characters = "abcd"
    written = "".join(characters[k] for k in x)
    model.trace(x).explore(classes=characters, text=written).save(tmp_path / "gates.html")
    page = visit((tmp_path / "gates.html").as_uri())
    np.testing.assert_allclose(influence(page), expected[-40:], rtol=6e-3)
    assert "core's backward pass" in page.text_content("#influence")


def test_influence_without_a_backward_pass_is_computed_by_differences_and_the_page_says_so(visit, tmp_path):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(2, 9, 2)).astype(np.float32)
    plain = onward.LSTM(2, 5, rng=1, batch_first=True)
    optional = onward.LSTM(2, 5, rng=1, batch_first=True, clip=1e6)  # an option that changes no number
    found = {}
    for name, lstm in {"plain": plain, "optional": optional}.items():
        model = onward.Sequential(lstm, onward.Linear(5, 3, rng=2), onward.Softmax())
        model.trace(x).explore(classes=["a", "b", "c"]).save(tmp_path / f"{name}.html")
        page = visit((tmp_path / f"{name}.html").as_uri())
        found[name] = influence(page)
        assert ("central differences" in page.text_content("#influence")) == (name == "optional")
    np.testing.assert_allclose(found["optional"], found["plain"], rtol=2e-2, atol=1e-4)


def test_the_places_that_a_unit_remembers_are_those_of_its_largest_state(visit, shakespeare):
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


def test_gradients_vanish_in_the_untrained_rnn_and_not_in_the_lstm(visit):
    page = visit(link(model="latch"))
    page.wait_for_selector("[data-ratio]")
    notes = {note.get_attribute("data-name"): note for note in page.locator("[data-ratio]").all()}
    ratios = {name: float(note.get_attribute("data-ratio")) for name, note in notes.items()}
    assert ratios["RNN before training"] < 1e-4 < 1e-2 < ratios["LSTM before training"]
    assert ratios["LSTM after training"] > 0.1
