"""Arrays as a NumPy archive (.npz)."""

import io
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np


def content(arrays: Mapping[str, Any]) -> bytes:
    """Return the content of a compressed .npz file.

    The arrays may have any names; numpy.savez_compressed takes some of them for its own arguments.
    """
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as members:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.asarray(array))
            members.writestr(f"{name}.npy", member.getbuffer())
    return archive.getvalue()
