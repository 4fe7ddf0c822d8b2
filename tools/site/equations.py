"""Turn equations in LaTeX into MathML with the spaces of LaTeX."""

import re

from latex2mathml.converter import convert

FUNCTION = r"<mi>(?:tanh|log|ln|exp|max|min|cos|sin)</mi>"
POWER = rf"<msup>{FUNCTION}(?:<mi>[^<]*</mi>|<mn>[^<]*</mn>)</msup>"  # with a prime or an exponent
# Between a function and an argument without a bracket, and between a factor and a function
BESIDE = re.compile(
    rf"(?:{FUNCTION}|{POWER})(?=<(?:mi|mn|msub|msup|mover|mfrac)\b)"
    rf"|</(?:mi|mn|msub|msup|mfrac)>(?={FUNCTION}|{POWER})"
)
TILDE = re.compile(r'<mover>(<mi>\w</mi>|<mrow><mi>\w</mi></mrow>)<mo stretchy="false">&#x0007E;</mo>')
SIGN = re.compile(r"(?<=<mo>&#x0003D;</mo>)<mo>(?=&#x02212;</mo>)")  # a minus that is no operation
SPACE = '<mspace width="0.167em" />'


def to_mathml(latex: str, display: str = "inline") -> str:
    r"""The MathML of an equation; `display` is inline or block.

    >>> "<mi>tanh</mi>" + SPACE + "<mi>x</mi>" in to_mathml(r"\tanh x")
    True
    >>> SPACE in to_mathml(r"\tanh(x)")
    False
    >>> to_mathml(r"2 \log x").count(SPACE)
    2
    >>> "<mo>;</mo>" in to_mathml("[a; x]")
    True
    """
    latex = " ".join(latex.split()).replace("\\;", " ").replace("\\!", "")
    mathml = BESIDE.sub(rf"\g<0>{SPACE}", convert(latex, display=display))
    mathml = TILDE.sub(r'<mover accent="true">\1<mo stretchy="false">&#x002DC;</mo>', mathml)
    return SIGN.sub('<mo form="prefix">', mathml).replace("<mi>;</mi>", "<mo>;</mo>")
