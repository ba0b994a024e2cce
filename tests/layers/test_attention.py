"""Attention against Keras, and what it promises: masks hold, nothing looks ahead, caches agree."""

import functools
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import layers as L
from fnn.core import tree
from fnn.core.calling import call, initialize, output_spec, weight_spec
from fnn.core.context import INFERENCE, Context, Masked, split_mask, strip_masks
from fnn.core.tree import cast
from fnn.core.weights import constrain, penalty
from fnn.networks import generate, start_decoding
from tests.helpers.attention_calls import (
    ALL_MASKED,
    ALLOWED,
    BOX,
    CROSS,
    DRAWN_TOO,
    REAL_KEYS,
    REAL_QUERIES,
    RELATIVES,
    SELF,
    THREE,
    close,
    drawn,
    gqa,
    mha,
    put,
    random_params,
    with_masks,
)
from tests.helpers.catalogue import jit
from tests.helpers.oracle import keras_rules, random_weights_unset

CALL_ARGUMENTS = ("use_causal_mask", "return_attention_scores")


def objective(y, mask):
    """The sum of the outputs times fixed random numbers, over the real queries."""
    total = 0.0
    for a in jax.tree.leaves(strip_masks(y)):
        if mask is not None and a.shape[:2] == mask.shape:
            a = jnp.where(mask.reshape(mask.shape + (1,) * (a.ndim - 2)), a, 0)
        weights = np.random.default_rng(5).normal(size=a.shape).astype("float32")
        total += jnp.vdot(weights, a)
    return total


def keras_twin(layer, x):
    """The Keras layer with the same arguments, and how to call it on weights and such inputs."""
    import keras

    ours = {*CALL_ARGUMENTS, "position", "name", "trainable", "fixed_weights", "dtype"}
    ours |= {"input_shape"}
    fields = {n: v for n, v in vars(layer).items() if n[0] != "_" and n not in ours}
    name = type(layer).__name__.replace("GroupedQuery", "GroupQuery")
    twin = getattr(keras.layers, name)(**fields)
    with random_weights_unset():
        twin.build(*(a.shape for a in strip_masks(x)[:3] if a is not None))
    masks = split_mask(x)[1] or ()
    named = {argument: getattr(layer, argument) for argument in CALL_ARGUMENTS}

    masks = (*masks, *(None,) * (3 - len(masks)))[:3]
    query_mask, value_mask, key_mask = masks

    def run(weights, values):
        query, value, key, allowed = (*values, *(None,) * (4 - len(values)))
        if query_mask is not None:  # of arrays Keras takes that of the query only in this way
            rows = query_mask[:, :, None]
            allowed = rows if allowed is None else allowed & rows
        given = {"key": key, "attention_mask": allowed, **named}
        given |= {"value_mask": value_mask, "key_mask": key_mask}
        others = [v.value for v in twin.non_trainable_variables]
        return twin.stateless_call(weights, others, query, value, **given)[0]

    return twin, run


def values_and_gradients(x, mask, *runs, graded=True):
    """(outputs, gradients by weights, gradients by the inputs that are floats) of each run.

    A run is (function of weights and inputs, its weights); all are one program.
    """
    leaves, structure = jax.tree.flatten(strip_masks(x))
    floats = [i for i, a in enumerate(leaves) if a.dtype == jnp.float32]

    def each(weights, given):
        def value(weights, given, run):
            filled = list(leaves)
            for i, a in zip(floats, given, strict=True):
                filled[i] = a
            y = strip_masks(run(weights, structure.unflatten(filled)))
            return objective(y, mask), y

        differentiated = jax.value_and_grad(value, (0, 1), has_aux=True)
        alone = lambda *each: (value(*each), ((), ()))
        function = differentiated if graded else alone
        return [function(w, given, run) for w, (run, _) in zip(weights, runs, strict=True)]

    found = jit(each)([weights for _, weights in runs], [leaves[i] for i in floats])
    return [(y, *gradients) for (_, y), gradients in found]


# The gradients hang on the masks, the axes and the groups, which these have all of.
DIFFERENTIATED = (
    "value_dim, output_shape",
    "masks of three",
    "masks, attention_mask",
    "causal, scores",
    "causal, masks",
    "causal window",
    "attention_axes, mask",
    "grouped, causal, gate",
    "grouped, causal window, masks",
    "grouped, attention_mask",
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.thorough if name in DRAWN_TOO else ())
        for name in RELATIVES
    ],
)
def test_heads_equal_keras(name):
    """Gradients too, in the cases that differ in them."""
    compare_heads(name, name in DIFFERENTIATED)


@pytest.mark.thorough
@pytest.mark.parametrize("name", [name for name in RELATIVES if name not in DIFFERENTIATED])
def test_gradients_of_all_heads_equal_keras(name):
    compare_heads(name, True)


