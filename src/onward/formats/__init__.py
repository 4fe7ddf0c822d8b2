"""Open models in any supported file format; may import every folder up to tracing."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from ..core import budget, files
from ..core.arrays import Shape
from ..errors import ArgumentError, FileError, OnwardError
from ..layers.base import Layer
from ..layers.base_model import BaseModel
from .compiled import SIGNATURE as COMPILED_SIGNATURE
from .keras import HDF5_SIGNATURE
from .keras import MEMBERS as KERAS_MEMBERS
from .tflite import IDENTIFIER as TFLITE_IDENTIFIER
from .zip import NPY_SIGNATURE, SIGNATURE, Data, ZipMembers, read_npy, read_npz

if TYPE_CHECKING:
    from ..model import Model
    from .compiled.model import CompiledModel
    from .torch.parts import Parts
    from .torch.state_dict import Found

# Each function imports the readers of a format when it meets such a file, so that opening one is fast.

PICKLE_STARTS = (b"\x80", b"L")  # PyTorch's legacy format is a pickle
ONNX_START = b"\x08"  # the first field of a model, which ONNX usually writes first
# A number and a message, with which SavedModel and Core ML start; the second field of ONNX is a name.
NESTED = re.compile(rb"\x08[\x80-\xff]{0,9}[\0-\x7f]\x12[\x80-\xff]{0,9}[\0-\x7f]\n")
PT2_MEMBERS = ("archive_format", "serialized_exported_program.json")
GRAPHS = ("onnx", "pt2", "tflite")
Path = str | os.PathLike[str]
Weights = tuple[tuple[str, Shape], ...]  # the names and shapes of one layer's weights
FORMATS = (
    "safetensors, PyTorch (.pt, .pt2, TorchScript), ONNX, TensorFlow Lite, Keras (.keras, .h5) and NumPy "
    "(.npz, .npy)"
)
CORE_ML = "Core ML models: export the model that was converted to Core ML to ONNX instead"
OTHERS = {  # what files of other formats hold, by suffix
    ".pb": "TensorFlow graphs: convert them with tf2onnx, or with tf.lite.TFLiteConverter",
    ".mlmodel": CORE_ML,
    ".mlpackage": CORE_ML,
}


def load(
    path: str | os.PathLike[str],
    *,
    nonlinearity: str | None = None,
    batch_first: bool | None = None,
    keras_version: str | None = None,
    custom_objects: Mapping[str, Callable[..., Any]] | None = None,
    weights: str | os.PathLike[str] | None = None,
    method: str | None = None,
    part: str | None = None,
    inputs: Mapping[str, Any] | None = None,
    qdq: bool | None = None,
    **layers: Mapping[str, Any],
) -> Layer | Model | CompiledModel | Parts:
    """Load a model from a file of Onward, ONNX, Keras, TorchScript or TensorFlow Lite, or layers by name.

    The format is detected from the content. No code in the file is run, and no framework is needed.

    - **TorchScript**: files of torch.jit.save are whole models. `method="encode"` runs another method than
      forward(), and `part="model.decoder"` a submodule. Attributes that a call changes are additional inputs,
      with the file's values as defaults, and additional outputs. The code is recorded for all sizes of its
      inputs: at the first call, or by `load` if the inputs are declared, as `save` and `stream` require if
      there are several. `inputs={"x": ("int64", ("batch", 512)), "sr": 16000}` declares the axes of tensors,
      as sizes or names of open sizes, perhaps after a dtype, and the values of numbers; lists and dicts hold
      such declarations. Arguments and results are tuples, lists, dicts and None as in PyTorch.
    - **PyTorch**: files of torch.save, and state dicts in safetensors or .npz files. They contain weights but
      no forward(), so `load` returns `Parts`, a dict of layers by name, whose method `sequential` connects
      them. A pickled nn.Sequential records its order and becomes a Sequential. If the file does not record
      them, pass the `nonlinearity` of vanilla RNNs (default "tanh") and `batch_first` for all recurrent
      layers (default False), and the options of single modules by their names: `conv={"stride": 2, "padding":
      1}`, `norm={"type": "BatchNorm2d", "eps": 1e-3}`. float16 and bfloat16 weights become float32.
    - **ONNX**: `help(type(model))` explains how to call the model.
    - **TensorFlow Lite**: a call starts from the initial values of the variables; `stream` keeps them. If the
      file has several signatures, `method` is the key of one. With `qdq=True`, operators of int8 compute with
      the real numbers that the integers stand for, in nodes between DequantizeLinear and QuantizeLinear:
      `export_onnx` writes these for other runtimes. Outputs may differ by a few steps.
    - **Keras**: the model takes batch-first input. `load("model.json", weights="weights.h5")` opens the files
      of to_json and save_weights. `custom_objects={"MyLayer": function}` supplies functions of arrays for
      layers that Onward does not know, by class, or by name if several are Lambdas; for a subclass of a layer
      that it knows, a class is enough: that of Keras, of Onward, or your own. For files that do not record
      their `keras_version`, such as "2.2.4", Onward infers Keras 1 or 2 and issues a KerasWarning.

    Raises FileError, which names the file, the tensor and what was expected, and ArgumentError for an
    argument that does not apply to the file.

    >>> from onward import bundled
    >>> model = load(bundled.models()["vowels"])
    >>> model
    Sequential(
      (0): LSTM(12, 48)
      (1): Last()
      (2): Linear(48, 9)
    )
    """
    data = _content(path)
    torch_options = {"nonlinearity": nonlinearity, "batch_first": batch_first}
    keras_options = {"keras_version": keras_version, "custom_objects": custom_objects, "weights": weights}
    script_options = {"method": method, "part": part, "inputs": inputs, "qdq": qdq}
    with budget.of_file(len(data) + (0 if weights is None else len(files.content(weights)))):
        return _loaded(path, data, torch_options, keras_options, script_options, layers)


def _loaded(
    path: Path, data: Data, torch_options: Any, keras_options: Any, script_options: Any, layers: Any
) -> Layer | Model | CompiledModel | Parts:
    """Load the content of a file, with the arguments of `load` by the formats that take them."""
    kind, members = _format(path, data)
    if kind == "compiled":
        from .compiled.model import load as load_compiled

        _reject(
            path, torch_options | keras_options | script_options | layers, "a compiled model has no options"
        )
        return load_compiled(path, data)
    for name, options in layers.items():
        if not isinstance(options, Mapping):
            raise ArgumentError(
                f"load has no argument {name}; the options of a module {name} are a dict, got {options!r}"
            )
    if kind not in ("keras", "json"):
        _reject(path, keras_options, "they apply to Keras files only")
    qdq = script_options.pop("qdq")
    if kind != "tflite":
        _reject(path, {"qdq": qdq}, "it applies to TensorFlow Lite files only")
    if kind in ("keras", "json", *GRAPHS):
        _reject(path, torch_options | layers, "the file records its options")
        method = script_options.pop("method")
        _reject(path, script_options, "they apply to TorchScript files only")
        if kind in GRAPHS:
            return _graph(path, data, kind, method, qdq, members)
        _reject(path, {"method": method}, "it applies to TorchScript and TensorFlow Lite files only")
        return _keras(path, data, kind, **keras_options)
    if kind == "torch" and (model := _script(path, data, members, **script_options)) is not None:
        _reject(path, torch_options | layers, "the file records its options")
        return model
    _reject(path, script_options, "they apply to TorchScript files only")
    from . import native
    from .torch.find_layers import find_layers
    from .torch.state_dict import merged

    found, description = _read(path, data, kind)
    if description is not None:
        _reject(path, dict(layers), "the file records its options")
    if description is not None or any(state_dict.records_options for state_dict in found.values()):
        _reject(path, torch_options, "the file records its options")
    with _errors_naming(path):
        if description is None:
            parts = find_layers(merged(found), **torch_options, given=layers)
            return parts.model or parts
        if description.get("type") == "Programs":
            raise ArgumentError("the file holds programs for JavaScript: load the model that was exported")
        if description.get("type") != "Model":
            return native.restore(description, found[()].tensors)
        from ..model import Model
        from .onnx import saved

        return Model(saved.rebuild(description, found[()].tensors))


def load_tensors(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """Load all arrays of a file by name, unchanged except that bfloat16 becomes float32.

    Reads every format that `load` reads, and NumPy's .npy, whose single array has the name "". In a
    checkpoint, the keys that lead to a state dict precede its names. Raises FileError.

    >>> from onward import bundled
    >>> tensors = load_tensors(bundled.models()["vowels"])
    >>> list(tensors)[:2], tensors["0.weight_hh_l0"].shape
    (['0.bias_hh_l0', '0.bias_ih_l0'], (192, 48))
    """
    data = _content(path)
    with budget.of_file(len(data)):
        found, _ = _read(path, data, _format(path, data)[0])
        return {
            ".".join((*keys, name)): tensor.copy()
            for keys, state_dict in found.items()
            for name, tensor in state_dict.tensors.items()
        }


def weights_for(model: BaseModel, path: str | os.PathLike[str]) -> Mapping[str, NDArray[Any]]:
    """The tensors of a file under the names that a model uses. Raises FileError."""
    data = _content(path)
    with budget.of_file(len(data)):
        kind, _ = _format(path, data)
        if kind == "keras":
            from .keras import load as keras

            with _errors_naming(path):
                return keras.weights_for(data, model)
        from .torch.state_dict import merged

        found, _ = _read(path, data, kind)
        with _errors_naming(path):
            tensors = merged(found, trusted=True).tensors  # the model says which layers they belong to
    return _renamed(tensors, model, ordered=kind != "safetensors")


def _renamed(
    tensors: Mapping[str, NDArray[Any]], model: BaseModel, ordered: bool
) -> Mapping[str, NDArray[Any]]:
    """The tensors under the model's names, or unchanged if they cannot be matched.

    If the names differ, the modules of the file are matched with the layers of the model: in order if the
    file has an order, provided that each pair has the same weights; otherwise by their shapes, provided that
    these are unique.
    """
    shapes = dict(model.shapes())
    ours, theirs = _by_prefix(shapes), _by_prefix({name: tensor.shape for name, tensor in tensors.items()})
    if not ordered:
        prefixes = {group: prefix for prefix, group in theirs.items()}
        unique = len(prefixes) == len(theirs) == len(ours)
        theirs = {prefixes[group]: group for group in ours.values() if unique and group in prefixes}
    if tensors.keys() == shapes.keys() or list(ours.values()) != list(theirs.values()):
        return tensors
    their_prefixes = list(theirs)
    return {
        our_prefix + name: tensors[their_prefixes[place] + name]
        for place, (our_prefix, group) in enumerate(ours.items())
        for name, _ in group
    }


def _by_prefix(shapes: Mapping[str, Shape]) -> dict[str, Weights]:
    """The names and shapes of each module's weights, sorted."""
    groups: dict[str, list[tuple[str, Shape]]] = {}
    for name, shape in shapes.items():
        before, dot, last = name.rpartition(".")
        groups.setdefault(before + dot, []).append((last, shape))
    return {prefix: tuple(sorted(group)) for prefix, group in groups.items()}


