"""Programs of PyTorch 2 Export quantization, against PyTorch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.ao.quantization.fx._decomposed  # registers the operators
from support.exported_functions import Function
from support.randomized import random_cases
from torch import Tensor, nn

import onward

pytestmark = pytest.mark.usefixtures("quiet_exporters")
Q = torch.ops.quantized_decomposed
RANGES = {torch.int8: (-128, 127), torch.uint8: (0, 255), torch.int16: (-(1 << 15), (1 << 15) - 1)}
FLOATS = torch.float32, torch.float16, torch.float64


class RandomCase:
    """A function of random arrays with operators of one kind: of tensors, channels, rows or groups."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.shape = tuple(int(n) for n in self.rng.choice([1, 2, 3, 7, 8], size=self.rng.integers(1, 5)))
        self.dtype = list(RANGES)[self.rng.integers(3)]
        self.low, self.high = RANGES[self.dtype]
        if self.rng.random() < 0.3:  # a bit less, as for processors whose products would overflow
            self.low, self.high = self.low // 2, self.high // 2
        kinds = (
            *(self.of_tensors, self.of_tensors_in_tensors, self.of_channels, self.chosen, self.of_rows),
            *(self.of_groups, self.of_integers, self.of_integers_in_channels),
        )
        self.float = torch.float32
        self.function: Callable[..., Any] = kinds[seed % len(kinds)]()
        x = self.rng.normal(size=self.shape) * 10 ** self.rng.uniform(-2, 2)
        self.inputs = [torch.tensor(x, dtype=self.float)]

    def numbers(self, *shape: int) -> tuple[Tensor, Tensor]:
        """Random scales and zero points."""
        scales = torch.tensor(10 ** self.rng.uniform(-3, 0, shape))
        zero_points = torch.tensor(self.rng.integers(self.low, self.high + 1, shape))
        return (scales.float() if self.rng.random() < 0.5 else scales), zero_points

    def integers(self, *shape: int) -> Tensor:
        """Random integers, also of 32 bits."""
        dtype, low, high = self.dtype, self.low, self.high
        if self.rng.random() < 0.3:
            dtype, low, high = torch.int32, -(1 << 23), 1 << 23
        return torch.tensor(self.rng.integers(low, high + 1, shape)).to(dtype)

    def of_integers(self) -> Callable[..., Any]:
        """With zero points that the dtype may lack, and results of other dtypes."""
        q, scale = self.integers(*self.shape), float(self.rng.random())
        numbers = scale, int(self.rng.integers(-300, 300)), 0, 1, q.dtype
        return lambda x: (
            *(Q.dequantize_per_tensor(q, *numbers, out_dtype=dtype) for dtype in FLOATS),
            Q.dequantize_per_tensor(q, *numbers),
            x + 0,
        )

    def of_integers_in_channels(self) -> Callable[..., Any]:
        q, axis = self.integers(*self.shape), int(self.rng.integers(-len(self.shape), len(self.shape)))
        scales, _ = self.numbers(self.shape[axis])
        zero_points = torch.tensor(self.rng.integers(-300, 300, len(scales)))
        halves = zero_points.to(torch.float32) / 2
        return lambda x: (
            *(
                Q.dequantize_per_channel(q, scales, zeros, axis, 0, 1, q.dtype, out_dtype=dtype)
                for zeros in (zero_points, halves, None)
                for dtype in FLOATS
            ),
            x + 0,
        )

    def of_tensors(self) -> Callable[..., Any]:
        scales, zero_points = self.numbers()
        numbers = float(scales), int(zero_points), self.low, self.high, self.dtype
        self.float = FLOATS[self.rng.integers(2)]
        return lambda x: (
            (q := Q.quantize_per_tensor(x, *numbers)),
            Q.dequantize_per_tensor(q, *numbers),
            Q.dequantize_per_tensor(q, *numbers, out_dtype=torch.float16),
        )

    def of_tensors_in_tensors(self) -> Callable[..., Any]:
        scales, zero_points = self.numbers(1)
        ends = [torch.tensor(self.low), torch.tensor(self.high)]
        return lambda x: (
            (q := Q.quantize_per_tensor.tensor(x, scales, zero_points, self.low, self.high, self.dtype)),
            Q.dequantize_per_tensor.tensor(q, scales, zero_points, self.low, self.high, self.dtype),
            (q := Q.quantize_per_tensor.tensor2(x, scales, zero_points, *ends, self.dtype)),
            Q.dequantize_per_tensor.tensor2(q, scales, zero_points, *ends, self.dtype),
        )

    def of_channels(self) -> Callable[..., Any]:
        axis = int(self.rng.integers(len(self.shape)))
        scales, zero_points = self.numbers(self.shape[axis])
        numbers = axis, self.low, self.high, self.dtype
        return lambda x: (
            (q := Q.quantize_per_channel(x, scales, zero_points, *numbers)),
            Q.dequantize_per_channel(q, scales, zero_points, *numbers),
            Q.dequantize_per_channel(q, scales, None, *numbers),
        )

    def chosen(self) -> Callable[..., Any]:
        self.float = FLOATS[self.rng.integers(2)]
        choose = [Q.choose_qparams.tensor, Q.choose_qparams_symmetric.tensor][self.rng.integers(2)]

        def function(x: Tensor) -> Any:
            scale, zero_point = choose(x, self.low, self.high, 1e-5, self.dtype)
            numbers = scale, zero_point, self.low, self.high, self.dtype
            q = Q.quantize_per_tensor.tensor(x, *numbers)
            return scale, zero_point, q, Q.dequantize_per_tensor.tensor(q, *numbers)

        return function

    def of_rows(self) -> Callable[..., Any]:
        choose = [Q.choose_qparams_per_token, Q.choose_qparams_per_token_asymmetric][self.rng.integers(2)]

        def function(x: Tensor) -> Any:
            scales, zero_points = choose(x, torch.int8)
            q = Q.quantize_per_token(x, scales, zero_points, -128, 127, torch.int8)
            numbers = scales, zero_points, -128, 127, torch.int8
            return q, Q.dequantize_per_token(q, *numbers, torch.float32)

        return function

    def of_groups(self) -> Callable[..., Any]:
        rows, groups, size = (int(n) for n in self.rng.choice([1, 2, 3, 5], size=3))
        scales, zero_points = self.numbers(rows, groups)
        size += 1
        integers = torch.tensor(self.rng.integers(self.low, self.high + 1, (rows, groups * size)))
        numbers = self.low, self.high, self.dtype, size, torch.float32
        W = integers.to(self.dtype)
        given = zero_points if self.rng.random() < 0.7 else None
        return lambda x: (Q.dequantize_per_channel_group(W, scales, given, *numbers), x + 0)


