"""Time an LSTM's gradients in Onward, PyTorch and JAX: same weights and inputs, interleaved in one run.

    python bench/train.py                       # the whole grid
    python bench/train.py --only "50, 32, 128"  # one T, B, H

One call computes the forward and backward pass, with the gradients of all weights and of x, in float32, with
I = H, on one thread. Outputs and gradients are compared before timing. The whole grid ends with an epoch of a
character model over a million random characters.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import report
from peers import Cell, Outputs, Problem, Run, interleaved, problem, set_threads

import onward
from onward import train
from onward.recipes import text
from onward.recipes.characters import LEARNING_RATE, MAX_NORM, character_model, chunks
from onward.train.batches import Chunks

GRID = ((100, 1, 64), (100, 1, 256), (50, 32, 64), (50, 32, 128), (100, 32, 256), (100, 32, 512),
        (35, 20, 650))  # fmt: skip
PEERS = ["torch", "jax"]
HIDDEN, LAYERS = 256, 2  # sizes of the character model
TOLERANCE = 1e-4  # relative to an array's maximum: float32 sums of up to 4096 terms in different orders


@contextmanager
def one_core() -> Iterator[None]:
    """Limit libraries that start one thread per core and have no option for it, such as JAX."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    yield
    os.sched_setaffinity(0, cores)


def output_gradient(p: Problem) -> np.ndarray:
    """Return dy, the same for all libraries."""
    return np.random.default_rng(8).standard_normal(p.x.shape).astype(np.float32)


def run_onward(p: Problem, threads: int) -> tuple[Run, Any]:
    layer = onward.LSTM(p.x.shape[2], p.state[0].shape[2])
    layer.load_state_dict(p.weights)
    dy = output_gradient(p)

    def run() -> Outputs:
        onward.set_num_threads(threads)
        y, _, cache = layer.forward(p.x, p.state)
        dx, _, gradients = layer.backward(dy, None, cache)
        return [y, dx, *gradients.values()]

    return run, lambda result: result


def run_torch(p: Problem) -> tuple[Run, Any]:
    import torch

    module = torch.nn.LSTM(p.x.shape[2], p.state[0].shape[2])
    module.load_state_dict({name: torch.from_numpy(weight) for name, weight in p.weights.items()})
    x, state = torch.from_numpy(p.x).requires_grad_(), tuple(map(torch.from_numpy, p.state))
    inputs, dy = [x, *module.parameters()], torch.from_numpy(output_gradient(p))

    def run() -> Any:
        y, _ = module(x, state)
        return [y.detach(), *torch.autograd.grad(y, inputs, dy)]

    return run, lambda result: [tensor.numpy() for tensor in result]


