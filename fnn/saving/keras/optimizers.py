"""The state of an optimizer as Keras's list of variables, and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core.tree import Path
from fnn.optimizers.optimizer import Optimizer
from fnn.optimizers.several import LossScaleOptimizer

State: TypeAlias = Any
Names: TypeAlias = tuple[str, ...]

# The parts of the states of each optimizer that have an entry for each weight, as Keras orders
# its variables: the parts of a group follow each other weight by weight.
_MOMENTS = (("mu", "nu"),)
_GROUPS: dict[str, tuple[tuple[str, ...], ...]] = {
    "SGD": (("trace",),),
    "RMSprop": (("nu",), ("trace",), ("mu",)),
    "Adam": (*_MOMENTS, ("nu_max",)),
    "AdamW": (*_MOMENTS, ("nu_max",)),
    "Adagrad": (("sum_of_squares",),),
    "Adadelta": (("e_g", "e_x"),),
    "Adamax": _MOMENTS,
    "Nadam": (("m", "v"),),
    "Ftrl": (("sums", "linear"),),
    "Lion": (("mu",),),
    "Lamb": _MOMENTS,
    "Adafactor": (("v_row", "v_col", "v"),),
    "Muon": (("trace", "mu", "nu"),),
    "ScheduleFreeAdamW": (("z", "v"),),
}
# Momentum has the learning rate in it in Keras: with this sign.
_WITH_RATE = {("SGD", "trace"): -1.0, ("RMSprop", "trace"): 1.0}
# The variables of loss scaling come before those of the optimizer inside.
_OF_SCALING = 4
_WAITING = ("accumulated", "count")
_SCALARS = ("step", "learning_rate")
# Counters of the updates in a state.
_COUNTERS = ("count", "step", "updates")


class UnlikeError(ValueError):
    """Keras has the optimizer, with another state."""


class Place(NamedTuple):
    """A variable of Keras's: the names that lead to a leaf, whose value times `factor` it is.

    Without names it is a constant `factor` of a shape, of no use here.
    """

    names: Names
    factor: float = 1.0
    shape: tuple[int, ...] | None = None
    dtype: str = "float32"


class OptimizerState:
    """The state of an optimizer of fnn that Keras has too, for weights at `paths`.

    `paths` are those of the weights that learn, in Keras's order, with their shapes. Raises
    ValueError for an optimizer that Keras does not have.
    """

    def __init__(
        self,
        optimizer: Any,
        state: State,
        shapes: Mapping[Path, tuple[int, ...]],
    ) -> None:
        self.optimizer = optimizer
        self.shapes = shapes
        flat, self.structure = jax.tree_util.tree_flatten_with_path(state)
        self.leaves = {tuple(map(_name, path)): leaf for path, leaf in flat}
        self.places = list(self._places(optimizer, ()))

    # -- the order of the variables --------------------------------------------------------------

    def _places(self, optimizer: Any, within: Names) -> Iterator[Place]:
        if isinstance(optimizer, LossScaleOptimizer):
            yield Place((*within, "step"), dtype="int32")
            yield Place((), 0.0, ())  # a learning rate without use
            yield Place((*within, "good_steps"), dtype="int32")
            yield Place((*within, "loss_scale"))
            yield from self._places(optimizer.inner_optimizer, (*within, "inner"))
            return
        kind = type(optimizer).__name__
        if not isinstance(optimizer, Optimizer) or kind not in _GROUPS:
            raise ValueError(
                f"expected an optimizer that Keras has too, received {optimizer!r}; save the "
                "model as .fnn"
            )
        yield Place((*within, "step"), dtype="int32")
        if not callable(optimizer.learning_rate):
            yield Place((*within, "learning_rate"))
        for part in (("average",), ("accumulated", "sum")):
            for path in self.shapes:
                yield from self._leaf((*within, *part, *path))
        for group in _GROUPS[kind]:
            for path in self.shapes:
                for part_name in group:
                    yield from self._part(kind, within, part_name, path)
        if kind == "Nadam":
            yield Place((*within, "rule", "product"))

    def _part(self, kind: str, within: Names, part: str, path: Path) -> Iterator[Place]:
        if kind == "Adafactor":
            yield self._factored(within, part, path)
            return
        for names in self._of_rule(within, (part, *path)):
            factor = _WITH_RATE.get((kind, part), 0.0) * self._rate(within)
            yield Place(names, factor or 1.0)

    def _factored(self, within: Names, part: str, path: Path) -> Place:
        """A part of Adafactor; Keras's rows are the first of the last two axes."""
        shape = self.shapes[path]
        if len(shape) < 2:
            if part != "v":
                return Place((), 0.0, ())
        elif part == "v":
            return Place((), 0.0, shape)
        elif len(shape) > 2:
            raise UnlikeError(
                "the state of Adafactor is left out, since that for weights of 3 axes and more "
                "differs from Keras's"
            )
        elif shape[0] > shape[1]:  # the longer axis is the one of the columns
            part = {"v_row": "v_col", "v_col": "v_row"}[part]
        return Place(next(self._of_rule(within, (part, *path))))

    def _of_rule(self, within: Names, end: Names) -> Iterator[Names]:
        """The leaves of the state of the rule whose names end so."""
        inside = (*within, "rule")
        for names in self.leaves:
            if names[: len(inside)] == inside and names[-len(end) :] == end:
                yield names

    def _leaf(self, names: Names) -> Iterator[Place]:
        if names in self.leaves:
            yield Place(names)

    def _rate(self, within: Names) -> float:
        return float(self.leaves[*within, "learning_rate"])

    # -- values ----------------------------------------------------------------------------------

    def arrays(self) -> list[np.ndarray]:
        """The values of Keras's variables."""
        return [self._value(place) for place in self.places]

    def _value(self, place: Place) -> np.ndarray:
        if not place.names:
            return np.full(place.shape or (), place.factor, place.dtype)
        value = np.asarray(self.leaves[place.names])
        if place.factor != 1.0:
            value = (value * place.factor).astype(value.dtype)
        if "accumulated" in place.names:
            held = place.names[: place.names.index("accumulated") + 1]
            weight = max(float(self.leaves[*held, "weight"]), 1e-30)
            value = value / weight * np.asarray(self.leaves[*held, "count"])
        if place.dtype == "int32":
            value = value.astype(place.dtype)
        return value

    def shapes_of_variables(self) -> list[tuple[int, ...]]:
        """The shapes of Keras's variables."""
        return list(map(self._shape, self.places))

    def _shape(self, place: Place) -> tuple[int, ...]:
        if not place.names:
            return place.shape or ()
        return np.shape(self.leaves[place.names])

    @property
    def is_within_accumulation(self) -> bool:
        """Whether gradients wait for others, or updates were made of fewer than there should be.

        Keras's variables have the number of steps alone.
        """
        for names, waiting in self.leaves.items():
            if names[-2:] != _WAITING:
                continue
            within = names[:-2]
            if int(waiting) or self._made(within) != self._updates(within):
                return True
        return False

    def _made(self, within: Names) -> int:
        """The number of updates that as many steps make, if each is of equally many gradients."""
        optimizer = self.optimizer
        if within:  # inside a LossScaleOptimizer
            optimizer = optimizer.inner_optimizer
        step = int(self.leaves[*within, "step"])
        return step // (optimizer.gradient_accumulation_steps or 1)

    def _updates(self, within: Names) -> int:
        """The number of updates that the rule has counted."""
        counter = next(self._of_rule(within, ("count",)), None)
        if counter is None:
            return self._made(within)
        return int(self.leaves[counter])

    def groups(self) -> list[tuple[str, list[np.ndarray]]]:
        """(path, values) of the optimizer and of the one inside, as Keras stores both."""
        arrays = self.arrays()
        found = [("", arrays)]
        if isinstance(self.optimizer, LossScaleOptimizer):
            found.append(("inner_optimizer/", arrays[_OF_SCALING:]))
        return found

    def check(self, shapes: Sequence[tuple[int, ...]]) -> None:
        """Raises ValueError for other shapes than those of Keras's variables."""
        wanted = self.shapes_of_variables()
        if list(shapes) != wanted:
            raise ValueError(
                f"expected {len(wanted)} variables of {type(self.optimizer).__name__} for these "
                f"weights, received {len(shapes)} or other shapes"
            )

    def with_arrays(self, arrays: Sequence[np.ndarray]) -> State:
        """The state that has these values of Keras's variables.

        Gradients that wait for others to be added to them are left out. Raises ValueError for
        other numbers or shapes.
        """
        self.check([np.shape(array) for array in arrays])
        variables = [place.names for place in self.places]
        given = dict(zip(variables, arrays, strict=True))
        given.pop((), None)
        scalars = {n: array for n, array in given.items() if n[-1] in _SCALARS}
        self._take(scalars.items())
        # What has the learning rate in it follows from the one in the file.
        self.places = list(self._places(self.optimizer, ()))
        factors = {place.names: place.factor for place in self.places}
        for names, array in given.items():
            if names not in scalars and "accumulated" not in names:
                value = np.asarray(array) / (factors[names] or 1.0)
                self._take([(names, value)])
        self._count(self.optimizer, ())
        return jax.tree.unflatten(self.structure, self.leaves.values())

    def _take(self, arrays: Iterable[tuple[Names, np.ndarray]]) -> None:
        for names, array in arrays:
            dtype = self.leaves[names].dtype
            self.leaves[names] = jnp.array(np.asarray(array), dtype)

    def _count(self, optimizer: Any, within: Names) -> None:
        """Sets all counters, and the rate of a schedule, by the number of steps."""
        if isinstance(optimizer, LossScaleOptimizer):
            self._count(optimizer.inner_optimizer, (*within, "inner"))
            # Keras counts in the inner one alone.
            self.leaves[*within, "step"] = jnp.array(
                self.leaves[*within, "inner", "step"]
            )
            return
        step = int(self.leaves[*within, "step"])
        made = step // (optimizer.gradient_accumulation_steps or 1)
        depth = len(within)
        for names, leaf in self.leaves.items():
            if names[-1] not in _COUNTERS:
                continue
            is_updates = names == (*within, "updates")
            is_inside = names[:depth] == within and len(names) > depth + 1
            if is_updates or (is_inside and "rule" in names):
                self.leaves[names] = jnp.array(made, leaf.dtype)
        if callable(optimizer.learning_rate):
            own = {"learning_rate": self.leaves[*within, "learning_rate"]}
            own["scheduled"] = jnp.ones((), bool)
            rate = optimizer.rate_at(own, step)
            self.leaves[*within, "learning_rate"] = jnp.asarray(rate, jnp.float32)


def _name(key: Any) -> str:
    for attribute in ("key", "name", "idx"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)
