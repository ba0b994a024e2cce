"""Whether a program treats examples independently, as its traces tell; against runs of it."""

import contextlib
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

import fnn
from fnn import layers as L
from fnn import losses, metrics, networks
from fnn.core.calling import call, weight_spec
from fnn.core.context import Context, Masked
from fnn.training.independence import why_mixed
from fnn.training.objective import MemberMean, Objective, OutputGoal
from fnn.training.predict_step import make_predict_step
from fnn.training.state import TrainState
from fnn.training.step import make_eval_step, make_loss
from tests.helpers.catalogue import CATALOGUE, jit
from tests.helpers.loss_metric_rows import LOSSES, METRICS

pytestmark = pytest.mark.optimized  # else a maximum may equal none of its entries

FULL, OTHER = 8, 5
KEY = jax.eval_shape(lambda: jax.random.key(0))


@pytest.fixture(autouse=True)
def programs_of_users():
    with jax.numpy_rank_promotion("allow"):
        yield


def spec(*shape, dtype="float32"):
    return jax.ShapeDtypeStruct(shape, jnp.dtype(dtype))


def sized(arrays, count):
    """Shapes of the arrays with `count` examples."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct((count, *a.shape[1:]), a.dtype), arrays)


def why(function, *arrays, **options):
    """Why examples mix in a function of arrays whose first axis is that of the examples."""
    return why_mixed(function, sized(arrays, FULL), sized(arrays, OTHER), **options)


# -- programs ------------------------------------------------------------------------------------

TABLE = jnp.asarray(np.linspace(-1, 1, 36, dtype="float32").reshape(9, 4))
MATRIX = np.linspace(-1, 1, 16, dtype="float32").reshape(4, 4)
STEPS = np.arange(6, dtype="float32")


@jax.custom_jvp
def custom(x):
    return jnp.tanh(x)


custom.defjvp(lambda primals, tangents: (custom(*primals), tangents[0] * jnp.cos(primals[0])))


@jax.custom_vjp
def scaled_back(x):
    return x


scaled_back.defvjp(lambda x: (x, x), lambda x, g: (g * jnp.abs(x),))


@jax.custom_vjp
def centred_back(x):
    return x


centred_back.defvjp(lambda x: (x, None), lambda _, g: (g - g.mean(0),))


@jax.custom_jvp
def centred_slope(x):
    return jnp.tanh(x)


centred_slope.defjvp(lambda p, t: (jnp.tanh(p[0]), t[0] * jnp.cos(p[0] - p[0].mean(0))))


@jax.custom_jvp
def centred(x):
    return x - x.mean(0)


centred.defjvp(lambda p, t: (centred(*p), t[0]))


@jax.custom_vjp
def centred_too(x):
    return x - x.mean(0)


centred_too.defvjp(lambda x: (centred_too(x), None), lambda _, g: (g,))


def real(rows, x):
    return rows.reshape(rows.shape + (1,) * (x.ndim - 1))


def while_small(x):
    return lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] * 2), (0, x))[1]


def scanned(x):
    return lax.scan(lambda c, v: (c + v, c * v), x[:, 0], jnp.swapaxes(x, 0, 1))


def convolved(x):
    return lax.conv_general_dilated(x, MATRIX[None], (1,), "SAME", dimension_numbers=NWC)


NWC = ("NWC", "WIO", "NWC")

# Of rows (B,) and x (B, 6, 4). Each of these leaves examples apart.
APART = {
    "elementwise": lambda rows, x: jnp.exp(x) / (1 + jnp.abs(x)) ** 2 + jnp.where(x > 0, x, 1),
    "constants": lambda rows, x: x * STEPS[:, None] + MATRIX.sum() - len(x[0]),
    "features": lambda rows, x: (x - x.mean(-1, keepdims=True)) / x.std((1, 2), keepdims=True),
    "softmax": lambda rows, x: jax.nn.softmax(x, axis=1) + jax.nn.logsumexp(x, -1, keepdims=True),
    "sorted": lambda rows, x: jnp.sort(x, axis=1) + jnp.cumsum(x, axis=-1) + x[:, ::-1],
    "order": lambda rows, x: jnp.argsort(x, axis=1).sum(-1) + x.argmax(1).max(-1, keepdims=True),
    "best": lambda rows, x: lax.top_k(x, 2)[0],
    "merged": lambda rows, x: jnp.tanh(x.reshape(-1, 4) @ MATRIX).reshape(x.shape),
    "merged and back": lambda rows, x: x.reshape(-1).reshape(-1, 3, 8).sum(1),
    "transposed": lambda rows, x: x.transpose(2, 1, 0).reshape(24, -1).T,
    "time first": lambda rows, x: (
        (jnp.swapaxes(x, 0, 1).reshape(-1, 4) @ MATRIX).reshape(6, -1, 4).swapaxes(0, 1)
    ),
    "padded": lambda rows, x: jnp.pad(x, ((0, 0), (1, 2), (0, 0)))[:, 1:5],
    "joined": lambda rows, x: (
        jnp.concatenate([x, 2 * x], 1) + jnp.tile(jnp.stack([x, x], 2).max(2), (1, 2, 1))
    ),
    "two views": lambda rows, x: jnp.split(jnp.concatenate([x, 2 * x]) ** 2, 2)[1],
    "two views, merged": lambda rows, x: jnp.concatenate([x, 2 * x]).reshape(2, *x.shape).sum(0),
    "tiled": lambda rows, x: jnp.tile(x, (1, 2, 1)) + jnp.tile(STEPS, (len(x), 2))[..., None],
    "tiled to one axis": lambda rows, x: x[..., 0] * jnp.tile(STEPS, len(x)).reshape(-1, 6),
    "repeated": lambda rows, x: jnp.repeat(x, 3, axis=0).reshape(-1, 3, 6, 4).prod(1),
    "products": lambda rows, x: jnp.einsum("btf,bsf->bts", x, x) @ x @ MATRIX,
    "of one kernel": lambda rows, x: jnp.einsum("tu,btf->buf", np.eye(6, dtype="float32"), x),
    "convolution": lambda rows, x: convolved(x),
    "window": lambda rows, x: lax.reduce_window(x, -np.inf, lax.max, (1, 2, 2), (1, 2, 1), "SAME"),
    "spectrum": lambda rows, x: jnp.abs(jnp.fft.fft(x, axis=1)) * jnp.fft.rfft2(x).real[:, :, :1],
    "matrices": lambda rows, x: (
        jnp.linalg.qr(x)[0] @ jnp.linalg.cholesky(jnp.swapaxes(x, 1, 2) @ x + jnp.eye(4))
    ),
    "numbers of examples": lambda rows, x: x * jnp.arange(len(x))[:, None, None],
    "looked up": lambda rows, x: jnp.take(TABLE, x.argmax(1), axis=0) + TABLE[x.argmin(1)],
    "looked up along": lambda rows, x: jnp.take_along_axis(x, x.argsort(1), axis=1),
    "written": lambda rows, x: x.at[:, 2].set(1.0).at[:, 1:3, 0].add(x[:, :2, 1]),
    "one-hot": lambda rows, x: jax.nn.one_hot(x.argmax(-1), 4) @ MATRIX,
    "inner loop": lambda rows, x: scanned(x)[0],
    "inner loop, each step": lambda rows, x: scanned(x)[1].swapaxes(0, 1),
    "while": lambda rows, x: while_small(x),
    "branch": lambda rows, x: lax.cond(STEPS.sum() > jnp.ones(()), jnp.sin, jnp.cos, x),
    "mapped": lambda rows, x: lax.map(lambda one: one @ MATRIX - one.mean(), x),
    "mapped by hand": lambda rows, x: jax.vmap(lambda one: jnp.convolve(one[:, 0], STEPS))(x),
    "remat": lambda rows, x: jax.checkpoint(jnp.sin)(x),
    "custom": lambda rows, x: custom(x) + jax.nn.relu(x) + scaled_back(x),
    "mean of the real": lambda rows, x: x - jnp.where(real(rows, x), x, 0).sum(0) / rows.sum(),
    "largest of the real": lambda rows, x: x - x.max(0, where=real(rows, x), initial=-np.inf),
    "smallest of the real": lambda rows, x: jnp.where(~real(rows, x), np.inf, x).min(0) - x,
    "softmax of the real": lambda rows, x: jax.nn.softmax(x, 0, where=real(rows, x)),
    "all of the real": lambda rows, x: x * (~real(rows, x) | (x < 3)).all(0),
    "weighted": lambda rows, x: x - jnp.einsum("b,btf->tf", rows.astype("float32"), x),
    "counted by class": lambda rows, x: (
        x[..., 0] + jnp.zeros(6).at[x[..., 0].argmax(1)].add(rows.astype("float32"))
    ),
    "the first": lambda rows, x: x - x[:1],  # is never filling
    "several outputs": lambda rows, x: {"a": x + 1, "b": MATRIX * 2},
    "not used": lambda rows, x: (x.mean(0), x)[1],
}

# Each of these mixes.
MIXED = {
    "mean": lambda rows, x: x - x.mean(0),
    "sum": lambda rows, x: x * 0 + x.sum(),
    "largest": lambda rows, x: x - x.max(0),
    "variance": lambda rows, x: x / x.std(0),
    "size": lambda rows, x: x / x.shape[0],
    "size in a constant": lambda rows, x: x + np.ones(4, "float32") * len(x),
    "another program": lambda rows, x: x if len(x) > 6 else jnp.sin(x),
    "another rank": lambda rows, x: x.reshape(-1, 2, 24) if len(x) == FULL else x.reshape(-1, 24),
    "another number of parts": lambda rows, x: sum(jnp.split(x, 2 if len(x) == FULL else 3, 1)[0]),
    "another argument": lambda rows, x: x.at[:, 0].set(x[:, len(x) % 2 + 1]),
    "another order": lambda rows, x: x[:, 0] - x[:, 1] if len(x) > 6 else x[:, 1] - x[:, 0],
    "another slice": lambda rows, x: x * STEPS[len(x) - 5 : len(x) - 4],
    "matmul": lambda rows, x: x[:, 0] @ x[:, 1].T,
    "over the batch": lambda rows, x: jnp.einsum("btf,btg->fg", x, x),
    "outer": lambda rows, x: jnp.einsum("bi,bj->ij", x[:, 0], x[:, 1]),
    "all pairs": lambda rows, x: jnp.abs(x[:, None] - x[None]).sum(1),
    "distances": lambda rows, x: jax.vmap(lambda a: jnp.linalg.norm(x - a, axis=(1, 2)))(x).min(1),
    "contrast": lambda rows, x: jax.nn.log_softmax(x[:, 0] @ x[:, 1].T)[0, 0],
    "diagonal": lambda rows, x: jnp.diagonal(x[:, 0] @ x[:, 1].T),
    "sort": lambda rows, x: jnp.sort(x, 0),
    "order": lambda rows, x: jnp.argsort(x[:, 0, 0]),
    "by order": lambda rows, x: x[jnp.argsort(x[:, 0, 0])],
    "by the largest": lambda rows, x: x - x[x[:, 0, 0].argmax()],
    "top": lambda rows, x: lax.top_k(x[:, 0, 0], 2)[0],
    "cumsum": lambda rows, x: jnp.cumsum(x, 0),
    "cumsum backwards": lambda rows, x: lax.cumsum(x, 0, reverse=True),
    "roll": lambda rows, x: jnp.roll(x, 1, 0),
    "reversed": lambda rows, x: x[::-1],
    "every other": lambda rows, x: x.at[::2].set(0.0),
    "differences": lambda rows, x: jnp.diff(x, axis=0, append=0),
    "softmax": lambda rows, x: jax.nn.softmax(x, 0),
    "the second": lambda rows, x: x - x[1],
    "the last": lambda rows, x: x - x[-1],
    "all but the first": lambda rows, x: jnp.concatenate([x[1:], x[:1]]),
    "an index": lambda rows, x: x[jnp.array([0, 0, 1, 2])].sum(0) + x,
    "numbers backwards": lambda rows, x: x * jnp.arange(len(x))[::-1][:, None, None],
    "numbers from the end": lambda rows, x: x * (len(x) - jnp.arange(len(x)))[:, None, None],
    "linspace": lambda rows, x: x * jnp.linspace(0, 1, len(x))[:, None, None],
    "a constant of the batch": lambda rows, x: x * np.linspace(0, 1, len(x))[:, None, None],
    "lax.map": lambda rows, x: lax.map(lambda one: one - x.mean(0), x),
    "pairs in lax.map": lambda rows, x: lax.map(lambda one: (one - x).sum(0), x),
    "scan": lambda rows, x: lax.scan(lambda c, one: (c + one, c), x[0], x)[1],
    "final carry": lambda rows, x: lax.scan(lambda c, one: (c + one, 0), x[0], x)[0],
    "for": lambda rows, x: lax.fori_loop(0, len(x), lambda i, c: c + x[i], x[0]),
    "while": lambda rows, x: lax.while_loop(lambda v: v.sum() < 9, lambda v: 2 * v, jnp.abs(x)),
    "cond": lambda rows, x: lax.cond(x.sum() > 0, jnp.sin, jnp.cos, x),
    "cond in a branch": lambda rows, x: lax.cond(STEPS[0] > 0, lambda x: x, lambda x: x[::-1], x),
    "scrambled": lambda rows, x: x.reshape(6, -1, 4).swapaxes(0, 1),
    "scrambled by features": lambda rows, x: x.reshape(-1).reshape(4, -1, 6).sum((0, 2)),
    "merged in two orders": lambda rows, x: x.reshape(-1, 4) + x.swapaxes(0, 1).reshape(-1, 4),
    "merged, then a mean": lambda rows, x: x - x.reshape(-1, 4).mean(0),
    "order of views": lambda rows, x: jnp.stack([x, 2 * x], 1).reshape(-1, 6, 4)[: len(x)],
    "spectrum": lambda rows, x: jnp.abs(jnp.fft.fft(x, axis=0)),
    "window": lambda rows, x: lax.reduce_window(x, 0.0, lax.add, (2, 1, 1), (1, 1, 1), "SAME"),
    "convolution": lambda rows, x: convolved(x.swapaxes(0, 1)).swapaxes(0, 1),
    "kernel": lambda rows, x: jax.vmap(lambda a: jnp.convolve(x[0, :, 0], a[:, 0]))(x),
    "solved": lambda rows, x: jnp.linalg.qr(x[:, 0])[0],
    "one-hot products": lambda rows, x: (jax.nn.one_hot(x[:, 0].argmax(1), 4).T @ x[:, 0])[0] + x,
    "counted by class": lambda rows, x: x[..., 0] + jnp.zeros(6).at[x[..., 0].argmax(1)].add(1.0),
    "set by class": lambda rows, x: x[..., 0] + jnp.zeros(6).at[x[..., 0].argmax(1)].set(1.0),
    "custom_jvp": lambda rows, x: centred(x),
    "custom_vjp": lambda rows, x: centred_too(x),
    "remat": lambda rows, x: jax.checkpoint(lambda x: x - x.mean(0))(x),
    "jit": lambda rows, x: jax.jit(lambda x: x - x.mean(0))(x),
    "named axis": lambda rows, x: jax.vmap(lambda a: a - lax.pmean(a, "b"), axis_name="b")(x),
    "callback": lambda rows, x: jax.pure_callback(lambda a: np.asarray(a), x, x),
    "printed": lambda rows, x: (jax.debug.print("{}", x), x)[1],
    "all real": lambda rows, x: lax.cond(rows.all(), jnp.sin, jnp.cos, x),
    "how many real": lambda rows, x: x / (~rows).sum(),
    "mean of the filling, too": lambda rows, x: x - (x * rows[:, None, None] + 1).sum(0),
    "examples not in front": lambda rows, x: x.swapaxes(0, 1),
    "a longer batch": lambda rows, x: jnp.concatenate([x, x[:1]]),
}
ARGUMENTS = spec(1, dtype="bool"), spec(1, 6, 4)


def padded(x, rng):
    """x with filling: any finite numbers."""
    filling = 9 * rng.normal(size=(FULL - OTHER, *x.shape[1:]))
    return np.concatenate([x, filling.astype(x.dtype)])


def of_both(function):
    """What it makes of two batches, in one program."""
    return lambda one, other: (function(*one), function(*other))


def numbers_agree(function, *, tolerance=1e-4):
    """Asserts that filling changes nothing in the outputs of `function(rows, x)`."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(OTHER, 6, 4)).astype("float32")
    sides = (np.arange(FULL) < OTHER, padded(x, rng)), (np.ones(OTHER, bool), x)
    found, expected = jit(of_both(function))(*sides)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        a = a if a.shape == b.shape else a[:OTHER]
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("name", APART)
def test_programs_that_keep_examples_apart(name):
    assert why(APART[name], *ARGUMENTS, valid=0, differentiated=True) is None
    numbers_agree(APART[name])


