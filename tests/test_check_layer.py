"""`fnn.testing.check_layer`: a good layer passes, and each mistake is named with its line."""

import itertools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import layers as L
from fnn.core.context import Masked
from fnn.testing import check_layer
from fnn.testing.promises import PROPERTIES

pytestmark = pytest.mark.slow

HERE = Path(__file__)
SEQUENCE = jnp.ones((4, 6, 3))


class Own(fnn.Layer):
    """What the broken layers have in common: they pass masks on."""

    masking = "pass"


@fnn.register
class Good(Own):
    """A weight, a state that moves by the real steps of real rows, noise in training."""

    scale_initializer: object = "ones"

    def init(self, key, x):
        return {"scale": self.weight("scale", key, (x.shape[-1],))}, {"mean": jnp.zeros(())}

    def apply(self, params, state, x, ctx=fnn.INFERENCE):
        scale = params["scale"].reshape((1,) * (x.ndim - 1) + params["scale"].shape)
        y = x * scale.astype(x.dtype)
        if not ctx.train:
            return y, state
        real = jnp.ones(x.shape, bool)
        for mask in (ctx.rows, ctx.mask):
            if mask is not None:
                real &= mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim))
        mean = jnp.where(real, x, 0).astype("float32").sum() / real.sum()
        noise = jax.random.normal(ctx.random_key("noise"), x.shape[1:2], x.dtype)
        return y + noise.reshape(1, -1, *(1,) * (x.ndim - 2)), {"mean": mean}


# Each breaks one promise, on the line that ends in `breaks`.


@fnn.register
class ComparedByIdentity(Own):
    def apply(self, params, state, x, ctx=fnn.INFERENCE):
        return 2 * x, state

    def __eq__(self, other):
        return self is other

    __hash__ = object.__hash__


class NotRegistered(Own):  # breaks
    def apply(self, params, state, x, ctx=fnn.INFERENCE):
        return 2 * x, state


@fnn.register
class HoldsAFunction(Own):
    function: object = None  # breaks

    def apply(self, params, state, x, ctx=fnn.INFERENCE):
        return self.function(x), state


@fnn.register
class NoiseInInference(Own):
    def apply(self, params, state, x, ctx=fnn.INFERENCE):
        return x + jax.random.normal(ctx.random_key(), x.shape[1:])[None], state  # breaks


@fnn.register
class WeightsByTheNumbers(Own):
    def init(self, key, x):  # breaks
        traced = isinstance(x, jax.core.Tracer)
        return {"scale": jnp.ones((x.shape[-1] if traced else 1,))}, {}

    def apply(self, params, state, x, ctx=fnn.INFERENCE):
        return x * params["scale"].mean().astype(x.dtype), state


@fnn.register
class SizeByTheNumbers(Own):
    def apply(self, params, state, x, ctx=fnn.INFERENCE):
        return 2.0 * x[:, : int(x.max()) + 9], state  # breaks


@fnn.register
class WritesIntoItsInputs(Own):
    def apply(self, params, state, x, ctx=fnn.INFERENCE):  # breaks
        y = x * 2
        if isinstance(x, np.ndarray):
            x *= 0
        return y, state


calls = itertools.count(1)


@fnn.register
class Counts(Own):
    def apply(self, params, state, x, ctx=fnn.INFERENCE):  # breaks
        return x + float(next(calls)) / 8, state


@fnn.register
class Draws(Own):
    def apply(self, params, state, x, ctx=fnn.INFERENCE):  # breaks
        return x * jnp.asarray(np.random.normal(size=x.shape[-1:]), x.dtype)[None, None], state


@fnn.register
class AsksWhetherItIsTraced(Own):
    def apply(self, params, state, x, ctx=fnn.INFERENCE):  # breaks
        return x * (2 if isinstance(x, jax.core.Tracer) else 3), state


@fnn.register
class ForgetsItsState(Own):
    def init(self, key, x):
        return {}, {"mean": jnp.zeros(()), "count": jnp.zeros(())}

    def apply(self, params, state, x, ctx=fnn.INFERENCE):  # breaks
        return 2 * x, {"count": state["count"] + 1} if ctx.train else state


@fnn.register
class InFloat32(Own):
    def apply(self, params, state, x, ctx=fnn.INFERENCE):  # breaks
        return x * np.float32(2), state


@fnn.register
class WeightsLikeTheInputs(Own):
    def init(self, key, x):  # breaks
        return {"scale": jnp.ones((1, 1, 1), x.dtype)}, {}

    def apply(self, params, state, x, ctx=fnn.INFERENCE):
        return x * params["scale"], state


@fnn.register
class OverflowsInBfloat16(Own):
    def apply(self, params, state, x, ctx=fnn.INFERENCE):  # breaks
        rounded = jnp.asarray(1.0001, x.dtype) - 1
        return x / (rounded if x.dtype == jnp.bfloat16 else 1), state


