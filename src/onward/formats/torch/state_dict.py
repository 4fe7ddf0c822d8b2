"""Find the state dicts in a pickled value: dicts of tensors, at any depth, and whole pickled modules."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from ...errors import FileError
from .archive import Archive
from .unpickle import PickledObject

MAX_ENTRIES, MAX_TENSORS = 2_000_000, 30_000
MAX_DEPTH = 64
MAX_NAME = 1000


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
        self.barren: set[int] = set()  # containers without tensors, which may occur many times
        self.entries = self.tensors = 0

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
            self.barren.add(id(value))

    def look_into_module(self, module: PickledObject, path: tuple[str, ...], prefix: tuple[str, ...]) -> None:
        scripted = module.path.startswith("__torch__")
        attributes = _dict(module.state)
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
        if id(value) in self.barren or any(value is other for other in self.above):
            return
        entries = value if isinstance(value, dict) else {}
        if isinstance(value, list | tuple):
            entries = dict(enumerate(value))
        elif isinstance(value, PickledObject):
            entries = _dict(value.entries) | _dict(value.state) | dict(enumerate(value.elements or ()))
        if not entries:
            return
        self.entries += len(entries)
        if self.entries > MAX_ENTRIES or len(self.above) > MAX_DEPTH:
            raise FileError(f"the file has more than {MAX_ENTRIES} values, or more than {MAX_DEPTH} levels")
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
        self.tensors += 1
        if self.tensors > MAX_TENSORS:
            raise FileError(f"the file has more than {MAX_TENSORS} tensors: {full_name} is one too many")
        tensors = self.found.setdefault(path, StateDict()).tensors
        if name in tensors:
            raise FileError(f"two tensors have the name {full_name}")
        tensors[name] = tensor
        return True


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