def compare_heads(name, graded):
    layer, x = RELATIVES[name]
    masks = split_mask(x)[1]
    real = masks and masks[0]
    params = random_params(layer, x)
    paths = [path for path, _ in tree.flatten(weight_spec(layer, x)[0])]
    with keras_rules():
        twin, run = keras_twin(layer, x)
        weights = [tree.get(params, path) for path in paths]
        assert [v.path.split("/")[-2:] for v in twin.weights[: len(paths)]] == list(
            map(list, paths)
        )

        def ours(params, values):
            given = values if masks is None else with_masks(values, *masks)
            return call(layer, params, {}, given, INFERENCE)[0]

        runs = (ours, params), (run, weights)
        found, expected = values_and_gradients(x, real, *runs, graded=graded)
    y, by_params, by_inputs = found
    for mine, its in zip(jax.tree.leaves(y), jax.tree.leaves(expected[0]), strict=True):
        assert mine.shape == its.shape
        rows = ... if real is None or mine.shape[:2] != real.shape else np.asarray(real)
        close(mine[rows], its[rows])
    for path, its in zip(paths if graded else (), expected[1], strict=True):
        close(tree.get(by_params, path), its)
    for mine, its in zip(by_inputs, expected[2], strict=True):
        close(mine, its)


@pytest.mark.slow
def test_fresh_weights_are_drawn_as_by_keras():
    """The limits of glorot_uniform tell which axes it counts as inputs and outputs."""
    params, _ = L.MultiHeadAttention(4, 25, 10).init(jax.random.key(0), (drawn(1, 2, 50),) * 2)
    limits = {"query": 6 / (50 + 100), "value": 6 / (50 + 40), "attention_output": 6 / (40 + 50)}
    for name, square in limits.items():
        kernel = params[name]["kernel"]
        assert 0.98 * square**0.5 < float(abs(kernel).max()) <= square**0.5
        assert not params[name]["bias"].any()
    assert not jnp.array_equal(params["query"]["kernel"], params["key"]["kernel"])


def test_regularizers_and_constraints_hold_for_every_projection():
    layer = mha(kernel_regularizer="l2", bias_constraint="non_neg", use_gate=True)
    params = random_params(layer, SELF)
    kernels = [leaf for path, leaf in tree.flatten(params) if path[-1] == "kernel"]
    assert len(kernels) == 5
    close(penalty(layer, params), sum(0.01 * jnp.sum(w**2) for w in kernels))
    for path, leaf in tree.flatten(constrain(layer, params)):
        assert (path[-1] == "kernel") or float(leaf.min()) >= 0


@pytest.mark.slow
@pytest.mark.parametrize("grouped", [False, True])
def test_every_projection_is_penalized(grouped):
    """As by Keras, but that it counts the outputs of grouped attention twice when called."""
    layer = (gqa if grouped else mha)(activity_regularizer="l2", use_gate=True)
    params, (_, state) = random_params(layer, THREE), initialize(layer, jax.random.key(0), THREE)
    paths = [path for path, _ in tree.flatten(weight_spec(layer, THREE)[0])]
    with keras_rules():
        twin, _ = keras_twin(layer, THREE)
        weights = [tree.get(params, path) for path in paths]
        others = [v.value for v in twin.non_trainable_variables]

        def penalties(weights, x):
            query, value, key = x
            losses = twin.stateless_call(
                weights, others, query, value, key=key, return_losses=True
            )[-1]
            return sum(losses)

        expected, theirs = jit(jax.value_and_grad(penalties))(weights, THREE)

    @jit
    @jax.value_and_grad
    def penalized(params, x):
        after = call(layer, params, state, x, INFERENCE)[1]
        assert jax.tree.structure(after) == jax.tree.structure(state)
        return sum(jax.tree.leaves(after))

    received, mine = penalized(params, THREE)
    close(received, expected)
    for path, gradient in zip(paths, theirs, strict=True):
        close(tree.get(mine, path), gradient)
    junk_at = np.s_[0, 3:], (0, 1), (1, 2)
    masked = lambda junk: with_masks(
        [put(a, at, junk) for a, at in zip(THREE, junk_at, strict=True)],
        *(put(REAL_QUERIES, 1, True), REAL_KEYS, REAL_KEYS),
    )
    losses = [float(penalized(params, masked(junk))[0]) for junk in (0.0, 9.0, np.nan)]
    close(losses, losses[:1] * 3)
    assert losses[0] < float(received)


# without heads

PLAIN = {
    "dot": L.Attention(),
    "scale": L.Attention(use_scale=True, return_attention_scores=True),
    "concat": L.Attention(score_mode="concat"),
    "concat, scale, causal": L.Attention(True, "concat", use_causal_mask=True),
    "additive": L.AdditiveAttention(),
    "additive, no scale": L.AdditiveAttention(False, use_causal_mask=True),
    "additive, scores": L.AdditiveAttention(return_attention_scores=True),
}
ALIKE = drawn(2, 5, 4), drawn(2, 3, 7, seed=1), drawn(2, 3, 4, seed=2)


