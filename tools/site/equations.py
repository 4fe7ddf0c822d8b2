"""Turn equations in LaTeX into MathML with the spaces of LaTeX."""

import re

from latex2mathml.converter import convert

FUNCTION = r"<mi>(?:tanh|log|ln|exp|max|min|cos|sin)</mi>"
# A function, perhaps with a prime or an exponent, in front of an argument without a bracket
APPLIED = re.compile(
    rf"({FUNCTION}|<msup>{FUNCTION}(?:<mi>[^<]*</mi>|<mn>[^<]*</mn>)</msup>)(?=<(?:mi|mn|msub|msup|mfrac)\b)"
)
SPACE = '<mspace width="0.167em" />'


def to_mathml(latex: str, display: str = "inline") -> str:
    r"""The MathML of an equation; `display` is inline or block.

    >>> "<mi>tanh</mi>" + SPACE + "<mi>x</mi>" in to_mathml(r"\tanh x")
    True
    >>> SPACE in to_mathml(r"\tanh(x)")
    False
    >>> "<mo>;</mo>" in to_mathml("[a; x]")
    True
    """
    latex = " ".join(latex.split()).replace("\\;", " ").replace("\\!", "")
    mathml = APPLIED.sub(rf"\1{SPACE}", convert(latex, display=display))
    return mathml.replace("<mi>;</mi>", "<mo>;</mo>")
