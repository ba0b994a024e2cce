"""Recurrent layers against Keras and plain loops: masks, states, cells, both directions."""

import dataclasses
import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

import fnn
from fnn import layers as L
from fnn.core import tree
from fnn.core.calling import call, initialize, output_spec, weight_spec
from fnn.core.context import INFERENCE, Context, Masked, attach_mask, split_mask, strip_masks
from fnn.core.layer import Layer
from fnn.layers.shared import recurrence
from tests.helpers.catalogue import jit
from tests.helpers.drawn import examples
from tests.helpers.oracle import keras_rules, random_weights_unset

KEY = jax.random.key(0)
TRAINING = Context(train=True, key=jax.random.key(3))


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def weights(layer, x, seed=0):
    """Random weights of `layer`, and its fresh state."""
    params, state = weight_spec(layer, x)
    state = initialize(layer, KEY, x)[1] if jax.tree.leaves(state) else state
    drawn = jax.tree.map(lambda a: 0.5 * random(*a.shape, seed=seed + a.size), params)
    return tree.same_order(drawn, params), state


@functools.partial(jit, static_argnums=0)
def run(layer, params, x, state=None, ctx=INFERENCE):
    """(outputs, state), by default of a layer without a state."""
    return call(layer, params, {} if state is None else state, x, ctx)


def run_all(*calls):
    """What `run` returns for each (layer, params, inputs, state, context), in one program."""
    layers = [layer for layer, *_ in calls]
    each = lambda given: [
        call(n, p, s, x, c) for n, (p, x, s, c) in zip(layers, given, strict=True)
    ]
    return jit(each)([tuple(given) for _, *given in calls])


def assert_close(received, expected, tolerance=1e-5, shown=""):
    received, expected = jax.tree.leaves(received), jax.tree.leaves(expected)
    for a, b in zip(received, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, err_msg=str(shown))