@pytest.mark.slow
# Without masks too, rows of the catalogue are compared in test_keras_layers.py.
@pytest.mark.parametrize(
    "masked",
    [pytest.param(False, id="plain", marks=pytest.mark.thorough), pytest.param(True, id="masked")],
)
@pytest.mark.parametrize("name", PLAIN)
def test_attention_without_heads_equals_keras(name, masked):
    import keras

    layer = PLAIN[name]
    masks = (REAL_QUERIES, REAL_KEYS, None) if masked else None
    params = random_params(layer, ALIKE)
    paths = [path for path, _ in tree.flatten(weight_spec(layer, ALIKE)[0])]
    with keras_rules():
        fields = {n: v for n, v in vars(layer).items() if n in ("use_scale", "score_mode")}
        twin = getattr(keras.layers, type(layer).__name__)(**fields)
        with random_weights_unset():
            twin.build([a.shape for a in ALIKE])
        assert [v.name for v in twin.weights] == [path[-1] for path in paths]
        named = {argument: getattr(layer, argument) for argument in CALL_ARGUMENTS}
        named["mask"] = masks and list(masks)
        run = lambda weights, x: twin.stateless_call(weights, [], list(x), **named)[0]
        weights = [tree.get(params, path) for path in paths]

        def ours(params, values):
            given = with_masks(values, *masks) if masked else values
            return call(layer, params, {}, given, INFERENCE)[0]

        real = masks and masks[0]
        found, expected = values_and_gradients(ALIKE, real, (ours, params), (run, weights))
    y, by_params, by_inputs = found
    mine, its = ([jax.tree.leaves(a)[0], *jax.tree.leaves(a)[1:]] for a in (y, expected[0]))
    for a, b in zip(mine, its, strict=True):
        real = np.asarray(REAL_QUERIES) if masked else ...
        close(a[real], b[real])
    for path, b in zip(paths, expected[1], strict=True):
        close(tree.get(by_params, path), b)
    jax.tree.map(close, by_inputs, expected[2])


# what masks promise

LOOKING = {
    "heads": mha(),
    "scores": mha(return_attention_scores=True),
    "dropout": mha(dropout=0.4),
    "gate, value_dim": mha(4, use_gate=True),
    "causal": mha(use_causal_mask=True),
    "window": mha(sliding_window=3),
    "rotary": L.MultiHeadAttention(2, 4, position=L.RotaryEmbedding()),
    "grouped": gqa(),
    "grouped, dropout, scores": gqa(dropout=0.4, return_attention_scores=True),
    "plain": L.Attention(dropout=0.4),
    "plain, concat": L.Attention(True, "concat", return_attention_scores=True),
    "additive": L.AdditiveAttention(),
    "encoder block": L.TransformerEncoderBlock(6, 2, dropout=0.3),
    "encoder block, norm last": L.TransformerEncoderBlock(6, 2, normalize_first=False),
    "decoder block": L.TransformerDecoderBlock(6, 2, dropout=0.3),
}
WIDE = drawn(2, 5, 6), drawn(2, 3, 6, seed=1)
TRAIN = Context(train=True, key=jax.random.key(4))


def where_options_matter(names, *others):
    """The names; those of options that the property of a test does not hang on are thorough."""
    return [pytest.param(n, marks=[pytest.mark.thorough] * (n in others)) for n in names]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", where_options_matter(LOOKING, "scores", "gate, value_dim", "rotary")
)
def test_what_stands_in_masked_steps_reaches_nothing(name):
    """Not even NaN reaches a real output, or a gradient of real outputs."""
    layer = LOOKING[name]
    inputs = WIDE[:1] if name.startswith("encoder") else WIDE
    # A normalization of NaN puts it into the gradient of gamma, whatever comes after.
    fill = 1e3 if "block" in name else np.nan

    def masked(fill):
        masks = zip(inputs, (REAL_QUERIES, REAL_KEYS), strict=False)
        given = [Masked(np.where(m[..., None], a, np.float32(fill)), m) for a, m in masks]
        return given[0] if len(given) == 1 else tuple(given)

    params, state = random_params(layer, masked(0)), weight_spec(layer, masked(0))[1]

    def value(params, x):
        y, _ = call(layer, params, state, x, TRAIN)
        y, *scores = jax.tree.leaves(y, is_leaf=lambda a: isinstance(a, Masked))
        real = jnp.where(y.mask[..., None], y.values, 0)
        return sum(jnp.sum(jnp.sin(a)) for a in (real, *scores)), (y.mask, real, *scores)

    graded = jit(jax.value_and_grad(value, has_aux=True))
    (_, before), gradient = graded(params, masked(0))
    (_, after), other = graded(params, masked(fill))
    assert (before[0] == REAL_QUERIES).all()
    jax.tree.map(np.testing.assert_array_equal, before, after)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), gradient, other)


CAUSAL = {
    name: layer.replace(use_causal_mask=True)
    for name, layer in LOOKING.items()
    if name not in ("causal", "decoder block")
}
CAUSAL["attention_mask, dropout"] = mha(dropout=0.4, use_causal_mask=True)
CAUSAL["decoder block"] = LOOKING["decoder block"]
CAUSAL["gpt"] = fnn.networks.gpt(9, 8, 2, 2, context=6, dropout=0.3)


LATER = 3
# Without dropout a training step computes what inference does.
DROPS = [name for name in CAUSAL if "dropout" in name or name == "gpt"]
DROPS += ["encoder block", "decoder block", "plain"]


