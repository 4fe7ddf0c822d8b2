"""Random ONNX models with If, Loop, Scan, SequenceMap, sequences, optional values and local functions."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from .random_onnx_values import KINDS, MAX_DEPTH, Builder, Shape, Value

Feeds = dict[str, NDArray[Any]]
OPSET, DOMAIN = 18, "local"
SIZES = [{"N": 3, "T": 5}, {"N": 2, "T": 1}, {"N": 4, "T": 0}, {"N": 3, "T": 18}]


class Case(NamedTuple):
    """A model, with inputs for several calls."""

    model: onnx.ModelProto
    feeds: list[Feeds]


class RandomModel(Builder):
    """A model that grows by random nodes, bodies and functions."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.functions: list[onnx.FunctionProto] = []

    # control flow

    def some_nodes(self, most: int = 4) -> None:
        for _ in range(self.rng.integers(1, most)):
            self.step()

    def step(self) -> None:
        """Add a few nodes of a random kind."""
        if self.depth < MAX_DEPTH and self.rng.integers(3) == 0:
            self.pick(self.if_, self.loop, self.loop, self.scan, self.scan)()
        else:
            self.pick(self.tensor, self.tensor, self.tensor, self.use_sequence, self.optional, self.call)()

    def if_(self) -> None:
        condition, x = self.condition(), self.any_float()
        sequence = self.sequence() if self.rng.integers(3) == 0 else None
        results, branches = [self.new("float", x.shape)], {}
        if sequence is not None:
            results.append(self.new("sequence", sequence.shape))
        grows = self.rng.integers(4) == 0  # the branches give values of different ranks
        if grows:
            results[0] = results[0]._replace(shape=None)
        for key in ("then_branch", "else_branch"):
            with self.block():
                self.some_nodes(3)
                y = self.like(x)
                if grows and key == "then_branch":
                    y = self.add(
                        "Unsqueeze", y, self.constant([0]), like=y._replace(shape=(1, *(y.shape or ())))
                    )
                outputs = [y] + ([self.changed(sequence)] if sequence is not None else [])
                branches[key] = self.graph([], outputs)
        names = [value.name for value in results]
        self.nodes.append(helper.make_node("If", [condition.name], names, **branches))
        self.define(results)

    def define(self, results: list[Value]) -> None:
        """Make results visible; those of unknown shape through their sum."""
        self.values += results
        for value in results:
            if value.kind == "float" and value.shape is None:
                self.scalar(value)

    def loop(self) -> None:
        x = self.any_float()
        count = self.number() if self.rng.integers(4) else None
        condition = self.condition() if count is None or self.rng.integers(3) == 0 else None
        carried = [x] if self.rng.integers(5) else []
        if self.rng.integers(3) == 0:
            carried.append(self.sequence())
        if self.rng.integers(4) == 0:
            carried.append(self.any_float())
        inner = [self.new(value.kind, value.shape, "carried") for value in carried]
        i, goes_on = self.new("int", (), "i"), self.new("bool", (), "on")
        with self.block(i, goes_on, *inner):
            self.some_nodes(3)
            after = [self.changed(v) if v.kind == "sequence" else self.bounded(v) for v in inner]
            scanned = [self.like(self.any_float()) for _ in range(self.rng.integers(3))]
            if self.rng.integers(4) == 0:
                scanned.append(self.add("Add", i, self.constant(3), like=i))
            again = self.again(i, goes_on, has_count=count is not None)
            body = self.graph([i, goes_on, *inner], [again, *after, *scanned])
        results = [self.new(value.kind, value.shape) for value in after]
        results += [self.new(value.kind, self.stacked(value.shape, 0)) for value in scanned]
        if not results:
            return
        inputs = [v.name if v else "" for v in (count, condition, *carried)]
        self.nodes.append(helper.make_node("Loop", inputs, [v.name for v in results], body=body))
        self.finish_loop(results[: len(after)], results[len(after) :])

    def finish_loop(self, final: list[Value], scanned: list[Value]) -> None:
        self.define(final)
        for value in scanned:  # their sizes are not known
            self.values.append(value)
            if value.kind == "float":
                self.scalar(value)

    def stacked(self, shape: Shape | None, axis: int) -> None:
        """The shape of stacked values is unknown: the number of iterations is."""
        return None

    def bounded(self, x: Value) -> Value:
        """A new value of the same shape, at most 1."""
        return self.add("Tanh", self.like(x))

    def again(self, i: Value, goes_on: Value, has_count: bool) -> Value:
        """Whether a loop goes on; without a count it ends after some iterations."""
        flag = Value("", "bool", ())
        limit = self.constant(int(self.pick(1, 3, 18)))
        match self.rng.integers(4) if has_count else 3:
            case 0:
                return self.add("Identity", goes_on)
            case 1:
                return self.constant(True, "bool")
            case 2:
                return self.add("Identity", self.condition())
            case _:
                early = self.add("Less", i, limit, like=flag)
                return self.add("And", early, self.condition(), like=flag) if self.rng.integers(2) else early

    def scan(self) -> None:
        ranked = self.of_kind("float", lambda value: bool(value.shape))
        if not ranked:
            return
        x = ranked[self.rng.integers(len(ranked))]
        assert x.shape is not None
        axis = int(self.rng.integers(len(x.shape)))
        length, scanned = x.shape[axis], [(x, axis)]
        for other in ranked:
            places = [place for place, size in enumerate(other.shape or ()) if size == length]
            if places and len(scanned) < 2 and self.rng.integers(4) == 0:
                scanned.append((other, int(self.pick(*places))))
        self.has_scan = True
        states = [self.any_float() for _ in range(self.rng.integers(3))]
        inner = [self.new("float", state.shape, "state") for state in states]
        slices = [
            self.new("float", tuple(size for a, size in enumerate(v.shape or ()) if a != axis), "slice")
            for v, axis in scanned
        ]
        with self.block(*inner, *slices):
            self.some_nodes(3)
            after = [self.bounded(state) for state in inner]
            ys = [self.like(self.any_float()) for _ in range(self.rng.integers(1, 3))]
            body = self.graph([*inner, *slices], after)
            body.output.extend(self.info(y, True) for y in ys)  # onnxruntime needs their shapes
        axes = [self.signed(axis, len(v.shape or ())) for v, axis in scanned]
        places = [int(self.rng.integers(len(y.shape or ()) + 1)) for y in ys]
        shapes = [
            (*(y.shape or ())[:p], length, *(y.shape or ())[p:]) for y, p in zip(ys, places, strict=True)
        ]
        results = [self.new("float", state.shape) for state in states]
        results += [self.new("float", shape) for shape in shapes]
        options: dict[str, Any] = {}
        if any(axes) or self.rng.integers(2):
            options["scan_input_axes"] = axes
        if any(places) or self.rng.integers(2):
            options["scan_output_axes"] = [
                self.signed(p, len(s)) for p, s in zip(places, shapes, strict=True)
            ]
        if self.rng.integers(2):
            options["scan_input_directions"] = [int(self.rng.integers(2)) for _ in scanned]
        if self.rng.integers(2):
            options["scan_output_directions"] = [int(self.rng.integers(2)) for _ in ys]
        inputs = [*(state.name for state in states), *(v.name for v, _ in scanned)]
        names = [value.name for value in results]
        self.nodes.append(
            helper.make_node("Scan", inputs, names, body=body, num_scan_inputs=len(scanned), **options)
        )
        self.define(results)

    def signed(self, axis: int, rank: int) -> int:
        return int(self.pick(axis, axis - rank))

    # functions

    def call(self) -> None:
        """Call a function of the file, with or without its attribute."""
        if not self.functions:
            return
        function = self.pick(*self.functions)
        x = self.any_float()
        options = {"alpha": float(self.normal())} if self.rng.integers(2) else {}
        self.add(function.name, x, self.scalar(self.any_float()), like=x, domain=DOMAIN, **options)

    def function(self) -> None:
        """Define a function of a tensor and a number, which may call earlier ones."""
        name = f"function_{len(self.functions)}"
        x, number = Value("x", "float", None), Value("number", "float", ())
        values, nodes = self.values, self.nodes
        self.values, self.nodes = [number], []
        self.depth = MAX_DEPTH - 1
        scaled = self.new("float", None)
        leaky = helper.make_node("LeakyRelu", [x.name], [scaled.name])
        leaky.attribute.append(
            onnx.AttributeProto(name="alpha", ref_attr_name="alpha", type=onnx.AttributeProto.FLOAT)
        )
        self.nodes.append(leaky)
        self.some_nodes(3)
        y = self.add("Add", scaled, self.any_scalar(), like=scaled)
        if self.functions and self.rng.integers(2):
            earlier = self.pick(*self.functions)
            y = self.add(earlier.name, y, number, domain=DOMAIN)
        default = helper.make_attribute("alpha", 0.25)
        self.functions.append(
            helper.make_function(
                DOMAIN,
                name,
                [x.name, number.name],
                [y.name],
                self.nodes,
                [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)],
                attribute_protos=[default],
            )
        )
        self.values, self.nodes, self.depth = values, nodes, 0

    def any_scalar(self) -> Value:
        return self.scalar(self.any_float())

    # the whole model

    def build(self) -> Case:
        for _ in range(self.rng.integers(3)):
            self.function()
        inputs = [
            Value("x", "float", ("N", "T", 4)),
            Value("h", "float", ("N", 4)),
            Value("n", "int", ()),
            Value("flag", "bool", ()),
        ]
        self.values = list(inputs)
        self.some_nodes(7)
        self.pick(self.if_, self.loop, self.scan, self.use_sequence)()
        known = {value.name for value in inputs}
        made = [v for v in self.values if v.name not in known and v.kind in (*KINDS, "sequence")]
        outputs = made[-4:]
        declared = [self.info(value, declares=value.kind != "int") for value in inputs]
        graph = helper.make_graph(self.nodes, "random", declared, [self.info(v, False) for v in outputs])
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=self.functions)
        # onnxruntime refuses a Scan of no slices, or ends the process
        sizes = [size for size in SIZES if size["T"] or not self.has_scan]
        return Case(model, [self.feed(size) for size in self.rng.permutation(sizes)[:3]])

    def feed(self, sizes: dict[str, int]) -> Feeds:
        N, T = sizes["N"], sizes["T"]
        count = np.array(self.pick(0, 1, 4, 17), np.int64)
        flag = np.array(bool(self.rng.integers(2)))
        return {"x": self.normal(N, T, 4), "h": self.normal(N, 4), "n": count, "flag": flag}
