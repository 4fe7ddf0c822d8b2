"""The page of `onward explore` in Chromium: its numbers are those of Python, and it follows the reader."""

import base64
import gzip
import json
import re

import numpy as np
import pytest
from support import ROOT
from support.page import link, shown

import onward
from onward import bundled, text
from onward.tracing.explore import PAGE
from onward.tracing.plot import by_similarity

TEXT = "Now is the winter of our discontent"


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_the_page_fits_its_width_and_needs_little_computing_until_it_can_be_used(visit, width, height):
    page = visit("about:blank", width=width, height=height, ready=False)
    metrics = page.context.new_cdp_session(page)
    metrics.send("Performance.enable")
    page.goto(visit.address)
    page.wait_for_selector("body[data-ready=true]")
    seconds = {each["name"]: each["value"] for each in metrics.send("Performance.getMetrics")["metrics"]}
    assert seconds["ProcessTime"] < 3  # processor time, which other programs do not change
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("#prediction").bounding_box()["y"] < (height if width > 1000 else 2 * height)


def test_typing_updates_the_heat_maps(visit):
    page = visit(link(model="shakespeare", text="To be"))
    canvas = "#maps .map canvas"
    before = page.evaluate(f"document.querySelector('{canvas}').toDataURL()")
    page.fill("#text", "To be, or not")
    page.wait_for_function(f"document.querySelector('{canvas}').width === 13")
    assert page.evaluate(f"document.querySelector('{canvas}').toDataURL()") != before
    page.fill("#text", "To be€")
    page.wait_for_function("document.querySelector('#text-note').textContent.includes('left out')")


def test_the_colors_of_a_heat_map_are_the_values_of_the_trace(visit, shakespeare):
    model, vocabulary = shakespeare
    i = model.trace(vocabulary.encode(TEXT))["1.l0.i"][:, 0]
    page = visit(link(model="shakespeare", text=TEXT))
    page.click("#all-units")
    red, order = page.evaluate(
        """async () => {
          const { state } = await import("./state.js"), { orderOf } = await import("./layer.js");
          const canvas = document.querySelector("#maps .map canvas"), { width, height } = canvas;
          const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
          const order = orderOf(state.record.layers[0]);
          const row = (_, n) => Array.from({ length: width }, (_, t) => data[(n * width + t) * 4]);
          return [order.map(row), order];
        }"""
    )
    scale = np.interp(i.T[order], [0, 0.5, 1], [240, 122, 6])  # --seq0, --seq1 and --seq2 in the light theme
    np.testing.assert_allclose(red, scale, atol=1.5)


def test_similar_units_are_neighbors(visit, shakespeare):
    model, vocabulary = shakespeare
    h = model.trace(vocabulary.encode(TEXT))["1.l0.h"][:, 0]
    page = visit(link(model="shakespeare", text=TEXT))
    order = page.evaluate(
        """async () => {
          const { state } = await import("./state.js"), { orderOf } = await import("./layer.js");
          return orderOf(state.record.layers[0]);
        }"""
    )
    assert sorted(order) == list(range(256))
    similarity, expected = np.corrcoef(h.T), by_similarity(h)

    def neighbors(units):
        return similarity[units[:-1], units[1:]].mean()

    assert neighbors(order) > 0.95 * neighbors(expected) > 2 * neighbors(np.arange(256))


def test_a_click_chooses_the_unit_and_the_step_under_the_pointer(visit):
    page = visit(link(model="latch", step=1))
    forget = page.locator("#maps .map").nth(1)
    box = forget.bounding_box()
    forget.click(position={"x": box["width"] * 29.5 / 90, "y": box["height"] * 3.5 / 16})
    assert page.input_value("#step-number") == "30"
    unit = page.evaluate(
        """async () => {
          const { state } = await import("./state.js"), { orderOf } = await import("./layer.js");
          return orderOf(state.record.layers[0])[3];
        }"""
    )
    assert page.input_value("#unit-number") == str(unit)


