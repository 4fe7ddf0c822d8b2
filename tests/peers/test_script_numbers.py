"""Functions of numbers in TorchScript, which returns floats and rounds where Python does not."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support.script_numbers import code
from support.skips import counted_cases

import onward

pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns that TorchScript is deprecated


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_numbers_have_the_value_and_type_of_torch(first: int, tmp_path: Path) -> None:
    for case in counted_cases(50, first):
        with case:
            random, path = np.random.default_rng(case.seed), tmp_path / "model.pt"
            source, script = code(random), type("Code", (torch.jit.ScriptModule,), {})()
            with case.skipping(RuntimeError):  # the function takes no numbers of this type
                script.define(source)
            script.save(str(path))
            model = onward.load(path)
            for shape in ((3, 5), (4, 2)):
                x = random.standard_normal(shape).astype(np.float32)
                expected, actual = script(torch.from_numpy(x)).numpy(), model(x)
                assert actual.dtype == expected.dtype, source
                np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5, err_msg=source)
