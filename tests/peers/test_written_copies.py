"""What a program writes into a copy must not change the tensor, and what it writes into a view must."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support.written_copies import STEPS, VIEWS, code, module
from torch.export import Dim

import onward

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("quiet_exporters")]


WAYS = [(view, how) for view in (*VIEWS, *STEPS) for how in ("scripted", "traced", "exported")]


@pytest.mark.parametrize(("view", "how"), [way for way in WAYS if way[0] in VIEWS or way[1] != "exported"])
def test_a_copy_does_not_share_the_memory_of_the_tensor(view: str, how: str, tmp_path: Path) -> None:
    example, path = torch.randn(3, 5, 4), tmp_path / ("m.pt2" if how == "exported" else "m.pt")
    if how == "scripted":
        script = type("Code", (torch.jit.ScriptModule,), {})()
        script.define(code(view))
        script.save(str(path))
    elif how == "traced":
        torch.jit.trace(module(view), example, check_trace=False).save(str(path))
    else:
        axes = ({0: Dim.AUTO, 1: Dim.AUTO},)
        torch.export.save(torch.export.export(module(view), (example,), dynamic_shapes=axes), path)
    model = onward.load(path)
    # torch.export assumes that no size is 1, where the order of the axes does not matter
    for shape in ((3, 5, 4), (2, 7, 4), *[(1, 4, 4), (3, 3, 4)] * (how != "exported")):
        x = torch.randn(shape)
        for actual, expected in zip(model(x.numpy()), module(view)(x), strict=True):
            np.testing.assert_allclose(actual, expected.numpy(), atol=1e-6)
