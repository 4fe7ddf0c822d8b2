"""Helpers of the tests: the table of cases, oracles, and damaged files."""

from pathlib import Path

ROOT = Path(__file__).parents[2]  # the checkout
DATA = ROOT / "tests" / "data"
