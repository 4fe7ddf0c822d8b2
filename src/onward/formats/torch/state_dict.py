"""State dicts, wherever in a pickled value they are: as dicts of tensors, or as modules pickled whole."""

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from ...errors import FileError
from .archive import Archive
from .unpickle import Record

MAX_ENTRIES, MAX_TENSORS = 2_000_000, 30_000
MAX_DEPTH = 64
MAX_NAME = 1000
MAX_CODE = 1 << 20
CLASS = re.compile(r"^class (\w+)\(Module\):$", re.MULTILINE)
CONSTANT = re.compile(r"^  (\w{1,64}) : Final\[[\w\[\], ]{1,64}\] = (.{1,64})$", re.MULTILINE)
LITERALS = {"True": True, "False": False, "None": None}
FORWARD = re.compile(r"def forward\(self(?:: [\w.]+)?,\s+(\w+): Tensor\)")
# What a traced call says of its module, by the arguments that the function has in that place.
TRACED = (
    r"(?P<mode>lstm|gru|rnn_tanh|rnn_relu)\(.*, (?P<bias>BOOL), (?P<num_layers>INTEGER), "
    r"(?P<dropout>NUMBER), BOOL, (?P<bidirectional>BOOL), (?P<batch_first>BOOL)",
    # before a convolution or an embedding, which then are not what they take for themselves
    r'pad\(\w+, LIST, (?P<padding_mode>"\w{1,9}")(?:, \w+)?',
    r"embedding_renorm_\(torch\.detach\(\w+\), \w+, (?P<max_norm>NUMBER), NUMBER",
    r"_convolution\((?P<input>\w+), ARGUMENTS, (?P<stride>LIST), (?P<padding>LIST), (?P<dilation>LIST), "
    r"False, LIST, (?P<groups>INTEGER), BOOL, BOOL, BOOL, BOOL",
    r"_convolution_mode\((?P<input>\w+), ARGUMENTS, (?P<stride>LIST), "
    r'(?P<padding>"\w{1,9}"), (?P<dilation>LIST), (?P<groups>INTEGER)',
    r"batch_norm\(ARGUMENTS, False, (?P<momentum>NUMBER), (?P<eps>NUMBER), BOOL",
    r"layer_norm\(\w+, (?P<normalized_shape>LIST), \w+(?:, \w+)?(?:, (?P<eps>NUMBER)(?:, BOOL)?)?",
    r"group_norm\(\w+, (?P<num_groups>INTEGER), \w+, \w+(?:, (?P<eps>NUMBER)(?:, BOOL)?)?",
    r"max_pool[12]d\(\w+, (?P<kernel_size>LIST), (?P<stride>LIST), (?P<padding>LIST), (?P<dilation>LIST)"
    r"(?:, (?P<ceil_mode>BOOL))?",
    r"avg_pool[12]d\(\w+, (?P<kernel_size>LIST), (?P<stride>LIST), (?P<padding>LIST)"
    r"(?:, (?P<ceil_mode>BOOL)(?:, (?P<count_include_pad>BOOL))?)?",
    r"softplus\(\w+, (?P<beta>NUMBER), (?P<threshold>NUMBER)",
    r"hardtanh_?\(\w+, (?P<min_val>NUMBER), (?P<max_val>NUMBER)",
    r"leaky_relu_?\(\w+, (?P<negative_slope>NUMBER)",
    r"elu_?\(\w+, (?P<alpha>NUMBER)",
    r'gelu\(\w+, approximate=(?P<approximate>"\w{1,9}")',
    r"softmax\(\w+, (?P<dim>-?INTEGER)",
)
PLACES = {
    "ARGUMENTS": r"[\w, ]{1,200}",
    "BOOL": "(?:True|False)",
    "INTEGER": r"\d{1,9}",
    "NUMBER": r"[\d.e-]{1,32}",
    "LIST": r"\[[\d, ]{1,64}\]",
}


@functools.cache
def traced_calls() -> list[re.Pattern[str]]:
    """TRACED, compiled when first needed: that takes longer than importing most of Onward."""
    return [
        re.compile(rf"torch\.{re.sub('[A-Z]{4,}', lambda place: PLACES[place[0]], call)}\)$")
        for call in TRACED
    ]


@dataclass
class StateDict:
    """Tensors by name; and of modules pickled whole, by prefix, their `class` and attributes.

    `doubts` says of prefixes why their tensors may be those of no layer, whatever their names.
    """

    tensors: dict[str, NDArray[Any]] = field(default_factory=dict)
    modules: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    doubts: dict[str, str] = field(default_factory=dict)

    @property
    def answers(self) -> bool:
        """Whether it says itself what `load` would be told of recurrent layers."""
        return any(said.keys() >= {"mode", "batch_first"} for said in self.modules.values())


def state_dicts(archive: Archive) -> dict[tuple[str, ...], StateDict]:
    """All of a file, by the keys that lead to each. Raises FileError."""
    finder = _Finder(archive)
    if not finder.take((), (), archive.tree):
        finder.look_into(archive.tree, ())
    finder.look_into(archive.constants, ("constants",))
    return finder.found


