"""Every metric is one number: however the data is cut, ordered and spread over devices."""

import copy
import functools
import inspect
import pickle
import weakref
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import fnn
from fnn import losses, metrics
from fnn.core.config import from_config, to_config
from fnn.metrics import (
    AUC,
    ExpectedCalibrationError,
    Mean,
    MultiLabelAccuracy,
    Perplexity,
    R2Score,
    Sum,
    exact,
)
from fnn.metrics.accumulator import accumulator_of
from fnn.metrics.confusion import ConfusionMetric
from fnn.metrics.losses import MeanOfLoss
from fnn.training.state import Accumulator, add
from tests.helpers.metric_examples import (
    CLASSES,
    MANY,
    NUMBERED,
    NUMBERS,
    ONE_EACH,
    STEPS,
    compiled,
    result,
)

pytestmark = pytest.mark.slow

random = np.random.default_rng(5)
ROWS = 96
SIZES = [12, 4, 12, 12, 4, 12, 12, 4, 12, 12]  # ten unequal batches, two compilations
CUTS = np.cumsum(SIZES)[:-1].tolist()
NEW = [
    ("AUC", {"exact": True}, *MANY),
    ("ExpectedCalibrationError", {}, *NUMBERED),
    ("ExpectedCalibrationError", {"num_bins": 4}, *CLASSES),
    ("MultiLabelAccuracy", {}, *MANY),
    ("MultiLabelAccuracy", {"criterion": "jaccard", "threshold": 0.3}, *MANY),
    ("Perplexity", {}, *STEPS),
    ("LossMetric", {"loss": losses.Huber(0.5)}, *NUMBERS),
    ("MeanMetricWrapper", {"fn": losses.mean_absolute_error}, *NUMBERS),
]
TABLE = [*ONE_EACH, *NEW]
# Their sums are those of one base: one of each here, and the others in `make thorough`.
ALIKE = (MeanOfLoss, ConfusionMetric)


def is_another(place):
    """Whether a row before this one is of the same base in `ALIKE`; rows of `NEW` are all tried."""
    cls, *before = (getattr(metrics, row[0]) for row in (TABLE[place], *TABLE[:place]))
    bases = [base for base in ALIKE if issubclass(cls, base)]
    seen = any(issubclass(one, base) for one in before for base in bases)
    return seen and place < len(ONE_EACH)


def enlarged(array):
    """The rows of a small example again and again, in another order, with other numbers."""
    order = np.random.default_rng(1).integers(0, len(array), ROWS)
    rows = np.asarray(array)[order]
    if rows.dtype != "float32" or set(np.unique(rows)) <= {-1, 0, 1}:
        return rows
    return (rows * np.random.default_rng(2).uniform(0.8, 1, rows.shape)).astype("float32")


def run(metric, y_true, y_pred, weight, cuts=(), apart=False):
    """The result over batches, of one running sum or of sums of their own, added at the end."""
    zeros, update = metric.init(y_true, y_pred), compiled(metric)
    sums, parts = zeros, []
    for first, last in zip([0, *cuts], [*cuts, len(y_pred)], strict=True):
        part = slice(first, last)
        sums = update(zeros if apart else sums, y_true[part], y_pred[part], weight[part])
        parts.append(sums)
    # added by NumPy, which compiles nothing
    added = lambda *leaves: sum(map(np.asarray, leaves))
    return result(metric, jax.tree.map(added, *parts) if apart else sums)


@pytest.mark.parametrize(
    ("name", "arguments", "y_true", "y_pred"),
    [
        pytest.param(*r, marks=pytest.mark.thorough if is_another(i) else ())
        for i, r in enumerate(TABLE)
    ],
    ids=[f"{r[0]}-{list(r[1])}{i}" for i, r in enumerate(TABLE)],
)
def test_no_split_order_or_device_changes_the_number(name, arguments, y_true, y_pred):
    metric = getattr(metrics, name)(**arguments)
    data = enlarged(y_true), enlarged(y_pred), random.integers(0, 4, ROWS).astype("float32")
    order = random.permutation(ROWS)
    sums = compiled(metric)(metric.init(*data[:2]), *on_devices(*data))
    whole = result(metric, jax.device_get(sums))
    same = lambda found: np.testing.assert_allclose(found, whole, rtol=1e-6, atol=1e-6)
    same(run(metric, *data, cuts=CUTS))
    same(run(metric, *(a[order] for a in data), cuts=CUTS, apart=True))


