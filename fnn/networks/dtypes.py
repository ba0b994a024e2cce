"""Dtypes: the argument `dtype` of the functions that return networks."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec

from fnn.core.layer import Layer

P = ParamSpec("P")


def takes_dtype(make: Callable[P, Layer]) -> Callable[P, Layer]:
    """`make`, whose argument `dtype` is what the layers inside compute in.

    Without it they follow the policy in force.
    """

    @functools.wraps(make)
    def made(*given: P.args, **named: P.kwargs) -> Layer:
        dtype = named.get("dtype")
        if dtype is None:
            return make(*given, **named)
        with Layer.settings.without_policy():
            network = make(*given, **named)
        return network.replace(dtype=dtype)

    return made
