"""Calls: one run of a user's `call` in a frame: its training flag, its masks, its outputs."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp

from fnn.core.context import Masked, is_masked
from fnn.core.tree import Tree
from fnn.subclassing.frame import Frame
from fnn.subclassing.methods import Methods
from fnn.subclassing.signature import Named, Positional, signature_of
from fnn.variables import Variable, value_of

_BRANCHING = (
    "call of {} is traced: its arrays have no values yet, so Python cannot branch on them; use "
    "fnn.ops.where, cond or while_loop"
)

_ASSIGNMENT = re.compile(r"has no attribute '?(assign|assign_add|assign_sub)'?$")
_ASSIGNING = (
    "expected call of {} to assign weights of its own made with trainable=False, received an "
    "assignment to a weight of a layer inside, which is an array there; make the weight by "
    "self.add_weight(..., trainable=False), or assign after the call"
)


def run(
    cls: Any,
    frame: Frame,
    given: Positional,
    named: Named,
) -> Tree:
    """What `call` of a class returns for the host of a frame, with the masks of the outputs."""
    mask = _masks_of(given)
    given, named = frame.without_masks((given, named))
    signature = signature_of(cls.call)
    if not signature.takes("training"):
        named.pop("training", None)
    elif named.get("training") is None:
        named["training"] = frame.ctx.train
    if signature.takes("mask") and "mask" not in named:
        named["mask"] = mask
    for name, array in zip(signature.positional, given, strict=False):
        if signature.takes(f"{name}_mask"):
            named.setdefault(f"{name}_mask", frame.mask_of(array))
    frame.calls = True
    with frame:
        try:
            y = cls.call(frame.host, *given, **named)
        except jax.errors.ConcretizationTypeError as error:
            error.add_note(_BRANCHING.format(cls.__name__))
            raise
        except AttributeError as error:
            if _ASSIGNMENT.search(str(error)):
                raise TypeError(_ASSIGNING.format(cls.__name__)) from error
            raise
        y = jax.tree.map(_as_array, y, is_leaf=_is_variable)
        return _with_masks(cls, frame, given, mask, y)


def _with_masks(
    cls: Any,
    frame: Frame,
    given: Positional,
    mask: Tree,
    y: Tree,
) -> Tree:
    """The outputs with the masks that they have, or that `compute_mask` gives them."""
    leaves = jax.tree.leaves(y)
    own = [frame.mask_of(leaf) for leaf in leaves]
    if all(part is None for part in own):
        first: Tree = given[0] if given else None
        if len(given) > 1:
            first = list(given)
        defines = cls.compute_mask is not Methods.compute_mask
        if defines or jax.tree.leaves(mask):
            computed = cls.compute_mask(frame.host, first, mask)
            own = _for_each(computed, len(leaves))
    masked = [
        leaf if part is None else Masked(leaf, jnp.asarray(part, bool))
        for leaf, part in zip(leaves, own, strict=True)
    ]
    return jax.tree.unflatten(jax.tree.structure(y), masked)


def _masks_of(given: Tree) -> Tree:
    """The masks of the first argument: one, or a list of them."""
    first = given[0] if given else None
    if isinstance(first, Masked):
        return first.mask
    if isinstance(first, (list, tuple)) and any(map(is_masked, first)):
        return [getattr(item, "mask", None) for item in first]
    return None


def _for_each(masks: Tree, outputs: int) -> list[Tree]:
    if isinstance(masks, (list, tuple)):
        return list(masks)
    return [masks] + [None] * (outputs - 1)


def _is_variable(leaf: object) -> bool:
    return isinstance(leaf, Variable)


def _as_array(leaf: Tree) -> Tree:
    if leaf is None:
        return None
    return jnp.asarray(value_of(leaf))
