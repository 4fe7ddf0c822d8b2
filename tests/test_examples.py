"""Run the examples and check what they do."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest


def example(name: str) -> Any:
    """Import an example as a module."""
    path = Path(__file__).parents[1] / "examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_textbook_example_learns(capsys: pytest.CaptureFixture[str]) -> None:
    assert example("textbook_training").train(epochs=6, units=16) > 0.6
    assert "epoch 6: loss 0." in capsys.readouterr().out


def test_scikit_learn_example_recognizes_speakers(capsys: pytest.CaptureFixture[str]) -> None:
    assert example("sklearn_classifier").main(epochs=10) > 0.8
    assert "best parameters: {'cell': " in capsys.readouterr().out
