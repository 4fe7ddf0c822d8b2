"""Random modules of PyTorch as C, and microcontrollers in an emulator: the bits are those of Python."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support import c_code
from support.bits import assert_bitwise
from support.causal_modules import CausalNet, write
from support.modules import WHOLE, exported, inputs_of, random_module
from support.onnx_nodes import draw_quantized, open_model
from support.random_loops import RandomLoop
from support.random_networks import random_network
from support.randomized import random_cases
from support.skips import counted_cases

import onward
from onward.errors import ArgumentError, ShapeError

pytestmark = pytest.mark.filterwarnings("ignore")  # from the exporters

FAST = c_code.Target(("cc", "-march=native", "-O2"))


def test_calls_of_random_modules_have_the_bits_of_python(tmp_path: Path) -> None:
    for seed in range(random_cases(6)):
        module, inputs = random_module(seed)
        (tmp_path / "module.onnx").write_bytes(exported(module, inputs))
        model = onward.load(tmp_path / "module.onnx")
        c_code.checked(model, tmp_path / f"m{seed}.c", FAST, math=bool(seed % 2))


def test_streams_of_random_modules_have_the_bits_of_python(tmp_path: Path) -> None:
    for case in counted_cases(8):
        with case:
            seed = case.seed
            assert seed is not None
            write(CausalNet(seed).eval(), tmp_path / "net.pt2")
            model = onward.load(tmp_path / "net.pt2")
            options = {"steps": (1, 4, 3)[seed % 3], "rows": 1 + seed % 2, "math": bool(seed % 4)}
            with case.skipping(ArgumentError, match="cannot stream"):
                c_code.checked(model, tmp_path / f"n{seed}.c", FAST, stream=True, time_axis=2, **options)


def test_compiled_streams_of_random_modules_end_as_those_of_python(tmp_path: Path) -> None:
    """A module may refuse sequences of some lengths: their ends raise the same error."""
    refused = 0
    for case in counted_cases(10):
        with case:
            net = CausalNet(case.seed or 0).eval()
            write(net, tmp_path / "net.pt2")
            model = onward.load(tmp_path / "net.pt2")
            with case.skipping(ArgumentError, match="cannot stream|NumPy"):
                model.compile(tmp_path / "net.onward", time_axis=2)
            rng = np.random.default_rng(case.seed)
            for steps in (1, 2, 5, 16, 32):
                streams = model.stream(1, time_axis=2), onward.load(tmp_path / "net.onward").stream(1)
                x = rng.normal(size=(1, net.channels, steps)).astype(np.float32)
                assert_bitwise(*(stream(x) for stream in streams))
                try:
                    expected = streams[0].finish()
                except ShapeError:
                    refused += 1
                    with pytest.raises(ShapeError, match="no program"):
                        streams[1].finish()
                else:
                    assert_bitwise(streams[1].finish(), expected)
    assert refused > 0


@pytest.mark.parametrize("name", ["voice detector", "keyword spotter", "translator", "forecaster"])
def test_a_whole_model_has_the_bits_of_python(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    inputs = inputs_of(WHOLE[name].inputs, 0)
    (tmp_path / "model.onnx").write_bytes(exported(WHOLE[name].module(), inputs))
    c_code.checked(onward.load(tmp_path / "model.onnx"), tmp_path / "model.c", FAST)


def test_random_networks_in_integers_have_the_bits_of_python(tmp_path: Path) -> None:
    for case in counted_cases(12):
        with case:
            model, options, x = random_network(np.random.default_rng(100 + (case.seed or 0)))
            c_code.checked(model, tmp_path / "net.c", FAST, calibrate={"x": x}, **options)


def test_random_loops_have_the_bits_of_python(tmp_path: Path) -> None:
    for case in counted_cases(12):
        with case:
            loop = RandomLoop(case.seed or 0)
            with case.skipping(ArgumentError, match="NumPy"):
                c_code.checked(c_code.with_sizes(loop.graph, *loop.inputs), tmp_path / "net.c", FAST)


def test_random_layers_that_quantize_dynamically_have_the_bits_of_python(tmp_path: Path) -> None:
    for case in counted_cases(14, first=100, most=0.7):  # half of them have lengths
        with case:
            drawn, _ = draw_quantized(np.random.default_rng(case.seed))
            model = c_code.with_sizes(open_model(drawn.model).graph, *drawn.feeds.values())
            with case.skipping(ArgumentError, match="NumPy"):
                c_code.checked(model, tmp_path / "net.c", FAST)


@pytest.mark.parametrize("name", ["Cortex-M4", "RISC-V 32 without floats"])
def test_a_microcontroller_gives_the_bits_of_python_in_integers(name: str, tmp_path: Path) -> None:
    net = onward.Sequential(onward.LSTM(5, 8, rng=0), onward.GRU(8, 8, rng=1), onward.Linear(8, 3))
    x = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)
    target = c_code.MICROCONTROLLERS[name]
    c_code.checked(net, tmp_path / "net.c", target, stream=True, calibrate={"x": x}, math=False)


@pytest.mark.parametrize("name", c_code.MICROCONTROLLERS)
def test_a_microcontroller_gives_the_bits_of_python(name: str, tmp_path: Path) -> None:
    target = c_code.MICROCONTROLLERS[name]
    net = onward.Sequential(
        onward.GRU(5, 8, rng=0), onward.LayerNorm(8), onward.Linear(8, 3), onward.Softmax()
    )
    c_code.checked(net, tmp_path / "net.c", target, stream=True, math=name == "Cortex-M4")