# -- a loop in NumPy over the real steps of one row at a time -------------------------------------


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def lstm_step(p, x, states):
    h, c = states
    i, f, g, o = np.split(x @ p["kernel"] + h @ p["recurrent_kernel"] + p["bias"], 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def gru_step(p, x, states):
    (h,) = states
    if p["bias"].ndim == 1:  # reset_after=False: the state is reset before its product
        kernels = np.split(p["recurrent_kernel"], 3, -1)
        zx, rx, nx = np.split(x @ p["kernel"] + p["bias"], 3)
        z, r = sigmoid(zx + h @ kernels[0]), sigmoid(rx + h @ kernels[1])
        return (z * h + (1 - z) * np.tanh(nx + (r * h) @ kernels[2]),)
    zx, rx, nx = np.split(x @ p["kernel"] + p["bias"][0], 3)
    zh, rh, nh = np.split(h @ p["recurrent_kernel"] + p["bias"][1], 3)
    z = sigmoid(zx + zh)
    return (z * h + (1 - z) * np.tanh(nx + sigmoid(rx + rh) * nh),)


def simple_step(p, x, states):
    return (np.tanh(x @ p["kernel"] + states[0] @ p["recurrent_kernel"] + p["bias"]),)


STEPS = {L.LSTM: (lstm_step, 2), L.GRU: (gru_step, 1), L.SimpleRNN: (simple_step, 1)}


def loop(layer, params, x, mask, initial):
    """(outputs at all steps, the last output and states) as the fields of `layer` say."""
    step, count = STEPS[type(layer)]
    batch, time, _ = x.shape
    outputs = np.zeros((batch, time, layer.units), "float32")
    last = [np.zeros((batch, layer.units), "float32") for _ in range(count)]
    order = range(time)[:: -1 if layer.go_backwards else 1]
    for row in range(batch):
        states = tuple(s[row] for s in initial) or (np.zeros(layer.units),) * count
        for place, t in enumerate(order):
            real = mask is None or mask[row, t]
            states = step(params, x[row, t], states) if real else states
            hidden = not real and layer.zero_output_for_mask
            outputs[row, place] = 0 if hidden else states[0]
        for kept, state in zip(last, states, strict=True):
            kept[row] = state
    return outputs, last


def masks(batch, time):
    """None, any mask, one padded at either end, one with nothing real."""
    lengths = st.lists(st.integers(0, time), min_size=batch, max_size=batch)
    after = lengths.map(lambda n: np.arange(time) < np.array(n)[:, None])
    free = st.lists(st.booleans(), min_size=batch * time, max_size=batch * time)
    free = free.map(lambda bits: np.array(bits, bool).reshape(batch, time))
    return st.none() | after | after.map(lambda m: m[:, ::-1]) | free


@st.composite
def sequences(draw):
    """(inputs, mask or None): few shapes, so that little is compiled."""
    batch, time = draw(st.sampled_from([(1, 1), (3, 4)]))
    return random(batch, time, 2, seed=draw(st.integers(0, 99))), draw(masks(batch, time))


flags = st.fixed_dictionaries(
    dict.fromkeys(
        ("return_sequences", "return_state", "go_backwards", "zero_output_for_mask"), st.booleans()
    )
)


def test_inputs_and_states_are_dropped_apart():
    layer, x = L.SimpleRNN(3, dropout=0.5, recurrent_dropout=0.5), random(20, 3)
    scales = layer.dropout_scales(x, (x,), TRAINING)
    assert (scales.inputs != scales.recurrent).any()


@pytest.mark.parametrize("unit_forget_bias", [True, False])
def test_a_fresh_bias_inside_of_jit_is_that_outside(unit_forget_bias):
    """1 for the gate that forgets: written by NumPy where the bias has values, by JAX elsewhere."""
    layer = L.LSTM(2, unit_forget_bias=unit_forget_bias)
    fresh = lambda key: layer.init_bias(key, 8)
    expected = [0, 0, unit_forget_bias, unit_forget_bias, 0, 0, 0, 0]
    np.testing.assert_array_equal(fresh(KEY), expected)
    np.testing.assert_array_equal(jax.jit(fresh)(KEY), expected)


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=[pytest.mark.slow] * (kind is not L.LSTM)) for kind in STEPS],
    ids=lambda kind: kind.__name__,
)
def test_layers_equal_a_loop_over_the_real_steps(kind):
    calls, expected = [], []
    drawn = st.tuples(sequences(), flags, st.booleans(), st.booleans())
    for (x, mask), named, from_states, reset_after in examples(drawn, 10):
        layer = kind(3, **named)
        layer = layer.replace(reset_after=reset_after) if kind is L.GRU else layer
        initial = [random(len(x), 3, seed=9 + i) for i in range(STEPS[kind][1] * from_states)]
        params, _ = weights(layer, (x, *initial))
        given = attach_mask(jnp.asarray(x), mask)
        calls.append((layer, params, (given, *initial) if initial else given, {}, INFERENCE))
        outputs, last = loop(layer, params, x, mask, initial)
        y = outputs if layer.return_sequences else last[0]
        expected.append((y, *last) if layer.return_state else y)
    for (y, _), wanted, (layer, *_) in zip(run_all(*calls), expected, calls, strict=True):
        assert_close(strip_masks(y), wanted, shown=layer)


MERGES = {
    "concat": lambda a, b: np.concatenate([a, b], -1),
    "sum": np.add,
    "mul": np.multiply,
    "ave": lambda a, b: (a + b) / 2,
    None: lambda a, b: (a, b),
}


@pytest.mark.slow
def test_bidirectional_equals_two_loops():
    """The backward one skips masked steps too, and its outputs stand at the steps they are of."""
    calls, expected = [], []
    merges, kinds = st.sampled_from([*MERGES]), st.sampled_from([*STEPS])
    rows = examples(st.tuples(sequences(), merges, kinds, flags), 10)
    for (x, mask), merge_mode, kind, named in rows:
        inner = kind(3, **{**named, "go_backwards": False})
        layer = L.Bidirectional(inner, merge_mode)
        params, state = weights(layer, x)
        calls.append((layer, params, attach_mask(jnp.asarray(x), mask), state, INFERENCE))
        found = []
        for (name, child), turn in zip(layer.children(), (1, -1), strict=True):
            outputs, last = loop(child, params[name], x, mask, ())
            found.append((outputs[:, ::turn] if inner.return_sequences else last[0], last))
        (ahead, first), (back, second) = found
        merged = MERGES[merge_mode](ahead, back)
        expected.append((merged, first, second) if inner.return_state else merged)
    for row, made, wanted, (y, _) in zip(rows, calls, expected, run_all(*calls), strict=True):
        (_, mask), layer = row[0], made[0]
        inner = layer.inner
        assert_close(strip_masks(y), wanted, shown=layer)
        kept = mask is not None and inner.return_sequences and not inner.return_state
        if kept and layer.merge_mode:
            np.testing.assert_array_equal(split_mask(y)[1], mask)


