"""Dtypes: Keras's rules of promotion where those of JAX differ, as wrappers of functions."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from fnn.core.tree import Tree
from fnn.ops.table import keeps_lists

Function = Callable[..., Tree]

FLOAT = "float32"  # the dtype of floats that nothing else decides


def floats(x: Tree) -> Tree:
    """`x`, integers and booleans as float32."""
    dtype = getattr(x, "dtype", None)
    if isinstance(x, (float, complex)):
        return x
    if dtype is not None and dtype.kind not in "iub":
        return x
    return jnp.asarray(x, FLOAT)


def as_float(function: Function) -> Function:
    """The function of an array, of integers and booleans as float32."""

    @functools.wraps(function)
    def on_floats(
        x: Tree,
        *others: Tree,
        **named: Tree,
    ) -> Tree:
        return function(floats(x), *others, **named)

    return on_floats


def as_floats(function: Function) -> Function:
    """The function of two arrays; where neither has floats, of both as float32."""

    @functools.wraps(function)
    def on_floats(x1: Tree, x2: Tree) -> Tree:
        if not jnp.issubdtype(jnp.result_type(x1, x2), jnp.inexact):
            return function(floats(x1), floats(x2))
        return function(x1, x2)

    return on_floats


def in_float32(function: Function) -> Function:
    """The function, its argument `dtype` float32 where it is None."""

    @functools.wraps(function)
    def made(
        *given: Tree,
        dtype: Tree = None,
        **named: Tree,
    ) -> Tree:
        return function(*given, dtype=dtype or FLOAT, **named)

    return keeps_lists(made)


def to_float32(function: Function) -> Function:
    """The function, its result in float32."""

    @functools.wraps(function)
    def cast(*given: Tree, **named: Tree) -> Tree:
        return function(*given, **named).astype(FLOAT)

    return cast


def each_array(function: Function) -> Function:
    """The function of a list of arrays, in which lists and numbers are made arrays."""

    @functools.wraps(function)
    def on_arrays(
        xs: Tree,
        *others: Tree,
        **named: Tree,
    ) -> Tree:
        if isinstance(xs, (list, tuple)):
            xs = [x if isinstance(x, jax.Array) else jnp.asarray(x) for x in xs]
        return function(xs, *others, **named)

    return keeps_lists(on_arrays)
