"""Metrics: numbers against Keras and scikit-learn over batches, weights, sums, messages."""

import functools
import inspect
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import losses, metrics
from fnn.core.config import from_config, to_config
from fnn.metrics import Metric, exact
from tests.helpers.metric_examples import (
    CLASSES,
    NAMES,
    NUMBERS,
    ONE_EACH,
    STEPS,
    TABLE,
    compiled,
    labels,
    normal,
    one_hot,
    probabilities,
    random,
    result,
    uniform,
    yes_no,
)
from tests.helpers.oracle import keras_rules

# each with weights, the first of each class without too
FIRST = [i for i, row in enumerate(TABLE) if row[0] not in {r[0] for r in TABLE[:i]}]
CASES = [(i, True) for i in range(len(TABLE))] + [(i, False) for i in FIRST]
CUTS = [(0, 3), (3, 6), (6, 9)]  # batches of one size are one compilation
INTEGERS = ("IoU", "MeanIoU", "OneHotIoU", "OneHotMeanIoU", "BinaryIoU")


def measure(metric, y_true, y_pred, weight=None, cuts=CUTS):
    sums = metric.init(y_true, y_pred)
    update = compiled(metric)
    for start, stop in cuts:
        w = None if weight is None else weight[start:stop]
        sums = update(sums, y_true[start:stop], y_pred[start:stop], w)
    return result(metric, sums)


def weights_of(name, arguments, y_true, y_pred):
    """Weights of the examples, and these as Keras takes them."""
    weight = given = np.array([1, 2, 0, 3, 1, 1, 0, 2, 1], "float32")
    if name in INTEGERS:  # Keras takes one whole weight an entry here
        given = weight.astype("int32")
        if y_pred.ndim > 1 and name in ("IoU", "MeanIoU", "BinaryIoU"):
            ndim = y_true.ndim
            given = np.broadcast_to(given.reshape(-1, *(1,) * (ndim - 1)), y_true.shape)
    if name == "R2Score" and arguments.get("num_regressors"):
        weight = given = weight + 1  # Keras counts entries of weight 0 as examples too
    return weight, given


def by_keras(keras, name, arguments, compared, weights):
    """The metric of Keras by each of some weights: operation by operation each is a program.

    With a number of regressors Keras's R2Score looks at values.
    """
    whole = (lambda run: run) if "num_regressors" in arguments else jax.jit

    def result(weight, compared):
        oracle = getattr(keras.metrics, name)(**arguments)
        oracle.update_state(*compared, sample_weight=weight)
        return jnp.asarray(oracle.result())

    with keras_rules():
        return whole(lambda *given: [result(w, given) for w in weights])(*compared)


@functools.cache
def expected_of(keras, number):
    """A row of the table by Keras: with weights, and without them where a case asks for it."""
    name, arguments, *compared = TABLE[number]
    weights = [weights_of(*TABLE[number])[1], *[None] * (number in FIRST)]
    return by_keras(keras, name, arguments, compared, weights)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "weighted"),
    CASES,
    ids=[f"{NAMES[number]}-{weighted}" for number, weighted in CASES],
)
def test_batches_equal_keras(keras, number, weighted):
    name, arguments, *compared = TABLE[number]
    weight = weights_of(*TABLE[number])[0] if weighted else None
    expected = expected_of(keras, number)[0 if weighted else 1]
    found = measure(getattr(metrics, name)(**arguments), *compared, weight)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


value = jax.jit(exact.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arguments", "y_true", "y_pred"), ONE_EACH, ids=[row[0] for row in ONE_EACH]
)
def test_sums_only_add_and_keep_their_structure(name, arguments, y_true, y_pred):
    metric = getattr(metrics, name)(**arguments)
    zeros, update = metric.init(y_true, y_pred), compiled(metric)
    whole = update(zeros, y_true, y_pred)
    parts = [update(zeros, y_true[a:b], y_pred[a:b]) for a, b in CUTS]
    added = jax.tree.map(lambda *parts: sum(map(np.asarray, parts)), *parts)
    assert jax.tree.map(jnp.shape, zeros) == jax.tree.map(jnp.shape, whole)
    kinds = {leaf.dtype.name for leaf in jax.tree.leaves((zeros, whole))}
    assert kinds <= {"float32", "int32"}  # integers are digits: see metrics/exact.py
    number = lambda a: value(a) if a.dtype == jnp.int32 else a
    same = lambda a, b: np.testing.assert_allclose(number(a), number(b), rtol=1e-5, atol=1e-5)
    jax.tree.map(same, added, whole)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "arguments", "y_true", "y_pred"), TABLE, ids=NAMES)
