"""Onward's errors, each derived from `OnwardError` and from the built-in error that fits; its warnings.

What is wrong with a call or a file is one of these. But `onward.textbook`, which needs NumPy and nothing
else, raises ValueError, and a name or a number that a Trace or a Sequential has not is KeyError or
IndexError, as of every mapping and sequence.
"""


class OnwardError(Exception):
    """The base of all of them."""


class ShapeError(OnwardError, ValueError):
    """An array has the wrong number of axes or the wrong size along one."""


class DtypeError(OnwardError, TypeError):
    """An array, or what should become one, holds something that is no number of the kind wanted."""


class ArgumentError(OnwardError, ValueError):
    """An argument has a value that is not allowed."""


class PrecisionError(OnwardError, ValueError):
    """Compressed weights change outputs by more than was allowed."""


class NotFiniteError(OnwardError, ValueError):
    """Training met a loss or a gradient that is NaN or infinite."""


class SignatureError(OnwardError, TypeError):
    """An argument is unknown or missing."""


class LayerAttributeError(OnwardError, AttributeError):
    """A layer has no attribute of this name, or the attribute is read-only."""


class FileError(OnwardError, OSError):
    """A file is missing, damaged, or holds something else than expected."""


class KerasWarning(UserWarning):
    """What a file of Keras does not say, and what Onward took instead."""
