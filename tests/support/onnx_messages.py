"""Random ONNX messages, and the comparison of Onward's messages with those of the onnx package."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from onward.formats.onnx import messages
from onward.formats.onnx.protobuf import Message, Run, decode

# the fields that Onward does not declare, because no inference needs them
UNDECLARED = {
    "ModelProto": {"training_info", "configuration"},
    "GraphProto": {"quantization_annotation", "metadata_props"},
    "NodeProto": {"device_configurations"},
    "FunctionProto": {"metadata_props", "value_info"},
    **{name: {"metadata_props"} for name in ("ValueInfoProto", "TensorProto")},
}
# what reads the runs of fields that are read only when they are needed
READ_LATER = {"value_info": messages.Declarations, "metadata_props": messages.Metadata}
NUMBERS: list[Any] = [0, 1, -1, 127, 128, 300, -(2**31), 2**31 - 1]
LARGE = [2**62, -(2**63), 2**63 - 1, -300]


def declared(proto: Any) -> list[Any]:
    """The fields of the onnx package's message that Onward declares too."""
    left_out = {"doc_string", *UNDECLARED.get(proto.DESCRIPTOR.name, ())}
    return [each for each in proto.DESCRIPTOR.fields if each.name not in left_out]


def assert_same(message: Message, proto: Any, where: str = "") -> None:
    """Fail unless the messages have the same fields with the same values."""
    fields = declared(proto)
    assert message.fields.keys() == {each.name for each in fields}, where
    for each in fields:
        place, values = f"{where}.{each.name}", vars(message)
        theirs = getattr(proto, each.name)
        if each.is_repeated:
            mine = _items(each.name, values.get(each.name, ()))
            assert len(mine) == len(theirs), place
            for item, other in zip(mine, theirs, strict=True):
                _assert_same_value(item, other, place)
        else:
            present = values.get(each.name) is not None
            assert present == proto.HasField(each.name), place
            if present:
                _assert_same_value(values[each.name], theirs, place)


def _items(name: str, items: Sequence[Any]) -> list[Any]:
    """The values of a repeated field, some of which are in runs of fields."""
    if name not in READ_LATER or not all(isinstance(item, Run) for item in items):
        return list(items)
    return [each for run in items for each in vars(decode(READ_LATER[name], run))[name]]


def _assert_same_value(mine: Any, theirs: Any, place: str) -> None:
    if isinstance(mine, Message):
        assert_same(mine, theirs, place)
    elif isinstance(theirs, float):
        np.testing.assert_array_equal(mine, theirs, place)
    else:
        expected = theirs.encode() if isinstance(mine, bytes) and isinstance(theirs, str) else theirs
        assert mine == expected, place


def random_model(rng: np.random.Generator) -> onnx.ModelProto:
    """A model with random fields; it parses, but need not be valid."""
    model = onnx.ModelProto()
    _fill(model, rng, 0)
    return model


def _fill(proto: Any, rng: np.random.Generator, depth: int) -> None:
    for each in declared(proto):
        if rng.random() < 0.4 + 0.06 * depth:
            continue
        if each.message_type is None:
            if each.is_repeated:
                getattr(proto, each.name).extend(_value(each, rng) for _ in range(rng.integers(4)))
            else:
                setattr(proto, each.name, _value(each, rng))
        elif depth < 7:
            inner = getattr(proto, each.name)
            for _ in range(rng.integers(3) if each.is_repeated else 1):
                child = inner.add() if each.is_repeated else inner
                child.SetInParent()
                _fill(child, rng, depth + 1 + 2 * each.is_repeated)


def _value(each: Any, rng: np.random.Generator) -> Any:
    choices: list[Any]
    if each.enum_type is not None:
        choices = [value.number for value in each.enum_type.values]
    elif each.cpp_type == each.CPPTYPE_STRING:
        texts = ["", "a", "é漢😀\0", "long " * 40]
        choices = [text.encode() for text in texts] if each.type == each.TYPE_BYTES else texts
    elif each.cpp_type in (each.CPPTYPE_FLOAT, each.CPPTYPE_DOUBLE):
        choices = [0.0, -0.0, 1.5, np.inf, np.nan]
    elif each.cpp_type == each.CPPTYPE_UINT64:
        choices = [0, 1, 128, 2**63, 2**64 - 1]
    else:
        choices = [*NUMBERS, *LARGE] if each.cpp_type == each.CPPTYPE_INT64 else NUMBERS
    return choices[rng.integers(len(choices))]


def decoded(content: bytes) -> messages.Model:
    """Read a model without validation; what is read only when it is needed must not be damaged either."""
    model = decode(messages.Model, content)
    waiting: list[Message] = [model]
    for message in waiting:  # the loop body appends to them
        for name, value in vars(message).items():
            items = _items(name, value) if isinstance(value, list) else [value]
            waiting += [item for item in items if isinstance(item, Message)]
    return model