@pytest.mark.parametrize("layer", ["1.l0", "1.l1"])
@pytest.mark.parametrize(("unit", "step"), [(0, 1), (7, 12), (255, len(TEXT))])
def test_the_numbers_of_a_unit_and_step_equal_the_trace_in_python(visit, shakespeare, layer, unit, step):
    model, vocabulary = shakespeare
    trace = model.trace(vocabulary.encode(TEXT), preactivations=True)
    page = visit(link(model="shakespeare", text=TEXT, layer=layer, unit=unit, step=step))
    values = shown(page)
    for name in ("i", "f", "g", "o", "c", "h", "f_preactivation"):
        assert np.float32(values[name]) == values[name] == trace[f"{layer}.{name}"][step - 1, 0, unit]
    f = trace[f"{layer}.f"][step - 1, 0, unit]
    assert page.text_content('#cell [data-value^="f"]') == f"{f:.3f}"


def test_text_typed_in_pieces_gives_the_numbers_of_the_whole_text(visit, shakespeare):
    model, vocabulary = shakespeare
    page = visit(link(model="shakespeare", text=TEXT[:5], unit=3))
    for end in (6, 20, len(TEXT)):
        page.fill("#text", TEXT[:end])
        page.wait_for_function(f"document.querySelector('#scrub').value === '{end}'")
    assert shown(page)["c"] == model.trace(vocabulary.encode(TEXT))["1.l0.c"][-1, 0, 3]


def test_the_vowels_model_names_the_speaker_that_python_names(visit, files):
    example = json.loads(files["models.json"])[1]["examples"][5]
    page = visit(link(model="vowels"))
    page.select_option("#recording", "5")
    scores = onward.load(bundled.models()["vowels"])(np.array(example["x"], np.float32))
    page.wait_for_function(f"document.querySelector('#scrub').max === '{len(example['x'])}'")
    assert page.text_content("#prediction").startswith(f"speaker {scores.argmax()}")


def test_the_gradient_is_that_of_python(visit):
    model = onward.load(PAGE / "models/forecaster.safetensors")
    x = np.sin(np.arange(30, dtype=np.float32))[:, None]
    y, _, cache = model.forward(x)
    dy = np.zeros_like(y)
    dy[-1] = 1
    dx, _, _ = model.backward(dy, None, cache)
    page = visit()
    found = page.evaluate(
        """async ([x, dy]) => {
            const { Onward } = await import("./onward.js");
            const model = await Onward.load("models/forecaster.safetensors");
            return [...model.gradient(Float32Array.from(x), Float32Array.from(dy)).data];
        }""",
        [x[:, 0].tolist(), dy[:, 0].tolist()],
    )
    np.testing.assert_array_equal(np.array(found, np.float32), dx[:, 0])


def test_bundled_models_give_the_bits_of_python_in_chromium(visit):
    model, vocabulary = text.load(bundled.models()["shakespeare"])
    x = vocabulary.encode(TEXT)
    found = visit().evaluate(
        """async (x) => {
            const { Onward } = await import("./onward.js");
            const model = await Onward.load("bundled.safetensors");
            const bytes = new Uint8Array(model.run(Int32Array.from(x)).data.buffer);
            return btoa(String.fromCharCode(...bytes));
        }""",
        x.tolist(),
    )
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(found), np.float32), model(x).ravel())


def test_errors_are_those_of_python(visit):
    names = visit().evaluate(
        """async () => {
            const { Onward, Tensor } = await import("./onward.js");
            const model = await Onward.load("models/vowels.safetensors"), found = [];
            const calls = [
              () => model.run(new Float32Array(13)),
              () => model.run(new Tensor(new Float32Array(6), [2, 3])),
              () => model.run(null),
              () => model.clamp({ layer: "0.l0", gate: "g", value: 0 }),
            ];
            for (const call of calls) try { call(); } catch (error) { found.push(error.name); }
            try { await Onward.load(new Uint8Array(4)); } catch (error) { found.push(error.name); }
            return found;
        }"""
    )
    assert names == ["ShapeError", "ShapeError", "ArgumentError", "ArgumentError", "FileError"]


def test_sampling_at_temperature_0_writes_the_most_probable_characters(visit, shakespeare):
    model, vocabulary = shakespeare
    page = visit(link(model="shakespeare", text="KING"))
    page.locator("#temperature").evaluate("e => { e.value = 0; e.dispatchEvent(new Event('input')); }")
    page.click("#sample")
    page.wait_for_function("document.querySelector('#text').value.length > 10")
    page.click("#sample")
    written, expected = page.input_value("#text"), "KING"
    while len(expected) < len(written):
        expected += vocabulary.characters[model(vocabulary.encode(expected))[-1].argmax()]
    assert written == expected
    page.wait_for_timeout(300)
    assert page.input_value("#text") == written  # it has stopped


