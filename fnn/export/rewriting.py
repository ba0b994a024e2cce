"""Rewriting: programs in the operations that jax2onnx converts, with the same results."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.extend.core import ClosedJaxpr, Literal, jaxpr_as_fun

from fnn.training.independence.jaxprs import Equation, Program, constants, opened

Values: TypeAlias = Sequence[Any]  # of the variables of a program

# Calls whose programs are written out in their place.
CALLS = {
    "checkpoint",
    "closed_call",
    "core_call",
    "custom_jvp_call",
    "custom_vjp_call",
    "custom_vjp_call_jaxpr",
    "jit",
    "pjit",
    "remat2",
}
# The axes that ONNX Runtime pools at a time, and those that jax2onnx convolves along, beside those
# of examples and channels.
POOLED = CONVOLVED = 2
# Parameters of a convolution.
PER_AXIS = ("window_strides", "padding", "lhs_dilation", "rhs_dilation")
OF_ALL_AXES = ("feature_group_count", "precision", "preferred_element_type")


def rewritten(
    function: Callable[..., Sequence[Array]],
) -> Callable[..., Sequence[Array]]:
    """A function of arrays with the same results, in operations that jax2onnx knows."""

    def run(*arrays: Array) -> Sequence[Array]:
        traced = jax.make_jaxpr(function)(*arrays)
        return _apart(arrays, _run(traced.jaxpr, traced.consts, arrays))

    return run


def _apart(arrays: Sequence[Array], results: Values) -> tuple[Array, ...]:
    """The results, with a copy of each that is an input or another result: all have names."""
    known = {id(array) for array in arrays}
    made = []
    for result in results:
        made.append(jnp.copy(result) if id(result) in known else result)
        known.add(id(result))
    return tuple(made)


def _run(program: Program, held: Values, given: Values) -> Values:
    """The results of a program with constants `held`, equation by equation."""
    values = dict(zip(program.constvars, held, strict=True))
    values.update(zip(program.invars, given, strict=True))

    def value(variable: Any) -> Any:
        if isinstance(variable, Literal):
            return variable.val
        return values[variable]

    for equation in program.eqns:
        results = _results(program, equation, [value(v) for v in equation.invars])
        values.update(zip(equation.outvars, results, strict=True))
    return [value(v) for v in program.outvars]


def _results(program: Program, equation: Equation, given: Values) -> Values:
    name, parameters = equation.primitive.name, equation.params
    rule = RULES.get(name)
    if rule is not None:
        changed = rule(*given, **parameters)
        if changed is not None:
            return [changed]
    if name in CALLS:
        inner = parameters.get("jaxpr", parameters.get("call_jaxpr"))
        return _run(opened(inner), constants(inner), given)
    return _as_it_is(program, equation, given)


def _as_it_is(program: Program, equation: Equation, given: Values) -> Values:
    """The results of one equation; None for those that nothing uses."""
    pairs = zip(equation.invars, given, strict=True)
    inputs = {v: value for v, value in pairs if not isinstance(v, Literal)}
    used = [v for v in equation.outvars if type(v).__name__ != "DropVar"]
    alone = program.replace(
        constvars=[], invars=list(inputs), outvars=used, eqns=[equation]
    )
    run = jaxpr_as_fun(ClosedJaxpr(alone, []))
    found = dict(zip(used, run(*inputs.values()), strict=True))
    return [found.get(v) for v in equation.outvars]


def _pad(
    x: Array,
    fill: Array,
    *,
    padding_config: Sequence[tuple[int, int, int]],
) -> Any:
    """`lax.pad` by concatenation; None for padding between elements."""
    if any(between for _, _, between in padding_config):
        return None
    for axis, (before, after, _) in enumerate(padding_config):
        length = x.shape[axis]
        if before < 0 or after < 0:
            start = max(-before, 0)
            end = length + min(after, 0)
            x = lax.slice_in_dim(x, start, end, axis=axis)
        front = _filled(x, axis, before, fill)
        back = _filled(x, axis, after, fill)
        kept = [part for part in (front, x, back) if part is not None]
        if len(kept) > 1:
            x = lax.concatenate(kept, axis)
    return x


def _filled(x: Array, axis: int, count: int, fill: Array) -> Array | None:
    """`count` entries of `fill` along an axis of `x`."""
    if count <= 0:
        return None
    shape = list(x.shape)
    shape[axis] = count
    fill = jnp.reshape(fill, (1,) * x.ndim)
    return jnp.broadcast_to(fill, shape)


def _reduce_window_max(x: Array, **parameters: Any) -> Array:
    """Maxima of windows along at most two axes at a time, the other axes joined into one."""
    settings = zip(
        parameters["window_dimensions"],
        parameters["window_strides"],
        parameters["padding"],
        parameters["window_dilation"],
        strict=True,
    )
    axes = []
    for axis, (size, stride, padding, dilation) in enumerate(settings):
        if (size, stride, dilation) != (1, 1, 1) or any(padding):
            axes.append(axis)
    for first in range(0, len(axes), POOLED):
        x = _max_along(x, axes[first : first + POOLED], parameters)
    return x


def _max_along(x: Array, axes: list[int], parameters: dict[str, Any]) -> Array:
    others = [axis for axis in range(x.ndim) if axis not in axes]
    order = [*others, *axes]
    front = [x.shape[axis] for axis in others]
    sizes = [x.shape[axis] for axis in axes]
    x = jnp.transpose(x, order).reshape(-1, *sizes)

    def along(name: str, default: Any) -> tuple[Any, ...]:
        return (default, *(parameters[name][axis] for axis in axes))

    x = lax.reduce_window(
        x,
        _lowest(x),
        lax.max,
        along("window_dimensions", 1),
        along("window_strides", 1),
        along("padding", (0, 0)),
        window_dilation=along("window_dilation", 1),
    )
    x = x.reshape(*front, *x.shape[1:])
    back = [order.index(axis) for axis in range(x.ndim)]
    return jnp.transpose(x, back)


def _lowest(x: Array) -> Any:
    if jnp.issubdtype(x.dtype, jnp.floating):
        return jnp.asarray(-jnp.inf, x.dtype)
    return np.iinfo(x.dtype).min


def _convolution(x: Array, kernel: Array, **parameters: Any) -> Array | None:
    """A convolution whose kernel has one of the two usual orders of axes; None if it has."""
    numbers = parameters["dimension_numbers"]
    if kernel.ndim > 2 + CONVOLVED and parameters["batch_group_count"] == 1:
        return _convolution_of_slices(x, kernel, **parameters)
    order = numbers.rhs_spec
    last = kernel.ndim - 1
    positions_first = (last, last - 1, *range(last - 1))
    if order in (tuple(range(kernel.ndim)), positions_first):
        return None
    outputs, inputs, *positions = order
    kernel = jnp.transpose(kernel, (*positions, inputs, outputs))
    numbers = lax.ConvDimensionNumbers(
        numbers.lhs_spec, positions_first, numbers.out_spec
    )
    return lax.conv_general_dilated(
        x,
        kernel,
        **{name: parameters[name] for name in (*PER_AXIS, *OF_ALL_AXES)},
        dimension_numbers=numbers,
    )


def _convolution_of_slices(x: Array, kernel: Array, **parameters: Any) -> Array:
    """A convolution along n axes as the sum of some along n - 1, one a slice of the kernel."""
    numbers = parameters["dimension_numbers"]
    batch, channels, *positions = numbers.lhs_spec
    x = jnp.transpose(x, (batch, *positions, channels))
    outputs, inputs, *positions = numbers.rhs_spec
    kernel = jnp.transpose(kernel, (*positions, inputs, outputs))
    x = _spaced(x, parameters["lhs_dilation"][0])
    unpadded = (0, 0, 0)
    before, after = parameters["padding"][0]
    padding = [unpadded, (before, after, 0), *[unpadded] * (x.ndim - 2)]
    zero = jnp.zeros((), x.dtype)
    x = _pad(x, zero, padding_config=padding)
    stride = parameters["window_strides"][0]
    dilation = parameters["rhs_dilation"][0]
    reach = dilation * (len(kernel) - 1) + 1
    count = (x.shape[1] - reach) // stride + 1  # positions along the first axis

    def along_others(n: int) -> Array:
        start = n * dilation
        end = start + (count - 1) * stride + 1
        slices = lax.slice_in_dim(x, start, end, stride, axis=1)
        options = {name: parameters[name][1:] for name in PER_AXIS}
        return lax.conv_general_dilated(
            slices.reshape(-1, *x.shape[2:]),
            kernel[n],
            **options,
            **{name: parameters[name] for name in OF_ALL_AXES},
            dimension_numbers=_channels_last(x.ndim - 3),
        )

    terms = map(along_others, range(len(kernel)))
    y = functools.reduce(jnp.add, terms)
    y = y.reshape(x.shape[0], count, *y.shape[1:])
    batch, channels, *positions = numbers.out_spec
    back = np.argsort((batch, *positions, channels))
    return jnp.transpose(y, tuple(back.tolist()))


def _channels_last(count: int) -> tuple[str, str, str]:
    """The order of axes of a convolution along so many."""
    positions = "DHW"[-count:]
    return f"N{positions}C", f"{positions}IO", f"N{positions}C"


def _spaced(x: Array, step: int) -> Array:
    """Zeros between the entries along axis 1, which are then `step` apart."""
    if step == 1:
        return x
    examples, length, *others = x.shape
    zeros = jnp.zeros((examples, length, step - 1, *others), x.dtype)
    spread = lax.concatenate([x[:, :, None], zeros], 2)
    spread = spread.reshape(examples, -1, *others)
    end = (length - 1) * step + 1
    return lax.slice_in_dim(spread, 0, end, axis=1)


RULES: dict[str, Callable[..., Any]] = {
    "conv_general_dilated": _convolution,
    "pad": _pad,
    "reduce_window_max": _reduce_window_max,
    "stop_gradient": lambda x, **parameters: x,
}
