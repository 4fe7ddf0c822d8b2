"""Draw docs/vowels.png and vowels_dark.png: the bundled model on a recording with three predictions."""

from pathlib import Path

import matplotlib.pyplot as plt

from onward.cli import main

DOCS = Path(__file__).parents[1] / "docs"
PAGE = "#1e2129"  # the background of the dark site
DARK = ["dark_background", {"figure.facecolor": PAGE, "savefig.facecolor": PAGE}]
STYLES = {"vowels.png": "default", "vowels_dark.png": DARK}

for name, style in STYLES.items():
    with plt.style.context(style):
        main(
            ["trace", "vowels", "--sequence", "9", "--similar", "--out", str(DOCS / name)],
            standalone_mode=False,
        )
