"""Checks: inputs of init and apply against the weights, located errors, the dtype policy."""

from __future__ import annotations

import contextlib
import functools
import inspect
import operator
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias, TypeVar

import jax
import numpy as np

from fnn.core import arguments, tree
from fnn.core.context import (
    Context,
    LayerLike,
    Mask,
    check_key,
    check_mask,
    is_key,
    leading,
    split_mask,
)
from fnn.core.tree import Path, SpecTree, Tree
from fnn.core.value import Fields
from fnn.runtime.program_cache import shallow, small_cache

Method: TypeAlias = Callable[..., Any]
L = TypeVar("L", bound=LayerLike)

_shown = functools.partial(arguments.shown, limit=60)


def check_pair(cls: Any) -> None:
    """Puts checks of the inputs, and the dtype, in front of a class's own `init` and `apply`.

    The checks look at types and shapes; they compare the weights with those that `init` makes,
    once for each shape, and look at values only if the layer has `check_values`. They add nothing
    to compiled programs. `call` checks by itself and then runs `unchecked_apply`, so children are
    not checked twice.
    """
    defined = vars(cls)
    if "init" in defined:
        cls.init = _checked(defined["init"], check_init, run_init)
    if "apply" in defined:
        if "unchecked_apply" not in defined:
            cls.unchecked_apply = defined["apply"]
            cls.apply = _checked(defined["apply"], check_apply, run_apply)
        cls.checked_apply = cls.apply


def inner_apply(layer: LayerLike) -> Method:
    """The `apply` of a class without its checks; `apply` itself if it was replaced later."""
    cls: Any = type(layer)
    apply: Method = cls.apply
    if apply is cls.checked_apply:
        apply = cls.unchecked_apply
    return apply


def _checked(function: Method, check: Callable[..., None], run: Method) -> Method:
    @functools.wraps(function)
    def checked(self: LayerLike, *given: object, **named: object) -> object:
        if not _CONTEXT_FIELDS.isdisjoint(named):
            known = inspect.signature(function).parameters
            unknown = {n: v for n, v in named.items() if n not in known}
            refuse_names(self, unknown)
        check(self, *given, **named)
        if self.dtype is not None:
            return run(function, self, *given, **named)
        return function(self, *given, **named)

    return checked


_CONTEXT_FIELDS = {"train", "training", "key", "rng", "mask", "rows"}


def refuse_names(layer: LayerLike, named: dict[str, object]) -> None:
    """Raises TypeError for arguments that `apply` does not have."""
    for name, value in named.items():
        if name in _CONTEXT_FIELDS:
            raise _belongs_in_context(layer, name, value)
        raise TypeError(
            f"{type(layer).__name__}.apply() got an unexpected argument {name!r}"
        )


def _belongs_in_context(layer: LayerLike, name: str, value: object) -> TypeError:
    field = {"training": "train", "rng": "key"}.get(name, name)
    shown = repr(value)
    if hasattr(value, "shape"):
        shown = field
    call = f"{field}={shown}"
    if field in ("train", "key"):
        call = "train=True, key=key"
    return TypeError(
        f"{type(layer).__name__}: apply takes {name} in a Context; call "
        f"apply(params, state, x, Context({call}))"
    )


def check_init(layer: LayerLike, key: object = None, x: Tree = None) -> None:
    """Raises TypeError for arguments that `init` cannot take."""
    if key is not None and not is_key(key):
        raise TypeError(
            f"{type(layer).__name__}: expected a key of jax.random, received {_shown(key)}; use "
            "init(jax.random.key(0), x)"
        )
    _check_arrays(layer, x, "init(key, {})")
    arguments.check_inputs(layer, split_mask(x)[0])
    arguments.input_spec(layer, x)


def check_apply(
    layer: LayerLike,
    params: Tree = None,
    state: Tree = None,
    x: Tree = None,
    ctx: Context | None = None,
    fresh: bool = False,
    **_: object,
) -> None:
    """Raises TypeError and ValueError for what `apply` cannot take; `fresh` weights fit."""
    mask = None
    if ctx is not None:
        _check_context(layer, ctx)
        mask = ctx.mask
    if hasattr(state, "shape"):
        raise TypeError(
            f"{type(layer).__name__}: expected the state before the inputs, received "
            f"{_shown(state)}; use apply(params, state, x), with the state that init returned"
        )
    _check_arrays(layer, x, "apply(params, state, {})")
    _check_masks(layer, x, mask)
    # The children of a combinator check their own inputs.
    if layer.masking == "inside":
        arguments.check_inputs(layer, split_mask(x)[0])
        arguments.input_spec(layer, x)
    elif x is not None:
        arguments.input_spec(layer, x)
        if not fresh:
            _check_fit(layer, params, x)
        check_numbers(layer, x, mask)


