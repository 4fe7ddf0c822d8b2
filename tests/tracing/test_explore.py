"""Pages of traces: the model where the page can run it, otherwise the recorded values."""

import base64
import html
import re
from pathlib import Path

import numpy as np
import pytest
from support.page import embedded, floats

import onward
from onward import errors
from onward.tracing import explore, plot

X = np.random.default_rng(0).normal(size=(6, 2, 3)).astype(np.float32)


def test_the_model_is_embedded_and_its_file_loads(tmp_path: Path) -> None:
    model = onward.Sequential(onward.LSTM(3, 5, rng=1), onward.Linear(5, 2, rng=2))
    live = embedded(model.explore(X, classes=["a", "b"]))
    (tmp_path / "m.safetensors").write_bytes(base64.b64decode(live["bytes"]))
    np.testing.assert_array_equal(onward.load(tmp_path / "m.safetensors")(X), model(X))
    np.testing.assert_array_equal(floats(live["x"]), X[:, 0].ravel())
    assert live["classes"] == ["a", "b"]


def test_a_bidirectional_model_is_recorded_with_the_values_of_its_row() -> None:
    trace = onward.LSTM(3, 5, bidirectional=True, rng=1).trace(X, lengths=[6, 4])
    record = embedded(trace.explore(row=1))["record"]
    assert "reverse direction" in embedded(trace.explore())["reason"]
    layer = record["layers"][1]
    assert layer["name"] == "l0_reverse" and layer["type"] == "LSTM"
    np.testing.assert_array_equal(floats(layer["arrays"]["f"]["data"]), trace["l0_reverse.f"][:4, 1].ravel())
    np.testing.assert_array_equal(floats(record["outputs"]["data"]), trace.y[:4, 1].ravel())


def test_a_text_model_runs_only_if_its_characters_are_known() -> None:
    model = onward.Sequential(onward.Embedding(3, 4, rng=0), onward.GRU(4, 5, rng=1), onward.Linear(5, 3))
    recorded = embedded(model.explore([0, 2, 1]))
    assert "record" in recorded and "without the characters" in recorded["reason"]
    live = embedded(model.explore([0, 2, 1], classes="abc", text="acb"))
    assert live["kind"] == "text" and live["example"] == "acb"
    for classes, text in (("abc", "abc"), ("abc", "xyz"), ("aac", "aca"), (["ab", "c", "d"], "abc")):
        recorded = embedded(model.explore([0, 2, 1], classes=classes, text=text))
        assert "not the characters that its integers stand for" in recorded["reason"]
        assert recorded["labels"] == list(text)


def test_integers_are_numbers_to_a_model_without_an_embedding() -> None:
    live = embedded(onward.LSTM(1, 4, rng=0).explore(np.arange(6).reshape(6, 1)))
    assert live["kind"] == "signal" and floats(live["x"]).tolist() == [0, 1, 2, 3, 4, 5]


def test_text_in_a_page_cannot_end_its_script() -> None:
    page = (
        onward.GRU(3, 4, bidirectional=True, rng=0).trace(X).explore(text="</scr>", classes=["</script>"] * 8)
    )
    assert embedded(page)["classes"] == ["</script>"] * 8
    assert html.escape(page.html) in page._repr_html_()


def test_a_row_without_steps_and_a_text_or_classes_of_another_length_are_errors() -> None:
    trace = onward.GRU(3, 4, rng=0).trace(X, lengths=[6, 0])
    with pytest.raises(errors.ArgumentError, match="row=1 has no step"):
        trace.explore(row=1)
    with pytest.raises(errors.ArgumentError, match="text has 2 characters"):
        trace.explore(text="ab")
    with pytest.raises(errors.ArgumentError, match="classes names 3 classes, but the model has 4 outputs"):
        trace.explore(classes="abc")


def test_a_recorded_page_says_why_the_model_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    lstm = onward.LSTM(3, 5, rng=1)
    assert "record" not in embedded(lstm.explore(X))
    monkeypatch.setattr(explore, "MAX_EMBEDDED", 100)
    assert "a single file holds" in embedded(lstm.explore(X))["reason"]
    assert "float64" in embedded(onward.LSTM(3, 5, dtype="float64", rng=1).explore(X))["reason"]
    started = lstm.trace(X, (np.ones((1, 2, 5)), np.ones((1, 2, 5))))
    assert "zero states" in embedded(started.explore())["reason"]


def test_the_page_contains_every_module_that_its_modules_import() -> None:
    names = {path.name for path in explore.PAGE.glob("*.js")}
    for path in explore.PAGE.glob("*.js"):
        imported = set(re.findall(r'from "\./(.*?)"', path.read_text()))
        assert imported <= names & set(explore.SCRIPTS)


def test_pictures_of_traces_have_the_colors_of_the_page_and_dark_ones_mean_the_same() -> None:
    style = (explore.PAGE / "explore.css").read_text(encoding="utf-8")
    light, dark = (dict(re.findall(r"--(\w+): ([^;]+);", part)) for part in style.split("}")[:2])

    def rgb(color: str) -> list[int]:
        return [int(part) for part in color.split()] if " " in color else list(bytes.fromhex(color[1:]))

    for names, colors in ((("seq0", "seq1", "seq2"), plot.GATES), (("neg", "mid", "pos"), plot.STATES)):
        assert [rgb(light[name]) for name in names] == [rgb(color) for color in colors]
    for theme in (light, dark):  # what is closed or 0 is like the background; the sign keeps its hue
        background = np.array(rgb(theme["raised"]))
        names = ("seq0", "seq1", "seq2", "neg", "mid", "pos")
        distance = {name: np.abs(rgb(theme[name]) - background).sum() for name in names}
        assert distance["seq0"] < distance["seq1"] < distance["seq2"]
        assert distance["mid"] < min(distance["neg"], distance["pos"])
        assert np.argmax(rgb(theme["neg"])) == 2 and np.argmax(rgb(theme["pos"])) == 0
