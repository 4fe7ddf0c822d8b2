"""Draw docs/vowels.png: the bundled model on a recording for which its prediction changes twice."""

from pathlib import Path

from onward.cli import main

PICTURE = Path(__file__).parents[1] / "docs/vowels.png"

main(["trace", "vowels", "--sequence", "9", "--similar", "--out", str(PICTURE)])
