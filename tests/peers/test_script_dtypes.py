"""TorchScript that declares no dtypes computes with those of the arrays that it gets, as in PyTorch."""

from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
from support.skips import counted_cases
from torch import Tensor, nn

import onward

pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns that TorchScript is deprecated
DTYPES = (
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.float16, torch.float32, torch.float64),
)
OPERATORS: list[Callable[[Tensor], Tensor]] = [
    torch.diagonal, lambda x: torch.cat([x, x], 1), lambda x: torch.stack([x, x]), lambda x: x.flip(0),
    lambda x: x.unsqueeze(0).expand(2, *x.shape), lambda x: x.gather(0, torch.zeros(1, 3, dtype=torch.long)),
    lambda x: x.t(), lambda x: x.roll(1, 0), lambda x: x[1:], lambda x: x.repeat(2, 1), torch.tril,
    lambda x: x + x, lambda x: x * 3, lambda x: x / 2, lambda x: x + 1.5, lambda x: x == 1,
    lambda x: x.sum(0), lambda x: x.index_select(0, torch.tensor([1, 0])), lambda x: x.masked_fill(x == 1, 0),
    lambda x: torch.where(x == 1, x, x[:1]), lambda x: x.reshape(-1), lambda x: nn.functional.pad(x, (1, 0)),
    lambda x: torch.zeros_like(x), lambda x: x.new_ones(2, 3), lambda x: x.cumsum(0), lambda x: x.clone(),
    lambda x: x.amax(0), lambda x: x.sort(0)[0], lambda x: x.long() + 1, lambda x: x.to(torch.bool),
    lambda x: x + torch.scalar_tensor(3), lambda x: x * torch.scalar_tensor(2, dtype=torch.float64),
]  # fmt: skip


class Chain(nn.Module):
    def __init__(self, operators: list[Callable[[Tensor], Tensor]]) -> None:
        super().__init__()
        self.operators = operators

    def forward(self, x: Tensor) -> Tensor:
        for operator in self.operators:
            x = operator(x)
        return x


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@torch.no_grad()
def test_undeclared_inputs_keep_their_dtypes(dtype: torch.dtype, tmp_path: Path) -> None:
    rng, path = np.random.default_rng(DTYPES.index(dtype)), tmp_path / "model.pt"
    torch.manual_seed(0)
    x = (torch.randn(4, 3) * 2).to(dtype)
    for case in counted_cases(60):
        with case:
            module = Chain([OPERATORS[i] for i in rng.integers(len(OPERATORS), size=rng.integers(1, 4))])
            with case.skipping(RuntimeError, IndexError):  # PyTorch lacks the operator for this dtype or rank
                torch.jit.trace(module, x, check_trace=False).save(str(path))
                expected = torch.jit.load(str(path))(x).numpy()  # its numbers are tensors of float64
            actual = onward.load(path)(x.numpy())
            assert actual.dtype == expected.dtype and actual.shape == expected.shape
            np.testing.assert_allclose(actual, expected, rtol=2e-3 if dtype == torch.float16 else 1e-5)


@torch.no_grad()
def test_a_double_module_computes_in_float64(tmp_path: Path) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.GRU(5, 7, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.cell(x)[0]  # type: ignore[no-any-return]  # a tensor

    module, x = Recurrent().double().eval(), torch.randn(2, 6, 5).double()
    torch.jit.trace(module, x).save(str(tmp_path / "model.pt"))
    actual = onward.load(tmp_path / "model.pt")(x.numpy())
    assert actual.dtype == np.float64
    np.testing.assert_allclose(actual, module(x).numpy(), rtol=0, atol=1e-12)


class Listed(nn.Module):
    """Numbers of tensors in lists, by which others are multiplied, selected and cut."""

    def forward(self, x: Tensor, numbers: Tensor) -> Tensor:
        rows: list[list[int]] = numbers.tolist()
        return x[rows[0][1]] * rows[1][0] + x.sum(0) * len(rows[0])


def test_the_elements_of_a_tensor_are_nested_lists(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.jit.script(Listed()).save(path)
    model, rng = onward.load(path), np.random.default_rng(0)
    for rows, columns in ((2, 2), (3, 4)):
        x = rng.standard_normal((5, 3)).astype(np.float32)
        numbers = rng.integers(0, 5, (rows, columns))
        expected = torch.jit.load(path)(torch.from_numpy(x), torch.from_numpy(numbers))
        np.testing.assert_allclose(model(x, numbers), expected, rtol=1e-6)


@torch.no_grad()
def test_arrays_of_any_memory_and_byte_order_and_of_bfloat16_are_the_same_numbers(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 5), nn.Softsign(), nn.Linear(5, 3))
    torch.jit.script(module).save(str(path))
    for case in counted_cases(20, most=0):
        rng = np.random.default_rng(case.seed)
        x = rng.standard_normal((6, 4)).astype(ml_dtypes.bfloat16).astype(np.float32)
        unaligned = np.zeros(x.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(x.shape)
        unaligned[:] = x
        kinds = [
            *(x.astype(">f4"), x.astype(ml_dtypes.bfloat16), np.asfortranarray(x), x[::-1].copy()[::-1]),
            *(unaligned, np.repeat(x, 2, 1)[:, ::2], np.repeat(x[None], 3, 0)[1], x.tolist()),
        ]
        with case:
            expected = module(torch.from_numpy(x)).numpy()
            y = onward.load(path)(kinds[rng.integers(len(kinds))])
            assert y.dtype == np.float32
            np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


# Functions of x (4, 6), through complex numbers that branches and loops pass on.
COMPLEX = {
    "branch": "if bool(x.sum() > 0):\n        z = z * 2\n    else:\n        z = z + z",
    "side": "if bool(x.sum() > 0):\n        z = z * 2",
    "loop": "for i in range(x.size(0)):\n        z = z * 2",
    "front": "zs = [z]\n    for i in range(x.size(0)):\n        zs.insert(0, z * i)\n    z = torch.cat(zs)",
    "list": "zs = [z]\n    for i in range(x.size(0)):\n        zs.append(z * i)\n    z = torch.stack(zs)[2]",
}


@pytest.mark.parametrize("name", COMPLEX)
def test_complex_numbers_pass_branches_and_loops(name: str, tmp_path: Path) -> None:
    script = type("Code", (torch.jit.ScriptModule,), {})()
    script.define(
        f"def forward(self, x):\n    z = torch.fft.fft(x)\n    {COMPLEX[name]}\n    return z.abs(), z.real\n"
    )
    script.save(str(tmp_path / "model.pt"))
    model = onward.load(tmp_path / "model.pt")
    for sign in (1, -1):
        x = sign * torch.rand(4, 6)
        for actual, expected in zip(model(x.numpy()), script(x), strict=True):
            assert actual.shape == expected.shape
            np.testing.assert_allclose(actual, expected.numpy(), rtol=1e-4, atol=1e-4)


def test_numbers_that_are_complex_on_one_side_alone_are_not_taken_for_real_ones(tmp_path: Path) -> None:
    script = type("Code", (torch.jit.ScriptModule,), {})()
    script.define(
        "def forward(self, x):\n    z = torch.fft.fft(x)\n"
        "    if bool(x.sum() > 0):\n        z = torch.view_as_real(z)\n    return torch.real(z) * 2\n"
    )
    script.save(str(tmp_path / "model.pt"))
    with pytest.raises(onward.errors.ArgumentError, match="complex on one side"):
        onward.load(tmp_path / "model.pt")(np.ones((4, 6), np.float32))
