"""Combinators against plain loops, NumPy and Keras."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.core import tree, weights
from fnn.core.calling import call, initialize, output_spec, weight_spec
from fnn.core.config import from_config, to_config
from fnn.core.context import INFERENCE, Context, Masked
from fnn.layers import (
    LSTM,
    ActivityRegularization,
    Add,
    BatchNormalization,
    Bidirectional,
    Concatenate,
    Dense,
    Dropout,
    Embedding,
    Ensemble,
    Frozen,
    GlobalAveragePooling1D,
    Inference,
    Input,
    Parallel,
    Remat,
    Repeat,
    Residual,
    Sequential,
    SpectralNormalization,
    Spread,
    TimeDistributed,
)
from fnn.symbolic.graph import connect
from tests.helpers.catalogue import jit
from tests.helpers.oracle import keras_rules

X = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
STEPS = np.random.default_rng(1).normal(size=(2, 4, 3)).astype("float32")
IDS = np.array([[3, 1, 2, 0], [4, 0, 0, 0], [1, 1, 5, 2]], "int32")


def made(layer, x, seed=0):
    """(params, state) with random params, so that no zero hides a mistake."""
    params, state = weight_spec(layer, x)  # initialize compiles a generator for each shape
    draw = np.random.default_rng(seed).normal
    drawn = jax.tree.map(lambda a: (0.5 * draw(size=a.shape)).astype(a.dtype), params)
    if jax.tree.leaves(state):
        state = initialize(layer, jax.random.key(seed), x)[1]
    return tree.same_order(drawn, params), state


def train(key=None, **more):
    return Context(train=True, key=key, **more)


def close(received, expected, tolerance=1e-5):
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=tolerance, atol=tolerance),
        received,
        expected,
    )


def run(layer, params, state, x, ctx=INFERENCE):
    """(outputs, new state, gradients of sum(outputs**2) by params and inputs), compiled."""

    def loss(params, x):
        y, after = call(layer, params, state, x, ctx)
        y = y.values if isinstance(y, Masked) else y
        return (y**2).sum(), (y, after)

    (_, (y, after)), gradients = jit(
        jax.value_and_grad(loss, (0, 1), has_aux=True, allow_int=True)
    )(params, x)
    return y, after, gradients


def outputs_of(*calls):
    """The outputs of each (layer, params, state, inputs), in one program."""
    layers = [layer for layer, *_ in calls]

    def run(given):
        pairs = zip(layers, given, strict=True)
        return [call(layer, *each, INFERENCE)[0] for layer, each in pairs]

    return jit(run)([tuple(given) for _, *given in calls])


def forward(*given):
    """The outputs, compiled."""
    return outputs_of(given)[0]


def linear(p, x):
    return x @ p["kernel"] + p["bias"].reshape(1, -1)


def dense(p, x):
    return jnp.tanh(linear(p, x))


def copy_of(tree, index):
    """The part of copy number `index` of stacked weights or outputs."""
    return jax.tree.map(lambda a: a[index], tree)


# -- each against its definition -----------------------------------------------------------------

TANH = Dense(3, "tanh")
DEFINITIONS = {
    "sequential": (
        Sequential([TANH, Dense(3, "tanh")]),
        lambda p, x: dense(p["dense_1"], dense(p["dense"], x)),
    ),
    "empty": (Sequential([]), lambda p, x: x),
    "parallel": (
        Parallel([TANH, Dense(3, "tanh", name="b")], merge=Add()),
        lambda p, x: dense(p["dense"], x) + dense(p["b"], x),
    ),
    "concatenated": (
        Parallel([TANH, Dense(2, "tanh")], Concatenate()),
        lambda p, x: jnp.concatenate([dense(p["dense"], x), dense(p["dense_1"], x)], -1),
    ),
    "residual": (Residual(TANH), lambda p, x: x + dense(p, x)),
    "remat": (Remat(TANH), dense),
    "inference": (Inference(TANH), dense),
    "repeat": (
        Repeat(TANH, 3),
        lambda p, x: functools.reduce(lambda x, i: dense(copy_of(p, i), x), range(3), x),
    ),
    "ensemble": (
        Ensemble(TANH, 3),
        lambda p, x: jnp.stack([dense(copy_of(p, i), x) for i in range(3)], 1),
    ),
    "nested": (
        Repeat(Residual(Sequential([Dense(4, "tanh"), Dense(3, "tanh")])), 2),
        lambda p, x: functools.reduce(
            lambda x, i: x + dense(copy_of(p, i)["dense_1"], dense(copy_of(p, i)["dense"], x)),
            range(2),
            x,
        ),
    ),
}


@pytest.mark.parametrize("name", DEFINITIONS)
def test_a_combinator_is_its_definition(name):
    layer, definition = DEFINITIONS[name]
    params, state = made(layer, X)

    def loss(params, x, run):
        y, after = run(params, x)
        return (y**2).sum(), (y, after)

    graded = jax.grad(loss, (0, 1), has_aux=True)
    ours = lambda params, x: call(layer, params, state, x, INFERENCE)
    plain = lambda params, x: (definition(params, x), {})
    both = lambda params, x: [graded(params, x, run) for run in (ours, plain)]
    (gradients, (y, after)), (expected_gradients, (expected, _)) = jit(both)(params, X)
    close(y, expected)
    assert after == state
    close(gradients, expected_gradients)


@pytest.mark.parametrize("x", [X, (X, X)], ids=["one", "several"])
def test_parallel_without_merge_returns_a_tuple(x):
    layer = Parallel([Add(), Concatenate()]) if isinstance(x, tuple) else Parallel([TANH, TANH])
    y, _ = call(layer, *made(layer, x), x, INFERENCE)
    assert isinstance(y, tuple)
    assert len(y) == 2
    if isinstance(x, tuple):
        close(y, (X + X, np.concatenate([X, X], -1)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Residual(Dense(2)), r"keeps the shape \(4, 3\), received one that returns \(4, 2"),
        (lambda: Repeat(Dense(2), 3), r"keeps the shape float32\[4, 3\], received float32\[4, 2\]"),
        (lambda: TimeDistributed(Dense(2)), "at least|of 3|axes"),
    ],
)
def test_shapes_that_do_not_fit_are_an_error(make, message):
    with pytest.raises(ValueError, match=message):
        output_spec(make(), X)


@pytest.mark.parametrize("cls", [Repeat, Ensemble])
def test_copies_are_counted_in_whole_numbers(cls):
    with pytest.raises(ValueError, match="to be an integer above 0"):
        cls(TANH, 0)


@pytest.mark.parametrize("cls", [Residual, Remat, Frozen, Inference, TimeDistributed, Repeat])
@pytest.mark.parametrize("inner", [Dense, 3, None])
def test_what_is_wrapped_must_be_a_layer(cls, inner):
    with pytest.raises(TypeError, match=f"{cls.__name__}: expected a layer as inner, received"):
        cls(inner)


def test_layers_come_in_a_list():
    with pytest.raises(TypeError, match=r"expected layers to be a list of layers, received Dense"):
        Sequential(Dense(3))
    with pytest.raises(TypeError, match=r"at position 1, received.*e\.g\. Dense\(\.\.\."):
        Parallel([TANH, Dense])


# -- Repeat --------------------------------------------------------------------------------------

BLOCK = Residual(Sequential([BatchNormalization(), Dense(3, "tanh"), Dropout(0.4)]))


@pytest.mark.slow
@pytest.mark.parametrize("remat", [False, True])
def test_repeat_is_the_unrolled_loop_in_training(remat, key):
    times = 2
    layer = Repeat(Remat(BLOCK) if remat else BLOCK, times)
    params, state = made(layer, X)
    ctx = train(key)

    def unrolled(params, x):
        after = []
        for i in range(times):
            x, new = call(BLOCK, *copy_of((params, state), i), x, ctx.repeat(i))
            after.append(new)
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *after)
        return (x**2).sum(), (x, stacked)

    y, after, gradients = run(layer, params, state, X, ctx)
    (_, (expected, expected_state)), expected_gradients = jit(
        jax.value_and_grad(unrolled, (0, 1), has_aux=True)
    )(params, X)
    close((y, after, gradients), (expected, expected_state, expected_gradients))
    for leaf in jax.tree.leaves(params):
        assert leaf.shape[0] == times
    fresh, _ = layer.init(key, X)
    assert not np.array_equal(*fresh["dense"]["kernel"][:2])


@pytest.mark.slow
def test_dropout_differs_by_depth_and_by_member(key):
    x = np.ones((1, 64), "float32")
    kept = np.asarray(call(Ensemble(Dropout(0.5), 3), {}, {}, x, train(key))[0]) > 0
    assert len({tuple(member) for member in kept[0]}) == 3
    deep, _ = call(Repeat(Dropout(0.5), 3), {}, {}, x, train(key))
    share = float((np.asarray(deep) > 0).mean())
    assert share < 0.35  # the same draw at each depth would keep one half
    again, _ = call(Repeat(Dropout(0.5), 3), {}, {}, x, train(key))
    np.testing.assert_array_equal(deep, again)


@pytest.mark.slow
def test_more_blocks_need_no_more_traces():
    counts = []
    for times in (4, 48):
        traced = []

        class Counted(fnn.Layer):
            tag: object = None

            def init(self, key, x):
                return {"w": jnp.ones(())}, {}

            def apply(self, params, state, x, ctx=INFERENCE, traced=traced):
                traced.append(x.shape)
                return x * params["w"], state

        layer = Repeat(Counted(times), times)
        params, state = initialize(layer, jax.random.key(0), X)
        wired = len(traced)
        jax.jit(lambda p, x, layer=layer, state=state: layer.apply(p, state, x)[0])(params, X)
        counts.append((wired, len(traced) - wired))
    assert counts[0] == counts[1]
    assert counts[0][1] <= 2


# -- Frozen, Inference, Remat --------------------------------------------------------------------

MIXED = Sequential([Dense(3, "tanh"), BatchNormalization(), Dropout(0.5)])


@pytest.mark.slow
def test_frozen_layers_do_not_learn_but_drop(key):
    layer = Sequential([Dense(3), Frozen(MIXED)])
    params, state = made(layer, X)
    y, after, (gradients, by_inputs) = run(layer, params, state, X, train(key))
    assert all((g == 0).all() for g in jax.tree.leaves(gradients["frozen"]))
    assert all((g != 0).any() for g in jax.tree.leaves((gradients["dense"], by_inputs)))
    close(after, state)
    first = linear(params["dense"], X)
    still, _ = call(MIXED, params["frozen"], state["frozen"], first, INFERENCE)
    dropped = np.asarray(y) == 0
    assert 0 < dropped.sum() < dropped.size
    close(np.asarray(y)[~dropped], 2 * np.asarray(still)[~dropped])
    learning, fixed = weights.split(layer, params)
    assert (list(learning), list(fixed)) == (["dense"], ["frozen"])


@pytest.mark.slow
@pytest.mark.parametrize("wrapped", [Frozen(MIXED), MIXED.replace(trainable=False)], ids=str)
def test_frozen_is_the_same_as_not_trainable(wrapped, key):
    params, state = made(MIXED, X)
    expected = run(Frozen(MIXED), params, state, X, train(key))
    close(run(wrapped, params, state, X, train(key)), expected)


def test_inference_runs_still_and_learns(key):
    params, state = made(MIXED, X)
    y, after, gradients = run(Inference(MIXED), params, state, X, train(key))
    expected, _, expected_gradients = run(MIXED, params, state, X)
    close((y, after, gradients), (expected, state, expected_gradients))
    assert (gradients[0]["dense"]["kernel"] != 0).any()


@pytest.mark.slow
def test_remat_changes_no_number_and_computes_again(key):
    params, state = made(MIXED, X)
    expected = run(MIXED, params, state, X, train(key))
    close(run(Remat(MIXED), params, state, X, train(key)), expected, 1e-6)
    loss = lambda p: call(Remat(MIXED), p, state, X, train(key))[0].sum()
    assert "remat" in str(jax.make_jaxpr(jax.grad(loss))(params))


# -- TimeDistributed and Ensemble ----------------------------------------------------------------


def twin(theirs, ours, params, state):
    """Sets Keras's weights to ours."""
    parts = {"params": params, "state": state}
    order = weights.in_order(ours, params, state)
    theirs.set_weights([np.asarray(tree.get(parts[part], path)) for part, path in order])