def _check_context(layer: LayerLike, ctx: object) -> None:
    if not isinstance(ctx, Context):
        raise TypeError(
            f"{type(layer).__name__}: expected a Context after the inputs, received {_shown(ctx)}; "
            "use apply(params, state, x, Context(train=True, key=key)), and nothing for inference"
        )
    check_key(ctx.key)


def _check_masks(layer: LayerLike, x: Tree, given: Mask) -> None:
    """Raises an error for a mask that does not fit its values, before JAX does."""
    values, masks = split_mask(x)
    if masks is None:
        masks = given
    elif layer.masking != "inside":
        raise TypeError(
            f"{type(layer).__name__}: expected arrays, received Masked values; pass the mask in a "
            "Context: apply(params, state, x.values, Context(mask=x.mask))"
        )
    if not isinstance(masks, tuple):
        values, masks = (values,), (masks,)
    for array, mask in zip(values, masks, strict=False):
        first: Any = next(iter(jax.tree.leaves(array)), None)
        if hasattr(mask, "shape") and hasattr(first, "shape"):
            check_mask(layer, first.shape, mask.shape)


def check_numbers(layer: LayerLike, x: Tree, mask: Mask = None) -> None:
    """Calls the layer's `check_values`, if it has one, with the inputs; masked values are zeros.

    Only for one array whose values are known: not under transformations of JAX, and not for an
    array that lies in part on devices of another process.
    """
    check = getattr(layer, "check_values", None)
    if check is None or not isinstance(x, (np.ndarray, jax.Array)):
        return
    if isinstance(x, jax.core.Tracer) or isinstance(mask, jax.core.Tracer):
        return
    if isinstance(x, jax.Array) and not x.is_fully_addressable:
        return
    values = np.asarray(x)
    if mask is not None:
        valid = leading(np.asarray(mask), values.ndim)
        values = np.where(valid, values, values.dtype.type(0))
    check(values)


def _check_arrays(layer: LayerLike, x: Tree, call: str) -> None:
    leaves = jax.tree.leaves(x)
    if any(getattr(leaf, "is_symbolic", False) for leaf in leaves):
        raise TypeError(
            f"{type(layer).__name__}: expected arrays, received a symbolic node; call the layer "
            "itself on it, layer(x), and put inputs and outputs into a Model"
        )
    if all(hasattr(leaf, "shape") for leaf in leaves):
        return
    array = "jnp.asarray(x)"
    if isinstance(x, (tuple, list)) and all(isinstance(n, int) for n in x):
        array = f"jnp.zeros({tuple(x)})"  # a shape was passed
    raise TypeError(
        f"{type(layer).__name__}: expected arrays (or a tuple of them), received {_shown(x)}; "
        f"use {call.format(array)}"
    )


def _check_fit(layer: LayerLike, params: Tree, x: Tree) -> None:
    """Raises the errors of `init` for inputs like `x`, and ValueError for weights that misfit."""
    leaves = jax.tree.leaves((params, x))
    if not all(hasattr(leaf, "shape") for leaf in leaves) or tree.has_strings(x):
        return
    fresh = _fresh_params(layer, _in_batch(layer, params, x))
    for path, spec in tree.flatten(fresh):
        given = params
        for name in path:
            given = given.get(name, {})
        needed = tuple(spec.shape)
        found = tuple(getattr(given, "shape", needed))
        if found != needed:
            raise ValueError(
                f"{type(layer).__name__}: {_misfit(path, found, needed, x)}"
            )


def _fresh_params(layer: LayerLike, x: Tree) -> SpecTree:
    """Shapes and dtypes of the weights that `init` makes for inputs like `x`."""
    leaves, treedef = jax.tree.flatten(tree.spec(x))
    return _spec_of_params(layer, treedef, tuple(leaves))


@small_cache(4096)
def _spec_of_params(
    layer: LayerLike, treedef: jax.tree_util.PyTreeDef, leaves: tuple[SpecTree, ...]
) -> SpecTree:
    written = []

    def make(x: Tree) -> Tree:
        params = layer.init(jax.random.key(0), x)[0]
        written.append(tree.names(params))  # in the order written: JAX sorts dicts
        return params

    x = treedef.unflatten(leaves)
    fresh = jax.eval_shape(make, x)
    return tree.same_order(fresh, written[-1])


def _in_batch(layer: LayerLike, params: Tree, x: Tree) -> Tree:
    """`x`, or the shapes of a batch of one if it is a single example."""
    if not layer.is_example(params, x):
        return x
    return jax.tree.map(lambda a: tree.array_spec((1, *a.shape), a.dtype), x)


