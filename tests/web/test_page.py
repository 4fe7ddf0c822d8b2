"""The page of `onward explore` in Chromium: its numbers are those of Python, and everybody can use it."""

import base64
import gzip
import json
import time
from urllib.parse import urlencode

import numpy as np
import pytest
from support import ROOT

import onward
from onward import bundled, text
from onward.tracing.explore import PAGE

TEXT = "Now is the winter of our discontent"


@pytest.fixture(scope="module")
def shakespeare(files, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "shakespeare.safetensors"
    path.write_bytes(files["models/shakespeare.safetensors"])
    return text.load(path)


def link(**state):
    return "#" + urlencode(state)


def shown(page):
    """The exact numbers of the unit and step on display."""
    return json.loads(page.get_attribute("#cell", "data-values"))


def test_the_page_is_ready_within_three_seconds_on_desktop_and_phone(visit):
    for width, height in ((1280, 900), (390, 844)):
        start = time.monotonic()
        page = visit(width=width, height=height)
        assert time.monotonic() - start < 3
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_typing_updates_the_heat_maps(visit):
    page = visit(link(model="shakespeare", text="To be"))
    canvas = "#maps .map canvas"
    before = page.evaluate(f"document.querySelector('{canvas}').toDataURL()")
    page.fill("#text", "To be, or not")
    page.wait_for_function(f"document.querySelector('{canvas}').width === 13")
    assert page.evaluate(f"document.querySelector('{canvas}').toDataURL()") != before
    page.fill("#text", "€")
    page.wait_for_function("document.querySelector('#text-note').textContent.includes('left out')")


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


def test_scaling_the_forget_gates_and_changing_a_step_change_the_numbers(visit):
    page = visit(link(model="shakespeare", text=TEXT, layer="1.l0", unit=9, step=12))
    before = shown(page)
    page.locator("#forget").evaluate("e => { e.value = 0.5; e.dispatchEvent(new Event('input')); }")
    assert shown(page)["c"] != before["c"]
    page.click("#clear")
    page.fill("#swap", "z")
    assert shown(page)["i"] != before["i"]


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


def test_questions_are_answered(visit):
    page = visit(link(model="shakespeare", text=TEXT))
    page.click("#ask-influence")
    assert page.locator("#influence .tape span").count() == len(TEXT)
    page.get_by_role("button", name="Search").click()
    assert page.locator("#memories .quote").count() == 6


def test_gradients_vanish_in_the_untrained_rnn_and_not_in_the_lstm(visit):
    page = visit(link(model="latch"))
    notes = {note.get_attribute("data-name"): note for note in page.locator("[data-ratio]").all()}
    ratios = {name: float(note.get_attribute("data-ratio")) for name, note in notes.items()}
    assert ratios["RNN before training"] < 1e-4 < 1e-2 < ratios["LSTM before training"]
    assert ratios["LSTM after training"] > 0.1


def test_sampling_continues_the_text(visit):
    page = visit(link(model="shakespeare", text="KING"))
    page.click("#sample")
    page.wait_for_function("document.querySelector('#text').value.length > 8")
    page.click("#sample")
    assert page.input_value("#text").startswith("KING")


def test_the_tour_runs_to_the_end(visit):
    page = visit()
    page.click("#tour-start")
    for n in range(1, 9):
        assert page.text_content("#tour-count") == f"{n} of 8"
        assert page.text_content("#tour-title") and page.is_visible("#tour-text")
        page.click("#tour-next")
    assert page.is_hidden("#tour") and page.is_hidden("#whatif-banner")


def test_the_keyboard_alone_is_enough(visit):
    page = visit(link(model="shakespeare", text=TEXT, unit=3, step=10))

    def tab_to(selector):
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate(f"document.activeElement.matches('{selector}')"):
                return
        pytest.fail(f"Tab does not reach {selector}")

    tab_to("#model")
    tab_to("#text")
    page.keyboard.press("Control+End")
    page.keyboard.type("!")
    page.wait_for_function(f"document.querySelector('#scrub').max === '{len(TEXT) + 1}'")
    tab_to('[data-layer="1.l1"]')
    page.keyboard.press("Enter")
    assert "1.l1" in page.text_content("#layer-name")
    tab_to("#maps .map")
    page.keyboard.press("ArrowLeft")
    assert page.input_value("#step-number") == str(len(TEXT))
    unit = page.input_value("#unit-number")
    page.keyboard.press("ArrowDown")
    assert page.input_value("#unit-number") != unit
    tab_to("#clamp")
    page.keyboard.press("Enter")
    assert page.is_visible("#whatif-banner")
    tab_to("#play")
    page.keyboard.press("Home")


def test_a_link_keeps_the_model_text_layer_unit_and_step(visit):
    page = visit(link(model="shakespeare", text="To be\nor not", layer="1.l1", unit=17, step=4))
    page.wait_for_function("location.hash.includes('unit=17')")
    again = visit(page.evaluate("location.hash"))
    assert again.input_value("#text") == "To be\nor not"
    assert again.text_content("#unit-name").startswith("Unit 17 at step 4")
    assert "1.l1" in again.text_content("#layer-name")


@pytest.mark.parametrize("model", ["shakespeare", "vowels", "forecaster", "latch"])
def test_every_control_has_a_name_in_both_themes(visit, model):
    for scheme in ("light", "dark"):
        page = visit(link(model=model), scheme=scheme)
        unnamed = page.evaluate(
            """() =>
              [...document.querySelectorAll("button, input, select, textarea, [role=slider], [role=img]")]
              .filter((e) => !(e.textContent.trim() || e.ariaLabel || e.labels?.length))
              .map((e) => e.outerHTML.slice(0, 90))"""
        )
        assert unnamed == []
        assert page.evaluate("document.documentElement.dataset.theme") == scheme


def test_the_page_and_the_core_stay_small(files):
    assert sum(len(content) for name, content in files.items() if name != "bundled.safetensors") < 2_000_000
    assert len(files["onward.wasm"]) <= 400_000 and len(gzip.compress(files["onward.wasm"])) <= 150_000


def test_a_saved_trace_is_one_file_that_runs_the_model(visit, tmp_path):
    model = onward.Sequential(onward.GRU(3, 9, rng=1), onward.Linear(9, 2, rng=2))
    x = np.random.default_rng(0).normal(size=(11, 3)).astype(np.float32)
    model.trace(x).save(tmp_path / "gates.html")
    page = visit((tmp_path / "gates.html").as_uri())
    page.fill("#unit-number", "4")
    page.press("#unit-number", "Enter")
    assert shown(page)["z"] == model.trace(x)["z"][-1, 0, 4]


def test_a_page_in_a_notebook_runs_in_its_frame(visit, files):
    model = onward.LSTM(3, 9, rng=1)
    x = np.random.default_rng(0).normal(size=(11, 3)).astype(np.float32)
    files["notebook.html"] = f'<link rel="icon" href="data:,">{model.explore(x)._repr_html_()}'.encode()
    frame = visit("notebook.html", ready=False).frame_locator("iframe")
    frame.locator("body[data-ready=true]").wait_for()
    frame.locator("#unit-number").fill("4")
    frame.locator("#unit-number").press("Enter")
    values = json.loads(frame.locator("#cell").get_attribute("data-values"))
    assert values["c"] == model.trace(x)["c"][-1, 0, 4]


def test_a_model_that_cannot_run_in_the_page_is_shown_as_recorded_and_the_page_says_so(visit, tmp_path):
    model = onward.LSTM(3, 5, bidirectional=True, rng=1)
    x = np.random.default_rng(0).normal(size=(11, 1, 3)).astype(np.float32)
    trace = model.trace(x)
    trace.save(tmp_path / "gates.html")
    page = visit((tmp_path / "gates.html").as_uri())
    assert "recorded values" in page.text_content("#numbers")
    assert shown(page)["f"] == trace["l0.f"][-1, 0, 0]


def test_the_equations_quote_the_textbook():
    script = (PAGE / "views.js").read_text()
    lines = [
        line.split('["', 1)[1].split('", ')[0]
        for line in script.splitlines()
        if '    ["' in line or ': [["' in line
    ]
    textbook = {line.strip() for line in (ROOT / "src/onward/textbook.py").read_text().splitlines()}
    quoted = [line.replace('\\"', '"') for line in lines]
    assert len(quoted) == 11 and set(quoted) <= textbook


def test_answers_in_chromium_equal_those_of_this_machine(visit, files):
    built, here = ROOT / "build/answers-wasm", ROOT / "build/answers-here.txt"
    if not (built / "answers.js").exists():
        pytest.skip("needs make test-wasm")
    for name in ("answers.js", "answers.wasm"):
        files[name] = (built / name).read_bytes()
    files["answers.html"] = b"""<link rel="icon" href="data:,"><script>
        var lines = [], done = () => (window.done = true);
        var Module = { print: (line) => lines.push(line), printErr: () => 0, onExit: done, postRun: done };
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