@pytest.mark.slow
@pytest.mark.parametrize("masked", [False, True])
def test_time_distributed_is_that_of_keras(masked):
    import keras

    inner = Sequential([Dense(4, "tanh"), BatchNormalization(), Dense(2)])
    layer = Sequential([TimeDistributed(inner), GlobalAveragePooling1D()])
    mask = np.array([[1, 1, 0, 1], [1, 0, 0, 0]], bool)
    x = Masked(jnp.asarray(STEPS), jnp.asarray(mask)) if masked else STEPS
    params, state = made(layer, x)
    state = jax.tree.map(lambda a: a + 0.3, state)
    y, _, (gradients, _) = run(layer, params, state, x)
    with keras_rules():
        k = keras.layers
        block = keras.Sequential(
            [k.Input((3,)), k.Dense(4, "tanh"), k.BatchNormalization(), k.Dense(2)]
        )
        source = k.Input((4, 3))
        given = k.Input((4,), dtype="bool")
        distributed = k.TimeDistributed(block)(source)
        mean = k.GlobalAveragePooling1D()(distributed, mask=given if masked else None)
        model = keras.Model([source, given], mean)
        twin(model, layer, params, state)
        trained, moved = (
            [v.value for v in group]
            for group in (model.trainable_variables, model.non_trainable_variables)
        )

        def loss(trained):
            out = model.stateless_call(trained, moved, [jnp.asarray(STEPS), jnp.asarray(mask)])[0]
            return (out**2).sum(), out

        (_, expected), theirs = jit(jax.value_and_grad(loss, has_aux=True))(trained)
    close(y, expected)
    order = [path for part, path in weights.in_order(layer, params, state) if part == "params"]
    close([tree.get(gradients, path) for path in order], theirs)


