"""`onward serve` checks its options before it listens."""

import socket
from pathlib import Path

import numpy as np
import pytest
from support.cli import invoke, message
from support.sequence_graphs import stepper

import onward
from onward.graph import Graph, Input
from onward.model import Model


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--carry", "state"), "'state'; expected INPUT=OUTPUT"),
        (("--set", "rate=fast"), "'rate=fast'; expected NAME=VALUE with a number or a JSON list"),
        (("--tick", "soon"), "'soon' is not a duration such as 2ms or 0.5s"),
        (("--carry", "state=nothing"), "unknown outputs: nothing"),
        (("--set", "speed=1"), "unknown inputs: speed"),
        (("--set", "carry=1"), "unknown inputs: carry"),
        (("--tick", "-1ms"), "'-1ms' is not a duration such as 2ms or 0.5s"),
        (("--tick", "nan"), "'nan' is not a duration such as 2ms or 0.5s"),
        (("--port", "70000"), "70000 is not in the range 0<=x<=65535"),
        (("--max-message", "0"), "0 is not in the range x>=1"),
        (("--state", "missing/streams"), "the directory missing does not exist: create it first"),
    ],
)
def test_faulty_options_state_what_is_expected(
    options: tuple[str, ...], expected: str, tmp_path: Path
) -> None:
    stepper().save(tmp_path / "stepper.safetensors")
    result = invoke("serve", tmp_path / "stepper.safetensors", *options)
    assert result.exit_code != 0 and expected in message(result)


def test_models_that_cannot_be_served_are_refused(tmp_path: Path, state_dict: Path) -> None:
    onward.LSTM(3, 4, bidirectional=True).save(tmp_path / "both.safetensors")
    assert "cannot stream" in message(invoke("serve", tmp_path / "both.safetensors", expect=1))
    assert "contains layers (encoder, head) but no forward()" in message(
        invoke("serve", state_dict, expect=2)
    )
    graph = Graph()
    x = graph.add_input("x", np.dtype(np.float32), ("batch", "T", 3))
    graph.outputs, graph.declared_outputs = (graph.add("Relu", x),), (Input("y"),)
    Model(graph).save(tmp_path / "relu.safetensors")
    words = message(invoke("serve", tmp_path / "relu.safetensors", expect=1))
    assert words.endswith("which axis of the input is time: pass --time-axis")
    assert "takes no options" in message(invoke("serve", "vowels", "--set", "x=1", expect=1))


def test_a_port_in_use_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = invoke("serve", "vowels", "--port", str(port), expect=1)
    assert f"cannot listen on 127.0.0.1 port {port}: Address already in use" in message(result)


def test_states_of_another_model_are_an_error_that_names_the_option(tmp_path: Path) -> None:
    (tmp_path / "old.streams").write_bytes(b"something else")
    result = invoke("serve", "vowels", "--port", "0", "--state", tmp_path / "old.streams", expect=1)
    assert "remove the file, or choose another one with --state" in message(result)
