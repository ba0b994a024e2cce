"""Properties of a layer on batches: which example or step may change which output."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.core.context import Masked, is_masked, leading, split_mask
from fnn.core.layer import Params, State
from fnn.core.tree import Tree, describe
from fnn.testing.comparing import PromiseError, same
from fnn.testing.promises import promise
from fnn.testing.subject import (
    Subject,
    is_float,
    jit,
    masked_leaves,
    on_host,
    plain,
    take,
    where_valid,
)

# The value put into padded examples and masked steps: any effect of it shows.
_JUNK = 1e3


@promise(
    "a mean, a sum or a reshape goes over axis 0, the batch",
)
def an_example_alone_is_as_in_the_batch(subject: Subject) -> None:
    """An example alone gives the same outputs as in a batch."""
    params, state = subject.weights

    def alone(x: Tree) -> Tree:
        batch_of_one = jax.tree.map(lambda a: a[None], x)
        y, _ = subject.run(params, state, batch_of_one)
        return y

    each_alone = jit(jax.vmap(alone))
    outputs = on_host(each_alone(subject.x))  # (batch, 1, ...)
    outputs = jax.tree.map(lambda a: a.squeeze(1), outputs)  # (batch, ...)
    expected = subject.outputs(subject.x)
    same(outputs, expected, "outputs")


@promise(
    "something is added or multiplied by its place in the batch",
)
def batch_order_changes_nothing(subject: Subject) -> None:
    """Examples in another order give the same outputs in that order."""
    order = np.arange(subject.batch)
    # Only the first two are swapped: a layer that itself reverses or rolls the batch
    # would agree with a reversed or rolled one.
    order[:2] = (1, 0)
    reordered = _take_examples(subject.x, order)
    outputs = subject.outputs(reordered)
    expected = _take_examples(subject.outputs(subject.x), order)
    same(outputs, expected, "outputs")


def _take_examples(x: Tree, indices: np.ndarray) -> Tree:
    return jax.tree.map(lambda a: take(a, indices), x)


@promise(
    "a statistic over the batch does not leave out the examples where ctx.rows is False",
)
def padded_rows_change_nothing(subject: Subject) -> None:
    """Examples that only pad the batch change nothing."""

    def padded(a: np.ndarray) -> np.ndarray:
        junk = a[:2]
        if is_float(a):
            junk = np.full_like(junk, _JUNK)
        return np.concatenate([a, junk])

    # Two examples of padding at the end, as in the last batch of an epoch.
    count = subject.batch
    rows = jax.device_put(np.arange(count + 2) < count)
    x = jax.tree.map(padded, on_host(subject.x))
    for train in subject.modes:
        run = functools.partial(subject.compiled, *subject.weights, train=train)
        outputs, state = run(x, rows=rows)
        valid = _take_examples(outputs, np.arange(count))
        expected = run(subject.x)
        same((valid, state), expected, "(outputs, state)")


@promise(
    "steps are mixed without reading ctx.mask: leave the masked ones out "
    '(masking = "use"), or set masking = "refuse"',
)
def masked_steps_change_nothing(subject: Subject) -> None:
    """Masked steps of the inputs change no unmasked output, state or gradient by weights."""
    x = subject.masked_x
    if not masked_leaves(x):
        return
    spoiled = _map_masked(_spoiled, x)
    for train in subject.modes:
        run = _graded(subject, train)
        try:
            received = run(spoiled)
            expected = run(x)
        except ValueError as error:
            if re.search("expected .* without a mask", str(error)):
                # The layer rejects masks.
                return
            raise
        for outputs in (received.outputs, expected.outputs):
            _require_fitting_masks(outputs)
        valid_outputs = _map_masked(_valid, received.outputs)
        valid_expected = _map_masked(_valid, expected.outputs)
        same(valid_outputs, valid_expected, "outputs")
        same(received.state, expected.state, "the state")
        same(received.gradients, expected.gradients, "gradients by weights")


def _spoiled(a: Masked) -> Masked:
    return Masked(where_valid(a, _JUNK), a.mask)


def _valid(a: Masked) -> np.ndarray:
    return where_valid(a, 0)


def _map_masked(function: Callable[[Masked], Tree], x: Tree) -> Tree:
    """`x` with `function` applied to its `Masked` values."""

    def mapped(a: Tree) -> Tree:
        if is_masked(a):
            return function(a)
        return a

    return jax.tree.map(mapped, x, is_leaf=is_masked)


def _require_fitting_masks(outputs: Tree) -> None:
    for y in masked_leaves(outputs):
        steps = y.values.shape[: y.mask.ndim]
        if y.mask.shape != steps:
            cause = (
                "the time axis changes: return Masked(y, its mask), or set "
                'masking = "refuse"'
            )
            received = f"a mask {y.mask.shape} on outputs {y.values.shape}"
            raise PromiseError("a mask of the outputs' steps", received, cause=cause)


class _GradedRun(NamedTuple):
    gradients: Params
    outputs: Tree
    state: State


def _graded(subject: Subject, train: bool) -> Callable[[Tree], _GradedRun]:
    """A function that runs the layer on inputs, compiled once."""
    loss = functools.partial(_sum_of_squares, subject, train)
    gradient = jax.grad(loss, has_aux=True)
    graded = jit(gradient)

    def run(x: Tree) -> _GradedRun:
        gradients, results = graded(*subject.weights, x)
        return _GradedRun(gradients, *results)

    return run


def _sum_of_squares(
    subject: Subject,
    train: bool,
    params: Params,
    state: State,
    x: Tree,
) -> tuple[Array, tuple[Tree, State]]:
    """The sum of the squares of all unmasked outputs, and (outputs, new state)."""
    y, new_state = subject.run(params, state, x, train)
    total = jnp.zeros(())
    for part in jax.tree.leaves(y, is_leaf=is_masked):
        values, mask = split_mask(part)
        if not is_float(values):
            continue
        values = values.astype(jnp.float32)
        squares = jnp.square(values)
        if mask is not None and mask.shape == values.shape[: mask.ndim]:
            # Masked steps do not count; a mask that does not fit is reported later.
            counted = leading(mask, values.ndim)
            squares = jnp.where(counted, squares, 0)
        total += squares.sum()
    return total, (y, new_state)


@promise(
    "steps are mixed in both directions: pad on the left alone, or mask the later steps",
)
def a_later_step_changes_nothing_earlier(subject: Subject) -> None:
    """A later step changes no earlier output."""
    if not subject.causal:
        return
    first = plain(subject.x)[0]
    steps = first.shape[1]
    outputs = subject.outputs(subject.x)
    expected = plain(outputs)[0]
    if expected.shape[1:2] != (steps,):
        wanted = f"outputs of {steps} steps, as the inputs"
        raise PromiseError(wanted, describe(expected))
    # From `cut` on, the steps are exchanged; outputs before it must stay the same.
    for cut in range(1, steps):

        def changed(a: Array, cut: int = cut) -> Array | np.ndarray:
            is_sequence = a.ndim > 2 and a.shape[1] == steps
            if a is first or is_sequence:
                return _with_other_steps(a, cut)
            return a

        x = jax.tree.map(changed, subject.x)
        received = plain(subject.outputs(x))[0]
        early = np.arange(cut)
        before = take(received, early, 1)
        expected_before = take(expected, early, 1)
        same(before, expected_before, f"outputs before step {cut}")


def _with_other_steps(a: Array, cut: int) -> np.ndarray:
    """A sequence whose steps from `cut` on are those of another example."""
    trailing = (1,) * (a.ndim - 2)
    later = np.arange(a.shape[1]) >= cut
    later = later.reshape(1, -1, *trailing)  # (1, time, 1, ...)
    of_another = np.roll(a, 1, axis=0)
    return np.where(later, of_another, a)
