"""ONNX's names for the activation functions: as attributes of recurrent nodes, and as operators."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

RECURRENT = {  # the core's functions, and the parameters that each takes
    "affine": ("Affine", "activation_alpha", "activation_beta"),
    "elu": ("Elu", "activation_alpha"),
    "hard_sigmoid": ("HardSigmoid", "activation_alpha", "activation_beta"),
    "leaky_relu": ("LeakyRelu", "activation_alpha"),
    "relu": ("Relu",),
    "scaled_tanh": ("ScaledTanh", "activation_alpha", "activation_beta"),
    "sigmoid": ("Sigmoid",),
    "softplus": ("Softplus",),
    "softsign": ("Softsign",),
    "tanh": ("Tanh",),
    "thresholded_relu": ("ThresholdedRelu", "activation_alpha"),
}


class Operator(NamedTuple):
    """The function of `onward.Activation` that an operator is, and its attributes with their defaults."""

    function: str
    attributes: Mapping[str, float] = MappingProxyType({})


OPERATORS = {
    "Elu": Operator("elu", {"alpha": 1.0}),
    "Exp": Operator("exponential"),
    "Gelu": Operator("gelu"),
    "HardSigmoid": Operator("hard_sigmoid", {"alpha": 0.2, "beta": 0.5}),
    "LeakyRelu": Operator("leaky_relu", {"alpha": 0.01}),
    "Mish": Operator("mish"),
    "Relu": Operator("relu"),
    "Selu": Operator("selu"),
    "Sigmoid": Operator("sigmoid"),
    "Softplus": Operator("softplus"),
    "Softsign": Operator("softsign"),
    "Tanh": Operator("tanh"),
    "ThresholdedRelu": Operator("thresholded_relu", {"alpha": 1.0}),
}
