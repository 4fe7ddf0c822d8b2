"""Checkpoints: the complete state of a training run in one file, to resume it with the same bits."""

from __future__ import annotations  # np.random is slow to import

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core import storage
from ..core.arrays import FLOAT64, Array
from ..core.checks import LARGEST, integer, non_negative
from ..errors import FileError
from ..layers.base_model import BaseModel
from .history import Epoch, History
from .optimizers import Memory, Weights, trained

KIND = "checkpoint of Onward"
NOTHING = "nothing"
RESULTS = len(Epoch(0, 0.0, 0.0))  # of an epoch


@dataclass
class Run:
    """Everything that changes during a training, except the model's weights.

    average: the moving average of the weights. best: the weights with the lowest validation loss. batch: the
    number of batches done in the epoch. epoch_rng: the state of `rng` at the start of the epoch. total and
    count: the weighted sum of the epoch's losses so far, and of its weights. state: the model's state, for
    the next chunk. saved: whether the checkpoint file belongs to this run.
    """

    rng: np.random.Generator
    memory: Memory
    history: History = field(default_factory=History)
    average: Weights | None = None
    best: Weights | None = None
    batch: int = 0
    epoch_rng: Any = None
    total: float = 0.0
    count: float = 0.0
    state: Any = None
    saved: bool = False


def write(path: str | os.PathLike[str], model: BaseModel, run: Run, settings: Mapping[str, Any]) -> None:
    """Write a checkpoint, or leave the previous one intact if that fails. Raises FileError."""
    groups = {
        "weights": model.state_dict(),
        "average": run.average or {},
        "best": run.best or {},
        **run.memory.averages,
        "state": {str(number): part for number, part in enumerate(_parts(model, run.state))},
    }
    tensors = {f"{group}/{name}": array for group, named in groups.items() for name, array in named.items()}
    tensors |= {"losses": np.array(run.history.losses), "rates": np.array(run.history.rates)}
    tensors["epochs"] = np.array(run.history.epochs, np.float64).reshape(-1, RESULTS)  # NaN for None
    storage.write(
        path,
        {name: np.require(array, requirements="C") for name, array in tensors.items()},
        {
            "type": KIND,
            "settings": _all_settings(settings, run),
            "step": run.memory.step,
            "batch": run.batch,
            "total": run.total,
            "counted": run.count,
            "loss": run.history.loss,
            "rng": _plain(run.rng.bit_generator.state),
            "drawn": _plain(run.epoch_rng),
        },
    )


def read(
    path: str | os.PathLike[str], model: BaseModel, run: Run, settings: Mapping[str, Any], epochs: int
) -> Run:
    """Return the run in a checkpoint and set the model's weights; `run` is a new run of the same training.

    Raises FileError if the file is damaged or not a checkpoint, or if it belongs to another model, other data
    or other settings, or is already past `epochs`. The model is then unchanged.
    """
    tensors, header = _read(path)
    saved = header.get("settings")
    for name, value in _all_settings(settings, run).items():
        other = saved.get(name) if isinstance(saved, dict) else NOTHING
        if other != value:
            raise FileError(
                f"{path} was written with another {name}: {_difference(other, value)}; resume with the "
                "original value, or start again with resume=False"
            )
    groups: dict[str, dict[str, Array]] = {}
    for key, array in tensors.items():
        group, _, name = key.partition("/")
        groups.setdefault(group, {})[name] = array.copy()
    with _damage_named(path):
        resumed = _resumed(model, run, header, tensors, groups)
        weights, _ = model.checked_weights(groups["weights"])
    begun = len(resumed.history.epochs) + (resumed.batch > 0)
    if begun > epochs:
        raise FileError(f"{path} has reached epoch {begun}, but epochs={epochs}")
    model.take_weights({name: weight.copy() for name, weight in weights.items()})
    return resumed


def _resumed(
    model: BaseModel,
    run: Run,
    header: Mapping[str, Any],
    tensors: Mapping[str, NDArray[Any]],
    groups: Mapping[str, dict[str, Array]],
) -> Run:
    """Return the run that the arrays and the header of a file describe. Raises the errors of damage."""
    settings = header["settings"]
    batch = integer("batch", header["batch"], 0, settings["number of batches"] or LARGEST)
    history = _history(header, tensors)
    step = integer("step", header["step"], len(history.losses), len(history.losses))
    resumed = Run(
        _generator(run.rng, header["rng"]),
        Memory(step, {kind: groups[kind] for kind in run.memory.averages}),
        history,
        groups.get("average"),
        groups.get("best"),
        batch,
        header["drawn"],
        _number("total", header["total"]),
        non_negative("counted", header["counted"]),
        _state(model, groups.get("state", {})),
        saved=True,
    )
    if batch:
        _generator(run.rng, resumed.epoch_rng)
    elif resumed.total or resumed.count:
        raise ValueError("an epoch without a batch has a loss")
    expected = {name: (weight.shape, weight.dtype) for name, weight in trained(model).items()}
    for named in filter(None, (resumed.average, resumed.best, *resumed.memory.averages.values())):
        if {name: (array.shape, array.dtype) for name, array in named.items()} != expected:
            raise ValueError("an array does not have the shape and dtype of its weight")
    return resumed


