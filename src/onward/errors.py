"""Onward's errors and warnings; each error derives from `OnwardError` and from the matching built-in error.

Two exceptions: `onward.textbook`, which needs only NumPy, raises ValueError, and indexing a Trace or a
Sequential raises KeyError or IndexError as for any mapping or sequence.
"""


class OnwardError(Exception):
    """The base class of Onward's errors."""


class ShapeError(OnwardError, ValueError):
    """An array has the wrong number of axes or the wrong size along one."""


class DtypeError(OnwardError, TypeError):
    """An array has the wrong dtype, or an argument cannot be converted to an array."""


class ArgumentError(OnwardError, ValueError):
    """An argument has an invalid value."""


class PrecisionError(OnwardError, ValueError):
    """Quantization changes outputs by more than the tolerance."""


class NotFiniteError(OnwardError, ValueError):
    """Training met a loss or a gradient that is NaN or infinite."""


class SignatureError(OnwardError, TypeError):
    """An argument is unknown or missing."""


class LayerAttributeError(OnwardError, AttributeError):
    """A layer has no attribute of this name, or the attribute is read-only."""


class LimitError(OnwardError, RuntimeError):
    """A file or a model asks for far more work or memory than its size explains, or fills Python's stack."""


class MemoryLimitError(LimitError, MemoryError):
    """A file or a model would need far more memory than its bytes, its inputs and its weights."""


class WorkLimitError(LimitError):
    """A file or a model would need far more time than its bytes, its inputs and its weights."""


class FileError(OnwardError, OSError):
    """A file is missing, damaged or not of the expected kind."""


class KerasWarning(UserWarning):
    """A Keras file omits a setting, for which Onward assumed a value."""
