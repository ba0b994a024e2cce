"""Merging: several inputs to one: sums, products, extremes, concatenation, dot products."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array

from fnn.core import arguments
from fnn.core.context import INFERENCE, Context
from fnn.core.layer import Layer, Params, State
from fnn.core.masking import Masked, attach_mask, combine_masks, mask_over

Shapes = list[tuple[int, ...]]


def shapes_of(layer: Any, inputs: Any, exactly: int | None = None) -> Shapes:
    """The shapes of the inputs, which must be a tuple of arrays of one batch."""
    wanted = "arrays" if exactly is None else f"{exactly} arrays"
    if not isinstance(inputs, (tuple, list)) or not inputs:
        raise TypeError(
            f"{type(layer).__name__}: expected a tuple of {wanted}, received "
            f"{arguments.kind_of(inputs)}; give all inputs at once, e.g. Add()((a, b))"
        )
    arguments.every_input(layer, inputs)
    shapes = [tuple(x.shape) for x in inputs]
    if exactly not in (None, len(shapes)):
        raise ValueError(
            f"{type(layer).__name__}: expected {wanted}, received {len(shapes)} of shapes {shapes}"
            f"; merge pairs one after the other"
        )
    if not all(shapes) or len({shape[0] for shape in shapes}) > 1:
        raise ValueError(
            f"{type(layer).__name__}: expected inputs of one batch size, received shapes {shapes}; "
            "give as many examples to each"
        )
    return shapes


def aligned(shapes: Shapes) -> Shapes:
    """The shapes with equally many axes: new ones of size 1 stand after the batch.

    >>> aligned([(8, 5), (8, 7, 5)])
    [(8, 1, 5), (8, 7, 5)]
    """
    most = max(map(len, shapes))
    return [(shape[0], *(1,) * (most - len(shape)), *shape[1:]) for shape in shapes]


def spread_masks(masks: Any, shapes: Shapes, inputs: Any, y: Array) -> Array | None:
    """Which steps of `y` are real in every input: the masks spread as the values do."""
    masks = masks if isinstance(masks, tuple) else (masks,) * len(shapes)
    known = [
        mask.reshape(mask.shape[0], *(1,) * (len(shape) - x.ndim), *mask.shape[1:])
        for mask, shape, x in zip(masks, shapes, inputs, strict=True)
        if mask is not None
    ]
    most = max((mask.ndim for mask in known), default=0)
    full = [mask.reshape(mask.shape + (1,) * (most - mask.ndim)) for mask in known]
    return combine_masks([jnp.broadcast_to(mask, y.shape[:most]) for mask in full])


class _Merge(Layer):
    masking = "use"  # a step is real where it is real in every input
    by_step = True
    number: ClassVar[int | None] = None
    merge: ClassVar[Callable[..., Array]]

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        shapes = shapes_of(self, x, self.number)
        if any(
            len(set(sizes) - {1}) > 1 for sizes in zip(*aligned(shapes), strict=True)
        ):
            raise ValueError(
                f"{type(self).__name__}: expected inputs of equal shapes (or 1 where they repeat), "
                f"received shapes {shapes}; bring them to one width first, e.g. by Dense"
            )
        return {}, {}

    def apply(
        self, params: Params, state: State, x: Any, ctx: Context = INFERENCE
    ) -> tuple[Any, State]:
        shapes = aligned(shapes_of(self, x, self.number))
        y = type(self).merge([a.reshape(s) for a, s in zip(x, shapes, strict=True)])
        return attach_mask(y, spread_masks(ctx.mask, shapes, x, y)), state


class Add(_Merge):
    """The sum of the inputs.   (a, b, ...) -> same shape

    As in all these layers, axes of size 1 repeat, and an input of fewer axes gets axes of size 1
    after the batch; masks repeat with them. A step is real where it is real in all inputs (Keras:
    in any).
    Raises TypeError for anything but a tuple, ValueError for shapes that do not fit.

    >>> Add().apply({}, {}, (jnp.ones((1, 2)), jnp.ones((1, 2))))[0].tolist()
    [[2.0, 2.0]]
    """

    merge = staticmethod(lambda xs: functools.reduce(jnp.add, xs))


class Subtract(_Merge):
    """a - b.   (a, b) -> same shape

    Raises TypeError for anything but a tuple, ValueError unless there are two that fit.

    >>> Subtract().apply({}, {}, (jnp.ones((1, 2)), jnp.ones((1, 2))))[0].tolist()
    [[0.0, 0.0]]
    """

    number = 2
    merge = staticmethod(lambda xs: xs[0] - xs[1])


class Multiply(_Merge):
    """The product of the inputs, number by number.   (a, b, ...) -> same shape

    Raises TypeError for anything but a tuple, ValueError for shapes that do not fit.

    >>> Multiply().apply({}, {}, (jnp.full((1, 2), 3.0), jnp.full((1, 2), 2.0)))[0].tolist()
    [[6.0, 6.0]]
    """

    merge = staticmethod(lambda xs: functools.reduce(jnp.multiply, xs))


class Average(_Merge):
    """The mean of the inputs.   (a, b, ...) -> same shape

    Raises TypeError for anything but a tuple, ValueError for shapes that do not fit.

    >>> Average().apply({}, {}, (jnp.zeros((1, 2)), jnp.ones((1, 2))))[0].tolist()
    [[0.5, 0.5]]
    """

    merge = staticmethod(lambda xs: functools.reduce(jnp.add, xs) / len(xs))


class Maximum(_Merge):
    """The largest of the inputs, number by number.   (a, b, ...) -> same shape

    Raises TypeError for anything but a tuple, ValueError for shapes that do not fit.

    >>> Maximum().apply({}, {}, (jnp.zeros((1, 2)), jnp.ones((1, 2))))[0].tolist()
    [[1.0, 1.0]]
    """

    merge = staticmethod(lambda xs: functools.reduce(jnp.maximum, xs))


class Minimum(_Merge):
    """The smallest of the inputs, number by number.   (a, b, ...) -> same shape

    Raises TypeError for anything but a tuple, ValueError for shapes that do not fit.

    >>> Minimum().apply({}, {}, (jnp.zeros((1, 2)), jnp.ones((1, 2))))[0].tolist()
    [[0.0, 0.0]]
    """

    merge = staticmethod(lambda xs: functools.reduce(jnp.minimum, xs))


class Concatenate(Layer):
    """The inputs one after the other along `axis`.   (a, b, ...) -> one array

    `axis` counts the batch as 0. Along time (axis 1), and any other axis that a mask has, masks are
    concatenated too, all steps of an input without a mask being valid; along other axes a step is
    valid where it is valid in all inputs (Keras: in any).
    Raises TypeError for anything but a tuple, ValueError for shapes that differ elsewhere, and for
    the axis of the batch.

    >>> Concatenate().apply({}, {}, (jnp.ones((1, 2)), jnp.ones((1, 3))))[0].shape
    (1, 5)
    """

    masking = "use"
    by_step = True  # but along time

    axis: int = -1

    def validate(self) -> None:
        if (
            isinstance(self.axis, bool)
            or not isinstance(self.axis, int)
            or self.axis == 0
        ):
            raise arguments.wrong(
                self, "axis", "to be an integer other than 0", self.axis
            )

    def is_example(self, params: Params, x: Any) -> bool:
        several = isinstance(x, (tuple, list))
        return self.axis == -1 and several and all(map(arguments.is_vector, x))

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        shapes = shapes_of(self, x)
        axes = len(shapes[0])
        fits = self.axis % axes > 0 and -axes < self.axis < axes
        rest = {(*s[: self.axis % axes], *s[self.axis % axes + 1 :]) for s in shapes}
        if not fits or len(rest) > 1 or any(len(shape) != axes for shape in shapes):
            raise ValueError(
                f"Concatenate: expected inputs of equal shapes but for axis {self.axis}, "
                f"received shapes {shapes}; reshape or pad them first"
            )
        return {}, {}

    def apply(
        self, params: Params, state: State, x: Any, ctx: Context = INFERENCE
    ) -> tuple[Any, State]:
        y = jnp.concatenate(x, self.axis)
        masks = ctx.mask
        if masks is None:
            return y, state
        axes = max(mask.ndim for mask in masks if mask is not None)
        if self.axis % y.ndim < axes:
            steps = [mask_over(mask, a, axes) for a, mask in zip(x, masks, strict=True)]
            return Masked(y, jnp.concatenate(steps, self.axis % y.ndim)), state
        return Masked(y, combine_masks(masks)), state


class Dot(Layer):
    """The sum of products along one axis of each input.   (a, b) -> the axes that remain

    `axes` is that axis of a and of b (one number for both), the batch being 0. The result has the
    batch, then what remains of a, then of b: (batch, 1) for two vectors. `normalize` divides by
    the length along the axis first, so that two vectors give the cosine between them.
    Raises TypeError for anything but a tuple, ValueError unless there are two that fit.

    >>> Dot(axes=1).apply({}, {}, (jnp.ones((2, 3)), jnp.ones((2, 3))))[0].tolist()
    [[3.0], [3.0]]
    """

    axes: int | tuple[int, ...]
    normalize: bool = False

    def validate(self) -> None:
        both = self.axes if isinstance(self.axes, tuple) else (self.axes, self.axes)
        if len(both) != 2 or any(
            isinstance(n, bool) or not isinstance(n, int) for n in both
        ):
            raise arguments.wrong(
                self,
                "axes",
                "to be an integer or two",
                self.axes,
                "e.g. Dot(axes=(2, 1))",
            )
        if 0 in both:
            raise arguments.wrong(self, "axes", "to leave out 0, the batch", self.axes)

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        self._axes(x)
        return {}, {}

    def _axes(self, x: Any) -> tuple[int, int]:
        shapes = shapes_of(self, x, 2)
        given = self.axes if isinstance(self.axes, tuple) else (self.axes, self.axes)
        inside = all(-len(s) < n < len(s) for n, s in zip(given, shapes, strict=True))
        sizes = {s[n] for n, s in zip(given, shapes, strict=True)} if inside else set()
        if len(sizes) != 1:
            raise ValueError(
                f"Dot: expected two inputs of equal size along axes={self.axes}, received shapes "
                f"{shapes}; choose axes of one size, the batch being 0"
            )
        first, second = (n % len(s) for n, s in zip(given, shapes, strict=True))
        return first, second

    def apply(
        self, params: Params, state: State, x: Any, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        axes = self._axes(x)
        if self.normalize:
            x = tuple(unit_length(a, axis) for a, axis in zip(x, axes, strict=True))
        # axes of a are counted 0, 1, ..., those of b from 100; the batch and the sum are shared
        names = [list(range(x[0].ndim)), [0, *range(101, 100 + x[1].ndim)]]
        names[1][axes[1]] = names[0][axes[0]]
        kept = [n for n in [*names[0], *names[1][1:]] if n != names[0][axes[0]]]
        y = jnp.einsum(x[0], names[0], x[1], names[1], kept)
        return y.reshape(y.shape[0], 1) if y.ndim == 1 else y, state


def unit_length(x: Array, axis: int) -> Array:
    """`x` divided by its length along an axis; zeros stay zeros, with a finite gradient."""
    square = jnp.sum(jnp.square(x), axis, keepdims=True)
    return x / jnp.sqrt(jnp.maximum(square, 1e-12))


def _function(layer: type[Layer], shown: str, more: str = "") -> Callable[..., Any]:
    def merged(inputs: Any, *args: Any, **named: Any) -> Any:
        return layer(*args, **named)(tuple(inputs))

    merged.__name__ = merged.__qualname__ = layer.__name__.lower()
    merged.__doc__ = f"""The node of `{layer.__name__}`, with its arguments, on symbolic inputs.

    On arrays it is the layer that is called. Raises TypeError and ValueError as the layer does.

    >>> a, b = fnn.Input((2,)), fnn.Input((2,))
    >>> model = fnn.Model((a, b), {merged.__name__}([a, b]{more}))
    >>> model.predict((np.array([[1.0, 2.0]]), np.array([[3.0, 5.0]])), verbose=0).tolist()
    {shown}
    """
    return merged


add, subtract = _function(Add, "[[4.0, 7.0]]"), _function(Subtract, "[[-2.0, -3.0]]")
multiply, average = (
    _function(Multiply, "[[3.0, 10.0]]"),
    _function(Average, "[[2.0, 3.5]]"),
)
maximum, minimum = (
    _function(Maximum, "[[3.0, 5.0]]"),
    _function(Minimum, "[[1.0, 2.0]]"),
)
concatenate = _function(Concatenate, "[[1.0, 2.0, 3.0, 5.0]]")
dot = _function(Dot, "[[13.0]]", ", axes=1")
