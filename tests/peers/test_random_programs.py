"""Random programs of PyTorch with open sizes, exported and recorded, give its outputs for other sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.random_programs import RandomProgram
from support.skips import Case, counted_cases
from torch import Tensor, nn

import onward
from onward.errors import OnwardError

pytestmark = pytest.mark.filterwarnings(
    "ignore"
)  # torch warns of conversions, and that TorchScript is deprecated
WAYS = ("exported", "decomposed", "traced")


class Scattered(nn.Module):
    """Puts parts of other dtypes into a tensor."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        n = (3 * x).long()
        return (x > 0).select_scatter(n[0], 0, -1), n.slice_scatter(x[:1], 0, 1, 2)


def saved(module: nn.Module, x: Tensor, is_open: list[bool], way: str, path: Path) -> Any:
    """Save a module and return what torch makes of the file."""
    if way == "traced":
        torch.jit.save(torch.jit.trace(module, (x,)), path)
        return torch.jit.load(path)
    open_sizes = {axis: torch.export.Dim.AUTO for axis, varies in enumerate(is_open) if varies}
    exported = torch.export.export(module, (x,), dynamic_shapes=(open_sizes,), strict=False)
    torch.export.save(exported.run_decompositions() if way == "decomposed" else exported, path)
    return torch.export.load(path).module()


def assert_close(y: Any, expected: Tensor) -> None:
    wanted = expected.numpy()
    assert (y.dtype, y.shape) == (wanted.dtype, wanted.shape)
    if y.dtype.kind != "f":
        np.testing.assert_array_equal(y, wanted)
        return
    tolerance = 2e-2 if y.dtype == np.float16 else 1e-3
    scale = np.abs(wanted[np.isfinite(wanted)]).max(initial=1).astype(float)
    np.testing.assert_allclose(
        y.astype(float), wanted.astype(float), rtol=tolerance, atol=tolerance / 10 * scale
    )


def check(program: RandomProgram, way: str, path: Path, case: Case) -> None:
    """Compare the calls that torch and Onward both run; the first one runs unless the file is refused."""
    with case.skipping(Exception):  # what torch does not export, or only for constant sizes
        function = saved(program.module(), program.first, program.sizes.is_open, way, path)
    with case.skipping(OnwardError):
        model: Any = onward.load(path)
        model(program.first.numpy())
    for x in program.inputs(6):
        try:
            expected = function(x)
        except Exception:  # sizes for which torch has an error
            continue
        try:
            outputs = model(x.numpy())
        except OnwardError:
            assert 0 in x.shape or 1 in x.shape, "only degenerate sizes may be refused"
            continue
        for y, wanted in zip(outputs if isinstance(outputs, tuple) else (outputs,), expected, strict=True):
            assert_close(y, wanted)


@pytest.mark.parametrize("way", WAYS)
def test_a_random_program_gives_the_outputs_of_torch(way: str, tmp_path: Path) -> None:
    """swapaxes of an axis with itself exchanged the first two."""
    for case in counted_cases(25, most=0.2):
        with case, torch.no_grad():
            program = RandomProgram(case.seed)
            try:
                check(program, way, tmp_path / "m.pt2", case)
            except Exception as error:
                error.add_note(str(program))
                raise


@pytest.mark.parametrize(
    "way", ["exported", "traced"]
)  # decomposed, they have the dtype of the parts in torch
def test_parts_take_the_dtype_of_the_tensor_into_which_they_are_put(way: str, tmp_path: Path) -> None:
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    expected = saved(Scattered(), x, [True, False], way, tmp_path / "m.pt2")(x)
    model: Any = onward.load(tmp_path / "m.pt2")
    for y, wanted in zip(model(x.numpy()), expected, strict=True):
        assert_close(y, wanted)
