"""Patterns over the paths of weights: which of them a rule is for."""

from __future__ import annotations

import difflib
import re
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
    names = []
    for name in pattern.split("/"):
        one = "".join(
            "[^/]*" if part == "*" else re.escape(part) for part in re.split("([*])", name)
        )
        names.append("(?:[^/]+/)*" if name == "**" else f"{one}/")
    return re.fullmatch("".join(names), f"{path}/") is not None


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