@pytest.mark.slow
def test_bidirectional_equals_keras():
    import keras

    calls, twins = [], []
    merges, kinds = st.sampled_from([*MERGES]), st.sampled_from(["LSTM", "GRU"])
    for (x, mask), merge_mode, kind, named in examples(
        st.tuples(sequences(), merges, kinds, flags), 4
    ):
        named = {**named, "go_backwards": False}
        layer = L.Bidirectional(getattr(L, kind)(3, **named), merge_mode)
        count = 2 * STEPS[getattr(L, kind)][1]
        initial = [random(len(x), 3, seed=9 + i) for i in range(count)]
        params, state = weights(layer, (x, *initial))
        masked = attach_mask(jnp.asarray(x), mask)
        calls.append((layer, params, (masked, *initial), state, INFERENCE))
        with keras_rules(), random_weights_unset():
            inner = getattr(keras.layers, kind)(3, **named)
            twin = keras.layers.Bidirectional(inner, merge_mode)
            twin.build(x.shape)
        names = ("kernel", "recurrent_kernel", "bias")
        given = [params[child][n] for child, _ in layer.children() for n in names]
        twins.append((twin, given, x, initial, mask))

    def theirs(every):
        found = []
        for (twin, *_, mask), (given, x, initial) in zip(twins, every, strict=True):
            others = [v.value for v in twin.non_trainable_variables]
            named = {"initial_state": initial, "mask": mask}
            found.append(twin.stateless_call(given, others, x, **named)[0])
        return found

    with keras_rules():
        expected = jit(theirs)([(given, x, initial) for _, given, x, initial, _ in twins])
    for (y, _), wanted, (layer, *_) in zip(run_all(*calls), expected, calls, strict=True):
        assert_close(strip_masks(y), wanted, shown=layer)


# -- cells ---------------------------------------------------------------------------------------

PAIRS = [
    (L.LSTM(3, "relu", unit_forget_bias=False), L.LSTMCell(3, "relu", unit_forget_bias=False)),
    (L.LSTM(3, seed=2, dropout=0.4), L.LSTMCell(3, seed=2, dropout=0.4)),
    (L.GRU(3, reset_after=False), L.GRUCell(3, reset_after=False)),
    (L.GRU(3, recurrent_dropout=0.4), L.GRUCell(3, recurrent_dropout=0.4)),
    (L.SimpleRNN(3, use_bias=False), L.SimpleRNNCell(3, use_bias=False)),
]
EVERYTHING = {"return_sequences": True, "return_state": True}


@functools.cache
def both_made(layer, rnn, *shapes):
    x = Masked(spec(*shapes[0]), jax.ShapeDtypeStruct(shapes[0][:2], bool))
    given = (x, *(spec(*shape) for shape in shapes[1:]))
    return jit(lambda key: [initialize(one, key, given) for one in (layer, rnn)])(KEY)


# Without dropout a training step computes what inference does.
IN_BOTH = [pytest.param(*pair, INFERENCE, id=f"{pair[1]!r}-inference") for pair in PAIRS]
IN_BOTH += [
    pytest.param(*pair, TRAINING, id=f"{pair[1]!r}-training")
    for pair in PAIRS
    if pair[1].dropout or pair[1].recurrent_dropout
]


@pytest.mark.slow
@pytest.mark.parametrize(("layer", "cell", "ctx"), IN_BOTH)
def test_rnn_of_a_cell_is_the_layer_to_the_bit(layer, cell, ctx):
    flags = {"go_backwards": True, **EVERYTHING}
    layer, rnn = layer.replace(**flags), L.RNN(cell, **flags)
    x = Masked(random(3, 4, 2), np.arange(4) >= np.array([0, 2, 4])[:, None])
    states = [random(3, 3, seed=i + 1) for i in range(2 if isinstance(layer, L.LSTM) else 1)]
    made, again = both_made(layer, rnn, x.shape, *(s.shape for s in states))
    assert list(made[0]) == list(again[0])
    params, state = made
    assert_close(again, made, tolerance=0)
    starts = x, (x, *states)
    calls = [(one, params, start, state, ctx) for one in (rnn, layer) for start in starts]
    received = run_all(*calls)
    assert_close(received[:2], received[2:], 0)


