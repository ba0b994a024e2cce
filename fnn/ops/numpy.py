"""NumPy's functions of arrays, by Keras's names: elements, sums, shapes, sorting, making."""

from __future__ import annotations

import jax.numpy as jnp

from fnn.ops import arrays, control, reordering
from fnn.ops.dtypes import as_float, as_floats, each_array, in_float32, to_float32
from fnn.ops.table import Table, functions, keeps_lists, rows, takes_any

_ELEMENTS: Table = {
    **rows(
        "(x)",
        "abs absolute bitwise_invert bitwise_not cbrt conj conjugate copy deg2rad fabs imag "
        "isfinite isinf isnan isneginf isposinf isreal logical_not negative rad2deg real "
        "reciprocal sign signbit square",
        jnp,
    ),
    **rows(
        "(x)",
        "angle arccos arccosh arcsin arcsinh arctan arctanh ceil cos cosh exp exp2 expm1 "
        "floor i0 sin sinc sinh tan tanh",
        jnp,
        as_float,
    ),
    **rows("(x)", "log log10 log1p log2 sqrt", jnp, as_float),
    "trunc(x)": arrays.trunc,
    "round(x, decimals=0)": arrays.round_to,
    "clip(x, x_min, x_max)": arrays.clip,
    "nan_to_num(x, nan=0.0, posinf=None, neginf=None)": jnp.nan_to_num,
    "view(x, dtype=None)": arrays.view,
    **rows(
        "(x1, x2)",
        "add divide equal floor_divide fmax fmin fmod gcd greater greater_equal heaviside "
        "hypot lcm less less_equal logical_and logical_or logical_xor maximum minimum mod "
        "multiply nextafter not_equal power subtract true_divide",
        jnp,
    ),
    **rows("(x1, x2)", "arctan2 logaddexp logaddexp2", jnp, as_floats),
    **rows("(x, y)", "bitwise_and bitwise_or bitwise_xor left_shift right_shift", jnp),
    "bitwise_left_shift(x, y)": jnp.left_shift,
    "bitwise_right_shift(x, y)": jnp.right_shift,
    "divide_no_nan(x1, x2)": arrays.divide_no_nan,
    "ldexp(x1, x2)": arrays.ldexp,
    "isclose(x1, x2, rtol=1e-05, atol=1e-08, equal_nan=False)": jnp.isclose,
    "allclose(x1, x2, rtol=1e-05, atol=1e-08, equal_nan=False)": jnp.allclose,
    "isin(x1, x2, assume_unique=False, invert=False)": jnp.isin,
    "where(condition, x1=None, x2=None)": takes_any(arrays.where),
    "select(condlist, choicelist, default=0)": arrays.select,
    "unravel_index(indices, shape)": jnp.unravel_index,
}

_REDUCTIONS: Table = {
    **rows("(x, axis=None, keepdims=False)", "all any amax amin argmax argmin", jnp),
    **rows(
        "(x, axis=None, keepdims=False)",
        "nanargmax nanargmin nanmax nanmin nanprod nansum ptp sum",
        jnp,
    ),
    **rows(
        "(x, axis=None, keepdims=False)",
        "mean median nanmean nanmedian nanstd nanvar std var",
        jnp,
        as_float,
    ),
    "max(x, axis=None, keepdims=False, initial=None)": jnp.max,
    "min(x, axis=None, keepdims=False, initial=None)": jnp.min,
    "prod(x, axis=None, keepdims=False, dtype=None)": jnp.prod,
    **rows("(x, axis=None, dtype=None)", "cumprod cumsum nancumprod nancumsum", jnp),
    "average(x, axis=None, weights=None)": as_float(jnp.average),
    "count_nonzero(x, axis=None)": arrays.count_nonzero,
    **rows(
        "(x, q, axis=None, method='linear', keepdims=False)",
        "nanpercentile nanquantile percentile quantile",
        jnp,
        as_float,
    ),
    "bincount(x, weights=None, minlength=0, sparse=False)": arrays.bincount,
    "histogram(x, bins=10, range=None)": arrays.histogram,
    "trapezoid(y, x=None, dx=1.0, axis=-1)": jnp.trapezoid,
    "corrcoef(x)": as_float(jnp.corrcoef),
    "size(x)": jnp.size,
}

_PRODUCTS: Table = {
    **rows("(x1, x2)", "dot inner kron outer vdot", jnp),
    "matmul(x1, x2)": arrays.matmul,
    "einsum(subscripts, *operands, **kwargs)": arrays.einsum,
    "tensordot(x1, x2, axes=2)": jnp.tensordot,
    "correlate(x1, x2, mode='valid')": jnp.correlate,
    "cross(x1, x2, axisa=-1, axisb=-1, axisc=-1, axis=None)": jnp.cross,
    "slogdet(x)": arrays.slogdet,
    "trace(x, offset=0, axis1=0, axis2=1)": jnp.trace,
}

