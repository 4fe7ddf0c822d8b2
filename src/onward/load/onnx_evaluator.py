"""The onnx package's evaluator, with Onward's recurrent nodes, and constants computed once."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun, RuntimeContextError

from ..errors import ArgumentError
from .onnx_operators import Conv, Loop, Scan, Scope, described
from .onnx_recurrent import GRU, LSTM, RNN

OPERATORS: list[Any] = [RNN, GRU, LSTM, Conv, Loop, Scan]
RANDOM = {
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
}


class Evaluator(ReferenceEvaluator):
    """Runs a graph, a subgraph of one, or a function; errors name the node."""

    def __init__(
        self,
        proto: Any,
        opsets: dict[str, int] | None = None,
        functions: list[Any] | None = None,
        verbose: int = 0,
        new_ops: Any = None,
        **options: Any,
    ) -> None:
        self._constants: dict[str, Any] = {}
        # the onnx package does not hand new_ops on to functions
        super().__init__(proto, opsets, functions, verbose, OPERATORS, **options)

    def _load_impl(self, node: onnx.NodeProto, *types: Any) -> Any:
        try:
            return super()._load_impl(node, *types)
        except RuntimeContextError:  # the caller knows how to go on
            raise
        except Exception as error:  # of whatever kind the package has for what it does not know
            opset = self.opsets.get(node.domain, "unknown")
            raise ArgumentError(f"{described(node)} of opset {opset} is not supported: {error}") from error

    def run(
        self,
        output_names: Sequence[str] | None,
        feed_inputs: dict[str, Any],
        attributes: dict[str, Any] | None = None,
        *_: Any,
        **__: Any,
    ) -> Any:
        """The outputs in order. In a subgraph, `feed_inputs` are the values around it."""
        constant = {""} | (self.rt_inits_.keys() - feed_inputs.keys())
        if isinstance(feed_inputs, Scope):
            constant |= feed_inputs.constant
        results = Scope({**self.rt_inits_, **feed_inputs, "": None}, constant)
        for node in self.rt_nodes_:
            fixed = _is_pure(node) and results.constant.issuperset(node.input)
            if fixed:
                results.constant.update(node.output)
            if fixed and node.output[0] in self._constants:
                values = self._constants[node.output[0]]
            else:
                values = self._values(node, results, attributes)
            if fixed:
                self._constants[node.output[0]] = values
            results.update((name, value) for name, value in zip(node.output, values, strict=False) if name)
        return [results[name] for name in output_names or self.output_names]

    def constants(self) -> dict[str, Any]:
        """The values by name that are the same in every run."""
        known = Scope(self.rt_inits_, set())
        known[""] = None
        for node in self.rt_nodes_:
            if _is_pure(node) and known.keys() >= set(node.input):
                known.update(zip(node.output, self._values(node, known, None), strict=False))
        return known

    def _values(self, node: OpRun, results: Scope, attributes: dict[str, Any] | None) -> tuple[Any, ...]:
        options: dict[str, Any] = {"context": results} if node.need_context() else {}
        if node.has_linked_attribute and attributes:
            options["linked_attributes"] = attributes
        try:
            with np.errstate(all="ignore"):
                run: Callable[..., tuple[Any, ...]] = node.run
                return run(*(results[name] for name in node.input), **options)
        except Exception as error:  # whatever an operator makes of values that it cannot take
            cause = error.__cause__ or error  # the package wraps some of them in a message of its own
            if isinstance(error, ArgumentError):
                raise  # a node of a subgraph
            raise ArgumentError(f"{described(node.onnx_node)}: {cause}") from error


def _is_pure(node: OpRun) -> bool:
    """Whether the values of a node follow from its inputs alone."""
    return not (node.need_context() or node.has_linked_attribute or node.op_type in RANDOM)