class _Finder:
    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.found: dict[tuple[str, ...], StateDict] = {}
        self.above: list[Any] = []  # what holds itself is looked into once
        self.barren: set[int] = set()  # as is what holds no tensor, however often it is there
        self.entries = self.tensors = 0
        self.code: dict[str, dict[str, Mapping[str, Any]]] = {}  # what it says of each class, by file

    def look_into(self, value: Any, path: tuple[str, ...]) -> None:
        """Finds the tensors among a container's entries, and further down."""
        if (module := _module(value)) is not None:
            self.look_into_module(module, path, ())
            return
        before = self.tensors
        for name, child in self.within(value):
            if not self.take(path, (name,), child):
                self.look_into(child, (*path, name))
        if self.tensors == before:
            self.barren.add(id(value))

    def look_into_module(self, module: Record, path: tuple[str, ...], prefix: tuple[str, ...]) -> None:
        scripted = module.path.startswith("__torch__")
        attributes = _dict(module.state)
        own = attributes if scripted else _dict(attributes["_parameters"]) | _dict(attributes["_buffers"])
        children = attributes if scripted else _dict(attributes["_modules"])
        constants = self.code_constants(module.path) if scripted else {}
        said = {**attributes, **constants, "class": module.path}
        self.found.setdefault(path, StateDict()).modules[_joined(prefix)] = said
        for name, tensor in self.within(own):
            self.take(path, (*prefix, name), tensor)
        for name, child in self.within(children):
            if (inner := _module(child)) is not None:
                self.look_into_module(inner, path, (*prefix, name))

    def within(self, value: Any) -> Iterator[tuple[str, Any]]:
        """The entries of a container by name; nothing of anything else, nor of what is being looked into."""
        if not isinstance(value, dict | list | tuple | Record) or id(value) in self.barren:
            return
        entries = _entries(value)
        if not entries or any(value is other for other in self.above):
            return
        self.entries += len(entries)
        if self.entries > MAX_ENTRIES or len(self.above) > MAX_DEPTH:
            raise FileError(f"it holds more than {MAX_ENTRIES} values, or nests more than {MAX_DEPTH} deep")
        self.above.append(value)
        for place, (key, child) in enumerate(entries.items()):
            # a key that says nothing in a name gives way to its place
            yield str(key) if isinstance(key, str | int) else str(place), child
        self.above.pop()

    def take(self, path: tuple[str, ...], names: tuple[str, ...], value: Any) -> bool:
        """Whether a value is a tensor, which is then kept."""
        if not isinstance(value, Record):
            return False
        match value.state:
            case (_, str() as kind) if value.path == "torch.ScriptObject":
                self.found.setdefault(path, StateDict()).modules[_joined(names)] = {"class": kind}
                return True
        try:
            tensor = self.archive.array(value)
        except FileError as error:
            raise FileError(f"{_joined(path + names) or 'its value'}: {error}") from error
        if tensor is None:
            return False
        full_name, name = _joined(path + names), _joined(names)
        self.tensors += 1
        if self.tensors > MAX_TENSORS:
            raise FileError(f"{full_name}: it is one tensor more than {MAX_TENSORS}")
        tensors = self.found.setdefault(path, StateDict()).tensors
        if name in tensors:
            raise FileError(f"{full_name} is there twice")
        tensors[name] = tensor
        return True

    def code_constants(self, path: str) -> Mapping[str, Any]:
        """What the code of a TorchScript class says of it: constants, or the options of a traced call."""
        file, _, name = path.rpartition(".")
        if file not in self.code:
            code = self.archive.code(file.replace(".", "/") + ".py")[:MAX_CODE]
            _, *names_and_bodies = CLASS.split(code)
            each = zip(names_and_bodies[::2], names_and_bodies[1::2], strict=True)
            self.code[file] = {class_name: _constants(body) for class_name, body in each}
        return self.code[file].get(name, {})


def _constants(code: str) -> Mapping[str, Any]:
    if constants := {key: _literal(text) for key, text in CONSTANT.findall(code)}:
        return constants
    given = FORWARD.search(code)
    for line in code.splitlines():
        for call in traced_calls():
            if match := call.search(line):
                said = {name: text for name, text in match.groupdict().items() if text is not None}
                # of what else was made of the input before, the call says nothing
                direct = "input" not in said or (given is not None and said.pop("input") == given[1])
                return {name: _literal(text) for name, text in said.items()} if direct else {}
    return {}


def _literal(text: str) -> Any:
    """A number, a string, or a tuple of either, as TorchScript writes it."""
    if text in LITERALS:
        return LITERALS[text]
    if text[0] in "([":
        return tuple(_literal(item.strip()) for item in text[1:-1].split(",") if item.strip())
    try:
        return int(text) if text.removeprefix("-").isdecimal() else float(text)
    except ValueError:
        return text.strip('"')


def _joined(names: tuple[str, ...]) -> str:
    if sum(map(len, names)) > MAX_NAME:
        raise FileError(f"{names[0][:60]}...: a name has more than {MAX_NAME} characters")
    return ".".join(names)


def _module(value: Any) -> Record | None:
    """The module that a value is, or that torch.compile wrapped; None if it is none."""
    match value:
        case Record("torch._dynamo.eval_frame.OptimizedModule", (Record() as compiled, *_)):
            value = compiled
    if not isinstance(value, Record) or not isinstance(value.state, dict):
        return None
    own = value.path.startswith("__torch__.") or value.state.keys() >= {"_parameters", "_buffers", "_modules"}
    return value if own else None


def _entries(value: Any) -> dict[Any, Any]:
    match value:
        case dict():
            return value
        case list() | tuple():
            return dict(enumerate(value))
        case Record():
            return _dict(value.entries) | _dict(value.state) | dict(enumerate(value.elements or ()))
    return {}


def _dict(value: Any) -> dict[Any, Any]:
    """A dict, or that of an OrderedDict of another kind; else an empty one."""
    if isinstance(value, Record):
        value = value.entries
    return value if isinstance(value, dict) else {}