def test_entries_of_weight_zero_are_left_out_wholly(name, arguments, y_true, y_pred):
    metric = getattr(metrics, name)(**arguments)
    bad = np.nan if y_pred.dtype == np.float32 else 99
    targets = np.concatenate([y_true, np.full((3, *y_true.shape[1:]), 77, y_true.dtype)])
    more = np.concatenate([y_pred, np.full((3, *y_pred.shape[1:]), bad, y_pred.dtype)])
    weight = (np.arange(12) < 9).astype("float32")
    order = np.array([0, 9, 1, 2, 10, 3, 4, 5, 11, 6, 7, 8])
    cuts = [(0, 3), (3, 6), (6, 9), (9, 12)]
    found = measure(metric, targets[order], more[order], weight[order], cuts)
    expected = measure(metric, y_true, y_pred, np.ones(9, "float32"))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    nothing = measure(metric, targets, more, np.zeros(12, "float32"), cuts)
    assert np.isfinite(nothing).all()


@pytest.mark.parametrize(("name", "arguments", "y_true", "y_pred"), TABLE, ids=NAMES)
def test_a_metric_is_a_value_that_a_file_can_hold(keras, name, arguments, y_true, y_pred):
    metric = getattr(metrics, name)(**arguments)
    assert from_config(to_config(metric)) == metric
    assert hash(metric) == hash(getattr(metrics, name)(**arguments))
    metric.check(y_true, y_pred)
    with keras_rules():
        oracle = getattr(keras.metrics, name)(**arguments)
    direction = {"up": "max", "down": "min", None: None}[getattr(oracle, "_direction", None)]
    assert metric.direction == direction or name[:4] in ("True", "Fals")


BEYOND_KERAS = {
    "FunctionMetric",
    "LossMetric",
    "ExpectedCalibrationError",
    "MultiLabelAccuracy",
    "Perplexity",
}


@pytest.mark.parametrize(
    "name", [n for n in metrics.__all__ if inspect.isclass(getattr(metrics, n))]
)
def test_classes_have_keras_arguments_and_names(keras, name):
    oracle = getattr(keras.metrics, name, None)
    if oracle is None:
        assert name in BEYOND_KERAS
        return
    ours = getattr(metrics, name)
    if name == "Metric":
        return
    expected = dict(inspect.signature(oracle.__init__).parameters)
    del expected["self"]
    found = inspect.signature(ours).parameters
    assert [key for key in found if key != "exact"] == list(expected)
    for key, parameter in found.items():
        assert key in ("name", "exact") or parameter.default == expected[key].default
    needed = {
        "fn": losses.mean_squared_error,
        "num_classes": 3,
        "target_class_ids": (0,),
    }
    fields = {
        k: needed.get(k, 0.5)
        for k, p in found.items()
        if p.default is p.empty and p.kind is not p.VAR_KEYWORD
    }
    if name != "MeanMetricWrapper":
        with keras_rules():
            keras.utils.clear_session(free_memory=False)
            assert ours(**fields).name == oracle(**fields).name
    assert ours(**fields, name="mine").name == "mine"


def test_every_metric_of_keras_is_there(keras):
    with keras_rules():
        from keras.src.metrics import ALL_OBJECTS_DICT
    for name, oracle in ALL_OBJECTS_DICT.items():
        if name not in ("Metric", "metric"):  # what others are made from is none itself
            found = from_table(name)
            assert found.__name__ == oracle.__name__
            assert issubclass(found, Metric)


def from_table(name):
    from fnn.core.registry import lookup

    return lookup("metric", name)


@pytest.mark.parametrize("weighted", [False, True])
def test_mean_and_sum_equal_keras(keras, weighted):
    values, weight = normal(6, 2), np.arange(6, dtype="float32") if weighted else None
    for name in ("Mean", "Sum"):
        with keras_rules():
            oracle = getattr(keras.metrics, name)()
            oracle.update_state(values, sample_weight=weight)
            expected = oracle.result()
        metric = getattr(metrics, name)()
        found = metric.result(metric.update(metric.init(), values, weight))
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    metric = metrics.Mean("loss")
    assert metric.name == "loss"
    assert metric.result(metric.init()) == 0


