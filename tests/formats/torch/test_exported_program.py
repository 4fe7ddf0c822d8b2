"""Exported programs (.pt2) without PyTorch: stored archives of several versions, and hostile ones."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import support
from support import hostile

import onward
from onward.errors import ShapeError, SignatureError
from onward.graph.declared import evaluate

DATA = support.DATA / "exported_program"
FILES = sorted(path.name for path in DATA.glob("torch_*.pt2"))
MODEL = "torch_2.13/models/model.json"


def members() -> dict[str, bytes]:
    with zipfile.ZipFile(DATA / "torch_2.13.pt2") as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def zipped(contents: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in contents.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return content.getvalue()


def refused(path: Path, change: Callable[[Any], Any], member: str = MODEL) -> str:
    """Return the error for the archive with a changed member."""
    contents = members()
    tree = json.loads(contents[member])
    changed = change(tree)
    text = json.dumps(tree if changed is None else changed)
    path.write_bytes(zipped(contents | {member: text.encode()}))
    return hostile.refused(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "m.pt2"


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    with np.load(DATA / "expected.npz") as stored:
        return dict(stored)


@pytest.mark.parametrize("file", FILES)
def test_every_version_and_layout_gives_the_stored_outputs(file: str, expected: dict[str, Any]) -> None:
    net = onward.load(DATA / file)
    for _ in range(2):  # a call does not change the file's buffers
        result, calls = net(expected["tokens"], expected["h"])
        assert calls == 1
        last, mean = result["state"]
        for y, name in ((result["scores"], "scores"), (last, "last"), (mean, "mean")):
            np.testing.assert_allclose(y, expected[name], rtol=0, atol=1e-5)
    assert net(expected["tokens"], expected["h"], calls=calls)[1] == 2


@pytest.mark.parametrize("file", FILES)
def test_files_give_the_same_bits(file: str, expected: dict[str, Any]) -> None:
    first, other = (
        onward.load(DATA / name)(expected["tokens"], expected["h"])[0] for name in (FILES[0], file)
    )
    np.testing.assert_array_equal(first["scores"], other["scores"])


def test_sizes_outside_their_range_are_refused(expected: dict[str, Any]) -> None:
    net = onward.load(DATA / "torch_2.13.pt2")
    with pytest.raises(
        ShapeError, match=r"axis 0 of tokens has size 2, but the model takes \w+ from 3 to 64"
    ):
        net(expected["tokens"][:2], expected["h"][:, :2])
    with pytest.raises(ShapeError, match="has size 4 in tokens, but 3 in h"):
        net(expected["tokens"], expected["h"][:, :3])
    rows = net(np.repeat(expected["tokens"], 2, 0), np.repeat(expected["h"], 2, 1))[0]["scores"]
    np.testing.assert_allclose(rows[::2], expected["scores"], atol=1e-5)


def guarded(guards: Any) -> bytes:
    """Return the archive with other guards."""
    contents = members()
    tree = json.loads(contents[MODEL]) | {"guards_code": guards}
    return zipped(contents | {MODEL: json.dumps(tree).encode()})


def test_sizes_for_which_the_program_would_branch_otherwise_are_refused(
    path: Path, expected: dict[str, Any]
) -> None:
    rows = "L['tokens'].size()[0]"
    path.write_bytes(guarded([f"{rows} % 4 == 0 and not {rows} < 0", f"{rows} - 7 != 1", "L['other'] == 3"]))
    net = onward.load(path)
    net.save(path.with_suffix(".safetensors"))
    tokens, h = expected["tokens"], expected["h"]
    for opened in (net, onward.load(path.with_suffix(".safetensors"))):
        for _ in range(2):
            opened(tokens, h)
            opened(np.repeat(tokens, 2, 0), np.repeat(h, 2, 1))
            with pytest.raises(
                ShapeError, match=r"sizes with \w+ % 4 == 0 .* axis 0 of tokens has size \w+ = 3"
            ):
                opened(tokens[:3], h[:, :3])


def test_guards_must_be_conditions(path: Path) -> None:
    for guards in ("L", [3], {"a": 1}):
        path.write_bytes(guarded(guards))
        assert "guards_code" in hostile.refused(path)


def test_missing_and_unknown_arguments_are_named(expected: dict[str, Any]) -> None:
    net = onward.load(DATA / "torch_2.13.pt2")
    with pytest.raises(SignatureError, match="missing inputs: h"):
        net(expected["tokens"])
    with pytest.raises(SignatureError, match="unknown inputs: state"):
        net(expected["tokens"], expected["h"], state=1)


def test_state_dict_lists_the_arrays_of_the_file() -> None:
    tensors = onward.formats.load_tensors(DATA / "torch_2.13.pt2")
    assert tensors["embedding.weight"].shape == (7, 3)
    np.testing.assert_array_equal(tensors["embedding.weight"], tensors["head.weight"])
    assert tensors["scale"].dtype == np.float32  # from bfloat16


def test_summary_counts_the_weights_of_recurrent_layers() -> None:
    rows = onward.load(DATA / "torch_2.13.pt2").summary_rows()
    (gru,) = (row for row in rows if row.kind == "aten.gru.input")
    assert gru.parameters == 2 * 3 * 3 * (3 + 3 + 2)


def test_expressions_of_sizes() -> None:
    sizes = {"s0": 6, "s1": 4}
    for text, value in {
        "s0": 6,
        "2*s0 + 1": 13,
        "Add(Mul(Integer(2), s0), Integer(-1))": 11,
        "FloorDiv(s0, Integer(4))": 1,
        "(s0 - s1)//2": 1,
        "Max(s0, s1) % 5": 1,
        "s0 // 4 == 1 and s1 != 0": True,
        "max(s0, 7) < 7 or not s0 > s1": False,
        "math.trunc(0.7*torch.sym_float(s0)) <= 4": True,
    }.items():
        assert evaluate(text, sizes) == value
    for text in (
        "s2",
        "__import__('os')",
        "s0.real",
        "9**9**9",
        "(" * 3000,
        "[s0 for s0 in s1]",
        "1/0",
        "s0/2",
        "math.pi < 4",
        "s0 == s2",
        "1 < s0 < 2",
    ):
        assert evaluate(text, sizes) is None


def test_other_schema_versions_are_named(path: Path) -> None:
    for major in (4, 9):
        assert f"schema version {major}.1; Onward reads versions 5 to 8" in refused(
            path, lambda tree, major=major: tree.update(schema_version={"major": major, "minor": 1})
        )


def test_later_minor_versions_open(path: Path, expected: dict[str, Any]) -> None:
    contents = members()
    tree = json.loads(contents[MODEL])
    tree["schema_version"]["minor"] = 999
    tree["new_field"] = [1]
    tree["graph_module"]["graph"]["nodes"][0]["new_field"] = {}
    path.write_bytes(zipped(contents | {MODEL: json.dumps(tree).encode()}))
    assert onward.load(path)(expected["tokens"], expected["h"])[1] == 1


def test_machine_code_is_refused_by_name(path: Path) -> None:
    path.write_bytes(zipped({"m/archive_format": b"pt2", "m/data/aotinductor/model/model.so": b"\x7fELF"}))
    assert "AOTInductor" in hostile.refused(path)


def graph(tree: Any) -> Any:
    return tree["graph_module"]["graph"]


def test_references_must_exist(path: Path) -> None:
    def dangling(tree: Any) -> None:
        graph(tree)["nodes"][1]["inputs"][0]["arg"] = {"as_tensor": {"name": "nothing"}}

    assert "the value nothing is not defined" in refused(path, dangling)

    def cyclic(tree: Any) -> None:
        nodes = graph(tree)["nodes"]
        nodes[1]["inputs"][0]["arg"] = nodes[-1]["outputs"][0]

    assert "is not defined" in refused(path, cyclic)

    def undeclared(tree: Any) -> None:
        graph(tree)["tensor_values"].clear()

    assert "does not declare the tensor" in refused(path, undeclared)

    def without_outputs(tree: Any) -> None:
        tree["graph_module"]["signature"]["output_specs"].clear()

    assert "different numbers of outputs" in refused(path, without_outputs)


def test_operators_that_do_not_exist_name_their_node(path: Path) -> None:
    for target in (
        "torch.ops.aten.nothing.default",
        "os.system",
        "torch.ops.aten.__import__.default",
        "torch.ops.higher_order.nothing",
        "_operator.attrgetter",
        "",
        "torch.ops.aten._.default",
    ):

        def rename(tree: Any, target: str = target) -> None:
            graph(tree)["nodes"][2]["target"] = target

        message = refused(path, rename)
        assert "not supported" in message or "not those of the operator" in message


def test_arguments_of_other_kinds_are_refused(path: Path) -> None:
    huge = 10**4000
    for argument in (
        {"as_int": huge}, {"as_ints": [huge] * 10}, {"as_none": True}, {"as_string": "x"},
        {"as_tensors": [5]}, {"as_tensor": {"name": ["x"]}}, {"as_graph": {"graph": {}}},
        {"as_sym_int": {}}, {}, [], 7, None,
        {"as_int": 1, "as_bool": True}, {"as_unknown": 1}, {"as_float": "x"}, {"as_scalar_type": 99},
    ):  # fmt: skip

        def replace(tree: Any, argument: Any = argument) -> None:
            for node in graph(tree)["nodes"]:
                for entry in node["inputs"]:
                    entry["arg"] = argument

        refused(path, replace)


def test_sizes_must_agree_with_the_bytes(path: Path) -> None:
    config = next(name for name in members() if name.endswith("weights_config.json"))
    for field, value, words in (
        ("sizes", [{"as_int": 1 << 40}, {"as_int": 3}], "but the member"),
        ("sizes", [{"as_int": -1}, {"as_int": 3}], "not integers from 0"),
        ("sizes", [{"as_int": 10**30}, {"as_int": 10**30}], "not integers from 0"),
        ("strides", [{"as_int": 1 << 60}, {"as_int": 1}], "but the member"),
        ("storage_offset", {"as_int": 1 << 62}, "but the member"),
        ("strides", [], "2 sizes and 0 strides"),
        ("dtype", 99, "dtype number 99"),
        ("layout", 1, "sparse"),
    ):

        def change(tree: Any, field: str = field, value: Any = value) -> None:
            tree["config"]["embedding.weight"]["tensor_meta"][field] = value

        assert words in refused(path, change, config)

    def repeated(tree: Any) -> None:
        meta = tree["config"]["embedding.weight"]["tensor_meta"]
        meta |= {"sizes": [{"as_int": 1 << 31}] * 2, "strides": [{"as_int": 0}] * 2}

    assert "bytes of memory" in refused(path, repeated, config)

    def moved(tree: Any) -> None:
        tree["config"]["embedding.weight"]["path_name"] = "nothing"

    assert "no member" in refused(path, moved, config)


def test_deep_or_encoded_json_is_refused(path: Path) -> None:
    contents = members()
    for text in ("[" * 100_000, '{"a":' * 100_000, "9" * 100_000, "{", "\xff", "{\0\0\0}\0\0\0"):
        path.write_bytes(zipped(contents | {MODEL: text.encode("latin-1")}))
        assert "not valid JSON" in hostile.refused(path)

    def deep(tree: Any) -> None:
        node: Any = {"target": "torch.ops.higher_order.cond", "inputs": [], "outputs": [], "metadata": {}}
        inner = {"inputs": [], "outputs": [], "nodes": [], "tensor_values": {}}
        for _ in range(50):
            argument = {"name": "", "arg": {"as_graph": {"name": "g", "graph": inner}}}
            inner = {
                "inputs": [],
                "outputs": [],
                "nodes": [node | {"inputs": [argument]}],
                "tensor_values": {},
            }
        graph(tree)["nodes"] = inner["nodes"]

    assert "nested more than 16 deep" in refused(path, deep)


def test_deep_structures_are_refused(path: Path) -> None:
    for text in (
        '[1, {"type": "builtins.tuple", "context": "null", "children_spec": [' * 1 + "[" * 90_000,
        json.dumps([1, {"type": "os.system", "context": None, "children_spec": []}]),
        json.dumps([1, {"type": None, "context": None, "children_spec": []}]),
        "null",
        "",
    ):

        def change(tree: Any, text: str = text) -> None:
            call = next(entry for entry in tree["graph_module"]["module_call_graph"] if entry["fqn"] == "")
            call["signature"]["in_spec"] = call["signature"]["out_spec"] = text

        if text:
            refused(path, change)


def test_damaged_archives_raise_only_our_errors(path: Path) -> None:
    whole = (DATA / "torch_2.13.pt2").read_bytes()
    rng = np.random.default_rng(0)
    contents = []
    for _ in range(100):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), 3):
            damaged[place] = rng.integers(256)
        contents.append(bytes(damaged))
    plain = members()
    for _ in range(100):
        text = bytearray(plain[MODEL])
        for place in rng.integers(0, len(text), 3):
            text[place] = rng.integers(32, 127)
        contents.append(zipped(plain | {MODEL: bytes(text)}))
    onward.load(DATA.parent / "torch" / "weights.pt")  # import what some damaged archives resemble
    hostile.open_damaged(path, contents)