def test_statistics_over_time_leave_padding_out(key):
    layer = TimeDistributed(BatchNormalization(momentum=0.0))
    mask = np.array([[1, 1, 0, 1], [1, 0, 0, 0]], bool)
    rows = np.array([True, False])
    params, state = made(layer, STEPS)
    given = [
        (np.ones((2, 4), bool), STEPS, train(key)),
        (mask, Masked(STEPS, mask), train(key)),
        (mask & rows[:, None], Masked(STEPS, mask), train(key, rows=rows)),
        (mask, STEPS, train(key, mask=mask)),
    ]
    every = jit(lambda: [call(layer, params, state, x, ctx)[1] for _, x, ctx in given])
    for (real, *_), after in zip(given, every(), strict=True):
        close(after["moving_mean"], STEPS[real].mean(0))
        close(after["moving_variance"], STEPS[real].var(0))


def test_each_step_has_its_own_dropout(key):
    x = np.ones((1, 8, 32), "float32")
    y, _ = call(TimeDistributed(Dropout(0.5)), {}, {}, x, train(key))
    assert len({tuple(step) for step in np.asarray(y[0]).tolist()}) == 8


@pytest.mark.slow
def test_steps_may_have_masks_of_their_own():
    """Words in sentences in texts: each sentence as if it were alone."""
    words = np.array([[[1, 2, 0], [3, 0, 0]], [[4, 0, 0], [0, 0, 0]]], "int32")
    texts = Sequential(
        [
            *(TimeDistributed(Embedding(6, 4, mask_zero=True)), TimeDistributed(Dense(4, "tanh"))),
            *(TimeDistributed(LSTM(3, unroll=True)), LSTM(2, unroll=True)),
        ]
    )
    params, state = made(texts, words)
    first, dense_layer, inner, outer = params
    sentence = Sequential(
        [Embedding(6, 4, name=first), Dense(4, "tanh", name=dense_layer), LSTM(3, name=inner)]
    )
    real = words[0, 0][None, :2], words[0, 1][None, :1], words[1, 0][None, :1]
    sentences = [(sentence, params, state, one) for one in real]
    y, *read = outputs_of((texts, params, state, words), *sentences)
    read = [np.stack(read[:2], 1), np.stack(read[2:], 1)]
    expected = outputs_of(*[(LSTM(2), params[outer], {}, text) for text in read])
    close(y, np.concatenate(expected))


