"""Exported programs (.pt2), and traced functions, against PyTorch, which wrote them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support import modules
from support.exported_functions import Case, Function
from support.exported_modules import CASES, Counter
from support.in_numpy import unexpected
from support.onnx_nodes import open_model
from support.skips import counted_cases
from torch import nn
from torch.export import Dim
from torch.utils._pytree import tree_flatten, tree_map

import onward
from onward.errors import ArgumentError, FileError, ShapeError, SignatureError
from onward.formats.onnx import messages, protobuf
from onward.formats.torch.aten.operators import OPERATORS
from onward.formats.torch.aten.refusals import reason
from onward.formats.torch.aten.schemas import outputs

pytestmark = pytest.mark.usefixtures("quiet_exporters")


def program_of(module: nn.Module, inputs: tuple[Any, ...], dynamic: Any = None, **options: Any) -> Any:
    return torch.export.export(module.eval(), inputs, dynamic_shapes=dynamic, **options)


def load(program: Any, folder: Path) -> Any:
    torch.export.save(program, folder / "m.pt2")
    return onward.load(folder / "m.pt2")


def arrays(inputs: Any) -> Any:
    return tree_map(lambda x: x.numpy() if isinstance(x, torch.Tensor) else x, inputs)


def close(results: Any, expected: Any) -> None:
    """Compare leaf by leaf, within 1e-5 of the scale."""
    got, wanted = tree_flatten(results)[0], tree_flatten(arrays(expected))[0]
    assert len(got) >= len(wanted)  # carries follow
    for y, z in zip(got, wanted, strict=False):
        z = np.asarray(z)
        assert (y.shape, y.dtype) == (z.shape, z.dtype)
        scale = np.abs(np.where(np.isfinite(z), z, 0)).max(initial=0)
        np.testing.assert_allclose(y, z, rtol=0, atol=1e-5 * float(scale) + 1e-30)


def check(net: Any, module: nn.Module, inputs: tuple[Any, ...]) -> None:
    with torch.inference_mode():
        expected = module(*inputs)
    close(net(*arrays(inputs)), expected)


def accepts(program: Any, inputs: tuple[Any, ...]) -> bool:
    with torch.inference_mode():
        try:
            program.module()(*inputs)
        except (ArithmeticError, AssertionError, IndexError, RuntimeError):
            return False
    return True


def built(case: Case) -> tuple[nn.Module, tuple[Any, ...]]:
    torch.manual_seed(0)
    module = case.module().eval()
    for name, value in module.state_dict().items():
        if name.endswith(("running_mean", "running_var")):
            value.uniform_(0.5, 1.5)
    return module, case.inputs()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_static_program_equals_the_module(case: Case, tmp_path: Path) -> None:
    module, inputs = built(case)
    check(load(program_of(module, inputs), tmp_path), module, inputs)


FUNCTIONS = {name: case for name, case in CASES.items() if isinstance(case.module(), Function)}
del FUNCTIONS["resizing"]  # PyTorch cannot trace its max_unpool2d


@pytest.mark.filterwarnings("ignore")  # torch warns that TorchScript is deprecated
@pytest.mark.parametrize("case", FUNCTIONS.values(), ids=FUNCTIONS)
def test_traced_function_equals_the_module(case: Case, tmp_path: Path) -> None:
    module, inputs = built(case)
    with torch.no_grad():
        torch.jit.trace(module, inputs, check_trace=False).save(tmp_path / "m.pt")
    check(onward.load(tmp_path / "m.pt"), module, inputs)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_decomposed_program_equals_the_module(case: Case, tmp_path: Path) -> None:
    module, inputs = built(case)
    check(load(program_of(module, inputs).run_decompositions(), tmp_path), module, inputs)


DYNAMIC = {name: case for name, case in CASES.items() if any(case.dynamic.values())}


@pytest.mark.parametrize("case", DYNAMIC.values(), ids=DYNAMIC)
def test_dynamic_program_takes_other_sizes(case: Case, tmp_path: Path) -> None:
    module, inputs = built(case)
    axes = [{axis: Dim.AUTO for axis in case.dynamic.get(i, ())} or None for i in range(len(inputs))]
    dynamic = (tuple(axes),) if isinstance(module, Function) else tuple(axes)
    program = program_of(module, inputs, dynamic)
    net = load(program, tmp_path)
    check(net, module, inputs)
    first = inputs[0]
    open_axes = [axis for axis, size in enumerate(net.graph.inputs[0].axes) if isinstance(size, str) and size]
    for axis in open_axes:
        longer = torch.cat([first, first.narrow(axis, 0, 1).repeat_interleave(2, axis)], axis), *inputs[1:]
        if accepts(program, longer):
            check(net, module, longer)
        else:
            with pytest.raises(ShapeError, match="exported for sizes with"):
                net(*arrays(longer))
        empty = first.narrow(axis, 0, 0), *inputs[1:]
        if accepts(program, empty):
            check(net, module, empty)


BRANCHES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "a branch": lambda x: x[:, : x.size(1) // 3] if x.size(1) // 3 > 1 else x,
    "a table": lambda x: x * (2.0, 3.0, 4.0)[x.size(1) % 3],
    "rounds": lambda x: sum((x + i for i in range(x.size(0) + x.size(1) // 2)), x),
    "a square root": lambda x: x + int(x.size(1) ** 0.5),
    "a ratio": lambda x: x * int(x.size(1) * 0.7),
    "windows": lambda x: x.view(x.size(0), -1, 4).sum(1) if x.size(1) % 4 == 0 else x,
    "two sizes": lambda x: x if x.size(0) < x.size(1) and max(x.size(0), 4) == 4 else -x,
}


@pytest.mark.parametrize("name", BRANCHES)
def test_sizes_for_which_the_module_would_branch_otherwise_are_errors(name: str, tmp_path: Path) -> None:
    module, axes = Function(BRANCHES[name]), {0: Dim.AUTO, 1: Dim.AUTO}
    program = program_of(module, (torch.randn(3, 8),), ((axes,),))
    net, refused = load(program, tmp_path), 0
    for rows, steps in ((3, 8), (3, 9), (2, 8), (4, 12), (5, 4), (7, 20), (2, 64)):
        inputs = (torch.randn(rows, steps),)
        if accepts(program, inputs):
            check(net, module, inputs)
        else:
            try:  # as if no size were 1
                check(net, module, inputs)
            except ShapeError:
                refused += 1
    assert refused


@pytest.mark.parametrize("decomposed", [False, True], ids=["exported", "decomposed"])
@pytest.mark.parametrize("name", modules.WHOLE)
def test_whole_models(name: str, decomposed: bool, tmp_path: Path) -> None:
    whole = modules.WHOLE[name]
    torch.manual_seed(0)
    module = whole.module().eval()
    inputs = modules.inputs_of(whole.inputs, 0)
    program = program_of(module, tuple(map(torch.from_numpy, inputs.values())))
    if decomposed and name in ("voice detector", "speech recognizer", "text reader", "forecaster"):
        pytest.skip("decomposition unrolls its long recurrences into thousands of nodes")
    net = load(program.run_decompositions() if decomposed else program, tmp_path)
    close(net(*inputs.values()), tuple(map(torch.from_numpy, modules.answer(module, inputs))))
    close(net(**inputs), tuple(map(torch.from_numpy, modules.answer(module, inputs))))


def onnx_model(module: nn.Module, inputs: dict[str, NDArray[Any]]) -> Any:
    return open_model(protobuf.decode(messages.Model, modules.exported(module, inputs)))


@pytest.mark.parametrize("name", ["acoustic model", "tagger", "policy", "keyword spotter"])
def test_bits_are_those_of_the_onnx_file(name: str, tmp_path: Path) -> None:
    whole = modules.WHOLE[name]
    torch.manual_seed(0)
    module = whole.module().eval()
    inputs = modules.inputs_of(whole.inputs, 0)
    net = load(program_of(module, tuple(map(torch.from_numpy, inputs.values()))), tmp_path)
    (tmp_path / "m.onnx").write_bytes(modules.exported(module, inputs))
    nets = net, onward.load(tmp_path / "m.onnx")
    for y, z in zip(*(tree_flatten(each(*inputs.values()))[0] for each in nets), strict=True):
        np.testing.assert_array_equal(y, z)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "start" in metafunc.fixturenames:
        count = metafunc.config.getoption("--random-modules")
        metafunc.parametrize("start", range(0, count, 20))


def test_random_modules(start: int, tmp_path: Path) -> None:
    for case in counted_cases(20, start):
        with case:
            module, inputs = modules.random_module(case.seed)
            with case.skipping(RuntimeError):  # a kernel is longer than its input
                expected = modules.answer(module, inputs)
            net = load(program_of(module, tuple(map(torch.from_numpy, inputs.values()))), tmp_path)
            close(net(*inputs.values()), expected)
            assert not unexpected(net, [*inputs.values()])


def test_changed_buffers_are_carries(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Counter().eval()
    for decomposed in (False, True):
        program = program_of(module, (torch.randn(2, 3),))
        net = load(program.run_decompositions() if decomposed else program, tmp_path)
        assert net.graph.carries == {"h": "h_next", "calls": "calls_next"}
        stored = {name: value.numpy().copy() for name, value in module.state_dict().items()}
        reference = Counter().eval()
        reference.load_state_dict(module.state_dict())
        state: dict[str, Any] = {}
        for _ in range(3):
            x = torch.randn(2, 3)
            with torch.inference_mode():
                expected = reference(x)
            y, h, calls = net(x.numpy(), **state)
            close((y, h, calls), (expected, reference.h, reference.calls))
            state = {"h": h, "calls": calls}
        again = net(x.numpy())  # a call without state starts from the file's values
        assert again[2] == stored["calls"] + 1


def test_stream_carries_buffers_forward(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Counter().eval()
    net = load(program_of(module, (torch.randn(2, 3),)), tmp_path)
    assert net.carries == {"h": "h_next", "calls": "calls_next"}
    module.calls.fill_(3)
    module.h.copy_(torch.from_numpy(net.state_dict()["h"]))
    stream = net.stream()
    for _ in range(3):
        x = torch.randn(2, 3)
        with torch.inference_mode():
            expected = module(x)
        y = stream(x.numpy())
        close(y[0] if isinstance(y, tuple) else y, expected)


def test_names_and_nesting_of_arguments(tmp_path: Path) -> None:
    module, inputs = built(CASES["containers"])
    net = load(program_of(module, inputs), tmp_path)
    x, state, options = arrays(inputs)
    expected = module(*inputs)
    for results in (net(x, state, options), net(x, options=options, state=state)):
        close(results, expected)
        assert sorted(results[0]) == ["parts", "sum"]
        assert isinstance(results[0]["parts"], list)
    with pytest.raises(SignatureError, match=r"state\[1\] is 1 items; expected a tuple of 2 items"):
        net(x, (state[0], (x,)), options)
    with pytest.raises(SignatureError, match="expected a dict with the keys"):
        net(x, state, {"scales": x})
    with pytest.raises(SignatureError, match="missing inputs"):
        net(x, state)


@pytest.mark.parametrize(
    "result",
    [lambda x: (x + 1,), lambda x: [x - 1], lambda x: [x, -x], lambda x: {"a": (2 * x,), "b": None}],
    ids=["tuple of one", "list of one", "list", "dict"],
)
def test_results_are_nested_as_in_pytorch(result: Any, tmp_path: Path) -> None:
    class Module(nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return result(x)

    net = load(program_of(Module(), (torch.ones(2, 3),)), tmp_path)
    x = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)
    actual, expected = net(x), result(x)
    assert type(actual) is type(expected)
    np.testing.assert_equal(actual, expected)


def test_keyword_arguments_with_fixed_values(tmp_path: Path) -> None:
    class Scaled(nn.Module):
        def forward(self, x: torch.Tensor, *, y: torch.Tensor, times: int = 2) -> Any:
            return x * times + y, x.shape[0] * times

    x, y = torch.randn(2, 3), torch.randn(3)
    program = torch.export.export(
        Scaled(), (x,), {"y": y, "times": 3}, dynamic_shapes={"x": {0: Dim.AUTO}, "y": None, "times": None}
    )
    net = load(program, tmp_path)
    close(net(x.numpy(), y=y.numpy())[0], x * 3 + y)
    assert net(np.ones((5, 3), np.float32), y=y.numpy(), times=3)[1] == 15
    with pytest.raises(SignatureError, match="times is 2, but the model was exported with 3"):
        net(x.numpy(), y=y.numpy(), times=2)


def test_errors_name_range_constraints(tmp_path: Path) -> None:
    batch = Dim("batch", min=3, max=8)
    module = Function(lambda x, y: x + y)
    program = program_of(module, (torch.ones(4, 2), torch.ones(4, 2)), (({0: batch}, {0: batch}),))
    net = load(program, tmp_path)
    x = np.ones((5, 2), np.float32)
    close(net(x, x), torch.full((5, 2), 2.0))
    with pytest.raises(ShapeError, match=r"axis 0 of \w+ has size 9, but the model takes \w+ from 3 to 8"):
        net(np.ones((9, 2), np.float32), np.ones((9, 2), np.float32))
    with pytest.raises(ShapeError, match="has size 5 in"):
        net(x, np.ones((6, 2), np.float32))


class PaddedSpectra(nn.Module):
    """Cuts spectra and pads them again, as HDemucs does around its layers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = torch.stft(x, 16, 4, window=torch.hann_window(16), return_complex=True)[:, :-1]
        z = nn.functional.pad(nn.functional.pad(z, (0, 0, 0, 1)), (2, 2))
        return torch.view_as_real(z) * z.abs()[..., None]


