"""Placement: arrays on a mesh of explicit axes, where their sharding is part of their type.

`jax.make_mesh` makes axes explicit by default. JAX then refuses operations whose result could have
several shardings, so layers state that of theirs. On other meshes, and on one device, all
functions here leave arrays and operations as they are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

Tree: TypeAlias = Any  # a pytree of arrays
# For each axis of an array: the axis of the mesh, or the tuple of axes, that divides it, or None.
Entry: TypeAlias = str | tuple[str, ...] | None
Spec: TypeAlias = tuple[Any, ...]

# Functions that JAX does not annotate.
partition: Callable[..., PartitionSpec] = PartitionSpec
reshard: Callable[[Array, NamedSharding], Array] = jax.sharding.reshard
constrain: Callable[[Array, NamedSharding | PartitionSpec], Array] = (
    lax.with_sharding_constraint
)
spec_with_sharding: Callable[..., jax.ShapeDtypeStruct] = jax.ShapeDtypeStruct
make_user_context: Callable[[object], Any] = jax.make_user_context


class Outputs(Protocol):
    """A hashable value that lays out the outputs of layers."""

    def lay_out(self, path: str, y: Tree) -> Tree:
        """The output of the layer with this path, divided if there is a layout for it."""


# What lays out the outputs of layers in this thread, None if nothing does. JAX compiles a function
# again for another value.
outputs_of_layers = make_user_context(None)


def spec_of(x: Array | jax.ShapeDtypeStruct) -> Spec | None:
    """How `x` is divided over a mesh of explicit axes; None if it lies on no such mesh."""
    if _is_concrete(x) and not isinstance(getattr(x, "sharding", None), NamedSharding):
        return None  # without asking for its type, which takes longer
    sharding = _sharding_in_type(x)
    if AxisType.Explicit not in sharding.mesh.axis_types:
        return None
    return _padded(sharding.spec, len(x.shape))


def _sharding_in_type(x: Array | jax.ShapeDtypeStruct) -> Any:
    if isinstance(x, jax.ShapeDtypeStruct):
        return x.sharding
    return jax.typeof(x).sharding


def _padded(spec: Spec, axes: int) -> Spec:
    """A spec with None for the axes that are left out."""
    return (*spec, *(None,) * (axes - len(spec)))


def place(x: Array, spec: Spec) -> Array:
    """`x` divided by `spec`, if it lies on a mesh of explicit axes; None for axes left out."""
    wanted = _padded(spec, len(x.shape))
    if spec_of(x) in (None, wanted):
        return x
    return reshard(x, sharding(x, wanted))


def gathered(arrays: Tree) -> Tree:
    """Arrays replicated on every device."""
    return jax.tree.map(lambda a: place(a, ()), arrays)


def place_like(x: Array, like: Array) -> Array:
    """`x` divided like the first axes of another array, if either of them is divided."""
    spec = (spec_of(like) or ())[: len(x.shape)]
    if not used_by(spec) and not used_by(spec_of(x)):
        return x
    if spec_of(x) == spec:
        return x
    on_mesh = like
    if spec_of(like) is None:
        on_mesh = x
    return reshard(x, sharding(on_mesh, spec))


def sharding(like: Array, spec: Spec) -> NamedSharding:
    """The sharding `spec` on the mesh of an array."""
    return NamedSharding(_mesh_of(like), partition(*spec))


def _mesh_of(x: Any) -> Any:
    if _is_concrete(x):
        return x.sharding.mesh
    return jax.typeof(x).sharding.mesh


def without(spec: Spec, used: set[str]) -> Spec:
    """`spec` without the axes of the mesh that are used elsewhere.

    >>> without(("data", ("model", "data"), None), {"data"})
    (None, 'model', None)
    """
    rest: list[Entry] = []
    for entry in spec:
        kept = tuple(name for name in _names(entry) if name not in used)
        if not kept:
            rest.append(None)
        elif len(kept) == 1:
            rest.append(kept[0])
        else:
            rest.append(kept)
    return tuple(rest)


def used_by(*specs: Spec | None) -> set[str]:
    """The axes of the mesh over which arrays of these specs are divided."""
    axes: set[str] = set()
    for spec in specs:
        for entry in spec or ():
            axes.update(_names(entry))
    return axes


class _KeepsSharding(Protocol):
    @property
    def keeps_sharding(self) -> bool: ...


def prepared(
    layer: _KeepsSharding,
    params: Tree,
    x: Tree,
    mask: Tree,
) -> tuple[Tree, Tree, Tree]:
    """(params, inputs, mask) with shardings that the layer can compute with.

    Weights that are divided over the axes of the batch are gathered. Without `keeps_sharding` a
    layer gets replicated weights, and inputs divided over their first axis alone.
    """
    specs = _specs(x)
    if not used_by(*specs, *_specs(params)):
        return params, x, mask
    if layer.keeps_sharding:
        used = used_by(*(spec[:-1] for spec in specs))
        params = _not_divided_over(used, params)
    else:
        params = gathered(params)
        x = jax.tree.map(_divided_by_example, x)
    if isinstance(mask, tuple):
        return params, x, tuple(map(_mask_like, mask, x))
    return params, x, _mask_like(mask, x)


def _not_divided_over(axes: set[str], arrays: Tree) -> Tree:
    """Arrays gathered along these axes of the mesh."""

    def gather(array: Array) -> Array:
        spec = spec_of(array) or ()
        return place(array, without(spec, axes))

    return jax.tree.map(gather, arrays)


def _divided_by_example(array: Array) -> Array:
    spec = spec_of(array) or ()
    return place(array, spec[:1])


def _specs(arrays: Tree) -> list[Spec]:
    """The specs of the arrays that lie on a mesh of explicit axes."""
    specs = map(spec_of, jax.tree.leaves(arrays))
    return [spec for spec in specs if spec is not None]


def _mask_like(mask: Array | None, x: Array) -> Array | None:
    if mask is None:
        return None
    return place_like(mask, x)


def settled(
    body: Callable[[Tree, Tree], tuple[Tree, Tree]],
    carry: Tree,
    xs: Tree,
) -> Tree:
    """The first carry of a scan over `xs`, divided as `body` returns it: their types must agree."""
    mesh = jax.sharding.get_abstract_mesh()
    if AxisType.Explicit not in mesh.axis_types and not any(_specs(xs)):
        return carry
    wanted: list[Any] = []

    def step(carry: Tree, xs: Tree) -> Tree:
        first = jax.tree.map(lambda a: a[0], xs)
        after, _ = body(carry, first)
        leaves = jax.tree.leaves(after)
        wanted[:] = [jax.typeof(a).sharding for a in leaves]
        return after

    leaves, treedef = jax.tree.flatten(carry)
    # The sharding of one part of the carry may follow from another, so a few rounds.
    for _ in range(4):
        jax.eval_shape(step, jax.tree.unflatten(treedef, leaves), xs)
        if [jax.typeof(a).sharding for a in leaves] == wanted:
            break
        leaves = list(map(_resharded, leaves, wanted))
    return jax.tree.unflatten(treedef, leaves)


def _resharded(array: Array, wanted: NamedSharding) -> Array:
    if jax.typeof(array).sharding == wanted:
        return array
    return reshard(array, wanted)


def by_batch_and_heads(*arrays: Array) -> tuple[Array, ...]:
    """Arrays (batch, ..., heads, size) divided over batch and heads alone, like the last one."""
    like = spec_of(arrays[-1])
    if like is None or not used_by(*map(spec_of, arrays)):
        return arrays
    batch = like[:1]
    heads = without(like[-2:-1], used_by(batch))
    placed = []
    for array in arrays:
        spec = (*batch, *(None,) * (array.ndim - 3), *heads)
        placed.append(place(array, spec))
    return tuple(placed)


def on_each_device(function: Callable[[Array], Array], x: Array) -> Array:
    """`function(x)`, computed in full on every device if `x` lies on a mesh of several axes.

    For a grouped convolution, which XLA gathers anyway: if it does so by itself, the gradient of
    the kernel comes out multiplied by the sizes of the other axes (jax 0.10, automatic axes too).
    """
    if _is_concrete(x) and not isinstance(getattr(x, "sharding", None), NamedSharding):
        return function(x)
    whole = sharding(x, ())
    axes = sum(size > 1 for size in whole.mesh.shape.values())
    if axes < 2 or AxisType.Manual in whole.mesh.axis_types:
        return function(x)
    spec = spec_of(x)
    if spec is not None:
        return place(function(place(x, ())), spec[:1])
    y = function(constrain(x, whole))
    return constrain(y, whole)


def on_automatic_axes(
    function: Callable[..., Tree],
    given: tuple[Tree, ...],
    x: Tree,
) -> Tree:
    """`function(*given)` with axes that JAX divides by itself, each result divided like `x`.

    For functions whose operations JAX refuses on explicit axes: gathers, vmap, convolutions.
    Results with another first axis than `x` are replicated.
    """
    first = jax.tree.leaves(x)[0]
    axis = (spec_of(first) or ())[:1]
    if not used_by(axis):
        return function(*given)

    def like_x(result: jax.ShapeDtypeStruct) -> NamedSharding:
        if result.shape[:1] == first.shape[:1]:
            return sharding(first, axis)
        return sharding(first, ())

    automatic = jax.sharding.auto_axes(function)
    whole = functools.partial(automatic, out_sharding=sharding(first, ()))
    places = jax.tree.map(like_x, jax.eval_shape(whole, *given))
    return automatic(*given, out_sharding=places)


def whole_copies(params: Tree) -> Tree:
    """Weights of copies, stacked along the first axis, which is not divided."""

    def undivided(weight: Array) -> Array:
        spec = spec_of(weight) or (None,)
        return place(weight, (None, *spec[1:]))

    return jax.tree.map(undivided, params)


def beside_copies(
    params: Tree,
    index: Array,
    x: Tree,
) -> tuple[Array, Tree]:
    """The indices of copies, divided like the copies, and inputs not divided over those axes."""
    leaves = jax.tree.leaves(params)
    if not leaves:
        return index, x
    used = used_by((spec_of(leaves[0]) or ())[:1])
    index = place_like(index, leaves[0])
    return index, _not_divided_over(used, x)


def reshape(x: Array, shape: tuple[int, ...]) -> Array:
    """`x.reshape(shape)` for a shape with the same first axis, over which it stays divided."""
    spec = spec_of(x)
    if spec is None or not used_by(spec):
        return x.reshape(shape)
    kept = _padded(spec[:1], len(shape))
    return lax.reshape(x, shape, out_sharding=sharding(x, kept))


def matmul(x: Array, kernel: Array) -> Array:
    """`jnp.matmul(x, kernel)`, divided like the inputs and the columns of the kernel."""
    first = spec_of(x)
    second = spec_of(kernel)
    if not used_by(first, second):
        return jnp.matmul(x, kernel)
    rows = _padded(first or (), x.ndim)[:-1]
    last = (second or (None,))[-1:]
    columns = without(last, used_by(rows))
    like = kernel
    if first is not None:
        like = x
    out_sharding = sharding(like, (*rows, *columns))
    return jnp.matmul(x, kernel, out_sharding=out_sharding)


def along(vector: Array, ndim: int, axis: int = -1) -> Array:
    """`vector` reshaped to broadcast along one axis of an array of `ndim` axes."""
    # Strict JAX does not broadcast arrays of different ranks by itself.
    shape = [1] * ndim
    shape[axis] = vector.shape[0]
    return vector.reshape(shape)


def add_bias(y: Array, bias: Array, axis: int = -1) -> Array:
    """`y` plus one number for each channel along `axis`."""
    return y + along(bias, y.ndim, axis)


def einsum(
    equation: str,
    x: Array,
    kernel: Array,
    letters: tuple[str, str, str],
) -> Array:
    """`jnp.einsum`, divided like the axes of `x`, then those of the kernel.

    `letters` are those of x, the kernel and the result, one for each axis, ellipses expanded.
    """
    first = spec_of(x)
    second = spec_of(kernel)
    if not used_by(first, second):
        return jnp.einsum(equation, x, kernel)
    of_x, of_kernel, of_result = letters
    entries: dict[str, Entry] = dict(zip(of_kernel, second or (), strict=False))
    entries.update(zip(of_x, first or (), strict=False))  # x wins
    result: Spec = ()
    for letter in of_result:
        result += without((entries.get(letter),), used_by(result))
    like = kernel
    if first is not None:
        like = x
    out_sharding = sharding(like, result)
    return jnp.einsum(equation, x, kernel, out_sharding=out_sharding)


def _is_concrete(x: object) -> bool:
    """Whether `x` has its sharding as an attribute; a traced array has it in its type."""
    return not isinstance(x, jax.core.Tracer)


def _names(entry: Entry) -> tuple[str, ...]:
    if entry is None:
        return ()
    if isinstance(entry, str):
        return (entry,)
    return entry