@functools.cache
def with_other_later_steps(name):
    """Outputs by context, for inputs and for such of other later steps."""
    layer = CAUSAL[name]
    own = np.asarray(drawn(2, 6, 6))
    ids = np.random.default_rng(0).integers(0, 8, (2, 6))

    def inputs(own, ids):
        if name == "gpt":
            return ids
        if name == "decoder block":
            return own, drawn(2, 3, 4, seed=1)
        more = (None, jnp.ones((6, 6), bool)) if name.startswith("attention_mask") else ()
        return own if name.startswith("encoder") else (own, own, *more)

    x, changed = inputs(own, ids), (put(own, np.s_[:, LATER:], 100.0), ids.copy())
    changed[1][:, LATER:] += 1
    params, state = random_params(layer, x), weight_spec(layer, x)[1]
    contexts = {"training": TRAIN, "inference": INFERENCE} if name in DROPS else {"training": TRAIN}
    run = jit(lambda x: [call(layer, params, state, x, ctx)[0] for ctx in contexts.values()])
    first, second = (map(jax.tree.leaves, jax.device_get(run(a))) for a in (x, inputs(*changed)))
    return dict(zip(contexts, zip(first, second, strict=True), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "context"),
    [*((name, "training") for name in CAUSAL), *((name, "inference") for name in DROPS)],
)
def test_a_later_step_changes_no_earlier_output(name, context):
    at, (first, second) = LATER, with_other_later_steps(name)[context]
    np.testing.assert_array_equal(first[0][:, :at], second[0][:, :at])
    assert abs(first[0] - second[0])[:, at:].max() > 1e-3
    for a, b in zip(first[1:], second[1:], strict=True):  # scores (batch, ..., queries, keys)
        np.testing.assert_array_equal(a[..., :at, :], b[..., :at, :])
        assert not a[..., np.triu(np.ones(a.shape[-2:], bool), 1)].any()


@pytest.mark.slow
@pytest.mark.parametrize("axes", [1, 2, (1, 2)])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_causal_holds_over_any_axes(axes, dropout):
    """Over several axes, the sequence is in the order of the array."""
    layer = mha(attention_axes=axes, dropout=dropout, use_causal_mask=True)
    params = random_params(layer, (BOX, BOX))
    run = jit(lambda x: layer.apply(params, {}, (x, x), TRAIN)[0])
    before = np.asarray(run(BOX))
    for place in np.ndindex(3, 4):
        changed = np.asarray(run(put(BOX, np.s_[:, *place], 9.0))) != before
        positions = np.argwhere(changed.any((0, 3)))
        assert len(positions)
        for other in map(tuple, positions):
            ahead = [o >= p for o, p in zip(other, place, strict=True)]
            assert all(ahead) if isinstance(axes, int) else other >= place


@pytest.mark.slow
@pytest.mark.parametrize("axes", [1, 2, None])
def test_masks_of_steps_hold_over_any_axes(axes):
    layer = mha(attention_axes=axes)
    params = random_params(layer, (BOX, BOX))
    mask = np.array([[True, False, True], [True, True, False]])

    @jit
    def run(x):
        masked = call(layer, params, {}, (Masked(x, mask), Masked(x, mask)), INFERENCE)[0]
        return masked.values, layer.apply(params, {}, (x, x))[0]

    fills = np.float32(0), np.float32(np.nan)
    outputs = [run(np.where(mask[..., None, None], BOX, fill))[0] for fill in fills]
    np.testing.assert_array_equal(*outputs)
    assert not np.allclose(run(BOX)[1], outputs[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    "layer", [mha(), gqa(), mha(dropout=0.3), L.Attention(), mha(use_gate=True)]
)
def test_a_query_that_may_look_nowhere_gets_nothing(layer):
    """Outputs are the bias alone (zeros without one), all gradients finite and no NaN."""
    nowhere = np.zeros((2, 5), bool)
    params = random_params(layer, SELF)

    def value(params, values):
        y, _ = call(layer, params, {}, (values, Masked(values, nowhere)), TRAIN)
        return jnp.sum(y**2), y

    graded = jit(jax.value_and_grad(value, (0, 1), has_aux=True))
    (_, y), gradients = graded(params, SELF[0])
    bias = params["attention_output"]["bias"] if params else np.zeros(6)
    close(y, np.broadcast_to(bias, y.shape))
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))


@pytest.mark.slow
def test_dropout_is_of_the_shares_and_by_the_key():
    layer = mha(dropout=0.5, return_attention_scores=True)
    params = random_params(layer, SELF)
    run = lambda ctx, layer=layer: layer.apply(params, {}, SELF, ctx)[0]
    other = TRAIN.replace(key=jax.random.key(5))

    def every(keys):
        mean = jax.vmap(lambda key: run(TRAIN.replace(key=key))[0])(keys).mean(0)
        others = run(other)[0], run(TRAIN, layer.replace(seed=1))[0]
        dropped = run(TRAIN, layer.replace(dropout=1.0))[0]
        return run(TRAIN), run(INFERENCE), others, mean, dropped

    keys = jax.random.split(jax.random.key(6), 4000)
    (y, scores), (dry, dry_scores), others, mean, all_dropped = jit(every)(keys)
    close(scores, dry_scores)  # returned as before dropout
    assert not np.allclose(y, dry)
    np.testing.assert_array_equal(jit(run)(TRAIN)[0], y)
    assert not any(np.allclose(drawn, y) for drawn in others)
    close(mean, dry, 0.06)
    bias = params["attention_output"]["bias"]
    close(all_dropped, np.broadcast_to(bias, y.shape))