def run_jax(p: Problem) -> tuple[Run, Any]:
    """Compute the input projection of all steps at once, then a scan, as JAX users write it."""
    with one_core():
        import jax
        from jax import numpy as jnp

        jnp.zeros(()).block_until_ready()  # starts the threads

    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    weights, dy = [jnp.asarray(p.weights[name]) for name in names], jnp.asarray(output_gradient(p))
    x, h0, c0 = jnp.asarray(p.x), *(jnp.asarray(part[0]) for part in p.state)

    def lstm(x: Any, W: Any, R: Any, b_W: Any, b_R: Any) -> Any:
        def step(state: Any, z: Any) -> Any:
            h, c = state
            i, f, g, o = jnp.split(z + h @ R.T, 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        return jax.lax.scan(step, (h0, c0), x @ W.T + b_W + b_R)[1]

    @jax.jit
    def gradients(*inputs: Any) -> Any:
        y, backward = jax.vjp(lstm, *inputs)
        return [y, *backward(dy)]

    return lambda: jax.block_until_ready(gradients(x, *weights)), lambda result: list(map(np.asarray, result))


def agreeing(makers: dict[str, tuple[Run, Any]], tolerance: float) -> dict[str, Run]:
    """Return the call of each library, after checking that all results agree with Onward's."""
    results = {name: outputs(run()) for name, (run, outputs) in makers.items()}
    for name, theirs in results.items():
        for mine, other in zip(results["onward"], theirs, strict=True):
            agree = np.abs(mine - other).max() <= tolerance * np.abs(mine).max()
            assert agree, f"{name} disagrees with onward"
    return {name: run for name, (run, _) in makers.items()}


def contestants(p: Problem) -> dict[str, Run]:
    makers = {
        "onward": run_onward(p, 1),
        "onward, two threads": run_onward(p, 2),
        "torch": run_torch(p),
        "jax": run_jax(p),
    }
    return agreeing(makers, TOLERANCE)


# ---- A character model: Embedding, LSTM (2 x 256), Linear; T 100, B 32; Adam, gradients clipped ------------


def train_in_torch(model: onward.Sequential, data: Chunks) -> tuple[Run, Any]:
    """Run the same training loop as `onward.train.fit`, from the same weights."""
    import torch
    from torch import nn

    vocabulary, width = model.state_dict()["0.weight"].shape
    embedding, lstm = nn.Embedding(vocabulary, width), nn.LSTM(width, HIDDEN, LAYERS)
    layers = nn.ModuleList([embedding, lstm, nn.Dropout(0), nn.Linear(HIDDEN, vocabulary)])
    layers.load_state_dict({name: torch.from_numpy(weight) for name, weight in model.state_dict().items()})

    def run() -> Any:
        optimizer, state = torch.optim.Adam(layers.parameters(), LEARNING_RATE), None
        for x, y, *_ in data.epoch(None):
            h, state = lstm(embedding(torch.from_numpy(x)), state)
            state = tuple(part.detach() for part in state)
            logits = layers[3](layers[2](h)).flatten(0, 1)
            loss = nn.functional.cross_entropy(logits, torch.from_numpy(y.reshape(-1)))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(layers.parameters(), MAX_NORM)
            optimizer.step()
            loss.item()
        return layers

    return run, lambda layers: [weight.numpy() for weight in layers.state_dict().values()]


def train_in_onward(model: onward.Sequential, data: Chunks, threads: int) -> tuple[Run, Any]:
    def run() -> onward.Sequential:
        onward.set_num_threads(threads)
        adam = train.Adam(LEARNING_RATE)
        train.fit(model, data, optimizer=adam, max_norm=MAX_NORM, epochs=1, progress=False)
        return model

    return run, lambda model: list(model.state_dict().values())


def epoch(measured: report.Report, steps: int, rounds: int) -> None:
    """Time a few steps of each library in turn; the time of a whole epoch follows."""
    letters = [chr(code) for code in range(32, 97)]
    characters = "".join(np.random.default_rng(0).choice(letters, 1_000_000))
    vocabulary = text.Vocabulary(characters)
    whole, some = (chunks(vocabulary, part, 32) for part in (characters, characters[: steps * 3200 + 1]))
    models = [character_model(vocabulary, HIDDEN, LAYERS, 0.0, rng=0) for _ in range(3)]
    makers = {
        "onward": train_in_onward(models[0], some, 1),
        "onward, two threads": train_in_onward(models[1], some, 2),
        "torch": train_in_torch(models[2], some),
    }
    runs = agreeing(makers, 0.01)
    times = interleaved(runs, rounds, 0)
    seconds = {name: time / 1e6 / some.size * whole.size for name, time in times.items()}
    measured.add("epoch", steps=whole.size, **seconds, ratio=times["torch"] / times["onward"])


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--only", default="", help='one T, B, H of the grid, such as "50, 32, 128"')
    options = parser.parse_args()
    rounds = 1 if options.quick else 7
    set_threads(1, PEERS)
    measured = report.Report(options, PEERS)
    for T, B, H in GRID:
        if options.only not in ("", f"{T}, {B}, {H}") or (options.quick and T * B * H > 300_000):
            continue
        times = interleaved(contestants(problem(Cell("lstm", T, B, H, 1))), rounds, 0.1)
        ratio = min(times[peer] for peer in PEERS) / times["onward"]
        gain = times["onward"] / times["onward, two threads"]
        measured.add("gradients", T=T, B=B, H=H, **times, ratio=ratio, two_threads=gain)
    if not options.only:
        epoch(measured, 2, rounds)


if __name__ == "__main__":
    main()
