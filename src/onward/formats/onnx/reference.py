"""Run operators that Onward does not define with RE2 or the onnx package's references, if installed.

Only operators in OPERATORS run, because tests compare their results with another implementation. They process
strings and sequences, sample regions, or belong to classical machine learning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...core import budget
from ...core.extras import install_hint
from ...errors import ArgumentError, OnwardError
from . import messages, reference_costs
from .protobuf import encode

OPERATORS = frozenset(
    "DeformConv RegexFullMatch RoiAlign StringNormalizer TfIdfVectorizer "
    "ai.onnx.ml.ArrayFeatureExtractor ai.onnx.ml.Binarizer "
    "ai.onnx.ml.FeatureVectorizer ai.onnx.ml.Imputer ai.onnx.ml.LabelEncoder ai.onnx.ml.LinearRegressor "
    "ai.onnx.ml.OneHotEncoder ai.onnx.ml.Scaler ai.onnx.ml.TreeEnsemble".split()
)


def function(node: messages.Node, version: int, attributes: dict[str, Any]) -> Callable[..., Any]:
    """Return a function of the node's inputs. Raises ArgumentError if the operator is not in OPERATORS."""
    operator = node.operator
    if operator not in OPERATORS:
        raise ArgumentError(
            f"the operator {operator} of opset {version} is not supported: export the model without it, or "
            "split the model around it"
        )
    try:
        reference_costs.charge_preparation(attributes)
        if operator == "RegexFullMatch":
            return FullMatch(attributes.get("pattern", ""))
        return ReferenceOperator(encode(node), version, operator, attributes)
    except ModuleNotFoundError as error:
        raise ArgumentError(f"the operator {operator} needs {error.name}: {install_hint('onnx')}") from error
    except OnwardError:
        raise
    except Exception as error:  # any type: the operator may lack or reject an attribute
        raise ArgumentError(f"the onnx package does not run it: {error}") from error


class FullMatch:
    """RegexFullMatch: whether strings match a regular expression as a whole; it can be pickled.

    RE2 takes time that is linear in the strings, whatever the expression.
    """

    def __init__(self, pattern: str) -> None:
        import re2

        options = re2.Options()
        options.log_errors = False
        self._pattern, self._compiled = pattern, re2.compile(pattern, options)

    def __call__(self, x: Any) -> tuple[Any, ...]:
        budget.spend(sum(budget.STEP + len(text) * (1 + len(self._pattern)) for text in x.flat))
        found = [self._compiled.fullmatch(text) is not None for text in x.flat]
        return (np.array(found, bool).reshape(x.shape),)

    def __reduce__(self) -> tuple[Any, ...]:
        return FullMatch, (self._pattern,)


class ReferenceOperator:
    """A node that the onnx package runs; it can be pickled."""

    def __init__(self, node: bytes, version: int, operator: str, attributes: dict[str, Any]) -> None:
        import onnx
        from onnx.reference import ReferenceEvaluator

        self._options = node, version, operator, attributes
        proto = onnx.NodeProto.FromString(node)
        values = [dict.fromkeys(filter(None, names)) for names in (proto.input, proto.output)]
        inputs, outputs = ([onnx.ValueInfoProto(name=name) for name in names] for names in values)
        graph = onnx.helper.make_graph([proto], "operator", inputs, outputs)
        opset = onnx.helper.make_opsetid(proto.domain, version)
        model = onnx.helper.make_model(graph, opset_imports=[opset])
        self._input_names, self._outputs = list(proto.input), [bool(name) for name in proto.output]
        self._evaluator = ReferenceEvaluator(model)

    def __call__(self, *inputs: Any) -> tuple[Any, ...]:
        _, _, operator, attributes = self._options
        feed = {name: a for name, a in zip(self._input_names, inputs, strict=True) if name}
        try:
            reference_costs.charge(operator, inputs, attributes)
            results = iter(self._evaluator.run(None, feed))
        except (MemoryError, OnwardError):
            raise
        except Exception as error:  # any type: each operator has its own
            raise ArgumentError(f"the onnx package does not run it: {error}") from error
        return tuple(next(results) if used else None for used in self._outputs)

    def __reduce__(self) -> tuple[Any, ...]:
        return ReferenceOperator, self._options
