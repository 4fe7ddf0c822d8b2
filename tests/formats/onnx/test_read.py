"""Reading ONNX files: arrays and attributes as in the onnx package, and precise errors for invalid models."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support import hostile
from support.in_one_test import in_one_test

import onward
from onward.errors import FileError, LimitError
from onward.formats.onnx import messages, protobuf
from onward.formats.onnx.read import read
from onward.formats.onnx.tensors import attribute_value, check_size, dtype_of, tensor_array

PACKAGE = Path(onnx.__file__).parent / "backend" / "test" / "data"
TYPES = {name: number for name, number in TensorProto.DataType.items() if number}
WIDE = {"FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16", "COMPLEX64", "COMPLEX128"}


def initializers(model: messages.Model) -> dict[str, Any]:
    assert model.graph is not None
    return {tensor.name: tensor_array(tensor) for tensor in model.graph.initializer}


def model_of(text: str, *initializers: TensorProto) -> onnx.ModelProto:
    """A model of a graph in the textual form of the onnx package."""
    graph = onnx.parser.parse_graph(text)
    graph.initializer.extend(initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def opened(model: onnx.ModelProto, path: Path = Path("model.onnx")) -> messages.Model:
    return read(path, model.SerializeToString())


def refused(model: onnx.ModelProto, path: Path = Path("model.onnx")) -> str:
    """The message of the error, raised within the limits of time and memory."""
    content = model.SerializeToString()
    with hostile.bounded(), pytest.raises((FileError, LimitError)) as error:
        read(path, content)
    return str(error.value)


SIMPLE = "g (float[N] x) => (float[N] y) { s = Relu (x) y = Neg (s) }"


def random_array(name: str, rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    dtype = helper.tensor_dtype_to_np_dtype(TYPES[name])
    if name == "STRING":
        return rng.choice(np.array(["a", "é漢", ""], object), shape)
    if name in WIDE:
        return rng.normal(0, 3, shape).astype(dtype)
    bits = {"2": 2, "4": 4, "6": 6}.get(name.strip("UINTFLOA")[:1], 8)
    if name == "BOOL":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.kind in "iu" and dtype.itemsize > 1:
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max, shape, dtype)
    return rng.integers(0, 2**bits, shape).astype(np.uint8).view(dtype)


@pytest.mark.parametrize("name", TYPES)
@in_one_test("raw", [True, False])
@in_one_test("shape", [(), (0,), (1,), (3, 5), (2, 3, 7)])
def test_tensors_of_every_type_equal_those_of_the_onnx_package(
    name: str, shape: tuple[int, ...], raw: bool
) -> None:
    array = random_array(name, np.random.default_rng(len(shape)), shape)
    if name == "STRING":
        tensor = helper.make_tensor("t", TYPES[name], shape, [s.encode() for s in array.ravel()])
    elif raw:
        tensor = numpy_helper.from_array(array, "t")
    else:
        tensor = helper.make_tensor("t", TYPES[name], shape, array.ravel())
    mine = tensor_array(protobuf.decode(messages.Tensor, tensor.SerializeToString()))
    expected = numpy_helper.to_array(tensor)
    assert (mine.dtype, mine.shape) == (expected.dtype, expected.shape)
    if name == "STRING":
        assert mine.tolist() == expected.tolist()
    else:
        assert np.ascontiguousarray(mine).tobytes() == expected.tobytes()


def test_types_that_numpy_lacks_name_the_package_that_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(FileError, match=r"the tensor W has the data type BFLOAT16.*pip install.*ml_dtypes"):
        dtype_of(TensorProto.BFLOAT16, "the tensor W")
    with pytest.raises(FileError, match=r"the tensor W has the unknown data type 99; expected 1 to 28"):
        dtype_of(99, "the tensor W")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, 3),
        (0, 0),
        (1.5, 1.5),
        ("é", "é"),
        ([1, -2], [1, -2]),
        ([1.5, 2.0], [1.5, 2.0]),
        (["a", "b"], ["a", "b"]),
        (numpy_helper.from_array(np.eye(2)), np.eye(2)),
        ([numpy_helper.from_array(np.eye(2))] * 2, [np.eye(2)] * 2),
    ],
)
def test_attributes_become_python_values(value: Any, expected: Any) -> None:
    attribute = helper.make_attribute("a", value)
    mine = attribute_value(protobuf.decode(messages.Attribute, attribute.SerializeToString()))
    assert type(mine) is type(expected)
    np.testing.assert_array_equal(mine, expected)


def test_a_graph_or_type_attribute_is_the_message() -> None:
    for value, field in (
        (onnx.parser.parse_graph(SIMPLE), "g"),
        (helper.make_tensor_type_proto(1, [2]), "tp"),
    ):
        attribute = helper.make_attribute("a", value)
        mine = protobuf.decode(messages.Attribute, attribute.SerializeToString())
        assert attribute_value(mine) is getattr(mine, field)


def test_zeros_that_protocol_buffers_3_omits_are_read() -> None:
    for kind, zero in ((1, 0.0), (2, 0), (3, ""), (6, []), (7, []), (8, [])):
        assert attribute_value(messages.Attribute(name="a", type=kind)) == zero


def test_a_type_that_old_files_omit_is_that_of_the_value() -> None:
    model = model_of("g (float[N] x) => (float[N] y) { y = Elu <alpha = 0.5> (x) }")
    model.graph.node[0].attribute[0].ClearField("type")
    (attribute,) = opened(model).graph.node[0].attribute  # type: ignore[union-attr]  # read checks that it exists
    assert attribute_value(attribute) == 0.5


@in_one_test("path", sorted(PACKAGE.rglob("*.onnx")))
def test_every_valid_file_of_the_onnx_package_is_accepted(path: Path) -> None:
    arrays = initializers(read(path, path.read_bytes()))
    for tensor in onnx.load(path).graph.initializer:
        np.testing.assert_array_equal(arrays[tensor.name], numpy_helper.to_array(tensor))


def test_a_size_of_minus_one_that_exporters_write_is_unknown(tmp_path: Path) -> None:
    model = model_of(SIMPLE)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = -1
    onnx.save(model, tmp_path / "model.onnx")
    loaded = onward.load(tmp_path / "model.onnx")
    for size in (3, 0, 5):
        np.testing.assert_array_equal(loaded(np.ones(size, np.float32)), -np.ones(size, np.float32))


def test_data_share_the_memory_of_the_file() -> None:
    content = model_of(SIMPLE, numpy_helper.from_array(np.arange(9.0), "w")).SerializeToString()
    model = read("model.onnx", content)
    array = tensor_array(model.graph.initializer[0])  # type: ignore[union-attr]  # read checks that it exists
    assert np.shares_memory(array, np.frombuffer(content, np.uint8))
    assert not array.flags.writeable


# the change of a valid model, and the error
INVALID: dict[str, tuple[Callable[[Any], Any], str]] = {
    "no IR version": (lambda m: m.ClearField("ir_version"), "IR version 0"),
    "no opset": (lambda m: m.ClearField("opset_import"), "declares no opset"),
    "opset 0": (lambda m: setattr(m.opset_import[0], "version", 0), "declares opset 0 of ''"),
    "two opsets": (lambda m: m.opset_import.add(version=9), "declares opset 9 of ''; expected one"),
    "no graph": (lambda m: m.ClearField("graph"), "has no graph"),
    "missing value": (
        lambda m: m.graph.node[1].input.__setitem__(0, "absent"),
        r"node y (Neg) takes the value absent, which no input, initializer or earlier node defines",
    ),
    "cycle": (lambda m: m.graph.node[0].input.__setitem__(0, "y"), "form a cycle: "),
    "cycle of one": (lambda m: m.graph.node[0].input.__setitem__(0, "s"), "form a cycle: s -> s"),
    "unsorted": (
        lambda m: m.graph.node.insert(0, m.graph.node.pop()),
        "node y (Neg) takes the value s before node s (Relu) defines it",
    ),
    "two outputs of a name": (
        lambda m: m.graph.node[1].output.__setitem__(0, "s"),
        "node s (Neg) defines the value s twice",
    ),
    "an output named as an input": (
        lambda m: m.graph.node[0].output.__setitem__(0, "x"),
        "node x (Relu) defines the value x twice",
    ),
    "two inputs of a name": (lambda m: m.graph.input.append(m.graph.input[0]), "defines the value x twice"),
    "undefined output": (
        lambda m: setattr(m.graph.output[0], "name", "z"),
        "has the output z, which no node",
    ),
    "untyped input": (lambda m: m.graph.input[0].ClearField("type"), "the input x has no complete type"),
    "unknown type": (
        lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 77),
        "the input x has the unknown data type 77",
    ),
    "negative size": (
        lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", -3),
        "the input x has an axis of the size -3",
    ),
    "no operator": (lambda m: m.graph.node[0].ClearField("op_type"), "node s () has no operator"),
    "unknown domain": (lambda m: setattr(m.graph.node[0], "domain", "mine"), "of the domain 'mine'"),
    "attribute of another type": (
        lambda m: m.graph.node[0].attribute.add(name="alpha", type=1, i=1),
        "node s (Relu): the attribute alpha has the type FLOAT and the value i; expected f",
    ),
    "attribute of two values": (
        lambda m: m.graph.node[0].attribute.add(name="alpha", type=1, i=1, f=1),
        "has the values f, i; expected one of them",
    ),
    "attribute without a graph": (
        lambda m: m.graph.node[0].attribute.add(name="body", type=5),
        "has the type GRAPH and no value; expected g",
    ),
    "attribute without a type": (lambda m: m.graph.node[0].attribute.add(name="a"), "the unknown type 0"),
    "attribute twice": (
        lambda m: [m.graph.node[0].attribute.add(name="a", type=2, i=1) for _ in range(2)],
        "node s (Relu) has the attribute a twice",
    ),
    "initializer without a name": (
        lambda m: m.graph.initializer.append(numpy_helper.from_array(np.eye(2))),
        "defines a value without a name",
    ),
    "two initializers of a name": (
        lambda m: m.graph.initializer.extend([numpy_helper.from_array(np.eye(2), "w")] * 2),
        "defines the value w twice",
    ),
    "negative dims": (
        lambda m: m.graph.initializer.add(name="w", data_type=1, dims=[-1], raw_data=b""),
        "the tensor w has the shape (-1,)",
    ),
    "dims of 2^126 elements": (
        lambda m: m.graph.initializer.add(name="w", data_type=1, dims=[2**63 - 1] * 2, raw_data=bytes(4)),
        f"requires {4 * (2**63 - 1) ** 2}",
    ),
    "data of two fields": (
        lambda m: m.graph.initializer.add(name="w", data_type=1, dims=[1], raw_data=bytes(4), float_data=[1]),
        "the tensor w has raw_data; expected only float_data",
    ),
    "data of another type": (
        lambda m: m.graph.initializer.add(name="w", data_type=1, dims=[1], int64_data=[1]),
        "the tensor w has the fields int64_data; expected float_data",
    ),
    "too few elements": (
        lambda m: m.graph.initializer.add(name="w", data_type=1, dims=[2], float_data=[1]),
        "the tensor w has 1 elements; its shape (2,) requires 2",
    ),
    "unknown type of a tensor": (
        lambda m: m.graph.initializer.add(name="w", data_type=40, dims=[0]),
        "the tensor w has the unknown data type 40",
    ),
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid_models_are_refused_with_the_reason(name: str) -> None:
    edit, message = INVALID[name]
    model = model_of(SIMPLE)
    opened(model)
    edit(model)
    assert message in refused(model)


def test_a_file_truncated_at_any_byte_is_refused() -> None:
    content = model_of(SIMPLE, numpy_helper.from_array(np.arange(9.0), "w")).SerializeToString()
    read("model.onnx", content)
    for end in range(len(content)):  # the opset is the last field
        with hostile.bounded(), pytest.raises(FileError):
            read("model.onnx", content[:end])


def test_dims_that_numpy_rejects_raise_an_error_that_names_the_tensor() -> None:
    for dims, problem in (([0, 2**62, 2**62], "the shape"), ([1] * 100, "100 axes; expected at most 64")):
        data = b"" if 0 in dims else bytes(4)
        with pytest.raises(FileError, match=f"the tensor w has {problem}"):
            tensor = messages.Tensor(name="w", data_type=1, dims=dims, raw_data=data)
            check_size(tensor)
            tensor_array(tensor)


def test_the_product_of_many_dims_is_not_computed() -> None:
    dims = [2**63 - 1] * 30_000  # their product has half a million digits
    model = model_of(SIMPLE, TensorProto(name="w", data_type=1, dims=dims))
    assert "the tensor w has 30000 axes" in refused(model)
    model = model_of(SIMPLE)
    model.graph.sparse_initializer.append(sparse(dims, [1.0], [1]))
    assert "the sparse tensor w has 30000 axes" in refused(model)


def test_a_subgraph_uses_the_values_before_its_node_only() -> None:
    text = """g (bool c, float[N] x) => (float[N] y) {{
        a = Relu (x)
        y = If (c) <then_branch = t () => (float[N] b) {{ b = Neg ({used}) }},
                    else_branch = e () => (float[N] d) {{ d = Identity (x) }}>
        z = Relu (x)
    }}"""
    opened(model_of(text.format(used="a")))
    assert "node b (Neg) takes the value z, which no input" in refused(model_of(text.format(used="z")))


def test_a_subgraph_does_not_return_a_value_from_outside() -> None:
    branch = "b () => (float[N] {name}) {{ b = Neg (x) }}"
    for name in ("b", "x"):
        model = model_of(f"""g (bool c, float[N] x) => (float[N] y) {{
            y = If (c) <then_branch = {branch.format(name=name)},
                        else_branch = e () => (float[N] d) {{ d = Neg (x) }}>
        }}""")
        if name == "b":
            opened(model)
        else:
            assert "the graph b has the output x, which no node" in refused(model)


def test_deeply_nested_subgraphs_are_refused() -> None:
    body = "b () => (float[N] y0) { y0 = Identity (x) }"
    for depth in range(1, 20):
        body = (
            f"b () => (float[N] y{depth}) {{ y{depth} = If (c) <then_branch = {body}, "
            f"else_branch = e () => (float[N] e{depth}) {{ e{depth} = Neg (x) }}> }}"
        )
    model = model_of("g (bool c, float[N] x) => (float[N] y19) { y19 = Relu (x) }")
    del model.graph.node[:]
    model.graph.node.append(onnx.parser.parse_graph(body).node[0])
    assert "nested more than 16 deep" in refused(model)


def with_functions(*texts: str) -> onnx.ModelProto:
    model = model_of("g (float[N] x) => (float[N] y) { y = mine.f0 (x) }")
    model.opset_import.add(domain="mine", version=1)
    for text in texts:
        head = '<domain: "mine", opset_import: ["": 20, "mine": 1]>'
        model.functions.append(onnx.parser.parse_function(f"{head} {text}"))
    return model


def test_functions_are_checked() -> None:
    leaf = "f1 (x) => (y) { y = Relu (x) }"
    opened(with_functions("f0 (x) => (y) { y = mine.f1 (x) }", leaf))
    for texts, message in (
        (["f0 (x) => (y) { y = mine.f0 (x) }"], "functions call themselves: f0 -> f0"),
        (["f0 (x) => (y) { y = mine.f1 (x) }", "f1 (x) => (y) { y = mine.f0 (x) }"], "call themselves"),
        (["f0 (x) => (y) { y = Relu (z) }"], "takes the value z"),
        (["f0 (x) => (y) { z = Relu (x) }"], "the function f0 has the output y"),
        ([leaf, leaf], "defines the function f1 of 'mine' twice"),
    ):
        assert message in refused(with_functions(*texts))


def test_functions_that_expand_to_too_many_nodes_are_refused() -> None:
    chain = [f"f{n} (x) => (y) {{ a = mine.f{n + 1} (x) y = mine.f{n + 1} (a) }}" for n in range(40)]
    model = with_functions(*chain, "f40 (x) => (y) { y = Relu (x) }")
    assert "are allowed" in refused(model)


def sparse(dims: list[int], values: Any, indices: Any) -> onnx.SparseTensorProto:
    return helper.make_sparse_tensor(
        numpy_helper.from_array(np.asarray(values), "w"), numpy_helper.from_array(np.asarray(indices)), dims
    )


@pytest.mark.parametrize("dtype", ["float32", "int64", "float16", "complex128", "bool"])
def test_sparse_tensors_become_dense(dtype: str) -> None:
    values, model = np.array([1, 2, 3]).astype(dtype), model_of(SIMPLE)
    expected = np.zeros((3, 4), dtype)
    expected[[0, 1, 2], [3, 0, 2]] = values
    for indices in ([[0, 3], [1, 0], [2, 2]], [3, 4, 10]):
        del model.graph.sparse_initializer[:]
        model.graph.sparse_initializer.append(sparse([3, 4], values, indices))
        np.testing.assert_array_equal(initializers(opened(model))["w"], expected)
    node = helper.make_node("Constant", [], ["k"], sparse_value=sparse([3, 4], values, [3, 4, 10]))
    model.graph.node.append(node)
    constant = opened(model).graph.node[2].attribute[0]  # type: ignore[union-attr]  # read checks that it exists
    np.testing.assert_array_equal(attribute_value(constant), expected)


@pytest.mark.parametrize(
    ("dims", "values", "indices", "message"),
    [
        ([2**40], [1.0], [7], "bytes of memory"),
        ([2**62, 2**62], [1.0], [7], "bytes of memory"),
        ([-2], [1.0], [7], "has the shape (-2,)"),
        ([4], [1.0], [4], "expected an int64 index inside the shape (4,)"),
        ([4], [1.0], [-1], "expected an int64 index inside the shape (4,)"),
        ([4, 2], [1.0], [[0, 2]], "expected an int64 index inside the shape (4, 2)"),
        ([4], [1.0, 2.0], [1], "expected an int64 index inside the shape (4,) for each value"),
        ([4], [1.0], [1.0], "float64 indices"),
    ],
)
def test_invalid_sparse_tensors_are_refused(dims: list[int], values: Any, indices: Any, message: str) -> None:
    model = model_of(SIMPLE)
    model.graph.sparse_initializer.append(sparse(dims, values, indices))
    assert message in refused(model)


def external(location: str, **entries: str) -> onnx.ModelProto:
    tensor = TensorProto(name="w", data_type=1, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, "length": "16", **entries}.items():
        tensor.external_data.add(key=key, value=value)
    return model_of(SIMPLE, tensor)


def test_external_data_are_mapped(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(4) + np.arange(4, dtype="<f4").tobytes())
    model = opened(external("w.bin", offset="4"), tmp_path / "m.onnx")
    np.testing.assert_array_equal(initializers(model)["w"], np.arange(4))
    again = protobuf.decode(messages.Model, protobuf.encode(model))  # without the file
    np.testing.assert_array_equal(initializers(again)["w"], np.arange(4))


@pytest.mark.parametrize(
    ("location", "entries"),
    [
        ("../outside.bin", {}),
        ("link.bin", {}),
        ("loop.bin", {}),
        ("/etc/passwd", {}),
        ("", {}),
        ("absent.bin", {}),
        ("a\0b", {}),
        ("a" * 5000, {}),
        ("w.bin", {"offset": "8"}),
        ("w.bin", {"offset": "-1"}),
        ("w.bin", {"length": str(2**62)}),
        ("w.bin", {"length": "8"}),
        ("pipe", {}),
    ],
)
def test_external_data_outside_the_folder_or_of_another_size_are_refused(
    tmp_path: Path, location: str, entries: dict[str, str]
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "outside.bin").write_bytes(bytes(16))
    (folder / "w.bin").write_bytes(bytes(20))
    (folder / "link.bin").symlink_to(tmp_path / "outside.bin")
    (folder / "loop.bin").symlink_to(folder / "loop.bin")
    os.mkfifo(folder / "pipe")
    assert refused(external(location, **entries), folder / "m.onnx")