def _content(path: Path) -> Data:
    """The content of a file. Raises FileError."""
    suffix = (
        ".pb" if os.path.isfile(os.path.join(files.check_path(path), "saved_model.pb")) else _suffix(path)
    )
    if os.path.isdir(path) and suffix in OTHERS:
        raise FileError(f"{path} is a directory. Such directories hold {OTHERS[suffix]}")
    return files.content(path)


def _suffix(path: Path) -> str:
    return os.path.splitext(os.fspath(path))[1].lower()


def _format(path: Path, data: Data) -> tuple[str, ZipMembers | None]:
    """The format of a file and its members if it is a zip archive. Raises FileError.

    The content shows the format, or the suffix if it has no signature.
    """
    suffix = _suffix(path)
    archive, members = None, set()
    if is_zip := data[:4] == SIGNATURE:
        with _errors_naming(path):
            archive = ZipMembers(data)
            members = set(archive.entries)
    has_header = data[8:9] == b"{"  # safetensors: the length of a JSON header, then the header
    formats = {
        "compiled": data[: len(COMPILED_SIGNATURE)] == COMPILED_SIGNATURE,
        "keras": data[:8] == HDF5_SIGNATURE or members >= KERAS_MEMBERS,
        "npz": bool(members) and all(name.endswith(".npy") for name in members),
        "npy": data[: len(NPY_SIGNATURE)] == NPY_SIGNATURE,
        "tflite": data[4:8] == TFLITE_IDENTIFIER,
        "pt2": any(name.rpartition("/")[2] in PT2_MEMBERS for name in members),
        "torch": is_zip or (data[:1] in PICKLE_STARTS and not has_header),
        "onnx": not has_header and (suffix == ".onnx" or (data[:1] == ONNX_START and not NESTED.match(data))),
        "safetensors": has_header or suffix == ".safetensors",
        "json": data[:1] == b"{" and suffix == ".json",
    }
    if not any(formats.values()):
        problem = "has an unknown format" if data else "is empty"
        hint = f". Files that end in {suffix} usually hold {OTHERS[suffix]}" if suffix in OTHERS else ""
        raise FileError(f"{path} {problem}; supported formats are {FORMATS}{hint}")
    return next(name for name, matches in formats.items() if matches), archive