@fnn.register
class NanGradient(Own):
    def apply(self, params, state, x, ctx=fnn.INFERENCE):  # breaks
        return jnp.where(x > 0, jnp.sqrt(x), 0), state


@fnn.register
class NoGradient(Own):
    def apply(self, params, state, x, ctx=fnn.INFERENCE):  # breaks
        return jnp.round(x), state


@fnn.register
class CallsPython(Own):
    def init(self, key, x):
        return {"scale": jnp.ones(())}, {}

    def apply(self, params, state, x, ctx=fnn.INFERENCE):
        scale = jax.lax.stop_gradient(params["scale"])
        return x * jax.pure_callback(lambda a: a, scale, scale), state  # breaks


@fnn.register
class CentersTheBatch(Own):
    masking = "refuse"

    def apply(self, params, state, x, ctx=fnn.INFERENCE):  # breaks
        rows = jnp.ones(len(x), bool) if ctx.rows is None else ctx.rows
        real = jnp.where(rows[:, None, None], x, 0)
        return x - real.sum(0, keepdims=True) / rows.sum().astype(x.dtype), state


@fnn.register
class WeighsByPlace(Own):
    def apply(self, params, state, x, ctx=fnn.INFERENCE):  # breaks
        return x * jnp.arange(1, len(x) + 1, dtype=x.dtype)[:, None, None], state


@fnn.register
class TurnsTheBatch(Own):
    def apply(self, params, state, x, ctx=fnn.INFERENCE):  # breaks
        return x[::-1], state


@fnn.register
class CountsPaddedRows(Own):
    def apply(self, params, state, x, ctx=fnn.INFERENCE):  # breaks
        return x - x.mean(0, keepdims=True) if ctx.train else x, state


@fnn.register
class MixesSteps(Own):
    def apply(self, params, state, x, ctx=fnn.INFERENCE):  # breaks
        return x + x.mean(1, keepdims=True), state


@fnn.register
class DropsSteps(Own):
    def apply(self, params, state, x, ctx=fnn.INFERENCE):  # breaks
        return 2 * x[:, ::2], state


@fnn.register
class LooksAhead(Own):
    masking = "refuse"

    def apply(self, params, state, x, ctx=fnn.INFERENCE):  # breaks
        return jnp.cumsum(x[:, ::-1], axis=1)[:, ::-1], state


@fnn.register
class Shortens(Own):
    masking = "refuse"

    def apply(self, params, state, x, ctx=fnn.INFERENCE):  # breaks
        return 2 * x[:, 1:], state


ALONE, PURE = "an_example_alone_is_as_in_the_batch", "calls_are_pure"
AHEAD, JIT = "a_later_step_changes_nothing_earlier", "jit_equals_eager"
STEPS, SHAPES = "masked_steps_change_nothing", "shapes_by_eval_shape_are_those_of_running"
KEY, ROUND = "inference_needs_no_key", "config_round_trip"
ORDER, PADDED = "batch_order_changes_nothing", "padded_rows_change_nothing"
BROKEN = [  # (layer, the promise, what else must break with it, words of the message)
    (ComparedByIdentity(), "equality_and_hash", [], ["a copy to be equal", "__eq__"]),
    (NotRegistered(), ROUND, [], ["@fnn.register", "received NotRegistered"]),
    (HoldsAFunction(lambda x: 2 * x), ROUND, [], ["a registered function", "received <lambda>"]),
    (
        NoiseInInference(),
        KEY,
        "all",
        ["no error, received NeedsKeyError: expected a key", "if ctx."],
    ),
    (
        WeightsByTheNumbers(),
        SHAPES,
        "all",
        ["{'scale': float32[1]}", "{'scale': float32[3]}, {}) by jax.ev"],
    ),
    (SizeByTheNumbers(), SHAPES, "all", ["ConcretizationTypeError", "int(x.max())"]),
    (
        WritesIntoItsInputs(),
        PURE,
        [],
        ["(params, state, x)[2][", " numbers differ)", "in place"],
    ),
    (Counts(), PURE, "all", ["the same program, `", "into the state"]),
    (Draws(), PURE, "all", ["np.random"]),
    (AsksWhetherItIsTraced(), JIT, [], ["(outputs, state)[0][", "72 of 72 numbers differ"]),
    (ForgetsItsState(), "state_keeps_its_structure", [], ["'mean': float32[]", "**state"]),
    (InFloat32(), "bfloat16", [], ["outputs in bfloat16, received float32[4, 6, 3]", "x.dtype"]),
    (WeightsLikeTheInputs(), "bfloat16", [], ["weights in float32", "self.weight("]),
    (OverflowsInBfloat16(), "bfloat16", [], ["finite outputs in bfloat16"]),
    (NanGradient(), "gradients_are_finite", [], ["finite gradients by (params, x)[1]", "where"]),
    (NoGradient(), "gradients_are_finite", [], ["zeros everywhere", "rounding"]),
    (CallsPython(), "vmap_over_weights", [], ["pure_callback"]),
    (CentersTheBatch(), ALONE, [], ["outputs[", "72 of 72 numbers differ", "axis 0"]),
    (WeighsByPlace(), ORDER, [ALONE], ["its place in the batch"]),
    (TurnsTheBatch(), ORDER, [ALONE, PADDED, STEPS], ["its place in the batch"]),
    (
        CountsPaddedRows(),
        PADDED,
        [STEPS],
        ["(outputs, state)[0][", "ctx.rows"],
    ),
    (MixesSteps(), STEPS, [], ["outputs[", "reading ctx.mask"]),
    (DropsSteps(), STEPS, [], ["a mask (4, 6) on outputs (4, 3, 3)", "the time axis changes"]),
    (LooksAhead(), AHEAD, [], ["outputs before step 1[", "pad on the left"]),
    (Shortens(), AHEAD, [], ["outputs of 6 steps, as the inputs, received float32[4, 5, 3]"]),
]


