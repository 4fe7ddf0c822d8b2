"""The layers beyond torch.nn against step loops in PyTorch, with autograd, and exported to onnxruntime."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.recurrences import RECURRENCES, Kind, joined, random_state

import onward

torch = pytest.importorskip("torch")
onnxruntime = pytest.importorskip("onnxruntime")
F = torch.nn.functional
EACH = pytest.mark.parametrize("kind", RECURRENCES.values(), ids=RECURRENCES)
T, B = 12, 3


def min_gru(layer: Any, w: Any, x: Any, state: Any) -> Any:
    z, n = F.linear(x, w["weight_ih"], w.get("bias_ih")).chunk(2, 1)
    if layer.positive:
        n = torch.where(n >= 0, n + 0.5, n.sigmoid())
    h = torch.lerp(state[0], n, z.sigmoid())
    return h, (h,)


def lru(layer: Any, w: Any, x: Any, state: Any) -> Any:
    eigenvalues = torch.polar(torch.exp(-torch.exp(w["nu_log"])), torch.exp(w["theta_log"]))
    B, C = torch.complex(*w["weight_ih"].chunk(2)), torch.complex(*w["weight_ho"].chunk(2, 1))
    entering = torch.exp(w["gamma_log"]) * (x.to(B.dtype) @ B.T)
    s = eigenvalues * torch.complex(*state) + entering
    return (s @ C.T).real + w["D"] * x, (s.real, s.imag)


def rg_lru(layer: Any, w: Any, x: Any, state: Any) -> Any:
    r, i = F.linear(x, w["weight_ih"], w.get("bias_ih")).sigmoid().chunk(2, 1)
    a = w["Lambda"].sigmoid().pow(layer.exponent * r)
    h = a * state[0] + torch.sqrt(1 - a.square()) * i * x
    return h, (h,)


def layer_norm_lstm(layer: Any, w: Any, x: Any, state: Any) -> Any:
    def norm(x: Any, name: str) -> Any:
        return F.layer_norm(x, x.shape[1:], w[f"norm_{name}.weight"], w[f"norm_{name}.bias"], layer.eps)

    sums = norm(x @ w["weight_ih"].T, "ih") + norm(state[0] @ w["weight_hh"].T, "hh") + w.get("bias_ih", 0)
    i, f, g, o = sums.chunk(4, 1)
    c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
    read = norm(c, "c")
    h = o.sigmoid() * read.tanh()
    return h, (h, read if layer.normalized_state else c)


def s_lstm(layer: Any, w: Any, x: Any, state: Any) -> Any:
    i, f, z, o = (x @ w["weight_ih"].T + state[0] @ w["weight_hh"].T + w.get("bias_ih", 0)).chunk(4, 1)
    c, n, m = state[1].chunk(3, 1)
    log_f = (F.logsigmoid(f) if layer.forget_gate == "sigmoid" else f) + m
    new = torch.where(n == 0, i, torch.maximum(log_f, i))
    i, f = torch.exp(i - new), torch.exp(log_f - new)
    c, n = f * c + i * z.tanh(), f * n + i
    h = o.sigmoid() * c / n
    return h, (h, torch.cat([c, n, new], 1))


def selective_scan(layer: Any, w: Any, x: Any, state: Any) -> Any:
    sizes = [layer.rank, layer.state_size, layer.state_size]
    low, B, C = (x @ w["x_proj.weight"].T).split(sizes, 1)
    delta = F.softplus(F.linear(low, w["dt_proj.weight"], w["dt_proj.bias"]))
    kept = torch.exp(torch.einsum("bd,dn->bdn", delta, -torch.exp(w["A_log"])))
    h = kept * state[0] + torch.einsum("bd,bn,bd->bdn", delta, B, x)
    return torch.einsum("bdn,bn->bd", h, C) + w["D"] * x, (h,)


def gated_delta_rule(layer: Any, w: Any, x: Any, state: Any) -> Any:
    heads, K, V = layer.num_heads, layer.head_size, layer.value_size
    q, k, v, a, b = (x @ w["weight_ih"].T).split([heads * K, heads * K, heads * V, heads, heads], 1)
    q, k, v = (each.unflatten(1, (heads, -1)) for each in (q, k, v))
    q, k = (each * torch.rsqrt(each.square().sum(-1, keepdim=True) + layer.eps) for each in (q, k))
    alpha = torch.exp(-torch.exp(w["A_log"]) * F.softplus(a + w["dt_bias"]))
    S = alpha[..., None, None] * state[0]
    written = b.sigmoid()[..., None] * (v - torch.einsum("bhkv,bhk->bhv", S, k))
    S = S + torch.einsum("bhk,bhv->bhkv", k, written)
    return torch.einsum("bhkv,bhk->bhv", S, q).flatten(1), (S,)


STEPS = {
    "MinGRU": min_gru,
    "LRU": lru,
    "RGLRU": rg_lru,
    "LayerNormLSTM": layer_norm_lstm,
    "sLSTM": s_lstm,
    "SelectiveScan": selective_scan,
    "GatedDeltaRule": gated_delta_rule,
}


@EACH
@pytest.mark.parametrize("zeros", [True, False])
def test_outputs_and_gradients_equal_those_of_autograd(kind: Kind, zeros: bool) -> None:
    layer, rng = kind.layer(dtype="float64"), np.random.default_rng(3)
    x = rng.standard_normal((T, B, layer.input_size))
    state = random_state(layer, rng, B)
    if zeros:
        state = tuple(np.zeros_like(part) for part in state)
    weights = {name: torch.tensor(w, requires_grad=True) for name, w in layer.state_dict().items()}
    inputs = [torch.tensor(array, requires_grad=True) for array in (x, *state)]
    steps, own = [], tuple(part[0] for part in inputs[1:])
    for x_t in inputs[0]:
        y_t, own = STEPS[type(layer).__name__](layer, weights, x_t, own)
        steps.append(y_t)
    expected = [torch.stack(steps), *(part[None] for part in own)]
    dy, *dafter = (rng.standard_normal(y.shape) for y in expected)
    sum((y * torch.tensor(d)).sum() for y, d in zip(expected, (dy, *dafter), strict=True)).backward()

    y, after, cache = layer.forward(x, joined(layer, state))
    dx, dstate, gradients = layer.backward(dy, joined(layer, tuple(dafter)), cache)
    found = [y, *arrays_of(after), dx, *arrays_of(dstate), *gradients.values()]
    wanted = [*expected, *(each.grad for each in (*inputs, *weights.values()))]
    for array, tensor in zip(found, wanted, strict=True):
        np.testing.assert_allclose(array, tensor.detach().numpy(), rtol=1e-8, atol=1e-9)


# onnxruntime has no Softplus of float64
DOUBLE = ["MinGRU", "LRU", "LayerNormLSTM", "sLSTM exponential"]
EXPORTED = [(name, "float32") for name in RECURRENCES] + [(name, "float64") for name in DOUBLE]


@pytest.mark.parametrize(("name", "dtype"), EXPORTED)
@pytest.mark.parametrize("lengths", [False, True])
def test_exported_layers_run_in_onnxruntime(name: str, dtype: str, lengths: bool, tmp_path: Path) -> None:
    layer, rng = RECURRENCES[name].layer(dtype=dtype, batch_first=True), np.random.default_rng(4)
    x = rng.standard_normal((B, T, layer.input_size)).astype(dtype)
    state, ends = random_state(layer, rng, B), np.array([T, 5, 0], np.int32)
    layer.export_onnx(tmp_path / "layer.onnx", lengths=lengths)
    session = onnxruntime.InferenceSession(os.fspath(tmp_path / "layer.onnx"))
    given = [x, *([ends] if lengths else []), *state]
    named = {each.name: array for each, array in zip(session.get_inputs(), given, strict=True)}
    y, after = layer(x, joined(layer, state), lengths=ends if lengths else None)
    tolerance = {"float32": 2e-5, "float64": 1e-11}[dtype]
    for found, expected in zip(session.run(None, named), (y, *arrays_of(after)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@EACH
def test_files_of_every_kind_have_the_bits_of_the_layer(kind: Kind, tmp_path: Path) -> None:
    layer, rng = kind.layer(), np.random.default_rng(5)
    x = rng.standard_normal((T, B, layer.input_size)).astype(np.float32)
    y, _ = layer(x)
    for name in ("layer.onnx", "layer.safetensors", "layer.onward"):
        write = {"onnx": layer.export_onnx, "safetensors": layer.save, "onward": layer.compile}
        write[name.split(".")[1]](tmp_path / name)
        model: Any = onward.load(tmp_path / name)
        np.testing.assert_array_equal(model.stream(batch=B)(x), y)
    c = layer.export_c(tmp_path / "layer.c", stream=True)
    assert c.outputs


def arrays_of(state: Any) -> tuple[Any, ...]:
    return state if isinstance(state, tuple) else (state,)
