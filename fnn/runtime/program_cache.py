"""The cache of compiled programs: beyond a size that can be set, those unused longest are freed."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

PROGRAMS = 24  # kept by default, some MB each


class ProgramCache:
    """What functions returned for equal arguments, at most `size` results of all of them together.

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
        # By key (the key again, the result); the one unused longest comes first. There is no lock:
        # each call of a method of a dict is whole by itself, and a lock stays locked where Ctrl-C
        # strikes as its block ends. (In an OrderedDict a Ctrl-C while keys are compared becomes
        # another error.)
        self._results: dict[Any, tuple[Any, Any]] = {}

    def cached(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, called once for equal (hashable) arguments while its result is kept.

        It is called with equal values and not with the objects that were given, so that the cache
        keeps none of these alive, nor what belongs to them (the weights of a model).
        """

        @functools.wraps(function)
        def get(*arguments: Any) -> Any:
            # An equal value of other objects, of what knows how to make it.
            key = (
                function,
                tuple([getattr(given, "_twin", given) for given in arguments]),
            )
            found = self._results.get(key)
            if found is None:
                found = key, function(*key[1])
            elif len(self) <= self.size // 2:  # nothing will be dropped soon
                return found[1]
            self._results.pop(found[0], None)
            self._results[found[0]] = found
            self.resize(self.size)
            return found[1]

        get.cache_clear = self.clear  # type: ignore[attr-defined]  # as of functools.lru_cache
        return get

    def resize(self, size: int) -> None:
        """Keeps at most `size` results, from here on."""
        self.size = size
        with contextlib.suppress(
            StopIteration, RuntimeError
        ):  # another thread has changed it
            while len(self._results) > size:
                self._results.pop(next(iter(self._results)), None)

    def clear(self) -> None:
        """Forgets all results."""
        self._results.clear()

    def __len__(self) -> int:
        return len(self._results)


programs = ProgramCache(PROGRAMS)
_caches = [programs]


def small_cache(size: int) -> Callable[[Callable[..., Any]], Any]:
    """A cache of its own, of that size, for a function whose results hold no programs."""
    cache = ProgramCache(size)
    _caches.append(cache)
    return cache.cached


def clear_all() -> None:
    """Forgets all programs, and what was found out about layers and shapes."""
    for cache in _caches:
        cache.clear()
