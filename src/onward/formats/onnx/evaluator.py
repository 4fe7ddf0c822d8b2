"""The onnx package's evaluator, with Onward's own operators, and constants computed once."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun, RuntimeContextError

from ...errors import ArgumentError
from . import function_protos
from .control import Loop, Scan, Scope
from .convolution_transpose import ConvTranspose
from .corrected import CORRECTED
from .function_operators import FUNCTIONS
from .layer_operators import LAYERS, Operator, with_biases
from .operators import described
from .quantized import DynamicQuantizeLSTM, DynamicQuantizeMatMul, MatMulIntegerToFloat
from .recurrent_operators import GRU, LSTM, RNN
from .resize import RESIZED

OPERATORS: list[Any] = [
    *(RNN, GRU, LSTM, Loop, Scan),
    *(DynamicQuantizeLSTM, DynamicQuantizeMatMul, MatMulIntegerToFloat),
]
DOMAINS = {
    "": LAYERS | CORRECTED | RESIZED | {"ConvTranspose": ConvTranspose},
    function_protos.DOMAIN: FUNCTIONS,
}
RANDOM = {
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
}


class Plan(NamedTuple):
    """What a run has to do: the nodes whose values can change, given the values that never do."""

    nodes: list[OpRun]
    constants: dict[str, Any]


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
        self._plan: Plan | None = None
        # the onnx package does not hand new_ops on to functions
        super().__init__(proto, opsets, functions, verbose, OPERATORS, **options)
        self.rt_nodes_ = with_biases(self.rt_nodes_, self.output_names_)

    def _load_impl(self, node: onnx.NodeProto, *types: Any) -> Any:
        try:
            return self._own(node) or super()._load_impl(node, *types)
        except RuntimeContextError:  # the caller knows how to go on
            raise
        except Exception as error:  # of whatever kind the package has for what it does not know
            opset = self.opsets.get(node.domain, "unknown")
            raise ArgumentError(f"{described(node)} of opset {opset} is not supported: {error}") from error

    def _own(self, node: onnx.NodeProto) -> type[Operator] | None:
        """The operator of Onward's that runs a node; None where it is left to the onnx package."""
        own, opset = DOMAINS.get(node.domain, {}).get(node.op_type), self.opsets.get(node.domain, 0)
        if node.domain == function_protos.DOMAIN and (own is None or opset != function_protos.VERSION):
            raise ArgumentError("this version of Onward does not know it")
        if own is None or (any(a.ref_attr_name for a in node.attribute) and not own.linked):
            return None
        given = [a for a in node.attribute if not a.ref_attr_name]
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in given}
        return own if own.takes(attributes, len(node.output), opset) else None

    def run(
        self,
        output_names: Sequence[str] | None,
        feed_inputs: dict[str, Any],
        attributes: dict[str, Any] | None = None,
        *_: Any,
        **__: Any,
    ) -> Any:
        """The outputs in order. In a subgraph, `feed_inputs` are the values around it."""
        around = feed_inputs.constants if isinstance(feed_inputs, Scope) else {}
        if around is None or not self.rt_inits_.keys().isdisjoint(feed_inputs):
            nodes, known, constants = self.rt_nodes_, self.rt_inits_, None  # an initializer is overridden
        else:
            nodes, known = self.plan(around)
            constants = known
        results = Scope({**known, **feed_inputs, "": None}, constants)
        for node in nodes:
            _take(node, results, attributes)
        return [results[name] for name in output_names or self.output_names]

    def plan(self, around: Mapping[str, Any] | None = None) -> Plan:
        """Made at the first run, given the constants around the graph, and kept."""
        if self._plan is None:
            outside = {name: a for name, a in (around or {}).items() if name not in self.input_names}
            known = Scope({**outside, **self.rt_inits_, "": None}, None)
            changing = []
            for node in self.rt_nodes_:
                if is_pure(node) and known.keys() >= set(node.input):
                    _take(node, known, None)
                else:
                    changing.append(node)
            self._plan = Plan(changing, dict(known))
        return self._plan


def is_pure(node: OpRun) -> bool:
    """Whether the values of a node follow from its inputs alone."""
    return not (node.need_context() or node.has_linked_attribute or node.op_type in RANDOM)


def _take(node: OpRun, results: Scope, attributes: dict[str, Any] | None) -> None:
    """Runs a node, and puts what it gives among the results."""
    options: dict[str, Any] = {"context": results} if node.need_context() else {}
    if node.has_linked_attribute and attributes:
        options["linked_attributes"] = attributes
    values = run(node, [results[name] for name in node.input], **options)
    for name, value in zip(node.output, values, strict=False):
        if name:
            results[name] = value


def run(node: OpRun, inputs: Sequence[Any], **options: Any) -> tuple[Any, ...]:
    """The outputs of a node. Raises ArgumentError, which names the node."""
    try:
        with np.errstate(all="ignore"):
            values: tuple[Any, ...] = node.run(*inputs, **options)  # type: ignore[no-untyped-call]  # of onnx
    except Exception as error:  # whatever an operator raises for values that it cannot take
        if isinstance(error, ArgumentError) and node.need_context():
            raise  # of a node of a subgraph, which is named
        cause = error.__cause__ or error  # the package wraps some of them in a message of its own
        raise ArgumentError(f"{described(node.onnx_node)}: {cause}") from error
    return values
