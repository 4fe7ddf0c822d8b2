"""Save in a model file, and read from it, the columns, windows and classes of its training table."""

import json
import os
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from ..core import atomic, budget, files, storage
from ..errors import ArgumentError, FileError
from ..formats.compiled import SIGNATURE
from ..formats.compiled.words import records as compiled_records
from ..formats.compiled.words import with_records
from ..formats.onnx import messages
from ..formats.onnx.export import export_onnx
from ..formats.onnx.protobuf import decode
from ..layers.base_model import BaseModel
from .layout import Saved, Selection

KEY = "table"
ENTRY = "onward"  # in the metadata of ONNX files
RECORDS = (KEY, "vocabulary")  # metadata that a model file may hold besides its architecture


def save(path: str | os.PathLike[str], model: BaseModel, saved: Saved) -> None:
    """Write a model like its own `save`, with the description of its training table. Raises FileError."""
    description = model.description()
    if saved != Saved():
        description[KEY] = {"selection": saved.selection.to_json(), "classes": list(saved.classes)}
        if saved.categories:
            description[KEY]["categories"] = {name: list(each) for name, each in saved.categories.items()}
    storage.write(path, model.weights_by_name(), description)


def save_converted(path: str | os.PathLike[str], model: BaseModel, source: str | os.PathLike[str]) -> None:
    """Write a model made from the file `source` with everything that `source` records. Raises FileError."""
    records = _records(source)
    if Path(path).suffix.lower() == ".onnx":
        export_onnx(model, path, metadata={ENTRY: json.dumps(records)} if records else None)
    else:
        storage.write(path, model.weights_by_name(), model.description() | records)


def add_records(path: str | os.PathLike[str], source: str | os.PathLike[str]) -> None:
    """Add to the compiled model in `path` everything that the file `source` records. Raises FileError."""
    if found := _records(source):
        atomic.replace(path, with_records(bytes(files.content(path)), found))


def _records(path: str | os.PathLike[str]) -> dict[str, Any]:
    return {name: value for name, value in metadata(path).items() if name in RECORDS}


def load_saved(path: str | os.PathLike[str]) -> Saved:
    """Read the record that `save` wrote; it is empty for other model files. Raises FileError if invalid."""
    table = metadata(path).get(KEY)
    if table is None:
        return Saved()
    try:
        selection = Selection.from_json(table["selection"])
        classes = tuple(table["classes"])
        categories = {name: tuple(each) for name, each in table.get("categories", {}).items()}
        if not all(isinstance(name, str) for name in (*classes, *chain(*categories.values()))):
            raise ArgumentError(f"classes={classes!r} must be strings")
    except (ArgumentError, AttributeError, LookupError, TypeError) as error:
        raise FileError(f"{path}: the metadata entry '{KEY}' is invalid: {error}") from error
    return Saved(selection, classes, categories)


def metadata(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    """Read the architecture and the records from a file that Onward wrote; they are empty for other files."""
    content = files.content(path)
    if bytes(content[8:9]) == b"{":  # safetensors
        return storage.read(path)[1] or {}
    found: Any = {}
    if content[: len(SIGNATURE)] == SIGNATURE:
        found = compiled_records(content, str(path))
    elif Path(path).suffix.lower() == ".onnx":
        with budget.of_file(len(content)):
            entries = {entry.key: entry.value for entry in decode(messages.Model, content).metadata_props}
            found = files.parse_json(entries.get(ENTRY, "{}"), f"{path}: the metadata entry '{ENTRY}'")
    if not isinstance(found, dict):
        raise FileError(f"{path}: what Onward recorded in it is not an object")
    return found
