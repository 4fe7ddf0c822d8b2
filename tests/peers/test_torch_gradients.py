"""Gradients against PyTorch's autograd, on the table of cases."""

import numpy as np
import pytest
import torch
from support import cases
from support.cases import CASES, GRADIENT_TOLERANCE, Case
from support.frameworks import torch_gradients

import onward
from onward import train


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize(
    "case", [case for case in CASES if case.cell != "gru_reset_before"], ids=lambda case: case.id
)
def test_gradients_are_those_of_autograd(case: Case) -> None:
    inputs = cases.inputs_of(case)
    mine, right = cases.gradients(case, inputs), torch_gradients(case, inputs)
    assert list(mine) == list(right)
    for name, gradient in mine.items():
        bound = GRADIENT_TOLERANCE[case.dtype] * np.abs(right[name]).max()
        np.testing.assert_allclose(gradient, right[name], rtol=0, atol=bound)


FUNCTIONS = {
    "elu": torch.nn.functional.elu,
    "gelu": torch.nn.functional.gelu,
    "hard_sigmoid": torch.nn.functional.hardsigmoid,
    "hard_swish": torch.nn.functional.hardswish,
    "leaky_relu": torch.nn.functional.leaky_relu,
    "mish": torch.nn.functional.mish,
    "relu": torch.nn.functional.relu,
    "relu6": torch.nn.functional.relu6,
    "selu": torch.nn.functional.selu,
    "sigmoid": torch.sigmoid,
    "silu": torch.nn.functional.silu,
    "softplus": torch.nn.functional.softplus,
    "softsign": torch.nn.functional.softsign,
    "tanh": torch.tanh,
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives_are_those_of_autograd_also_at_kinks(name: str, dtype: str) -> None:
    x = np.concatenate([np.linspace(-12, 12, 501), [-0.0, -3, 3, 6]]).astype(dtype)
    layer, leaf = onward.Activation(name), torch.tensor(x).requires_grad_()
    FUNCTIONS[name](leaf).sum().backward()
    dx, _, _ = layer.backward(np.ones_like(x), None, layer.forward(x)[2])
    # PyTorch's hardsigmoid multiplies by 1 / 6 in float32
    exact = dtype == "float64" and name != "hard_sigmoid"
    np.testing.assert_allclose(dx, leaf.grad.numpy(), rtol=0, atol=1e-14 if exact else 4e-6)


def test_a_model_with_norms_and_activations_trains_as_in_pytorch() -> None:
    """The weights after some steps of Adam are those of PyTorch."""
    rng = np.random.default_rng(0)
    net = onward.Sequential(
        onward.GRU(3, 6, rng=1, dtype="float64"), onward.LayerNorm(6, dtype="float64"),
        onward.Linear(6, 5, rng=2, dtype="float64"), onward.Activation("gelu"), onward.Last(),
        onward.Linear(5, 2, rng=3, dtype="float64"),
    )  # fmt: skip
    gru, norm, first, second = (
        torch.nn.GRU(3, 6),
        torch.nn.LayerNorm(6),
        torch.nn.Linear(6, 5),
        torch.nn.Linear(5, 2),
    )
    modules = torch.nn.ModuleDict({"0": gru, "1": norm, "2": first, "5": second}).double()
    modules.load_state_dict({name: torch.tensor(w) for name, w in net.state_dict().items()})
    adam = torch.optim.Adam(modules.parameters(), lr=0.02)
    x, targets = rng.standard_normal((7, 4, 3)), rng.standard_normal((4, 2))
    for _ in range(10):
        adam.zero_grad()
        y = second(torch.nn.functional.gelu(first(norm(gru(torch.tensor(x))[0])))[-1])
        torch.nn.functional.mse_loss(y, torch.tensor(targets)).backward()
        adam.step()
    train.fit(net, [(x, targets)], loss=train.mse, optimizer=train.Adam(0.02), epochs=10, progress=False)
    for name, weight in net.state_dict().items():
        np.testing.assert_allclose(weight, modules.state_dict()[name].numpy(), rtol=0, atol=1e-9)
