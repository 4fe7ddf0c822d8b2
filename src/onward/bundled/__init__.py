"""The models and data sets that come with Onward; may import errors only."""

from pathlib import Path

from ..errors import ArgumentError

__all__ = ["card", "datasets", "models"]

_HERE = Path(__file__).parent


def models() -> dict[str, Path]:
    """The files of the bundled models, by name.

    >>> list(models())
    ['shakespeare', 'vowels']
    """
    return {path.stem: path for path in sorted(_HERE.glob("*.safetensors"))}


def datasets() -> dict[str, Path]:
    """The files of the bundled data sets, by name.

    Each .npz file holds x (N, I), the steps of all sequences one after another; lengths (S,); and y (S,), the
    class of each sequence.

    >>> list(datasets())
    ['japanese_vowels_test', 'japanese_vowels_train']
    """
    return {path.stem: path for path in sorted(_HERE.glob("*.npz"))}


def card(model: str) -> dict[str, str]:
    """The metadata of a bundled model: `summary`, `license` and its measured quality.

    The quality is the `accuracy` on the bundled data set `data` or, for a text model, `bits_per_character`.
    Raises ArgumentError for a model that is not bundled.

    >>> card("vowels")["accuracy"]
    '0.9892'
    """
    if model not in models():
        raise ArgumentError(f"model={model!r}; expected one of {', '.join(models())}")
    text = (_HERE / f"{model}.md").read_text(encoding="utf-8")
    _, head, _ = text.split("---\n", 2)
    return dict(line.split(": ", 1) for line in head.splitlines())