def test_temperature_spreads_what_is_sampled(visit):
    drawn = visit().evaluate(
        """async () => {
            const { draw } = await import("./clock.js");
            const counts = (temperature) => {
              const found = [0, 0, 0];
              for (let n = 0; n < 1000; n++) found[draw([0, 1, 2], temperature, () => (n + 0.5) / 1000)]++;
              return found;
            };
            return [0, 0.5, 1, 2].map(counts);
        }"""
    )
    for counts, temperature in zip(drawn[1:], (0.5, 1, 2), strict=True):
        shares = np.exp(np.arange(3) / temperature)
        np.testing.assert_allclose(counts, 1000 * shares / shares.sum(), atol=1)
    assert drawn[0] == [0, 0, 1000]


def test_play_pause_and_steps_move_through_time(visit):
    page = visit(link(model="forecaster", step=10))
    step = lambda: int(page.input_value("#step-number"))  # noqa: E731
    page.click("#forward")
    page.click("#forward")
    page.click("#back")
    assert step() == 11
    page.click("#first")
    assert step() == 1
    page.click("#play")
    page.wait_for_function("document.querySelector('#step-number').value > 3")
    page.get_by_role("button", name="Pause").click()
    stopped = step()
    page.wait_for_timeout(400)
    assert step() == stopped
    page.locator("#scrub").evaluate("e => { e.value = 80; e.dispatchEvent(new Event('input')); }")
    page.click("#play")  # from the end, it plays from the start
    assert step() == 1


def test_drawing_changes_the_curve_under_the_pointer(visit):
    page = visit(link(model="forecaster"))
    box = page.locator("canvas.draw").bounding_box()
    before = page.text_content("#prediction")
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 10)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.99, box["y"] + 10, steps=4)
    page.mouse.up()
    page.wait_for_function("document.querySelector('#step-number').value === '80'")
    assert page.text_content("#prediction") != before
    page.wait_for_function("/_(\\d+)_\\1_\\1_\\1_\\1&?/.test(location.hash)")  # a straight line


def test_the_forecaster_goes_on_as_python_does(visit):
    model = onward.load(PAGE / "models/forecaster.safetensors")
    page = visit(link(model="forecaster", signal="_".join(["0", "3000", "6000"] * 10)))
    page.click("#sample")
    page.wait_for_function("document.querySelector('#scrub').max > 33")
    page.click("#sample")
    signal = np.array([0, 0.3, 0.6] * 10, np.float32)[:, None]
    for _ in range(int(page.get_attribute("#scrub", "max")) - 30):
        signal = np.concatenate([signal, model(signal)[-1:]])
    unit, step = int(page.input_value("#unit-number")), len(signal)
    assert shown(page)["c"] == model.trace(signal)["c"][step - 1, 0, unit]


def test_a_link_keeps_the_model_text_layer_unit_and_step(visit):
    page = visit(link(model="shakespeare", text="To be"))
    page.fill("#text", "To be\nor not")
    page.select_option("#layer-choice", "1.l1")
    for name, value in {"unit": "17", "step": "4"}.items():
        page.fill(f"#{name}-number", value)
        page.press(f"#{name}-number", "Enter")
    page.wait_for_function("location.hash.includes('unit=17&step=4')")
    again = visit(page.evaluate("location.hash"))
    assert again.input_value("#text") == "To be\nor not"
    assert again.text_content("#unit-name").startswith("Unit 17 at step 4")
    assert "1.l1" in again.text_content("#layer-note")
    again.evaluate("location.hash = '#model=latch&step=2&unit=3&signal=5000_0_-2500'")
    again.wait_for_function("document.querySelector('#unit-name').textContent.startsWith('Unit 3 at step 2')")
    again.wait_for_function("location.hash.includes('signal=5000_0_-2500')")


def test_the_page_and_the_core_stay_small(files):
    assert sum(len(content) for name, content in files.items() if name != "bundled.safetensors") < 2_000_000
    assert len(files["onward.wasm"]) <= 400_000 and len(gzip.compress(files["onward.wasm"])) <= 150_000


