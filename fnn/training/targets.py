"""Targets: networks whose first layers change the targets along with the images."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import PyTreeDef

from fnn.core import tree
from fnn.core.calling import call, walk, weight_spec
from fnn.core.checks import with_dtype_of_children
from fnn.core.combining import Flow, Visit, Wrapper
from fnn.core.context import INFERENCE, Context
from fnn.core.layer import Layer, Params, State
from fnn.core.tree import SpecTree, Tree
from fnn.preprocessing.images.base import BaseImagePreprocessingLayer
from fnn.runtime.program_cache import small_cache

# Layers of images that draw move segmentation masks (a target of the height and width of the
# images), and some of them mix labels. A network is a value, so here it becomes another one, with
# the same weights, that takes {"x": inputs, "y": targets} and returns (outputs, new targets).


def call_with_targets(
    layer: Layer,
    params: Params,
    state: State,
    x: Tree,
    y: Tree,
    ctx: Context,
) -> tuple[Tree, State, Tree]:
    """(outputs, state after, targets as the layers of images changed them).

    These layers are found along the chain from the inputs of a `Sequential` or graph, also in
    those inside. Raises ValueError in training for a layer that mixes labels elsewhere.
    """
    targets = jax.tree.leaves(y)
    if not targets or not moves_targets(layer):
        return *call(layer, params, state, x, ctx), y
    if isinstance(layer, Flow) and hasattr(x, "ndim"):
        data = {"x": x, "y": y}
        (outputs, y), state = call(
            with_targets(layer, ctx.train), params, state, data, ctx
        )
        return outputs, state, y
    if ctx.train:
        _refuse_mixing(layer)
    return *call(layer, params, state, x, ctx), y


def target_specs(layer: Layer, x: Tree, y: Tree) -> Tree:
    """The shapes that targets have when the outputs of a network are compared with them."""
    if not moves_targets(layer):
        return tree.spec(y)
    leaves, treedef = jax.tree.flatten(tree.spec((x, y)))
    return _target_specs(layer, treedef, tuple(leaves))


@small_cache(64)
def _target_specs(
    layer: Layer, treedef: PyTreeDef, leaves: tuple[SpecTree, ...]
) -> SpecTree:
    x, y = treedef.unflatten(leaves)

    def run(params: Params, state: State, x: Tree, y: Tree) -> Tree:
        ctx = Context(key=jax.random.key(0))
        return call_with_targets(layer, params, state, x, y, ctx)[2]

    return jax.eval_shape(run, *weight_spec(layer, x), x, y)


@small_cache(256)
def moves_targets(layer: Layer) -> bool:
    """Whether a layer inside may change targets."""
    return any(_moves(inner) for _, inner, _ in walk(layer))


def _moves(layer: Layer) -> bool:
    base = BaseImagePreprocessingLayer
    if not isinstance(layer, base) or not layer.draws:
        return False
    cls = type(layer)
    moves_masks = (
        cls.transform_segmentation_masks is not base.transform_segmentation_masks
    )
    return layer.moves or moves_masks or _mixes(layer)


def _mixes(layer: Layer) -> bool:
    base = BaseImagePreprocessingLayer
    if not isinstance(layer, base):
        return False
    return type(layer).transform_labels is not base.transform_labels


def _refuse_mixing(layer: Layer, name: str = "") -> None:
    """Raises ValueError if a layer inside changes labels."""
    for path, inner, _ in walk(layer):
        if _mixes(inner):
            place = "/".join((name, *path)).strip("/")
            raise ValueError(
                f"expected {type(inner).__name__}, which changes the targets too, on the way that "
                "the whole input of a Sequential or graph takes, one layer after the other, "
                f"received it as {place!r} elsewhere; put it first, or mix the data before fit"
            )


def with_targets(flow: Flow, train: bool) -> WithTargets:
    """The network on inputs and targets, with the weights of `flow` at the same paths."""
    inner = with_dtype_of_children(flow)  # so that targets are not cast
    return WithTargets(inner, train, trainable=flow.trainable)


class WithTargets(Flow, loadable=False):
    """`inner` for {"x": inputs, "y": targets}: (outputs, new targets)."""

    inner: Flow
    train: bool = True

    def __repr__(self) -> str:
        return repr(self.inner)

    def children(self) -> tuple[tuple[str | None, Layer], ...]:
        return tuple(self.inner.children())

    def flow(self, x: Tree, visit: Visit) -> Tree:
        chain = _Chain(visit, x["x"], x["y"], self.train)
        outputs = self.inner.flow(chain.head, chain.visit)
        chain.check()
        return _plain(outputs), chain.targets


class _Images:
    """A value on the chain from the inputs, a leaf for JAX; `mixed` layers have mixed it."""

    def __init__(self, values: Tree, mixed: int = 0) -> None:
        self.values = values
        self.mixed = mixed


def _plain(x: Tree) -> Tree:
    """Nested values without `_Images`."""

    def values(leaf: Tree) -> Tree:
        if isinstance(leaf, _Images):
            return leaf.values
        return leaf

    return jax.tree.map(values, x)


class _Chain:
    """The chain of layers from the inputs on, while a flow runs, and the targets so far."""

    def __init__(
        self,
        visit: Visit,
        x: Tree,
        y: Tree,
        train: bool,
    ) -> None:
        self.run = visit
        self.head = _Images(x)
        self.targets = y
        self.train = train
        # The layers that have mixed the labels, and how often what left the chain was mixed.
        self.mixing: list[tuple[str, Layer]] = []
        self.left: list[int] = []

    def visit(self, name: str, layer: Layer, x: Tree) -> Tree:
        """The outputs of a layer; on the chain, its targets are kept too."""
        if x is not self.head:
            leaves = jax.tree.leaves(x)
            self.left += [leaf.mixed for leaf in leaves if isinstance(leaf, _Images)]
            return self._aside(name, layer, _plain(x))
        data = {"x": x.values, "y": self.targets}
        if isinstance(layer, BaseImagePreprocessingLayer) and _moves(layer):
            values, self.targets = self.run(name, _ImagesAndTargets(layer), data)
        elif isinstance(layer, Flow) and moves_targets(layer):
            inner = with_targets(layer, self.train)
            values, self.targets = self.run(name, inner, data)
        else:
            values = self._aside(name, layer, x.values)
        if any(_mixes(inner) for _, inner, _ in walk(layer)):
            self.mixing.append((name, layer))
        self.head = _Images(values, len(self.mixing))
        return self.head

    def _aside(self, name: str, layer: Layer, x: Tree) -> Tree:
        if self.train:
            _refuse_mixing(layer, name)
        return self.run(name, layer, x)

    def check(self) -> None:
        """Raises ValueError if labels were mixed, and images were used that were not."""
        mixed = len(self.mixing)
        if self.train and min(self.left, default=mixed) < mixed:
            name, layer = self.mixing[-1]
            _refuse_mixing(layer, name)


class _ImagesAndTargets(Wrapper, loadable=False):
    """A layer of images for {"x": images, "y": targets}; both from one draw."""

    inner: BaseImagePreprocessingLayer

    def __repr__(self) -> str:
        return repr(self.inner)

    def apply(
        self, params: Params, state: State, x: Tree, ctx: Context = INFERENCE
    ) -> tuple[Tree, State]:
        images, targets = x["x"], x["y"]
        new_images: list[Array] = []

        def moved(target: Array) -> Array:
            name, axis = _role(self.inner, images, target)
            if axis is not None:
                target = jnp.expand_dims(target, axis)
            # Of equal calls, which draw from the same key, the compiler keeps one.
            pair = {"images": images, name: target}
            new, _ = call(self.inner, {}, {}, pair, ctx)
            new_images.append(new["images"])
            result: Array = new[name]
            if axis is not None:
                result = result.squeeze(axis)
            return result

        new_targets = jax.tree.map(moved, targets)
        return (new_images[0], new_targets), state


def _role(
    layer: BaseImagePreprocessingLayer, images: Array, target: Array
) -> tuple[str, int | None]:
    """(what a target is to a layer of images, the axis of channels that it lacks for that).

    A target of the height and width of the images is a mask, with or without channels.
    """
    size = layer.sizes(images)
    if target.shape == size:
        if layer.data_format == "channels_first":
            return "segmentation_masks", 1
        return "segmentation_masks", -1
    if target.ndim == 4 and layer.sizes(target) == size:
        return "segmentation_masks", None
    return "labels", None