@pytest.mark.slow
def test_an_ensemble_is_its_members_one_by_one(key):
    layer = Ensemble(MIXED, 3)
    params, state = jit(layer.init)(key, X)
    kernels = np.asarray(params["dense"]["kernel"])
    assert not np.array_equal(kernels[0], kernels[1])
    ctx = train(jax.random.key(1))

    @functools.partial(jax.grad, has_aux=True)
    def member(params, i):
        y, after = call(MIXED, params, copy_of(state, i), X, ctx.repeat(i))
        return (y**2).sum(), (y, after)

    y, after, (gradients, _) = run(layer, params, state, X, ctx)
    alone = jit(lambda params: [member(copy_of(params, i), i) for i in range(3)])(params)
    for i, (gradient, (one, moved)) in enumerate(alone):
        close((y[:, i], copy_of((after, gradients), i)), (one, (moved, gradient)))


@pytest.mark.slow
def test_an_ensemble_of_a_graph_in_a_sequence(key):
    start = Input((3,))
    left = Dense(4, "tanh")(start)
    graph = connect(start, Add()((Dense(2)(left), Dense(2)(start))))
    layer = Sequential([Dense(3), Ensemble(graph, 2)])
    params, state = made(layer, X)
    h = linear(params["dense"], X)
    members = [(graph, copy_of(params["ensemble"], i), state["ensemble"], h) for i in range(2)]
    y, *expected = outputs_of((layer, params, state, X), *members)
    close(y, np.stack(expected, 1))