@pytest.mark.parametrize("name", MIXED)
def test_programs_that_mix_examples(name):
    reason = why(MIXED[name], *ARGUMENTS, valid=0)
    assert reason
    assert "cannot be run" not in reason


@pytest.mark.parametrize("function", [centred_back, centred_slope])
def test_derivatives_written_by_hand_count_in_training_alone(function):
    assert why(function, spec(1, 4)) is None
    reason = why(function, spec(1, 4), differentiated=True)
    assert "in the derivative, " in reason


@pytest.mark.parametrize("name", ["mean of the real", "weighted", "counted by class"])
def test_without_rows_these_mix(name):
    assert why(APART[name], *ARGUMENTS)


def test_the_reason_names_the_operation_and_the_line():
    reason = why(MIXED["mean"], *ARGUMENTS)
    assert reason.startswith("examples are combined along their axis (reduce_sum) at ")
    assert "test_independence.py:" in reason


def test_a_program_that_cannot_run_at_the_other_size_is_mixed():
    reason = why(lambda x: x.reshape(4, 2, -1), spec(1, 3))
    assert reason.startswith("the program cannot be run on 5 examples: ")


def test_two_sizes_are_needed():
    with pytest.raises(
        ValueError, match="expected arguments of two batch sizes, received the same"
    ):
        why_mixed(jnp.sin, (spec(3, 2),), (spec(3, 2),))