def test_one_array_attends_to_itself():
    layer, x = mha(), Masked(SELF[0], REAL_QUERIES)
    params = random_params(layer, x)
    run = lambda *each: [call(layer, params, {}, given, INFERENCE)[0] for given in each]
    y, pair = jit(run)(x, (x, x))
    np.testing.assert_array_equal(y.values, pair.values)
    assert (y.mask == REAL_QUERIES).all()


NOWHERE = Masked(SELF[0], jnp.asarray(np.arange(2)[:, None] < np.ones(5)))
FUSED = {
    "bare": (mha(), SELF),
    "cross": (mha(), CROSS),
    "causal": (mha(use_causal_mask=True), SELF),
    "causal window": (mha(sliding_window=2, use_causal_mask=True), SELF),
    "causal window of one": (mha(sliding_window=1, use_causal_mask=True), SELF),
    "causal, cross": (mha(use_causal_mask=True), CROSS),
    "causal, masks": (mha(use_causal_mask=True), ALL_MASKED),
    "causal, attention_mask": (mha(use_causal_mask=True), (*CROSS, None, jnp.asarray(ALLOWED))),
    "causal, nowhere": (mha(use_causal_mask=True), (SELF[0], NOWHERE)),
    "nowhere": (mha(), (SELF[0], NOWHERE)),
    "grouped, causal": (gqa(use_causal_mask=True), SELF),
    "grouped, window": (gqa(sliding_window=2), SELF),
    "grouped, masks": (gqa(use_causal_mask=True), ALL_MASKED),
    "axes": (mha(attention_axes=2, use_causal_mask=True), (BOX, BOX)),
}


@pytest.fixture
def kernels(monkeypatch):
    """A list of what the kernel was asked for; the other implementation of JAX computes it."""
    attend, asked = jax.nn.dot_product_attention, []

    def recorded(*args, implementation, **named):
        asked.append((implementation, named))
        return attend(*args, **named)

    monkeypatch.setattr(jax.nn, "dot_product_attention", recorded)
    return asked


@pytest.mark.slow
@pytest.mark.parametrize("name", FUSED)
def test_flash_attention_is_the_same_attention(name, kernels):
    layer, x = FUSED[name]
    params = random_params(layer, x)

    def graded(layer, params):
        def value(params):
            y = strip_masks(call(layer, params, {}, x, INFERENCE)[0])
            return jnp.sum(jnp.sin(y)), y

        if name not in DIFFERENTIATED_FUSED:  # what is asked of the kernel is all that differs
            return value(params)
        return jax.value_and_grad(value, has_aux=True)(params)

    def both(params):
        expected = graded(layer, params)
        assert not kernels
        return graded(layer.replace(flash_attention=True), params), expected

    jax.tree.map(close, *jit(both)(params))
    assert {implementation for implementation, _ in kernels} == {"cudnn"}
    masked = {"mask" in named for _, named in kernels}
    assert masked == {name not in ("bare", "cross", "axes") and not name.endswith(OF_ITS_OWN)}


DIFFERENTIATED_FUSED = ("cross", "causal window", "causal, nowhere", "grouped, masks", "axes")
OF_ITS_OWN = ("causal", "causal window", "causal window of one")


@pytest.mark.slow
@pytest.mark.parametrize("axes", [(0, None, None), (None, 0, None), (None, 1, 1), (0, 0, 0)])
def test_flash_attention_under_vmap(axes, kernels):
    """Over weights, the query alone, both inputs, and all: values and gradients."""
    layer = mha(use_causal_mask=True, flash_attention=True)
    sizes = [{} if axis is None else {axis: 3} for axis in axes]
    spread = lambda a, at: np.stack([a, a * np.float32(2), a + np.float32(1)], *at) if at else a
    params, query, value = (
        jax.tree.map(lambda a, at=at: spread(a, at), part)
        for part, at in zip((random_params(layer, SELF), *SELF), sizes, strict=True)
    )

    def each(layer):
        objective = lambda p, q, v: jnp.sum(jnp.sin(layer.apply(p, {}, (q, v))[0]))
        graded = jax.value_and_grad(objective, (0, 1, 2))
        return jax.vmap(graded, axes)

    def both(*given):
        expected = each(layer.replace(flash_attention=False))(*given)
        assert not kernels
        return each(layer)(*given), expected

    jax.tree.map(close, *jit(both)(params, query, value))
    assert kernels


@pytest.mark.slow
@pytest.mark.parametrize("name", ["heads", "window", "grouped"])
def test_flash_attention_decodes_the_same(name, kernels):
    layer, x = DECODING[name].replace(flash_attention=True), drawn(2, 7, 6)
    params = random_params(layer, x)
    expected, _ = jit(DECODING[name].apply)(params, {}, x)
    state, outputs = start_decoding(layer, params, {}, batch=2, length=9), []
    step = jit(lambda state, x: layer.apply(params, state, x))
    for piece in np.split(np.asarray(x), (3, 4), axis=1):
        y, state = step(state, piece)
        outputs.append(y)
    close(np.concatenate(outputs, 1), expected)
    assert all("mask" in named for _, named in kernels)


# the kernel of cuDNN, by the program: there is no GPU here

