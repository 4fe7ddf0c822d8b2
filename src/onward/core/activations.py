"""The activation functions by name: their parameters, defaults and counterparts in the core."""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

from ..errors import ArgumentError
from .checks import finite, flag

Spec: TypeAlias = str | tuple[str | float, ...]  # "tanh", or with parameters ("leaky_relu", 0.01)
Specs: TypeAlias = tuple[Spec, ...]  # one for each activation of a cell
Call: TypeAlias = tuple[str, float, float]  # the core's name for the function, alpha, beta


class Function(NamedTuple):
    """A function of the core. The first `takes` of alpha and beta are parameters; None means no default."""

    core: str
    alpha: float | None = 0.0
    beta: float | None = 0.0
    takes: int = 0


# Definitions and defaults follow ONNX, and Keras for functions that ONNX lacks. hard_sigmoid is the one in
# Keras 3 and PyTorch, hard_sigmoid_keras2 the one in Keras 2 and ONNX. SELU's constants: Klambauer et al.
# 2017.
FUNCTIONS = {
    "affine": Function("affine", None, None, takes=2),  # alpha x + beta
    "elu": Function("elu", 1.0, 1.0, takes=1),  # x, or alpha (exp(x) - 1) where x < 0
    "exponential": Function("exponential"),  # exp(x)
    "gelu": Function("gelu"),  # x Phi(x), Phi the normal distribution
    "hard_sigmoid": Function("hard_sigmoid", 1 / 6, 0.5, takes=2),  # alpha x + beta, clipped to [0, 1]
    "hard_sigmoid_keras2": Function("hard_sigmoid", 0.2, 0.5),
    "hard_swish": Function("hard_swish", 1 / 6, 0.5),  # x hard_sigmoid(x)
    "leaky_relu": Function("leaky_relu", 0.01, takes=1),  # x, or alpha x where x < 0
    "linear": Function("affine", 1.0, 0.0),  # x
    "mish": Function("mish"),  # x tanh(log(1 + exp(x)))
    "relu": Function("relu"),  # x, or 0 where x < 0
    "relu6": Function("relu6"),  # x clipped to [0, 6]
    "scaled_tanh": Function("scaled_tanh", None, None, takes=2),  # alpha tanh(beta x)
    "selu": Function("elu", 1.6732632423543772, 1.0507009873554805),
    "sigmoid": Function("sigmoid"),  # 1 / (1 + exp(-x))
    "silu": Function("silu"),  # x sigmoid(x)
    "softplus": Function("softplus"),  # log(1 + exp(x))
    "softsign": Function("softsign"),  # x / (1 + |x|)
    "swish": Function("silu"),
    "tanh": Function("tanh"),
    "thresholded_relu": Function("thresholded_relu", 1.0, takes=1),  # x, or 0 where x <= alpha
}


def is_spec(value: Any) -> bool:
    """Whether `value` looks like one function: a name, or a sequence of a name and its parameters."""
    if not is_sequence(value):
        return isinstance(value, str)
    return len(value) > 0 and isinstance(value[0], str) and not any(map(is_spec, value[1:]))


def is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def spec(argument: str, value: Any) -> Spec:
    """`value` as a Spec with float parameters. Raises ArgumentError."""
    if not is_spec(value):
        raise ArgumentError(
            f"{argument}={value!r}; expected the name of a function, or a name and parameters such as "
            "('leaky_relu', 0.01)"
        )
    name, *given = parts(value)
    if name not in FUNCTIONS:
        raise ArgumentError(f"{argument}={value!r}; expected one of {', '.join(FUNCTIONS)}")
    function = FUNCTIONS[name]
    required = (function.alpha, function.beta).count(None)
    if not required <= len(given) <= function.takes:
        bounds = f"{required}" if required == function.takes else f"{required} to {function.takes}"
        raise ArgumentError(f"{argument}={value!r} has {len(given)} parameters; {name} takes {bounds}")
    parameters = [number for number in map(finite, given) if number is not None]
    if len(parameters) < len(given):
        raise ArgumentError(f"{argument}={value!r} has a parameter that is not a finite number")
    return (name, *parameters) if given else name


def choose_one(argument: str, value: Any, bidirectional: bool) -> Spec | tuple[Spec, Spec]:
    """`value` as one Spec, or as two if the directions differ. Raises ArgumentError."""
    if flag("bidirectional", bidirectional) and is_sequence(value) and len(value) == 2 and not is_spec(value):
        forward, reverse = (spec(argument, one) for one in value)
        return forward if forward == reverse else (forward, reverse)
    return spec(argument, value)


def choose(
    argument: str, value: Any, places: Sequence[str], bidirectional: bool
) -> Specs | tuple[Specs, Specs]:
    """`value` as one Spec per place, or as two such tuples if the directions differ. Raises ArgumentError."""

    def fits(one: Any) -> bool:
        return is_sequence(one) and len(one) == len(places) and all(map(is_spec, one))

    def specs(one: Any) -> Specs:
        return tuple(spec(argument, function) for function in one)

    if fits(value):
        return specs(value)
    differ = flag("bidirectional", bidirectional) and is_sequence(value) and len(value) == 2
    if differ and all(map(fits, value)):
        forward, reverse = map(specs, value)
        return forward if forward == reverse else (forward, reverse)
    raise ArgumentError(
        f"{argument}={value!r}; expected {len(places)} functions ({', '.join(places)}), "
        "or two such tuples for a bidirectional layer"
    )


def by_direction(chosen: Any) -> tuple[Specs, Specs]:
    """The Specs of the forward and the reverse direction, from the result of `choose`."""
    forward, reverse = (chosen, chosen) if all(map(is_spec, chosen)) else chosen
    return forward, reverse


def parts(function: Spec) -> tuple[Any, ...]:
    """The name and the given parameters of a Spec."""
    return (function,) if isinstance(function, str) else function


def call(function: Spec) -> Call:
    """The arguments of the core for a Spec."""
    name, *given = parts(function)
    known = FUNCTIONS[str(name)]
    defaults = [known.alpha, known.beta][len(given) :]
    alpha, beta = (float(parameter or 0) for parameter in [*given, *defaults])
    return known.core, alpha, beta
