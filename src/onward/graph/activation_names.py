"""The names of activation functions in ONNX: attributes of recurrent nodes, and operations."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Meaning(NamedTuple):
    """The function of `onward.Activation`, and its parameters with their defaults."""

    function: str
    parameters: Mapping[str, float] = MappingProxyType({})


# 0 if the specification has no default, as in onnxruntime
RECURRENT = {
    "Affine": Meaning("affine", {"alpha": 0.0, "beta": 0.0}),
    "Elu": Meaning("elu", {"alpha": 1.0}),
    "HardSigmoid": Meaning("hard_sigmoid", {"alpha": 0.2, "beta": 0.5}),
    "LeakyRelu": Meaning("leaky_relu", {"alpha": 0.01}),
    "Relu": Meaning("relu"),
    "ScaledTanh": Meaning("scaled_tanh", {"alpha": 0.0, "beta": 0.0}),
    "Sigmoid": Meaning("sigmoid"),
    "Softplus": Meaning("softplus"),
    "Softsign": Meaning("softsign"),
    "Tanh": Meaning("tanh"),
    "ThresholdedRelu": Meaning("thresholded_relu", {"alpha": 0.0}),
}
OPERATORS = RECURRENT | {
    "Exp": Meaning("exponential"),
    "Gelu": Meaning("gelu"),
    "HardSwish": Meaning("hard_swish"),
    "Mish": Meaning("mish"),
    "Selu": Meaning("selu"),
    "Swish": Meaning("silu"),
    "ThresholdedRelu": Meaning("thresholded_relu", {"alpha": 1.0}),
}


def by_function(names: Mapping[str, Meaning]) -> dict[str, str]:
    """Return the name in ONNX of each function."""
    return {meaning.function: name for name, meaning in names.items()}