GPU = types.SimpleNamespace(compute_capability="8.0")
EIGHT = L.MultiHeadAttention(2, 8, use_causal_mask=True)
EVEN = drawn(2, 6, 6), drawn(2, 6, 6, seed=1)
UNFUSED = {
    "of odd lengths": (EIGHT, SELF),  # JAX cannot differentiate its kernel there
    "of another size": (L.MultiHeadAttention(2, 12), EVEN),
    "of values of another size": (L.MultiHeadAttention(2, 8, 16), EVEN),
    "of large heads": (L.MultiHeadAttention(1, 264), EVEN),
    "causal of other lengths": (EIGHT, (EVEN[0], EVEN[1][:, :4])),
    "masked": (EIGHT, with_masks(EVEN, None, jnp.ones((2, 6), bool))),
    "with an attention_mask": (EIGHT, (*EVEN, None, jnp.ones((6, 6), bool))),
    "that looks ahead in a window": (L.MultiHeadAttention(2, 8, sliding_window=2), EVEN),
    "with scores": (EIGHT.replace(return_attention_scores=True), EVEN),
    "with dropout": (EIGHT.replace(dropout=0.5), EVEN),
    "refused": (EIGHT.replace(flash_attention=False), EVEN),
}
FUSES = {
    "causal": (EIGHT, EVEN, "mask_type\\22: \\22CAUSAL"),
    "window": (EIGHT.replace(sliding_window=3), EVEN, "sliding_window_length\\22: 3"),
    "bare": (L.MultiHeadAttention(2, 128), (EVEN[0], EVEN[1][:, :4]), "mask_type\\22: \\22NO_MASK"),
    "grouped": (L.GroupedQueryAttention(16, 4, 2), EVEN, ""),
    "rotary": (EIGHT.replace(position=L.RotaryEmbedding()), EVEN, ""),
    "block": (L.TransformerEncoderBlock(16, 2, use_causal_mask=True), drawn(2, 6, 16), "CAUSAL"),
    "repeated": (L.Repeat(L.TransformerEncoderBlock(16, 2), 3), drawn(2, 6, 16), ""),
}


@pytest.fixture
def gpu(monkeypatch):
    """As if there were a GPU with cuDNN: programs can be lowered for it, not run."""
    cudnn = types.SimpleNamespace(cudnn_get_version=lambda: 91000)
    monkeypatch.setattr("jax._src.cudnn.fused_attention_stablehlo.cuda_versions", cudnn)
    monkeypatch.setattr(jax, "local_devices", lambda backend: [GPU])


def programs(layer, x, dtype="bfloat16", platforms=("cuda",), context=TRAIN):
    """(calls of cuDNN in the program of the gradients, that program) for each platform."""
    state = weight_spec(layer, x)[1]
    params, x = cast((random_params(layer, x), x), dtype)

    def value(params, x):
        y = jax.tree.leaves(strip_masks(call(layer, params, state, x, context)[0]))[0]
        return jnp.sum(jnp.sin(y.astype("float32")))

    traced = jit(jax.grad(value)).trace(params, x)
    texts = [traced.lower(lowering_platforms=(name,)).as_text() for name in platforms]
    return [(re.findall(r"@__cudnn\$(\w+)", text), text) for text in texts]


def program(layer, x, dtype="bfloat16", platform="cuda", context=TRAIN):
    return programs(layer, x, dtype, (platform,), context)[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "dtype"),
    [*((name, "bfloat16") for name in FUSES), ("causal", "float16"), ("grouped", "float16")],
)
def test_a_gpu_gets_the_fused_kernel(name, dtype, gpu):
    layer, x, words = FUSES[name]
    more = ("cpu", "tpu") if (name, dtype) == ("causal", "bfloat16") else ()  # they decide
    (calls, text), *others = programs(layer, x, dtype, ("cuda", *more))
    assert sorted(calls) == ["fmhaSoftmax", "fmhaSoftmax", "fmhaSoftmaxBackward"]
    assert words in text
    assert [other for other, _ in others] == [[] for _ in more]


