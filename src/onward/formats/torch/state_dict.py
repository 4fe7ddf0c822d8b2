"""Find the state dicts in a pickled value, and merge them into one with torch.nn's names.

They are dicts of tensors, at any depth, and whole modules. Merging undoes wrappers, weight norms and cells.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core import budget
from ...core.identity import Identity
from ...errors import ArgumentError, FileError
from ...layers.rnn import GRU, LSTM, RNN
from .archive import Archive
from .unpickle import PickledObject

MAX_DEPTH = 64
MAX_NAME = 1000
RECURRENT = re.compile(r"(weight_ih|weight_hh|weight_hr|weight_peephole|bias_ih|bias_hh)_l(\d+)(_reverse)?")
CELL = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
CELLS: dict[int, type[RNN] | type[GRU] | type[LSTM]] = {1: RNN, 3: GRU, 4: LSTM}
MAX_NESTED = 4  # the most modules nested in a cell
# torch.nn.utils.parametrize: the tensors from which a weight is computed
PARAMETRIZED = re.compile(r"(?:(.*)\.)?parametrizations\.(\w+)\.(\w+)(?:\..*)?")
Tensors = Mapping[str, NDArray[Any]]


@dataclass
class StateDict:
    """Tensors by name, and the attributes and `class` of each pickled module by prefix.

    `doubts` gives, for some prefixes, the reason why tensors may not belong to the layer that their names
    suggest. `others` are the paths of all other tensors in the file.
    """

    tensors: dict[str, NDArray[Any]] = field(default_factory=dict)
    modules: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    doubts: dict[str, str] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)

    @property
    def records_options(self) -> bool:
        """Whether the file records the options of recurrent layers that are otherwise arguments of `load`."""
        return any(options.keys() >= {"mode", "batch_first"} for options in self.modules.values())


Found = Mapping[tuple[str, ...], StateDict]  # by the keys that lead to each


def state_dicts(archive: Archive) -> dict[tuple[str, ...], StateDict]:
    """All state dicts of a file, by the keys that lead to each. Raises FileError."""
    finder = _Finder(archive)
    if not finder.take((), (), archive.tree):
        finder.look_into(archive.tree, ())
    finder.look_into(archive.constants, ("constants",))
    return finder.found


class _Finder:
    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.found: dict[tuple[str, ...], StateDict] = {}
        self.above: list[Any] = []  # the containers being searched, which may contain themselves
        self.barren: set[Identity] = set()  # containers without tensors, which may occur many times
        self.tensors = 0

    def look_into(self, value: Any, path: tuple[str, ...]) -> None:
        """Find the tensors among a container's entries and below them."""
        if (module := _module(value)) is not None:
            self.look_into_module(module, path, ())
            return
        before = self.tensors
        for name, child in self.within(value):
            if not self.take(path, (name,), child):
                self.look_into(child, (*path, name))
        if self.tensors == before:
            self.barren.add(Identity(value))

    def look_into_module(self, module: PickledObject, path: tuple[str, ...], prefix: tuple[str, ...]) -> None:
        scripted = module.path.startswith("__torch__")
        attributes = _dict(module.state)
        _charge_visit(len(attributes))
        own = attributes if scripted else _dict(attributes["_parameters"]) | _dict(attributes["_buffers"])
        children = attributes if scripted else _dict(attributes["_modules"])
        options = {**attributes, "class": module.path}
        self.found.setdefault(path, StateDict()).modules[_joined(prefix)] = options
        for name, tensor in self.within(own):
            self.take(path, (*prefix, name), tensor)
        for name, child in self.within(children):
            if (inner := _module(child)) is not None:
                self.look_into_module(inner, path, (*prefix, name))

    def within(self, value: Any) -> Iterator[tuple[str, Any]]:
        """The entries of a container by name; none for other values and for containers being searched."""
        if Identity(value) in self.barren or any(value is other for other in self.above):
            return
        entries = value if isinstance(value, dict) else {}
        if isinstance(value, list | tuple):
            entries = dict(enumerate(value))
        elif isinstance(value, PickledObject):
            entries = _dict(value.entries) | _dict(value.state) | dict(enumerate(value.elements or ()))
        if not entries:
            return
        _charge_visit(len(entries))
        if len(self.above) > MAX_DEPTH:
            raise FileError(f"the file has more than {MAX_DEPTH} levels")
        self.above.append(value)
        for place, (key, child) in enumerate(entries.items()):
            # a key that cannot be part of a name is replaced by its position
            yield str(key) if isinstance(key, str | int) else str(place), child
        self.above.pop()

    def take(self, path: tuple[str, ...], names: tuple[str, ...], value: Any) -> bool:
        """Keep the value and return True if it is a tensor."""
        if not isinstance(value, PickledObject):
            return False
        match value.state:
            case (_, str() as kind) if value.path == "torch.ScriptObject":
                self.found.setdefault(path, StateDict()).modules[_joined(names)] = {"class": kind}
                return True
        try:
            tensor = self.archive.array(value)
        except FileError as error:
            raise FileError(f"{_joined(path + names) or 'the value'}: {error}") from error
        if tensor is None:
            return False
        full_name, name = _joined(path + names), _joined(names)
        budget.spend(20 * budget.STEP)
        self.tensors += 1
        budget.take(len(full_name) + len(name) + 4 * budget.OBJECT)
        tensors = self.found.setdefault(path, StateDict()).tensors
        if name in tensors:
            raise FileError(f"two tensors have the name {full_name}")
        tensors[name] = tensor
        return True