def _misfit(
    path: Path, found: tuple[int, ...], needed: tuple[int, ...], x: Tree
) -> str:
    """The error message for a weight of another shape than these inputs need."""
    shapes = [tuple(a.shape) for a in jax.tree.leaves(x)]
    inputs: object = shapes[0] if len(shapes) == 1 else shapes
    pairs = zip(found, needed, strict=False)
    sizes = [(m, n) for m, n in pairs if m != n]
    if len(found) == len(needed) and len(sizes) == 1:
        features, got = sizes[0]
        if any(got in shape for shape in shapes):
            return (
                f"expected inputs of {features} features, received {got} in shape {inputs}; "
                f"pass {features} features, or {'/'.join(path)} of shape {needed} for {got}"
            )
    return (
        f"expected {'/'.join(path)} of shape {needed} for inputs of shape {inputs}, received "
        f"shape {found}; pass the weights that init makes for such inputs, or other inputs"
    )


@contextlib.contextmanager
def located(name: str | None, layer: object, x: Tree) -> Iterator[None]:
    """Adds one note to any exception: the full path of the layer, the layer, its input shapes."""
    try:
        yield
    except Exception as error:
        path, suffix, index = getattr(error, "_fnn_location", ((), None, -1))
        if suffix is None:
            suffix = f": {layer!r} applied to {tree.describe(x)}"
            error.add_note("")
            index = len(error.__notes__) - 1  # more notes may be added further out
        if name:
            path = (name, *path)
        where = "/".join(path) or type(layer).__name__
        error.__notes__[index] = f"in layer {where}{suffix}"
        error._fnn_location = path, suffix, index  # type: ignore[attr-defined]
        raise


def with_dtype_of_children(layer: L) -> L:
    """`layer` with its dtype given to each layer in its fields that has no dtype of its own.

    The names of children, and so the paths of their weights, stay as they are.

    >>> from fnn.layers import Dense, Sequential
    >>> with_dtype_of_children(Sequential([Dense(2), Dense(3, dtype="float32")], dtype="bfloat16"))
    Sequential(dtype='bfloat16', layers=(Dense(dtype='bfloat16', units=2), \
Dense(dtype='float32', units=3)))
    """
    if layer.dtype is None:
        return layer
    changed = {}
    for name, value in vars(layer).items():
        if name[0] == "_":
            continue
        new = in_dtype(value, layer.dtype)
        if new is not value:
            changed[name] = new
    made: L = _with_attributes(layer, changed)
    return made


def in_dtype(value: Any, dtype: str | None) -> Any:
    """A value with `dtype` given to the layers in it that have none; the same object if none."""
    if isinstance(value, Fields):
        items = in_dtype(value.items, dtype)
        if items is value.items:
            return value
        return Fields(items)
    if type(value) is tuple:
        changed = tuple(in_dtype(item, dtype) for item in value)
        if all(map(operator.is_, changed, value)):
            return value
        return changed
    if getattr(value, "kind", None) != "layer" or isinstance(value, type):
        return value
    if value.dtype is not None:
        return value
    return _with_attributes(value, {"dtype": dtype})


def _with_attributes(layer: Any, attributes: dict[str, object]) -> Any:
    """A copy with some attributes changed; `__init__` is not run, a class may have its own."""
    if not attributes:
        return layer
    changed = shallow(layer)
    vars(changed).update(attributes)
    return changed


def run_init(
    function: Method, layer: LayerLike, *given: object, **named: object
) -> Tree:
    """`init` of a layer with a dtype: float64 children make weights of float64."""
    return function(with_dtype_of_children(layer), *given, **named)


_ARGUMENTS = ("params", "state", "x")


def run_apply(
    function: Method, layer: LayerLike, *given: object, **named: object
) -> Tree:
    """`apply` of a layer with a dtype: inputs and own weights are cast, children inherit it."""
    inner = with_dtype_of_children(layer)
    pairs = zip(_ARGUMENTS, given, strict=False)
    cast = [_cast(inner, name, value) for name, value in pairs]
    others = given[len(_ARGUMENTS) :]
    named = {name: _cast(inner, name, value) for name, value in named.items()}
    return function(inner, *cast, *others, **named)


def _cast(layer: LayerLike, name: str, value: Tree) -> Tree:
    """The argument `name` of `apply` in the dtype of the layer."""
    if name == "params":
        return _cast_own(layer, value)
    if name == "x" and layer.casts_inputs:
        return tree.cast(value, layer.dtype)
    return value


def _cast_own(layer: LayerLike, params: Tree) -> Tree:
    """The layer's own weights in its dtype; children cast theirs.

    A child with a wider dtype would otherwise receive rounded weights.
    """
    names = {name for name, _ in layer.children()}
    if None in names:  # all weights belong to that child
        return params
    if not isinstance(params, dict):
        if names:
            return params
        return tree.cast(params, layer.dtype)
    own = dict(params)
    for name in params.keys() - names:
        own[name] = tree.cast(params[name], layer.dtype)
    return own
