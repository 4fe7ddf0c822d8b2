"""Gradients against PyTorch's autograd, on the table of cases."""

from typing import Any

import cases
import numpy as np
import pytest
import torch
from cases import CASES, Case
from frameworks import torch_module

TOLERANCE = {"float32": 1e-4, "float64": 1e-10}


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize(
    "case", [case for case in CASES if case.cell != "gru_reset_before"], ids=lambda case: case.id
)
def test_gradients_are_those_of_autograd(case: Case) -> None:
    inputs, layer = cases.inputs_of(case), cases.layer_of(case, batch_first=False)
    layer.load_state_dict(inputs.weights)
    rng = np.random.default_rng(0)
    y, state, cache = layer.forward(inputs.x, state_of(inputs.h0, inputs.c0), lengths=inputs.lengths)
    final = state if isinstance(state, tuple) else (state,)
    dy, *dfinal = (rng.standard_normal(part.shape).astype(case.dtype) for part in (y, *final))
    dx, dstate, gradients = layer.backward(dy, state_of(*dfinal), cache)

    peer = torch_module(case, batch_first=False)
    peer.load_state_dict({name: torch.from_numpy(weight) for name, weight in inputs.weights.items()})
    leaves = [torch.tensor(inputs.x)]
    leaves += [torch.tensor(a) for a in (inputs.h0, inputs.c0) if a is not None]
    for leaf in leaves:
        leaf.requires_grad_()
    x = leaves[0]
    if inputs.lengths is not None:
        x = torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor(inputs.lengths), enforce_sorted=False)
    peer_y, peer_state = peer(x, state_of(*leaves[1:]))
    if inputs.lengths is not None:
        peer_y, _ = torch.nn.utils.rnn.pad_packed_sequence(peer_y, total_length=case.T)
    ends = peer_state if isinstance(peer_state, tuple) else (peer_state,)
    loss = sum((a * torch.tensor(d)).sum() for a, d in zip((peer_y, *ends), (dy, *dfinal), strict=True))
    loss.backward()
    right = {name: weight.grad for name, weight in peer.named_parameters()}
    assert list(gradients) == list(right)
    mine = [dx, *(dstate if isinstance(dstate, tuple) else (dstate,))][: len(leaves)]
    for one, other in zip(
        [*mine, *gradients.values()], [*(leaf.grad for leaf in leaves), *right.values()], strict=True
    ):
        bound = TOLERANCE[case.dtype] * np.abs(other.numpy()).max()
        np.testing.assert_allclose(one, other.numpy(), rtol=0, atol=bound)


def state_of(h: Any = None, c: Any = None) -> Any:
    return h if c is None else (h, c)
