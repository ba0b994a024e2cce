"""Properties of a layer on batches: which example, row or step may change which."""

from __future__ import annotations

import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.core.layer import Params, State
from fnn.core.masking import Masked, is_masked, leading, split_mask
from fnn.core.tree import describe
from fnn.testing.comparing import PromiseError, same
from fnn.testing.promises import promise
from fnn.testing.subject import Subject, is_float, jit, plain, take, where_real


@promise(
    "a mean, a sum or a reshape goes over axis 0, the batch",
)
def an_example_alone_is_as_in_the_batch(subject: Subject) -> None:
    """An example alone gives what it gives in the batch."""
    params, state = subject.weights
    one = lambda x: subject.run(params, state, jax.tree.map(lambda a: a[None], x))[0]
    outputs = jax.tree.map(lambda a: jnp.squeeze(a, 1), jit(jax.vmap(one))(subject.x))
    same(outputs, subject.compiled(*subject.weights, subject.x)[0], "outputs")


@promise(
    "something is added or multiplied by its place in the batch",
)
def batch_order_changes_nothing(subject: Subject) -> None:
    """Examples in another order give the same outputs in that order."""
    order = np.arange(subject.batch)
    order[:2] = (
        1,
        0,
    )  # not reversed or rolled as a whole: a layer that does so would not show
    moved = subject.compiled(
        *subject.weights, jax.tree.map(lambda a: take(a, order), subject.x)
    )
    expected = subject.compiled(*subject.weights, subject.x)[0]
    same(moved[0], jax.tree.map(lambda a: take(a, order), expected), "outputs")


@promise(
    "a statistic over the batch does not leave out the rows where ctx.rows is False",
)
def padded_rows_change_nothing(subject: Subject) -> None:
    """Rows that only fill up the batch change nothing."""

    def padded(a: Any) -> Any:
        junk = np.full((2, *a.shape[1:]), 1e3) if is_float(a) else a[:2]
        return jnp.asarray(np.concatenate([a, junk]), a.dtype)

    count = subject.batch
    rows = jnp.asarray(np.arange(count + 2) < count)
    x = jax.tree.map(padded, subject.x)
    for train in subject.modes:
        outputs, state = subject.compiled(*subject.weights, x, train=train, rows=rows)
        real = jax.tree.map(lambda a: take(a, np.arange(count)), outputs)
        expected = subject.compiled(*subject.weights, subject.x, train=train)
        same((real, state), expected, "(outputs, state)")


@promise(
    'steps are mixed without reading ctx.mask: leave the masked ones out (masking = "use"), or '
    'say masking = "refuse"',
)
def masked_steps_change_nothing(subject: Subject) -> None:
    """What stands in masked steps of the inputs reaches no real step and no gradient of weights."""
    x = subject.masked_x
    if not any(map(is_masked, jax.tree.leaves(x, is_leaf=is_masked))):
        return
    spoiled = jax.tree.map(
        lambda a: Masked(where_real(a, 1e3), a.mask) if is_masked(a) else a,
        x,
        is_leaf=is_masked,
    )
    for train in subject.modes:
        graded = jit(
            jax.grad(functools.partial(_squares, subject, train), has_aux=True)
        )
        try:
            pairs = [graded(*subject.weights, given) for given in (spoiled, x)]
        except ValueError as error:
            if re.search("expected .* without a mask", str(error)):
                return  # what it cannot carry it refuses
            raise
        gradients, found, states = zip(*((g, y, s) for g, (y, s) in pairs), strict=True)
        for y in filter(is_masked, jax.tree.leaves(found, is_leaf=is_masked)):
            _require_steps(y)
        real = lambda y: where_real(y, 0) if is_masked(y) else y
        outputs, expected = (jax.tree.map(real, y, is_leaf=is_masked) for y in found)
        same(outputs, expected, "outputs")
        same(states[0], states[1], "the state")
        same(gradients[0], gradients[1], "gradients by weights")


def _require_steps(y: Masked) -> None:
    if y.mask.shape != y.values.shape[: y.mask.ndim]:
        cause = (
            'the time axis changes: return Masked(y, its mask), or masking = "refuse"'
        )
        received = f"a mask {y.mask.shape} on outputs {y.values.shape}"
        raise PromiseError("a mask of the outputs' steps", received, cause=cause)


def _squares(
    subject: Subject, train: bool, params: Params, state: State, x: Any
) -> tuple[Array, Any]:
    """The sum of the squares of all real outputs, and (the outputs, the new state)."""
    y, after = subject.run(params, state, x, train)
    total = jnp.zeros(())
    for part in jax.tree.leaves(y, is_leaf=is_masked):
        values, mask = split_mask(part)
        if is_float(values):
            squares = jnp.square(values.astype(jnp.float32))
            if mask is not None and mask.shape == values.shape[: mask.ndim]:
                squares = jnp.where(leading(mask, values.ndim), squares, 0)
            total += squares.sum()
    return total, (y, after)


@promise(
    "steps are mixed both ways: pad on the left alone, or mask what comes after a step",
)
def a_later_step_changes_nothing_earlier(subject: Subject) -> None:
    """A later step changes no earlier output."""
    if not subject.causal:
        return
    first = plain(subject.x)[0]
    steps = first.shape[1]
    expected = plain(subject.compiled(*subject.weights, subject.x)[0])[0]
    if expected.shape[1:2] != (steps,):
        raise PromiseError(
            f"outputs of {steps} steps, as the inputs", describe(expected)
        )
    for cut in range(1, steps):

        def changed(a: Any, cut: int = cut) -> Any:
            sequence = a is first or (a.ndim > 2 and a.shape[1] == steps)
            return _other_steps_from(cut, a) if sequence else a

        x = jax.tree.map(changed, subject.x)
        received = plain(subject.compiled(*subject.weights, x)[0])[0]
        early = np.arange(cut)
        same(
            take(received, early, 1),
            take(expected, early, 1),
            f"outputs before step {cut}",
        )


def _other_steps_from(cut: int, a: Any) -> Any:
    """A sequence with the steps of another example from `cut` on."""
    later = (np.arange(a.shape[1]) >= cut).reshape(1, -1, *(1,) * (a.ndim - 2))
    return jnp.asarray(np.where(later, np.roll(a, 1, axis=0), a), a.dtype)