def test_complex_numbers_are_padded_along_their_own_axes(tmp_path: Path) -> None:
    module, inputs = PaddedSpectra(), (torch.randn(2, 64),)
    check(load(program_of(module, inputs), tmp_path), module, inputs)


@pytest.mark.parametrize("function", [torch.exp, torch.square, lambda z: z == 1, torch.prod, torch.var])
def test_functions_without_a_complex_meaning_refuse_complex_numbers(function: Any, tmp_path: Path) -> None:
    module = Function(lambda x: torch.view_as_real(function(torch.view_as_complex(x)) * 1j))
    with pytest.raises(FileError, match=r"node \w+ \(aten[.\w]+\): [.\w]+ of complex numbers is not supp"):
        load(program_of(module, (torch.randn(3, 2),)), tmp_path)


def test_complex_outputs_are_refused(tmp_path: Path) -> None:
    """TorchScript returned pairs of real numbers."""
    module, x = Function(torch.view_as_complex), torch.randn(3, 2)
    with pytest.raises(FileError, match="the output view_as_complex is complex"):
        load(program_of(module, (x,)), tmp_path)
    torch.jit.trace(module, x).save(tmp_path / "m.pt")
    with pytest.raises(ArgumentError, match="an output is complex"):
        onward.load(tmp_path / "m.pt")(x.numpy())