def on_devices(*arrays):
    """The rows of arrays spread over all devices."""
    assert len(jax.devices()) == 8
    rows = NamedSharding(Mesh(np.array(jax.devices()), ("batch",)), PartitionSpec("batch"))
    return [jax.device_put(a, rows) for a in arrays]


def test_mean_and_sum_are_exact_too():
    values, weight = random.uniform(1, 2, ROWS), random.integers(0, 4, ROWS)
    order = random.permutation(ROWS)
    for metric, expected in (
        (Mean(), np.average(values, weights=weight)),
        (Sum(), values @ weight),
    ):
        same = lambda sums, m=metric, e=expected: np.testing.assert_allclose(
            m.result(sums), e, rtol=1e-6
        )
        for v, w in ((values, weight), (values[order], weight[order])):
            sums = metric.init()
            for part in map(slice, [0, *CUTS], [*CUTS, ROWS]):
                sums = metric.update(sums, v[part], w[part])
            same(sums)
        same(jax.device_get(metric.update(metric.init(), *on_devices(values, weight))))


def test_every_metric_is_measured_so():
    """All but the two above, and `Metric`, from which they are made."""
    measured = {getattr(metrics, name) for name, *_ in TABLE} | {Mean, Sum, metrics.Metric}
    public = {getattr(metrics, name) for name in metrics.__all__}
    public = {thing for thing in public if inspect.isclass(thing)}
    assert public == measured


# -- far from 0 ----------------------------------------------------------------------------------


@jax.jit
def r2_of_batches(batches):
    """The result over batches that are stacked, and compiled once for each of their shapes."""
    metric, (t, y, _) = R2Score(), batches
    step = lambda sums, batch: (metric.update(sums, *batch), None)
    return metric.result(jax.lax.scan(step, metric.init(t[0], y[0]), batches)[0])


@pytest.mark.parametrize(
    ("offset", "scale"), [(0, 1), (1e3, 1), (-1e4, 1), (2020, 5), (1e-6, 1e-6)]
)
def test_r2_is_exact_wherever_the_targets_lie(offset, scale):
    rows = 10000
    t = (offset + scale * random.normal(size=(rows, 2))).astype("float32")
    y = (t + 0.3 * scale * random.normal(size=t.shape)).astype("float32")
    weight = random.uniform(0, 3, rows).astype("float32")
    for parts in (1, 10, 157, 5000):
        size = rows // parts
        batches = [a[: parts * size].reshape(parts, size, *a.shape[1:]) for a in (t, y, weight)]
        found = r2_of_batches(batches)
        exactly, guess, w = (a.reshape(parts * size, -1).astype("float64") for a in batches)
        mean = np.average(exactly, axis=0, weights=w[:, 0])
        residual, spread = (w * (exactly - guess) ** 2).sum(0), (w * (exactly - mean) ** 2).sum(0)
        np.testing.assert_allclose(found, (1 - residual / spread).mean(), rtol=1e-6)


@pytest.mark.parametrize("constant", [0.1, 273.15, -7e7, 1e-5])
def test_constant_targets_are_constant_in_any_batches(constant):
    metric, t, ones = R2Score(), np.full((7, 1), constant, "float32"), np.ones(7, "float32")
    sums, update = metric.init(t, t), compiled(metric)
    for weight in ([1, 2, 0.3, 0, 1, 1, 1], ones, [0, 0, 0, 0, 0, 0, 1]):
        sums = update(sums, t, t, np.float32(weight))
    assert result(metric, sums) == 1
    assert result(metric, update(sums, t, np.float32(1.1) * t, ones)) == 0
    assert result(metric, metric.init()) == 0