_SHAPES: Table = {
    "append(x1, x2, axis=None)": jnp.append,
    "array_split(x, indices_or_sections, axis=0)": jnp.array_split,
    "broadcast_to(x, shape)": jnp.broadcast_to,
    "concatenate(xs, axis=0)": each_array(jnp.concatenate),
    **rows("(xs)", "dstack hstack vstack", jnp, each_array),
    **rows("(x, indices_or_sections)", "dsplit hsplit vsplit", jnp),
    "split(x, indices_or_sections, axis=0)": reordering.split,
    "stack(x, axis=0)": each_array(jnp.stack),
    "diag(x, k=0)": jnp.diag,
    "diagflat(x, k=0)": jnp.diagflat,
    "diagonal(x, offset=0, axis1=0, axis2=1)": jnp.diagonal,
    "diff(a, n=1, axis=-1)": jnp.diff,
    "expand_dims(x, axis)": jnp.expand_dims,
    "flip(x, axis=None)": jnp.flip,
    "fliplr(x)": jnp.fliplr,
    "flipud(x)": jnp.flipud,
    "get_item(x, key)": keeps_lists(reordering.get_item),
    "meshgrid(*x, indexing='xy')": reordering.meshgrid,
    "moveaxis(x, source, destination)": jnp.moveaxis,
    "pad(x, pad_width, mode='constant', constant_values=None)": reordering.pad,
    "ravel(x)": jnp.ravel,
    "repeat(x, repeats, axis=None)": jnp.repeat,
    "reshape(x, newshape)": jnp.reshape,
    "roll(x, shift, axis=None)": jnp.roll,
    "rot90(array, k=1, axes=(0, 1))": jnp.rot90,
    "squeeze(x, axis=None)": jnp.squeeze,
    "swapaxes(x, axis1, axis2)": jnp.swapaxes,
    "take(x, indices, axis=None)": jnp.take,
    "take_along_axis(x, indices, axis=None)": jnp.take_along_axis,
    "tile(x, repeats)": jnp.tile,
    "transpose(x, axes=None)": jnp.transpose,
    "tril(x, k=0)": jnp.tril,
    "triu(x, k=0)": jnp.triu,
}

_ORDER: Table = {
    "argpartition(x, kth, axis=-1)": reordering.argpartition,
    "argsort(x, axis=-1)": reordering.argsort,
    "digitize(x, bins)": reordering.digitize,
    "nonzero(x)": jnp.nonzero,
    "searchsorted(sorted_sequence, values, side='left')": reordering.searchsorted,
    "sort(x, axis=-1)": jnp.sort,
    "unique(x, sorted=True, return_index=False, return_inverse=False, return_counts=False, "
    "axis=None, size=None, fill_value=None)": reordering.unique,
}

_MADE: Table = {
    "arange(start, stop=None, step=None, dtype=None)": arrays.arange,
    "array(x, dtype=None)": keeps_lists(arrays.array),
    **rows("(x)", "bartlett blackman hamming hanning", jnp, to_float32),
    "kaiser(x, beta)": to_float32(jnp.kaiser),
    "empty(shape, dtype=None)": in_float32(jnp.empty),
    "ones(shape, dtype=None)": in_float32(jnp.ones),
    "zeros(shape, dtype=None)": in_float32(jnp.zeros),
    "full(shape, fill_value, dtype=None)": in_float32(jnp.full),
    "identity(n, dtype=None)": in_float32(jnp.identity),
    "eye(N, M=None, k=0, dtype=None)": in_float32(jnp.eye),
    "tri(N, M=None, k=0, dtype=None)": in_float32(jnp.tri),
    **rows("(x, dtype=None)", "empty_like ones_like zeros_like", jnp),
    "full_like(x, fill_value, dtype=None)": jnp.full_like,
    "geomspace(start, stop, num=50, endpoint=True, dtype=None, axis=0)": jnp.geomspace,
    "linspace(start, stop, num=50, endpoint=True, retstep=False, dtype=None, axis=0)": (
        jnp.linspace
    ),
    "logspace(start, stop, num=50, endpoint=True, base=10, dtype=None, axis=0)": (
        jnp.logspace
    ),
    "vander(x, N=None, increasing=False)": jnp.vander,
}

# These ask about an array or take a function: on nodes they make no layer.
_PLAIN: Table = {"ndim": control.ndim, "vectorize": arrays.vectorize}

_ROWS = _ELEMENTS | _REDUCTIONS | _PRODUCTS | _SHAPES | _ORDER | _MADE
_MODULE = functions(__name__, _ROWS) | _PLAIN
globals().update(_MODULE)
__all__ = list(_MODULE)
