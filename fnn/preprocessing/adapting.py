"""Adapting: the base class of layers that learn from data before training."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, TypeAlias

import jax
import numpy as np

from fnn.core.arguments import wrong
from fnn.core.layer import Layer, State
from fnn.runtime.program_cache import changes

Data: TypeAlias = Any  # an array, a list, a frame, or batches
Learned: TypeAlias = dict[str, np.ndarray]


def _nowhere(layer: Layer, like: Any, learned: Learned) -> None:
    """The default of `Adapting.on_weights`: no model can hold weights."""


class Adapting(Layer, loadable=False):
    """A layer with `adapt(data)`, which learns what the layer needs before training.

    What it learns is state, as other weights are, or a field of the layer, assigned in place:
    every model with the layer has it, those made before too. It is saved with the model.
    A subclass defines `update_state(batch)`, `finalize_state()` and `reset_state()`.
    """

    # Puts arrays into the state of a layer, made for inputs like `like`; set by `fnn.models`.
    on_weights: ClassVar[Callable[[Layer, Any, Learned], None]] = staticmethod(_nowhere)

    def adapt(self, data: Data, steps: int | None = None) -> None:
        """Learns from an array, a list, a frame, or batches of a stream, afresh each time.

        A stream may be a `tf.data.Dataset`, a generator, a loader or any iterable of batches;
        of batches `(x, y)` only `x` counts. `steps` is the number of batches to read of a stream.
        Raises ValueError for data without examples.
        """
        self.reset_state()
        if _is_empty(data):
            raise ValueError(
                f"{type(self).__name__}: expected data to learn from, received an empty "
                f"{type(data).__name__}; check the source"
            )
        count = 0
        for batch in itertools.islice(self.batches(data), steps):
            self.update_state(batch)
            count += 1
        if not count:
            raise ValueError(
                f"{type(self).__name__}: expected data to learn from, received no batch; "
                "check the source"
            )
        self.finalize_state()

    def batches(self, data: Data) -> Iterator[Any]:
        """The batches of the data: an array is one."""
        self._refuse_names(data)
        if is_array(data):
            yield data
            return
        for batch in _items(data):
            if isinstance(batch, (tuple, list)) and len(batch) in (2, 3):
                batch = _inputs_of(batch)
            self._refuse_names(batch)
            yield batch

    def _refuse_names(self, data: Data) -> None:
        if isinstance(data, Mapping):
            raise ValueError(
                f"{type(self).__name__}: expected an array to learn from, received a dict with "
                f"the keys {list(data)[:9]}; pass the one to learn from, e.g. "
                f"data[{next(iter(data), '...')!r}]"
            )

    def update_state(self, data: Data) -> None:
        """Takes one more batch into account."""
        raise NotImplementedError

    def finalize_state(self) -> None:
        """Sets what has been learned from the batches so far."""
        raise NotImplementedError

    def reset_state(self) -> None:
        """Forgets the batches so far; what has been set stays."""
        raise NotImplementedError

    def check_learned(self, state: State) -> None:
        """Raises ValueError for a state from before `adapt`. A model calls it with its state."""

    def _learn(self, **learned: object) -> None:
        """Assigns fields in place; everything that contains the layer changes with it."""
        held = vars(self)
        if "_fnn_is_twin" in held:
            name, value = next(iter(learned.items()))
            raise wrong(self, name, "to stay as it is in a cache", value)
        changed = vars(self.replace(**learned))
        for name in [name for name in held if name[:5] == "_fnn_"]:
            del held[name]
        for name in learned:
            held[name] = changed[name]
        changes.note()
        for name in learned:
            Layer.on_assigned(self, name)


def _is_empty(data: Data) -> bool:
    """Whether this is an array or list of no examples."""
    if isinstance(data, (list, tuple)):
        return not data
    return is_array(data) and 0 in getattr(data, "shape", ())


def is_array(data: Data) -> bool:
    """Whether data is one array, rather than batches: a list of arrays is several batches."""
    if isinstance(data, (str, bytes)):
        return True
    if isinstance(data, (list, tuple)):
        return not any(hasattr(item, "shape") and np.ndim(item) for item in data)
    if hasattr(data, "to_numpy") or isinstance(data, (np.ndarray, jax.Array)):
        return True
    return hasattr(data, "shape") and hasattr(data, "dtype")


def _items(data: Data) -> Iterable[Any]:
    if isinstance(data, Iterable):
        return data
    if callable(data):
        return _items(data())
    if hasattr(data, "__getitem__"):
        count = getattr(data, "num_batches", None) or len(data)
        return (data[i] for i in range(count))
    raise TypeError(
        f"expected data as an array, a list or batches, received {type(data).__name__}; "
        "pass np.asarray(data)"
    )


def _inputs_of(batch: tuple[Any, ...] | list[Any]) -> Any:
    """`x` of a batch (x, y) or (x, y, weight); a batch that is a list of numbers as it is."""
    if isinstance(batch, tuple) or hasattr(batch[0], "shape"):
        return batch[0]
    return batch