def test_digits_hold_sums_and_products_exactly():
    x = np.float32([1e4, -3.14159, 1e-3, -7e8, 0, 3e38, 1e-30])
    y = np.float32([1.2345e3, 2.2, 9.9e-7, 1 / 3, 5, 1, 1])
    whole = lambda sums: [
        sum(Fraction(int(d)) * Fraction(2) ** (8 * i - 120) for i, d in enumerate(column))
        for column in np.asarray(sums).T
    ]
    fractions = lambda a: [Fraction(float(v)) for v in a]
    with np.errstate(over="ignore"):
        products = [a * b for a, b in zip(fractions(x), fractions(y), strict=True)]

    @jax.jit
    def of_both(x, y):
        alone = exact.digits(x)
        of_products, of_nothing = exact.digits(*exact.product(x, y)), exact.digits(x, -x)
        return alone, of_products, exact.value(alone), exact.value(of_nothing)

    alone, of_products, value, nothing = of_both(x, y)
    assert whole(alone) == fractions(x)
    assert whole(of_products) == products
    np.testing.assert_array_equal(value, x)
    np.testing.assert_array_equal(nothing, 0)


@pytest.mark.parametrize("name", ["PearsonCorrelation", "ConcordanceCorrelation"])
def test_correlations_are_exact_far_from_0(name):
    t = (1e4 + random.normal(size=(50, 40))).astype("float32")
    y = (t + 0.5 * random.normal(size=t.shape)).astype("float32")
    a, b = t.astype("float64"), y.astype("float64")
    c = ((a - a.mean(1, keepdims=True)) * (b - b.mean(1, keepdims=True))).mean(1)
    if name == "PearsonCorrelation":
        expected = c / (a.std(1) * b.std(1))
    else:
        expected = 2 * c / (a.var(1) + b.var(1) + (a.mean(1) - b.mean(1)) ** 2 + 1e-7)
    metric = getattr(metrics, name)()
    for cuts in ((), (10, 17)):
        found = run(metric, t, y, np.ones(50, "float32"), cuts)
        np.testing.assert_allclose(found, expected.mean(), rtol=1e-6)


def test_the_root_of_squares_is_exact_far_from_0():
    t = (1e4 + random.normal(size=5000)).astype("float32")
    y = (t + 0.5 * random.normal(size=t.shape)).astype("float32")
    expected = np.sqrt(np.square(t.astype("float64") - y).mean())
    metric = metrics.RootMeanSquaredError()
    found = run(metric, t, y, np.ones(5000, "float32"), range(500, 5000, 500))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


# -- the exact area ------------------------------------------------------------------------------


def scores(kind, rows):
    """Targets, predictions, logits."""
    y_true = random.integers(0, 2, rows).astype("float32")
    logit = {"spread": 2, "extreme": 8, "crowded": 0.004, "ties": 2, "two values": 2}[kind]
    logit = (logit * (random.normal(size=rows) + y_true)).astype("float32")
    if kind == "extreme":
        logit -= 9
    if kind == "ties":
        logit = np.round(logit, 1)
    if kind == "two values":
        logit = np.where(logit > 1, 0.3, -3.3).astype("float32")
    return y_true, np.asarray(jax.nn.sigmoid(logit)), logit


def davis_goadrich(t, p, w):
    """The area under precision over recall, interpolated between scores, by a loop."""
    area, hits, alarms = 0.0, 0.0, 0.0
    positives = (w * t).sum()
    for score in np.unique(p)[::-1]:
        more = (w * t)[p == score].sum(), (w * (1 - t))[p == score].sum()
        called, gained = hits + alarms, sum(more)
        slope = more[0] / gained if gained else 0
        intercept = hits - slope * called
        ratio = (called + gained) / called if called > 0 else 1
        area += slope * (more[0] + intercept * np.log(ratio)) / positives
        hits, alarms = hits + more[0], alarms + more[1]
    return area


