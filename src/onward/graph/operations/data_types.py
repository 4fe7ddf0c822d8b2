"""ONNX's numbers of data types, as attributes hold them."""

from typing import Any

import numpy as np

from ...errors import DtypeError

_NUMPY = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
}
_ML_DTYPES = {
    16: "bfloat16",
    17: "float8_e4m3fn",
    18: "float8_e4m3fnuz",
    19: "float8_e5m2",
    20: "float8_e5m2fnuz",
    21: "uint4",
    22: "int4",
    23: "float4_e2m1fn",
}


def dtype_of(number: int) -> np.dtype[Any]:
    """Return the dtype with a number of ONNX's TensorProto.DataType. Raises DtypeError."""
    if number in _NUMPY:
        return np.dtype(_NUMPY[number])
    if number not in _ML_DTYPES:
        raise DtypeError(f"the data type {number} is not supported")
    import ml_dtypes

    return np.dtype(getattr(ml_dtypes, _ML_DTYPES[number]))