# -- what fnn consists of ------------------------------------------------------------------------


def trained_and_not(layer, x):
    """Why examples mix in a layer: in inference, in training."""
    weights = weight_spec(layer, x)

    def run(train, weights, x, rows, key):
        return call(layer, *weights, x, Context(train=train, key=key if train else None, rows=rows))

    arguments = [(weights, sized(x, n), spec(n, dtype="bool"), KEY) for n in (FULL, OTHER)]
    for train in (False, True):
        function = functools.partial(run, train)
        yield why_mixed(function, *arguments, valid=2, differentiated=train)


# These are run at the size of the batch.
ONE_SIZE = [case for case in CATALOGUE if getattr(case.layer, "stateful", False)]
OTHERS = [case for case in CATALOGUE if case not in ONE_SIZE]

# What the analysis cannot tell of, so that a last batch runs at its own size: one more compilation.
UNRESOLVED = {
    fnn.layers.RandomPerspective: "the parameter jaxprs depends on the batch size",
    fnn.layers.ContrastLimitedAdaptiveHistogramEqualization: "a reshape takes examples apart",
    fnn.layers.MelSpectrogram: "examples are looked up by an index",
}


@pytest.mark.slow
@pytest.mark.parametrize("case", OTHERS, ids=lambda case: case.id)
def test_layers_keep_examples_apart(case):
    if isinstance(case.layer, (fnn.layers.MixUp, fnn.layers.CutMix)):
        # They mix examples in training, and only there.
        alone, trained = trained_and_not(case.layer, case.x)
        assert alone is None
        assert trained.startswith("examples are combined along their axis")
        return
    expected = UNRESOLVED.get(type(case.layer))
    if getattr(case.layer, "capacity_factor", None):
        # Tokens queue for places at their experts, and are fetched by the numbers of these.
        expected = "a constant depends on the batch size: 48 or 30"
    reasons = [reason for reason in trained_and_not(case.layer, case.x) if reason is not None]
    assert bool(reasons) == (expected is not None)
    assert all(reason.startswith(expected) for reason in reasons)


