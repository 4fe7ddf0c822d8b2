"""What a trace holds, says and draws."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import cases
from support.cases import CASES, TOLERANCE, Case

import onward
from onward import textbook
from onward.errors import ArgumentError


def arrays(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal(shape)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_trace_is_of_the_forward_pass_itself(case: Case) -> None:
    inputs, layer = cases.inputs_of(case), cases.layer_of(case)
    layer.load_state_dict(inputs.weights)
    state = None if inputs.h0 is None else (inputs.h0, inputs.c0) if case.cell == "lstm" else inputs.h0
    layer.batch_first = False
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


def test_gates_are_those_of_the_textbook() -> None:
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
def test_a_model_is_traced_through_all_its_layers(batch_first: bool) -> None:
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


def test_a_name_that_could_be_several_says_which() -> None:
    trace = onward.LSTM(5, 7, 2, rng=0).trace(np.ones((3, 5)))
    with pytest.raises(KeyError, match=r"'f': the trace has l0.f, l1.f"):
        trace["f"]
    with pytest.raises(KeyError, match=r"'r': the trace has l0.i, "):
        trace["r"]
    assert "l1.f" in trace and "r" not in trace


def test_a_trace_keeps_its_own_x() -> None:
    x = np.ones((3, 4, 5), np.float32)
    trace = onward.GRU(5, 7, rng=0).trace(x)
    x[:] = 7
    np.testing.assert_array_equal(trace.x, 1)


def test_a_model_without_recurrent_layers_has_no_trace() -> None:
    with pytest.raises(ArgumentError, match="has no recurrent layer to trace"):
        onward.Sequential(onward.Linear(5, 2, rng=0)).trace(np.ones((3, 5)))


def remembering() -> Any:
    """Two units: one keeps its state whatever comes, while x > 0 the other does; the third stays at 0."""
    layer = onward.LSTM(1, 3, rng=0)
    zeros = {name: np.zeros_like(weight) for name, weight in layer.state_dict().items()}
    zeros["weight_ih_l0"][4] = 50  # forget gate of unit 1
    zeros["bias_ih_l0"][3] = 50
    zeros["bias_ih_l0"][6:8] = 1  # something to remember
    layer.load_state_dict(zeros)
    return layer


def test_a_summary_counts_runs_saturation_and_dead_units() -> None:
    x = np.array([1, 1, 1, -1, 1, -1, -1, -1], np.float32).reshape(8, 1, 1)
    habits = remembering().trace(np.concatenate([x, x], axis=1), lengths=[8, 2]).summary()["l0"]
    np.testing.assert_allclose(habits.memory, [(8 + 2) / 2, (3 + 1 + 2) / 3, 0])
    assert habits.dead.tolist() == [2]
    low, high = habits.saturated["f"]
    assert low == pytest.approx(4 / 30)  # unit 1 where x < 0
    assert high == pytest.approx((10 + 6) / 30)
    assert habits.saturated["i"] == (0, 0)


def test_a_summary_of_nothing_is_an_error() -> None:
    with pytest.raises(ArgumentError, match="no step"):
        onward.LSTM(1, 3, rng=0).trace(np.ones((2, 1, 1)), lengths=[0]).summary()


def test_a_saved_trace_has_every_array_under_its_name(tmp_path: Path) -> None:
    trace = onward.Sequential(onward.GRU(5, 7, 2, rng=0)).trace(arrays(3, 4, 5))
    trace.save(tmp_path / "trace.npz")
    with np.load(tmp_path / "trace.npz") as saved:
        assert set(saved.files) == {*trace, "x", "y", "lengths"}
        for name in trace:
            np.testing.assert_array_equal(saved[name], trace[name])


def test_a_plot_has_a_panel_for_each_gate_and_state_and_leaves_pyplot_alone() -> None:
    from matplotlib import _pylab_helpers

    net = onward.Sequential(onward.LSTM(5, 7, rng=0), onward.Linear(7, 2, rng=0))
    figure = net.trace(arrays(20, 4, 5), preactivations=True).plot(row=3, similar=True)
    assert figure.get_suptitle() == "layer 0.l0, sequence 3"
    assert net.trace(arrays(20, 5)).plot().get_suptitle() == "layer 0.l0"  # the only one
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    units = {title: axes.get_ylabel() for title, axes in zip(titles, figure.axes, strict=True)}
    assert units["input x"] == units["output y"] == "feature" and units["forget gate f"] == "unit"
    assert [title.split()[-1] for title in titles if "gate" in title] == ["i", "f", "o"]
    assert {"input x", "output y", "f preactivation"} <= set(titles)
    assert not _pylab_helpers.Gcf.figs


@pytest.mark.parametrize("steps", [1, 50, 2000])
def test_text_stands_along_the_time_axis(steps: int) -> None:
    text = ("to be$ \n" * 250)[:steps]
    figure = onward.GRU(5, 7, rng=0).trace(arrays(steps, 5)).plot(text=text)
    figure.draw_without_rendering()  # where a warning of a layout that does not fit would come
    written = [label.get_text() for label in figure.axes[0].texts]
    assert "".join(written) == text.replace(" ", "␣").replace("\n", "↵") or steps == 2000
    assert written[0] == ("t" if steps < 2000 else "to␣be$␣↵to␣b")


def test_what_cannot_be_plotted_says_why() -> None:
    trace = onward.LSTM(5, 7, rng=0).trace(np.ones((3, 2, 5)), lengths=[3, 0])
    for arguments, message in (
        ({"row": 1}, "row=1 has no step"),
        ({"row": 2}, "row=2, but must be an integer from 0 to 1"),
        ({"layer": 1}, "layer=1, but"),
        ({"layer": "l1"}, "layer='l1', but"),
        ({"text": "four"}, "text has 4 characters, but row 0 has 3 steps"),
    ):
        with pytest.raises(ArgumentError, match=message):
            trace.plot(**arguments)