@pytest.mark.slow
@pytest.mark.parametrize("cell", [pair[1] for pair in PAIRS], ids=repr)
def test_a_cell_called_step_by_step_is_rnn(cell):
    x, rnn = random(3, 4, 2), L.RNN(cell, **EVERYTHING)
    params, _ = weights(rnn, x)
    states, outputs = jax.tree.map(lambda n: jnp.zeros((3, n)), cell.state_size), []
    for t in range(4):
        (y, states), _ = run(cell, params, (x[:, t], states), ctx=TRAINING)
        outputs.append(y)
    received, _ = run(rnn, params, x, ctx=TRAINING)
    assert_close(received, (jnp.stack(outputs, 1), states))


@pytest.mark.slow
def test_stacked_cells_are_layers_one_above_the_other():
    """And a list of cells is `StackedRNNCells`."""
    x = Masked(random(3, 4, 2), np.arange(4) < np.array([4, 2, 3])[:, None])
    cells = [L.LSTMCell(3), L.GRUCell(4), L.LSTMCell(2)]
    stack = L.RNN(cells, **EVERYTHING)
    params, state = weights(stack, x)
    assert list(params) == ["lstm_cell", "gru_cell", "lstm_cell_1"]
    layers = [L.LSTM(3, **EVERYTHING), L.GRU(4, **EVERYTHING), L.LSTM(2, **EVERYTHING)]
    y, expected = x, []
    for name, layer in zip(params, layers, strict=True):
        (y, *states), _ = run(layer, params[name], y)
        expected += states
    received = run(stack, params, x, state)[0]
    assert_close(received, (y, *expected))
    assert [len(jax.tree.leaves(state)) for state in received[1:]] == [2, 1, 2]
    same = L.RNN(L.StackedRNNCells(cells), **EVERYTHING)
    assert_close(run(same, params, x, state)[0], received, 0)


class MinimalGated(Layer):
    """f = sigmoid(x @ forget + h), h = (1 - f) h + f tanh(x @ kernel); y = [h, f]."""

    units: int
    activity_regularizer: object = None

    @property
    def state_size(self):
        return self.units

    def init(self, key, x):
        x, _ = x
        shape = (x.shape[-1], self.units)
        return {"forget": jnp.ones(shape), "kernel": jnp.ones(shape)}, {"steps": jnp.zeros(())}

    def apply(self, params, state, x, ctx=INFERENCE):
        x, h = x
        f = jax.nn.sigmoid(x @ params["forget"] + h)
        h = (1 - f) * h + f * jnp.tanh(x @ params["kernel"])
        return (jnp.concatenate([h, f], -1), h), {**state, "steps": state["steps"] + 1}


def minimal_loop(params, x, mask=None, h=0.0):
    shown, outputs = np.zeros((len(x), 6)), []
    for t in range(x.shape[1]):
        f = sigmoid(x[:, t] @ params["forget"] + h)
        new = (1 - f) * h + f * np.tanh(x[:, t] @ params["kernel"])
        real = np.ones((len(x), 1), bool) if mask is None else mask[:, t, None]
        h = np.where(real, new, h)
        shown = np.where(real, np.concatenate([h, f], -1), shown)
        outputs.append(shown)
    return np.stack(outputs, 1), h


@pytest.mark.slow
@pytest.mark.parametrize("mask", [None, np.arange(5) % 3 > np.array([[0], [-1], [1]])], ids=str)
@pytest.mark.parametrize("unroll", [False, True])
def test_a_cell_of_the_users_equals_a_loop(mask, unroll):
    """Its outputs are not its state, and it has a state of its own, which moves with the steps."""
    x, rnn = random(3, 5, 2), L.RNN(MinimalGated(3), unroll=unroll, **EVERYTHING)
    params, state = weights(rnn, x)
    assert set(params) == {"forget", "kernel"}
    y, after = run(rnn, params, attach_mask(jnp.asarray(x), mask), state)
    assert_close(strip_masks(y), minimal_loop(params, x, mask))
    assert after["steps"] == 5
    last = rnn.replace(return_sequences=False)
    (shown, _), _ = run(last, params, attach_mask(jnp.asarray(x), mask), state)
    assert_close(shown, strip_masks(y)[0][:, -1])
    started, _ = run(rnn, params, (x, jnp.ones((3, 3))), state)
    assert_close(started, minimal_loop(params, x, h=np.ones((3, 3))))