def test_stateful_layers_have_one_batch_size():
    assert [type(case.layer).__name__ for case in ONE_SIZE] == ["GRU"]
    case, run = ONE_SIZE[0], lambda weights, x: call(case.layer, *weights, x, Context())
    weights = weight_spec(case.layer, case.x)  # of 3 examples
    reason = why_mixed(run, (weights, case.x), (weights, sized(case.x, 2)))
    assert reason.startswith("the program cannot be run on 2 examples: GRU: expected a batch of 3")


# These compare the examples of a batch, with every other one.
MIXING_LOSSES = ("Circle", "Triplet", "InfoNCE")


def of_objective(goals, y_true, y_pred, *, masked=False, weighted=False):
    """Why examples mix in the loss and metrics of outputs, one for each goal."""

    def evaluate(y_pred, y_true, weight, rows, mask):
        outputs = [Masked(y_pred, mask) if masked else y_pred] * len(goals)
        weights = (weight,) * len(goals) if weighted else ()
        batch = {"x": None, "y": (y_true,) * len(goals), "weight": weights}
        none = [None] * len(goals)
        return Objective(goals).evaluate(outputs, none, batch, rows, jnp.zeros(()))

    steps = y_pred.shape[1:2]
    arguments = [
        (
            *sized((y_pred, y_true), n),
            spec(n),
            spec(n, dtype="bool"),
            spec(n, *steps, dtype="bool"),
        )
        for n in (FULL, OTHER)
    ]
    return why_mixed(evaluate, *arguments, valid=3, differentiated=True)


