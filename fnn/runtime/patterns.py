"""Patterns of paths: which weights, or which layers, a string such as `encoder/**` stands for."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence

BIASES_AND_NORMS = "biases_and_norms"
_SCALES = ("gamma", "beta", "scale", "alpha")


def matches(pattern: str, path: str) -> bool:
    """Whether a path matches: `*` is any part of one name, `**` any number of names.

    A pattern that ends with `/**` matches everything inside, so at least one more name: `blocks/**`
    matches `blocks/dense`, not `blocks`. The same patterns choose weights (`freeze`, `ByPath`,
    `exclude_from_weight_decay`, `LoRA`) and layers (`remat`, `intermediates`).
    "biases_and_norms" matches weights called `...bias`, `gamma`, `beta`, `scale`, or `alpha` as
    the slopes of PReLU: those that do not multiply into sums. Embeddings are not among them.

    >>> matches("encoder/**", "encoder/dense/kernel"), matches("*/bias", "encoder/dense/bias")
    (True, False)
    >>> matches("**/bias", "dense/bias"), matches("biases_and_norms", "layer_normalization/gamma")
    (True, True)
    """
    if pattern == BIASES_AND_NORMS:
        name = path.rpartition("/")[2]
        return name.endswith("bias") or name in _SCALES
    if pattern.endswith("/**"):
        pattern += "/*"
    return _match(pattern.split("/"), path.split("/"), "**", _matches_name)


def _matches_name(pattern: str, name: str) -> bool:
    return pattern == "*" or _match(pattern, name, "*", operator.eq)


def _match(
    pattern: Sequence[str],
    items: Sequence[str],
    star: str,
    same: Callable[[str, str], bool],
) -> bool:
    """Whether `pattern` matches all `items`, where `star` matches any number of them.

    Takes at most len(pattern) * len(items) comparisons, whatever the pattern: only the last star
    is tried again, with one more item.
    """
    at, place = 0, 0  # the next part of the pattern, the next item
    last, tried = -1, 0  # the last star, and the item after those that it matches
    while place < len(items):
        if at < len(pattern) and pattern[at] == star:
            last, tried = at, place
            at += 1
        elif at < len(pattern) and same(pattern[at], items[place]):
            at += 1
            place += 1
        elif last >= 0:
            tried += 1
            at, place = last + 1, tried
        else:
            return False
    return all(part == star for part in pattern[at:])


def matches_any(patterns: tuple[str, ...], path: str) -> bool:
    """Whether a path matches one of the patterns."""
    return any(matches(pattern, path) for pattern in patterns)