def test_accuracy_over_masked_steps_is_the_mean_over_real_ones():
    y_true, y_pred = STEPS
    mask = np.arange(5)[None] < random.integers(0, 6, 9)[:, None]
    metric = metrics.SparseCategoricalAccuracy()
    found = measure(metric, y_true, y_pred, mask, cuts=[(0, 9)])
    np.testing.assert_allclose(found, (y_true == y_pred.argmax(-1))[mask].mean(), rtol=1e-6)
    binary = metrics.BinaryAccuracy()
    t, p = yes_no(9, 5), uniform(9, 5)
    hits = (t == (p > 0.5))[mask].mean()
    np.testing.assert_allclose(measure(binary, t, p, mask, cuts=[(0, 9)]), hits, rtol=1e-6)
    np.testing.assert_allclose(
        measure(metrics.MeanSquaredError(), t, p, mask, cuts=[(0, 9)]),
        np.square(t - p)[mask].mean(),
        rtol=1e-5,
    )


def test_an_ignored_class_does_not_count():
    y_true, y_pred = STEPS
    metric = metrics.SparseCategoricalCrossentropy(ignore_class=2)
    kept = y_true != 2
    picked = np.take_along_axis(y_pred, y_true[..., None], -1)[..., 0]
    expected = -np.log(picked[kept]).mean()
    np.testing.assert_allclose(measure(metric, y_true, y_pred), expected, rtol=1e-5)
    weight = np.arange(9, dtype="float32")
    weighted = np.broadcast_to(weight[:, None], kept.shape) * kept
    expected = -(np.log(picked) * weighted).sum() / weighted.sum()
    np.testing.assert_allclose(measure(metric, y_true, y_pred, weight), expected, rtol=1e-5)


def test_area_and_scores_equal_scikit_learn():
    sk = pytest.importorskip("sklearn.metrics")
    y_true = yes_no(300)
    y_pred = np.round(uniform(300) * 0.7 + 0.3 * y_true, 2)
    metric = metrics.AUC(num_thresholds=10001)
    np.testing.assert_allclose(
        measure(metric, y_true, y_pred, cuts=[(0, 300)]),
        sk.roc_auc_score(y_true, y_pred),
        rtol=1e-5,
    )
    t, p = one_hot(300, 4), probabilities(300, 4)
    found = measure(metrics.F1Score(average="macro"), t, p, cuts=[(0, 300)])
    expected = sk.f1_score(t.argmax(-1), p.argmax(-1), average="macro")
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    x, y = normal(300), normal(300)
    np.testing.assert_allclose(
        measure(metrics.R2Score(), x, y, cuts=[(0, 300)]), sk.r2_score(x, y), rtol=1e-4
    )
    found = measure(metrics.MeanIoU(4), t.argmax(-1), p.argmax(-1), cuts=[(0, 300)])
    expected = sk.jaccard_score(t.argmax(-1), p.argmax(-1), average="macro")
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.slow
def test_a_threshold_at_each_score_gives_the_exact_area():
    y_true, weight = yes_no(300), labels(4, 300).astype("float32")
    y_pred = np.round(0.503 + 0.0015 * (uniform(300) + 0.3 * y_true), 5)  # within one step of 200
    ahead = np.sign(y_pred[:, None] - y_pred[None, :]) / 2 + 0.5  # a half for a tie
    pairs = np.outer(weight * y_true, weight * (1 - y_true))
    expected = (ahead * pairs).sum() / pairs.sum()
    cuts = [(0, 100), (100, 200), (200, 300)]
    area = lambda metric: float(measure(metric, y_true, y_pred, weight, cuts))
    scores = np.unique(y_pred)
    np.testing.assert_allclose(area(metrics.AUC(thresholds=scores)), expected, rtol=1e-6)
    between = np.union1d(scores, (scores[1:] + scores[:-1]) / 2)
    for curve in ("ROC", "PR", "PRGAIN"):  # no threshold between two scores adds to it
        found = [area(metrics.AUC(curve=curve, thresholds=t)) for t in (scores, between)]
        np.testing.assert_allclose(*found, rtol=1e-5)
    low, high = (area(metrics.AUC(summation_method=m)) for m in ("minoring", "majoring"))
    assert low < expected < high
    assert high - low > 0.5  # of which the bounds warn


