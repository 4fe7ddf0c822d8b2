"""Traces: their arrays, summary, answers, files and pictures."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import cases
from support.cases import CASES, TOLERANCE, Case

import onward
from onward import textbook
from onward.errors import ArgumentError, ShapeError
from onward.tracing import plot


def arrays(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal(shape)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_trace_equals_the_forward_pass_bitwise(case: Case) -> None:
    inputs, layer = cases.inputs_of(case), cases.layer_of(case, batch_first=False)
    layer.load_state_dict(inputs.weights)
    state = None if inputs.h0 is None else (inputs.h0, inputs.c0) if case.cell == "lstm" else inputs.h0
    trace = layer.trace(inputs.x, state, lengths=inputs.lengths, preactivations=True)
    y, h_n, c_n = cases.run(case, inputs)
    top = f"l{case.layers - 1}"
    np.testing.assert_array_equal(trace[f"{top}.h"], y[:, :, : case.P])
    if case.bidirectional:
        np.testing.assert_array_equal(trace[f"{top}_reverse.h"], y[:, :, case.P :])
    lengths = np.full(case.B, case.T) if inputs.lengths is None else inputs.lengths
    np.testing.assert_array_equal(trace.lengths, lengths)
    rows = np.arange(case.B)
    for name, last_h, last_c in zip(trace.layers, h_n, h_n if c_n is None else c_n, strict=True):
        end = 0 if name.endswith("reverse") else lengths - 1
        np.testing.assert_array_equal(trace[f"{name}.h"][end, rows], last_h)
        if c_n is not None:
            np.testing.assert_array_equal(trace[f"{name}.c"][end, rows], last_c)
        for gate in layer.gates:
            assert trace[f"{name}.{gate}_preactivation"].shape == trace[f"{name}.{gate}"].shape


def test_gates_match_the_textbook() -> None:
    layer, x = onward.LSTM(5, 7, dtype="float64", rng=0), arrays(6, 4, 5)
    w = layer.state_dict()
    parameters = {"Wy": np.ones((1, 7)), "by": np.ones((1, 1))}
    W, R, b = (
        np.split(part, 4)
        for part in (w["weight_ih_l0"], w["weight_hh_l0"], w["bias_ih_l0"] + w["bias_hh_l0"])
    )
    for k, gate in enumerate("ifco"):
        parameters |= {f"W{gate}": np.hstack([R[k], W[k]]), f"b{gate}": b[k][:, None]}
    zeros = np.zeros((7, 4))
    *_, caches = textbook.lstm_forward(x.swapaxes(1, 2), zeros, zeros, parameters)
    trace = layer.trace(x)
    for gate, name in {"f": "forget_gate", "i": "input_gate", "o": "output_gate"}.items():
        expected = np.stack([cache[name].T for cache in caches])
        np.testing.assert_allclose(trace[gate], expected, rtol=0, atol=TOLERANCE["float64"])


@pytest.mark.parametrize("batch_first", [False, True])
def test_trace_covers_all_layers_of_a_model(batch_first: bool) -> None:
    net = onward.Sequential(
        onward.Embedding(9, 5, rng=0),
        onward.LSTM(5, 7, 2, bidirectional=True, batch_first=batch_first, rng=1),
        onward.GRU(14, 3, batch_first=batch_first, rng=2),
        onward.Linear(3, 2, rng=3),
    )
    x = np.arange(24).reshape(4, 6) % 9
    trace = net.trace(x, lengths=[6, 1, 3, 2] if batch_first else [4, 0, 1, 2, 3, 4])
    T, B = (6, 4) if batch_first else (4, 6)
    assert list(trace.layers) == ["1.l0", "1.l0_reverse", "1.l1", "1.l1_reverse", "2.l0"]
    assert {array.shape for name, array in trace.items() if name.startswith("1")} == {(T, B, 7)}
    assert trace["z"] is trace["2.l0.z"]
    assert trace.x.shape == (T, B)
    y = net(x, lengths=trace.lengths)
    np.testing.assert_array_equal(trace.y, y.swapaxes(0, 1) if batch_first else y)


def test_ambiguous_name_lists_the_candidates() -> None:
    trace = onward.LSTM(5, 7, 2, rng=0).trace(np.ones((3, 5)))
    with pytest.raises(KeyError, match=r"'f': the trace has l0.f, l1.f"):
        trace["f"]
    with pytest.raises(KeyError, match=r"'r': the trace has l0.i, "):
        trace["r"]
    assert "l1.f" in trace and "r" not in trace


def test_trace_copies_x() -> None:
    x = np.ones((3, 4, 5), np.float32)
    trace = onward.GRU(5, 7, rng=0).trace(x)
    x[:] = 7
    np.testing.assert_array_equal(trace.x, 1)


def test_model_without_recurrent_layers_is_rejected() -> None:
    with pytest.raises(ArgumentError, match="has no recurrent layer to trace"):
        onward.Sequential(onward.Linear(5, 2, rng=0)).trace(np.ones((3, 5)))


def gated_layer() -> Any:
    """Unit 0 always keeps its state, unit 1 while x > 0; unit 2 stays at 0."""
    layer = onward.LSTM(1, 3, rng=0)
    zeros = {name: np.zeros_like(weight) for name, weight in layer.state_dict().items()}
    zeros["weight_ih_l0"][4] = 50  # forget gate of unit 1
    zeros["bias_ih_l0"][3] = 50
    zeros["bias_ih_l0"][6:8] = 1  # something to remember
    layer.load_state_dict(zeros)
    return layer


def test_summary_counts_runs_saturation_and_dead_units() -> None:
    x = np.array([1, 1, 1, -1, 1, -1, -1, -1], np.float32).reshape(8, 1, 1)
    summary = gated_layer().trace(np.concatenate([x, x], axis=1), lengths=[8, 2]).summary()["l0"]
    np.testing.assert_allclose(summary.open_steps, [(8 + 2) / 2, (3 + 1 + 2) / 3, 0])
    assert summary.dead.tolist() == [2]
    low, high = summary.saturated["f"]
    assert low == pytest.approx(4 / 30)  # unit 1 where x < 0
    assert high == pytest.approx((10 + 6) / 30)
    assert summary.saturated["i"] == (0, 0)


def test_summary_without_steps_is_rejected() -> None:
    with pytest.raises(ArgumentError, match="no steps to summarize"):
        onward.LSTM(1, 3, rng=0).trace(np.ones((2, 1, 1)), lengths=[0]).summary()


def test_saved_trace_holds_every_array_by_name(tmp_path: Path) -> None:
    trace = onward.Sequential(onward.GRU(5, 7, 2, rng=0)).trace(arrays(3, 4, 5))
    trace.save(tmp_path / "trace.npz")
    with np.load(tmp_path / "trace.npz") as saved:
        assert set(saved.files) == {*trace, "x", "y", "lengths"}
        for name in trace:
            np.testing.assert_array_equal(saved[name], trace[name])


# --- answers -----------------------------------------------------------------------------------------


def classifier(**options: Any) -> Any:
    directions = 1 + options.get("bidirectional", False)
    return onward.Sequential(
        onward.LSTM(5, 7, 2, rng=0, **options),
        onward.Last(options.get("batch_first", False)),
        onward.Linear(7 * directions, 3, rng=1),
    )


@pytest.mark.parametrize(
    "options", [{}, {"batch_first": True}, {"bidirectional": True}], ids=["forward", "batch_first", "both"]
)
@pytest.mark.parametrize("stateful", [False, True])
def test_answers_are_bitwise_the_outputs_for_each_prefix(options: dict[str, bool], stateful: bool) -> None:
    net, x = classifier(**options), arrays(9, 4, 5)
    LD = 2 * (1 + options.get("bidirectional", False))
    state = [(arrays(LD, 4, 7), arrays(LD, 4, 7))] if stateful else None
    given = x.swapaxes(0, 1) if options.get("batch_first") else x
    trace = net.trace(given, state, lengths=[9, 3, 1, 0])
    weights = {name: 2 * weight for name, weight in net.state_dict().items()}
    for row, length in enumerate([9, 3, 1]):
        answers = trace.answers(row)
        assert answers.shape == (length, 3)
        for t in range(length):
            y = net(given, state, lengths=[t + 1] * 4)[row]
            np.testing.assert_array_equal(answers[t], y)
    before = trace.answers(0)
    net.load_state_dict(weights)  # which the trace, of the weights before, ignores
    np.testing.assert_array_equal(trace.answers(0), before)
    with pytest.raises(ArgumentError, match="row=3 has no step"):
        trace.answers(3)


def test_answers_of_a_long_row_hold_the_output_of_the_last_prefix_run() -> None:
    net, x = classifier(), arrays(250, 5)
    answers = net.trace(x).answers()
    np.testing.assert_array_equal(answers[[0, -1]], [net(x[:1]), net(x)])
    assert len(answers) == 250 and len(np.unique(answers, axis=0)) == 100


def test_answers_of_a_model_with_an_output_per_step_are_its_output() -> None:
    net, x = onward.Sequential(onward.GRU(5, 7, rng=0), onward.Linear(7, 2, rng=1)), arrays(9, 2, 5)
    trace = net.trace(x, lengths=[9, 4])
    np.testing.assert_array_equal(trace.answers(1), net(x[:4])[:, 1])


def test_answers_for_prefixes_too_short_for_a_convolution_are_nan() -> None:
    net = onward.Sequential(onward.GRU(5, 7, rng=0), onward.Last(), onward.Linear(7, 2, rng=1))
    trace = net.trace(arrays(4, 5))
    whole = trace._answer
    assert whole is not None

    def short(row: int, steps: int) -> Any:
        if steps < 3:
            raise ShapeError("x has too few steps")
        return whole(row, steps)

    trace._answer = short
    answers = trace.answers()
    assert np.isnan(answers[:2]).all() and np.isfinite(answers[2:]).all()


# --- pictures ----------------------------------------------------------------------------------------


def panels(figure: Any) -> dict[str, Any]:
    """The axes of each panel by its title."""
    return {axes.get_title(loc="left"): axes for axes in figure.axes if axes.get_title(loc="left")}


def bars(figure: Any) -> list[str]:
    return [axes.get_ylabel() for axes in figure.axes if axes.get_label() == "<colorbar>"]


def test_plot_has_a_panel_for_each_gate_and_state_and_does_not_affect_pyplot() -> None:
    from matplotlib import _pylab_helpers

    net = onward.Sequential(onward.LSTM(5, 7, rng=0), onward.Linear(7, 2, rng=0))
    figure = net.trace(arrays(20, 4, 5), preactivations=True).plot(row=3, similar=True)
    assert figure.get_suptitle() == "sequence 3\nlayer 0.l0 (1 of 1): 7 units, ordered by similarity"
    assert net.trace(arrays(20, 5)).plot().get_suptitle() == "layer 0.l0 (1 of 1)"
    drawn = panels(figure)
    names = [title.partition(":")[0] for title in drawn]
    assert names[:7] == [
        *("input x", "input gate i", "forget gate f", "output gate o"),
        *("candidate g", "cell state c", "hidden state h"),  # the cell state first, then the output
    ]
    assert names[-1] == "output y after each step" and "f preactivation" in names
    assert drawn["input x"].get_ylabel() == "feature"
    assert drawn["output y after each step"].get_ylabel() == "output"
    assert bars(figure).count("0 closed, 1 open") == 1  # shared by the three gates
    assert not _pylab_helpers.Gcf.figs


def test_plot_of_a_classifier_ends_with_the_probability_of_each_class_after_each_step() -> None:
    net, x = classifier(), arrays(9, 5)
    figure = net.trace(x).plot(title="net on x", classes=["a", "b", "c"], label=1)
    *_, (title, last) = panels(figure).items()
    probabilities = np.stack([np.exp(y) / np.exp(y).sum() for y in (net(x[: t + 1]) for t in range(9))])
    np.testing.assert_allclose(last.images[0].get_array(), probabilities.T, rtol=1e-5)
    assert title == "probability of each class after each step"
    assert [label.get_text() for label in last.get_yticklabels()] == ["a", "b", "c"]
    best = int(probabilities[-1].argmax())
    verdict = f"net on x: true label b, predicted {'abc'[best]} ({probabilities[-1, best]:.0%})"
    assert figure.get_suptitle().splitlines() == [
        verdict,
        "layer 0.l0 (1 of 2; also 0.l1)",
    ]
    with_softmax = onward.Sequential(*net, onward.Softmax()).trace(x).plot(classes=["a", "b", "c"])
    drawn = list(panels(with_softmax).values())[-1].images[0].get_array()
    np.testing.assert_allclose(drawn, probabilities.T, rtol=1e-5)  # not softmax of softmax


def test_plot_of_many_classes_names_the_likeliest() -> None:
    net = onward.Sequential(onward.GRU(5, 7, rng=0), onward.Last(), onward.Linear(7, 40, rng=1))
    x = arrays(9, 5)
    scores = np.stack([net(x[: t + 1]) for t in range(9)])
    figure = net.trace(x).plot(classes=[f"word {k}" for k in range(40)])
    *_, (title, last) = panels(figure).items()
    assert title == "probability of the 12 likeliest of 40 classes after each step"
    names = [label.get_text() for label in last.get_yticklabels()]
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    assert names == [f"word {k}" for k in sorted(np.argsort(-shares.max(axis=0))[:12])]


@pytest.mark.parametrize("steps", [9, 500])
def test_plot_of_a_text_model_names_the_likeliest_next_characters(steps: int) -> None:
    characters = "".join(map(chr, range(32, 112)))
    net = onward.Sequential(
        onward.Embedding(80, 5, rng=0), onward.GRU(5, 7, rng=1), onward.Linear(7, 80, rng=2)
    )
    numbers = np.arange(steps) % 80
    text = "".join(characters[k] for k in numbers)
    figure = net.trace(numbers).plot(text=text, classes=characters)
    *_, (title, last) = panels(figure).items()
    best = [characters[k].replace(" ", "␣") for k in net(numbers).argmax(axis=1)]
    if steps == 9:
        assert title == "likeliest next characters after each step"
        assert [label.get_text() for label in last.texts[::4]] == best
    else:
        assert title == "probability of the 12 likeliest of 80 next characters after each step"
        assert len(last.get_yticklabels()) == 12
    assert f"likeliest next character {best[-1].replace('␣', ' ')!r}" in figure.get_suptitle()


def test_plot_averages_similar_units_of_wide_layers_in_groups() -> None:
    trace = onward.LSTM(5, 130, rng=0).trace(arrays(20, 5))
    figure = trace.plot()
    assert figure.get_suptitle() == "layer l0 (1 of 1): 130 units, similar ones averaged in groups of 3"
    c = panels(figure)["cell state c: what the cell keeps"].images[0].get_array()
    assert c.shape == (44, 20)
    order = plot.by_similarity(trace["c"][:, 0])
    np.testing.assert_allclose(c[1], trace["c"][:, 0, order[3:6]].mean(axis=1), rtol=1e-5)
    np.testing.assert_array_equal(c[-1], trace["c"][:, 0, order[129]])  # a group of one


def test_plot_of_a_deep_model_abridges_the_list_of_layers() -> None:
    figure = onward.GRU(5, 3, 9, rng=0).trace(arrays(4, 5)).plot(2)
    assert figure.get_suptitle() == "layer l2 (3 of 9; also l0, l1, ..., l8)"


def test_plot_shows_the_units_selected() -> None:
    trace = onward.LSTM(5, 130, proj_size=9, rng=0).trace(arrays(20, 5))
    figure = trace.plot(units=[2, 100, 7])
    assert figure.get_suptitle() == "layer l0 (1 of 1): 3 of 130 units"
    drawn = panels(figure)
    c, h = drawn["cell state c: what the cell keeps"], drawn["hidden state h: the output"]
    np.testing.assert_array_equal(c.images[0].get_array(), trace["c"][:, 0, [2, 100, 7]].T)
    assert [label.get_text() for label in c.get_yticklabels()] == ["2", "100", "7"]
    np.testing.assert_array_equal(h.images[0].get_array(), trace["h"][:, 0, [2, 7]].T)  # h has 9 units
    assert "hidden state h: the output" not in panels(trace.plot(units=[100]))


@pytest.mark.parametrize("steps", [1, 50, 2000])
def test_text_is_drawn_along_the_time_axis(steps: int) -> None:
    text = ("to be$ \n" * 250)[:steps]
    figure = onward.GRU(5, 7, rng=0).trace(arrays(steps, 5)).plot(text=text)
    figure.draw_without_rendering()  # warns if the layout does not fit
    written = [label.get_text() for label in figure.axes[0].texts]
    assert "".join(written) == text.replace(" ", "␣").replace("\n", "↵") or steps == 2000
    assert written[0] == ("t" if steps < 2000 else "to␣be$␣↵to␣b")


def test_invalid_plot_arguments_are_explained() -> None:
    trace = onward.LSTM(5, 7, rng=0).trace(np.ones((3, 2, 5)), lengths=[3, 0])
    net = classifier().trace(np.ones((3, 5)))
    for source, arguments, message in (
        (trace, {"row": 1}, "row=1 has no step"),
        (trace, {"row": 2}, "row=2, but must be an integer from 0 to 1"),
        (trace, {"layer": 1}, "layer=1, but"),
        (trace, {"layer": "l1"}, "layer='l1', but"),
        (trace, {"text": "four"}, "text has 4 characters, but row 0 has 3 steps"),
        (trace, {"units": []}, "units is empty"),
        (trace, {"units": [7]}, "units=7, but must be an integer from 0 to 6"),
        (net, {"classes": ["a", "b"]}, "classes names 2 classes, but the model has 3 outputs"),
        (net, {"classes": "abc", "label": 3}, "label=3, but must be an integer from 0 to 2"),
    ):
        with pytest.raises(ArgumentError, match=message):
            source.plot(**arguments)