@contextmanager
def _damage_named(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn the errors of reading a damaged file into FileError."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise FileError(f"{path} is a damaged checkpoint: {error}") from error


def _generator(like: np.random.Generator, state: Any) -> np.random.Generator:
    """Return a generator of the same kind in a state. Raises the errors of damage."""
    generator = type(like)(type(like.bit_generator)())
    generator.bit_generator.state = state
    return generator


def history(path: str | os.PathLike[str]) -> History:
    """Return the history in a checkpoint. Raises FileError."""
    tensors, header = _read(path)
    with _damage_named(path):
        return _history(header, tensors)


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    expected = "a checkpoint written by onward.train.fit or `onward train`"
    tensors, header = storage.read(path, expected=expected)
    if header is None or header.get("type") != KIND:
        raise FileError(f"{path} is not a checkpoint; expected {expected}")
    return tensors, header


def _history(header: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> History:
    losses, rates, rows = (tensors[name] for name in ("losses", "rates", "epochs"))
    if not losses.shape == rates.shape == (losses.size,) or {losses.dtype, rates.dtype} != {FLOAT64}:
        raise ValueError("losses and rates are not float64 arrays of one length")
    if rows.shape != (len(rows), RESULTS) or rows.dtype != FLOAT64:
        raise ValueError("the results of the epochs are not a float64 array with five columns")
    epochs = []
    for step, rate, loss, *scores in rows.tolist():
        whole = integer("step", int(step) if step.is_integer() else step, 0, losses.size)
        known = (None if score != score else score for score in scores)
        epochs.append(Epoch(whole, rate, loss, *known))
    label = header.get("loss", "unknown")
    if not isinstance(label, str) or len({epoch.validation_loss is None for epoch in epochs}) > 1:
        raise ValueError("the loss has no name, or only some epochs have a validation loss")
    return History(losses.tolist(), epochs, rates.tolist(), label)


def _number(name: str, value: Any) -> float:
    """Return a number of JSON, which may be NaN or infinite. Raises TypeError."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is {value!r:.40}, but must be a number")
    return float(value)


def _parts(model: BaseModel, state: Any) -> list[Array]:
    """Return the arrays of a model's state in order."""
    if state is None:
        return []
    return [part for own in model.split_states(state) for part in (own if isinstance(own, tuple) else (own,))]


def _state(model: BaseModel, group: Mapping[str, Array]) -> Any:
    """Return the state made of the arrays of `_parts`, by number. Raises LookupError, ValueError.

    The number of rows is that of the last batch, which may be smaller than the others.
    """
    if not group:
        return None
    parts = [group[str(number)] for number in range(len(group))]
    layers, rows = model.recurrent_sublayers(), parts[0].shape[1]
    expected = [(shape, layer.dtype) for layer in layers for shape in layer.state_shapes(rows)]
    if [(part.shape, part.dtype) for part in parts] != expected:
        raise ValueError("the arrays of the state do not have the shapes and dtypes of the model's state")
    remaining = iter(parts)
    states = [
        layer.join_state(next(remaining), next(remaining) if "c" in layer.state_names else None)
        for layer in layers
    ]
    return model.join_states(states)


def _all_settings(settings: Mapping[str, Any], run: Run) -> dict[str, Any]:
    return {**settings, "bit generator": type(run.rng.bit_generator).__name__}


def _plain(state: Any) -> Any:
    """Return a generator's state in JSON types."""
    if isinstance(state, dict):
        return {name: _plain(value) for name, value in state.items()}
    return state.tolist() if isinstance(state, np.ndarray) else state


def _difference(theirs: Any, ours: Any, place: str = "") -> str:
    """Describe the first difference between the settings of a checkpoint and those of a call."""
    if isinstance(theirs, list) and isinstance(ours, list):
        theirs, ours = ({f"[{n}]": value for n, value in enumerate(values)} for values in (theirs, ours))
    elif isinstance(theirs, dict) and isinstance(ours, dict):
        theirs, ours = ({f".{key}": value for key, value in values.items()} for values in (theirs, ours))
    else:
        shown = (text if len(text) <= 200 else text[:200] + "..." for text in map(str, (theirs, ours)))
        return (f"{place.removeprefix('.')}: " if place else "") + ", not ".join(shown)
    pairs = ((key, theirs.get(key, NOTHING), ours.get(key, NOTHING)) for key in ours | theirs)
    return next(_difference(their, our, place + key) for key, their, our in pairs if their != our)
