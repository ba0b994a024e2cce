"""What layers compute, as functions: activations, losses, normalization, hot rows, attention."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array, lax

from fnn.core.tree import Tree
from fnn.ops.dtypes import FLOAT
from fnn.runtime.arithmetic import finfo
from fnn.runtime.placement import along
from fnn.runtime.settings import epsilon

Axes = int | tuple[int, ...]


def tanh_shrink(x: Array) -> Array:
    """x - tanh(x) of each element."""
    return x - jnp.tanh(x)


def soft_shrink(x: Array, threshold: float = 0.5) -> Array:
    """Each element moved toward 0 by the threshold, 0 within it."""
    above = jnp.where(x < -threshold, x + threshold, 0.0)
    return jnp.where(x > threshold, x - threshold, above)


def hard_shrink(x: Array, threshold: float = 0.5) -> Array:
    """Each element, 0 within the threshold."""
    return jnp.where(jnp.abs(x) > threshold, x, 0.0)


def threshold(x: Array, threshold: float, default_value: float) -> Array:
    """Each element above the threshold, another value for the others."""
    return jnp.where(x > threshold, x, default_value)


def softmax(x: Array, axis: Axes = -1) -> Array:
    """exp(x) / sum(exp(x)) along an axis, or over several."""
    return jax.nn.softmax(x, axis=axis)


def log_softmax(x: Array, axis: Axes = -1) -> Array:
    """The logarithm of softmax along an axis, or over several."""
    return jax.nn.log_softmax(x, axis=axis)


def sparsemax(x: Array, axis: int = -1) -> Array:
    """The nearest probabilities to the elements along an axis, many of them 0."""
    ordered = -jnp.sort(-x, axis=axis)
    ranks = jnp.arange(1, x.shape[axis] + 1)
    ranks = along(ranks, x.ndim, axis)
    inside = 1 + ranks * ordered > jnp.cumsum(ordered, axis=axis)
    count = jnp.sum(inside, axis=axis, keepdims=True)
    kept = jnp.where(inside, ordered, 0.0)
    total = jnp.sum(kept, axis=axis, keepdims=True)
    return jnp.maximum(x - (total - 1) / count, 0.0)


def _same_shapes(name: str, target: Array, output: Array) -> None:
    if target.shape != output.shape:
        raise ValueError(
            f"{name}: expected target and output of one shape, received {target.shape} and "
            f"{output.shape}; reshape one"
        )


def _log_probabilities(output: Array, from_logits: bool, axis: int) -> Array:
    if from_logits:
        return jax.nn.log_softmax(output, axis=axis)
    output = output / jnp.sum(output, axis, keepdims=True)
    output = jnp.clip(output, epsilon(), 1.0 - epsilon())
    return jnp.log(output)


def categorical_crossentropy(
    target: Array,
    output: Array,
    from_logits: bool = False,
    axis: int = -1,
) -> Array:
    """-sum(target * log(output)) along the axis of the classes."""
    _same_shapes("categorical_crossentropy", target, output)
    if not target.ndim:
        raise ValueError("categorical_crossentropy: expected an axis of classes")
    return -jnp.sum(target * _log_probabilities(output, from_logits, axis), axis=axis)


def sparse_categorical_crossentropy(
    target: Array,
    output: Array,
    from_logits: bool = False,
    axis: int = -1,
) -> Array:
    """-log(output) of the class that the target numbers."""
    target = target.astype("int32")
    if target.ndim == output.ndim and target.shape[-1] == 1:
        target = jnp.squeeze(target, axis=-1)
    if not output.ndim or target.shape != output.shape[:-1]:
        raise ValueError(
            "sparse_categorical_crossentropy: expected a class for each row of output, "
            f"received shapes {target.shape} and {output.shape}"
        )
    logarithms = _log_probabilities(output, from_logits, axis)
    hot = jax.nn.one_hot(target, output.shape[axis], axis=axis)
    return -jnp.sum(hot * logarithms, axis=axis)


def binary_crossentropy(
    target: Array, output: Array, from_logits: bool = False
) -> Array:
    """-log of the probability of a target of 0 or 1, for each element."""
    _same_shapes("binary_crossentropy", target, output)
    if from_logits:
        of_one = jax.nn.log_sigmoid(output)
        of_zero = jax.nn.log_sigmoid(-output)
        return -1.0 * target * of_one - (1.0 - target) * of_zero
    output = jnp.clip(output, epsilon(), 1.0 - epsilon())
    of_one = target * jnp.log(output)
    of_zero = (1.0 - target) * jnp.log(1.0 - output)
    return -(of_one + of_zero)


def moments(
    x: Array,
    axes: Axes,
    keepdims: bool = False,
    synchronized: bool = False,
) -> tuple[Array, Array]:
    """Mean and variance over axes; of 16-bit floats computed in float32."""
    if synchronized:
        raise NotImplementedError(
            "moments: expected synchronized=False, received True; reduce by jax.lax.pmean "
            "over the devices"
        )
    if isinstance(axes, list):
        axes = tuple(axes)
    half = x.dtype in (jnp.float16, jnp.bfloat16)
    y = x.astype(FLOAT) if half else x
    mean = jnp.mean(y, axes, keepdims=keepdims)
    variance = jnp.var(y, axes, keepdims=keepdims)
    if not half:
        return mean, variance
    bounds = finfo(jnp.float16)
    mean = jnp.clip(mean, bounds.min, bounds.max)
    mean = mean.astype(x.dtype)
    variance = jnp.clip(variance, bounds.min, bounds.max)
    return mean, variance.astype(x.dtype)


def batch_normalization(
    x: Array,
    mean: Array,
    variance: Array,
    axis: int,
    offset: Array | None = None,
    scale: Array | None = None,
    epsilon: float = 0.001,
) -> Array:
    """(x - mean) / sqrt(variance + epsilon) * scale + offset, each along one axis."""
    factor = lax.rsqrt(along(variance, x.ndim, axis) + epsilon)
    if scale is not None:
        factor = factor * along(scale, x.ndim, axis)
    shift = -along(mean, x.ndim, axis) * factor
    if offset is not None:
        shift = shift + along(offset, x.ndim, axis)
    return x * factor + shift


def _beside(weights: Array | None, x: Array, axes: list[int]) -> Array | None:
    """Weights over some axes, with as many axes as `x`; of the dtype of `x`."""
    if weights is None:
        return None
    weights = jnp.asarray(weights)
    shape = [1] * x.ndim
    if weights.ndim == x.ndim:
        shape = list(weights.shape)
    elif axes in ([x.ndim - 1], [-1]):
        shape[x.ndim - weights.ndim :] = weights.shape
    else:
        for axis in axes:
            shape[axis] = x.shape[axis]
    return weights.astype(x.dtype).reshape(shape)


def _sorted_axes(axis: Axes) -> list[int]:
    if isinstance(axis, int):
        return [axis]
    return sorted(axis)


def _or_epsilon(given: float | None) -> float:
    if given is None:
        return epsilon()
    return given


def _with_an_axis(x: Array) -> Array:
    if x.ndim:
        return x
    return x[None]


def _in_float32(x: Array) -> Array:
    return x.astype(jnp.promote_types(x.dtype, FLOAT))


def layer_normalization(
    x: Tree,
    gamma: Tree = None,
    beta: Tree = None,
    axis: Axes = -1,
    epsilon: float | None = None,
    **kwargs: Tree,
) -> Array:
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta, over the given axes."""
    by_variance = kwargs.pop("rms_scaling", False)
    if kwargs:
        raise TypeError(
            f"layer_normalization: expected no argument {min(kwargs)!r}; leave it out"
        )
    x = jnp.asarray(x)
    y = _in_float32(x)
    axes = _sorted_axes(axis)
    scale = _beside(gamma, y, axes)
    shift = _beside(beta, y, axes)
    mean, variance = moments(y, tuple(axes), keepdims=True)
    factor = lax.rsqrt(variance + _or_epsilon(epsilon))
    if by_variance:
        y = y * factor
        if scale is not None:
            y = y * scale
        return y.astype(x.dtype)
    if scale is not None:
        factor = factor * scale
    rest = -mean * factor
    if shift is not None:
        rest = rest + shift
    return (y * factor + rest).astype(x.dtype)


