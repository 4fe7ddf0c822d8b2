"""Every error that Onward raises: each derives from `OnwardError` and from the built-in error that fits."""


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


class FileError(OnwardError, OSError):
    """A file is missing, damaged, or holds something else than expected."""
