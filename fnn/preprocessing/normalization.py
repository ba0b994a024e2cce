"""Normalization: inputs shifted and scaled by mean and variance of data, learned before."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.core.arguments import wrong
from fnn.core.context import INFERENCE, Context
from fnn.core.layer import Layer, Params, State
from fnn.core.tree import SpecTree, array_spec
from fnn.preprocessing.adapting import Adapting, Data
from fnn.preprocessing.strings import as_host
from fnn.runtime.settings import settings

Shape: TypeAlias = tuple[int, ...]

# The count before `adapt`. It is not 0, since weights of Keras, which does not count, have that.
NOT_LEARNED = -1


class Moments(NamedTuple):
    """Mean, variance and size of the examples so far, and the shape of a batch."""

    mean: np.ndarray
    variance: np.ndarray
    size: int
    shape: Shape

    def joined(self, other: Moments) -> Moments:
        """Those of both together (Chan et al. 1979)."""
        count = self.size + other.size
        share = other.size / count
        mean = self.mean + share * (other.mean - self.mean)
        variance = (1 - share) * (self.variance + (self.mean - mean) ** 2)
        variance = variance + share * (other.variance + (other.mean - mean) ** 2)
        return Moments(mean, variance, count, other.shape)


class Normalization(Adapting):
    """(x - mean) / sqrt(variance), with one mean and variance for each index along `axis`.

    They are given, or learned by `adapt(data)`. `axis=None` has a single pair for all elements;
    `invert=True` computes x * sqrt(variance) + mean. State, unless they are given: `mean`,
    `variance`, and `count`, the number of values behind each (-1 before any).
    `layer.mean` and `layer.variance` are then arrays that broadcast to the inputs, or None before
    the layer has weights.
    Raises ValueError for NaN in the data, for inputs with other features than the data had, and
    for axes that the inputs do not have; a model raises it if the layer has not learned yet.

    >>> layer = Normalization()
    >>> layer.adapt(np.array([[0.0, 7.0], [2.0, 9.0]]))
    >>> layer(np.array([[0.0, 9.0]])).tolist()
    [[-1.0, 1.0]]
    """

    masking = "pass"
    casts_inputs = False  # it computes in float32 at least

    axis: int | tuple[int, ...] | None = -1
    mean: Any = None
    variance: Any = None
    invert: bool = False

    def validate(self) -> None:
        mean, variance = self._passed
        if (mean is None) != (variance is None):
            raise ValueError(
                "Normalization: expected mean and variance together, received "
                f"mean={mean!r} and variance={variance!r}; pass both, or none"
            )
        shape = np.shape(mean)
        if mean is None:
            return
        if np.shape(variance) != shape:
            raise ValueError(
                "Normalization: expected mean and variance of the same shape, received "
                f"{shape} and {np.shape(variance)}; pass one of each for every index"
            )
        if len(shape) > len(self._axes):
            expected = (
                f"to have at most {len(self._axes)} axes, those of axis={self.axis}"
            )
            raise wrong(self, "mean", expected, mean)

    @property
    def _passed(self) -> tuple[Any, Any]:
        """Mean and variance as passed, not learned."""
        return vars(self)["mean"], vars(self)["variance"]

    @property
    def _is_given(self) -> bool:
        return self._passed[0] is not None

    @property
    def _axes(self) -> Shape:
        if self.axis is None:
            return ()
        if isinstance(self.axis, int):
            return (self.axis,)
        return self.axis

    def _kept(self, shape: Shape) -> Shape:
        """The axes with an index of their own. Raises ValueError if the shape has no such axis."""
        rank = len(shape)
        if any(not -rank <= axis < rank for axis in self._axes):
            raise wrong(self, "axis", f"to be axes of inputs {shape}", self.axis)
        return tuple(sorted({axis % rank for axis in self._axes}))

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        kept = self._kept(x.shape)
        if self._is_given:
            self._given(x.shape)
            return {}, {}
        shape = tuple(x.shape[axis] for axis in kept)
        dtype = self.weight_dtype
        return {}, {
            "mean": jnp.zeros(shape, dtype),
            "variance": jnp.ones(shape, dtype),
            "count": jnp.asarray(NOT_LEARNED, jnp.int32),
        }

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        if not jnp.issubdtype(x.dtype, jnp.floating):
            x = x.astype(self.weight_dtype)
        dtype = self.dtype or x.dtype
        # 1001 - 1000 is 0 in bfloat16.
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        if self._is_given:
            mean, variance = self._given(x.shape)
        else:
            shape = self._broadcast_shape(x.shape)
            self._check_features(state["mean"].shape, x.shape)
            mean = state["mean"].reshape(shape)
            variance = state["variance"].reshape(shape)
        scale = jnp.maximum(jnp.sqrt(variance), settings.epsilon)
        y = x * scale + mean if self.invert else (x - mean) / scale
        return y.astype(dtype), state

    def _broadcast_shape(self, shape: Shape) -> Shape:
        """The shape of learned arrays, with an axis of size 1 for each that is averaged over."""
        kept = self._kept(shape)
        return tuple(n if axis in kept else 1 for axis, n in enumerate(shape))

    def _check_features(self, learned: Shape, shape: Shape) -> None:
        expected = tuple(shape[axis] for axis in self._kept(shape))
        if learned != expected:
            raise ValueError(
                f"Normalization: expected inputs of sizes {learned} along axis={self.axis}, as "
                f"the data of adapt had, received shape {shape}; pass the same features to both"
            )

    def _given(self, shape: Shape) -> tuple[Array, Array]:
        """The given mean and variance, to broadcast to inputs of this shape."""
        passed = self._passed
        given = np.shape(passed[0])
        sizes = [1] * len(shape)
        kept = self._kept(shape)
        for size, axis in zip(given[::-1], kept[::-1], strict=False):
            if size not in (1, shape[axis]):
                expected = f"to broadcast to the axes {self.axis} of inputs {shape}"
                raise wrong(self, "mean", expected, passed[0])
            sizes[axis] = size
        dtype = self.weight_dtype
        parts = (jnp.asarray(part, dtype) for part in passed)
        mean, variance = (part.reshape(sizes) for part in parts)
        return mean, variance

    # -- learning --------------------------------------------------------------------------------

    def update_state(self, data: Data) -> None:
        """Takes one more batch into account. Raises ValueError for NaN."""
        if self._is_given:
            raise ValueError(
                "Normalization: expected a layer without mean and variance to adapt, received "
                "one with both; leave these arguments out, or do not adapt"
            )
        array = as_host(self, data)
        kept = self._kept(array.shape)
        moments = _moments(array, kept)
        before: Moments | None = vars(self).get("_fnn_moments")
        if before is not None:
            if before.mean.shape != moments.mean.shape:
                raise ValueError(
                    f"Normalization: expected batches like {before.shape}, received "
                    f"{array.shape}; give every batch the same features"
                )
            moments = before.joined(moments)
        vars(self)["_fnn_moments"] = moments

    def finalize_state(self) -> None:
        moments: Moments | None = vars(self).pop("_fnn_moments", None)
        if moments is None:
            return
        like = array_spec(moments.shape, self.weight_dtype)
        largest = np.iinfo(np.int32).max
        count = np.asarray(min(moments.size, largest))
        learned = {"mean": moments.mean, "variance": moments.variance, "count": count}
        Adapting.on_weights(self, like, learned)

    def check_learned(self, state: State) -> None:
        if self._is_given or not state:
            return
        if np.any(np.asarray(state["count"]) == NOT_LEARNED):
            shape = np.shape(state["mean"])
            raise ValueError(
                "Normalization: expected a layer with mean and variance, received one that has "
                f"not learned them yet for {shape} features; call layer.adapt(data) before, "
                "with data like the inputs, or pass both"
            )

    def reset_state(self) -> None:
        vars(self).pop("_fnn_moments", None)


class _Learned:
    """`layer.mean`: as passed, else as learned, in Keras's shape, else None."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, layer: Normalization | None, owner: type) -> Any:
        if layer is None:
            return None
        passed = vars(layer)[self.name]
        if passed is not None:
            return passed
        learned = Layer.on_attribute(layer, self.name)
        if learned is NotImplemented:
            return None
        node: Any = Layer.on_attribute(layer, "input")
        array = jnp.asarray(learned)
        return array.reshape(layer._broadcast_shape(node.shape))

    def __set__(self, layer: Normalization, value: object) -> None:
        vars(layer)[self.name] = value