@pytest.mark.slow
@pytest.mark.parametrize("masked", [False, True])
def test_the_spread_is_mean_and_deviation_over_members(masked):
    layer = Spread(Ensemble(Parallel([Dense(2, "tanh"), Dense(3)]), 4))
    mask = np.asarray([[1, 1, 0, 1], [1, 0, 0, 0]], bool)
    x = Masked(STEPS, mask) if masked else STEPS
    params, state = made(layer, x)
    members = [(layer.inner.inner, *copy_of((params, state), i), STEPS) for i in range(4)]
    (mean, deviation), *each = outputs_of((layer, params, state, x), *members)
    for output in range(2):
        values = [a.values if masked else a for a in (mean[output], deviation[output])]
        close(values[0], np.mean([y[output] for y in each], 0))
        close(values[1], np.std([y[output] for y in each], 0))
        if masked:
            np.testing.assert_array_equal(mean[output].mask, mask)
            np.testing.assert_array_equal(deviation[output].mask, mask)


@pytest.mark.slow
def test_where_all_members_agree_the_spread_is_zero_and_so_is_its_gradient():
    layer = Spread(Ensemble(Dense(2, "relu", bias_initializer="zeros"), 3))
    params = jax.tree.map(lambda a: -jnp.ones(a.shape), weight_spec(layer, X)[0])
    loss = lambda params: call(layer, params, {}, np.abs(X), INFERENCE)[0][1].sum()
    value, gradients = jit(jax.value_and_grad(loss))(params)
    assert value == 0
    assert not any((g != 0).any() for g in jax.tree.leaves(gradients))
    mean, deviation = layer(Input((3,)))
    assert mean.shape == deviation.shape == (None, 2)
    with pytest.raises(
        TypeError, match=r"Spread: expected inner to be an Ensemble, received inner=Dense"
    ):
        Spread(Dense(2))


# -- masks through all of them -------------------------------------------------------------------

CARRIERS = {
    "sequential": Sequential([Dense(4, "tanh"), Sequential([])]),
    "parallel": Parallel([Dense(4), Dense(4, "tanh")], merge=Add()),
    "residual": Residual(Dense(4, "tanh")),
    "remat": Remat(Dense(4, "tanh")),
    "inference": Inference(Dense(4, "tanh")),
    "frozen": Frozen(Dense(4, "tanh")),
    "repeat": Repeat(Residual(Dense(4, "tanh")), 2),
    "time distributed": TimeDistributed(Dense(4, "tanh")),
    "repeated lstm": Repeat(LSTM(4, return_sequences=True), 2),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CARRIERS)
def test_a_mask_passes_through(name):
    """Padding of any length after the real steps leaves every result as it is without padding."""
    layer = Sequential([Embedding(6, 4, mask_zero=True), CARRIERS[name], GlobalAveragePooling1D()])
    params, state = made(layer, IDS)
    alone = Sequential([Embedding(6, 4), *layer.layers[1:]])
    real = IDS[:1, :3], IDS[1:2, :1]
    shorter = [(alone, params, state, ids) for ids in real]
    y, *expected = outputs_of((layer, params, state, IDS), *shorter)
    close(y[:2], np.concatenate(expected))


@pytest.mark.slow
def test_masks_through_an_ensemble_reach_each_member():
    layer = Sequential([Embedding(6, 4, mask_zero=True), Ensemble(LSTM(3), 2)])
    params, state = made(layer, IDS)
    one = Sequential([Embedding(6, 4, mask_zero=True), LSTM(3, name="ensemble")])
    members = [{**params, "ensemble": copy_of(params["ensemble"], i)} for i in range(2)]
    each = [(one, member, state, IDS) for member in members]
    y, *expected = outputs_of((layer, params, state, IDS), *each)
    close(y, np.stack(expected, 1))