def all_but(*names):
    return [name for name in PROPERTIES if name not in names]


def message(layer, x=SEQUENCE, **options):
    with pytest.raises(AssertionError) as error:
        check_layer(layer, x, **options)
    return str(error.value)


def broken_line(layer):
    """Where the class says that it breaks."""
    lines = HERE.read_text().splitlines()
    start = next(i for i, text in enumerate(lines) if text.startswith(f"class {layer}("))
    return next(i for i in range(start, len(lines)) if lines[i].endswith("# breaks")) + 1


@pytest.mark.parametrize(
    ("layer", "name", "also", "words"), BROKEN, ids=[type(row[0]).__name__ for row in BROKEN]
)
def test_a_broken_promise_is_named(layer, name, also, words):
    causal = name == AHEAD
    others = all_but(name) if also == "all" else also
    said = message(layer, causal=causal, without=others)
    for word in (PROPERTIES[name].sentence, repr(layer), f"without=({name!r},)", *words):
        assert word in said
    if name != "equality_and_hash":
        assert f"{HERE}:{broken_line(type(layer).__name__)}, " in said
    if also != "all":  # those before it have held
        before = itertools.takewhile(lambda other: other != name, PROPERTIES)
        check_layer(layer, SEQUENCE, causal=causal, without=[*before, name, *also])


def test_every_promise_has_a_layer_that_breaks_it():
    assert {name for _, name, *_ in BROKEN} == set(PROPERTIES)


@pytest.mark.parametrize("shape", [(4, 3), (4, 6, 3), (2, 3, 4, 2)], ids=str)
def test_a_good_layer_passes(shape):
    check_layer(Good(), jnp.ones(shape), key=jax.random.key(3))


def test_inputs_of_every_kind_pass():
    by_inputs = {"without": all_but(JIT, ALONE, STEPS, AHEAD)}  # as to others, see the catalogue
    check_layer(L.Dense(3), jax.ShapeDtypeStruct((4, 5), jnp.float32), **by_inputs)
    check_layer(L.Embedding(5, 2), np.array([[1, 4, 0], [2, 3, 3]]), causal=True, **by_inputs)
    check_layer(L.Concatenate(), (np.ones((2, 3)), np.ones((2, 4))), **by_inputs)
    mask = np.array([[True, True, False], [True, False, False]])
    check_layer(L.Dropout(0.5), Masked(jnp.ones((2, 3, 4)), jnp.asarray(mask)), **by_inputs)


CAUSAL = [
    (L.Conv1D(2, 3, padding="causal"), True),
    (L.Conv1D(2, 3, padding="same"), False),
    (L.SimpleRNN(2, return_sequences=True), True),
    (L.SimpleRNN(2, return_sequences=True, go_backwards=True), False),
    (L.AdditiveAttention(use_causal_mask=True), True),
    (L.AdditiveAttention(), False),
]


@pytest.mark.parametrize(("layer", "causal"), CAUSAL, ids=[repr(layer) for layer, _ in CAUSAL])
def test_who_looks_ahead(layer, causal):
    x = (SEQUENCE, SEQUENCE[..., :3]) if isinstance(layer, L.AdditiveAttention) else SEQUENCE
    if causal:
        check_layer(layer, x, causal=True, without=all_but(AHEAD))
    else:
        assert "outputs before step" in message(layer, x, causal=True, without=all_but(AHEAD))