def test_a_class_metric_without_shapes_takes_them_in_the_first_update():
    metric = metrics.F1Score()
    sums = metric.update(metric.init(), *CLASSES)
    np.testing.assert_allclose(metric.result(sums), measure(metric, *CLASSES), rtol=1e-6)
    assert jax.tree.map(jnp.shape, metric.init(*CLASSES)) == jax.tree.map(jnp.shape, sums)


def test_lists_of_numbers_are_arrays():
    metric = metrics.BinaryAccuracy()
    assert metric.result(metric.update(metric.init(), [1, 0], [0.9, 0.8], [1, 3])) == 0.25
    assert losses.MeanSquaredError()([[1.0], [2.0]], [[0.0], [0.0]]) == 2.5


@pytest.mark.slow
def test_a_constant_is_not_nan():
    assert metrics.pearson_correlation(jnp.ones(3), jnp.arange(3.0)) == 0
    for prediction, expected in ((1.0, 1), (2.0, 0)):
        found = measure(metrics.R2Score(), np.ones(9), np.full(9, prediction))
        assert found == expected


def test_a_label_that_is_no_class_is_a_miss():
    found = metrics.sparse_top_k_categorical_accuracy(jnp.array([7, -1]), jnp.ones((2, 3)), k=3)
    assert found.tolist() == [0, 0]


@pytest.mark.slow
def test_a_loss_is_a_metric_and_a_value():
    metric = metrics.get(losses.Huber(2.0))
    assert metric == metrics.get(losses.Huber(2.0)) != metrics.get(losses.Huber(1.0))
    assert metric.name == "huber_loss"
    assert metrics.get(losses.Huber(name="mine")).name == "mine"
    assert from_config(json.loads(json.dumps(to_config(metric)))) == metric
    value, weight = losses.Huber(2.0).values(*NUMBERS), np.arange(len(NUMBERS[0])) + 1.0
    np.testing.assert_allclose(measure(metric, *NUMBERS), value.mean(), rtol=1e-5)
    weighted = metric.update(metric.init(), *NUMBERS, weight)
    np.testing.assert_allclose(metric.result(weighted), np.average(value, weights=weight), 1e-5)
    labels, scores = jnp.array([0, 1, 1]), jnp.full((3, 2), 0.25)
    ignoring = metrics.get(losses.SparseCategoricalCrossentropy(ignore_class=0, reduction="sum"))
    assert ignoring.update(ignoring.init(), labels, scores)["count"] == 2
    for given in ("huber", losses.Huber):
        with pytest.raises(ValueError, match="LossMetric: expected loss to be a loss"):
            metrics.LossMetric(given)


@pytest.mark.slow
def test_functions_and_classes_of_yours_are_metrics():
    def gap(y_true, y_pred):
        return jnp.abs(y_true - y_pred)

    metric = metrics.get(gap)
    assert metric.name == "gap"
    assert metric == metrics.MeanMetricWrapper(gap, "gap")
    np.testing.assert_allclose(
        measure(metric, *NUMBERS), np.abs(NUMBERS[0] - NUMBERS[1]).mean(), rtol=1e-5
    )
    whole = metrics.get(lambda y_true, y_pred: jnp.mean(jnp.abs(y_true - y_pred)))
    np.testing.assert_allclose(measure(whole, *NUMBERS), measure(metric, *NUMBERS), rtol=1e-5)
    weight = np.array([1, 1, 1, 1, 0, 0, 1, 0, 1], "float32")
    noisy = np.where(weight[:, None] > 0, NUMBERS[1], np.nan)
    np.testing.assert_allclose(
        measure(whole, NUMBERS[0], noisy, weight),
        np.abs(NUMBERS[0] - NUMBERS[1])[weight > 0].mean(),
        rtol=1e-5,
    )
    # (N,) beside (N, 1) does not become (N, N)
    assert measure(metric, np.ones(9), np.zeros((9, 1))) == 1

    loss = metrics.get(losses.Huber(2.0))
    assert loss.name == "huber_loss"
    np.testing.assert_allclose(measure(loss, *NUMBERS), losses.Huber(2.0)(*NUMBERS), rtol=1e-5)

    class Range(Metric):
        targets = "elementwise"
        scale: float = 1.0

        def values(self, y_true, y_pred):
            return self.scale * (y_true - y_pred)

    assert measure(Range(2.0), np.ones(9), np.zeros(9)) == 2
    assert Range().name == "range"

    class Empty(Metric):
        pass

    with pytest.raises(TypeError, match="expected Empty to define values"):
        measure(Empty(), np.ones(9), np.ones(9))


