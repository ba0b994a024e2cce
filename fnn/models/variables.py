"""Variables: the weights of a model one by one, as in Keras: read, assigned, with a path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from fnn.core import tree
from fnn.core import weights as core_weights
from fnn.core.calling import walk
from fnn.core.tree import Path
from fnn.models.sharing import Weights
from fnn.runtime.scope import scopes
from fnn.symbolic.graph import Graph
from fnn.variables import ArrayLike, value_of

Key: TypeAlias = tuple[str, Path]  # "params" or "state", and the path there
Read: TypeAlias = Callable[[], jax.Array]
Write: TypeAlias = Callable[[jax.Array], None]

SEED: Key = ("key", ())


class WeightVariable(ArrayLike):
    """An array that something else holds: reads give its current value, `assign` changes it.

    Operators and functions of JAX and NumPy take it as the array; so do attributes and methods
    of arrays (`w.sum()`). Under a transformation of JAX pass `w.value`.

    >>> held = {"kernel": jnp.ones(2)}
    >>> kernel = WeightVariable(
    ...     "dense/kernel", lambda: held["kernel"], lambda new: held.update(kernel=new))
    >>> kernel.assign([1.0, 3.0])
    >>> kernel.name, (kernel * 2).tolist(), held["kernel"].tolist()
    ('kernel', [2.0, 6.0], [1.0, 3.0])
    """

    def __init__(
        self,
        path: str,
        read: Read,
        write: Write,
        learns: Callable[[], bool] = lambda: True,
    ) -> None:
        self.path = path
        self._read = read
        self._write = write
        self._learns = learns

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def value(self) -> jax.Array:
        """The current value, on the device; in a scope that holds it, the value there."""
        for scope in scopes():
            found = scope.read(self)
            if found is not None:
                return found
        return self._read()

    @property
    def trainable(self) -> bool:
        """Whether training changes it by gradients."""
        return self._learns()

    def assign(self, value: Any) -> None:
        """Replaces the value, in its dtype. Raises ValueError for another shape."""
        old = self.value
        new = tree.owned(value_of(value), old.dtype)
        if new.shape != old.shape:
            raise ValueError(
                f"expected an array of shape {old.shape} for {self.path}, received one of shape "
                f"{new.shape}; pass an array of the same shape"
            )
        if not any(scope.write(self, new) for scope in scopes()):
            self._write(new)

    def assign_add(self, value: Any) -> None:
        """Adds to the value."""
        self.assign(self + value)

    def assign_sub(self, value: Any) -> None:
        """Subtracts from the value."""
        self.assign(self - value)

    def __format__(self, spec: str) -> str:
        return format(self.numpy()[()], spec)

    def __repr__(self) -> str:
        return (
            f"<WeightVariable path={self.path}, shape={self.shape}, dtype={self.dtype}, "
            f"value={self.numpy()}>"
        )

    def __reduce__(self) -> Any:
        # A copy is an array: nothing else holds it.
        return jnp.asarray, (self.numpy(),)


# -- of a model ----------------------------------------------------------------------------------


def variables(
    weights: Weights, place: Path = (), learned: bool | None = None
) -> list[WeightVariable]:
    """The weights of the layer at path `place` in Keras's order, the same objects each time.

    `learned`: only those that training changes by gradients (True) or does not (False).
    """
    return [variable(weights, *key) for key in keys_of(weights, place, learned)]


def keys_of(
    weights: Weights, place: Path = (), learned: bool | None = None
) -> list[Key]:
    """The places of the weights at a path, in Keras's order."""
    trained = learning(weights)
    return [
        key
        for key in weights.network.weight_places(place)
        if learned in (None, key in trained)
    ]


def seed_variable(weights: Weights) -> list[WeightVariable]:
    """The state of the random numbers, for a network that draws any in training."""
    if not weights.network.draws_in_training:
        return []
    known = weights.variables.get(SEED)
    if known is None:
        known = weights.variables[SEED] = _seed_variable(weights)
    return [known]


def _seed_variable(weights: Weights) -> WeightVariable:
    def read() -> jax.Array:
        return jax.random.key_data(weights.now.key)

    def write(data: jax.Array) -> None:
        now = weights.now
        impl = jax.random.key_impl(now.key)
        key = jax.random.wrap_key_data(data, impl=impl)
        weights.now = now.replace(key=key)

    return WeightVariable("seed_generator/seed_generator_state", read, write, _never)


def _never() -> bool:
    return False


def variable_at(weights: Weights, path: Path) -> WeightVariable | None:
    """The weight at a path, None if there is none."""
    now = weights.now
    for part in ("params", "state"):
        found = tree.get(getattr(now, part), path)
        if not isinstance(found, dict):
            return variable(weights, part, path)
    return None


def losses(weights: Weights, place: Path = ()) -> list[jax.Array]:
    """What the layer at path `place` adds to the loss: regularizers, and those of the last step."""
    now = weights.now
    found = []
    for path, leaf in tree.flatten(now.state):
        if path[-1:] == ("aux_loss",):
            found.append((path, leaf))
    found += core_weights.penalties(weights.network.layer, now.params)
    return [value for path, value in found if path[: len(place)] == place]


def recurrent_states(weights: Weights, place: Path) -> list[WeightVariable] | None:
    """The states that a recurrent layer carries on, None if it does not."""
    branch = tree.get(weights.now.state, place)
    names = [name for name in branch if name.startswith("rnn_state")]
    found = [variable(weights, "state", (*place, name)) for name in sorted(names)]
    return found or None


def variable(weights: Weights, part: str, path: Path) -> WeightVariable:
    """The weight at a path of "params" or "state"; of a shared layer, that of its owner."""
    for share in weights.shares:
        if path[: len(share.path)] == share.path and share.fits(weights.now):
            rest = path[len(share.path) :]
            return variable(share.owner, part, (*share.place, *rest))
    known = weights.variables.get((part, path))
    if known is None:
        known = _new(weights, part, path)
        weights.variables[part, path] = known
    return known


def _new(weights: Weights, part: str, path: Path) -> WeightVariable:
    def read() -> jax.Array:
        array: jax.Array = tree.get(getattr(weights.now, part), path)
        return array

    def write(array: jax.Array) -> None:
        now = weights.now
        changed = tree.put(getattr(now, part), path, array)
        weights.now = now.replace(**{part: changed})

    def learns() -> bool:
        return (part, path) in learning(weights)

    return WeightVariable(path_in(weights, path), read, write, learns)


def path_in(weights: Weights, path: Path) -> str:
    """The path of a weight or a layer by Keras's names: those of the layers around it."""
    network = weights.network
    around: tuple[str, ...] = ()
    if not isinstance(network.layer, Graph):
        # Keras builds these layers inside the model, or layer.
        around = (network.name,)
    given = {at: layer.own_name for at, layer, _ in walk(network.layer) if at}
    parts = []
    for end, name in enumerate(path, 1):
        parts.append(given.get(path[:end]) or name)
    return "/".join((*around, *parts))


def learning(weights: Weights) -> set[Key]:
    """The weights that training changes by gradients."""
    trained, _ = core_weights.split(weights.network.layer, weights.now.params)
    return {("params", path) for path, _ in tree.flatten(trained)}