@pytest.mark.slow
def test_masks_are_those_of_keras():
    import keras

    with keras_rules():
        start = keras.layers.Input((4,), dtype="int32")
        k = keras.layers
        embedded = k.Embedding(6, 4, mask_zero=True)(start)
        hidden = k.Dense(4, "tanh")(embedded)
        out = k.LSTM(3)(k.Add()([embedded, hidden]))
        model = keras.Model(start, out)
    layer = Sequential([Embedding(6, 4, mask_zero=True), Residual(Dense(4, "tanh")), LSTM(3)])
    params, state = made(layer, IDS)
    with keras_rules():
        twin(model, layer, params, state)
        weights_of = [v.value for v in model.trainable_variables]
        others = [v.value for v in model.non_trainable_variables]
        expected = jit(lambda w, x: model.stateless_call(w, others, x)[0])(weights_of, IDS)
    close(forward(layer, params, state, IDS), expected)


# -- siblings, configuration, transforms ---------------------------------------------------------


@pytest.mark.parametrize("cls", [Sequential, Parallel])
def test_a_further_layer_changes_nothing_for_its_siblings(cls, key):
    wide = np.ones((1, 3), "float32")
    few = cls([Dense(3, name="a"), Dropout(0.5)])
    many = cls([Dense(3, name="a"), Residual(Dense(3)), Dropout(0.5), Dense(3, name="b")])
    first, second = few.init(key, wide)[0], many.init(key, wide)[0]
    jax.tree.map(np.testing.assert_array_equal, first["a"], second["a"])
    assert not np.array_equal(second["a"]["kernel"], second["b"]["kernel"])

    x = np.ones((1, 64), "float32")
    few, many = Parallel([Dropout(0.5)]), Parallel([Dropout(0.5), Dropout(0.5)])
    (alone,), _ = call(few, *few.init(key, x), x, train(key))
    (same, other), _ = call(many, *many.init(key, x), x, train(key))
    np.testing.assert_array_equal(alone, same)
    assert not np.array_equal(same, other)


class Shared(fnn.core.combining.Flow):
    """One layer twice in a row."""

    inner: fnn.Layer

    def children(self):
        return (("inner", self.inner),)

    def flow(self, x, visit):
        return visit("inner", self.inner, visit("inner", self.inner, x))


@pytest.mark.slow
def test_two_uses_of_one_layer_drop_differently_and_both_penalties_count(key):
    x = np.ones((1, 256), "float32")
    y, _ = call(Shared(Dropout(0.5)), *initialize(Shared(Dropout(0.5)), key, x), x, train(key))
    assert 0.15 < float((np.asarray(y) > 0).mean()) < 0.35  # one draw twice would keep one half
    penalized = Shared(Sequential([Dense(3, "tanh"), ActivityRegularization(l1=0.1)]))
    params, state = made(penalized, X)
    _, after = call(penalized, params, state, X, INFERENCE)
    once = dense(params["inner"]["dense"], X)
    twice = dense(params["inner"]["dense"], once)
    expected = 0.1 * (np.abs(once).sum() + np.abs(twice).sum()) / len(X)
    close(weights.auxiliary(after), expected)
    _, again = call(penalized, params, after, X, INFERENCE)  # a step later it is not carried on
    close(weights.auxiliary(again), expected)


NETWORK = Sequential(
    [
        Dense(4, "tanh"),
        Repeat(Residual(Sequential([Dense(4, "tanh"), Remat(Dense(4))])), 2),
        Parallel([Frozen(Dense(2)), Inference(BatchNormalization())], merge=Concatenate()),
        BatchNormalization(),
        Ensemble(Dense(2, "tanh"), 3),
    ]
)


def test_nested_combinators_round_trip_through_json():
    back = from_config(json.loads(json.dumps(to_config(NETWORK))))
    assert back == NETWORK
    assert hash(back) == hash(NETWORK)
    assert eval(repr(back), dict(vars(fnn.layers))) == NETWORK


@pytest.fixture(scope="module")
def network():
    params, state = made(NETWORK, X)
    plain = jax.jit(lambda params, x: NETWORK.apply(params, state, x)[0])
    return plain, params, np.asarray(plain(params, X))


@pytest.mark.slow
def test_its_shape_is_known_before_it_runs(network):
    plain, params, y = network
    assert jax.eval_shape(plain, params, X).shape == y.shape == (4, 3, 2)
    assert output_spec(NETWORK, X).shape == y.shape