def reasons(goals, row, *, each):
    """Why examples mix in goals, over all shapes, with and without weights and masks.

    Either both or none; with `each`, also one of them alone.
    """
    shapes = {shape[1:]: shape for shape in row.shapes}  # how many examples there are is chosen
    for shape in shapes.values():
        y_true, y_pred = row.make(np.random.default_rng(0), shape)
        for masked in (False, True) if len(shape) == 3 else (False,):
            for weighted in (False, True):
                if each or masked == weighted or len(shape) < 3:
                    yield of_objective(goals, y_true, y_pred, masked=masked, weighted=weighted)


# By which the ways to weigh and to mask are all shown, which are the same for each class.
WEIGHED_AND_MASKED = ("MeanSquaredError", "SparseCategoricalCrossentropy", "AUC")
REDUCTIONS = ("sum_over_batch_size", "mean_with_sample_weight", "none")


@pytest.mark.slow
@pytest.mark.parametrize("row", LOSSES, ids=str)
def test_losses_keep_examples_apart(row):
    goals = [
        OutputGoal("a", getattr(losses, row.name)(**row.arguments, reduction=reduction), weight)
        for reduction, weight in zip(REDUCTIONS, (1.0, 0.5, 2.0), strict=True)
    ]
    if row.name in MIXING_LOSSES:
        assert all(reason for goal in goals for reason in reasons((goal,), row, each=True))
    else:  # none of the outputs mixes, so one program shows it of all
        assert set(reasons(tuple(goals), row, each=row.name in WEIGHED_AND_MASKED)) == {None}


@pytest.mark.slow
@pytest.mark.parametrize("row", [r for r in METRICS if r.name not in ("Mean", "Sum")], ids=str)
def test_metrics_keep_examples_apart(row):
    metric = getattr(metrics, row.name)(**row.arguments)
    goals = (OutputGoal("a", None, 1.0, (("plain", metric, False), ("weighted", metric, True))),)
    assert set(reasons(goals, row, each=row.name in WEIGHED_AND_MASKED)) == {None}


OWN_METRICS = {
    "ExpectedCalibrationError": (metrics.ExpectedCalibrationError(), spec(1), spec(1, 1)),
    "MultiLabelAccuracy": (metrics.MultiLabelAccuracy(), spec(1, 3), spec(1, 3)),
    "Perplexity": (metrics.Perplexity(), spec(1, 6, dtype="int32"), spec(1, 6, 4)),
    "LossMetric": (metrics.get(losses.Huber()), spec(1, 3), spec(1, 3)),
    "FunctionMetric": (
        metrics.FunctionMetric(lambda t, p: abs(t - p).mean(-1)),
        spec(1, 3),
        spec(1, 3),
    ),
}


@pytest.mark.parametrize("name", OWN_METRICS)
def test_metrics_that_keras_lacks_keep_examples_apart(name):
    metric, y_true, y_pred = OWN_METRICS[name]
    goals = (OutputGoal("a", None, 1.0, (("a", metric, False), ("b", metric, True))),)
    assert of_objective(goals, y_true, y_pred, weighted=True) is None


@pytest.mark.parametrize("loss", [losses.Triplet(), losses.InfoNCE()], ids=str)
def test_losses_of_pairs_mix(loss):
    y_true = spec(1, dtype="int32") if isinstance(loss, losses.Triplet) else spec(1, 3)
    assert of_objective((OutputGoal("a", loss),), y_true, spec(1, 3))


LOSSES_OF_USERS = {
    "each": (lambda t, p: jnp.square(t - p).mean(-1), True),
    "steps": (lambda t, p: jnp.cumsum(t - p, 1).max(1), True),
    "mean of all": (lambda t, p: jnp.square(t - p).mean(), False),
    "mean over the batch": (lambda t, p: jnp.square(p - p.mean(0)).sum(-1), False),
    "largest": (lambda t, p: jnp.square(t - p).max(), False),
    "pairs": (lambda t, p: jax.nn.log_softmax(p @ t.T)[:, 0], False),
}


@pytest.mark.parametrize("name", LOSSES_OF_USERS)
def test_losses_and_metrics_of_users(name):
    function, apart = LOSSES_OF_USERS[name]
    as_loss = (OutputGoal("a", losses.get(function)),)
    as_metric = (OutputGoal("a", losses.get("mse"), 1.0, (("m", metrics.get(function), False),)),)
    if apart:
        assert of_objective(as_loss, spec(1, 3), spec(1, 3)) is None
        assert of_objective(as_metric, spec(1, 3), spec(1, 3)) is None
    else:
        assert of_objective(as_loss, spec(1, 3), spec(1, 3))
        assert of_objective(as_metric, spec(1, 3), spec(1, 3))


