"""Prepare docstrings, which are written for `help()`, to be read as Markdown."""

import re
from typing import Any

import griffe

SINGLE = re.compile(r"(?<=[^\s*])\*(?!\*)|(?<!\*)\*(?=\w)")  # an asterisk that is not part of **bold**


class PlainDocstrings(griffe.Extension):
    """Put examples into code blocks, and escape characters that Markdown would interpret."""

    def on_object(self, *, obj: griffe.Object, **options: Any) -> None:
        if obj.docstring:
            obj.docstring.value = to_markdown(obj.docstring.value)


def to_markdown(docstring: str) -> str:
    r"""A docstring with its examples in code blocks and without accidental emphasis.

    >>> print(to_markdown("**L*D** and `H*P`"))
    **L\*D** and `H*P`
    """
    blocks = []
    for block in re.split(r"\n\s*\n", docstring):
        if block.lstrip().startswith(">>>"):
            indent = re.match(r"\s*", block)[0]
            block = f"{indent}```pycon\n{block}\n{indent}```"
        elif not block.startswith("    "):
            parts = re.split(r"(`[^`]*`)", block)
            block = "".join(p if p.startswith("`") else SINGLE.sub(r"\\*", p) for p in parts)
        blocks.append(block)
    return "\n\n".join(blocks)
