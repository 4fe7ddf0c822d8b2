"""Functions in TorchScript of numbers that are known, sizes of an input, or values of a tensor."""

import numpy as np

INTEGERS = ["3", "-7", "x.size(0)", "-x.size(1)", "(x.size(1) - 9)", "(int(x.abs().sum()) + 20)"]
FLOATS = ["2.5", "-3.5", "x.size(0) / 2", "-x.size(1) / 4", "x.size(1) * 0.75", "float(x.sum())"]
UNARY = """
-{a}, abs({a}), round({a}), int({a}), float({a}), bool({a}), not {a}, max([{a}, {a}]), sum([{a}, {a}]),
math.floor({a}), math.ceil({a}), math.fabs({a}), math.sqrt(abs({a})), math.exp({a}), math.expm1({a}),
math.log(abs({a}) + 1), math.log1p(abs({a})), math.log2(abs({a}) + 1), math.log10(abs({a}) + 1),
math.sin({a}), math.cos({a}), math.tanh({a}), math.atan({a}), math.erf({a}), math.degrees({a}),
math.radians({a}), [1, 2, 3, 4, 5][int({a}) % 5]
"""
BINARY = """
{a} + {b}, {a} - {b}, {a} * {b}, {a} / {b}, {a} // {b}, {a} % {b}, {a} ** 2, {a} < {b}, {a} >= {b},
{a} == {b}, max({a}, {b}), min({a}, {b}), divmod({a}, {b})[0], divmod({a}, {b})[1], math.fmod({a}, {b}),
math.atan2({a}, {b}), math.copysign({a}, {b}), int({a}) % int({b} * 8), 1 if {a} > {b} else 0
"""


def code(random: np.random.Generator) -> str:
    """Return a method that returns a random function of random numbers as a tensor."""
    functions = [*_parts(UNARY), *_parts(BINARY)]
    a, b = (str(random.choice([*INTEGERS, *FLOATS])) for _ in range(2))
    value = functions[random.integers(len(functions))].format(a=a, b=b)
    return f"def forward(self, x):\n    return torch.tensor({value})\n"


def _parts(text: str) -> list[str]:
    """Return the parts between the commas outside of brackets."""
    parts, depth = [""], 0
    for character in text.strip():
        depth += (character in "([") - (character in ")]")
        parts[-1] += character
        if character == "," and not depth:
            parts[-1] = parts[-1][:-1]
            parts.append("")
    return [part.strip() for part in parts]