def test_a_penalty_in_a_cell_adds_up_over_the_steps():
    x, rnn = random(3, 5, 2), L.RNN(MinimalGated(3, activity_regularizer="l1"), True)
    params, state = weights(rnn, x)
    outputs, _ = minimal_loop(params, x)
    states = [minimal_loop(params, x[:, : t + 1])[1] for t in range(5)]
    expected = 0.01 * (np.abs(outputs).sum() + np.abs(states).sum()) / 3
    for _ in range(2):  # the penalty of a call, whatever was before it
        _, state = run(rnn, params, x, state)
        np.testing.assert_allclose(state["aux_loss"], expected, rtol=1e-5)


class Blur(Layer):
    """Images as states, which start at one; Keras's name for that."""

    def get_initial_state(self, batch_size):
        return [jnp.ones((batch_size, 2, 2)), jnp.zeros((batch_size, 1))]

    def apply(self, params, state, x, ctx=INFERENCE):
        x, (image, count) = x
        image = (image + x) / 2
        return (image.sum(-1), [image, count + 1]), state


def test_a_cell_says_how_its_states_start():
    x = random(3, 4, 2, 2)
    y, image, count = run(L.RNN(Blur(), return_state=True), {}, x)[0]
    expected = np.ones((3, 2, 2))
    for t in range(4):
        expected = (expected + x[:, t]) / 2
    assert_close((y, image, count), (expected.sum(-1), expected, np.full((3, 1), 4.0)))


@pytest.mark.slow
def test_a_cell_in_a_model_learns():
    model = fnn.Sequential([L.Input((4, 2)), L.RNN(L.GRUCell(3)), L.Dense(1)])
    model.compile(fnn.optimizers.Adam(0.05), "mse")
    x = random(32, 4, 2)
    history = model.fit(x, x.sum((1, 2))[:, None], epochs=60, verbose=0).history["loss"]
    assert history[-1] < 0.5 * history[0]


# -- states --------------------------------------------------------------------------------------

STATEFUL = [
    (L.LSTM(3, stateful=True, return_sequences=True), (3, 6, 2)),
    (L.GRU(3, stateful=True, return_sequences=True), (3, 6, 2)),
    (L.SimpleRNN(3, stateful=True, return_sequences=True, unroll=True), (3, 6, 2)),
    (L.RNN([L.GRUCell(2), L.LSTMCell(3)], stateful=True, return_sequences=True), (3, 6, 2)),
    (L.ConvLSTM1D(2, 2, stateful=True, return_sequences=True), (3, 6, 3, 2)),
]
stateful = pytest.mark.parametrize(("layer", "shape"), STATEFUL, ids=repr)


@pytest.mark.slow
@stateful
def test_stateful_goes_on_where_the_last_call_ended(layer, shape):
    x = random(*shape)
    params, state = weights(layer, x)
    afresh = layer.replace(stateful=False)
    fresh = weights(afresh, x)[1]

    def all_of(params, x, state):
        first, between = call(layer, params, state, x[:, :4], TRAINING)
        second, last = call(layer, params, between, x[:, 4:], INFERENCE)
        alike = [call(one, params, s, x, INFERENCE) for one, s in ((layer, state), (afresh, fresh))]
        return alike, (jnp.concatenate([first, second], 1), last), between

    ((whole, after), (anew, _)), parts, between = jit(all_of)(params, x, state)
    assert_close(parts, (whole, after))
    assert not np.array_equal(between["rnn_state"], state["rnn_state"])
    assert_close(whole, anew, 0)


@pytest.mark.slow
def test_stateful_equals_keras():
    import keras

    layer, x = L.LSTM(3, stateful=True), random(3, 6, 2)
    params, state = weights(layer, x)
    with keras_rules():
        theirs = keras.layers.LSTM(3, stateful=True)
        theirs.build((3, 3, 2))
        theirs.set_weights(list(params.values()))
        for part in (x[:, :3], x[:, 3:]):
            y, state = run(layer, params, part, state)
            assert_close(y, theirs(part))
        assert_close(list(state.values()), [v.value for v in theirs.states])


