"""TorchScript that declares no dtypes computes with those of the arrays that it gets, as in PyTorch."""

from collections.abc import Callable
from pathlib import Path

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
