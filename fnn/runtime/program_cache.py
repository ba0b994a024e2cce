"""Caches: compiled programs, what is remembered about values, and when it is out of date."""

from __future__ import annotations

import contextlib
import copy
import functools
import math
import weakref
from collections.abc import Callable, Hashable
from typing import Any, ClassVar, Self, TypeVar

import jax

T = TypeVar("T")
# The attribute of a layer from a pickle with the weights that it had.
KEPT = "_fnn_kept"
F = TypeVar("F", bound=Callable[..., Any])

# The default number of programs, some MB each.
PROGRAMS = 24


class _Result:
    """A result, and when it was last used, counted in uses of the cache."""

    def __init__(self, value: Any) -> None:
        self.value = value
        # Not dropped before its first use.
        self.last_use: float = math.inf


class ProgramCache:
    """Results of functions by their arguments, at most `size` of all functions together.

    >>> cache = ProgramCache(size=2)
    >>> upper = cache.cached(lambda text: print("makes", text) or text.upper())
    >>> [upper(text) for text in "abaca"]
    makes a
    makes b
    makes c
    ['A', 'B', 'A', 'C', 'A']
    >>> len(cache)
    2
    """

    def __init__(self, size: int) -> None:
        self.size = size
        # There is no lock: each call of a method of a dict is atomic, and a lock would stay locked
        # after Ctrl-C at the end of its block. (In an OrderedDict Ctrl-C while keys are compared
        # becomes another error.)
        self._results: dict[Hashable, _Result] = {}
        self._uses = 0

    def cached(self, function: F) -> F:
        """`function`, called once for equal (hashable) arguments while its result is kept.

        It is called with copies of the values among its arguments, so that the cache keeps alive
        neither the user's objects nor what belongs to them (the weights of a model).
        """

        @functools.wraps(function)
        def get(*arguments: Any) -> Any:
            # `_twin` of a value is an equal one, made of other objects.
            # Not a comprehension, which is a call of its own: this runs in every step.
            equal = []
            for given in arguments:
                equal.append(getattr(given, "_twin", given))
            twins = tuple(equal)
            # With it, the same arguments have results of other dtypes.
            key = (function, twins, jax.config.jax_enable_x64)  # type: ignore[attr-defined]
            found = self._results.get(key)
            if found is None:
                found = _Result(function(*twins))
                self._results[key] = found
                if len(self._results) > self.size:
                    self.resize(self.size)
            self._uses += 1
            found.last_use = self._uses
            return found.value

        get.cache_clear = self.clear  # type: ignore[attr-defined]  # as of functools.lru_cache
        return get  # type: ignore[return-value]

    def resize(self, size: int) -> None:
        """Keeps at most `size` results from now on."""
        self.size = size
        # Another thread may change the dict meanwhile.
        with contextlib.suppress(KeyError, RuntimeError, ValueError):
            while len(self._results) > size:
                oldest = min(self._results, key=lambda key: self._results[key].last_use)
                del self._results[oldest]

    def clear(self) -> None:
        """Removes all results."""
        self._results.clear()

    def __len__(self) -> int:
        return len(self._results)


_interned: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def interned(value: T, make: Callable[[T], T]) -> T:
    """The same object for all equal values: `make(value)` for the first of them.

    Caches then find it by identity. It is gone when nothing else refers to it.

    >>> class Point(fnn.core.value.Value):
    ...     x: int
    >>> one = interned(Point(1), fnn.core.value.Value.replace)
    >>> interned(Point(1), fnn.core.value.Value.replace) is one
    True
    """
    known = _interned.get(value)
    found: T | None = None if known is None else known()
    if found is None:
        found = make(value)
        _interned[found] = weakref.ref(found)
    return found


programs = ProgramCache(PROGRAMS)
_caches = [programs]


def small_cache(size: int) -> Callable[[F], F]:
    """A decorator: a cache of its own, for a function whose results hold no programs."""
    cache = ProgramCache(size)
    _caches.append(cache)
    return cache.cached


def clear_all() -> None:
    """Removes all programs and all cached results about layers and shapes."""
    for cache in _caches:
        cache.clear()


class Changes:
    """The number of changes so far of layers in place, and the memories of values.

    Most values never change; a layer does by `layer.trainable = ...`, and then every value that
    contains it is another one too. A memory is up to date if its "count" is `now`.
    """

    # The memory of a value about which nothing is remembered yet.
    NO_MEMORY: ClassVar[dict[str, Any]] = {"count": -1}

    def __init__(self) -> None:
        self.now = 0

    def note(self) -> None:
        """Notes a change: nothing that is remembered about any value counts any more."""
        self.now += 1

    def new_memory(self, value: object) -> dict[str, Any]:
        """An empty memory of a value; one under construction does not keep it."""
        memory = {"count": self.now}
        if "_sealed" in value.__dict__:
            object.__setattr__(value, "_fnn_memory", memory)
        return memory


changes = Changes()


def shallow(value: T) -> T:
    """A copy of a value that has the same attributes, without its caches."""
    copied = object.__new__(type(value))
    held = vars(value).items()
    vars(copied).update({name: item for name, item in held if name[:5] != "_fnn_"})
    return copied


class Copied:
    """Copies and pickles of layers and models: those of layers have their weights, too."""

    # Told of (original, copy); asked for what a pickle holds beside the fields, None for nothing.
    # Set by `fnn.models`.
    on_copied: ClassVar[Callable[[Any, Any], None]]
    on_pickled: ClassVar[Callable[[Any], Any]]

    def __copy__(self) -> Self:
        return copy.deepcopy(self)

    def __deepcopy__(self, memo: dict[Any, Any]) -> Self:
        outermost = memo.setdefault("fnn", self) is self
        copied: Any = object.__new__(type(self))
        memo[id(self)] = copied
        state = copy.deepcopy(self.__getstate__(), memo)
        if hasattr(copied, "__setstate__"):
            copied.__setstate__(state)
        else:
            vars(copied).update(state)
        if outermost:
            del memo["fnn"]
            Copied.on_copied(self, copied)
        return copied  # type: ignore[no-any-return]

    def __reduce_ex__(self, protocol: Any) -> Any:
        made: Any = super().__reduce_ex__(protocol)
        make, arguments, state, *others = made
        kept = Copied.on_pickled(self)
        if kept is not None:
            state = {**state, KEPT: kept}
        return make, arguments, state, *others