WORDS = spec(1, 6, dtype="int32")
NETWORKS = {
    "mlp": (lambda: networks.mlp([8, 3], dropout=0.1), spec(1, 4)),
    "lenet": (networks.lenet, spec(1, 28, 28, 1)),
    "residual": (
        lambda: L.Sequential(
            [
                *(L.Conv2D(4, 3, 2), L.BatchNormalization(), L.Activation("relu")),
                L.Residual(L.Sequential([L.Conv2D(4, 3, padding="same"), L.BatchNormalization()])),
                *(L.MaxPooling2D(), L.GlobalAveragePooling2D(), L.Dense(5, "softmax")),
            ]
        ),
        spec(1, 16, 16, 3),
    ),
    "resnet": (lambda: networks.resnet(18, 5, (32, 32, 3)), spec(1, 32, 32, 3)),
    "unet": (lambda: networks.unet((16, 16, 1), 2, width=4, depth=2), spec(1, 16, 16, 1)),
    "lstm_classifier": (lambda: networks.lstm_classifier(4, 3, 2, 0.1), spec(1, 6, 4)),
    "gpt": (lambda: networks.gpt(11, 8, 2, 2, 16, 0.1), WORDS),
    "vit": (lambda: networks.vit((16, 16, 3), 4, 8, 2, 2, 5, 0.1), spec(1, 16, 16, 3)),
    "encoder_decoder": (
        lambda: networks.encoder_decoder((11, 13), 8, 2, 1, 0.1),
        (WORDS, spec(1, 5, dtype="int32")),
    ),
    "ensemble": (lambda: L.Ensemble(networks.mlp([8, 3], dropout=0.1), 3), spec(1, 4)),
    "blocks": (lambda: L.Repeat(L.Residual(L.Dense(4)), 5), spec(1, 6, 4)),
    "lora": (lambda: L.LoRA(networks.gpt(11, 8, 2, 1, 16, 0.1), 2), WORDS),
    "frames": (lambda: L.TimeDistributed(networks.lenet()), spec(1, 2, 28, 28, 1)),
}


def of_steps(layer, x, loss, y_true, metric="mae", members=0):
    """Why examples mix in the steps of a model: training, evaluation, prediction."""
    measured = metrics.get(metric)
    measured = MemberMean(metric=measured) if members else measured
    goal = OutputGoal("a", losses.get(loss), 1.0, (("m", measured, False),))
    weights, objective = weight_spec(layer, x), Objective((goal,), members)
    batches = [
        (
            {"x": sized(x, n), "y": (sized(y_true, n),), "weight": (spec(n),)},
            spec(n, dtype="bool"),
        )
        for n in (FULL, OTHER)
    ]
    train, test = make_loss(layer, objective), make_eval_step(layer, objective)

    def loss_of(weights, key, arrays, rows):
        params, state = weights
        return train(params, TrainState(params, state, {}, key), (arrays, rows), key)

    def test_of(weights, key, arrays, rows):
        return test(weights, (arrays, rows), key)

    given = [(weights, KEY, *batch) for batch in batches]
    yield why_mixed(loss_of, *given, valid=3, differentiated=True)
    yield why_mixed(test_of, *given, valid=3)
    predict = make_predict_step(layer)
    yield why_mixed(predict, *((*weights, batch[0]["x"]) for batch in batches))


DEEP = {"resnet"}  # of blocks as those of "residual"
FORWARD_ALONE = {"mlp", "lstm_classifier", "ensemble"}  # in others `evaluate` has the same forward


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.thorough) if n in DEEP else n for n in NETWORKS],
)
def test_networks_keep_examples_apart(name):
    make, x = NETWORKS[name]
    layer = make()
    output = jax.eval_shape(
        lambda weights, x: call(layer, *weights, x, Context())[0], weight_spec(layer, x), x
    )
    members = getattr(layer, "members", 0)
    y_true = spec(1, *output.shape[2 if members else 1 :])
    found = of_steps(layer, x, "mse", y_true, members=members)
    for reason in found if name in FORWARD_ALONE else itertools.islice(found, 2):
        assert reason is None


def test_lambdas_that_mix_do_so_in_every_step():
    layer = L.Sequential([L.Dense(3), L.Lambda(lambda a: a - a.mean(axis=0))])
    found = list(of_steps(layer, spec(1, 4), "mse", spec(1, 3)))
    assert all(reason.startswith("examples are combined along their axis") for reason in found)


# -- drawn programs ------------------------------------------------------------------------------


def shifted(x, rows, k):
    return x + jnp.roll(x, 1, axis=k)


def blocks(x, rows, k):
    """Two neighbouring axes in one."""
    k = k % (x.ndim - 1) if x.ndim > 1 else 0
    return x.reshape(*x.shape[:k], -1, *x.shape[k + 2 :])


def halves(x, rows, k):
    """An axis of even length in two."""
    size = x.shape[k]
    return x.reshape(*x.shape[:k], -1, 2, *x.shape[k + 1 :]) if size % 2 == 0 else x


def one_of(x, rows, k):
    return x + lax.slice_in_dim(x, 0, 1, axis=k)


def last_of(x, rows, k):
    return x + lax.slice_in_dim(x, x.shape[k] - 1, x.shape[k], axis=k)


def real_sum(x, rows, k):
    """The sum of the real entries, where examples are in front."""
    kept = jnp.where(real(rows, x), x, 0) if len(x) == len(rows) else x
    return x + kept.sum(0, keepdims=True) / 4


def real_softmax(x, rows, k):
    kept = jnp.where(real(rows, x), x, -jnp.inf) if len(x) == len(rows) else x
    return x + jax.nn.softmax(kept, 0)


def along_first(x, rows, k):
    return lax.map(lambda one: one - one.mean(), x)


def carried(x, rows, k):
    return lax.scan(lambda c, v: (c + v, c + v), jnp.zeros(x.shape[1:]), x)[1]


def branched(x, rows, k):
    chosen = x[0] if k % 2 else x
    return lax.cond(chosen.sum() > 0, lambda a: a + 1, lambda a: a - 1, x)


