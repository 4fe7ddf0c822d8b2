"""Functions in TorchScript are as precise as in PyTorch for tiny, huge and half-precision numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.skips import counted_cases

import onward

pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns that TorchScript is deprecated

# of x (16, 8), whose magnitudes range from 1e-9 to 1
FUNCTIONS = """
x.expm1()
torch.expm1(x * 20)
x.log1p()
torch.special.xlog1py(x, x)
torch.special.xlogy(x, x.abs())
torch.nn.functional.elu(x)
torch.nn.functional.selu(x)
torch.nn.functional.celu(x, 0.7)
torch.nn.functional.gelu(x)
torch.nn.functional.silu(x)
torch.nn.functional.mish(x)
torch.nn.functional.softsign(x)
torch.nn.functional.softplus(x * 30)
torch.nn.functional.logsigmoid(x * 30)
torch.sigmoid(x * 30)
torch.tanh(x)
torch.sinh(x)
torch.asinh(x)
torch.atanh(x)
torch.sin(x)
torch.sin(x * 5000)
torch.tan(x)
torch.asin(x)
torch.atan(x)
torch.erf(x)
torch.lgamma(x)
torch.digamma(x)
torch.logaddexp(x * 20, -x * 20)
torch.logaddexp2(x * 20, -x * 20)
torch.logcumsumexp(x * 20, 1)
torch.logsumexp(x * 20, 1)
torch.log_softmax(x * 20, 1)
torch.hypot(x, x * 3)
torch.atan2(x, x * 3)
x.abs() ** 2.7
x.std(1)
x.norm(2.0, 1)
torch.nn.functional.normalize(x, dim=1)
torch.nn.functional.cosine_similarity(x, x * 2, 1)
torch.nn.functional.binary_cross_entropy(x.abs(), x.abs(), reduction="none")
torch.nn.functional.binary_cross_entropy_with_logits(x * 30, x.abs(), reduction="none")
""".strip().splitlines()
# of x (16, 8), whose results are finite numbers in the dtype, though squares or sums may exceed it
STATISTICS = """
x.std(1)
x.std()
(x.float() * 1e-14).std(1)
x.float().clamp(-1e18, 1e18).var(1)
x.half().clamp(-50, 50).var(1)
torch.std_mean(x, 1)[0]
torch.var_mean(x.float().clamp(-1e18, 1e18), 1)[0]
x.norm(2.0, 1)
x.mean(1)
x.logsumexp(1)
torch.hypot(x, x)
torch.nn.functional.normalize(x, dim=1)
torch.nn.functional.cosine_similarity(x, x, 1)
""".strip().splitlines()


def loaded(function: str, path: Path) -> tuple[Any, Any]:
    """The code as PyTorch and as Onward run it."""
    script = type("Code", (torch.jit.ScriptModule,), {})()
    script.define(f"def forward(self, x):\n    return {function}\n")
    script.save(str(path))
    return script, onward.load(path)


def relative_error(y: Any, exact: Any) -> Any:
    return np.abs(y.astype(np.float64) - exact) / np.maximum(np.abs(exact), 1e-37)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_functions_of_tiny_numbers_are_as_precise_as_those_of_torch(function: str, tmp_path: Path) -> None:
    script, model = loaded(function, tmp_path / "model.pt")
    for case in counted_cases(5, most=0):
        rng = np.random.default_rng(case.seed)
        x = (rng.choice([-1, 1], (16, 8)) * 10.0 ** rng.uniform(-9, 0, (16, 8))).astype(np.float32)
        with case:
            exact = script(torch.from_numpy(x).double()).numpy()
            theirs = relative_error(script(torch.from_numpy(x)).numpy(), exact)
            assert relative_error(model(x), exact).max() < max(2e-5, 20 * theirs.max())


@pytest.mark.parametrize("function", STATISTICS)
def test_statistics_are_finite_where_those_of_torch_are(function: str, tmp_path: Path) -> None:
    script, model = loaded(function, tmp_path / "model.pt")
    for case in counted_cases(6, most=0):
        rng = np.random.default_rng(case.seed)
        dtype, power = (
            (np.float32, rng.uniform(-16, 30)) if rng.integers(2) else (np.float16, rng.uniform(-3, 4))
        )
        x = (rng.standard_normal((16, 8)) * 10.0**power).astype(dtype)
        with case:
            expected, y = script(torch.from_numpy(x)).numpy(), model(x)
            assert y.dtype == expected.dtype
            scale = np.abs(expected[np.isfinite(expected)], dtype=np.float64).max(initial=0)
            rounding = np.finfo(dtype).eps
            np.testing.assert_allclose(y, expected, rtol=16 * rounding, atol=8 * rounding * scale)