def test_get_resolves_names_classes_values_and_functions():
    for name in ("mse", "MSE", "mean_squared_error", "MeanSquaredError"):
        metric = metrics.get(name)
        assert metric == metrics.MeanSquaredError(name=name)
        assert metric.name == name
    assert metrics.get(metrics.AUC) == metrics.AUC()
    assert metrics.get(metrics.AUC(num_thresholds=5)).name == "auc"
    assert isinstance(metrics.get("binary_crossentropy"), metrics.BinaryCrossentropy)


@pytest.mark.parametrize(
    ("true", "predicted"),
    [
        ((8,), (8, 1)),
        ((8, 1), (8, 1)),
        ((8,), (8, 3)),
        ((8, 1), (8, 3)),
        ((3,), (3, 3)),
        ((8, 3), (8, 3)),
        ((8, 5), (8, 5, 3)),
        ((8, 5, 1), (8, 5, 3)),
    ],
)
def test_accuracy_is_resolved_from_the_shapes_as_in_keras(keras, true, predicted):
    with keras_rules():
        from keras.src.trainers.compile_utils import get_metric

        oracle = get_metric("acc", np.zeros(true), np.zeros(predicted))
    metric = metrics.get("acc", np.zeros(true), np.zeros(predicted))
    assert type(metric).__name__ == type(oracle).__name__
    assert metric.name == oracle.name == "acc"
    crossentropy = metrics.get("ce", np.zeros(true), np.zeros(predicted))
    kind = type(metric).__name__.replace("Accuracy", "Crossentropy")
    assert type(crossentropy).__name__ == kind
    assert crossentropy.name == "ce"


WRONG = [
    (lambda: metrics.BinaryAccuracy(threshold="0.5"), "threshold to be a number"),
    (lambda: metrics.TopKCategoricalAccuracy(k=0), "k to be an integer above 0"),
    (lambda: metrics.SparseTopKCategoricalAccuracy(k=1.5), "k to be an integer"),
    (lambda: metrics.Precision(thresholds=1.5), r"thresholds to lie in \[0, 1\]"),
    (lambda: metrics.Recall(top_k=0), "top_k to be an integer"),
    (lambda: metrics.Precision(class_id=-1), "class_id to be an integer from 0"),
    (
        lambda: metrics.Precision(class_id=3).check(np.ones((2, 3)), np.ones((2, 3))),
        "class_id to be a class of predictions",
    ),
    (lambda: metrics.SensitivityAtSpecificity(1.5), "specificity to be a number between 0 and 1"),
    (lambda: metrics.RecallAtPrecision(0.5, num_thresholds=0), "num_thresholds"),
    (lambda: metrics.AUC(curve="roc curve"), "curve to be one of 'ROC'"),
    (lambda: metrics.AUC(summation_method="sum"), "summation_method to be one of"),
    (lambda: metrics.AUC(num_thresholds=1), "num_thresholds to be above 1"),
    (lambda: metrics.AUC(thresholds=[2.0]), r"thresholds to lie in \[0, 1\]"),
    (lambda: metrics.AUC(num_labels=3), "num_labels to be None without multi_label"),
    (lambda: metrics.FBetaScore(beta=0), "beta to be a finite number above 0"),
    (lambda: metrics.F1Score(average="mean"), "average to be one of None, 'micro'"),
    (lambda: metrics.F1Score(threshold=0), "threshold to lie above 0"),
    (
        lambda: metrics.IoU(num_classes=2, target_class_ids=[2]),
        r"target_class_ids to lie in 0\.\.1",
    ),
    (lambda: metrics.BinaryIoU(target_class_ids=[2]), r"target_class_ids to lie in 0\.\.1"),
    (lambda: metrics.R2Score(class_aggregation="mean"), "class_aggregation to be one of"),
    (lambda: metrics.R2Score(num_regressors=-1), "num_regressors to be an integer"),
    (lambda: metrics.get("acuracy"), "'accuracy'"),
    (lambda: metrics.get("acc"), "depends on the shapes .*use the full name"),
    (
        lambda: metrics.MeanSquaredError().check(np.ones((2, 3)), np.ones((2, 1))),
        "MeanSquaredError: expected targets",
    ),
    (
        lambda: metrics.SparseCategoricalAccuracy().check(np.ones((2, 3)), np.ones((2, 3))),
        "one-hot: use the categorical form",
    ),
    (
        lambda: metrics.CategoricalAccuracy().check(np.ones(3), np.ones((3, 3))),
        "class numbers: use the sparse form",
    ),
]


