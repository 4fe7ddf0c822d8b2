"""TorchScript archives, traced and scripted, give the same numbers as the modules in PyTorch."""

import io
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from support import modules, script_modules
from support.onnx_nodes import outputs_of
from support.skips import Cases, counted_cases
from support.torch_loops import FirstLoudStep
from support.torch_module_table import MODULES
from support.torch_modules import Buffer, TensorBranch

import onward
from onward.core.cell import Cell

pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns that TorchScript is deprecated


def flat(value: Any) -> list[NDArray[Any]]:
    """Return the tensors and arrays in a nested value as arrays."""
    if isinstance(value, torch.Tensor):
        return [value.detach().numpy()]
    if isinstance(value, np.ndarray):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [array for each in value for array in flat(each)]


def saved(module: torch.nn.Module, inputs: tuple[Any, ...], how: str, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if how == "traced":
            program = torch.jit.trace(module, inputs, check_trace=False, strict=False)
        else:
            program = torch.jit.script(module)
        buffer = io.BytesIO()
        torch.jit.save(program, buffer)
    path.write_bytes(buffer.getvalue())
    return path


def assert_close(actual: Any, expected: list[NDArray[Any]]) -> None:
    actual = flat(actual)
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        assert a.shape == e.shape and a.dtype == e.dtype
        scale = max(1.0, float(np.abs(e).max(initial=0)))
        np.testing.assert_allclose(a, e, rtol=0, atol=1e-5 * scale)


WAYS = [(name, how) for name in MODULES for how in ("traced", "scripted")]
WAYS.remove(("weight norm", "scripted"))  # PyTorch itself cannot run it


@pytest.mark.parametrize(("name", "how"), WAYS)
def test_a_module_gives_the_numbers_of_torch(name: str, how: str, tmp_path: Path) -> None:
    torch.manual_seed(sum(map(ord, name)))
    case = MODULES[name]
    module = case.make().eval()
    inputs = case.inputs()
    model = onward.load(saved(module, inputs, how, tmp_path / "m.pt"))
    for arguments in (inputs, case.inputs()):
        if how == "traced" and isinstance(module, TensorBranch):
            arguments = inputs
        with torch.no_grad():
            expected = flat(module(*arguments))
        assert_close(outputs_of(model, *(argument.numpy() for argument in arguments)), expected)


def test_a_changed_buffer_is_a_carry_with_the_value_of_the_file(tmp_path: Path) -> None:
    module = Buffer().eval()
    x, other = torch.randn(2, 4, 3)
    with torch.no_grad():
        module(torch.randn(4, 3))
    model = onward.load(saved(module, (x,), "scripted", tmp_path / "m.pt"))
    y, mean = model(x.numpy())
    assert_close(model(x.numpy()), [y, mean])  # a call does not change the model
    z, mean = model(other.numpy(), mean)
    with torch.no_grad():
        assert_close((y, z, mean), flat([module(x), module(other), module.mean]))


class Nested(torch.nn.Module):
    """Returns tuples and lists in a tuple, and counts its calls in a buffer if asked to."""

    def __init__(self, counts: bool) -> None:
        super().__init__()
        self.lstm, self.counts = torch.nn.LSTM(3, 4), counts
        self.register_buffer("calls", torch.zeros(1))

    def forward(
        self, x: torch.Tensor
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor], list[torch.Tensor]]:
        y, (h, c) = self.lstm(x)
        if self.counts:
            self.calls += 1
        return y, (h, c), [y + 1, c]


