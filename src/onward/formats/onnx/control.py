"""ONNX's Loop and Scan, which the onnx package's evaluator does not run as the specification says."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.reference.op_run import OpRun

from ...errors import ArgumentError
from .operators import AnyArray, described


class Scope(dict[str, Any]):
    """The values of a run by name, with those of them that are the same in every run, or None if none are."""

    def __init__(self, values: Mapping[str, Any], constants: Mapping[str, Any] | None) -> None:
        super().__init__(values)
        self.constants = constants

    def within(self, names: Sequence[str], values: Sequence[Any]) -> "Scope":
        """The scope of a subgraph with values of its own."""
        return Scope(self | dict(zip(names, values, strict=True)), self.constants)


class Loop(OpRun):
    """The package's joins the rounds along an axis that is there, and takes no condition for False."""

    op_domain = ""

    def need_context(self) -> bool:
        return True

    def _run(
        self, M: Any, cond: Any, *carried: Any, context: Scope, body: Any, attributes: Any = None
    ) -> tuple[Any, ...]:
        rounds: list[Any] = []
        goes_on = cond is None or bool(cond)
        while goes_on and (M is None or len(rounds) < M):
            values = [np.array(len(rounds), np.int64), np.array(True), *carried]
            goes_on, *results = body.run(None, context.within(body.input_names, values), attributes)
            carried, scanned = tuple(results[: len(carried)]), results[len(carried) :]
            rounds.append(scanned)
        return *carried, *_stacked(rounds, body, 1 + len(carried))


class Scan(OpRun):
    """The package's knows neither other axes than the first nor reverse directions."""

    op_domain = ""

    def __init__(self, node: onnx.NodeProto, run_params: dict[str, Any]) -> None:
        super().__init__(node, run_params)
        if run_params["opsets"][""] < 9:
            raise ArgumentError(f"{described(node)} is of opset 8, which later ones broke with: convert it")

    def need_context(self) -> bool:
        return True

    def _run(
        self,
        *inputs: Any,
        context: Scope,
        body: Any,
        num_scan_inputs: int,
        attributes: Any = None,
        scan_input_axes: Sequence[int] | None = None,
        scan_input_directions: Sequence[int] | None = None,
        scan_output_axes: Sequence[int] | None = None,
        scan_output_directions: Sequence[int] | None = None,
    ) -> tuple[Any, ...]:
        carried, scanned = inputs[:-num_scan_inputs], inputs[-num_scan_inputs:]
        steps = [
            np.moveaxis(x, axis, 0)[:: -1 if backwards else 1]
            for x, axis, backwards in _each(scanned, scan_input_axes, scan_input_directions)
        ]
        rounds: list[Any] = []
        for values in zip(*steps, strict=True):
            results = body.run(None, context.within(body.input_names, (*carried, *values)), attributes)
            carried = tuple(results[: len(carried)])
            rounds.append(results[len(carried) :])
        outputs = _stacked(rounds, body, len(carried))
        return *carried, *(
            np.moveaxis(y[:: -1 if backwards else 1], 0, axis)
            for y, axis, backwards in _each(outputs, scan_output_axes, scan_output_directions)
        )


def _each(
    arrays: Sequence[AnyArray], axes: Sequence[int] | None, directions: Sequence[int] | None
) -> Iterator[tuple[AnyArray, int, int]]:
    none = [0] * len(arrays)
    return zip(arrays, axes or none, directions or none, strict=True)


def _stacked(rounds: list[Sequence[Any]], body: Any, first: int) -> list[AnyArray]:
    """What the rounds of a body gave along a new first axis; of no rounds, as the body declares it."""
    if rounds:
        return [np.stack(each) for each in zip(*rounds, strict=True)]
    declared = [kind.tensor_type for kind in body.output_types[first:]]
    return [
        np.zeros(
            [0, *(d.dim_value for d in kind.shape.dim)],
            onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type),
        )
        for kind in declared
    ]
