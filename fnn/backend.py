"""The backend with Keras's names: settings, dtypes and unique numbers."""

from __future__ import annotations

import collections

import jax.numpy as jnp

from fnn.config import (
    backend,
    epsilon,
    floatx,
    image_data_format,
    set_epsilon,
    set_floatx,
    set_image_data_format,
)
from fnn.core.tree import Tree
from fnn.ops import arrays
from fnn.runtime.session import clear_session
from fnn.symbolic.node import Node

__all__ = [
    "backend",
    "clear_session",
    "epsilon",
    "floatx",
    "get_uid",
    "image_data_format",
    "is_float_dtype",
    "is_int_dtype",
    "is_keras_tensor",
    "result_type",
    "set_epsilon",
    "set_floatx",
    "set_image_data_format",
    "standardize_dtype",
]

_PYTHON = {bool: "bool", int: "int32", float: "float32", str: "string", "int": "int32"}
_uids: collections.Counter[str] = collections.Counter()


def standardize_dtype(dtype: Tree) -> str:
    """The name of a dtype; `floatx()` for None. Raises ValueError for what is none.

    >>> standardize_dtype(np.float16), standardize_dtype(int), standardize_dtype(None)
    ('float16', 'int32', 'float32')
    """
    if dtype is None:
        return floatx()
    name = _PYTHON.get(dtype, dtype)
    if name == "string":
        return "string"
    try:
        return str(jnp.dtype(name))
    except TypeError as error:
        raise ValueError(
            f'expected a dtype or its name, received {dtype!r}; e.g. "float32"'
        ) from error


def is_float_dtype(dtype: Tree) -> bool:
    """Whether the dtype is one of floating-point numbers.

    >>> is_float_dtype("bfloat16"), is_float_dtype("int8")
    (True, False)
    """
    return standardize_dtype(dtype).startswith(("float", "bfloat"))


def is_int_dtype(dtype: Tree) -> bool:
    """Whether the dtype is one of integers, signed or not.

    >>> is_int_dtype("uint8"), is_int_dtype("bool")
    (True, False)
    """
    return standardize_dtype(dtype).startswith(("int", "uint"))


def result_type(*dtypes: Tree) -> str:
    """The dtype that an operation on arrays of these dtypes computes in.

    `int` and `float` are numbers of Python, which give way.

    >>> result_type("int32", "float16"), result_type("bfloat16", float), result_type()
    ('float16', 'bfloat16', 'float32')
    """
    if not dtypes:
        return floatx()
    known = []
    for dtype in dtypes:
        if dtype not in (bool, int, float):
            dtype = standardize_dtype(dtype)
        known.append(dtype)
    return arrays.result_type(*known)


def is_keras_tensor(x: object) -> bool:
    """Whether `x` is a symbolic node, from `Input` or a layer called on one.

    >>> is_keras_tensor(fnn.Input((3,))), is_keras_tensor(np.ones(3))
    (True, False)
    """
    return isinstance(x, Node)


def get_uid(prefix: str = "") -> int:
    """1 for the first call with this prefix, then 2, and so on.

    >>> get_uid("block"), get_uid("block"), get_uid("head")
    (1, 2, 1)
    """
    _uids[prefix] += 1
    return _uids[prefix]
