"""Helpers for tests: the table of cases, oracles, models and damaged files."""

from pathlib import Path

ROOT = Path(__file__).parents[2]  # the checkout
DATA = ROOT / "tests" / "data"