@pytest.mark.slow
@stateful
def test_padded_rows_keep_their_state(layer, shape):
    x = random(*shape)
    params, state = weights(layer, x)
    _, state = run(layer, params, x, state)
    _, after = run(layer, params, x, state, Context(rows=jnp.array([True, False, True])))
    _, moved = run(layer, params, x, state)
    for kept, old, new in zip(*map(jax.tree.leaves, (after, state, moved)), strict=True):
        np.testing.assert_array_equal(kept[1], old[1])
        np.testing.assert_array_equal(kept[::2], new[::2])


@pytest.mark.slow
def test_initial_states_win_over_kept_ones():
    layer, x, h = L.GRU(3, stateful=True), random(3, 4, 2), random(3, 3, seed=1)
    params, state = weights(layer, x)
    _, later = run(layer, params, x, state)
    assert_close(run(layer, params, (x, h), later), run(layer, params, (x, h), state), 0)
    y, after = run(layer, params, (x, h), later)
    assert_close(after["rnn_state"], y, 0)


@pytest.mark.slow
def test_stateful_in_both_directions():
    layer, x = L.Bidirectional(L.LSTM(3, stateful=True)), random(3, 4, 2)
    params, state = weights(layer, x)
    y, state = run(layer, params, x, state)
    last = [state[name].pop("rnn_state") for name in ("forward_lstm", "backward_lstm")]
    assert_close(jnp.concatenate(last, -1), y)
    assert [*state["forward_lstm"], *state["backward_lstm"]] == ["rnn_state_1"] * 2


def test_a_batch_of_another_size_than_that_of_the_states():
    layer = L.LSTM(3, stateful=True)
    params, state = weights(layer, random(3, 4, 2))
    with pytest.raises(ValueError, match="expected a batch of 3") as error:
        run(layer, params, random(5, 4, 2), state)
    assert "received 5 in shape (5, 4, 2); use Input(batch_shape=(5, ...))" in str(error.value)


@pytest.mark.slow
def test_states_are_inputs_of_a_graph():
    x, h, c = L.Input((4, 2)), L.Input((3,)), L.Input((3,))
    arrays = random(3, 4, 2), random(3, 3, seed=1), random(3, 3, seed=2)
    for layer in (L.LSTM(3), L.RNN(L.LSTMCell(3))):
        model = fnn.Model([x, h, c], layer(x, initial_state=[h, c]))
        (params,) = model.params.values()
        assert_close(model.predict(list(arrays), verbose=0), run(layer, params, arrays)[0])


# -- images as states ----------------------------------------------------------------------------


@pytest.mark.slow
def test_conv_lstm_of_one_pixel_is_lstm():
    x = Masked(random(3, 4, 2), np.arange(4) % 3 > np.array([[0], [-1], [1]]))
    lstm = L.LSTM(3, **EVERYTHING)
    params, _ = weights(lstm, x)
    image = lambda a: a[..., None, :]
    conv = {**params, **{n: image(params[n].T).T for n in ("kernel", "recurrent_kernel")}}
    conv = {n: w.reshape(-1, *w.shape[-2:]) if w.ndim == 3 else w for n, w in conv.items()}
    conv = {n: w.reshape(1, *params[n].shape) if n != "bias" else w for n, w in conv.items()}
    layer = L.ConvLSTM1D(3, 1, **EVERYTHING)
    y, _ = run(layer, conv, Masked(image(x.values), x.mask))
    assert_close(strip_masks(y), jax.tree.map(image, strip_masks(run(lstm, params, x)[0])))


# -- arguments and messages ----------------------------------------------------------------------

OWN = {"Bidirectional": {"layer": "inner"}, "RNN": {}, "StackedRNNCells": {}}


@pytest.mark.parametrize("name", OWN)
def test_arguments_are_those_of_keras(name):
    """Names, order and defaults; the layer inside is `inner` in all wrappers."""
    import keras

    theirs = inspect.signature(getattr(keras.layers, name).__init__).parameters
    theirs = {
        OWN[name].get(n, n): p.default
        for n, p in theirs.items()
        if n not in ("self", "weights") and p.kind is not p.VAR_KEYWORD
    }
    fields = [f for f in dataclasses.fields(getattr(L, name)) if not f.kw_only]
    missing = dataclasses.MISSING
    mine = {f.name: inspect.Parameter.empty if f.default is missing else f.default for f in fields}
    assert list(mine.items()) == list(theirs.items())