def gram(x, rows, k):
    """Products of an axis with itself, over all others."""
    axes = [axis for axis in range(x.ndim) if axis != k]
    return jnp.tanh(jnp.tensordot(x, x, (axes, axes))).sum() + x


def matched(x, rows, k):
    """Products of entries of one place, over an axis."""
    return (
        x * jnp.tanh(jnp.einsum("...i,...i->...", *[jnp.moveaxis(x, k, -1)] * 2)).sum()
        if (x.ndim == 1)
        else x
        * jnp.expand_dims(jnp.tanh(jnp.einsum("...i,...i->...", *[jnp.moveaxis(x, k, -1)] * 2)), k)
    )


def counted(x, rows, k):
    place = jnp.clip(jnp.abs(x), 0, 3).astype(int)
    weight = (
        jnp.broadcast_to(real(rows, x), x.shape) if len(x) == len(rows) else jnp.ones(x.shape)
    ).astype(x.dtype)
    return x + jnp.zeros(4).at[place].add(weight)[1] / 4


def both(x, rows, k):
    return jnp.concatenate([x, jnp.tanh(x)], axis=k)


def first_half(x, rows, k):
    return lax.slice_in_dim(x, 0, max(x.shape[k] // 2, 1), axis=k)


OPERATIONS = [
    lambda x, rows, k: jnp.tanh(x),
    lambda x, rows, k: x + x.shape[k] / 4,
    lambda x, rows, k: x + jnp.expand_dims(jnp.arange(x.shape[k]), range(1, x.ndim - k)) / 8,
    lambda x, rows, k: x - x.mean(k, keepdims=True),
    lambda x, rows, k: x + x.max(k, keepdims=True),
    lambda x, rows, k: x - x.sum() / 32,
    lambda x, rows, k: jax.nn.softmax(x, k),
    lambda x, rows, k: jnp.sort(x, k),
    lambda x, rows, k: jnp.cumsum(x, k) / 4,
    lambda x, rows, k: jnp.flip(x, k),
    lambda x, rows, k: jnp.take_along_axis(x, x.argsort(k), k),
    lambda x, rows, k: x * jnp.expand_dims(x.argmax(k), k),
    lambda x, rows, k: jnp.moveaxis(x, k, 0),
    lambda x, rows, k: jnp.moveaxis(x, k, -1),
    lambda x, rows, k: x.reshape(x.shape[::-1]),
    lambda x, rows, k: jnp.abs(jnp.fft.fft(x, axis=k)) / 4,
    lambda x, rows, k: custom(x) + jax.nn.relu(x),
    lambda x, rows, k: centred(x),
    *(shifted, blocks, halves, one_of, last_of, real_sum, real_softmax, along_first, carried),
    *(branched, gram, matched, counted, both, first_half),
]
STEPS_OF_PROGRAMS = st.lists(
    st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 3)), min_size=1, max_size=4
)


def drawn(steps):
    """A loss, the outputs and the gradient of a program made of the steps."""

    def loss(scale, rows, x):
        y = scale * x
        for operation, k in steps:
            y = operation(y, rows, k % y.ndim)
        apart = y.ndim > 0 and y.shape[0] == len(rows)
        kept = jnp.where(real(rows, y), y, 0) if apart else y * 0
        return jnp.square(kept).sum() / rows.sum(), y

    return loss


def is_independent(loss):
    arguments = [(spec(), spec(n, dtype="bool"), spec(n, 4, 3)) for n in (FULL, OTHER)]
    return why_mixed(loss, *arguments, valid=1, differentiated=True) is None


def assert_filling_changes_nothing(*programs):
    """In programs that are found independent."""
    rng = np.random.default_rng(1)
    x, one = rng.normal(size=(OTHER, 4, 3)).astype("float32"), np.float32(1.1)
    sides = (one, np.arange(FULL) < OTHER, padded(x, rng)), (one, np.ones(OTHER, bool), x)
    # Compiled in full: else a maximum may equal none of its entries, and its gradient is NaN.
    runs = [of_both(jax.value_and_grad(loss, has_aux=True)) for loss in programs]
    for found, expected in jax.jit(lambda *sides: [run(*sides) for run in runs])(*sides):
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            a = a if a.shape == b.shape else a[:OTHER]
            np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4)


@pytest.mark.slow
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(STEPS_OF_PROGRAMS)
def test_drawn_programs_found_independent_are_so(steps):
    if is_independent(drawn(steps)):
        assert_filling_changes_nothing(drawn(steps))


@pytest.mark.slow
def test_many_drawn_programs_are_found_independent():
    found = list(filter(is_independent, (drawn([(operation, 1)]) for operation in OPERATIONS)))
    assert len(found) > len(OPERATIONS) / 2
    assert_filling_changes_nothing(*found)


# -- fit, evaluate and predict -------------------------------------------------------------------


def centre(a):
    return a - a.mean(axis=0)


def total(a):
    return 0.5 * a + 0.1 * a.sum()


def order(a):
    return jnp.sort(a, axis=0) + 0.5 * a


class Mixing(fnn.Layer):
    """A layer of a user's whose examples are compared with the largest."""

    def apply(self, params, state, x, ctx=fnn.INFERENCE):
        return x - 0.5 * x.max(axis=0), state


def across(t, p):
    """One value for each example, which depends on all."""
    return jnp.square(p - t - (p - t).mean(0)).mean(-1)


def largest(t, p):
    """One value for the batch."""
    return jnp.square(p - t).max()