def _read(path: Path, data: Data, kind: str) -> tuple[Found, dict[str, Any] | None]:
    """The state dicts of a file, and the description of the model if Onward saved it."""
    from ..core import storage
    from .torch import archive
    from .torch.state_dict import StateDict, state_dicts

    description = None
    if kind in GRAPHS:
        tensors = _graph(path, data, kind).state_dict()
    elif kind == "safetensors":
        tensors, description = storage.read(path, data)
    else:
        with _errors_naming(path):
            if kind == "torch":
                return state_dicts(archive.read(data)), None
            if kind == "keras":
                from .keras import load as keras

                return {(): StateDict(keras.tensors(data))}, None
            tensors = read_npz(data) if kind == "npz" else {"": read_npy(data, "the file")}
    return {(): StateDict(tensors)}, description


def _graph(
    path: Path,
    data: Data,
    kind: str,
    method: str | None = None,
    qdq: Any = None,
    members: ZipMembers | None = None,
) -> Model:
    from ..model import Model

    with _errors_naming(path):
        if kind == "tflite":
            from .tflite import translate as tflite

            return Model(tflite.load(data, method, bool(qdq)))
        _reject(path, {"method": method}, "it applies to TorchScript and TensorFlow Lite files only")
        if kind == "pt2":
            from .torch import exported_graph

            return Model(exported_graph.translate(members or data))
        from .onnx.read import read
        from .onnx.translate import translate

        return Model(translate(read(path, data)))