@pytest.mark.slow
def test_vmap_over_data_and_over_weights(network):
    plain, params, y = network
    half = jax.tree.map(lambda a: np.float32(0.5) * np.asarray(a), params)
    several = jax.tree.map(lambda *pair: np.stack(pair), params, half)

    @jax.jit
    def mapped(params, several):
        one_by_one = jax.vmap(lambda x: plain(params, x[None])[0])(X)
        return one_by_one, jax.vmap(plain, (0, None))(several, X)

    one_by_one, both = mapped(params, several)
    close(one_by_one, y)
    close(both[0], y)
    close(both[1], plain(half, X))


@pytest.mark.slow
def test_forward_and_reverse_derivatives_agree_with_differences(network):
    plain, params, _ = network
    draw = np.random.default_rng(5).normal
    learns, fixed = weights.split(NETWORK, params)
    direction = jax.tree.map(lambda a: jax.device_put((draw(size=a.shape)).astype(a.dtype)), learns)
    loss = lambda learns: (plain(weights.merge(params, learns, fixed), X) ** 2).sum()

    @jax.jit
    def all_of(learns, direction):
        _, forward = jax.jvp(loss, (learns,), (direction,))
        moved = lambda e: loss(jax.tree.map(lambda p, d: p + e * d, learns, direction))
        return forward, jax.grad(loss)(learns), moved(5e-3), moved(-5e-3)

    forward, gradient, ahead, behind = all_of(learns, direction)
    products = jax.tree.map(lambda g, d: np.sum(np.asarray(g) * d), gradient, direction)
    close(sum(jax.tree.leaves(products)), float(forward))
    difference = (float(ahead) - float(behind)) / 1e-2
    np.testing.assert_allclose(difference, float(forward), rtol=2e-2)  # of differences in float32


@pytest.mark.slow
def test_scan_over_time_and_checkpoint(network):
    plain, params, y = network
    steps = np.stack([X, X + 1])
    loss = lambda f: lambda p: (f(p, X) ** 2).sum()

    @jax.jit
    def all_of(params, steps):
        _, scanned = jax.lax.scan(lambda c, x: (c, plain(params, x)), 0, steps)
        return scanned, [jax.grad(loss(f))(params) for f in (jax.checkpoint(plain), plain)]

    scanned, gradients = all_of(params, steps)
    close(scanned[0], y)
    close(scanned[1], plain(params, X + 1))
    close(*gradients)


@pytest.mark.parametrize(
    ("cls", "layer"),
    [
        (TimeDistributed, Dense(3)),
        (Bidirectional, LSTM(3)),
        (SpectralNormalization, Dense(3)),
    ],
)
def test_inner_may_be_given_by_the_name_it_has_in_keras(cls, layer):
    given = cls(layer=layer)
    assert given == cls(layer) == cls(inner=layer) == from_config(to_config(given))
    with pytest.raises(TypeError, match="inner"):
        cls(layer, layer=layer)


@pytest.mark.parametrize("wrapper", [Frozen, Remat, Inference])
def test_a_wrapper_that_changes_no_numbers_shows_the_ensemble(wrapper):
    assert wrapper(Ensemble(Dense(3), 4)).ensemble_size == 4


def test_an_empty_state_is_whole_where_nothing_moves(key):
    x = jnp.ones((2, 3))
    net = Sequential([Dense(4), Residual(Sequential([Dense(4)])), Dropout(0.5)])
    params, state = net.init(key, x)
    outputs, after = net.apply(params, {}, x)
    np.testing.assert_array_equal(outputs, net.apply(params, state, x)[0])
    assert after == {}
    moving = Sequential([Dense(4), BatchNormalization()])
    params, _ = moving.init(key, x)
    with pytest.raises(KeyError, match="moving_mean") as caught:
        moving.apply(params, {}, x)
    assert "in layer batch_normalization: " in caught.value.__notes__[-1]


@fnn.register
class ResidualBlock(fnn.layers.Composite):
    units: int

    def parts(self):
        return {"hidden": Dense(2 * self.units, "relu"), "output": Dense(self.units)}

    def wire(self, x, hidden, output):
        return x + output(hidden(x))


@fnn.register
class Twice(fnn.layers.Composite):
    def parts(self):
        return {"dense": Dense(4), "drop": fnn.layers.Dropout(0.5)}

    def wire(self, x, dense, drop):
        return 2 * drop(dense(drop(dense(x)))) - x / 4