@pytest.mark.parametrize(("run", "message"), WRONG)
def test_wrong_arguments_and_shapes_are_refused(run, message):
    with pytest.raises(ValueError, match=message):
        run()


WIDE = yes_no(3, 2), uniform(3, 2)
REPEATED = {
    "(1, 2)": np.array([[1.0, 3.0]]),
    "(1,)": np.array([2.0]),
    "(1, 1)": np.array([[2.0]]),
    "()": np.float32(2.0),
    "(3, 1)": np.array([[1.0], [2.0], [3.0]]),
}


# Keras takes weights of the entries of an example for these, for the others of examples alone.
OF_ENTRIES = [
    "Precision",
    "TruePositives",
    "AUC",
    "BinaryAccuracy",
    "R2Score",
    "RootMeanSquaredError",
]
OF_EXAMPLES = ["MeanSquaredError", "CategoricalCrossentropy", "CategoricalAccuracy"]


def shapes_of(name):
    """All; two for R2Score, whose program for a shape takes as long as all of another metric."""
    return ["(1, 2)", "(3, 1)"] if name == "R2Score" else REPEATED


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        *((name, shape) for name in OF_ENTRIES for shape in shapes_of(name)),
        *((name, shape) for name in OF_EXAMPLES for shape in REPEATED if shape != "(1, 2)"),
    ],
)
def test_weights_are_repeated_as_in_keras(keras, name, shape):
    found, expected = repeated(keras, name)[shape]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@functools.cache
def repeated(keras, name):
    """{shape: (the metric by such weights, that of Keras)}, both of them one program."""
    shapes = [s for s in shapes_of(name) if name in OF_ENTRIES or s != "(1, 2)"]
    metric, weights = getattr(metrics, name)(), [REPEATED[s] for s in shapes]

    @jax.jit
    def ours(weights, *compared):
        sums = [metric.update(metric.init(*compared), *compared, w) for w in weights]
        return [metric.result(each) for each in sums]

    expected = by_keras(keras, name, {}, WIDE, weights)
    pairs = zip(ours(weights, *WIDE), expected, strict=True)
    return dict(zip(shapes, pairs, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("shape", REPEATED)
def test_means_and_losses_repeat_weights_as_numpy_does(shape):
    weight, (t, p) = REPEATED[shape], WIDE
    mean = metrics.Mean()
    mean.update_state(p, weight)
    whole = np.broadcast_to(weight, p.shape)
    np.testing.assert_allclose(mean.result(), np.average(p, weights=whole), rtol=1e-5)
    for loss, values in (("MeanSquaredError", (t - p) ** 2), ("MeanAbsoluteError", abs(t - p))):
        found = getattr(fnn.losses, loss)()(t, p, weight)
        np.testing.assert_allclose(found, (values * whole).mean(), rtol=1e-5)
        metric = getattr(metrics, loss)()
        metric.update_state(t, p, weight)
        np.testing.assert_allclose(metric.result(), np.average(values, weights=whole), rtol=1e-5)


def test_weights_that_do_not_fit_are_refused():
    for weight in (np.ones(2), np.ones((2, 2)), np.ones((3, 3)), np.ones((3, 2, 2))):
        with pytest.raises(ValueError, match=r"expected weights .*received"):
            metrics.Precision().update_state(*WIDE, sample_weight=weight)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [list, tuple, np.array, jnp.array])
def test_thresholds_and_label_weights_of_any_sequence(kind):
    numbers = [0.25, 0.5]
    assert metrics.AUC(thresholds=kind(numbers)) == metrics.AUC(thresholds=(0.25, 0.5))
    assert metrics.Recall(kind(numbers)) == metrics.Recall((0.25, 0.5))
    weights = metrics.AUC(multi_label=True, label_weights=kind(numbers))
    assert weights == metrics.AUC(multi_label=True, label_weights=(0.25, 0.5))
    assert metrics.IoU(2, kind([0, 1])) == metrics.IoU(2, (0, 1))
    assert fnn.losses.Huber(jnp.float32(0.5)) == fnn.losses.Huber(0.5)
    assert fnn.layers.Dense(jnp.int32(3)) == fnn.layers.Dense(3)