class Named(torch.nn.Module):
    """Returns a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(3, 4)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        y, (h, c) = self.lstm(x)
        return {"y": y, "h": h, "c": c}


def same_structure(a: Any, b: Any) -> bool:
    if isinstance(b, dict):
        return isinstance(a, dict) and list(a) == list(b)
    if isinstance(b, tuple | list):
        return type(a) is type(b) and len(a) == len(b) and all(map(same_structure, a, b))
    return isinstance(a, np.ndarray)


@pytest.mark.parametrize("counts", [False, True])
def test_nested_results_are_not_flattened(counts: bool, tmp_path: Path) -> None:
    module, x = torch.jit.script(Nested(counts).eval()), torch.randn(7, 5, 3)
    torch.jit.save(module, tmp_path / "m.pt")
    model, expected = onward.load(tmp_path / "m.pt"), module(x)
    model.save(tmp_path / "m.safetensors")
    for opened in (model, onward.load(tmp_path / "m.safetensors")):
        results = opened(x.numpy())
        if counts:  # the new value of the buffer follows
            *results, calls = results
            assert calls == 1
        assert same_structure(tuple(results), expected)
        assert_close(results, flat(expected))


def test_a_dict_of_results_stays_a_dict(tmp_path: Path) -> None:
    module, x = Named().eval(), torch.randn(7, 5, 3)
    torch.jit.save(torch.jit.script(module), tmp_path / "m.pt")
    results = onward.load(tmp_path / "m.pt")(x.numpy())
    assert same_structure(results, module(x))
    assert_close(results, flat(module(x)))


class Splits(torch.nn.Module):
    """Splits an axis into parts of one size, and into parts of given sizes."""

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [*x.split(2, 1), *x.split([1, 5], 1)]


def test_the_size_of_parts_is_not_taken_for_a_list_of_sizes(tmp_path: Path) -> None:
    module, x = Splits(), torch.randn(3, 6)
    model = onward.load(saved(module, (x,), "traced", tmp_path / "m.pt"))
    assert_close(outputs_of(model, x.numpy()), flat(module(x)))


@pytest.mark.parametrize("sign", [1, -1])
def test_both_sides_of_a_branch_on_a_tensor_run(sign: int, tmp_path: Path) -> None:
    module = TensorBranch()
    model = onward.load(saved(module, (), "scripted", tmp_path / "m.pt"))
    x = sign * torch.rand(3, 4)
    assert_close(outputs_of(model, x.numpy()), flat(module(x)))


def test_a_loop_returns_at_the_step_that_the_values_tell(tmp_path: Path) -> None:
    module = FirstLoudStep()
    model = onward.load(saved(module, (), "scripted", tmp_path / "m.pt"))
    for steps in (1, 2, 30):
        for seed in range(5):
            torch.manual_seed(seed)
            x = torch.randn(steps, 2, 3)
            assert_close(model(x.numpy()), flat(module(x)))


# One graph for all sizes.

ANY_RANK = {  # code that takes any number of axes: another rank than the recorded one is recorded anew
    *("linear", "layer norm", "rms norm", "log softmax", "glu", "flatten", "upsampling", "statistics"),
    *("padding", "shapes", "attention", "bilinear", "dot-product attention", "indexing", "dropout"),
    *("batch norm", "batch norm in 2d", "group norm", "instance norm", "adaptive pooling", "sorting"),
    "lstm without batch",
}
LOOPS = {  # code whose nodes depend on the sizes
    *("adaptive pooling in 2d", "list of outputs", "shapes"),
}


UNROLLED = {
    (name, "traced")
    for name in ("loop of rnn cells", "loop with an optional state", "loops in both directions")
}
GENERAL = [way for way in WAYS if way[0] not in {*ANY_RANK, *LOOPS} and way not in UNROLLED]


@pytest.mark.parametrize(("name", "how"), GENERAL)
def test_a_module_is_one_graph_that_can_be_saved_and_exported(name: str, how: str, tmp_path: Path) -> None:
    torch.manual_seed(sum(map(ord, name)))
    case = MODULES[name]
    module, inputs = case.make().eval(), case.inputs()
    model = onward.load(saved(module, inputs, how, tmp_path / "m.pt"))
    arrays = [each.numpy() for each in inputs]
    expected = outputs_of(model, *arrays)
    model.save(tmp_path / "m.safetensors")
    model.export_onnx(tmp_path / "m.onnx")
    for path in ("m.safetensors", "m.onnx"):
        restored = onward.load(tmp_path / path)
        for y, z in zip(flat(outputs_of(restored, *arrays)), flat(expected), strict=True):
            np.testing.assert_array_equal(y, z)


@pytest.mark.parametrize("how", ["traced", "scripted"])
def test_a_scripted_lstm_streams_over_time(how: str, tmp_path: Path) -> None:
    model = onward.load(saved(torch.nn.LSTM(3, 7, 2), (torch.randn(4, 1, 3),), how, tmp_path / "m.pt"))
    x = np.random.default_rng(0).standard_normal((50, 1, 3)).astype(np.float32)
    stream = model.stream(1)
    blocks = [stream(block) for block in np.split(x, [1, 18, 19])]
    blocks = [block[0] if isinstance(block, tuple) else block for block in blocks]
    np.testing.assert_array_equal(np.concatenate(blocks), model(x)[0])


@pytest.mark.parametrize("name", ["loop of lstm cells", "loop that writes its steps"])
def test_a_scripted_loop_streams_pools_and_is_quantized(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = MODULES[name].make().eval()
    model = onward.load(saved(module, (), "scripted", tmp_path / "m.pt"))
    x = np.random.default_rng(0).standard_normal((50, 2, 3)).astype(np.float32)
    y = model(x)
    assert_close(y, flat(module(torch.from_numpy(x))))
    stream = model.stream(2, time_axis=0)
    np.testing.assert_array_equal(np.concatenate([stream(b) for b in np.split(x, [1, 18, 19])]), y)
    pool = model.pool(4, time_axis=0)
    rows = pool.open(2)
    np.testing.assert_array_equal(np.stack([pool.step(rows, step) for step in x]), y)
    small = model.quantize("int8", check=x, tolerance=0.05)
    assert 0 < np.abs(small(x) - y).max() < 0.05
    small.save(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(onward.load(tmp_path / "m.safetensors")(x), small(x))


def test_onnxruntime_runs_an_exported_loop(tmp_path: Path) -> None:
    module = MODULES["loop of lstm cells"].make().eval()
    model = onward.load(saved(module, (), "scripted", tmp_path / "m.pt"))
    model.export_onnx(tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    for shape in ((1, 1, 3), (7, 2, 3)):
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        (y,) = session.run(None, {"x": x})
        assert_close(y, [model(x)])


def test_all_recordings_of_a_module_share_the_weights_of_its_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(torch.nn.LSTM(3, 7, 2), (torch.zeros(5, 2, 3),), "traced", tmp_path / "m.pt")
    loaded = []

    def count(cell: Cell, weights: Any) -> Cell:
        loaded.append(cell)
        return filled(cell, weights)

    filled = Cell.filled
    monkeypatch.setattr(Cell, "filled", count)
    model: Any = onward.load(path)
    model(np.zeros((4, 1, 3), np.float32))
    assert len(loaded) == 1


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    count = metafunc.config.getoption("--random-modules")
    if "start" in metafunc.fixturenames:
        metafunc.parametrize("start", range(0, count, 10))
    if "first_seed" in metafunc.fixturenames:
        first = metafunc.config.getoption("--first-seed")
        metafunc.parametrize("first_seed", range(first, first + count, 20))


def test_random_modules(start: int, tmp_path: Path) -> None:
    for case in counted_cases(10, start):
        with case:
            module, inputs = modules.random_module(case.seed)
            tensors = tuple(map(torch.from_numpy, inputs.values()))
            with case.skipping(RuntimeError):  # a kernel is longer than its input
                expected = modules.answer(module, inputs)
            model = onward.load(saved(module.eval(), tensors, "traced", tmp_path / "m.pt"))
            assert_close(outputs_of(model, *inputs.values()), list(expected))


@pytest.mark.parametrize("how", ["traced", "scripted"])
def test_tables_errors_and_traces_use_the_names_of_modules(how: str, tmp_path: Path) -> None:
    class Tagger(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.ReLU(), torch.nn.Linear(7, 5))
            self.rnn = torch.nn.GRU(5, 33, batch_first=True)
            self.head = torch.nn.Linear(33, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.rnn(self.body(self.body(x)))[0])

    x = torch.randn(2, 4, 5)
    model = onward.load(saved(Tagger().eval(), (x,), how, tmp_path / "tagger.pt"))
    rows = model.summary_rows()
    parameters = [("body.0", 42), ("body.2", 40), ("rnn", 3 * 33 * (5 + 33 + 2)), ("head", 68)]
    assert [(row.name, row.parameters) for row in rows] == parameters
    assert rows[0].kind == "aten.linear.default" and str(rows[3].output_shape).endswith("2)")
    assert list(model.trace(x.numpy()).layers) == ["rnn.l0"]
    with pytest.raises(onward.errors.ShapeError, match=r"body\.0"):
        model(np.zeros((2, 4, 6), np.float32))


# A branch that depends on values must not change the length of a list; a loop must not change a type.
UNRECORDED = re.compile(
    r"code/__torch__/scripted_\d+\.py, line \d+: (the sides of a branch .* give different values: a list"
    r"|the loop must run at least once|the number of iterations depends on the value of a tensor)"
)


def test_random_scripted_modules(first_seed: int, tmp_path: Path) -> None:
    seeds = range(first_seed, first_seed + 20)
    defined = script_modules.define(seeds, tmp_path)
    cases, refused = Cases(), set[int]()
    for seed in seeds:
        torch.manual_seed(seed)
        random, path = np.random.default_rng(seed), tmp_path / f"{seed}.pt"
        with warnings.catch_warnings(), cases.new(seed) as case:
            warnings.simplefilter("ignore")
            with case.skipping(RuntimeError):  # TorchScript does not support the code
                torch.jit.save(torch.jit.script(getattr(defined, f"M{seed}")().eval()), path)
            model = onward.load(path)
        steps, rows = random.integers(1, (7, 4))
        for shape in ((steps, rows, 3), (steps + 3, rows, 3), (9, 1, 3)):
            with cases.new(seed) as each:
                if case.skipped:
                    each.skip()
                x, y = (random.standard_normal(axes).astype(np.float32) for axes in (shape, shape[1:]))
                with torch.no_grad(), each.skipping(RuntimeError):  # a step that x does not have
                    expected = flat(torch.jit.load(path)(torch.tensor(x), torch.tensor(y)))
                if (reason := refusal(model, x, y)) is not None:
                    assert UNRECORDED.search(reason), reason
                    refused.add(seed)
                    each.skip()
                actual = model(x, y)
                assert_close(flat(actual)[: len(expected)], expected)  # the states follow the outputs
                if (
                    seed % 5 == 0
                    and (whole := saved_whole(model, tmp_path / f"{seed}.safetensors")) is not None
                ):
                    with each.skipping(onward.errors.OnwardError):  # the graph of other sizes
                        results = whole(x, y)
                    assert_close(flat(results)[: len(expected)], expected)
    cases.check(most=2 / 3)
    assert len(refused) <= 2


def saved_whole(model: Any, path: Path) -> Any:
    """Return the saved graph of a model for all sizes, or None if there is none."""
    if not path.exists():
        try:
            model.save(path)
        except onward.errors.ArgumentError:
            return None
    return onward.load(path)


def refusal(model: Any, *inputs: NDArray[Any]) -> str | None:
    """Return why no graph expresses the code of a model, or None."""
    try:
        model(*inputs)
    except onward.errors.ArgumentError as error:
        return str(error)
    return None


class Pooled(torch.nn.Module):
    """Uses the first results of functions that return several."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, _ = torch.nn.functional.adaptive_max_pool1d_with_indices(x, 3)
        return torch.ops.aten.native_batch_norm(y, None, None, None, None, True, 0.1, 1e-5)[0]


def test_results_that_are_not_computed_leave_the_others_whole(tmp_path: Path) -> None:
    x = torch.randn(2, 3, 9)
    model = onward.load(saved(Pooled(), (x,), "traced", tmp_path / "m.pt"))
    assert_close(model(x.numpy()), flat(Pooled()(x)))
