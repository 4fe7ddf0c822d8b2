"""TorchScript archives keep weights apart and in order, however they lie in memory."""

import copy
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from support.randomized import random_cases
from torch import Tensor, nn

import onward

pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns that TorchScript is deprecated
WIDTH = 12
# LayerNorm magnifies rounding errors of expanded weights; other weights would change whole numbers
TOLERANCES = {torch.float32: 1e-3, torch.float64: 1e-9, torch.bfloat16: 1e-3, torch.float16: 0.2}


def transposed(w: Tensor) -> Tensor:
    order = list(range(w.ndim))[::-1]
    return torch.randn([w.shape[axis] for axis in order]).permute(order)


def sliced(w: Tensor) -> Tensor:
    return torch.randn([2 * size + 1 for size in w.shape])[tuple(slice(1, None, 2) for _ in w.shape)]


def expanded(w: Tensor) -> Tensor:
    return torch.randn(1, *w.shape[1:]).expand(w.shape)


LAYOUTS: list[Callable[[Tensor], Tensor]] = [torch.randn_like, transposed, sliced, expanded]


class Scale(nn.Module):
    """A matrix, and two buffers that are parts of one storage."""

    def __init__(self) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.randn(WIDTH, WIDTH))
        both = torch.randn(2, WIDTH)
        self.register_buffer("first", both[0])
        self.register_buffer("second", both[1])

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x @ self.W) * self.first + self.second


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.cell = kind(WIDTH, WIDTH, num_layers=2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.cell(x)
        return y


class Convolution(nn.Module):
    def __init__(self, rank: int) -> None:
        super().__init__()
        kind = nn.Conv1d if rank == 1 else nn.Conv2d
        self.convolution = kind(WIDTH, WIDTH, 3, padding=1)
        self.rank = rank

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        x = x if self.rank == 1 else x.unsqueeze(-1)
        y = torch.tanh(self.convolution(x))
        return (y if self.rank == 1 else y.squeeze(-1)).transpose(1, 2)


LAYERS: list[Callable[[], nn.Module]] = [
    lambda: nn.Linear(WIDTH, WIDTH), lambda: nn.LayerNorm(WIDTH), Scale, lambda: Convolution(1),
    lambda: Convolution(2), lambda: Recurrent(nn.GRU), lambda: Recurrent(nn.LSTM),
]  # fmt: skip


def random_module(rng: np.random.Generator, ties: float) -> nn.Module:
    """Return a chain of layers whose weights have random layouts; some are tied."""
    layers = [LAYERS[rng.integers(len(LAYERS))]() for _ in range(rng.integers(2, 6))]
    known: dict[torch.Size, nn.Parameter] = {}
    for layer in layers:
        for part in [each for each in layer.modules() if not isinstance(each, nn.RNNBase)]:
            for name, parameter in list(part.named_parameters(recurse=False)):
                if rng.random() < ties and parameter.shape in known:
                    setattr(part, name, known[parameter.shape])
                    continue
                changed = nn.Parameter(LAYOUTS[rng.integers(len(LAYOUTS))](parameter.detach()) / 2)
                setattr(part, name, changed)
                known[parameter.shape] = changed
    module = nn.Sequential(*layers)
    return module.to(memory_format=torch.channels_last) if rng.random() < 0.3 else module


@pytest.mark.parametrize("how", ["traced", "scripted", "frozen"])
@pytest.mark.parametrize("dtype", list(TOLERANCES), ids=str)
@torch.no_grad()
def test_weights_of_any_layout_stay_apart(dtype: torch.dtype, how: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(list(TOLERANCES).index(dtype))
    torch.manual_seed(0)
    for _ in range(random_cases(12)):
        ties = 0.2 * (how != "traced")  # torch refuses to trace them
        module = random_module(rng, ties).to(dtype).eval()
        x = torch.randn(2, 5, WIDTH).to(dtype)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = (
                torch.jit.trace(module, x, check_trace=False)
                if how == "traced"
                else (torch.jit.script(module))
            )
            program = torch.jit.freeze(program) if how == "frozen" else program
            program.save(str(tmp_path / "model.pt"))
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        expected = copy.deepcopy(module).to(wide)(x.to(wide)).numpy()
        given = x.float() if dtype == torch.bfloat16 else x
        actual = onward.load(tmp_path / "model.pt")(given.numpy())
        np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCES[dtype], err_msg=str(module))
