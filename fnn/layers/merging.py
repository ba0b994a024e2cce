"""Merging: one output from several inputs, by sums, products, extremes, concatenation, dots."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, TypeAlias

import jax.numpy as jnp
from jax import Array

from fnn.core import arguments
from fnn.core.arguments import Rule
from fnn.core.context import (
    INFERENCE,
    Context,
    Masked,
    attach_mask,
    combine_masks,
    joined_mask,
    mask_over,
)
from fnn.core.layer import Layer, Params, State
from fnn.core.tree import SpecTree, Tree

Shapes: TypeAlias = list[tuple[int, ...]]
Masks: TypeAlias = Array | tuple[Array | None, ...] | None


def shapes_of(layer: Layer, inputs: SpecTree) -> Shapes:
    """The shapes of the inputs, a tuple of arrays of one batch size."""
    name = type(layer).__name__
    exactly = getattr(layer, "number", None)
    wanted = "arrays"
    if exactly is not None:
        wanted = f"{exactly} arrays"
    if not isinstance(inputs, (tuple, list)) or not inputs:
        raise TypeError(
            f"{name}: expected a tuple of {wanted}, received "
            f"{arguments.kind_of(inputs)}; give all inputs at once, e.g. Add()((a, b))"
        )
    arguments.every_input(layer, inputs)
    shapes = [tuple(x.shape) for x in inputs]
    if exactly not in (None, len(shapes)):
        raise ValueError(
            f"{name}: expected {wanted}, received {len(shapes)} of shapes {shapes}; "
            "merge pairs one after the other"
        )
    # An empty shape has no batch axis.
    if not all(shapes) or len({shape[0] for shape in shapes}) > 1:
        raise ValueError(
            f"{name}: expected inputs of one batch size, received shapes {shapes}; "
            "give every input the same number of examples"
        )
    return shapes


def aligned(shapes: Shapes) -> Shapes:
    """The shapes with equally many axes: new ones of size 1 come after the batch.

    >>> aligned([(8, 5), (8, 7, 5)])
    [(8, 1, 5), (8, 7, 5)]
    """
    most = max(map(len, shapes))
    padded = []
    for batch, *rest in shapes:
        new_axes = (1,) * (most - 1 - len(rest))
        padded.append((batch, *new_axes, *rest))
    return padded


def _broadcast(shapes: Shapes) -> bool:
    by_axis = zip(*aligned(shapes), strict=True)
    return all(len(set(sizes) - {1}) <= 1 for sizes in by_axis)


def broadcast_masks(
    masks: Masks,
    shapes: Shapes,
    inputs: tuple[Array, ...],
    y: Array,
) -> Array | None:
    """The mask of `y`: True where every input is valid. Masks broadcast as the values do.

    `shapes` are the aligned shapes of `inputs`.
    """
    if not isinstance(masks, tuple):
        masks = (masks,) * len(shapes)
    known = []
    for mask, shape, x in zip(masks, shapes, inputs, strict=True):
        if mask is None:
            continue
        # The new axes of the inputs come after the batch, in masks as in values.
        batch, *rest = mask.shape
        new_axes = (1,) * (len(shape) - x.ndim)
        known.append(mask.reshape(batch, *new_axes, *rest))
    return joined_mask(tuple(known), y.shape)


class _Merge(Layer):
    # A step of the output is valid if it is valid in every input.
    masking = "use"
    by_step = True
    number: ClassVar[int | None] = None  # of inputs; None: any
    input_rules = (
        shapes_of,
        Rule(
            "inputs",
            lambda _, x: _broadcast([a.shape for a in x]),
            "of equal shapes (or 1 where they repeat)",
            "bring them to one width first, e.g. by Dense",
        ),
    )

    @staticmethod
    def merge(arrays: list[Array]) -> Array:
        """The output for arrays of equally many axes."""
        raise NotImplementedError

    def apply(
        self,
        params: Params,
        state: State,
        x: Tree,
        ctx: Context = INFERENCE,
    ) -> tuple[Tree, State]:
        shapes = aligned(shapes_of(self, x))
        pairs = zip(x, shapes, strict=True)
        arrays = [a.reshape(shape) for a, shape in pairs]  # each (batch, ..., features)
        y = self.merge(arrays)
        mask = broadcast_masks(ctx.mask, shapes, x, y)
        return attach_mask(y, mask), state


class Add(_Merge):
    """The sum of the inputs.   (a, b, ...) -> same shape

    As in all these layers, axes of size 1 broadcast, and an input of fewer axes gets axes of size 1
    after the batch; masks broadcast in the same way. A step is valid if it is valid in all inputs
    (in Keras: in any).
    Raises TypeError for anything but a tuple, ValueError for shapes that do not fit.

    >>> Add().apply({}, {}, (jnp.ones((1, 2)), jnp.ones((1, 2))))[0].tolist()
    [[2.0, 2.0]]
    """

    @staticmethod
    def merge(arrays: list[Array]) -> Array:
        return functools.reduce(jnp.add, arrays)


class Subtract(_Merge):
    """a - b.   (a, b) -> same shape

    Raises TypeError for anything but a tuple, ValueError unless there are two that fit.

    >>> Subtract().apply({}, {}, (jnp.ones((1, 2)), jnp.ones((1, 2))))[0].tolist()
    [[0.0, 0.0]]
    """

    number = 2

    @staticmethod
    def merge(arrays: list[Array]) -> Array:
        return arrays[0] - arrays[1]


class Multiply(_Merge):
    """The elementwise product of the inputs.   (a, b, ...) -> same shape

    Raises TypeError for anything but a tuple, ValueError for shapes that do not fit.

    >>> Multiply().apply({}, {}, (jnp.full((1, 2), 3.0), jnp.full((1, 2), 2.0)))[0].tolist()
    [[6.0, 6.0]]
    """

    @staticmethod
    def merge(arrays: list[Array]) -> Array:
        return functools.reduce(jnp.multiply, arrays)


class Average(_Merge):
    """The mean of the inputs.   (a, b, ...) -> same shape

    Raises TypeError for anything but a tuple, ValueError for shapes that do not fit.

    >>> Average().apply({}, {}, (jnp.zeros((1, 2)), jnp.ones((1, 2))))[0].tolist()
    [[0.5, 0.5]]
    """

    @staticmethod
    def merge(arrays: list[Array]) -> Array:
        return functools.reduce(jnp.add, arrays) / len(arrays)


class Maximum(_Merge):
    """The elementwise maximum of the inputs.   (a, b, ...) -> same shape

    Raises TypeError for anything but a tuple, ValueError for shapes that do not fit.

    >>> Maximum().apply({}, {}, (jnp.zeros((1, 2)), jnp.ones((1, 2))))[0].tolist()
    [[1.0, 1.0]]
    """

    @staticmethod
    def merge(arrays: list[Array]) -> Array:
        return functools.reduce(jnp.maximum, arrays)


class Minimum(_Merge):
    """The elementwise minimum of the inputs.   (a, b, ...) -> same shape

    Raises TypeError for anything but a tuple, ValueError for shapes that do not fit.

    >>> Minimum().apply({}, {}, (jnp.zeros((1, 2)), jnp.ones((1, 2))))[0].tolist()
    [[0.0, 0.0]]
    """

    @staticmethod
    def merge(arrays: list[Array]) -> Array:
        return functools.reduce(jnp.minimum, arrays)


def _concatenate(shapes: Shapes, axis: int) -> bool:
    ndim = len(shapes[0])
    if any(len(shape) != ndim for shape in shapes):
        return False
    n = axis % ndim
    others = {(*shape[:n], *shape[n + 1 :]) for shape in shapes}
    return n != 0 and -ndim <= axis < ndim and len(others) == 1


class Concatenate(Layer):
    """The inputs one after the other along `axis`.   (a, b, ...) -> one array

    The batch is axis 0. Along time (axis 1), and along any other axis of the masks, masks are
    concatenated too; an input without a mask is valid everywhere. Along other axes a step is valid
    if it is valid in all inputs (in Keras: in any).
    Raises TypeError for anything but a tuple, ValueError for axis 0 and shapes that do not match.

    >>> Concatenate().apply({}, {}, (jnp.ones((1, 2)), jnp.ones((1, 3))))[0].shape
    (1, 5)
    """

    masking = "use"
    with_strings = "move"
    by_step = True  # except along time
    field_rules = (
        Rule("axis", lambda layer: layer.axis != 0, "to be an integer other than 0"),
    )
    input_rules = (
        shapes_of,
        Rule(
            "inputs",
            lambda layer, x: _concatenate([a.shape for a in x], layer.axis),
            "of equal shapes except along axis {self.axis}",
            "reshape or pad them first",
        ),
    )

    axis: int = -1

    def is_example(self, params: Params, x: Tree) -> bool:
        several = isinstance(x, (tuple, list))
        return self.axis == -1 and several and all(map(arguments.is_vector, x))

    def apply(
        self,
        params: Params,
        state: State,
        x: Tree,
        ctx: Context = INFERENCE,
    ) -> tuple[Tree, State]:
        y = jnp.concatenate(x, self.axis)
        masks = ctx.mask
        if masks is None:
            return y, state
        # Masks have the first axes of their values, some inputs more of them than others.
        axis = self.axis % y.ndim
        mask_ndim = max(mask.ndim for mask in masks if mask is not None)
        if axis >= mask_ndim:
            return Masked(y, combine_masks(masks)), state
        pairs = zip(x, masks, strict=True)
        full = [mask_over(mask, a, mask_ndim) for a, mask in pairs]
        return Masked(y, jnp.concatenate(full, axis)), state


def _are_of_one_size(shapes: Shapes, axes: tuple[int, ...]) -> bool:
    pairs = list(zip(shapes, axes, strict=True))
    if not all(-len(shape) < axis < len(shape) for shape, axis in pairs):
        return False
    return len({shape[axis] for shape, axis in pairs}) == 1


class Dot(Layer):
    """The sum of products along one axis of each input.   (a, b) -> (batch, other axes of a, of b)

    `axes` is the axis of a and the axis of b, or one number for both; the batch is axis 0. Two
    vectors give (batch, 1). `normalize` divides both by their length along the axis first, so that
    two vectors give the cosine of the angle between them.
    Raises TypeError for anything but a tuple, ValueError unless there are two that fit.

    >>> Dot(axes=1).apply({}, {}, (jnp.ones((2, 3)), jnp.ones((2, 3))))[0].tolist()
    [[3.0], [3.0]]
    """

    number = 2
    field_rules = (
        Rule(
            "axes",
            lambda layer: len(layer._both()) == 2,
            "to be an integer or two",
            "e.g. Dot(axes=(2, 1))",
        ),
        Rule("axes", lambda layer: 0 not in layer._both(), "to leave out 0, the batch"),
    )
    input_rules = (
        shapes_of,
        Rule(
            "inputs",
            lambda layer, x: _are_of_one_size([a.shape for a in x], layer._both()),
            "of equal size along axes={self.axes}",
            "choose axes of one size, the batch is axis 0",
        ),
    )

    axes: int | tuple[int, ...]
    normalize: bool = False

    def apply(
        self,
        params: Params,
        state: State,
        x: Tree,
        ctx: Context = INFERENCE,
    ) -> tuple[Array, State]:
        a, b = x
        axis_a, axis_b = self._both()
        axis_a %= a.ndim
        if self.normalize:
            a = unit_length(a, axis_a)
            b = unit_length(b, axis_b)
        # Labels of axes: 0, 1, ... in a, 101, 102, ... in b; batch and summed axis share one.
        labels_a = list(range(a.ndim))
        labels_b = [0, *range(101, 100 + b.ndim)]
        labels_b[axis_b] = axis_a
        kept = [n for n in labels_a + labels_b[1:] if n != axis_a]
        y = jnp.einsum(a, labels_a, b, labels_b, kept)  # (batch, other axes of a, of b)
        if y.ndim == 1:
            y = y.reshape(y.shape[0], 1)  # (batch, 1)
        return y, state

    def _both(self) -> tuple[int, ...]:
        """`axes` as one axis for each input."""
        if isinstance(self.axes, tuple):
            return self.axes
        return (self.axes, self.axes)


def unit_length(x: Array, axis: int) -> Array:
    """`x` divided by its length along an axis; zeros stay zeros, with a finite gradient."""
    square = jnp.sum(jnp.square(x), axis, keepdims=True)
    return x / jnp.sqrt(jnp.maximum(square, 1e-12))


def _function(
    layer: type[Layer],
    outputs: str,
    options: str = "",
) -> Callable[..., Tree]:
    """The function of Keras that makes a layer of this class and calls it.

    `outputs` and `options` complete the example in its docstring.
    """

    def merged(inputs: Iterable[Tree], *args: Any, **named: Any) -> Tree:
        return layer(*args, **named)(tuple(inputs))

    name = layer.__name__.lower()
    merged.__name__ = merged.__qualname__ = name
    merged.__doc__ = f"""A graph node: `{layer.__name__}` on symbolic inputs, with its arguments.

    For arrays, call the layer instead. Raises TypeError and ValueError as the layer does.

    >>> a, b = fnn.Input((2,)), fnn.Input((2,))
    >>> model = fnn.Model((a, b), {name}([a, b]{options}))
    >>> model.predict((np.array([[1.0, 2.0]]), np.array([[3.0, 5.0]])), verbose=0).tolist()
    {outputs}
    """
    return merged


add = _function(Add, "[[4.0, 7.0]]")
subtract = _function(Subtract, "[[-2.0, -3.0]]")
multiply = _function(Multiply, "[[3.0, 10.0]]")
average = _function(Average, "[[2.0, 3.5]]")
maximum = _function(Maximum, "[[3.0, 5.0]]")
minimum = _function(Minimum, "[[1.0, 2.0]]")
concatenate = _function(Concatenate, "[[1.0, 2.0, 3.0, 5.0]]")
dot = _function(Dot, "[[13.0]]", ", axes=1")