# Without weights each is 1, which is the same program: one kind shows it.
KINDS = ["spread", "extreme", "crowded", "ties", "two values"]
WEIGHED = [(kind, True) for kind in KINDS] + [("spread", False)]


@pytest.mark.parametrize("rows", [60, 3000])
@pytest.mark.parametrize(("kind", "weighted"), WEIGHED)
def test_the_exact_area_is_that_of_scikit_learn(kind, rows, weighted):
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    y_true, y_pred, logit = scores(kind, rows)
    weight = random.integers(0, 4, rows) if weighted else np.ones(rows)
    weight, real = weight.astype("float32"), weight > 0
    y_pred, logit = (np.where(real, a, np.nan).astype("float32") for a in (y_pred, logit))
    t, p, w = (a[real].astype("float64") for a in (y_true, y_pred, weight))
    cuts = [rows // 4, rows // 2]  # two sizes, two compilations
    tolerance = 1e-3 if kind == "crowded" and rows > 1000 else 1e-6  # many in a bucket
    for given, metric in (
        (y_pred, AUC(exact=True)),
        (logit, AUC(exact=True, from_logits=True)),
    ):
        expected = sklearn_metrics.roc_auc_score(
            y_true[real], given[real], sample_weight=weight[real]
        )
        found = run(metric, y_true, given, weight, cuts)
        np.testing.assert_allclose(found, expected, atol=tolerance)
        np.testing.assert_allclose(run(metric, y_true, given, weight, cuts, apart=True), found)
    found = run(AUC(exact=True, curve="PR"), y_true, y_pred, weight, cuts)
    np.testing.assert_allclose(found, davis_goadrich(t, p, w), atol=10 * tolerance)


def test_the_exact_area_of_several_labels():
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    y_true, y_pred = random.integers(0, 2, (200, 3)), random.uniform(size=(200, 3))
    y_pred = y_pred.astype("float32")
    each = [sklearn_metrics.roc_auc_score(y_true[:, i], y_pred[:, i]) for i in range(3)]
    ones = np.ones(200, "float32")
    metric = AUC(exact=True, multi_label=True, label_weights=(1.0, 2.0, 0.5))
    found = run(metric, y_true, y_pred, ones, [60])
    np.testing.assert_allclose(found, np.average(each, weights=[1, 2, 0.5]), atol=1e-6)
    flat = sklearn_metrics.roc_auc_score(y_true.reshape(-1), y_pred.reshape(-1))
    np.testing.assert_allclose(run(AUC(exact=True), y_true, y_pred, ones), flat, atol=1e-6)
    assert run(AUC(exact=True), np.ones((4, 1)), np.ones((4, 1)), np.zeros(4)) == 0
    with pytest.raises(ValueError, match="thresholds to be None with exact=True"):
        AUC(thresholds=(0.5,), exact=True)


# -- the stateful face ---------------------------------------------------------------------------


SOME = [
    row for row in TABLE if row[0] in ("Accuracy", "R2Score", "Recall", "AUC", "F1Score", "IoU")
]
SOME.append(NEW[0])


@pytest.mark.parametrize(
    ("name", "arguments", "y_true", "y_pred"), SOME, ids=[row[0] for row in SOME]
)
def test_the_stateful_face_gives_the_same_number(name, arguments, y_true, y_pred, monkeypatch):
    cls = getattr(metrics, name)
    # one program, as operation by operation there are hundreds
    monkeypatch.setattr(cls, "update", jax.jit(cls.update, static_argnums=0))
    make = lambda: getattr(metrics, name)(**arguments)
    y_true, y_pred = y_true[:8], y_pred[:8]  # two batches of one size, as each is compiled
    metric, weight = make(), np.ones(8, "float32")
    metric.update_state(y_true[:4], y_pred[:4])
    metric.update_state(y_true[4:], y_pred[4:], sample_weight=weight[4:])
    expected = run(make(), y_true, y_pred, weight, cuts=[4])
    np.testing.assert_allclose(metric.result(), expected, rtol=1e-6)
    assert (metric, hash(metric), repr(metric)) == (make(), hash(make()), repr(make()))
    assert from_config(to_config(metric)) == make()
    metric.reset_state()
    metric.update_state(y_true[:4], y_pred[:4])
    first = run(make(), y_true[:4], y_pred[:4], weight[:4])
    np.testing.assert_allclose(metric.result(), first, rtol=1e-6)


class Opened(metrics.Metric):
    """A metric with an `__init__` of its own, whose attributes are its value."""

    def __init__(self, power):
        super().__init__()
        self.power = power

    def values(self, y_true, y_pred):
        return (y_pred - y_true) ** self.power


COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda metric: pickle.loads(pickle.dumps(metric)),
    "config": lambda metric: from_config(to_config(metric)),
    "replace": lambda metric: metric.replace(),
}