def test_a_saved_trace_is_one_file_that_runs_the_model(visit, tmp_path):
    model = onward.Sequential(onward.GRU(3, 9, rng=1), onward.Linear(9, 2, rng=2))
    x = np.random.default_rng(0).normal(size=(11, 3)).astype(np.float32)
    model.trace(x).save(tmp_path / "gates.html")
    page = visit((tmp_path / "gates.html").as_uri(), offline=True)
    assert page.title() == page.text_content("h1") == "A GRU, thinking"
    assert page.locator(".eq").count() == 4
    page.fill("#unit-number", "4")
    page.press("#unit-number", "Enter")
    assert shown(page)["z"] == model.trace(x)["z"][-1, 0, 4]


def test_a_page_in_a_notebook_runs_in_its_frame(visit, served):
    model = onward.LSTM(3, 9, rng=1)
    x = np.random.default_rng(0).normal(size=(11, 3)).astype(np.float32)
    served["notebook.html"] = f'<link rel="icon" href="data:,">{model.explore(x)._repr_html_()}'.encode()
    frame = visit("notebook.html", ready=False).frame_locator("iframe")
    frame.locator("body[data-ready=true]").wait_for()
    frame.locator("#unit-number").fill("4")
    frame.locator("#unit-number").press("Enter")
    values = json.loads(frame.locator("#cell").get_attribute("data-values"))
    assert values["c"] == model.trace(x)["c"][-1, 0, 4]


def test_the_equations_quote_the_textbook():
    script = (PAGE / "equation.js").read_text()
    quoted = re.findall(r"""(["'])(\w+ = .*?)\1[,;]""", script)
    textbook = {line.strip() for line in (ROOT / "src/onward/textbook.py").read_text().splitlines()}
    assert len(quoted) == 12 and {line for _, line in quoted} <= textbook


def test_an_equation_that_a_change_or_an_option_breaks_says_so(visit, tmp_path):
    page = visit(link(model="latch", step=20))
    assert page.locator(".eq").count() == 6 and not page.locator(".differs").count()
    page.locator("#forget").evaluate("e => { e.value = 0.5; e.dispatchEvent(new Event('input')); }")
    assert page.locator(".eq", has=page.locator(".differs")).locator("code").all_text_contents() == [
        "f = sigmoid(Wf @ ax + bf)"
    ]
    model = onward.RNN(2, 4, nonlinearity="relu", rng=1)
    x = np.random.default_rng(3).normal(size=(6, 2)).astype(np.float32)
    model.trace(x).save(tmp_path / "gates.html")
    unit = int(np.argmax(model(x)[0][-1]))
    page = visit((tmp_path / "gates.html").as_uri() + link(unit=unit))
    assert page.locator(".differs").count() == 1
    onward.GRU(2, 4, bidirectional=True, rng=1).trace(x).save(tmp_path / "both.html")
    page = visit((tmp_path / "both.html").as_uri())
    assert page.locator(".eq").count() == 5 and "One of these two lines" in page.text_content("#lines")


def test_answers_in_chromium_equal_those_of_this_machine(visit, served):
    built, here = ROOT / "build/answers-wasm", ROOT / "build/answers-here.txt"
    if not (built / "answers.js").exists():
        pytest.skip("needs make test-wasm")
    for name in ("answers.js", "answers.wasm"):
        served[name] = (built / name).read_bytes()
    served["answers.html"] = b"""<link rel="icon" href="data:,"><script>
        var lines = [], end = () => (window.done = true);
        var Module = { print: (line) => lines.push(line), printErr: () => 0, onExit: end, postRun: end };
    </script><script src="answers.js"></script>"""
    page = visit("answers.html", ready=False)
    page.wait_for_function("window.done", timeout=120_000)
    assert page.evaluate("lines") == here.read_text().splitlines()


def test_probabilities_of_a_softmax_layer_are_shown_as_they_are(visit, tmp_path):
    model = onward.Sequential(onward.LSTM(2, 5, rng=1), onward.Linear(5, 3, rng=2), onward.Softmax())
    x = np.random.default_rng(3).normal(size=(6, 2)).astype(np.float32)
    model.trace(x).explore(classes=["a", "b", "c"]).save(tmp_path / "gates.html")
    page = visit((tmp_path / "gates.html").as_uri() + link(step=6))
    best = model(x)[-1].max()
    assert f"({best:.0%})" in page.text_content("#prediction")
