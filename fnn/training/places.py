"""Places: positions in a stream of batches, to which a resumed training returns."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from fnn.runtime.warning import warn

Source: TypeAlias = Any

# Pairs of methods by which a loader saves its position and returns to it.
_METHODS = (("get_state", "set_state"), ("state_dict", "load_state_dict"))


@dataclass(frozen=True)
class Place:
    """A position in a stream: that of batch `batch + skip` of pass `number`.

    `state` is what the loader itself has saved before batch `batch`, if it can; `seed` that of
    the order of the batches, if there is one.
    """

    number: int
    batch: int
    state: Any = None
    seed: Any = None
    skip: int = 0


class Places:
    """The places of the chunks of an epoch, noted by the thread that reads them."""

    def __init__(self) -> None:
        self.wanted = False  # by something that saves them
        self._known: deque[tuple[int, Place]] = deque()

    def clear(self) -> None:
        """Forgets those of the epoch before."""
        self._known.clear()

    def note(self, done: int, place: Place) -> None:
        """The place after `done` batches of the epoch."""
        self._known.append((done, place))

    def after(self, done: int) -> Place:
        """The place after `done` batches, which must not be fewer than at the last call."""
        while len(self._known) > 1 and self._known[1][0] <= done:
            self._known.popleft()
        before, place = self._known[0]
        return dataclasses.replace(place, skip=place.skip + done - before)


class Loader:
    """The source of a stream, which may save its own position: itself, or its iterator does.

    Grain's iterators have `get_state` and `set_state`, loaders of PyTorch and datasets of
    Hugging Face `state_dict` and `load_state_dict`.
    """

    def __init__(self, source: Source) -> None:
        self.wanted: Any = None  # the state that the next pass begins with
        self._at_start: Any = None  # of the pass
        self._holder: Any = None  # of the state; known once the source has been opened
        self._names = ("", "")
        self._find(source)
        self._is_source = self.is_saved

    def _find(self, holder: Any) -> None:
        for names in _METHODS:
            if all(callable(getattr(holder, name, None)) for name in names):
                self._holder, self._names = holder, names
                return

    @property
    def is_saved(self) -> bool:
        """Whether the position can be saved."""
        return self._holder is not None

    def state(self, begun: bool) -> Any:
        """The state before the next item; `begun`: the pass has given some already."""
        if self.wanted is not None or not self.is_saved:
            return self.wanted
        if begun:
            return self._now()
        return self._at_start

    def _now(self) -> Any:
        return getattr(self._holder, self._names[0])()

    def _return(self) -> None:
        if self.wanted is not None:
            getattr(self._holder, self._names[1])(self.wanted)
            self.wanted = None

    def items(self, source: Source) -> Iterator[Any]:
        """The items of a pass, from the state that is wanted."""
        if self._is_source:
            self._return()
        items = in_order(source)
        if not self._is_source:
            self._holder = None
            self._find(items)
            if self.is_saved:
                self._return()
        if self.is_saved:
            self._at_start = self._now()
        return items

    def end(self) -> None:
        """Called after a pass."""
        self._at_start = None
        if self._is_source:
            self._at_start = self._now()


class Orders:
    """The order in which a source gives its batches in each pass, as far as it can be chosen.

    Batches by number are read in an order that `seed` and the number of the pass determine. A
    source of `fnn.data` has the number of its next pass, `passes`, and a `seed` of its own.
    """

    def __init__(self, source: Source, seed: list[int] | None) -> None:
        self.source = source
        self.by_number = _is_by_number(source)
        self._own_seed = hasattr(source, "passes")
        self._seed = None
        if hasattr(source, "in_order") or hasattr(source, "in_batches"):
            self._seed = seed

    @property
    def is_known(self) -> bool:
        """Whether a pass can be repeated."""
        changed = getattr(type(self.source), "on_epoch_end", None)
        own = str(getattr(changed, "__module__", "fnn")).startswith("fnn")
        return (self.by_number and own) or self._own_seed

    @property
    def is_common(self) -> bool:
        """Whether several processes read the same batches: those of Grain's are divided by it."""
        module = type(self.source).__module__
        return self.by_number and not module.startswith("grain")

    @property
    def seed(self) -> Any:
        """What the order depends on, beside the number of the pass."""
        if self._own_seed:
            return getattr(self.source, "seed", None)
        return self._seed

    @seed.setter
    def seed(self, seed: Any) -> None:
        if self._own_seed:
            self.source.seed = seed
        else:
            self._seed = seed

    def begin(self, source: Source, number: int) -> None:
        """Tells a source of `fnn.data` which pass comes next."""
        if self._own_seed:
            source.passes = number

    def items(self, number: int, skip: int) -> Iterator[Any]:
        """The items of a pass by their numbers, but for the first `skip`."""
        source = self.source
        order = self._order(number)
        if hasattr(source, "in_batches"):
            return iter(source.in_batches(order, skip))
        if hasattr(source, "in_order"):
            return iter(source.in_order(order[skip:].tolist()))
        return (source[i] for i in order[skip:].tolist())

    def _order(self, number: int) -> np.ndarray:
        if hasattr(self.source, "in_batches"):
            count = len(self.source.dataset)
        elif hasattr(self.source, "in_order"):
            count = self.source.num_batches
        else:
            count = len(self.source)
        if self._seed is None:
            return np.arange(count)
        generator = np.random.default_rng([*self._seed, number])
        order = generator.permutation(count)
        if number == 0 and not hasattr(self.source, "in_batches"):
            # The last batch may be smaller, and the first that comes must be the largest.
            order = np.concatenate([[0], order[order != 0]])
        return order

    def warn_of(self, epoch: int, left_out: int) -> None:
        """Warns that the position in the source is not known to be that of a training."""
        again = "it starts again from its beginning"
        if left_out:
            again = f"its first {left_out} batches are read again and left out"
        warn(
            f"the position in a {type(self.source).__name__} cannot be saved, so in epoch "
            f"{epoch + 1} {again}: the resumed training is exact only if the same batches come "
            "again in the same order; give it methods get_state and set_state, or pass arrays or "
            "an fnn.utils.PyDataset"
        )


def _is_by_number(source: Source) -> bool:
    """Whether items are read by their number, in any order."""
    if hasattr(source, "in_order"):
        return getattr(source, "num_batches", None) is not None
    if hasattr(source, "in_batches"):
        return True
    return is_sequence(source) and not isinstance(source, Iterable)


def is_sequence(source: Source) -> bool:
    """Whether a source has a length and gives its items by their numbers."""
    return hasattr(source, "__getitem__") and hasattr(source, "__len__")


def in_order(source: Source) -> Iterator[Any]:
    """The items of a source, one by one."""
    if is_sequence(source) and not isinstance(source, Iterable):
        return (source[i] for i in range(len(source)))
    return iter(source)


def called(source: Source) -> Source:
    """What a source returns, if it is a function; else the source."""
    is_iterable = isinstance(source, Iterable) or is_sequence(source)
    if callable(source) and not is_iterable:
        return source()
    return source
