"""Checked: the pair of every layer answers to natural mistakes before it computes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core import arguments, tree
from fnn.core.context import Context, check_key
from fnn.core.masking import check_mask, leading, split_mask
from fnn.core.operators import Operators
from fnn.core.precision import run_apply, run_init

_shown = functools.partial(arguments.shown, limit=60)


def check_pair(cls: type) -> None:
    """Puts the checks in front of what a class defines of `init` and `apply`, and its dtype.

    They look at types and shapes, the fresh weights of a shape once, and at the numbers of inputs
    where a layer has bounds for them (`check_values`); they cost nothing in what is compiled.
    """
    for name, check, run in (("init", _check_init, run_init), ("apply", _check_apply, run_apply)):
        if name in vars(cls):
            setattr(cls, name, _checked(vars(cls)[name], check, run))


def _checked(
    function: Callable[..., Any], check: Callable[..., None], run: Callable[..., Any]
) -> Callable[..., Any]:
    @functools.wraps(function)
    def checked(self: Any, *given: Any, **named: Any) -> Any:
        for name in named:
            if name in _IN_A_CONTEXT and name not in inspect.signature(function).parameters:
                raise _belongs_into_a_context(self, name, named[name])
        check(self, *given, **named)
        if self.dtype is not None:
            return run(function, self, *given, **named)
        return function(self, *given, **named)

    return checked


_IN_A_CONTEXT = {"train", "training", "key", "rng", "mask", "rows"}


def _belongs_into_a_context(layer: Any, name: str, value: Any) -> TypeError:
    field = {"training": "train", "rng": "key"}.get(name, name)
    shown = field if hasattr(value, "shape") else repr(value)
    call = "train=True, key=key" if field in ("train", "key") else f"{field}={shown}"
    return TypeError(
        f"{type(layer).__name__}: apply takes {name} in a Context; call "
        f"apply(params, state, x, Context({call}))"
    )


def _check_init(layer: Any, key: Any = None, x: Any = None) -> None:
    dtype = getattr(key, "dtype", None)
    drawn = dtype is not None and (
        jnp.issubdtype(dtype, jax.dtypes.prng_key) or dtype == jnp.uint32
    )
    if key is not None and not drawn:
        raise TypeError(
            f"{type(layer).__name__}: expected a key of jax.random, received {_shown(key)}; do "
            "init(jax.random.key(0), x)"
        )
    _check_arrays(layer, x, "init(key, {})")


def _check_apply(
    layer: Any, params: Any = None, state: Any = None, x: Any = None, ctx: Any = None, **_: Any
) -> None:
    if ctx is not None and not isinstance(ctx, Context):
        raise TypeError(
            f"{type(layer).__name__}: expected a Context after the inputs, received {_shown(ctx)}; "
            "do apply(params, state, x, Context(train=True, key=key)), and nothing for inference"
        )
    if ctx is not None:
        check_key(ctx.key)
    if hasattr(state, "shape"):
        raise TypeError(
            f"{type(layer).__name__}: expected the state before the inputs, received "
            f"{_shown(state)}; do apply(params, state, x), with the state that init returned"
        )
    _check_arrays(layer, x, "apply(params, state, {})")
    _check_masks(layer, x, None if ctx is None else ctx.mask)
    if x is not None and layer.masking != "inside":  # a combinator's children look for themselves
        _check_fit(layer, params, x)
        check_numbers(layer, x, None if ctx is None else ctx.mask)


def _check_masks(layer: Any, x: Any, given: Any) -> None:
    """Raises what a mask that does not fit its values would raise later, inside JAX."""
    values, masks = split_mask(x)
    if masks is not None and layer.masking != "inside":
        raise TypeError(
            f"{type(layer).__name__}: expected arrays, received Masked values; pass the mask in a "
            "Context: apply(params, state, x.values, Context(mask=x.mask))"
        )
    masks = given if masks is None else masks
    pairs = zip(values, masks, strict=False) if isinstance(masks, tuple) else [(values, masks)]
    for array, mask in pairs:
        first = array[0] if isinstance(array, (tuple, list)) else array
        if hasattr(mask, "shape") and hasattr(first, "shape"):
            check_mask(layer, first.shape, mask.shape)


def check_numbers(layer: Any, x: Any, mask: Any = None) -> None:
    """Lets a layer with `check_values` refuse the numbers of an input, masked ones left out.

    Only of an array that has numbers here: not under `jit` and other transformations of JAX, nor
    of one that lies in part on devices of another process.
    """
    known = isinstance(x, (np.ndarray, jax.Array)) and not isinstance(x, jax.core.Tracer)
    if not known or not hasattr(layer, "check_values") or isinstance(mask, jax.core.Tracer):
        return
    if isinstance(x, np.ndarray) or x.is_fully_addressable:
        numbers = np.asarray(x)
        valid = True if mask is None else leading(np.asarray(mask), numbers.ndim)
        layer.check_values(np.where(valid, numbers, numbers.dtype.type(0)))


def _check_arrays(layer: Any, x: Any, call: str) -> None:
    leaves = jax.tree.leaves(x)
    if any(isinstance(leaf, Operators) for leaf in leaves):
        raise TypeError(
            f"{type(layer).__name__}: expected arrays, received a symbolic node; do call the layer "
            "itself on it, layer(x), and put inputs and outputs into a Model"
        )
    if not all(hasattr(leaf, "shape") for leaf in leaves):
        shape = isinstance(x, (tuple, list)) and all(isinstance(n, int) for n in x)
        whole = f"jnp.zeros({tuple(x)})" if shape else "jnp.asarray(x)"
        raise TypeError(
            f"{type(layer).__name__}: expected arrays (or a tuple of them), received {_shown(x)}; "
            f"do {call.format(whole)}"
        )


def _check_fit(layer: Any, params: Any, x: Any) -> None:
    """Raises what `init` says to inputs like `x`, and ValueError if they need other weights."""
    from fnn.core.calling import weight_spec

    if not all(hasattr(leaf, "shape") for leaf in jax.tree.leaves((params, x))):
        return
    for path, fresh in tree.flatten(weight_spec(layer, _in_batch(layer, params, x))[0]):
        given: Any = params
        for name in path:
            given = given.get(name, {})
        needed, made = tuple(fresh.shape), tuple(getattr(given, "shape", fresh.shape))
        if made != needed:
            raise ValueError(f"{type(layer).__name__}: {_misfit(path, made, needed, x)}")


def _in_batch(layer: Any, params: Any, x: Any) -> Any:
    """`x`, or the shapes of a batch of one where it is a single example."""
    if not layer.is_example(params, x):
        return x
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct((1, *a.shape), a.dtype), x)


def _misfit(path: tuple[str, ...], made: Any, needed: Any, x: Any) -> str:
    shapes = [tuple(a.shape) for a in jax.tree.leaves(x)]
    found = shapes[0] if len(shapes) == 1 else shapes
    sizes = [(m, n) for m, n in zip(made, needed, strict=False) if m != n]
    if len(made) == len(needed) and len(sizes) == 1 and any(sizes[0][1] in s for s in shapes):
        return (
            f"expected inputs of {sizes[0][0]} features, received {sizes[0][1]} in shape {found}; "
            f"do give inputs like those of init, or {'/'.join(path)} of shape {needed} for these"
        )
    return (
        f"expected {'/'.join(path)} of shape {needed} for inputs of shape {found}, received shape "
        f"{made}; do give the weights that init makes for such inputs, or other inputs"
    )