def rms_normalization(
    x: Array,
    scale: Array | None = None,
    axis: Axes = -1,
    epsilon: float | None = None,
) -> Array:
    """x / sqrt(mean(x ** 2) + epsilon) * scale, over the given axes."""
    y = _in_float32(_with_an_axis(x))
    axes = _sorted_axes(axis)
    squares = jnp.mean(jnp.square(y), tuple(axes), keepdims=True)
    y = y * lax.rsqrt(squares + _or_epsilon(epsilon))
    if scale is not None:
        scale = scale.astype(y.dtype)
        # Leading axes of 1, as NumPy broadcasts.
        new_axes = (1,) * (y.ndim - scale.ndim)
        y = y * scale.reshape(new_axes + scale.shape)
    return y.astype(x.dtype)


def normalize(
    x: Array,
    axis: Axes = -1,
    order: int = 2,
    epsilon: float | None = None,
) -> Array:
    """Divide by the norm of some order along an axis."""
    if not isinstance(order, int) or order < 1:
        raise ValueError(
            f"normalize: expected order to be an integer of 1 or more, received {order!r}"
        )
    least = _or_epsilon(epsilon)
    x = _with_an_axis(x)
    if order == 2:
        squares = jnp.sum(jnp.square(x), axis=axis, keepdims=True)
        return x * jnp.minimum(lax.rsqrt(squares), 1.0 / least)
    norm = jnp.linalg.norm(x, ord=order, axis=axis, keepdims=True)
    return x / jnp.maximum(norm, least)