def _charge_visit(entries: int) -> None:
    """Charge for a copy of the entries of a container: any number of others may refer to it."""
    budget.spend(5 * budget.STEP * (1 + entries))
    budget.take(2 * budget.OBJECT * (1 + entries))


def _joined(names: tuple[str, ...]) -> str:
    if sum(map(len, names)) > MAX_NAME:
        raise FileError(f"the name {names[0][:60]}... has more than {MAX_NAME} characters")
    return ".".join(names)


def _module(value: Any) -> PickledObject | None:
    """The module itself, or the one that torch.compile wrapped; None for other values."""
    match value:
        case PickledObject("torch._dynamo.eval_frame.OptimizedModule", (PickledObject() as compiled, *_)):
            value = compiled
    if not isinstance(value, PickledObject) or not isinstance(value.state, dict):
        return None
    pickled = value.state.keys() >= {"_parameters", "_buffers", "_modules"}
    return value if pickled or value.path.startswith("__torch__.") else None


def _dict(value: Any) -> dict[Any, Any]:
    """A dict, the entries of a subclass of OrderedDict, or an empty dict for other values."""
    if isinstance(value, PickledObject):
        value = value.entries
    return value if isinstance(value, dict) else {}


def merged(found: Found, trusted: bool = False) -> StateDict:
    """Merge the state dicts that contain layers; if there are several, their paths become prefixes.

    Removes the prefixes of wrappers, computes weights from weight_g and weight_v (or a parametrization's
    originals), and renames the weights of a recurrent cell to those of a one-layer RNN. A cell that may not
    be torch.nn's is renamed only if the names are `trusted`.
    """
    cleaned = {path: _cleaned(state_dict, trusted) for path, state_dict in found.items()}
    holding = [path for path, state_dict in cleaned.items() if _holds_a_layer(state_dict)]
    same = takewhile(lambda keys: len(set(keys)) == 1, zip(*holding, strict=False))
    shared = len(list(same))
    result = StateDict()
    for path, state_dict in cleaned.items():
        if path not in holding:
            result.others += [".".join((*path, name)) for name in state_dict.tensors]
            continue
        before = "".join(f"{key}." for key in path[shared:])
        for name, tensor in state_dict.tensors.items():
            full_name = before + name
            if full_name in result.tensors:
                raise ArgumentError(f"two tensors have the name {full_name}")
            result.tensors[full_name] = tensor
        result.modules |= {(before + key).removesuffix("."): each for key, each in state_dict.modules.items()}
        result.doubts |= {(before + key).removesuffix("."): each for key, each in state_dict.doubts.items()}
    return result


def _holds_a_layer(state_dict: StateDict) -> bool:
    return bool(state_dict.modules or state_dict.doubts) or any(
        RECURRENT.fullmatch(_last(name)) or (_last(name) == "weight" and tensor.ndim >= 2)
        for name, tensor in state_dict.tensors.items()
    )


