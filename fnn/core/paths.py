"""Patterns over the paths of weights: which of them a rule is for."""

from __future__ import annotations

import difflib
import operator
from collections.abc import Callable
from typing import Any

from fnn.core.arguments import wrong

BIASES_AND_NORMS = "biases_and_norms"
_SCALES = ("gamma", "beta", "scale", "alpha")


def path_name(path: Any) -> str:
    """A path as JAX gives it to `tree_map_with_path`, as `encoder/dense/kernel`."""
    return "/".join(str(getattr(part, "key", getattr(part, "idx", part))) for part in path)


def fits(pattern: str, path: str) -> bool:
    """Whether a path fits: `*` stands for any part of one name, `**` for any number of names.

    "biases_and_norms" fits what is called `...bias`, `gamma`, `beta`, `scale` or, as the slopes of
    PReLU are, `alpha`: what is not multiplied into sums. Embeddings are not among them.

    >>> fits("encoder/**", "encoder/dense/kernel"), fits("*/bias", "encoder/dense/bias")
    (True, False)
    >>> fits("**/bias", "dense/bias"), fits("biases_and_norms", "layer_normalization/gamma")
    (True, True)
    """
    if pattern == BIASES_AND_NORMS:
        name = path.rpartition("/")[2]
        return name.endswith("bias") or name in _SCALES
    same = lambda name, one: _covers(name, one, "*", operator.eq)
    return _covers(pattern.split("/"), path.split("/"), "**", same)


def _covers(pattern: Any, items: Any, star: str, same: Callable[[Any, Any], bool]) -> bool:
    """Whether `pattern` matches all `items`, `star` in it any number of them.

    In at most len(pattern) * len(items) comparisons, which no pattern in a file can make more:
    only the last star is ever tried again, one item longer.
    """
    at, place, last, tried = 0, 0, -1, 0
    while place < len(items):
        if at < len(pattern) and pattern[at] == star:
            at, last, tried = at + 1, at, place
        elif at < len(pattern) and same(pattern[at], items[place]):
            at, place = at + 1, place + 1
        elif last >= 0:
            tried += 1
            at, place = last + 1, tried
        else:
            return False
    return all(part == star for part in pattern[at:])


def fits_any(patterns: tuple[str, ...], path: str) -> bool:
    """Whether a path fits one of the patterns."""
    return any(fits(pattern, path) for pattern in patterns)


def check_patterns(thing: Any, argument: str, patterns: Any) -> None:
    """Raises ValueError for what are no patterns of paths."""
    if not isinstance(patterns, tuple) or not all(isinstance(p, str) and p for p in patterns):
        raise wrong(thing, argument, "to be patterns of paths", patterns, 'do e.g. ("**/bias",)')


def check_fits(thing: Any, argument: str, patterns: tuple[str, ...], paths: list[str]) -> None:
    """Raises ValueError for patterns that fit none of the paths, with those that are near.

    "biases_and_norms" is no slip, where there are none.
    """
    idle = [p for p in patterns if p != BIASES_AND_NORMS and not any(fits(p, x) for x in paths)]
    if idle and paths:
        near = [x for p in idle for x in difflib.get_close_matches(p, paths, 3, 0.5)] or paths
        raise wrong(
            thing, argument, "to be patterns of weights that learn", idle,
            f"which fit none; do name some, e.g. {', '.join(near[:8])} (see model.params)",
        )  # fmt: skip