OF_AN_OPEN_CLASS = ["copy", "deepcopy", "pickle"]


@pytest.mark.parametrize(
    ("way", "make"),
    [(way, metrics.Recall) for way in COPIES]
    + [(way, lambda: Opened(2)) for way in OF_AN_OPEN_CLASS],
)
def test_a_copy_of_a_metric_starts_from_zero(way, make):
    metric, fresh = make(), make()
    attributes = dict(vars(fresh))
    metric.update_state([1.0, 1.0], [1.0, 0.0])
    assert {*vars(metric)} == {*attributes}, "the value holds what it has seen"
    copied = COPIES[way](metric)
    assert (copied, hash(copied), repr(copied)) == (fresh, hash(fresh), repr(fresh))
    assert copied.result() == 0
    assert not any(v.value.any() for v in copied.variables)
    assert metric.result() == 0.5
    copied.update_state([1.0], [1.0])
    assert (metric.result(), copied.result()) == (0.5, make()([1.0], [1.0]))


def test_what_a_metric_has_seen_goes_with_the_object():
    metric = Mean()
    metric.update_state(jnp.ones(3))
    seen = weakref.ref(accumulator_of(metric, metric.init))
    del metric
    assert seen() is None
    for value in range(5):  # a new object may have the id of the old one
        assert Mean().result() == 0
        Mean()([float(value + 1)])


def test_the_stateful_face_of_keras():
    mean = Mean()
    assert mean.result() == 0
    mean.update_state([1.0, 3.0])
    mean.update_state(5.0)
    mean.update_state([7.0], [2.0])
    assert mean.result().item() == pytest.approx((1 + 3 + 5 + 14) / 5)
    mean.reset_state()
    assert mean.result() == 0
    total = Sum()
    total.update_state(jnp.ones(3))
    assert total.result() == 3


def test_a_mean_over_millions_of_batches_is_as_right_as_over_one():
    accumulator = lambda value: Accumulator(Mean(), {"total": value, "count": jnp.ones(())})
    tenth = jnp.float32(0.1)
    more = lambda _, sums: add(sums, {"loss": accumulator(tenth)})
    start = {"loss": accumulator(tenth)}
    whole = jax.jit(lambda: jax.lax.fori_loop(1, 2_000_000, more, start))()
    assert whole["loss"].result == tenth
    plain = jax.lax.fori_loop(0, 2_000_000, lambda _, total: total + tenth, jnp.float32(0))
    assert abs(plain / 2e6 - 0.1) > 1e-5  # what it would be


def test_what_is_not_finite_stays_so_in_sums():
    for value in (jnp.inf, -jnp.inf, jnp.nan):
        sums, lost = jnp.float32(1), jnp.float32(0)
        for more in (value, 1.0):
            sums, lost = exact.add(sums, lost, jnp.float32(more))
        np.testing.assert_equal(float(sums + lost), float(value))
    sums, lost = exact.add(jnp.int32(2), jnp.int32(0), jnp.int32(3))  # integers lose nothing
    assert (sums.item(), lost.item(), lost.dtype) == (5, 0, "int32")