def squared(t, p):
    return jnp.square(p - t).mean(-1)


USED_LAYERS = {
    "apart": (lambda: L.Lambda(jnp.tanh), jnp.tanh),
    "centre": (lambda: L.Lambda(centre), centre),
    "total": (lambda: L.Lambda(total), total),
    "class": (Mixing, lambda a: a - 0.5 * a.max(axis=0)),
}
FUNCTIONS = (squared, across, largest)
EXAMPLES, BATCH, RATE = 7, 5, 0.1


def parts(*arrays):
    for first in range(0, EXAMPLES, BATCH):
        yield [a[first : first + BATCH] for a in arrays]


def without_filling(layer, loss, metric):
    """What the batches alone make: the weights after an epoch; outputs, loss, metric with these.

    One program: operation by operation it would be a program for each, and for each size.
    """

    def values(weight, x, y):
        outputs = [layer(a @ weight) for (a,) in parts(x)]
        numbers = [
            sum(jnp.mean(function(b, out)) * len(out) for out, (b,) in pairs) / EXAMPLES
            for function in (loss, metric)
            for pairs in [list(zip(outputs, parts(y), strict=True))]
        ]
        return jnp.concatenate(outputs), *numbers

    def run(weight, x, y):
        after = weight
        for a, b in parts(x, y):
            slope = jax.grad(lambda w, a=a, b=b: jnp.mean(loss(b, layer(a @ w))))
            after = after - RATE * slope(after)
        return after, values(after, x, y)

    return jax.jit(run)


@contextlib.contextmanager
def compiled_in_full(needed):
    """Whether programs are: it takes three times as long."""
    jax.config.update("jax_disable_most_optimizations", not needed)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def assert_as_without_filling(make, layer, loss, metric):
    # The gradient of a maximum needs one that equals an entry.
    with compiled_in_full(make is Mixing or loss is largest):
        as_without_filling(make, layer, loss, metric)


def as_without_filling(make, layer, loss, metric):
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(EXAMPLES, n)).astype("float32") for n in (4, 3))
    start = rng.normal(size=(4, 3)).astype("float32")
    model = fnn.Sequential([L.Dense(3, use_bias=False, input_shape=(4,)), make()])
    model.set_weights([start])
    model.compile(fnn.optimizers.SGD(RATE), loss, metrics=[metric])
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    weight, (outputs, mean_loss, mean_metric) = without_filling(layer, loss, metric)(start, x, y)

    model.fit(x, y, BATCH, epochs=1, shuffle=False, verbose=0)
    close(model.get_weights()[0], weight)
    close(model.predict(x, batch_size=BATCH, verbose=0), outputs)
    logs = model.evaluate(x, y, BATCH, verbose=0, return_dict=True)
    close(logs["loss"], mean_loss)
    close(logs[metric.__name__], mean_metric)


# Where one of layer, loss and metric mixes examples; all three; and two of them.
TRIPLES = [
    (name, loss, metric)
    for i, name in enumerate(USED_LAYERS)
    for j, loss in enumerate(FUNCTIONS)
    for k, metric in enumerate(FUNCTIONS)
    if [i, j, k].count(0) >= 2
]
TRIPLES += [
    ("centre", across, largest),
    pytest.param("centre", squared, across, marks=pytest.mark.thorough),
    pytest.param("centre", largest, squared, marks=pytest.mark.thorough),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "loss", "metric"), TRIPLES)
def test_filling_reaches_no_weight_and_no_number(name, loss, metric):
    assert_as_without_filling(*USED_LAYERS[name], loss, metric)


OF_LAYERS = [
    *(jnp.tanh, centre, total, order),
    lambda a: jax.nn.softmax(a, 0),
    lambda a: a - a[:1],
    lambda a: a[::-1],
    lambda a: jnp.cumsum(a, 0) / 4,
    lambda a: jnp.tanh(a @ a.T) @ a,
    lambda a: a / a.shape[0],
    lambda a: a.reshape(-1)[::-1].reshape(a.shape),
]


@pytest.mark.slow
@settings(max_examples=4, deadline=None, derandomize=True, database=None)
@given(
    st.lists(st.sampled_from(OF_LAYERS), min_size=1, max_size=3),
    st.sampled_from(FUNCTIONS),
    st.sampled_from(FUNCTIONS),
)
def test_filling_reaches_nothing_in_drawn_layers(steps, loss, metric):
    def layer(a):
        for step in steps:
            a = step(a)
        return a

    assert_as_without_filling(lambda: L.Lambda(layer), layer, loss, metric)


@pytest.mark.slow
def test_three_examples_in_a_batch_of_32():
    x = np.array([[1.0], [2.0], [6.0]], "float32")
    model = fnn.Sequential([L.Lambda(lambda a: a - a.mean(axis=0))])
    np.testing.assert_allclose(model.predict(x, verbose=0), [[-2], [-1], [3]], atol=1e-6)
    model = fnn.Sequential([L.Lambda(lambda a: a * 0 + a.sum())])
    model.compile(loss="mse")
    assert model.evaluate(x, 0 * x, 32, verbose=0) == pytest.approx(81)


def test_a_number_for_a_batch_of_one_example():
    x = np.arange(6, dtype="float32")[:, None]
    model = fnn.Sequential([L.Lambda(lambda a: a - a.mean(axis=0))])
    found = model.predict(x, batch_size=5, verbose=0)
    np.testing.assert_allclose(found[:, 0], [-2, -1, 0, 1, 2, 0], atol=1e-6)
