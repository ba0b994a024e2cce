"""The cache of compiled programs: of limited size, the least recently used are freed."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

# The default number of programs, some MB each.
PROGRAMS = 24


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
        # key -> (key, result); the least recently used comes first. There is no lock: each call
        # of a method of a dict is atomic, and a lock would stay locked after Ctrl-C at the end of
        # its block. (In an OrderedDict Ctrl-C while keys are compared becomes another error.)
        self._results: dict[Hashable, tuple[Any, Any]] = {}

    def cached(self, function: F) -> F:
        """`function`, called once for equal (hashable) arguments while its result is kept.

        It is called with copies of the values among its arguments, so that the cache keeps alive
        neither the user's objects nor what belongs to them (the weights of a model).
        """

        @functools.wraps(function)
        def get(*arguments: Any) -> Any:
            # `_twin` of a value is an equal one, made of other objects.
            twins = tuple([getattr(given, "_twin", given) for given in arguments])
            key = (function, twins)
            found = self._results.get(key)
            if found is None:
                found = key, function(*twins)
            elif len(self._results) <= self.size // 2:  # nothing will be dropped soon
                return found[1]
            # To the end: the most recently used.
            self._results.pop(found[0], None)
            self._results[found[0]] = found
            if len(self._results) > self.size:
                self.resize(self.size)
            return found[1]

        get.cache_clear = self.clear  # type: ignore[attr-defined]  # as of functools.lru_cache
        return get  # type: ignore[return-value]

    def resize(self, size: int) -> None:
        """Keeps at most `size` results from now on."""
        self.size = size
        # Another thread may change the dict meanwhile.
        with contextlib.suppress(StopIteration, RuntimeError):
            while len(self._results) > size:
                self._results.pop(next(iter(self._results)), None)

    def clear(self) -> None:
        """Removes all results."""
        self._results.clear()

    def __len__(self) -> int:
        return len(self._results)


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