BIG = 2.0**24  # to which float32 adds no 1
VALUES = np.array([BIG, *np.ones(1024)], "float32")


def test_small_batches_after_a_large_one_count():
    """In the loss of `evaluate` and `fit`, in metrics, weighted or not, and batch by batch."""
    net = fnn.Sequential([fnn.layers.Dense(1, kernel_initializer="zeros", input_shape=(1,))])
    net.compile(fnn.optimizers.SGD(0.0), "mae", metrics=["mae"], weighted_metrics=["mse"])
    x, weight = np.zeros((len(VALUES), 1), "float32"), np.linspace(1, 2, len(VALUES))
    exactly = VALUES.astype("float64")
    given = {"batch_size": 1, "sample_weight": weight, "verbose": 0}
    logs = net.evaluate(x, VALUES, return_dict=True, **given)
    history = net.fit(x, VALUES, shuffle=False, **given).history
    expected = {
        "loss": (weight * exactly).mean(),
        "mae": exactly.mean(),
        "mse": (weight * exactly**2).sum() / weight.sum(),
    }
    for name, number in expected.items():
        assert logs[name] == pytest.approx(number, rel=2e-7)
        assert history[name] == [pytest.approx(number, rel=2e-7)]


def test_the_stateful_face_keeps_what_rounding_takes():
    mean, positives = Mean(), metrics.TruePositives()
    for value, weight in ((BIG, 1.0), *[(1.0, 1.0)] * 9):
        mean.update_state([value], [weight])
        positives.update_state([1.0], [1.0], sample_weight=[value])
    assert mean.result() == pytest.approx((BIG + 9) / 10, rel=1e-7)
    assert positives.result() == pytest.approx(BIG + 9, rel=1e-7)


# -- what Keras lacks ----------------------------------------------------------------------------


def calibration_error(confidence, hits, bins):
    """By the words of Guo et al.: a loop over bins."""
    error = 0.0
    for number in range(bins):
        inside = (confidence > number / bins) & (confidence <= (number + 1) / bins)
        if inside.any():
            error += abs(hits[inside].mean() - confidence[inside].mean()) * inside.mean()
    return error


@pytest.mark.parametrize("bins", [1, 5, 15])
def test_calibration_is_that_of_a_loop(bins):
    shares = np.asarray(jax.nn.softmax(2 * random.normal(size=(200, 4)).astype("float32")))
    labels = random.integers(0, 4, 200)
    metric = ExpectedCalibrationError(bins)
    expected = calibration_error(shares.max(-1), shares.argmax(-1) == labels, bins)
    one_hot = np.eye(4, dtype="float32")[labels]
    logits = ExpectedCalibrationError(bins, from_logits=True)
    ones = np.ones(200, "float32")
    assert run(metric, labels, shares, ones) == pytest.approx(expected, rel=1e-4)
    assert run(metric, one_hot, shares, ones) == pytest.approx(expected, rel=1e-4)
    assert run(logits, labels, np.log(shares), ones) == pytest.approx(expected, rel=1e-4)


def test_calibration_of_two_classes_looks_at_the_likelier_one():
    positive = random.uniform(size=(100, 1)).astype("float32")
    truth = random.integers(0, 2, 100).astype("float32")
    both = np.concatenate([1 - positive, positive], axis=1)
    ones = np.ones(100, "float32")
    found = run(ExpectedCalibrationError(), truth, positive, ones)
    again = run(ExpectedCalibrationError(), truth.astype(int), both, ones)
    assert float(found) == pytest.approx(float(again), abs=1e-6)
    logit = np.log(positive / (1 - positive))
    from_logits = run(ExpectedCalibrationError(from_logits=True), truth, logit, ones)
    assert float(from_logits) == pytest.approx(float(found), abs=1e-6)