@pytest.mark.slow
def test_the_fused_kernel_goes_through_vmap(gpu):
    x = cast(drawn(3, 2, 6, 16), "bfloat16")
    params = cast(random_params(EIGHT, x[0]), "bfloat16")
    value = lambda params, x: EIGHT.apply(params, {}, x)[0].astype("float32").sum()
    for axes in ((None, 0), (0, None)):
        given = [
            a if axis is None else jax.tree.map(lambda a: np.stack([a] * 3), a)
            for a, axis in zip((params, x[0]), axes, strict=True)
        ]
        traced = jit(jax.vmap(jax.grad(value), axes)).trace(*given)
        assert (
            "@__cudnn$fmhaSoftmaxBackward" in traced.lower(lowering_platforms=("cuda",)).as_text()
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", UNFUSED)
def test_attention_is_not_fused(name, gpu):
    assert program(*UNFUSED[name])[0] == []


@pytest.mark.slow
def test_whether_it_is_fused_depends_on_precision_dropout_cache_and_gpu(gpu, monkeypatch):
    assert program(EIGHT, EVEN, "float32")[0] == []
    drops = EIGHT.replace(dropout=0.5)
    assert program(drops, EVEN, context=INFERENCE)[0]  # nothing is dropped here
    x = cast(EVEN[0], "bfloat16")
    params = cast(random_params(EIGHT, x), "bfloat16")
    cached = start_decoding(EIGHT, params, {}, batch=2, length=6)
    traced = jit(EIGHT.apply).trace(params, cached, x)
    assert "cudnn" not in traced.lower(lowering_platforms=("cuda",)).as_text()
    monkeypatch.setattr(GPU, "compute_capability", "7.5")
    assert program(EIGHT, EVEN)[0] == []


def test_without_a_gpu_or_cudnn_there_is_no_kernel_in_any_program(monkeypatch):
    assert program(EIGHT, EVEN)[0] == []
    monkeypatch.setattr(jax, "local_devices", lambda backend: [GPU])
    assert program(EIGHT, EVEN)[0] == []
    with pytest.raises(RuntimeError, match="cuDNN is not detected"):
        program(EIGHT.replace(flash_attention=True), EVEN)


@pytest.mark.slow
def test_the_processor_beside_a_gpu_computes_the_same(gpu):
    x = cast(EVEN, "bfloat16")
    params = cast(random_params(EIGHT, x), "bfloat16")
    run = lambda layer: lambda p: layer.apply(p, {}, x)[0].astype("float32").sum()
    pair = EIGHT, EIGHT.replace(flash_attention=False)
    both = lambda params: [jax.value_and_grad(run(layer))(params) for layer in pair]
    ours, expected = jit(both)(params)
    jax.tree.map(np.testing.assert_array_equal, ours, expected)


# going through a sequence a few steps at a time

DECODING = {
    "heads": mha(use_causal_mask=True),
    "window": mha(sliding_window=2, use_causal_mask=True),
    "rotary": L.MultiHeadAttention(2, 4, position=L.RotaryEmbedding(), use_causal_mask=True),
    "grouped": gqa(use_causal_mask=True, use_gate=True),
    "positions": L.Sequential([L.PositionEmbedding(9), mha(use_causal_mask=True)]),
    "sines": L.Sequential([L.SinusoidalPosition(), mha(use_causal_mask=True)]),
    "repeated": L.Repeat(L.TransformerEncoderBlock(6, 2, use_causal_mask=True), 3),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DECODING)
def test_a_few_steps_at_a_time_equal_all_at_once(name):
    layer, x, pieces = DECODING[name], np.asarray(drawn(2, 7, 6)), (3, 1, 1, 1, 1)
    params = random_params(layer, x)
    plain = weight_spec(layer, x)[1]
    expected, _ = jit(layer.apply)(params, plain, x)
    traces = []

    @jit
    def step(state, x):
        traces.append(x.shape)
        return layer.apply(params, state, x)

    state, outputs, at = start_decoding(layer, params, plain, batch=2, length=9), [], 0
    for piece in pieces:
        y, state = step(state, x[:, at : at + piece])
        outputs.append(y)
        at += piece
    close(np.concatenate(outputs, 1), expected)
    assert len(traces) == 2  # one compilation for each size, however many steps


@pytest.mark.slow
def test_masked_steps_stay_masked_in_the_cache():
    layer, x = mha(use_causal_mask=True), Masked(SELF[0], REAL_QUERIES)
    params = random_params(layer, x)
    run = jit(lambda state, x: call(layer, params, state, x, INFERENCE))
    expected, _ = run({}, x)
    state, outputs = start_decoding(layer, params, {}, batch=2, length=5), []
    for at in range(5):
        one = jax.tree.map(lambda a, at=at: np.asarray(a)[:, at : at + 1], x)
        y, state = run(state, one)
        outputs.append(y.values)
    close(np.concatenate(outputs, 1), expected.values)


@pytest.mark.slow
def test_generate_continues_as_the_full_pass_says():
    network = fnn.networks.gpt(9, 8, 1, 2, context=8, dropout=0.2)
    prompt = jnp.array([[1, 2, 3], [4, 5, 6]])
    state = weight_spec(network, prompt)[1]
    params = random_params(network, prompt, scale=1.0)
    made = np.asarray(generate(network, params, state, prompt, steps=6))
    assert made.shape == (2, 9)
    np.testing.assert_array_equal(made[:, :3], prompt)
    probabilities = np.asarray(jit(network.apply)(params, state, made[:, :-1])[0])
    np.testing.assert_array_equal(made[:, 3:], probabilities[:, 2:].argmax(-1))
    draw = lambda key, heat: generate(network, params, state, prompt, 6, heat, jax.random.key(key))
    np.testing.assert_array_equal(draw(1, 1.0), draw(1, 1.0))
    assert not np.array_equal(draw(1, 3.0), draw(2, 3.0))
    np.testing.assert_array_equal(draw(1, 1e-4), made)
    model = fnn.Model(network)
    model.build((2, 3))
    model.params, model.state = params, state
    np.testing.assert_array_equal(generate(model, prompt, steps=6), made)


# errors

WRONG_ARGUMENTS = [
    (lambda: L.MultiHeadAttention(0, 4), "num_heads=0"),
    (lambda: L.MultiHeadAttention(2, 0), "key_dim=0"),
    (lambda: L.MultiHeadAttention(2, 4, value_dim=0), "value_dim=0"),
    (lambda: mha(dropout=2), "dropout=2"),
    (lambda: mha(seed=-1), "seed=-1"),
    (lambda: mha(sliding_window=0), "sliding_window=0"),
    (lambda: mha(flash_attention="yes"), "flash_attention='yes'"),
    (lambda: mha(flash_attention=True, dropout=0.1), "with dropout"),
    (lambda: mha(flash_attention=True, return_attention_scores=True), "returned scores"),
    (lambda: mha(2, flash_attention=True), "another value size"),
    (lambda: mha(activity_regularizer="l2", return_attention_scores=True), "to be None"),
    (lambda: mha(output_shape=0), "output_shape=(0,)"),
    (lambda: L.GroupedQueryAttention(4, 4, 3), "num_key_value_heads=3"),
    (lambda: L.GroupedQueryAttention(0, 4, 2), "head_dim=0"),
    (lambda: L.Attention(score_mode="sum"), "score_mode='sum'"),
    (lambda: L.Attention(dropout=-1), "dropout=-1"),
    (lambda: L.TransformerEncoderBlock(5, 2), "to divide units=5"),
    (lambda: L.TransformerEncoderBlock(4, 2, 0), "intermediate_dim=0"),
    (lambda: L.TransformerDecoderBlock(0, 2), "units=0"),
    (lambda: L.TransformerDecoderBlock(4, 2, dropout=1.5), "dropout=1.5"),
    (lambda: start_decoding(mha(), {}, {}, 2, 5), "use_causal_mask=False"),
]
WRONG_INPUTS = [
    (mha(), drawn(2, 6), "3 axes"),
    (mha(), (drawn(2, 5, 6), drawn(3, 5, 6)), "one batch"),
    (mha(), (drawn(2, 5, 6), drawn(2, 3, 6), drawn(2, 4, 6)), "as many values as keys"),
    (mha(), (drawn(2, 5, 6), drawn(2, 5, 6), None, drawn(2, 5, 4)), "attention_mask"),
    (mha(), (drawn(2, 5, 6), drawn(2, 5, 6), None, drawn(1, 1, 2, 2, 5, 5)), "attention_mask"),
    (mha(attention_axes=2), (drawn(2, 5, 6), drawn(2, 5, 6)), "attention_axes"),
    (mha(attention_axes=(1, -2)), (drawn(2, 5, 6), drawn(2, 5, 6)), "attention_axes"),
    (L.Attention(), (BOX, BOX), "MultiHeadAttention"),
    (L.Attention(), (*SELF, None, drawn(2, 5, 5)), "(2, 5, 6), None, (2, 5, 5)]"),
    (L.Attention(), CROSS, "equally many features"),
    (L.TransformerEncoderBlock(4, 2), drawn(2, 5, 6), "equal shapes"),
]


def test_a_position_with_a_state_is_refused():
    # Its state would have to follow queries and keys at once; the call knew no `aux_loss` to keep.
    position = L.ActivityRegularization(l2=0.1)
    with pytest.raises(
        ValueError, match=r"expected position to be a layer without state.*aux_loss"
    ):
        L.MultiHeadAttention(2, 4, position=position).init(jax.random.key(0), jnp.ones((2, 3, 8)))


EXPECTED = re.compile(r"expected .* received ", re.DOTALL)


def reads(error, words):
    assert words in str(error.value)


@pytest.mark.parametrize(("make", "words"), WRONG_ARGUMENTS, ids=[w for _, w in WRONG_ARGUMENTS])
def test_wrong_arguments_are_refused(make, words):
    with pytest.raises(ValueError, match=EXPECTED) as error:
        make()
    reads(error, words)


@pytest.mark.parametrize(("layer", "x", "words"), WRONG_INPUTS)
def test_wrong_inputs_are_refused(layer, x, words):
    with pytest.raises(ValueError, match=EXPECTED) as error:
        initialize(layer, jax.random.key(0), x)
    reads(error, words)


def test_wrong_types_are_refused():
    with pytest.raises(TypeError, match=EXPECTED) as error:
        mha(position="rotary")
    reads(error, "as position")
    with pytest.raises(TypeError, match=EXPECTED) as error:
        output_spec(L.TransformerDecoderBlock(4, 2), drawn(2, 5, 4))
    reads(error, "(inputs, memory)")


def test_wrong_width_is_refused_with_its_path():
    layer = L.Sequential([mha()])
    params, state = layer.init(jax.random.key(0), drawn(2, 5, 6))
    with pytest.raises(ValueError, match=EXPECTED) as error:
        layer.apply(params, state, drawn(2, 5, 4))
    reads(error, "inputs of 6 features, received 4")
    assert "in layer multi_head_attention: " in error.value.__notes__[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((drawn(3), 5), "(batch, time)"),
        ((jnp.ones((1, 2), int), 0), "steps=0"),
        ((jnp.ones((1, 2), int), 2, 0.0), "temperature=0.0"),
    ],
)
def test_generate_refuses_what_it_cannot_continue(arguments, words):
    with pytest.raises(ValueError, match=EXPECTED) as error:
        generate(mha(), {}, {}, *arguments)
    reads(error, words)