RARE_ARGUMENTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "conj_physical": lambda x: torch.view_as_real(torch.conj_physical(torch.view_as_complex(x))),
    "complex": lambda x: torch.view_as_real(x.to(torch.complex64)),  # whose imaginary part is 0 beside NaN
    "real": lambda x: torch.view_as_complex(x).to(torch.float16),
    "sign": torch.sign,  # 0 for NaN
    "norm": lambda x: torch.norm(x[1, 0], 2, 0),  # of a negative number
    "norm in float16": lambda x: torch.linalg.vector_norm(x[2].half() * 2000),  # whose squares overflow
    "layer_norm": lambda x: torch.native_layer_norm(x.half(), [2], None, None, 1e-5)[2].float().nan_to_num(),
    "take_along_dim": lambda x: torch.take_along_dim(x, torch.tensor([[0, 1], [2, 5]])).nan_to_num(),
}


@pytest.mark.filterwarnings("ignore")  # "casting complex values to real"
@pytest.mark.parametrize("name", RARE_ARGUMENTS)
def test_rare_arguments_keep_their_meaning_in_both_formats(name: str, tmp_path: Path) -> None:
    """Imaginary parts stayed, lost their signs or became NaN; a number was its own norm."""
    module, x = Function(RARE_ARGUMENTS[name]), torch.tensor([[1, 2], [-3, torch.nan], [-0.0, -4]])
    expected = module(x).numpy()
    torch.jit.trace(module, x).save(tmp_path / "m.pt")
    for net in (load(program_of(module, (x,)), tmp_path), onward.load(tmp_path / "m.pt")):
        np.testing.assert_array_equal(net(x.numpy()), expected, strict=True)


