"""Every property that a layer promises, over every row of the catalogue."""

import copy
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn.layers
from fnn.core.calling import cast, initialize, output_spec
from fnn.core.config import from_config, to_config
from tests import catalogue
from tests.catalogue import CATALOGUE, jit, rows

both_modes = pytest.mark.parametrize("train", [False, True], ids=["inference", "training"])


def assert_close(received, expected, tolerance=1e-5):
    """The same structure, dtypes, shapes and numbers."""
    assert jax.tree.structure(received) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(received), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def specs(tree):
    return jax.tree.map(lambda a: (a.shape, a.dtype), tree)


def is_float(a):
    return jnp.issubdtype(a.dtype, jnp.floating)


def test_ids_are_unique():
    assert len({case.id for case in CATALOGUE}) == len(CATALOGUE)


@rows("jit_equals_eager")
@both_modes
def test_jit_equals_eager(case, train):
    """And calling changes nothing that it was given (NumPy arrays could be written to)."""
    if train and not case.trains:
        return
    given = jax.tree.map(np.array, (*case.weights, case.x))
    before = copy.deepcopy(given)
    eager = case.run(*given, train=train)
    assert_close(case.compiled(*case.weights, case.x, train=train), eager)
    assert_close(given, before, tolerance=0)


@rows("an_example_alone_is_as_in_the_batch")
def test_an_example_alone_is_as_in_the_batch(case):
    alone = jax.vmap(
        lambda x: case.run(*case.weights, jax.tree.map(lambda a: a[None], x))[0],
        out_axes=case.batch_axis,
    )
    outputs = jax.tree.map(lambda a: jnp.squeeze(a, case.batch_axis + 1), jit(alone)(case.x))
    assert_close(outputs, case.compiled(*case.weights, case.x)[0])


