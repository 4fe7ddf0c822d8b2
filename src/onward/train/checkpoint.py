"""Checkpoints: all that a training is in the midst of, in a file from which it goes on bit for bit."""

from __future__ import annotations  # np.random is slow to import

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core import storage
from ..core.arrays import Array
from ..errors import FileError
from ..layers.base import Layer
from .history import Epoch, History
from .optimizers import Memory
from .weights import Weights, trained

KIND = "checkpoint of Onward"
NOTHING = "nothing"


@dataclass
class Run:
    """All that changes while a model is trained, its weights apart.

    batch: how many batches of the epoch are done; drawn: the state of `rng` when that epoch began; total and
    counted: its losses until now; state: the model's, carried on; average: the mean of the latest weights;
    best: the weights that validated best; kept: whether there is a checkpoint of it.
    """

    rng: np.random.Generator
    memory: Memory
    average: Weights | None = None
    best: Weights | None = None
    history: History = field(default_factory=History)
    batch: int = 0
    drawn: Any = None
    total: float = 0.0
    counted: int = 0
    state: Any = None
    kept: bool = False


def write(path: str | os.PathLike[str], model: Layer, run: Run, settings: Mapping[str, Any]) -> None:
    """Writes a checkpoint; until it is whole, the one that was there before stays. Raises FileError."""
    tensors: dict[str, NDArray[Any]] = {f"weights/{name}": w for name, w in model._weights_by_name().items()}
    for kind, named in {"average": run.average, "best": run.best, **run.memory.averages}.items():
        tensors |= {f"{kind}/{name}": array for name, array in (named or {}).items()}
    for number, part in enumerate(_parts(model, run.state)):
        tensors[f"state/{number}"] = part
    tensors["losses"] = np.array(run.history.losses, np.float64)
    tensors["rates"] = np.array(run.history.rates, np.float64)
    storage.write(
        path,
        {name: np.ascontiguousarray(array) for name, array in tensors.items()},
        {
            "type": KIND,
            "settings": _all_settings(settings, run),
            "step": run.memory.step,
            "batch": run.batch,
            "total": run.total,
            "counted": run.counted,
            "epochs": [list(epoch) for epoch in run.history.epochs],
            "rng": _plain(run.rng.bit_generator.state),
            "drawn": _plain(run.drawn),
        },
    )


def read(path: str | os.PathLike[str], model: Layer, run: Run, settings: Mapping[str, Any]) -> Run:
    """The run that a file holds, whose weights the model takes. `run` is one that has just begun.

    Raises FileError, which says what is wrong: a file that is not whole or no checkpoint, or one of another
    model or data, or of other settings. The model is then as it was.
    """
    tensors, said = _read(path)
    theirs = said.get("settings")
    for name, value in _all_settings(settings, run).items():
        other = theirs.get(name, NOTHING) if isinstance(theirs, dict) else NOTHING
        if other != value:
            raise FileError(
                f"{path} is of another {name}: {_difference(other, value)}; resume with what it was begun "
                "with, or begin anew"
            )
    groups: dict[str, dict[str, Array]] = {}
    for key, array in tensors.items():
        group, _, name = key.partition("/")
        groups.setdefault(group, {})[name] = array.copy()
    try:
        generator = type(run.rng)(type(run.rng.bit_generator)())
        generator.bit_generator.state = said["rng"]
        state = [groups["state"][str(n)] for n in range(len(groups["state"]))] if "state" in groups else None
        resumed = Run(
            generator,
            Memory(said["step"], {kind: groups[kind] for kind in run.memory.averages}),
            groups.get("average"),
            groups.get("best"),
            _history(said, tensors),
            said["batch"],
            said["drawn"],
            said["total"],
            said["counted"],
            _joined(model, state),
            kept=True,
        )
        for named in (resumed.average, resumed.best, *resumed.memory.averages.values()):
            _check_shapes(model, named)
        model.load_state_dict(groups["weights"])
    except (LookupError, TypeError, ValueError, StopIteration) as error:
        raise FileError(f"{path} is a checkpoint, but damaged: {error}") from error
    return resumed


def history(path: str | os.PathLike[str]) -> History:
    """The history in a checkpoint. Raises FileError."""
    tensors, said = _read(path)
    try:
        return _history(said, tensors)
    except (LookupError, TypeError, ValueError) as error:
        raise FileError(f"{path} is a checkpoint, but damaged: {error}") from error


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    tensors, said = storage.read(path)
    if said is None or said.get("type") != KIND:
        raise FileError(f"{path} is no checkpoint: expected a file that onward.train.fit wrote")
    return tensors, said


def _history(said: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> History:
    losses, rates = tensors["losses"], tensors["rates"]
    if not losses.shape == rates.shape == (losses.size,):
        raise ValueError("not every step has a loss and a learning rate")
    return History(losses.tolist(), [Epoch(*epoch) for epoch in said["epochs"]], rates.tolist())


def _check_shapes(model: Layer, named: Weights | None) -> None:
    expected = {name: weight.shape for name, weight in trained(model).items()}
    if named is not None and {name: array.shape for name, array in named.items()} != expected:
        raise ValueError("not all of its arrays have the shapes of the model's weights")


def _parts(model: Layer, state: Any) -> list[Array]:
    """The arrays of a model's state, in order."""
    if state is None:
        return []
    return [part for own in model.split_states(state) for part in (own if isinstance(own, tuple) else (own,))]


def _joined(model: Layer, parts: list[Array] | None) -> Any:
    """The state of the arrays of `_parts`."""
    if parts is None:
        return None
    left = iter(parts)
    layers = model.recurrent_sublayers()
    states = [
        layer.join_state(next(left), next(left) if "c" in layer.state_names else None) for layer in layers
    ]
    return model.join_states(states)


def _all_settings(settings: Mapping[str, Any], run: Run) -> dict[str, Any]:
    return {**settings, "bit generator": type(run.rng.bit_generator).__name__}


def _plain(state: Any) -> Any:
    """A generator's state, as JSON can hold it."""
    if isinstance(state, dict):
        return {name: _plain(value) for name, value in state.items()}
    return state.tolist() if isinstance(state, np.ndarray) else state


def _difference(theirs: Any, ours: Any, place: str = "") -> str:
    """The first place where two settings differ, and what each has there."""
    pairs: list[tuple[str, Any, Any]] = []
    if isinstance(theirs, dict) and isinstance(ours, dict):
        pairs = [
            (f"{place}.{key}", theirs.get(key, NOTHING), ours.get(key, NOTHING)) for key in ours | theirs
        ]
    elif isinstance(theirs, list) and isinstance(ours, list):
        longest = zip_longest(theirs, ours, fillvalue=NOTHING)
        pairs = [(f"{place}[{n}]", *pair) for n, pair in enumerate(longest)]
    for inner, their, our in pairs:
        if their != our:
            return _difference(their, our, inner)
    said = f"{_short(theirs)}, not {_short(ours)}"
    return f"{place.removeprefix('.')}: {said}" if place else said


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 200 else text[:200] + "..."
