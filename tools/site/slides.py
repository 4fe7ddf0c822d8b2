"""Make slides of the figures of the lessons: a page for each deck in docs/learn/slides."""

import re
from pathlib import Path

from equations import to_mathml
from markdown import markdown

STYLE = (Path(__file__).parent / "slides.css").read_text(encoding="utf-8")
SCRIPT = (Path(__file__).parent / "slides.js").read_text(encoding="utf-8")
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="../../equations.css">
<style>{style}</style>
{slides}
<script>{script}</script>
</html>
"""


def deck(source: str, lesson: str, figures: dict[str, str]) -> str:
    """The page of a deck, whose slides are separated by lines of `---`.

    `![](name)` is the figure of this name in the lesson; `figures` has their descriptions by name. Raises
    ValueError for a figure that the lesson does not have.
    """

    def figure(match: re.Match[str]) -> str:
        if match[1] not in figures:
            raise ValueError(f"lesson {lesson} has no figure {match[1]!r}: it has {', '.join(figures)}")
        return f'<img src="../{lesson}_{match[1]}_light.svg" alt="{figures[match[1]]}">'

    slides = []
    for text in re.split(r"^---$", source, flags=re.MULTILINE):
        text = re.sub(r"!\[\]\((\w+)\)", figure, text)
        text = re.sub(r"\$\$(.+?)\$\$", lambda m: to_mathml(m[1], "block"), text, flags=re.DOTALL)
        text = re.sub(r"\$(\S(?:[^$\n]*\S)?)\$", lambda m: to_mathml(m[1]), text)
        slides.append(f"<section>\n{markdown(text, extensions=['tables'])}\n</section>")
    (title,) = re.findall(r"\A\s*# (.+)", source)
    return PAGE.format(title=title, style=STYLE, slides="\n".join(slides), script=SCRIPT)
