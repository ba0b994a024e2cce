"""InputSpec: the rank, shape and dtype that a layer expects of an input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import jax

from fnn.core.config import Configurable
from fnn.core.tree import Tree, dtype_name

Shape = tuple[int | None, ...]


class InputSpec(Configurable):
    """What a layer with the attribute `input_spec` accepts; checked by `init`, `apply` and calls.

    `shape` includes the batch, None is any size; `axes` are sizes by axis. With
    `allow_last_axis_squeeze` a last axis of size 1 may be missing or too many. A layer of several
    inputs has a list of them, None for an input that may be anything.
    Raises ValueError for an axis beyond the rank, TypeError for axes that are no integers.

    >>> InputSpec(shape=(None, 3)).ndim, InputSpec(min_ndim=2, axes={-1: 4})
    (2, InputSpec(min_ndim=2, axes={-1: 4}))
    """

    # Its config has fewer arguments, as in Keras.
    rebuilds = False

    def __init__(
        self,
        dtype: Any = None,
        shape: Sequence[int | None] | None = None,
        ndim: int | None = None,
        max_ndim: int | None = None,
        min_ndim: int | None = None,
        axes: Mapping[int, int | None] | None = None,
        allow_last_axis_squeeze: bool = False,
        name: str | None = None,
        optional: bool = False,
    ) -> None:
        self.dtype = dtype
        if dtype is not None:
            self.dtype = dtype_name(dtype)
        self.shape: Shape | None = None
        self.ndim = ndim
        if shape is not None:
            self.shape = tuple(shape)
            self.ndim = len(self.shape)
        self.max_ndim = max_ndim
        self.min_ndim = min_ndim
        self.allow_last_axis_squeeze = allow_last_axis_squeeze
        self.name = name
        self.optional = optional
        self.sizes = tuple(_by_axis(axes or {}).items())
        most = self.ndim or self.max_ndim
        if most and max(self.axes, default=-1) >= most:
            raise ValueError(
                f"InputSpec: expected axes below the rank {most}, received {max(self.axes)}; "
                "count axes from 0, the batch included"
            )

    @property
    def axes(self) -> dict[int, int | None]:
        """The sizes by axis."""
        return dict(self.sizes)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal spec."""
        names = ("dtype", "shape", "ndim", "max_ndim", "min_ndim", "axes", "optional")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The spec that `get_config` described."""
        return cls(**config)

    def __repr__(self) -> str:
        names = ("dtype", "shape", "ndim", "max_ndim", "min_ndim", "axes")
        shown = [
            f"{name}={getattr(self, name)}" for name in names if getattr(self, name)
        ]
        return f"InputSpec({', '.join(shown)})"

    @staticmethod
    def check(
        owner: object,
        specs: Tree,
        x: Tree,
    ) -> None:
        """Raises ValueError unless the inputs of a layer are what its specs say."""
        flat = _flat(specs)
        if isinstance(x, dict) and all(spec and spec.name in x for spec in flat):
            x = [x[spec.name] for spec in flat]
        inputs = _flat(x)
        layer = type(owner).__name__
        if len(inputs) != len(flat):
            raise ValueError(
                f"{layer}: expected {len(flat)} inputs, as its input_spec says, received "
                f"{len(inputs)}; pass them as one tuple"
            )
        for place, (spec, part) in enumerate(zip(flat, inputs, strict=True)):
            if spec is None or (part is None and spec.optional):
                continue
            expected = spec._expected(part)
            if expected:
                raise ValueError(
                    f"{layer}: expected {expected} of input {place}, as its input_spec says, "
                    f"received shape {tuple(part.shape)} of {part.dtype}"
                )

    def _expected(self, x: Any) -> str:
        """What `x` does not fulfil, or an empty string."""
        shape = tuple(x.shape)
        ndim = len(shape)
        squeezes = self.allow_last_axis_squeeze
        if self.ndim is not None and not squeezes and ndim != self.ndim:
            return f"{self.ndim} axes"
        if self.max_ndim is not None and ndim > self.max_ndim:
            return f"at most {self.max_ndim} axes"
        if self.min_ndim is not None and ndim < self.min_ndim:
            return f"at least {self.min_ndim} axes"
        if self.dtype is not None and str(x.dtype) != self.dtype:
            return f"the dtype {self.dtype}"
        for axis, size in self.axes.items():
            if size is not None and shape[axis] not in (size, None):
                return f"the size {size} along axis {axis}"
        wanted = self.shape or ()
        if squeezes:
            shape, wanted = _without_last_1(shape), _without_last_1(wanted)
        for size, given in zip(wanted, shape, strict=False):
            if None not in (size, given) and size != given:
                return f"the shape {self.shape}"
        return ""


def _by_axis(axes: Mapping[Any, int | None]) -> dict[int, int | None]:
    try:
        return {int(axis): size for axis, size in axes.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise TypeError(
            f"InputSpec: expected axes to be a dict with integers as keys, received {axes!r}"
        ) from error


def _flat(structure: Tree) -> list[Any]:
    return jax.tree.leaves(structure, is_leaf=lambda item: item is None)


def _without_last_1(shape: Shape) -> Shape:
    if shape[-1:] == (1,):
        return shape[:-1]
    return shape
