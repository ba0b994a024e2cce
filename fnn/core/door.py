"""The door: what each call of `init` and `apply` passes: checks of the inputs, and the dtype."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import operator
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core import arguments, tree
from fnn.core.context import Context, check_key
from fnn.core.masking import check_mask, leading, split_mask
from fnn.core.value import Fields
from fnn.runtime.program_cache import small_cache

_shown = functools.partial(arguments.shown, limit=60)


def check_pair(cls: Any) -> None:
    """Puts the checks in front of what a class defines of `init` and `apply`, and its dtype.

    They look at types and shapes, the fresh weights of a shape once, and at the numbers of inputs
    where a layer has bounds for them (`check_values`); they cost nothing in what is compiled.
    `call` checks by itself and runs `unchecked_apply`, so that a child has no door of its own.
    """
    defined = vars(cls)
    if "init" in defined:
        cls.init = _checked(defined["init"], check_init, run_init)
    if "apply" in defined:
        if "unchecked_apply" not in defined:
            cls.unchecked_apply = defined["apply"]
            cls.apply = _checked(defined["apply"], check_apply, run_apply)
        cls.checked_apply = cls.apply


def inner_apply(layer: Any) -> Callable[..., Any]:
    """What a class runs behind its checks; `apply` where someone else has put one over it."""
    cls = type(layer)
    return cls.unchecked_apply if cls.apply is cls.checked_apply else cls.apply


def _checked(
    function: Callable[..., Any], check: Callable[..., None], run: Callable[..., Any]
) -> Callable[..., Any]:
    @functools.wraps(function)
    def checked(self: Any, *given: Any, **named: Any) -> Any:
        if not _IN_A_CONTEXT.isdisjoint(named):
            taken = inspect.signature(function).parameters
            refuse_names(
                self,
                {name: value for name, value in named.items() if name not in taken},
            )
        check(self, *given, **named)
        if self.dtype is not None:
            return run(function, self, *given, **named)
        return function(self, *given, **named)

    return checked


_IN_A_CONTEXT = {"train", "training", "key", "rng", "mask", "rows"}


def refuse_names(layer: Any, named: dict[str, Any]) -> None:
    """Raises TypeError for arguments of `apply` that it does not have."""
    for name, value in named.items():
        if name in _IN_A_CONTEXT:
            raise _belongs_into_a_context(layer, name, value)
        raise TypeError(
            f"{type(layer).__name__}.apply() got an unexpected argument {name!r}"
        )


def _belongs_into_a_context(layer: Any, name: str, value: Any) -> TypeError:
    field = {"training": "train", "rng": "key"}.get(name, name)
    shown = field if hasattr(value, "shape") else repr(value)
    call = "train=True, key=key" if field in ("train", "key") else f"{field}={shown}"
    return TypeError(
        f"{type(layer).__name__}: apply takes {name} in a Context; call "
        f"apply(params, state, x, Context({call}))"
    )


def check_init(layer: Any, key: Any = None, x: Any = None) -> None:
    """Raises TypeError for what `init` cannot take."""
    dtype = getattr(key, "dtype", None)
    drawn = dtype is not None and (
        jnp.issubdtype(dtype, jax.dtypes.prng_key) or dtype == jnp.uint32
    )
    if key is not None and not drawn:
        raise TypeError(
            f"{type(layer).__name__}: expected a key of jax.random, received {_shown(key)}; use "
            "init(jax.random.key(0), x)"
        )
    _check_arrays(layer, x, "init(key, {})")


def check_apply(
    layer: Any,
    params: Any = None,
    state: Any = None,
    x: Any = None,
    ctx: Any = None,
    **_: Any,
) -> None:
    """Raises TypeError and ValueError for what `apply` cannot take."""
    if ctx is not None and not isinstance(ctx, Context):
        raise TypeError(
            f"{type(layer).__name__}: expected a Context after the inputs, received {_shown(ctx)}; "
            "use apply(params, state, x, Context(train=True, key=key)), and nothing for inference"
        )
    if ctx is not None:
        check_key(ctx.key)
    if hasattr(state, "shape"):
        raise TypeError(
            f"{type(layer).__name__}: expected the state before the inputs, received "
            f"{_shown(state)}; use apply(params, state, x), with the state that init returned"
        )
    _check_arrays(layer, x, "apply(params, state, {})")
    _check_masks(layer, x, None if ctx is None else ctx.mask)
    if (
        x is not None and layer.masking != "inside"
    ):  # a combinator's children look for themselves
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
    pairs = (
        zip(values, masks, strict=False)
        if isinstance(masks, tuple)
        else [(values, masks)]
    )
    for array, mask in pairs:
        first = array[0] if isinstance(array, (tuple, list)) else array
        if hasattr(mask, "shape") and hasattr(first, "shape"):
            check_mask(layer, first.shape, mask.shape)


def check_numbers(layer: Any, x: Any, mask: Any = None) -> None:
    """Lets a layer with `check_values` refuse the numbers of an input, masked ones left out.

    Only of an array that has numbers here: not under `jit` and other transformations of JAX, nor
    of one that lies in part on devices of another process.
    """
    known = isinstance(x, (np.ndarray, jax.Array)) and not isinstance(
        x, jax.core.Tracer
    )
    if (
        not known
        or not hasattr(layer, "check_values")
        or isinstance(mask, jax.core.Tracer)
    ):
        return
    if isinstance(x, np.ndarray) or x.is_fully_addressable:
        numbers = np.asarray(x)
        valid = True if mask is None else leading(np.asarray(mask), numbers.ndim)
        layer.check_values(np.where(valid, numbers, numbers.dtype.type(0)))


def _check_arrays(layer: Any, x: Any, call: str) -> None:
    leaves = jax.tree.leaves(x)
    if any(getattr(leaf, "is_symbolic", False) for leaf in leaves):
        raise TypeError(
            f"{type(layer).__name__}: expected arrays, received a symbolic node; call the layer "
            "itself on it, layer(x), and put inputs and outputs into a Model"
        )
    if not all(hasattr(leaf, "shape") for leaf in leaves):
        shape = isinstance(x, (tuple, list)) and all(isinstance(n, int) for n in x)
        whole = f"jnp.zeros({tuple(x)})" if shape else "jnp.asarray(x)"
        raise TypeError(
            f"{type(layer).__name__}: expected arrays (or a tuple of them), received {_shown(x)}; "
            f"use {call.format(whole)}"
        )


def _check_fit(layer: Any, params: Any, x: Any) -> None:
    """Raises what `init` says to inputs like `x`, and ValueError if they need other weights."""
    if not all(hasattr(leaf, "shape") for leaf in jax.tree.leaves((params, x))):
        return
    for path, fresh in tree.flatten(_fresh_params(layer, _in_batch(layer, params, x))):
        given: Any = params
        for name in path:
            given = given.get(name, {})
        needed, made = tuple(fresh.shape), tuple(getattr(given, "shape", fresh.shape))
        if made != needed:
            raise ValueError(
                f"{type(layer).__name__}: {_misfit(path, made, needed, x)}"
            )


def _fresh_params(layer: Any, x: Any) -> Any:
    """Shapes and dtypes of the weights that `init` makes for inputs like `x`."""
    leaves, treedef = jax.tree.flatten(tree.spec(x))
    return _spec_of_params(layer, treedef, tuple(leaves))


@small_cache(4096)
def _spec_of_params(layer: Any, treedef: Any, leaves: tuple[Any, ...]) -> Any:
    written = []

    def make(key: Any, x: Any) -> Any:
        params = layer.init(key, x)[0]
        written.append(tree.names(params))  # as written: JAX returns dicts sorted
        return params

    fresh = jax.eval_shape(make, jax.random.key(0), treedef.unflatten(leaves))
    return tree.same_order(fresh, written[-1])


def _in_batch(layer: Any, params: Any, x: Any) -> Any:
    """`x`, or the shapes of a batch of one where it is a single example."""
    if not layer.is_example(params, x):
        return x
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct((1, *a.shape), a.dtype), x)


def _misfit(path: tuple[str, ...], made: Any, needed: Any, x: Any) -> str:
    shapes = [tuple(a.shape) for a in jax.tree.leaves(x)]
    found = shapes[0] if len(shapes) == 1 else shapes
    sizes = [(m, n) for m, n in zip(made, needed, strict=False) if m != n]
    if (
        len(made) == len(needed)
        and len(sizes) == 1
        and any(sizes[0][1] in s for s in shapes)
    ):
        return (
            f"expected inputs of {sizes[0][0]} features, received {sizes[0][1]} in shape {found}; "
            f"give inputs like those of init, or {'/'.join(path)} of shape {needed} for these"
        )
    return (
        f"expected {'/'.join(path)} of shape {needed} for inputs of shape {found}, received shape "
        f"{made}; give the weights that init makes for such inputs, or other inputs"
    )


@contextlib.contextmanager
def located(name: str | None, layer: Any, x: Any) -> Iterator[None]:
    """Adds to any exception one note: the full path of the layer, the layer, its input shapes."""
    try:
        yield
    except Exception as error:
        path, suffix, index = getattr(error, "_fnn_location", ((), None, -1))
        if suffix is None:
            suffix = f": {layer!r} applied to {tree.describe(x)}"
            error.add_note("")
            index = len(error.__notes__) - 1  # others may add notes on the way out
        if name:
            path = (name, *path)
        error.__notes__[index] = (
            f"in layer {'/'.join(path) or type(layer).__name__}{suffix}"
        )
        error._fnn_location = path, suffix, index  # type: ignore[attr-defined]
        raise


def with_dtype_of_children(layer: Any) -> Any:
    """`layer`, each layer in its fields in its dtype, unless that has a dtype of its own.

    The names of children, and so the paths of their weights, stay as they are.

    >>> from fnn.layers import Dense, Sequential
    >>> with_dtype_of_children(Sequential([Dense(2), Dense(3, dtype="float32")], dtype="bfloat16"))
    Sequential(dtype='bfloat16', layers=(Dense(dtype='bfloat16', units=2), \
Dense(dtype='float32', units=3)))
    """
    if layer.dtype is None:
        return layer
    fields = {name: value for name, value in vars(layer).items() if name[0] != "_"}
    changed = {name: in_dtype(value, layer.dtype) for name, value in fields.items()}
    return _with(
        layer, {n: value for n, value in changed.items() if value is not fields[n]}
    )


def in_dtype(value: Any, dtype: str | None) -> Any:
    """A value, the layers in it in `dtype` unless they have one; the same object without any."""
    if isinstance(value, Fields):
        items = in_dtype(value.items, dtype)
        return value if items is value.items else Fields(items)
    if type(value) is tuple:
        changed = tuple(in_dtype(item, dtype) for item in value)
        return value if all(map(operator.is_, changed, value)) else changed
    without = getattr(value, "kind", None) == "layer" and value.dtype is None
    return (
        _with(value, {"dtype": dtype})
        if without and not isinstance(value, type)
        else value
    )


def _with(layer: Any, attributes: dict[str, Any]) -> Any:
    """A copy with other attributes, also of a class with an `__init__` of its own."""
    if not attributes:
        return layer
    changed = copy.copy(layer)
    for name, value in attributes.items():
        object.__setattr__(changed, name, value)
    return changed


def run_init(function: Any, layer: Any, *given: Any, **named: Any) -> Any:
    """`init` of a layer with a dtype: float64 children make weights of float64."""
    return function(with_dtype_of_children(layer), *given, **named)


def run_apply(function: Any, layer: Any, *given: Any, **named: Any) -> Any:
    """`apply` of a layer with a dtype: inputs and own weights come in it, children take it on."""
    inner = with_dtype_of_children(layer)
    ways = {
        "params": lambda params: _cast_own(inner, params),
        "state": lambda state: state,
        "x": lambda x: tree.cast(x, layer.dtype),
    }
    cast = [way(value) for way, value in zip(ways.values(), given, strict=False)]
    named = {
        name: ways[name](value) if name in ways else value
        for name, value in named.items()
    }
    return function(inner, *cast, *given[len(ways) :], **named)


def _cast_own(layer: Any, params: Any) -> Any:
    """Weights in the dtype of their layer, but for those of children, who see to that themselves.

    A child with a wider dtype would else get weights that are rounded already.
    """
    names = {name for name, _ in layer.children()}
    if None in names or not isinstance(params, dict):  # all belong to that child
        return params if names else tree.cast(params, layer.dtype)
    return {
        n: w if n in names else tree.cast(w, layer.dtype) for n, w in params.items()
    }