def test_the_layer_inside_is_named():
    inside = L.Sequential([L.Dense(3), L.Frozen(CentersTheBatch())], name="block")
    said = message(L.Sequential([L.Dense(3), inside]), without=all_but(ALONE))
    assert "in layer block/frozen: CentersTheBatch() applied to float32[4, 6, 3]" in said
    assert f"{HERE}:{broken_line('CentersTheBatch')}, CentersTheBatch.apply" in said


@fnn.register
class BreaksInside(Own):
    """What it returns differs by its place in the batch, and it looks at numbers."""

    def apply(self, params, state, x, ctx=fnn.INFERENCE):  # breaks
        return x + x.mean(0, keepdims=True), state


@fnn.register
class BreakingCell(Own):
    state_size = 3

    def apply(self, params, state, x, ctx=fnn.INFERENCE):  # breaks
        x, h = x
        return (x - x.mean(0, keepdims=True), h), state


AROUND = [
    (lambda inner: L.Repeat(inner, 2), "float32[4, 6, 3]"),
    (lambda inner: L.Repeat(L.Sequential([L.Dense(3), inner]), 2), "float32[4, 6, 3]"),
    (lambda inner: L.TimeDistributed(inner), "float32[4, 3]"),
    (lambda inner: L.Ensemble(inner, 2), "float32[4, 6, 3]"),
    (lambda inner: L.Spread(L.Ensemble(inner, 2)), "float32[4, 6, 3]"),
    (lambda inner: L.MixtureOfExperts(inner, 2), "float32[24, 3]"),
]


@pytest.mark.parametrize(("around", "given"), AROUND)
def test_no_wrapper_is_blamed_for_what_is_inside(around, given):
    layer = around(BreaksInside())
    said = message(layer, without=all_but(ALONE))
    assert re.search(rf"BreaksInside\(\) applied to {re.escape(given)}", said)
    assert f"{HERE}:{broken_line('BreaksInside')}, BreaksInside.apply" in said
    raising = message(around(SizeByTheNumbers()), without=all_but(SHAPES))
    assert f"{HERE}:{broken_line('SizeByTheNumbers')}, return" in raising


@pytest.mark.parametrize(
    "layer", [L.RNN(BreakingCell()), L.Bidirectional(L.RNN(BreakingCell()))], ids=repr
)
def test_what_runs_inside_otherwise_is_pointed_at(layer):
    said = message(layer, without=all_but(ALONE))
    assert f"{HERE}:{broken_line('BreakingCell')}, BreakingCell.apply" in said


@fnn.register
class CountsMaskedSteps(Own):
    """Right outputs, and a loss and a running mean in training that masked steps are in."""

    def init(self, key, x):
        return {}, {"mean": jnp.zeros(())}

    def apply(self, params, state, x, ctx=fnn.INFERENCE):  # breaks
        return 2 * x, {"mean": x.mean().astype("float32")} if ctx.train else state


def test_masked_steps_are_looked_for_in_training_and_in_the_state():
    said = message(CountsMaskedSteps(), without=all_but(STEPS))
    assert "the state['mean'] = " in said
    assert f"{HERE}:{broken_line('CountsMaskedSteps')}, " in said


def test_a_layer_that_refuses_a_mask_keeps_the_promise():
    cases = [
        (L.EinsumDense("abc,bd->adc", (2, None)), SEQUENCE),
        (L.Sequential([L.Dense(2), L.Flatten()]), SEQUENCE),
        (L.SpatialDropout2D(0.3, "channels_first"), jnp.ones((3, 4, 5, 5))),
        (L.GlobalAveragePooling1D("channels_first"), SEQUENCE),
    ]
    for layer, x in cases:
        check_layer(layer, x, without=all_but(STEPS))


def test_equal_numbers_are_replaced_by_random_ones():
    """In ones a wrong order does not show."""
    assert "differ" in message(WeighsByPlace(), jnp.ones((3, 2, 2)))
    given = jnp.asarray(np.random.default_rng(0).uniform(1, 2, size=(3, 2, 2)), "float32")
    check_layer(NanGradient(), given)  # above 0 it is right, so these numbers are kept


@pytest.mark.parametrize(
    ("layer", "x", "options", "kind", "words"),
    [
        (L.Dense, SEQUENCE, {}, TypeError, "expected a layer to check, received <class"),
        (L.Dense(2), SEQUENCE[:1], {}, ValueError, "at least 2 examples, received x='float32[1,"),
        (L.Add(), (SEQUENCE, SEQUENCE[:2]), {}, ValueError, "expected x to be arrays of one batch"),
        (L.Dense(2), SEQUENCE, {"without": "jit"}, ValueError, "jit_equals_eager"),
    ],
    ids=["class", "one example", "two batches", "unknown name"],
)
def test_wrong_arguments(layer, x, options, kind, words):
    with pytest.raises(kind, match=re.escape(words)):
        check_layer(layer, x, **options)