# Only now, since a dataclass reads the default of a field from the class.
Normalization.mean = _Learned("mean")
Normalization.variance = _Learned("variance")


def _moments(array: np.ndarray, kept: Shape) -> Moments:
    """Mean and variance over all axes but those kept. Raises ValueError for NaN, with places."""
    if array.dtype.kind not in "fiub":
        array = _numbers(array)
    reduced = tuple(axis for axis in range(array.ndim) if axis not in kept)
    count = math.prod(array.shape[axis] for axis in reduced)
    if not count:
        raise ValueError(
            "Normalization: expected examples to learn from, received "
            f"shape {array.shape}; check the data"
        )
    mean = np.mean(array, axis=reduced, dtype=np.float64)
    if np.isnan(mean).any():
        raise _nan(array)
    variance = np.var(array, axis=reduced, dtype=np.float64)
    return Moments(np.asarray(mean), np.asarray(variance), count, array.shape)


def _numbers(array: np.ndarray) -> np.ndarray:
    try:
        return array.astype(np.float32)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"Normalization: expected numbers, received {array.dtype}; use StringLookup for "
            "strings, and leave missing values out"
        ) from error


def _nan(array: np.ndarray) -> ValueError:
    places = np.argwhere(np.isnan(array))
    shown = tuple(int(place) for place in places[0])
    return ValueError(
        f"Normalization: expected numbers to learn from, received NaN at {len(places)} places, "
        f"the first at {shown}; fill or drop them"
    )
