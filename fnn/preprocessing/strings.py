"""Strings: what users pass as strings, as arrays of NumPy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core.tree import is_string
from fnn.core.value import Value
from fnn.runtime.frames import array_of_frame


def as_host(layer: object, x: Any) -> np.ndarray:
    """Strings or numbers as an array of NumPy: of lists, arrays, frames and tensors.

    Raises TypeError for arrays under a transformation of JAX, and ValueError for lists of
    different lengths.
    """
    name = type(layer).__name__
    if isinstance(x, jax.core.Tracer):
        raise TypeError(
            f"{name} runs on the host, in NumPy, and cannot be part of a compiled function; put "
            "it at the head of a Sequential or functional model, or call it on the data before"
        )
    x = as_plain(x)
    if hasattr(x, "to_tensor") or hasattr(x, "dense_shape"):
        raise ValueError(
            f"{name}: expected a dense array, received a {type(x).__name__}; "
            "make it dense before"
        )
    try:
        array = _array_of(x)
    except ValueError as error:
        raise _ragged(name) from error
    first: list[object] = array.reshape(-1)[:1].tolist()
    is_nested = any(isinstance(item, (list, np.ndarray)) for item in first)
    if array.dtype == object and is_nested:
        raise _ragged(name)
    return array


def as_plain(x: Any) -> Any:
    """A frame or a sparse matrix as an array of NumPy; anything else as it is."""
    _refuse_graph_tensor(x)
    if hasattr(x, "to_numpy"):  # pandas, polars
        return array_of_frame(x)
    if hasattr(x, "toarray"):  # scipy
        return x.toarray()
    return x


def _refuse_graph_tensor(x: object) -> None:
    """Raises TypeError for a tensor without a value, as `tf.data.Dataset.map` passes."""
    kind = type(x)
    if kind.__name__ == "SymbolicTensor" and kind.__module__.startswith("tensorflow"):
        raise TypeError(
            "expected arrays, received a symbolic tensor of TensorFlow (as dataset.map passes): "
            "layers compute in NumPy and JAX; put the layer at the head of the model, or call "
            "it in map through tf.numpy_function"
        )


def _array_of(x: Any) -> np.ndarray:
    """A list of strings as objects, which is faster than as characters."""
    if isinstance(x, (list, tuple)) and x and isinstance(x[0], (str, bytes)):
        return np.asarray(x, object)
    return np.asarray(x)


def _ragged(name: str) -> ValueError:
    return ValueError(
        f"{name}: expected an array, received lists of different lengths; pad them to one length"
    )


def items_of(layer: object, array: np.ndarray, encoding: str = "utf-8") -> list[str]:
    """The strings of an array, one by one. Raises TypeError for what is no string."""
    items: list[Any] = array.reshape(-1).tolist()
    if array.dtype.kind in "UT":
        return items
    if not is_string(array.dtype):
        raise _not_strings(layer, array.dtype, items)
    kinds = set(map(type, items))
    if kinds <= {str}:
        return items
    if not kinds <= {str, bytes}:
        raise _not_strings(layer, array.dtype, items)
    return [as_text(item, encoding) for item in items]


def _not_strings(layer: object, dtype: np.dtype, items: Iterable[object]) -> TypeError:
    wrong = ((i, x) for i, x in enumerate(items) if not isinstance(x, (str, bytes)))
    place, item = next(wrong, (0, None))
    advice = "convert them, np.asarray(x, str)"
    if item is None or item != item:
        advice = "fill missing values with a string, e.g. ''"
    return TypeError(
        f"{type(layer).__name__}: expected strings, received {item!r} of type "
        f"{type(item).__name__} at position {place} of {dtype}; {advice}"
    )


def as_text(item: str | bytes, encoding: str = "utf-8") -> str:
    """A string of characters; bytes that are not valid become U+FFFD."""
    if isinstance(item, bytes):
        return item.decode(encoding, "replace")
    return item


def on_device(value: np.ndarray) -> Any:
    """Numbers as an array of JAX, in a dtype that it has.

    Strings, and integers that do not fit it, stay in NumPy.
    """
    if is_string(value.dtype):
        return value
    try:
        return jax.device_put(in_working_dtype(value))
    except ValueError:
        return value


def in_working_dtype(value: np.ndarray) -> np.ndarray:
    """Numbers in a dtype in which JAX computes: integers of 32 bits, unless it has 64.

    Raises ValueError for integers that do not fit.
    """
    if not isinstance(value, np.ndarray):
        return value
    dtype = jax.dtypes.canonicalize_dtype(value.dtype)
    if dtype == value.dtype:
        return value
    converted = value.astype(dtype)
    if value.dtype.kind in "iu" and (converted != value).any():
        wrong = value[converted != value].reshape(-1)[0]
        raise ValueError(
            f"expected integers that fit {dtype}, received {wrong}; give them to a layer that "
            "takes 64 bits alone (IntegerLookup, Hashing), or set jax_enable_x64"
        )
    return converted


def dtype_of(layer: Any, mode: str) -> np.dtype:
    """The dtype of the outputs of a layer in this mode.

    Indices ("int") are integers and weighted counts ("tf_idf") floats, whatever `layer.dtype`.
    """
    name = layer.compute_dtype
    if mode == "int":
        name = layer.dtype
        if name is None or not _is_integer(name):
            name = "int64"
    elif mode == "tf_idf" and _is_integer(name):
        name = "float32"
    canonical: np.dtype = jax.dtypes.canonicalize_dtype(name)
    return canonical


def _is_integer(name: Any) -> bool:
    return bool(jnp.issubdtype(name, jnp.integer))


def refuse_sparse(layer: Value) -> None:
    """Raises ValueError for `sparse=True` or `ragged=True`, which JAX has no arrays for."""
    for name in ("sparse", "ragged"):
        if getattr(layer, name, False):
            raise ValueError(
                f"{type(layer).__name__}: expected {name}=False, since JAX computes with dense "
                f"arrays, received {name}=True; leave it out"
            )
