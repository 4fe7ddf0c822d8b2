"""Functions of special numbers give what torch gives: signed zeros, NaN, infinities, and ends of ranges."""

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.extremes import extremes, integer_extremes
from support.randomized import random_cases
from support.skips import Cases

import onward

pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns that TorchScript is deprecated
ROWS: dict[str, str] = {  # functions of x and y, by what draws these
    "floats": """
        abs(x) neg(x) sign(x) ceil(x) floor(x) round(x) trunc(x) frac(x) sqrt(x) rsqrt(x) exp(x) expm1(x)
        log(x) log1p(x) tanh(x) sigmoid(x) erf(x) relu(x) reciprocal(x) isnan(x) isinf(x) isfinite(x)
        nan_to_num(x) logit(x) square(x) atan(x) asinh(x) sinh(x) cosh(x) heaviside(x,y)
        x+y x-y x*y x/y x//y x**2 x**3 x**-1 x**-2 x**0.5 x**-0.5 2**x maximum(x,y) minimum(x,y) fmax(x,y)
        fmin(x,y) atan2(x,y) hypot(x,y) xlogy(x,y) copysign(x,y) where(x>y,x,y) x<y x>=y x==y
        isclose(x,y) x.clamp(2,-2) x.softmax(1) x.log_softmax(0) x.logsumexp(1) x.cumsum(1) x.cumprod(1)
        x.cummax(1)[0]
        x.max(1)[1] x.argmin(1) x.amax(1) x.any(1) x.nansum(1) x.sort(1)[0] x.topk(3,1)[0] x.median(1)[0]
        x.nanmedian(1)[0] x.count_nonzero(1)
        bucketize(x,tensor([-1.0,0.0,1.0])) bucketize(x,tensor([-1.0,0.0,1.0]),right=True)
        nn.functional.max_pool1d(x,2) nn.functional.avg_pool1d(x,2) nn.functional.leaky_relu(x)
        nn.functional.softplus(x) nn.functional.elu(x) nn.functional.hardtanh(x) nn.functional.softshrink(x)
        """,
    "integers": """
        x+y x-y x*y x/y x.square() x**2 x**3 x**(y.clamp(0,9)) -x x.abs() x.sign() ~x x&y x|y x^y x<<3 x>>3
        x.sum(1) x.prod(1) x.cumsum(1) x.cumprod(1) x.amax(1) x.argmax(1) x.max(1)[1] x.min(1)[1] x.float()
        x!=0 x.to(int8) x.to(uint8) x.to(int32) x.clamp(2,-2) x.clamp(-3,5) x.sort(1)[0] x.topk(3,1)[0]
        x.median(1)[0] x.diff(dim=1) maximum(x,y) x<y x*0.5 div(x,2,rounding_mode='trunc') fmod(x,y*2+1) x%3
        """,
}

# functions of x and y with small results, for which a difference of larger numbers is not precise
SMALL = """
    erfc(x) special.ndtr(x*0.5) expm1(x) log1p(x) sigmoid(x) tanh(x) sinh(x) asinh(x) exp2(x)
    hypot(x,y) xlogy(x,y) special.xlog1py(x,y) special.entr(x)
    nn.functional.logsigmoid(x) nn.functional.softplus(x) nn.functional.silu(x)
    nn.functional.mish(x) nn.functional.elu(x) nn.functional.selu(x) nn.functional.softsign(x)
    """
PRECISION = {"float64": 1e-7, "float32": 2e-5, "float16": 1e-2}


def drawn(kind: str, seed: int) -> Any:
    """Special numbers without denormals, which Onward takes for zeros."""
    if kind != "floats":
        return integer_extremes(["int64", "int32", "int8", "uint8"][seed // 2 % 4], 6, 7, seed=seed)
    x, rng = extremes(np.float32, 6, 7, seed=seed), np.random.default_rng(seed)
    x = np.where(rng.random(x.shape) < 0.3, rng.integers(-9, 10, x.shape) / 2, x).astype(np.float32)
    return np.where(np.abs(x) < 1e-30, np.copysign(np.float32(0), x), x)


def code(function: str) -> str:
    """Return the code of a function, in which names other than x, y and methods are those of torch."""
    return re.sub(r"(?<![.\w'])(?!x\b|y\b|dim=|right=|rounding)([a-z]\w*)", r"torch.\1", function)


@pytest.mark.parametrize("kind", ROWS)
def test_special_numbers_give_the_results_of_torch(kind: str, tmp_path: Path) -> None:
    cases = Cases()
    for place, function in enumerate(ROWS[kind].split()):
        script: Any = type("Code", (torch.jit.ScriptModule,), {})()
        script.define(f"def forward(self, x, y):\n    return {code(function)}\n")
        script.save(tmp_path / "m.pt")
        model = onward.load(tmp_path / "m.pt")
        for seed in range(place, place + 2 * random_cases(2), 2):
            x, y = drawn(kind, seed), drawn(kind, seed + 1)
            y = y.astype(x.dtype)
            with cases.new(seed):
                expected = script(torch.from_numpy(x), torch.from_numpy(y)).numpy()
                with np.errstate(all="ignore"):
                    result = model(x, y)
                    near = np.isclose(result, expected, rtol=1e-5, atol=1e-6, equal_nan=True)
                assert result.dtype == expected.dtype, function
                assert near.all(), (function, x, y, result[~near], expected[~near])
    cases.check()


def test_small_results_are_as_precise_as_large_ones(tmp_path: Path) -> None:
    """erfc(x) was 1 - erf(x), which is 0 from 4 on."""
    cases = Cases()
    for place, function in enumerate(SMALL.split()):
        script: Any = type("Code", (torch.jit.ScriptModule,), {})()
        script.define(f"def forward(self, x, y):\n    return {code(function)}\n")
        script.save(tmp_path / "m.pt")
        model = onward.load(tmp_path / "m.pt")
        for seed, (dtype, precision) in itertools.product(range(random_cases(2)), PRECISION.items()):
            rng = np.random.default_rng([place, seed])
            signs, sizes = rng.choice([-1, 1], (2, 5, 9)), 10 ** rng.uniform(-3, 1, (2, 5, 9))
            x, y = (signs * sizes).astype(dtype)
            with cases.new(seed):
                expected = script(torch.from_numpy(x).double(), torch.from_numpy(y).double()).numpy()
                normal = np.isfinite(expected) & (np.abs(expected) > 4 * np.finfo(dtype).tiny)
                result = model(x, y)[normal]
                np.testing.assert_allclose(result, expected[normal], precision, err_msg=function)
    cases.check()