@rows("vmap_over_weights")
def test_vmap_over_weights(case):
    """An ensemble is `jax.vmap(init)` and `jax.vmap(apply)`."""
    each = [case.random_weights(seed) for seed in range(2)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
    keys = jax.random.split(jax.random.key(2), 2)
    made = jax.eval_shape(jax.vmap(lambda key: initialize(case.layer, key, case.x)), keys)
    assert specs(made) == specs(stacked)
    if not jax.tree.leaves(stacked):
        return
    outputs = jit(jax.vmap(lambda params, state: case.run(params, state, case.x)[0]))(*stacked)
    for i, weights in enumerate(each):
        expected = case.compiled(*weights, case.x)[0]
        assert_close(jax.tree.map(lambda a, i=i: a[i], outputs), expected)


@rows("gradients_are_finite")
@both_modes
def test_gradients_are_finite(case, train):
    if train and not case.trains:
        return
    params, state = case.weights
    leaves, treedef = jax.tree.flatten((params, case.x))
    floats = [i for i, leaf in enumerate(leaves) if is_float(leaf)]

    def loss(values):
        filled = list(leaves)
        for i, value in zip(floats, values, strict=True):
            filled[i] = value
        params, x = treedef.unflatten(filled)
        y = case.run(params, state, x, train=train)[0]
        return sum(jnp.sum(a**2) for a in jax.tree.leaves(y) if is_float(a))

    gradients = jit(jax.grad(loss))([leaves[i] for i in floats])
    assert all(bool(jnp.all(jnp.isfinite(g))) for g in gradients)
    assert not gradients or any(bool(jnp.any(g != 0)) for g in gradients)


@rows("shapes_by_eval_shape_are_those_of_running")
def test_shapes_by_eval_shape_are_those_of_running(case):
    ran = specs(case.compiled(*case.weights, case.x))
    assert specs(jax.eval_shape(case.run, *case.weights, case.x)) == ran
    assert specs(output_spec(case.layer, case.x)) == ran[0]


@rows("state_keeps_its_structure")
@both_modes
def test_state_keeps_its_structure(case, train):
    run = functools.partial(case.run, train=train)
    assert specs(jax.eval_shape(run, *case.weights, case.x)[1]) == specs(case.weights[1])


@rows("bfloat16")
@both_modes
def test_bfloat16(case, train):
    params, x = cast((case.weights[0], case.x), "bfloat16")
    run = case.compiled if train else functools.partial(jax.eval_shape, case.run)
    run = functools.partial(run, params, case.weights[1], x)
    outputs, state = run(train=True) if train else run()
    floats = [a for a in jax.tree.leaves(outputs) if is_float(a)]
    assert floats
    assert all(a.dtype == jnp.bfloat16 for a in floats)
    assert not train or all(bool(jnp.all(jnp.isfinite(a))) for a in floats)
    assert specs(state) == specs(case.weights[1])


@rows("config_round_trip")
def test_config_round_trip(case):
    data = json.loads(json.dumps(to_config(case.layer)))
    again = from_config(data)
    assert again == case.layer
    assert hash(again) == hash(case.layer)
    assert type(again) is type(case.layer)


@rows("equality_and_hash")
def test_equality_and_hash(case):
    again, other = case.layer.replace(), case.layer.replace(name="another")
    assert again == case.layer == copy.deepcopy(case.layer)
    assert hash(again) == hash(case.layer)
    assert other != case.layer


@rows("repr_evaluates_back")
def test_repr_evaluates_back(case):
    names = {**vars(fnn.layers), **vars(fnn.core.config), **vars(catalogue)}
    assert eval(repr(case.layer), names) == case.layer


@rows("padded_rows_change_nothing")
@both_modes
def test_padded_rows_change_nothing(case, train):
    if train and not case.trains:
        return

    def padded(a):
        junk = np.full((2, *a.shape[1:]), 1e3) if is_float(a) else a[:2]
        return jnp.asarray(np.concatenate([a, junk]), a.dtype)

    number = jax.tree.leaves(case.x)[0].shape[0]
    mask = jnp.asarray(np.arange(number + 2) < number)
    x = jax.tree.map(padded, case.x)
    outputs, state = case.compiled(*case.weights, x, train=train, rows=mask)
    real = jax.tree.map(lambda a: take(a, np.arange(number), case.batch_axis), outputs)
    assert_close((real, state), case.compiled(*case.weights, case.x, train=train))


@rows("batch_order_changes_nothing")
def test_batch_order_changes_nothing(case):
    order = np.random.default_rng(1).permutation(jax.tree.leaves(case.x)[0].shape[0])
    moved = case.compiled(*case.weights, jax.tree.map(lambda a: take(a, order), case.x))[0]
    expected = case.compiled(*case.weights, case.x)[0]
    assert_close(moved, jax.tree.map(lambda a: take(a, order, case.batch_axis), expected))


def take(a, indices, axis=0):
    return jnp.asarray(np.take(np.asarray(a), indices, axis))


@rows("inference_needs_no_key")
def test_inference_needs_no_key(case):
    """`run` gives none. And it computes the same each time."""
    first = case.compiled(*case.weights, case.x)
    assert_close(case.compiled(*case.weights, case.x), first, tolerance=0)


@rows("masked_steps_change_nothing")
def test_masked_steps_change_nothing(case):
    """What stands in the masked steps of the inputs reaches no real step of the outputs."""
    if not any(map(_masked, jax.tree.leaves(case.x, is_leaf=_masked))):
        return
    spoiled = jax.tree.map(_spoiled, case.x, is_leaf=_masked)
    outputs = [case.compiled(*case.weights, x)[0] for x in (spoiled, case.x)]
    assert_close(*(jax.tree.map(_zeroed, y, is_leaf=_masked) for y in outputs))


def _masked(a):
    return isinstance(a, catalogue.Masked)


def _spoiled(a):
    return catalogue.Masked(_where_real(a, 1e3), a.mask) if _masked(a) else a


def _zeroed(a):
    return _where_real(a, 0) if _masked(a) else a


def _where_real(a, otherwise):
    mask = np.asarray(a.mask).reshape(a.mask.shape + (1,) * (a.values.ndim - 2))
    return jnp.asarray(np.where(mask, a.values, otherwise), a.values.dtype)