def test_a_size_that_an_operator_needs_as_a_number_is_refused_by_name(tmp_path: Path) -> None:
    """The error was "unsupported operand type(s) for *: 'Symbol' and 'int'"."""
    module = Function(lambda x: nn.functional.interpolate(x, scale_factor=1.7, mode="area"))
    torch.jit.trace(module, torch.randn(2, 3, 5, 6)).save(tmp_path / "m.pt")
    with pytest.raises(FileError, match="a number that adaptive_avg_pool2d needs depends on the inputs"):
        onward.load(tmp_path / "m.pt", inputs={"input": ("float32", (2, 3, "height", "width"))})


class StridedGru(nn.Module):
    """A strided convolution before a recurrent layer, which run_decompositions() unrolls."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gru = nn.Conv1d(8, 8, 3, stride=2, padding=1), nn.GRU(8, 6, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.gru(self.conv(x.transpose(1, 2)).transpose(1, 2))[0]


def test_axes_of_unknown_size_are_squeezed_as_the_program_declares(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, inputs = StridedGru(), (torch.randn(2, 20, 8),)
    program = program_of(module, inputs, ({0: Dim.AUTO, 1: Dim.AUTO},)).run_decompositions()
    check(load(program, tmp_path), module, inputs)


def test_functions_in_place_keep_the_dtype_of_their_tensor(tmp_path: Path) -> None:
    module = Function(
        lambda x, i: (x.clone().gt_(0), i.clone().eq_(2), i.clone().cumsum_(0), x.half().add_(x))
    )
    inputs = torch.randn(5), torch.tensor([1, 2, 3], dtype=torch.uint8)
    check(load(program_of(module, inputs), tmp_path), module, inputs)


def test_elements_of_memory_outside_of_a_view_are_refused(tmp_path: Path) -> None:
    module = Function(lambda x: x[1:].as_strided((2,), (1,), 0))
    with pytest.raises(FileError, match=r"as_strided .* of a view"):
        load(program_of(module, (torch.randn(4),)), tmp_path)


def test_unsupported_operators_name_their_node(tmp_path: Path) -> None:
    module = Function(lambda x: torch.linalg.lu_factor(x)[0])
    with pytest.raises(
        FileError,
        match=r"node \w+ \(aten\.linalg_lu_factor\.default\): the operator .* is not supported: NumPy has",
    ):
        load(program_of(module, (torch.eye(3),)), tmp_path)


def test_every_operator_of_the_core_opset_is_translated_or_refused_with_a_reason() -> None:
    core = set()
    for name in torch._C._dispatch_get_all_op_names():
        base, _, overload = name.removeprefix("aten::").partition(".")
        if name.startswith("aten::") and not overload.endswith("out"):
            operator = getattr(getattr(torch.ops.aten, base), overload or "default", None)
            if operator is not None and torch.Tag.core in operator.tags:
                core.add(f"{base}.{overload or 'default'}")
    assert len(core) > 180
    assert [key for key in core if key not in OPERATORS and not reason(key)] == []


def test_the_numbers_of_results_are_those_of_the_schemas() -> None:
    found = {}
    for key in OPERATORS:
        base, _, overload = key.partition(".")
        operator = getattr(getattr(torch.ops.aten, base, None), overload, None)
        found[key] = max(1, len(operator._schema.returns)) if operator is not None else 1
    assert {key: outputs(key) for key in found} == found
