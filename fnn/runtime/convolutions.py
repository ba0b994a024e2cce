"""Convolutions: whether a training step on CPU computes them as products of matrices.

XLA runs many convolutions on one core, and all of them many times slower in a loop. So a step
whose every convolution is fast as a product has none at all, and runs in loops (`_suits` in
`fnn/layers/shared/spatial.py` says which are).
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import jax

# What JAX has compiled for a function inside of a step holds for one value alone.
_wanted = jax.make_user_context(False)  # type: ignore[no-untyped-call]


class NoProductError(BaseException):
    """A step that was to have products alone has come to a convolution that none suits.

    No Exception, so that `call` of a user's layer does not take it for an error of its own.
    """


def products(wanted: bool) -> AbstractContextManager[object]:
    """A block in which all convolutions, if `wanted`, are products; NoProductError if none suits.

    Whoever traces a function in it calls that in such a block too.
    """
    block: AbstractContextManager[object] = _wanted(wanted)
    return block


def is_product(suits: bool) -> bool:
    """Whether a convolution is to be a product, if one suits it. Raises as `products` says."""
    if not _wanted.value:
        return False
    if not suits:
        raise NoProductError
    return True
