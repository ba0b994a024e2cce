"""Placement: arrays on a mesh of explicit axes, where their sharding is part of their type.

`jax.make_mesh` makes axes explicit unless told otherwise. JAX then refuses operations whose result
could lie in several ways, so layers say how theirs lies. On other meshes, and on one device, all
functions here leave arrays and operations as they are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

Spec = tuple[
    Any, ...
]  # for each axis of an array the axes of the mesh that it is divided over


def spec_of(x: Any) -> Spec | None:
    """How `x` is divided over a mesh of explicit axes; None if it lies on no such mesh."""
    if _known(x) and not isinstance(getattr(x, "sharding", None), NamedSharding):
        return None  # without asking for its type, which takes longer
    sharding = (
        x.sharding if isinstance(x, jax.ShapeDtypeStruct) else jax.typeof(x).sharding
    )
    if AxisType.Explicit not in sharding.mesh.axis_types:
        return None
    return (*sharding.spec, *(None,) * (len(x.shape) - len(sharding.spec)))


def place(x: Any, spec: Spec) -> Any:
    """`x`, which lies on a mesh of explicit axes, divided as `spec` says; None for what is left."""
    now = spec_of(x)
    wanted = (*spec, *(None,) * (len(x.shape) - len(spec)))
    return x if now in (None, wanted) else jax.sharding.reshard(x, sharding(x, wanted))


def gathered(arrays: Any) -> Any:
    """Arrays whole on every device."""
    return jax.tree.map(lambda a: place(a, ()), arrays)


def place_like(x: Any, like: Any) -> Any:
    """`x` divided as the first axes of an array that it stands beside, if that is divided."""
    spec = (spec_of(like) or ())[: len(x.shape)]
    if not used_by(spec) and not used_by(spec_of(x)):
        return x
    on_mesh = like if spec_of(like) is not None else x
    return x if spec_of(x) == spec else jax.sharding.reshard(x, sharding(on_mesh, spec))


def sharding(like: Any, spec: Spec) -> NamedSharding:
    """The sharding `spec` on the mesh of an array."""
    mesh = like.sharding.mesh if _known(like) else jax.typeof(like).sharding.mesh
    return NamedSharding(mesh, PartitionSpec(*spec))


def without(spec: Spec, used: set[str]) -> Spec:
    """`spec` without the axes of the mesh that are used elsewhere.

    >>> without(("data", ("model", "data"), None), {"data"})
    (None, 'model', None)
    """

    def rest(entry: Any) -> Any:
        kept = tuple(name for name in _names(entry) if name not in used)
        return kept if len(kept) > 1 else kept[0] if kept else None

    return tuple(map(rest, spec))


def used_by(*specs: Spec | None) -> set[str]:
    """The axes of the mesh over which arrays of these specs are divided."""
    return {name for spec in specs for entry in spec or () for name in _names(entry)}


def prepared(layer: Any, params: Any, x: Any, mask: Any) -> tuple[Any, Any, Any]:
    """(params, inputs, mask) as the layer can compute with them.

    Weights that are divided over the axes of the batch are gathered. A layer that does not say that
    it `keeps_sharding` gets its weights whole, and inputs divided over their first axis alone.
    """
    specs = [spec for a in jax.tree.leaves(x) if (spec := spec_of(a)) is not None]
    weights = [
        spec for w in jax.tree.leaves(params) if (spec := spec_of(w)) is not None
    ]
    if not used_by(*specs, *weights):
        return params, x, mask
    if layer.keeps_sharding:
        used = used_by(*(spec[:-1] for spec in specs))
        params = jax.tree.map(
            lambda w: place(w, without(spec_of(w) or (), used)), params
        )
    else:
        params = gathered(params)
        x = jax.tree.map(lambda a: place(a, (spec_of(a) or ())[:1]), x)
    if isinstance(mask, tuple):
        beside = zip(mask, x, strict=False)
        return params, x, tuple(m if m is None else place_like(m, a) for m, a in beside)
    return params, x, mask if mask is None else place_like(mask, x)


def settled(body: Callable[[Any, Any], Any], carry: Any, xs: Any) -> Any:
    """The first carry of a scan over `xs`, divided as `body` returns it: the types must agree."""
    mesh = jax.sharding.get_abstract_mesh()
    if AxisType.Explicit not in mesh.axis_types and not any(
        map(spec_of, jax.tree.leaves(xs))
    ):
        return carry
    wanted: list[Any] = []
    treedef: Any

    def step(carry: Any, xs: Any) -> Any:
        after = body(carry, jax.tree.map(lambda a: a[0], xs))[0]
        wanted[:] = [jax.typeof(a).sharding for a in jax.tree.leaves(after)]
        return after

    leaves, treedef = jax.tree.flatten(carry)
    for _ in range(4):  # what one part of the carry is may follow from another
        jax.eval_shape(step, treedef.unflatten(leaves), xs)
        now = [jax.typeof(a).sharding for a in leaves]
        if now == wanted:
            break
        leaves = [
            a if found == there else jax.sharding.reshard(a, there)
            for a, found, there in zip(leaves, now, wanted, strict=True)
        ]
    return treedef.unflatten(leaves)


def by_batch_and_heads(*arrays: Array) -> tuple[Array, ...]:
    """Arrays (batch, ..., heads, size) divided over batch and heads alone, as the last one is."""
    like = spec_of(arrays[-1])
    if not used_by(*map(spec_of, arrays)) or like is None:
        return arrays
    batch, heads = like[:1], without(like[-2:-1], used_by(like[:1]))
    return tuple(place(a, (*batch, *(None,) * (a.ndim - 3), *heads)) for a in arrays)


def on_each_device(function: Callable[[Array], Array], x: Array) -> Array:
    """`function(x)`, computed whole on every device where `x` lies on a mesh of several axes.

    For a grouped convolution, which XLA gathers anyway: where it does so by itself, the gradient of
    the kernel comes out multiplied by the sizes of the other axes (jax 0.10, automatic axes too).
    """
    if _known(x) and not isinstance(getattr(x, "sharding", None), NamedSharding):
        return function(x)
    mesh = sharding(x, ()).mesh
    if (
        sum(size > 1 for size in mesh.shape.values()) < 2
        or AxisType.Manual in mesh.axis_types
    ):
        return function(x)
    if spec_of(x) is not None:
        return place(function(place(x, ())), (spec_of(x) or ())[:1])
    whole = sharding(x, ())
    constrain = lambda a: lax.with_sharding_constraint(a, whole)
    return constrain(function(constrain(x)))


def whole_copies(params: Any) -> Any:
    """Weights of copies side by side along the first axis, none of them on other devices."""
    return jax.tree.map(
        lambda w: place(w, (None, *(spec_of(w) or (None,))[1:])), params
    )


def beside_copies(params: Any, index: Array, x: Any) -> tuple[Array, Any]:
    """The numbers of copies divided as these are, and inputs not divided over the same axes."""
    for stacked in jax.tree.leaves(params)[:1]:
        used = used_by((spec_of(stacked) or ())[:1])
        rest = functools.partial(without, used=used)
        index = place_like(index, stacked)
        x = jax.tree.map(lambda a, rest=rest: place(a, rest(spec_of(a) or ())), x)
    return index, x


def reshape(x: Array, shape: tuple[int, ...]) -> Array:
    """`x.reshape(shape)` for a shape with the same first axis, over which it stays divided."""
    spec = spec_of(x)
    if not used_by(spec):
        return x.reshape(shape)
    kept = ((spec or ())[0], *(None,) * (len(shape) - 1))
    return lax.reshape(x, shape, out_sharding=sharding(x, kept))


def matmul(x: Array, kernel: Array) -> Array:
    """`jnp.matmul(x, kernel)`, divided as the inputs and the columns of the kernel are."""
    first, second = spec_of(x), spec_of(kernel)
    if not used_by(first, second):
        return jnp.matmul(x, kernel)
    rows = (first or (None,) * x.ndim)[:-1]
    columns = without((second or (None,))[-1:], used_by(rows))
    like = x if first is not None else kernel
    return jnp.matmul(x, kernel, out_sharding=sharding(like, (*rows, *columns)))


def einsum(
    equation: str, x: Array, kernel: Array, letters: tuple[str, str, str]
) -> Array:
    """`jnp.einsum`, divided as the axes of `x` and then of the kernel are.

    `letters` are those of x, the kernel and the result, one for each axis, dots written out.
    """
    first, second = spec_of(x), spec_of(kernel)
    if not used_by(first, second):
        return jnp.einsum(equation, x, kernel)
    found: dict[str, Any] = {}
    for part, spec in (
        (letters[1], second),
        (letters[0], first),
    ):  # x says it, where both do
        found |= dict(zip(part, spec or (), strict=False))
    result: Spec = ()
    for letter in letters[2]:
        result += without((found.get(letter),), used_by(result))
    like = x if first is not None else kernel
    return jnp.einsum(equation, x, kernel, out_sharding=sharding(like, result))


def _known(x: Any) -> bool:
    """Whether `x` says by itself where it lies: what is traced has it in its type."""
    return not isinstance(x, jax.core.Tracer)


def _names(entry: Any) -> tuple[str, ...]:
    return entry if isinstance(entry, tuple) else () if entry is None else (entry,)
