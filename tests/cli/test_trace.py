"""`onward trace`: the summary that it prints and the files that it writes."""

from pathlib import Path

import numpy as np
import pytest
from support.cli import invoke, report

from onward import bundled

TEST = bundled.datasets()["japanese_vowels_test"]


def test_trace_sums_up_each_layer_and_writes_what_the_name_says(tmp_path: Path) -> None:
    told = report("trace", "vowels", TEST, "--sequence", "9", "--similar", "-o", tmp_path / "gates.png")
    assert told["steps"] == 23
    (layer,) = told["layers"]
    assert (
        layer["layer"] == "0.l0" and list(layer["saturated"]) == list("ifgo") and len(layer["memory"]) == 48
    )
    assert (tmp_path / "gates.png").read_bytes().startswith(b"\x89PNG")
    assert invoke("trace", "vowels", "-o", tmp_path / "gates.PDF").exit_code == 0
    assert (tmp_path / "gates.PDF").read_bytes().startswith(b"%PDF")
    shown = invoke("trace", "vowels", "-o", tmp_path / "gates.NPZ").output
    assert "0.l0" in shown and "lowest tenth" in shown
    with np.load(tmp_path / "gates.NPZ") as saved:
        assert saved["0.l0.f"].shape == (19, 1, 48)


def test_trace_of_a_model_of_text(tmp_path: Path) -> None:
    told = report("trace", "shakespeare", "--text", "To be, or not", "-o", tmp_path / "gates.svg")
    assert told["steps"] == 13 and [layer["layer"] for layer in told["layers"]] == ["1.l0", "1.l1"]
    assert "<svg" in (tmp_path / "gates.svg").read_text()


@pytest.mark.parametrize(
    ("arguments", "message", "exit_code"),
    [
        (["--sequence", "370"], "370 sequences", 2),
        (["--layer", "1.l0"], "there are 0.l0", 2),
        (["-o", "gates.gif"], "must end in one of .png, .svg, .pdf, .npz", 2),
        (["-o", "nowhere/gates.png"], "the directory nowhere does not exist", 2),
        ([str(TEST), "--text", "a"], "or --text, not both", 2),
        (["--text", "a"], "is not a text model", 1),
    ],
)
def test_trace_says_what_was_wrong(arguments: list[str], message: str, exit_code: int) -> None:
    result = invoke("trace", "vowels", *arguments)
    assert result.exit_code == exit_code and message in " ".join(result.output.split())
