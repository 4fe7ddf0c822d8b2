"""The numbers of dtypes in PyTorch's operators."""

import numpy as np

# bfloat16 has no NumPy dtype, and is widened to float32
DTYPES = {
    0: np.uint8, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.int64, 5: np.float16, 6: np.float32,
    7: np.float64, 9: np.complex64, 10: np.complex128, 11: np.bool_, 15: np.float32,
}  # fmt: skip
NUMBERS = {np.dtype(dtype).name: number for number, dtype in DTYPES.items() if number != 15}