def _not_sparse(name: str, sparse: bool) -> None:
    if sparse:
        raise ValueError(
            f"{name}: expected sparse=False, since fnn has no sparse arrays, received "
            "sparse=True; leave it out"
        )


def one_hot(
    x: Array,
    num_classes: int,
    axis: int = -1,
    dtype: Tree = None,
    sparse: bool = False,
) -> Array:
    """1 at the place that each integer numbers, 0 elsewhere."""
    _not_sparse("one_hot", sparse)
    return jax.nn.one_hot(x, num_classes, axis=axis, dtype=dtype or FLOAT)


def multi_hot(
    inputs: Tree,
    num_classes: int | None = None,
    axis: int = -1,
    dtype: Tree = None,
    sparse: bool = False,
    **kwargs: Tree,
) -> Array:
    """1 at the places that the integers of a row number, 0 elsewhere."""
    number = kwargs.get("num_tokens") if num_classes is None else num_classes
    if number is None:
        raise ValueError("multi_hot: expected num_classes, received none; e.g. 10")
    _not_sparse("multi_hot", sparse)
    inputs = jnp.asarray(inputs).astype("int32")
    hot = jax.nn.one_hot(inputs, number, axis=axis, dtype=dtype or FLOAT)
    return jnp.max(hot, axis=min(1, inputs.ndim - 1))


def polar(abs_: Array, angle: Array) -> Array:
    """Complex numbers of these absolute values and angles."""
    real = abs_ * jnp.cos(angle)
    imaginary = abs_ * jnp.sin(angle)
    return lax.complex(real, imaginary)


def psnr(x1: Array, x2: Array, max_val: float) -> Array:
    """The ratio of signal to noise between images of values up to `max_val`, in decibels."""
    _same_shapes("psnr", x1, x2)
    peak = jnp.asarray(max_val, x2.dtype)
    signal = 20 * jnp.log10(peak)
    noise = jnp.mean(jnp.square(x1 - x2))
    return signal - 10 * jnp.log10(noise)


def dot_product_attention(
    query: Array,
    key: Tree,
    value: Array,
    bias: Array | None = None,
    mask: Array | None = None,
    scale: Tree = None,
    is_causal: bool = False,
    flash_attention: bool | None = None,
    attn_logits_soft_cap: float | None = None,
) -> Array:
    """softmax(query @ key * scale + bias) @ value, of (batch, time, heads, features)."""
    key = jnp.asarray(key)
    if {query.ndim, key.ndim, value.ndim} != {4}:
        raise ValueError(
            "dot_product_attention: expected arrays (batch, time, heads, features), received "
            f"shapes {query.shape}, {key.shape} and {value.shape}"
        )
    if attn_logits_soft_cap is not None:
        raise ValueError(
            "dot_product_attention: expected attn_logits_soft_cap=None, received "
            f"{attn_logits_soft_cap}; leave it out"
        )
    dtype = jnp.result_type(query, key, value)
    query = query.astype(dtype)
    key = key.astype(dtype)
    value = value.astype(dtype)
    if bias is not None:
        bias = bias.astype(dtype)
    return jax.nn.dot_product_attention(
        query,
        key,
        value,
        bias=bias,
        mask=mask,
        scale=scale,
        is_causal=is_causal,
        implementation="cudnn" if flash_attention else "xla",
    )