def test_sets_of_labels_agree_as_scikit_learn_says():
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    truth, scores = random.integers(0, 2, (50, 3)), random.uniform(size=(50, 3))
    truth[0], scores[0] = 0, 0.1  # both sets empty
    called = scores > 0.4
    ones = np.ones(50, "float32")
    oracle = {
        "exact_match": sklearn_metrics.accuracy_score(truth, called),
        "hamming": 1 - sklearn_metrics.hamming_loss(truth, called),
        "jaccard": sklearn_metrics.jaccard_score(
            truth, called, average="samples", zero_division=1.0
        ),
    }
    for criterion, expected in oracle.items():
        metric = MultiLabelAccuracy(0.4, criterion)
        assert run(metric, truth, scores, ones) == pytest.approx(expected, rel=1e-6)


def test_perplexity_is_the_exponential_of_the_mean_over_tokens():
    labels, logits = random.integers(0, 5, (6, 7)), random.normal(size=(6, 7, 5)).astype("float32")
    each = -np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), labels[..., None], -1)[
        ..., 0
    ]
    metric = Perplexity(from_logits=True)
    found = run(metric, labels, logits, np.ones(6, "float32"), cuts=[1, 4])
    assert found == pytest.approx(np.exp(each.mean()), rel=1e-5)
    ignoring = Perplexity(from_logits=True, ignore_class=2)
    found = run(ignoring, labels, logits, np.ones((6, 7), "float32"), cuts=[1, 4])
    assert found == pytest.approx(np.exp(each[labels != 2].mean()), rel=1e-5)


def test_new_metrics_go_by_name_and_refuse_nonsense():
    for name in ("expected_calibration_error", "multi_label_accuracy", "perplexity"):
        assert metrics.get(name).name == name
    with pytest.raises(ValueError, match="num_bins to be an integer above 0"):
        ExpectedCalibrationError(0)
    with pytest.raises(ValueError, match="criterion to be one of 'exact_match'"):
        MultiLabelAccuracy(criterion="any")
    with pytest.raises(ValueError, match="threshold to be a number"):
        MultiLabelAccuracy(threshold="half")


@pytest.mark.parametrize(("dtype", "classes"), [("uint8", 256), ("int8", 200)])
def test_narrow_labels_count_as_any_others(dtype, classes):
    # In JAX uint8(1) < 256 is False, as 256 has no place in uint8: bytes would be of no class.
    y_true = random.integers(0, min(classes, np.iinfo(dtype).max + 1), (6, 16)).astype(dtype)
    y_pred = random.dirichlet(np.ones(classes), (6, 16)).astype("float32")
    y_pred[0, 1, y_true[0, 1]] = y_pred[2, 3, y_true[2, 3]] = 1
    guess = np.argmax(y_pred, -1)
    guess = np.where(guess <= np.iinfo(dtype).max, guess, 0).astype(dtype)
    for metric, predicted in (
        (metrics.SparseCategoricalAccuracy(), y_pred),
        (metrics.SparseTopKCategoricalAccuracy(3), y_pred),
        (metrics.SparseTopKCategoricalAccuracy(3, from_sorted_ids=True), guess[..., None]),
        (metrics.SparseCategoricalCrossentropy(), y_pred),
        (metrics.Perplexity(), y_pred),
        (ExpectedCalibrationError(), y_pred),
        (metrics.MeanIoU(classes), guess),
        (metrics.IoU(classes, [int(y_true[0, 1])]), guess),
        (metrics.Accuracy(), guess),
        (losses.SparseCategoricalCrossentropy(), y_pred),
        (losses.SparseCategoricalCrossentropy(ignore_class=int(y_true[0, 0])), y_pred),
        (losses.CategoricalGeneralizedCrossEntropy(), y_pred),
    ):
        is_loss = isinstance(metric, losses.Loss)
        measured = jax.jit(metric) if is_loss else functools.partial(run, metric)
        weight = () if is_loss else (np.ones((6, 16), "float32"),)
        found, wanted = (measured(y, predicted, *weight) for y in (y_true, y_true.astype("int32")))
        assert np.isfinite(wanted)
        assert wanted > 0
        np.testing.assert_array_equal(found, wanted, err_msg=repr(metric))