@pytest.mark.slow
def test_a_layer_made_of_layers_computes_what_its_wiring_says(key):
    block, x = (
        ResidualBlock(4),
        np.random.default_rng(0).normal(size=(3, 4)).astype("float32"),
    )
    params, state = block.init(key, x)
    hidden, output = params["hidden"], params["output"]
    expected = np.maximum(np.asarray(x) @ hidden["kernel"], 0) @ np.asarray(output["kernel"])
    np.testing.assert_allclose(block.apply(params, state, x)[0], x + expected, rtol=1e-5, atol=1e-6)
    assert {name: tuple(leaf) for name, leaf in params.items()} == {
        "hidden": ("kernel", "bias"),
        "output": ("kernel", "bias"),
    }
    same = Residual(Sequential([Dense(8, "relu", name="hidden"), Dense(4, name="output")]))
    np.testing.assert_allclose(
        same.apply(params, state, x)[0], block.apply(params, state, x)[0], rtol=1e-6
    )
    assert output_spec(block, x).shape == (3, 4)
    np.testing.assert_allclose(
        jax.vmap(lambda row: block.apply(params, state, row)[0])(x),
        block.apply(params, state, x)[0],
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "layer", [pytest.param(ResidualBlock(4), marks=pytest.mark.thorough), Twice()], ids=str
)
def test_a_layer_made_of_layers_keeps_every_promise(layer):
    fnn.testing.check_layer(layer, np.random.default_rng(0).normal(size=(6, 5, 4)))


@pytest.mark.slow
def test_a_mask_goes_through_the_operators_of_a_wiring(key):
    x, mask = jnp.ones((2, 3, 4)), jnp.array([[True, True, False], [True, False, False]])
    params, state = ResidualBlock(4).init(key, x)
    y, _ = ResidualBlock(4).apply(params, state, x, Context(mask=mask))
    assert y.mask.tolist() == mask.tolist()
    plain, _ = ResidualBlock(4).apply(params, state, x)
    np.testing.assert_array_equal(y.values, plain)
    both = Masked(x, mask) * Masked(x, ~mask | mask) - 1 / -Masked(x, mask)
    assert both.mask.tolist() == mask.tolist()
    assert float(both.values.max()) == 2


@pytest.mark.slow
def test_a_part_that_is_called_twice_has_one_set_of_weights_and_its_own_dropout(key):
    x = jnp.ones((2, 4))
    params, state = Twice().init(key, x)
    assert list(params) == ["dense"] or params["drop"] == {}
    one, _ = Twice().apply(params, state, x, Context(train=True, key=key))
    assert len(np.unique(np.asarray(one).round(5))) > 2


@pytest.mark.slow
def test_a_model_of_a_layer_made_of_layers_trains_and_is_saved(tmp_path):
    model = fnn.Sequential([ResidualBlock(4, input_shape=(4,)), Dense(1)], seed=0)
    model.compile("adam", "mse")
    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    losses = model.fit(x, x[:, :1], epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    model.save(tmp_path / "m.fnn")
    np.testing.assert_array_equal(
        fnn.load(tmp_path / "m.fnn").predict(x, verbose=0), model.predict(x, verbose=0)
    )
    shown = []
    model.summary(print_fn=shown.append)
    assert "residual_block" in "".join(shown)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "has no method parts"),
        ({"parts": lambda self: {"a": Dense(2)}}, r"has no method wire, .*\(a\)"),
        ({"parts": lambda self: {"a": 3}}, "expected a layer as part 'a', received 3"),
    ],
)
def test_a_layer_made_of_layers_that_is_not_whole_says_what_is_missing(body, message, key):
    layer = type("Unfinished", (fnn.layers.Composite,), body)()
    with pytest.raises(TypeError, match=message):
        layer.init(key, jnp.ones((2, 4)))


@pytest.mark.slow
def test_the_dtype_of_a_layer_made_of_layers_is_that_of_its_parts(key):
    block, x = ResidualBlock(4, dtype="bfloat16"), jnp.ones((2, 4))
    params, state = block.init(key, x)
    assert params["hidden"]["kernel"].dtype == "float32"
    apply = lambda params: [one.apply(params, state, x)[0] for one in (block, ResidualBlock(4))]
    half, plain = jit(apply)(params)
    assert half.dtype == "bfloat16"
    np.testing.assert_allclose(half, plain, rtol=0.05, atol=0.05)
