"""Functions of elements, sums and new arrays that JAX lacks or computes in other dtypes."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array

from fnn.core.tree import Tree
from fnn.ops.dtypes import FLOAT

_BOOL = jnp.dtype(bool)


def trunc(x: Array) -> Array:
    """Round each element toward zero."""
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        return x
    return jnp.trunc(x)


def round_to(x: Array, decimals: int = 0) -> Array:
    """Round each element to a number of decimals, to tens and hundreds for negative ones."""
    if decimals >= 0 or not jnp.issubdtype(x.dtype, jnp.integer):
        return jnp.round(x, decimals)
    factor = jnp.asarray(10.0**decimals, FLOAT)
    rounded = jnp.round(x.astype(FLOAT) * factor)
    return (rounded / factor).astype(x.dtype)


def clip(
    x: Array,
    x_min: Tree,
    x_max: Tree,
) -> Array:
    """Limit each element to an interval."""
    if x.dtype == _BOOL:
        x = x.astype("int32")
    return jnp.clip(x, x_min, x_max)


def view(x: Array, dtype: Tree = None) -> Array:
    """The same bytes as another dtype."""
    return x.view(dtype)


def divide_no_nan(x1: Array, x2: Array) -> Array:
    """Divide element by element; 0 where the divisor is 0."""
    divisor = jnp.where(x2 == 0, 1, x2)
    return jnp.where(x2 == 0, 0, jnp.divide(x1, divisor))


def ldexp(x1: Array, x2: Array) -> Array:
    """Multiply each element of `x1` by 2 to the power of an integer in `x2`."""
    if not jnp.issubdtype(x2.dtype, jnp.integer):
        raise TypeError(
            f"ldexp: expected integers as x2, received {x2.dtype}; round them first"
        )
    return jnp.ldexp(x1, x2)


def where(
    condition: Array,
    x1: Tree = None,
    x2: Tree = None,
) -> Tree:
    """Elements of `x1` where the condition holds and of `x2` elsewhere; or where it holds."""
    if (x1 is None) != (x2 is None):
        raise ValueError(
            "where: expected both x1 and x2 or neither, received one of them; "
            "pass the other, e.g. 0"
        )
    return jnp.where(condition, x1, x2)


def select(
    condlist: Tree,
    choicelist: Tree,
    default: Tree = 0,
) -> Array:
    """Elements of the first array of `choicelist` whose condition holds."""
    if not condlist or not choicelist:
        raise ValueError(
            "select: expected conditions and choices, received "
            f"{len(condlist)} and {len(choicelist)}; pass one array at least"
        )
    conditions, choices = map(jnp.asarray, condlist), map(jnp.asarray, choicelist)
    return jnp.select(list(conditions), list(choices), default)


def count_nonzero(x: Array, axis: Tree = None) -> Array:
    """Count the elements that are not 0."""
    return jnp.count_nonzero(x, axis=axis).astype("int32")


def bincount(
    x: Array,
    weights: Array | None = None,
    minlength: int = 0,
    sparse: bool = False,
) -> Array:
    """Count each value of an array of integers, in each row of a matrix."""
    if sparse:
        raise ValueError(
            "bincount: expected sparse=False, since fnn has no sparse arrays, "
            "received sparse=True; leave it out"
        )
    if x.ndim < 2:
        return jnp.bincount(x, weights, minlength)
    lines = [None] * len(x)
    if weights is not None:
        lines = list(weights)
    pairs = zip(x, lines, strict=True)
    counts = [jnp.bincount(row, line, minlength) for row, line in pairs]
    return jnp.stack(counts)


def histogram(
    x: Array,
    bins: int = 10,
    range: Tree = None,
) -> tuple[Array, Array]:
    """Count the elements in intervals of one width; and the edges of these."""
    if x.ndim > 1:
        raise ValueError(
            f"histogram: expected an array of one axis, received shape {x.shape}; "
            "use ravel first"
        )
    counts, edges = jnp.histogram(x, bins=bins, range=range or None)
    return counts, edges


_INT8 = jnp.dtype("int8")


def _int8_sums(*operands: Array) -> str | None:
    """The dtype of sums of products: int32 for int8, which would overflow."""
    if all(x.dtype == _INT8 for x in operands):
        return "int32"
    return None


def matmul(x1: Array, x2: Array) -> Array:
    """Multiply matrices in the last two axes."""
    return jnp.matmul(x1, x2, preferred_element_type=_int8_sums(x1, x2))


def einsum(
    subscripts: str,
    *operands: Tree,
    **kwargs: Tree,
) -> Array:
    """Sum products of elements, as the subscripts of Einstein's notation say."""
    if kwargs.get("optimize") not in (None, True, False, "auto", "greedy"):
        raise ValueError(
            "einsum: expected optimize to be 'auto', 'greedy', True or False, received "
            f"{kwargs['optimize']!r}"
        )
    arrays = [jnp.asarray(x) for x in operands]
    kwargs["preferred_element_type"] = _int8_sums(*arrays)
    return jnp.einsum(subscripts, *arrays, **kwargs)


def slogdet(x: Array) -> tuple[Array, Array]:
    """The sign and the logarithm of the absolute determinant of matrices."""
    sign, logarithm = jnp.linalg.slogdet(x)
    return sign, logarithm


def _dtype_of(number: Tree) -> Tree:
    return getattr(number, "dtype", None) or type(number)


def arange(
    start: Tree,
    stop: Tree = None,
    step: Tree = None,
    dtype: Tree = None,
) -> Array:
    """Numbers from `start` to below `stop`, `step` apart."""
    if dtype is None:
        numbers = [number for number in (start, stop, step) if number is not None]
        dtype = result_type(*map(_dtype_of, numbers))
    return jnp.arange(start, stop, step=step, dtype=dtype)


# The dtype of each number of Python alone; a later one holds those before it.
_OF_PYTHON = {bool: "bool", int: "int32", float: FLOAT, complex: "complex64"}


def result_type(*dtypes: Tree) -> str:
    """The dtype that numbers of these dtypes promote to; `int` and `float` give way.

    >>> result_type("bfloat16", int), result_type("int32", float), result_type(int, float)
    ('bfloat16', 'float32', 'float32')
    """
    known = [dtype for dtype in dtypes if dtype not in _OF_PYTHON]
    python = [dtype(0) for dtype in dtypes if dtype in _OF_PYTHON]
    if known:
        return str(jnp.result_type(*known, *python))
    return [name for kind, name in _OF_PYTHON.items() if kind in dtypes][-1]


def array(x: Tree, dtype: Tree = None) -> Array:
    """A new array of the numbers in `x`."""
    return jnp.array(x, dtype=dtype)


def vectorize(
    pyfunc: Callable[..., Tree],
    *,
    excluded: Tree = None,
    signature: str | None = None,
) -> Callable[..., Tree]:
    """A function of arrays that applies `pyfunc` to their elements.

    >>> vectorize(lambda x: x + 1)(jnp.arange(2)).tolist()
    [1, 2]
    """
    if not callable(pyfunc):
        raise ValueError(
            f"vectorize: expected a function, received {pyfunc!r}; e.g. jnp.square"
        )
    return jnp.vectorize(pyfunc, excluded=excluded or frozenset(), signature=signature)