@pytest.mark.parametrize("seed", range(random_cases(40)))
def test_integers_are_those_of_torch(seed: int, tmp_path: Path) -> None:
    case = RandomCase(seed)
    program = torch.export.export(Function(case.function), tuple(case.inputs))
    torch.export.save(program, tmp_path / "m.pt2")
    expected = case.function(*case.inputs)
    found = onward.load(tmp_path / "m.pt2")(*(x.numpy() for x in case.inputs))
    for y, z in zip(found, expected, strict=True):
        assert (y.shape, str(y.dtype)) == (tuple(z.shape), str(z.dtype).removeprefix("torch."))
        tolerance = 0.0 if z.dtype in RANGES else 1e-3 if z.dtype == torch.float16 else 1e-6
        np.testing.assert_allclose(y, z.numpy(), rtol=tolerance, atol=0)


class Network(nn.Module):
    """A convolution and a linear layer whose weights, and the inputs of which, are integers."""

    def __init__(self, scale_of_x: float, zero_point: int) -> None:
        super().__init__()
        for name, layer in {"conv": nn.Conv1d(3, 8, 3), "linear": nn.Linear(8, 17)}.items():
            W = layer.weight.detach()
            scales = W.abs().amax(tuple(range(1, W.ndim))) / 127
            integers = (W / scales.reshape(-1, *[1] * (W.ndim - 1))).round().to(torch.int8)
            self.register_buffer(f"{name}_weight", integers)
            self.register_buffer(f"{name}_scale", scales)
            self.register_buffer(f"{name}_zero", torch.zeros(len(W), dtype=torch.int64))
            self.register_buffer(f"{name}_bias", layer.bias.detach())
        self.numbers = scale_of_x, zero_point, 0, 255, torch.uint8

    def weight(self, name: str) -> Any:
        parts = (getattr(self, f"{name}_{part}") for part in ("weight", "scale", "zero"))
        return Q.dequantize_per_channel(*parts, 0, -127, 127, torch.int8)

    def rounded(self, x: Tensor) -> Any:
        return Q.dequantize_per_tensor(Q.quantize_per_tensor(x, *self.numbers), *self.numbers)

    def forward(self, x: Tensor) -> Any:
        y = nn.functional.conv1d(self.rounded(x), self.weight("conv"), self.conv_bias)
        y = self.rounded(torch.relu(y).transpose(1, 2))
        return nn.functional.linear(y, self.weight("linear"), self.linear_bias)


@torch.no_grad()
def test_products_of_integers_are_computed_as_such(tmp_path: Path) -> None:
    module, x = Network(0.03, 110), torch.randn(2, 3, 9)
    torch.export.save(torch.export.export(module, (x,)), tmp_path / "m.pt2")
    model = onward.load(tmp_path / "m.pt2")
    np.testing.assert_allclose(model(x.numpy()), module(x).numpy(), rtol=0, atol=1e-5)
    (program,) = model.programs
    names = [name for name, _ in program.steps]
    assert names.count("integer_product") == 2 and "product" not in names
