"""Frames of pandas and polars as arrays, without importing either."""

from __future__ import annotations

from typing import Any

import numpy as np


def array_of_frame(frame: Any) -> np.ndarray:
    """The array of a frame or series.

    Columns of numbers together with booleans or missing values are floats, not objects.
    """
    array: np.ndarray = frame.to_numpy()
    if array.dtype != object:
        return array
    dtypes = getattr(frame, "dtypes", ())
    if array.ndim == 1:
        dtypes = (dtypes,)
    kinds = {getattr(dtype, "kind", "O") for dtype in dtypes}
    if not kinds or not kinds <= set("biuf"):
        return array
    numbers: np.ndarray = frame.to_numpy("float32", na_value=np.nan)
    return numbers
