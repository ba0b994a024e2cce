"""Columns: the fields of a table as arrays, their dtypes, and what stands for missing ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from fnn.data.delimited import Row

MISSING = ("", "NA", "N/A", "NaN", "nan", "NULL", "null", "None", "?")
STRINGS = "OUS"  # kinds of dtypes


class Columns:
    """Converts the fields of rows into arrays by the name of their column."""

    def __init__(
        self,
        names: Sequence[str],
        dtypes: Mapping[str, DTypeLike],
        missing: Sequence[str],
        fill: Mapping[str, object],
    ) -> None:
        self.places = {name: place for place, name in enumerate(names)}
        self.dtypes = {name: np.dtype(dtype) for name, dtype in dtypes.items()}
        self.missing = frozenset(missing)
        self.fill = dict(fill)
        for name in [*dtypes, *fill]:
            if name not in self.places:
                raise ValueError(
                    f"csv: expected dtypes and fill by names among {list(names)}, received {name!r}"
                )

    def infer(self, name: str, rows: list[Row]) -> None:
        """Sets the dtype of a column by some rows, unless it is known."""
        if name in self.dtypes:
            return
        texts = [row.fields[self.places[name]] for row in rows]
        known = [text for text in texts if text not in self.missing]
        complete = len(known) == len(texts) or name in self.fill
        self.dtypes[name] = np.dtype(object)
        for dtype in ("int32", "int64", "float32"):
            if (complete or dtype == "float32") and _fits(known, np.dtype(dtype)):
                self.dtypes[name] = np.dtype(dtype)
                return

    def is_text(self, name: str) -> bool:
        """Whether a column holds strings."""
        return self.dtypes[name].kind in STRINGS

    def array(self, name: str, rows: list[Row]) -> np.ndarray:
        """A column of some rows. Raises ValueError that names the field that does not fit."""
        place = self.places[name]
        dtype = self.dtypes[name]
        texts: list[Any] = [row.fields[place] for row in rows]
        if self.is_text(name):
            empty = self.fill.get(name, "")
            return np.array([text or empty for text in texts], dtype)
        default: object = None
        if dtype.kind == "f":
            default = np.nan
        default = self.fill.get(name, default)
        if default is not None:
            texts = [default if text in self.missing else text for text in texts]
        try:
            return np.array(texts, dtype)
        except (ValueError, OverflowError):
            raise self._does_not_fit(name, texts, rows) from None

    def _does_not_fit(self, name: str, texts: list[Any], rows: list[Row]) -> ValueError:
        """The error for the first field that cannot be converted."""
        dtype = self.dtypes[name]
        fits = [_fits([text], dtype) for text in texts]
        number = fits.index(False)
        text, row = texts[number], rows[number]
        advice = f'dtypes={{{name!r}: "float32"}}, or object for strings'
        if text in self.missing:
            advice = f'fill={{{name!r}: 0}}, or dtypes={{{name!r}: "float32"}} for NaN'
        elif dtype.kind == "f":
            advice = f"missing=[..., {text!r}], or dtypes={{{name!r}: object}}"
        return ValueError(
            f"{row.file}, line {row.line}: expected {name!r} as {dtype}, received {text!r}; pass "
            f"{advice}"
        )


def _fits(texts: list[Any], dtype: np.dtype[Any]) -> bool:
    try:
        np.array(texts, dtype)
    except (ValueError, OverflowError):
        return False
    return True
