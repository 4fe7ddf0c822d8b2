"""The models and data that come with Onward."""

from pathlib import Path

from ..errors import ArgumentError

__all__ = ["card", "datasets", "models"]

_HERE = Path(__file__).parent


def models() -> dict[str, Path]:
    """Name and file of every bundled model."""
    return {path.stem: path for path in sorted(_HERE.glob("*.safetensors"))}


def datasets() -> dict[str, Path]:
    """Name and file of every bundled data set: x (N, I), one sequence after another, lengths (S,), y (S,)."""
    return {path.stem: path for path in sorted(_HERE.glob("*.npz"))}


def card(model: str) -> dict[str, str]:
    """The head of a model's card: `summary`, `license`, and how good it is.

    That is `accuracy` on the bundled set `data`, or, of a model of text, `bits_per_character`. Raises
    ArgumentError for a model that is not bundled.
    """
    if model not in models():
        raise ArgumentError(f"model={model!r}, but must be one of {', '.join(models())}")
    text = (_HERE / f"{model}.md").read_text(encoding="utf-8")
    _, head, _ = text.split("---\n", 2)
    return dict(line.split(": ", 1) for line in head.splitlines())
