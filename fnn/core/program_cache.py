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
        # The one unused longest comes first. There is no lock: each call of a method of a dict is
        # whole by itself, and a lock stays locked where Ctrl-C strikes as its block ends. (In an
        # OrderedDict a Ctrl-C while keys are compared becomes another error.)
        self._results: dict[Any, Any] = {}

    def cached(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, called once for equal (hashable) arguments while its result is kept."""

        @functools.wraps(function)
        def get(*arguments: Any) -> Any:
            key = function, arguments
            result = self._results.pop(key, None)
            if result is None:
                result = function(*arguments)
            self._results[key] = result
            self.resize(self.size)
            return result

        get.cache_clear = self.clear  # type: ignore[attr-defined]  # as of functools.lru_cache
        return get

    def resize(self, size: int) -> None:
        """Keeps at most `size` results, from here on."""
        self.size = size
        with contextlib.suppress(StopIteration, RuntimeError):  # another thread has changed it
            while len(self._results) > size:
                self._results.pop(next(iter(self._results)), None)

    def clear(self) -> None:
        """Forgets all results."""
        self._results.clear()

    def __len__(self) -> int:
        return len(self._results)


programs = ProgramCache(PROGRAMS)
_clears: list[Callable[[], None]] = [programs.clear]


def small_cache(size: int) -> Callable[[Callable[..., Any]], Any]:
    """`functools.lru_cache` for what holds no programs; `clear_all` empties it too."""

    def decorate(function: Callable[..., Any]) -> Any:
        cached = functools.lru_cache(maxsize=size)(function)
        _clears.append(cached.cache_clear)
        return cached

    return decorate


def clear_all() -> None:
    """Forgets all programs, and what was found out about layers and shapes."""
    for clear in _clears:
        clear()