class NoState(Layer):
    pass


class Forgetful(Layer):
    state_size = 3
    result: int = 0

    def apply(self, params, state, x, ctx=INFERENCE):
        h = x[1]
        return [h, (h, [h, h]), (h, h[:, :2])][self.result], state


WRONG = [
    (lambda: L.LSTM(3, seed=-1), "seed=-1"),
    (lambda: L.GRUCell(0), "units=0"),
    (lambda: L.LSTMCell(3, dropout=2), "dropout=2"),
    (lambda: L.RNN(L.Dense), "a layer as cell"),
    (lambda: L.RNN(NoState()), "state_size"),
    (lambda: L.RNN([L.GRUCell(3), 4]), "a layer at position 1"),
    (lambda: L.RNN([L.GRUCell(3), L.Dense(2)]), "StackedRNNCells: expected a cell with state_size"),
    (lambda: L.StackedRNNCells([]), "cells=()"),
    (lambda: L.StackedRNNCells(L.GRUCell(3)), "list of layers"),
    (lambda: L.Bidirectional(L.LSTM), "a layer as inner"),
    (lambda: L.Bidirectional(L.Dense(3)), "e.g. Bidirectional(LSTM(4))"),
    (lambda: L.Bidirectional(L.LSTM(3), "max"), "merge_mode='max'"),
    (lambda: L.Bidirectional(L.LSTM(3), backward_layer=3), "a layer as backward_layer"),
    (
        lambda: L.Bidirectional(L.LSTM(3), backward_layer=L.LSTM(3)),
        "use backward_layer.replace(go_backwards=True)",
    ),
    (
        lambda: L.Bidirectional(L.GRU(3), backward_layer=L.GRU(3, return_state=True)),
        "return_state=False",
    ),
    (
        lambda: L.Bidirectional(
            L.LSTM(3, return_sequences=True), backward_layer=L.LSTM(3, go_backwards=True)
        ),
        "return_sequences=True",
    ),
    (lambda: L.ConvLSTM2D(3, (2, 2, 2)), "kernel_size=(2, 2, 2)"),
    (lambda: L.ConvLSTM1D(3, 2, padding="causal"), "padding='causal'"),
    (lambda: L.ConvLSTM1D(0, 2), "filters=0"),
]


@pytest.mark.parametrize(("make", "word"), WRONG)
def test_wrong_argument(make, word):
    with pytest.raises((ValueError, TypeError), match="expected") as error:
        make()
    assert word in str(error.value)
    assert "received" in str(error.value)