def _doubts(tensors: Tensors) -> dict[str, str]:
    """Reasons why weights may not belong to the layer that their names suggest: tensors beside or below them.

    Weights without a prefix have every other tensor of the file beside them. For a cell, whose names anyone
    might choose, tensors in its submodules are a reason too.
    """
    doubts = {}
    prefixes = {name.rpartition(".")[0] for name in tensors if RECURRENT.fullmatch(_last(name))} - {""}
    prefixes |= {name.rpartition(".")[0] for name in tensors if _last(name) == "weight_hh"}
    for name in tensors:
        made = _last(name).removesuffix("_orig")
        if match := PARAMETRIZED.fullmatch(name):
            doubts[match[1] or ""] = f"{match[2]} has a parametrization other than weight_norm: {name}"
        elif name.endswith("_orig") and (made in ("weight", "bias", *CELL) or RECURRENT.fullmatch(made)):
            why = f"{name} comes from pruning or spectral_norm: remove that before saving"
            doubts[name.rpartition(".")[0]] = why
        elif not RECURRENT.fullmatch(_last(name)) and _last(name) not in CELL:
            *modules, _ = name.rsplit(".", MAX_NESTED)
            above = {".".join(modules[:count]) for count in range(len(modules) + 1) if modules}
            for prefix in above & prefixes - doubts.keys():
                doubts[prefix] = f"a recurrent layer, but with {name}, which such a layer does not have"
    return doubts


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _cleaned(state_dict: StateDict, trusted: bool) -> StateDict:
    """Remove the prefixes that DataParallel (module.) and torch.compile (_orig_mod.) add to names."""

    def unwrapped(name: str) -> str:
        return ".".join(part for part in name.split(".") if part != "_orig_mod")

    names = {name: unwrapped(name) for name in state_dict.tensors}
    modules = {prefix: unwrapped(f"{prefix}.") for prefix in state_dict.modules}
    while names and all(name.startswith("module.") for name in names.values()):
        names, modules = (
            {key: name.removeprefix("module.") for key, name in each.items() if name.startswith("module.")}
            for each in (names, modules)
        )
    if len(set(names.values())) < len(names):
        raise ArgumentError("two tensors have the same name without the prefix _orig_mod.")
    tensors = _with_norms({names[key]: tensor for key, tensor in state_dict.tensors.items()})
    options = {name.removesuffix("."): state_dict.modules[key] for key, name in modules.items()}
    doubts = {name: doubt for name, doubt in _doubts(tensors).items() if name not in options}
    unknown = doubts.keys() | {prefix for prefix, module in options.items() if not is_from_torch(module)}
    return StateDict(_with_cells(tensors, set() if trusted else unknown), options, doubts)


def _with_norms(tensors: Tensors) -> dict[str, NDArray[Any]]:
    """Replace each length g and direction v by the weight that they define."""
    matches = [match for match in map(PARAMETRIZED.fullmatch, tensors) if match]
    chained = {match.group(1, 2) for match in matches if match[3].isdecimal()}
    result, spent = {}, set()
    for name, g in tensors.items():
        weight = direction = ""
        match = PARAMETRIZED.fullmatch(name)
        if match and match[3] == "original0" and match.end(3) == len(name):
            weight, direction = ".".join(filter(None, match.group(1, 2))), f"{name[:-1]}1"
        elif _last(name).startswith("weight") and name.endswith("_g"):
            weight, direction = name[:-2], f"{name[:-1]}v"
        v = tensors.get(direction)
        if v is None or weight in tensors or not _are_norms(g, v) or (match and match.group(1, 2) in chained):
            result[name] = g
            continue
        if weight in result:
            raise ArgumentError(f"{weight} has two weight norms")
        result[weight] = _scaled(g, v)
        spent.add(direction)
    return {name: tensor for name, tensor in result.items() if name not in spent}


def _are_norms(g: NDArray[Any], v: NDArray[Any]) -> bool:
    """Whether g has one length per index of one axis of v, or a single length."""
    kept = [n for n in g.shape if n != 1]
    fits = g.ndim == v.ndim and all(n in (1, size) for n, size in zip(g.shape, v.shape, strict=True))
    return v.ndim > 1 and len(kept) < 2 and (g.ndim == 0 or fits)


def _scaled(g: NDArray[Any], v: NDArray[Any]) -> NDArray[Any]:
    """g v / |v|, with the norm over the axes along which g is constant."""
    axes = tuple(axis for axis in range(v.ndim) if g.ndim == 0 or g.shape[axis] == 1)
    with np.errstate(all="ignore"):
        wide = v.astype(np.float64)
        norm = np.sqrt(np.sum(wide * wide, axis=axes, keepdims=True))
        weight: NDArray[Any] = wide * (g / norm)
    return weight.astype(v.dtype)


def _with_cells(tensors: dict[str, NDArray[Any]], unknown: set[str]) -> dict[str, NDArray[Any]]:
    """Give the weights of RNNCell, LSTMCell and GRUCell a layer's names, except in `unknown` modules."""

    def name_in_layer(name: str) -> str:
        before, dot, last = name.rpartition(".")
        ih, hh = (tensors.get(before + dot + weight) for weight in CELL[:2])
        if last not in CELL or ih is None or hh is None or f"{name}_l0" in tensors or before in unknown:
            return name
        fits = ih.ndim == hh.ndim == 2 and len(ih) == len(hh) in [gates * hh.shape[1] for gates in CELLS]
        return f"{name}_l0" if fits else name

    return {name_in_layer(name): tensor for name, tensor in tensors.items()}


def is_from_torch(options: Mapping[str, Any]) -> bool:
    """Whether the file records that a module is one of torch.nn's."""
    return bool(options) and options["class"].removeprefix("__torch__.").startswith("torch.nn.")
