"""Hashing, HashedCrossing: strings and integers, or combinations of them, to one of some bins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fnn.core.fields import positive
from fnn.core.tree import SpecTree, array_spec, is_string
from fnn.preprocessing.encoding import encode_on_host, encoded_shape, mode
from fnn.preprocessing.hashes import cross_hash, farm_hash, sip_hash
from fnn.preprocessing.host_layer import HostLayer
from fnn.preprocessing.lookups import check_salt, salt_pair
from fnn.preprocessing.strings import as_host, dtype_of, items_of


class Hashing(HostLayer):
    """The hash of each string or integer modulo `num_bins`, by FarmHash64.

    With `salt`, one or two integers, it is SipHash64. `mask_value` is mapped to bin 0 and nothing
    else is. Floats are truncated to integers, and integers are hashed as strings. `output_mode`
    encodes the bins as `CategoryEncoding` does. In a model it runs in NumPy, ahead of the compiled
    part.

    >>> Hashing(num_bins=3)([["A"], ["B"], ["C"], ["D"], ["E"]]).tolist()
    [[1], [0], [1], [1], [2]]
    """

    num_bins: int = positive()
    mask_value: Any = None
    salt: Any = None
    output_mode: str = mode("int", "one_hot", "multi_hot", "count", default="int")
    sparse: bool = False

    def validate(self) -> None:
        super().validate()
        check_salt(self)
        if self.output_mode == "int" and self.dtype not in (None, "int32", "int64"):
            raise ValueError(
                'Hashing: expected dtype "int32" or "int64" with output_mode="int", received '
                f"dtype={self.dtype!r}; leave it out"
            )

    def host_spec(self, x: SpecTree) -> SpecTree:
        shape = encoded_shape(x.shape, self.output_mode, self.num_bins)
        return array_spec(shape, self._output_dtype)

    @property
    def _output_dtype(self) -> np.dtype:
        return dtype_of(self, self.output_mode)

    def compute(self, x: np.ndarray) -> np.ndarray:
        bins = self._bins(x)
        return encode_on_host(bins, self.output_mode, self.num_bins, self._output_dtype)

    def _bins(self, x: np.ndarray) -> np.ndarray:
        mask = None
        bins = self.num_bins
        if self.mask_value is not None and bins > 1:
            bins -= 1
            mask = _equal(x, self.mask_value)
        strings = as_bytes(self, x)
        if self.salt is None:
            hashed = farm_hash(strings)
        else:
            hashed = sip_hash(strings, salt_pair(self.salt))
        found = (hashed % np.uint64(bins)).astype(np.int64)
        found = found.reshape(x.shape)
        if mask is not None:
            found = np.where(mask, 0, found + 1)
        return found


def _equal(x: np.ndarray, value: Any) -> np.ndarray:
    if x.dtype.kind == "S" and isinstance(value, str):
        value = value.encode()
    if x.dtype == object:
        encoded = str(value).encode()
        both = [item in (value, encoded) for item in x.reshape(-1)]
        return np.array(both, bool).reshape(x.shape)
    return np.asarray(x == value)


def as_bytes(layer: HostLayer, x: np.ndarray) -> list[bytes]:
    """Strings, or numbers as strings, one by one, in UTF-8."""
    if x.dtype.kind == "S":
        return list(x.reshape(-1).tolist())
    if is_string(x.dtype):
        return [item.encode() for item in items_of(layer, x)]
    if x.dtype.kind == "f":
        x = x.astype(np.int64)
    return [str(item).encode() for item in x.reshape(-1).tolist()]


class HashedCrossing(HostLayer):
    """One bin for each combination of several features, by a hash of them.

    ((batch, 1), (batch, 1), ...) -> (batch, 1), or (batch, num_bins) with output_mode="one_hot".
    The features are strings or integers, also of shape (batch,). In a model it runs in NumPy, ahead
    of the compiled part. Raises ValueError for fewer than two features, and for other shapes.

    >>> crossing = HashedCrossing(num_bins=5)
    >>> crossing((np.array(["A", "B", "A"]), np.array([101, 101, 102]))).tolist()
    [1, 4, 3]
    """

    takes_several = True

    num_bins: int = positive()
    output_mode: str = mode("int", "one_hot", default="int")
    sparse: bool = False

    def host_spec(self, x: SpecTree) -> SpecTree:
        self._check(x)
        shape = encoded_shape(x[0].shape, self.output_mode, self.num_bins)
        return array_spec(shape, self._output_dtype)

    @property
    def _output_dtype(self) -> np.dtype:
        return dtype_of(self, self.output_mode)

    def _check(self, x: Sequence[Any]) -> None:
        """Raises ValueError for features that cannot be crossed."""
        if not isinstance(x, (tuple, list)) or len(x) < 2:
            raise ValueError(
                "HashedCrossing: expected two or more features, received one; "
                "call layer((first, second))"
            )
        shapes = [tuple(part.shape) for part in x]
        first = shapes[0]
        is_flat = len(first) < 2
        is_column = len(first) == 2 and first[1] == 1
        if len(set(shapes)) > 1 or not (is_flat or is_column):
            raise ValueError(
                "HashedCrossing: expected features of one shape, (batch,) or (batch, 1), received "
                f"{shapes}; cross one column of each"
            )
        for part in x:
            if not (is_string(part.dtype) or part.dtype.kind in "iub"):
                raise ValueError(
                    f"HashedCrossing: expected strings or integers, received {part.dtype}; use "
                    "Discretization on floats before"
                )

    def on_host(self, x: Any) -> np.ndarray:
        if not isinstance(x, (tuple, list)):
            self._check(x)
        return super().on_host(x)

    def compute(self, x: tuple[np.ndarray, ...]) -> np.ndarray:
        self._check(x)
        features = [self._feature(part) for part in x]
        bins = cross_hash(features) % np.uint64(self.num_bins)
        found = bins.astype(np.int64).reshape(x[0].shape)
        return encode_on_host(
            found, self.output_mode, self.num_bins, self._output_dtype
        )

    def _feature(self, x: np.ndarray) -> np.ndarray:
        """The hash of strings; integers as they are."""
        if is_string(x.dtype):
            return farm_hash(as_bytes(self, x))
        integers = as_host(self, x).astype(np.int64)
        return integers.reshape(-1).view(np.uint64)