def spec(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


SEQUENCE, STATE = spec(5, 7, 2), spec(5, 3)
WRONG_INPUTS = [
    (L.LSTMCell(3), spec(5, 2), "states of shapes [(5, 3), (5, 3)], received []"),
    (L.GRUCell(3), (SEQUENCE, STATE), "(batch, features)"),
    (L.StackedRNNCells([L.GRUCell(3)]), (spec(5, 2), spec(5, 2)), "received [(5, 2)]"),
    (L.RNN(L.LSTMCell(3)), (SEQUENCE, STATE), "received [(5, 3)]"),
    (L.RNN(L.GRUCell(3)), spec(5, 7), "(batch, time, features, ...)"),
    (L.RNN(Forgetful()), SEQUENCE, "a pair (outputs, new states)"),
    (L.RNN(Forgetful(1)), SEQUENCE, "return e.g. (h, h) for one state"),
    (L.RNN(Forgetful(2)), SEQUENCE, "float32[5, 2]"),
    (L.Bidirectional(L.LSTM(3)), (SEQUENCE, STATE), "received shapes [(5, 7, 2), (5, 3)]"),
    (L.Bidirectional(L.LSTM(3)), (SEQUENCE, STATE, STATE), "received [(5, 3)]"),
    (
        L.Bidirectional(L.GRU(3), "sum", L.GRU(1, go_backwards=True)),
        SEQUENCE,
        "received (5, 3) and (5, 1)",
    ),
    (L.ConvLSTM2D(3, 2), spec(5, 7, 4, 2), "5 axes"),
    (L.ConvLSTM1D(3, 4), spec(5, 7, 3, 2), "at least (4,)"),
    (L.ConvLSTM1D(3, 2), (spec(5, 7, 3, 2), STATE), "[(5, 2, 3), (5, 2, 3)]"),
]


@pytest.mark.parametrize(("layer", "x", "word"), WRONG_INPUTS, ids=lambda v: str(v)[:60])
def test_wrong_input(layer, x, word):
    with pytest.raises(ValueError, match="expected") as error:
        output_spec(layer, x)
    assert word in str(error.value)


@pytest.mark.parametrize(
    ("layer", "x", "other"),
    [
        (L.GRUCell(3), (random(2, 4), random(2, 3)), (random(2, 5), random(2, 3))),
        (L.RNN(L.GRUCell(3)), random(2, 3, 4), random(2, 3, 5)),
        (
            L.ConvLSTM1D(3, 1, data_format="channels_first"),
            random(2, 3, 4, 6),
            random(2, 3, 5, 6),
        ),
    ],
    ids=lambda v: str(v)[:30],
)
def test_inputs_of_another_width_than_in_init(layer, x, other):
    params, _ = weights(layer, x)
    with pytest.raises(ValueError, match="expected inputs of 4 features, received 5"):
        run(layer, params, other)


AT_ONCE = [
    L.LSTM(3, return_sequences=True, dropout=0.3, recurrent_dropout=0.4),
    L.LSTM(3, "relu", use_bias=False, go_backwards=True, unroll=True),
    L.GRU(3, return_sequences=True, dropout=0.3, go_backwards=True),
    L.GRU(3, reset_after=False, return_state=True, recurrent_dropout=0.4),
    L.SimpleRNN(3, return_sequences=True, dropout=0.3),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layer", "masked"),
    [*((layer, True) for layer in AT_ONCE), (AT_ONCE[2], False)],
)
def test_one_product_for_all_steps_gives_what_one_a_step_gives(monkeypatch, layer, masked):
    draw = np.random.default_rng(0).normal
    x = draw(size=(4, 6, 5)).astype("float32")
    mask = np.ones((4, 6), bool)
    mask[0, -2:] = mask[1, 0] = mask[2, 3] = False
    params, state = weights(layer, x)
    params = jax.tree.map(lambda a: np.float32(0.5) * a, params)  # no differences of large sums
    ctx, clean = Context(train=True, key=jax.random.key(1)), x
    if masked:
        x, ctx = np.where(mask[..., None], x, np.float32(np.nan)), ctx.replace(mask=mask)

    def loss(params, x):
        y = strip_masks(layer.apply(params, state, x, ctx)[0])
        return sum((leaf**2).sum() for leaf in jax.tree.leaves(y)), y

    def products(jaxpr):
        """How many products a step takes, of those that are looped over."""
        loops = [e for e in jaxpr.eqns if e.primitive.name == "scan"]
        return sum(str(e.params["jaxpr"]).count("dot_general[") for e in loops)

    found, counts = [], []
    for at_once in (False, True):
        monkeypatch.setattr(recurrence, "all_steps_at_once", lambda at_once=at_once: at_once)

        def run(params, x, clean, at_once=at_once):  # a new function: JAX keeps what it traced
            each = jax.vmap(lambda x: layer.apply(params, state, x[None], Context())[0])
            alone = each(clean) if at_once and layer is AT_ONCE[0] else ()
            return jax.value_and_grad(loss, (0, 1), has_aux=True)(params, x), alone

        numbers, alone = jit(run)(params, x, clean)
        found.append(numbers)
        counts.append(products(jax.make_jaxpr(lambda params, x: loss(params, x)[1])(params, x)))
    assert counts[0] == counts[1] + 1
    for one, other in zip(*map(jax.tree.leaves, found), strict=True):
        assert np.isfinite(other).all()
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)
    if masked:
        np.testing.assert_array_equal(np.asarray(found[1][1][1])[~mask], 0)
    assert all(np.isfinite(y).all() for y in jax.tree.leaves(strip_masks(alone))[:1])
    output_spec(layer, jax.ShapeDtypeStruct((2, 7, 5), "float32"))


@pytest.mark.slow
def test_the_platform_decides_where_the_inputs_are_multiplied(monkeypatch):
    assert not recurrence.all_steps_at_once()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert recurrence.all_steps_at_once()