def _keras(
    path: Path, data: Data, kind: str, weights: Path | None, keras_version: str | None, custom_objects: Any
) -> Model:
    if (kind == "json") != (weights is not None):
        raise ArgumentError(
            f"{path}: a model in JSON needs its weights: pass weights=, the file of save_weights"
            if weights is None
            else f"{path} contains its weights; remove weights="
        )
    from ..model import Model
    from .keras import load as keras

    with _errors_naming(path):
        stored = None if weights is None else files.content(weights)
        return Model(keras.load(data, keras_version, custom_objects, stored))


def _script(
    path: Path,
    data: Data,
    members: ZipMembers | None,
    method: str | None,
    part: str | None,
    inputs: Mapping[str, Any] | None,
) -> Model | None:
    """Return the model of a TorchScript file, or None if the file contains no code."""
    with _errors_naming(path):
        if members is None or not any("code/" in name for name in members.entries):
            return None
        from ..model import Model
        from .torch import archive
        from .torch.script.code import Code
        from .torch.script.model import ScriptModel
        from .torch.script.program import Program, has_forward, is_script

        content = archive.read(members)
        code = Code(content.code)
        if not is_script(content) or (method is None and part is None and not has_forward(content, code)):
            return None
        program = Program(data, method or "forward", part or "", content, code)
        return ScriptModel(program) if inputs is None else Model(program.sized((), inputs).general(inputs))


def _reject(path: Path, options: Mapping[str, Any], reason: str) -> None:
    """Raise ArgumentError if any of the options, which do not apply to the file, is not None."""
    if given := [name for name, value in options.items() if value is not None]:
        raise ArgumentError(f"{path}: {reason}; remove the arguments {', '.join(given)}")


@contextmanager
def _errors_naming(path: Path) -> Iterator[None]:
    """Turn errors into FileErrors that name the file."""
    try:
        yield
    except OnwardError as error:
        raise FileError(f"{path}: {error}") from error
