"""Losses: numbers and gradients against Keras and optax, masks, padding, and every message."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn import losses
from fnn.core.config import from_config, to_config
from fnn.losses import FunctionLoss, Loss
from fnn.losses.logits import in_form
from fnn.losses.targets import align, fill_invalid, spread
from tests.helpers.oracle import keras_rules

random = np.random.default_rng(0)


def normal(*shape):
    return random.normal(size=shape).astype("float32")


def probabilities(*shape):
    high = np.exp(normal(*shape))
    return high / high.sum(axis=-1, keepdims=True)


def one_hot(*shape):
    return np.eye(shape[-1], dtype="float32")[random.integers(0, shape[-1], shape[:-1])]


def labels(high, *shape):
    return random.integers(0, high, shape).astype("int32")


def yes_no(*shape):
    return random.integers(0, 2, shape).astype("float32")


def unit(*shape):
    x = normal(*shape)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


NUMBERS = (normal(6, 3), normal(6, 3))
SERIES = (normal(4, 5, 2), normal(4, 5, 2))
CHANCES = (yes_no(6, 3), probabilities(6, 3))
CLASSES = (one_hot(6, 4), probabilities(6, 4))
LOGITS = (one_hot(6, 4), normal(6, 4))
NUMBERED = (labels(4, 6), probabilities(6, 4))
STEPS = (labels(4, 3, 5), probabilities(3, 5, 4))

# (class, arguments, targets, predictions): each equals Keras in value and gradient
TABLE = [
    ("MeanSquaredError", {}, *NUMBERS),
    ("MeanSquaredError", {}, *SERIES),
    ("MeanAbsoluteError", {}, *NUMBERS),
    ("MeanAbsolutePercentageError", {}, *NUMBERS),
    ("MeanSquaredLogarithmicError", {}, *NUMBERS),
    ("Huber", {"delta": 0.7}, *NUMBERS),
    ("LogCosh", {}, *NUMBERS),
    ("CosineSimilarity", {}, *NUMBERS),
    ("CosineSimilarity", {"axis": 1}, *SERIES),
    ("KLDivergence", {}, probabilities(6, 4), probabilities(6, 4)),
    ("Poisson", {}, labels(5, 6, 3), np.exp(normal(6, 3))),
    ("Hinge", {}, yes_no(6, 3), normal(6, 3)),
    ("Hinge", {}, 2 * yes_no(6, 3) - 1, normal(6, 3)),
    ("SquaredHinge", {}, yes_no(6, 3), normal(6, 3)),
    ("CategoricalHinge", {}, one_hot(6, 4), normal(6, 4)),
    ("BinaryCrossentropy", {}, *CHANCES),
    ("BinaryCrossentropy", {"from_logits": True}, yes_no(6, 1), normal(6, 1)),
    ("BinaryCrossentropy", {"label_smoothing": 0.2}, *CHANCES),
    ("BinaryCrossentropy", {"from_logits": True, "axis": 1}, yes_no(3, 4, 2), normal(3, 4, 2)),
    ("BinaryFocalCrossentropy", {}, *CHANCES),
    ("BinaryFocalCrossentropy", {"apply_class_balancing": True, "gamma": 1.5}, *CHANCES),
    ("BinaryFocalCrossentropy", {"from_logits": True}, yes_no(6, 3), normal(6, 3)),
    ("CategoricalCrossentropy", {}, *CLASSES),
    ("CategoricalCrossentropy", {}, one_hot(6, 4), 3 * probabilities(6, 4)),
    ("CategoricalCrossentropy", {"label_smoothing": 0.1}, *CLASSES),
    ("CategoricalCrossentropy", {"from_logits": True}, *LOGITS),
    (
        "CategoricalCrossentropy",
        {"axis": 1},
        probabilities(2, 4, 3).swapaxes(1, 2),
        probabilities(2, 3, 4),
    ),
    ("CategoricalFocalCrossentropy", {"alpha": 0.5}, *CLASSES),
    ("CategoricalFocalCrossentropy", {"from_logits": True, "gamma": 3.0}, *LOGITS),
    ("SparseCategoricalCrossentropy", {}, *NUMBERED),
    ("SparseCategoricalCrossentropy", {}, NUMBERED[0][:, None], NUMBERED[1]),
    ("SparseCategoricalCrossentropy", {"from_logits": True}, labels(4, 6), normal(6, 4)),
    ("SparseCategoricalCrossentropy", {"ignore_class": 2}, *STEPS),
    ("CategoricalGeneralizedCrossEntropy", {"q": 0.7}, *NUMBERED),
    ("Dice", {}, yes_no(2, 3, 3, 1), probabilities(2, 3, 3, 1)),
    ("Dice", {"axis": (1, 2, 3)}, yes_no(2, 3, 3, 1), normal(2, 3, 3, 1) ** 2),
    ("Tversky", {}, yes_no(2, 3, 3, 1), normal(2, 3, 3, 1) ** 2),
    ("CTC", {}, np.array([[1, 2, 2, 0], [3, 1, 0, 0]], "int32"), normal(2, 7, 4)),
    ("Circle", {"gamma": 8.0}, np.array([0, 0, 1, 1, 0, 2]), unit(6, 3)),
    ("Circle", {"gamma": 8.0, "remove_diagonal": False}, np.array([0, 0, 1, 1]), unit(4, 3)),
]
# Rows of which some may be padding, beside those above but Dice and CTC
MORE = [
    ("Dice", {}, yes_no(6, 3, 1), probabilities(6, 3, 1)),
    ("Tversky", {"alpha": 0.2}, yes_no(6, 3, 1), probabilities(6, 3, 1)),
    ("CTC", {}, np.array([[1, 2, 2, 0], [3, 1, 0, 0], [1, 0, 0, 0]], "int32"), normal(3, 7, 4)),
    ("Triplet", {}, np.array([0, 0, 1, 1, 0, 2]), unit(6, 3)),
    ("InfoNCE", {}, normal(6, 3), normal(6, 3)),
]
ROWS = [*TABLE, *MORE]
IN_TABLE = range(len(TABLE))
PADDED = [i for i, row in enumerate(ROWS) if i >= len(TABLE) or row[0] not in ("Dice", "CTC")]


def by_number(numbers):
    ids = [f"{ROWS[number][0]}-{ROWS[number][1]}" for number in numbers]
    return pytest.mark.parametrize("number", numbers, ids=ids)


def of_row(number):
    """The loss, the targets and the predictions of a row of `ROWS`."""
    name, arguments, y_true, y_pred = ROWS[number]
    return getattr(losses, name)(**arguments), y_true, y_pred


def with_two_more(number):
    """Targets and predictions of a row, two more that may hold anything, and which are real."""
    _, y_true, y_pred = of_row(number)
    more = np.concatenate([y_pred, np.full((2, *y_pred.shape[1:]), np.nan, "float32")])
    fill = np.inf if y_true.dtype == np.float32 else 99
    targets = np.concatenate([y_true, np.full((2, *y_true.shape[1:]), fill, y_true.dtype)])
    return targets, more, np.arange(len(more)) < len(y_pred)


@functools.cache
def numbers_of(number):
    """What the tests of a row look at, by one program."""
    loss, y_true, y_pred = of_row(number)
    graded = lambda measured, p: jax.value_and_grad(measured)(p)

    def plain(p, half):
        totals = loss.totals(y_true, half) if number in IN_TABLE else None
        widened = loss(y_true, half.astype("float32")) if number in IN_TABLE else None
        return {"plain": graded(lambda p: loss(y_true, p), p), "half": (totals, widened)}

    def padded(targets, more, valid):
        mean = lambda p: jnp.divide(*loss.totals(targets, p, None, valid))
        nothing = loss.totals(targets, more, None, valid & False)
        return {"padded": graded(mean, more), "nothing": nothing}

    def run(given, more):
        return plain(*given) | (padded(*more) if number in PADDED else {})

    return jax.jit(run)((y_pred, y_pred.astype(jnp.bfloat16)), with_two_more(number))


@pytest.mark.slow
@by_number(IN_TABLE)
def test_value_and_gradient_equal_keras(keras, number):
    name, arguments, y_true, y_pred = ROWS[number]
    with keras_rules():
        oracle = getattr(keras.losses, name)(**arguments)
        expected = jax.jit(jax.value_and_grad(lambda p: oracle(y_true, p)))(y_pred)
    value, gradient = numbers_of(number)["plain"]
    np.testing.assert_allclose(value, expected[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "mean", "sum", "none", None])
@pytest.mark.parametrize(("name", "data"), [("MeanSquaredError", NUMBERS), ("Huber", NUMBERS)])
def test_reductions_and_weights_equal_keras(keras, name, data, reduction):
    weight = np.arange(6, dtype="float32")
    with keras_rules():
        oracle = getattr(keras.losses, name)(reduction=reduction)
        plain, weighted = oracle(*data), oracle(*data, sample_weight=weight)
    loss = getattr(losses, name)(reduction=reduction)
    np.testing.assert_allclose(loss(*data), plain, rtol=1e-5)
    np.testing.assert_allclose(loss(*data, weight), weighted, rtol=1e-5)
    np.testing.assert_allclose(loss(*data, weight[:, None]), weighted, rtol=1e-5)


def test_the_mean_by_weights_divides_by_their_sum(keras):
    loss = losses.MeanSquaredError(reduction="mean_with_sample_weight")
    with keras_rules():
        oracle = keras.losses.MeanSquaredError(reduction="mean_with_sample_weight")
        expected = oracle([[1.0], [2.0]], [[0.0], [0.0]], sample_weight=[1.0, 3.0])
    found = loss(jnp.array([[1.0], [2.0]]), jnp.zeros((2, 1)), jnp.array([1.0, 3.0]))
    np.testing.assert_allclose(found, expected)
    assert found == 3.25


FUNCTIONS = {n for n in losses.__all__ if n[0].islower()} - {"serialize", "deserialize"}
# The other capital names are short names of functions (MSE).
OF_LOSSES = [n for n in losses.__all__ if inspect.isclass(getattr(losses, n))]


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_functions_have_keras_arguments_and_numbers(keras, name):
    ours = getattr(losses, name)
    oracle = getattr(keras.losses, ours.__name__, None)
    if oracle is None:
        assert ours.__name__ in ("triplet", "info_nce", "get")
        return
    if name == "get":
        return
    expected = inspect.signature(oracle).parameters
    found = inspect.signature(ours).parameters
    assert list(found)[: len(expected)] == list(expected)
    assert [p.default for p in found.values()][: len(expected)] == [
        p.default for p in expected.values()
    ]


@pytest.mark.parametrize("name", sorted(OF_LOSSES))
def test_classes_have_keras_arguments(keras, name):
    oracle = getattr(keras.losses, name, None)
    if oracle is None:
        assert name in ("FunctionLoss", "OptaxLoss", "Triplet", "InfoNCE")
        return
    expected = inspect.signature(oracle.__init__).parameters
    found = inspect.signature(getattr(losses, name)).parameters
    if name == "Loss":
        assert set(found) == set(expected) - {"self"}
        return
    assert list(found) == list(expected)[1:]
    assert all(found[p].default == expected[p].default for p in found if p != "name")
    sample = {"reduction": "sum", "name": "mine", "dtype": "float32"}
    given = [sample.get(place, found[place].default) for place in found]
    made = getattr(losses, name)(*given)
    assert made == getattr(losses, name)(**dict(zip(found, given, strict=True)))
    assert (made.reduction, made.name, made.dtype) == ("sum", "mine", "float32")
    with pytest.raises(TypeError, match="by position, received"):
        getattr(losses, name)(*given, 1)


def test_every_loss_of_keras_is_there(keras):
    with keras_rules():
        from keras.src.losses import ALL_OBJECTS_DICT
    bases = {"Loss", "loss", "LossFunctionWrapper"}
    for name in set(ALL_OBJECTS_DICT) - bases:
        assert isinstance(losses.get(name), Loss)


def test_tversky_weighs_false_positives_by_alpha():
    y_true, y_pred = jnp.array([[1.0, 1.0, 0.0, 0.0]]), jnp.array([[1.0, 0.0, 1.0, 1.0]])
    # one hit, two false positives, one false negative
    found = losses.Tversky(alpha=0.3, beta=0.7)(y_true, y_pred)
    np.testing.assert_allclose(found, 1 - 1 / (1 + 0.3 * 2 + 0.7 * 1), rtol=1e-6)


def test_triplet_equals_a_loop():
    x, label = normal(7, 3), np.array([0, 0, 1, 1, 1, 2, 0])
    distance = np.linalg.norm(x[:, None] - x[None], axis=-1)
    expected = []
    for i in range(7):
        mine = [distance[i, j] for j in range(7) if j != i and label[j] == label[i]]
        other = [distance[i, j] for j in range(7) if label[j] != label[i]]
        expected.append(max(1 + max(mine) - min(other), 0) if mine else 0)
    np.testing.assert_allclose(losses.Triplet().values(label, x), expected, rtol=1e-5)
    gradient = jax.grad(lambda p: losses.Triplet()(label, p))(x)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0


def test_info_nce_equals_a_loop():
    t, y = unit(5, 3), unit(5, 3)
    similarity = y @ t.T / 0.2
    expected = [-np.log(np.exp(similarity[i, i]) / np.exp(similarity[i]).sum()) for i in range(5)]
    np.testing.assert_allclose(losses.InfoNCE(0.2).values(3 * t, 2 * y), expected, rtol=1e-5)


@pytest.mark.slow
@by_number(PADDED)
def test_rows_that_are_not_valid_change_nothing(number):
    found, rows = numbers_of(number), len(ROWS[number][3])
    expected, (value, gradient) = found["plain"], found["padded"]
    np.testing.assert_allclose(value, expected[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradient[:rows], expected[1], rtol=1e-5, atol=1e-6)
    assert not gradient[rows:].any()
    nothing, count = found["nothing"]
    assert nothing == count == 0


@pytest.mark.slow
def test_a_mask_leaves_steps_out_as_in_keras(keras):
    y_true, y_pred = SERIES
    mask = np.arange(5)[None] < np.array([5, 2, 1, 4])[:, None]
    with keras_rules():
        p = keras.ops.convert_to_tensor(y_pred)
        keras.src.backend.set_keras_mask(p, mask)
        expected = keras.losses.MeanSquaredError()(y_true, p)
    total, count = losses.MeanSquaredError().totals(y_true, y_pred, None, mask)
    np.testing.assert_allclose(total / count, expected, rtol=1e-5)
    by_hand = np.square(y_true - y_pred).mean(-1)[mask].mean()
    np.testing.assert_allclose(total / count, by_hand, rtol=1e-5)


@pytest.mark.slow
def test_a_mask_reaches_numbers_without_a_feature_axis():
    y_true, y_pred = normal(3, 4), normal(3, 4)
    mask = np.arange(4)[None] < np.array([4, 2, 0])[:, None]
    total, count = losses.MeanSquaredError().totals(y_true, y_pred, None, mask)
    assert count == 6
    np.testing.assert_allclose(total, np.square(y_true - y_pred)[mask].sum(), rtol=1e-5)
    total, count = losses.BinaryCrossentropy().totals(
        y_true > 0, jax.nn.sigmoid(y_pred), np.array([1.0, 2.0, 3.0]), mask
    )
    assert count == 6


def test_weights_and_valid_entries_work_together():
    y_true, y_pred = NUMBERS
    weight, valid = np.arange(6.0), np.array([1, 1, 0, 1, 0, 1], bool)
    values = np.square(y_true - y_pred).mean(-1)
    total, count = losses.MeanSquaredError().totals(y_true, y_pred, weight, valid)
    np.testing.assert_allclose(total / count, (values * weight)[valid].sum() / 4, rtol=1e-5)
    by_weight = losses.MeanSquaredError(reduction="mean_with_sample_weight")
    total, count = by_weight.totals(y_true, y_pred, weight, valid)
    np.testing.assert_allclose(
        total / count, (values * weight)[valid].sum() / weight[valid].sum(), rtol=1e-5
    )


@pytest.mark.slow
def test_ctc_leaves_out_masked_steps():
    y_true = np.array([[1, 2], [3, 1]], "int32")
    y_pred = normal(2, 6, 4)
    mask = np.array([[1] * 6, [1] * 4 + [0] * 2], bool)
    total, count = losses.CTC().totals(y_true, y_pred, None, mask)
    first = losses.CTC()(y_true[:1], y_pred[:1])
    second = losses.CTC()(y_true[1:], y_pred[1:, :4])
    np.testing.assert_allclose(total / count, (first + second) / 2, rtol=1e-5)


@pytest.mark.slow
def test_targets_align_by_one_axis_of_length_one():
    loss = losses.MeanSquaredError()
    y = normal(5)
    for y_true in (y, y[:, None]):
        for y_pred in (y + 1, y[:, None] + 1):
            np.testing.assert_allclose(loss(y_true, y_pred), 1, rtol=1e-5)
            np.testing.assert_allclose(loss.values(y_true, y_pred), np.ones(5), rtol=1e-5)
            weighted = loss(y_true, y_pred, np.array([5.0, 0, 0, 0, 0]))
            np.testing.assert_allclose(weighted, 1, rtol=1e-5)


@pytest.mark.slow
def test_sparse_classes_may_lie_along_any_axis():  # Keras on JAX takes the last one only
    y_true, y_pred = labels(3, 2, 4), probabilities(2, 3, 4)
    loss = losses.SparseCategoricalCrossentropy(axis=1)
    expected = losses.SparseCategoricalCrossentropy()(y_true, np.moveaxis(y_pred, 1, -1))
    for targets in (y_true, y_true[:, None]):
        np.testing.assert_allclose(loss(targets, y_pred), expected, rtol=1e-6)
        loss.check(targets, y_pred)


@pytest.mark.slow
def test_a_label_that_is_no_class_is_not_hidden():
    values = losses.SparseCategoricalCrossentropy().values(
        jnp.array([0, 3, -1]), jnp.full((3, 3), 1 / 3)
    )
    assert np.isnan(values).tolist() == [False, True, True]


def test_large_labels_stay_exact():
    y_pred = jnp.zeros((1, 3))
    label = np.array([16777217], "int32")  # float32 holds 16777216 only
    assert np.isnan(losses.SparseCategoricalCrossentropy(True).values(label, y_pred))


def test_training_on_logits_does_not_saturate():
    loss, logit = losses.BinaryCrossentropy(), jnp.array([[60.0]])
    assert loss.logits == "odds"
    assert loss.on_logits() == losses.BinaryCrossentropy(from_logits=True)
    assert loss.on_logits().logits is None
    assert losses.MeanSquaredError().on_logits() == losses.MeanSquaredError()
    on_logits = loss.on_logits()
    np.testing.assert_allclose(on_logits(jnp.zeros((1, 1)), logit), 60, rtol=1e-5)
    np.testing.assert_allclose(
        jax.grad(lambda p: on_logits(jnp.zeros((1, 1)), p))(logit), [[1.0]], rtol=1e-5
    )
    for name in ("CategoricalCrossentropy", "SparseCategoricalCrossentropy"):
        assert getattr(losses, name)().logits == "scores"
        assert getattr(losses, name)(axis=1).logits is None


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
@pytest.mark.parametrize(
    ("name", "y_true"),
    [
        ("BinaryFocalCrossentropy", yes_no(6, 3)),
        ("CategoricalFocalCrossentropy", one_hot(6, 3)),
        ("BinaryCrossentropy", yes_no(6, 3)),
        ("CategoricalCrossentropy", one_hot(6, 3)),
        ("SparseCategoricalCrossentropy", labels(3, 6)),
        ("KLDivergence", probabilities(6, 3)),
        ("CategoricalGeneralizedCrossEntropy", labels(3, 6)),
    ],
)
def test_the_logits_form_has_the_same_value_and_gradient(name, y_true, activation):
    loss, logits = getattr(losses, name)(), normal(6, 3)
    activate = {"sigmoid": jax.nn.sigmoid, "softmax": jax.nn.softmax}[activation]
    before = lambda z: in_form(loss.logits, activation, z)
    expected, found = jax.jit(
        lambda z: [
            jax.value_and_grad(lambda p: loss(y_true, activate(p)))(z),
            jax.value_and_grad(lambda z: loss.on_logits()(y_true, before(z)))(z),
        ]
    )(logits)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-4, atol=1e-6)
    kept = {"reduction": "sum", "name": "mine", "dtype": "float32"}
    on_logits = loss.replace(**kept).on_logits()
    assert {key: getattr(on_logits, key) for key in kept} == kept
    assert on_logits.logits is None


def test_a_loss_of_yours_made_from_one_with_a_logits_form_is_called_as_you_wrote_it():
    class Mine(losses.KLDivergence):
        def call(self, y_true, y_pred):
            return y_pred.sum(-1)

    assert Mine().logits is None


@pytest.mark.slow
@by_number(IN_TABLE)
def test_half_precision_predictions_are_computed_in_float32(number):
    (total, count), expected = numbers_of(number)["half"]
    assert total.dtype == count.dtype == jnp.float32
    np.testing.assert_allclose(total / count, expected, rtol=1e-6)


@by_number(IN_TABLE)
def test_a_loss_is_a_value_that_a_file_can_hold(number):
    loss, y_true, y_pred = of_row(number)
    assert from_config(to_config(loss)) == loss
    assert hash(loss) == hash(of_row(number)[0])
    loss.check(y_true, y_pred)
    loss.check_targets(y_true, y_pred)


@pytest.mark.slow
def test_functions_of_yours_are_losses():
    def error(y_true, y_pred):
        return jnp.abs(y_true - y_pred).mean(-1)

    loss = losses.get(error)
    assert loss == FunctionLoss(error)
    np.testing.assert_allclose(loss(*NUMBERS), losses.MeanAbsoluteError()(*NUMBERS), rtol=1e-6)
    total, count = loss.totals(*NUMBERS, None, np.arange(6) < 4)
    np.testing.assert_allclose(
        total / count, losses.MeanAbsoluteError()(NUMBERS[0][:4], NUMBERS[1][:4]), rtol=1e-6
    )
    # (N,) beside (N, 1) does not become (N, N)
    assert loss.values(jnp.ones(3), jnp.ones((3, 1))).shape == (3,)
    by_optax = FunctionLoss(lambda y_true, y_pred: optax.losses.squared_error(y_pred, y_true))
    np.testing.assert_allclose(by_optax(*NUMBERS), losses.MeanSquaredError()(*NUMBERS), rtol=1e-6)


@pytest.mark.slow
def test_a_function_of_the_whole_batch_leaves_padding_out():
    loss = FunctionLoss(lambda y_true, y_pred: jnp.mean((y_true - y_pred) ** 2))
    y_true, y_pred = NUMBERS
    np.testing.assert_allclose(loss(*NUMBERS), losses.MeanSquaredError()(*NUMBERS), rtol=1e-6)
    np.testing.assert_allclose(loss(*NUMBERS, np.full(6, 2.0)), 2 * loss(*NUMBERS), rtol=1e-6)
    for rows in (6, 4, 0):
        valid = np.arange(6) < rows
        noisy = np.where(valid[:, None], y_pred, np.nan)

        def padded(p, valid=valid):
            total, count = loss.totals(y_true, p, None, valid)
            return total / jnp.maximum(count, 1)

        value, gradient = jax.jit(jax.value_and_grad(padded))(noisy)
        error = (y_pred - y_true)[:rows]
        np.testing.assert_allclose(value, np.square(error).mean() if rows else 0, rtol=1e-5)
        np.testing.assert_allclose(gradient[:rows], 2 * error / max(error.size, 1), rtol=1e-5)
        assert not gradient[rows:].any()
    y_true, y_pred = SERIES
    mask = np.arange(5)[None] < np.array([5, 2, 1, 4])[:, None]
    total, count = loss.totals(y_true, y_pred, None, mask)
    np.testing.assert_allclose(total / count, np.square(y_true - y_pred)[mask].mean(), rtol=1e-5)
    # targets without a time axis: by rows
    total, count = FunctionLoss(lambda t, p: jnp.mean(p)).totals(labels(3, 4), y_pred, None, mask)
    np.testing.assert_allclose(
        total / count, np.where(mask[..., None], y_pred, 1).mean(), rtol=1e-5
    )


def test_a_function_of_the_whole_batch_sees_all_of_a_full_batch():
    def spread_of(y_true, y_pred):  # no mean over entries
        return jnp.max(y_pred) - jnp.min(y_pred)

    y_pred = NUMBERS[1]
    total, count = FunctionLoss(spread_of).totals(*NUMBERS, None, np.ones(6, bool))
    np.testing.assert_allclose(total / count, y_pred.max() - y_pred.min(), rtol=1e-6)


def test_a_class_of_yours_is_a_loss():
    class Pinball(Loss):
        quantile: float = 0.5

        def call(self, y_true, y_pred):
            error = y_true - y_pred
            return jnp.maximum(self.quantile * error, (self.quantile - 1) * error).mean(-1)

    loss = Pinball(0.5, reduction="sum")
    np.testing.assert_allclose(
        loss(*NUMBERS), 0.5 * np.abs(NUMBERS[0] - NUMBERS[1]).mean(-1).sum(), rtol=1e-5
    )

    class Open(Loss):
        def __init__(self, power):
            super().__init__(name="open", reduction="sum")
            self.power = power

        def call(self, y_true, y_pred):
            return (jnp.abs(y_true - y_pred) ** self.power).mean(-1)

    np.testing.assert_allclose(
        Open(2)(*NUMBERS), losses.MeanSquaredError(reduction="sum")(*NUMBERS), rtol=1e-5
    )


def test_get_resolves_names_classes_values_and_functions():
    assert losses.get(None) is None
    for name in ("mse", "MSE", "mean_squared_error", "MeanSquaredError"):
        assert losses.get(name) == losses.MeanSquaredError()
    assert losses.get(losses.Huber) == losses.Huber()
    assert losses.get(losses.Huber(2.0)).delta == 2
    assert losses.get(losses.binary_crossentropy) == losses.BinaryCrossentropy()
    assert losses.get("kld") == losses.KLDivergence()


@pytest.mark.parametrize(
    ("true", "predicted", "expected"),
    [
        ((8,), (8, 1), "BinaryCrossentropy"),
        ((8, 1), (8, 1), "BinaryCrossentropy"),
        ((8,), (8, 3), "SparseCategoricalCrossentropy"),
        ((8, 1), (8, 3), "SparseCategoricalCrossentropy"),
        ((3,), (3, 3), "SparseCategoricalCrossentropy"),
        ((8, 3), (8, 3), "CategoricalCrossentropy"),
        ((8, 5), (8, 5, 3), "SparseCategoricalCrossentropy"),
    ],
)
def test_crossentropy_is_resolved_from_the_shapes(keras, true, predicted, expected):
    with keras_rules():
        from keras.src.trainers.compile_utils import get_loss

        oracle = get_loss("ce", np.zeros(true), np.zeros(predicted)).fn.__name__
    loss = losses.get("crossentropy", np.zeros(true), np.zeros(predicted))
    assert loss == getattr(losses, expected)()
    assert loss == losses.get(oracle)


SHAPES = [
    (
        "MeanSquaredError",
        (64, 3),
        (64, 1),
        r"shape \(64, 1\) like .*received \(64, 3\).*last layer",
    ),
    ("MeanSquaredError", (64,), (32, 1), "pass one target for each example"),
    ("CategoricalCrossentropy", (3,), (3, 3), "class numbers: use the sparse form"),
    ("CategoricalCrossentropy", (8, 1), (8, 3), "class numbers: use the sparse form"),
    ("CategoricalCrossentropy", (8, 1), (8, 1), "at least 2 classes.*binary_crossentropy"),
    ("SparseCategoricalCrossentropy", (8, 3), (8, 3), "one-hot: use .*argmax the labels"),
    ("SparseCategoricalCrossentropy", (3, 3), (3, 3), "one-hot"),
    ("SparseCategoricalCrossentropy", (8,), (8, 1), "at least 2 classes"),
    ("SparseCategoricalCrossentropy", (8,), (8,), "class numbers"),
    ("BinaryCrossentropy", (8,), (8, 3), "like the predictions"),
    ("CategoricalGeneralizedCrossEntropy", (8, 3), (8, 3), "one-hot"),
    ("CategoricalFocalCrossentropy", (8,), (8, 3), "sparse form"),
    ("CTC", (8,), (8, 3, 2), r"labels \(batch, labels\).*pad the labels"),
    ("Circle", (8, 2), (8, 3), "flatten the embeddings"),
    ("Triplet", (4,), (8, 3), "flatten the embeddings"),
]


@pytest.mark.parametrize(("name", "true", "predicted", "message"), SHAPES)
def test_shapes_that_do_not_fit_are_refused(name, true, predicted, message):
    loss = getattr(losses, name)()
    spec = jax.ShapeDtypeStruct
    with pytest.raises(ValueError, match=message):
        loss.check(spec(true, jnp.int32), spec(predicted, jnp.float32))


TARGETS = [
    ("SparseCategoricalCrossentropy", [0, 1, 3], (3, 3), "label 3 at row 2, .* classes 0..2.*4 un"),
    ("SparseCategoricalCrossentropy", [3, 1, 2], (3, 3), "label 3 at row 0.*subtract 1"),
    ("SparseCategoricalCrossentropy", [0, -1, 2], (3, 3), "label -1 at row 1.*ignore_class"),
    ("SparseCategoricalCrossentropy", [0, 0.5, 2], (3, 3), "integers, received 0.5 at row 1"),
    ("SparseCategoricalCrossentropy", [0, np.nan, 2], (3, 3), "NaN at row 1"),
    ("BinaryCrossentropy", [0, 1, 2], (3, 1), "received 2 at row 2.*sparse_categorical"),
    ("BinaryCrossentropy", [1, 2, 2], (3, 1), "subtract 1"),
    ("BinaryCrossentropy", [-1, 1, 1], (3, 1), "received -1 at row 0.*hinge"),
    ("BinaryCrossentropy", [0, 0.5, 1.5], (3, 1), "scale them"),
    ("BinaryFocalCrossentropy", [0, 1, 2], (3, 1), "received 2 at row 2"),
    ("CategoricalCrossentropy", [[0, 1], [-1, 1]], (2, 2), "not below 0, received -1 at row 1"),
    ("CategoricalFocalCrossentropy", [[0, -1]], (1, 2), "not below 0"),
    ("CategoricalGeneralizedCrossEntropy", [0, 2], (2, 2), "label 2 at row 1"),
    ("KLDivergence", [[0, -1]], (1, 2), "not below 0"),
    ("Poisson", [[0, -1]], (1, 2), "not below 0"),
    ("Hinge", [0, 1, 2], (3, 1), "received 2 at row 2; map"),
    ("SquaredHinge", [-1, 0, 1], (3, 1), "received 0 at row 1; map"),
    ("MeanSquaredError", [0.0, np.nan], (2, 1), "NaN at row 1; drop or fill"),
]


@pytest.mark.parametrize(("name", "y_true", "predicted", "message"), TARGETS)
def test_targets_out_of_range_are_refused(name, y_true, predicted, message):
    spec = jax.ShapeDtypeStruct(predicted, jnp.float32)
    with pytest.raises(ValueError, match=message):
        getattr(losses, name)().check_targets(np.array(y_true), spec)


def test_targets_in_range_pass():
    spec = jax.ShapeDtypeStruct((3, 3), jnp.float32)
    losses.SparseCategoricalCrossentropy().check_targets(np.array([0.0, 1.0, 2.0]), spec)
    losses.SparseCategoricalCrossentropy(ignore_class=255).check_targets(np.array([0, 255]), spec)
    losses.SparseCategoricalCrossentropy().check_targets(np.zeros((0,)), spec)
    losses.BinaryCrossentropy().check_targets(np.array([True, False]), spec)
    losses.Hinge().check_targets(np.array([-1, 1]), spec)


ARGUMENTS = [
    (lambda: losses.MeanSquaredError(reduction="average"), "reduction.*'mean'.*received"),
    (lambda: losses.BinaryCrossentropy(label_smoothing=2), "label_smoothing"),
    (lambda: losses.CategoricalCrossentropy(axis=True), "axis to be an integer"),
    (
        lambda: losses.SparseCategoricalCrossentropy(ignore_class="0"),
        "ignore_class to be an integer",
    ),
    (lambda: losses.Huber(delta=0), "delta to be a finite number above 0"),
    (lambda: losses.BinaryFocalCrossentropy(gamma=-1), "gamma to be a finite number not below 0"),
    (lambda: losses.CategoricalGeneralizedCrossEntropy(q=1), "q to lie between 0 and 1"),
    (lambda: losses.InfoNCE(temperature=0), "temperature to be a finite number above 0"),
    (lambda: losses.get("msse"), "'mse'"),
    (lambda: losses.get("ce"), "depends on the shapes .*name binary_crossentropy"),
    (lambda: align(np.ones((2, 3)), np.ones((2, 1))), "nothing is broadcast"),
    (lambda: spread(np.ones(3), (2, 3)), r"weights .* of shape \(2,\).*received \(3,\)"),
    (
        lambda: losses.MeanSquaredError()(np.ones((2, 1)), np.ones((2, 1)), np.ones(3)),
        "one for each",
    ),
]


@pytest.mark.parametrize(("run", "message"), ARGUMENTS)
def test_wrong_arguments_are_refused(run, message):
    with pytest.raises(ValueError, match=message):
        run()


def test_what_is_no_loss_is_refused():
    with pytest.raises(TypeError, match="expected a name, a function or a value for the loss"):
        losses.get(3)

    class Empty(Loss):
        pass

    with pytest.raises(TypeError, match=r"expected Empty to define call\(y_true, y_pred\)"):
        Empty()(1.0, jnp.ones(1))


def test_blank_covers_one_target_for_a_whole_sequence():
    valid = np.array([[True, False], [False, False]])
    assert fill_invalid(np.array([5.0, np.nan]), jnp.asarray(valid), 0).tolist() == [5.0, 0.0]


# -- one number for all ---------------------------------------------------------------------------

VECTORS = np.array([0, 1, 0], "float32"), np.array([0.1, 0.8, 0.1], "float32")
OF_VECTORS = sorted(
    name
    for name in losses.__all__
    if name[0].isupper()
    and getattr(getattr(losses, name), "targets", "") in ("elementwise", "classes")
    and name not in ("InfoNCE", "Tversky")
)
REDUCTIONS = ["sum_over_batch_size", "mean", "mean_with_sample_weight", "sum", "none"]
WEIGHTS = [None, 2.0, np.array([2.0], "float32"), np.array([1, 2, 3], "float32")]


# Each reduction with the weights of one place, the next loss with those of the next place:
# reductions and weights are one function for all losses.
@pytest.mark.slow
@pytest.mark.parametrize("name", OF_VECTORS)
def test_two_vectors_are_one_example_as_in_keras(keras, name):
    for place, reduction in enumerate(REDUCTIONS, OF_VECTORS.index(name)):
        loss, weight = getattr(losses, name)(reduction=reduction), WEIGHTS[place % len(WEIGHTS)]
        if reduction == "mean_with_sample_weight" and np.size(weight) == 1:
            weight = None  # by its weight, one value has its own mean (Keras: times the weight)
        with keras_rules():
            oracle = getattr(keras.losses, name)(reduction=reduction)
            expected = np.asarray(oracle(*VECTORS, sample_weight=weight))
        found = loss(*VECTORS, weight)
        assert found.size == expected.size
        found = np.reshape(found, expected.shape)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    with keras_rules():
        y_true, y_pred = (v[:, None] for v in VECTORS)
        theirs = getattr(keras.losses, name)()
        for pair in ((VECTORS[0], y_pred), (y_true, VECTORS[1]), (y_true, y_pred)):
            expected = theirs(*pair)
            np.testing.assert_allclose(
                getattr(losses, name)()(*pair), expected, rtol=1e-4, atol=1e-6
            )


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["CategoricalCrossentropy", "CosineSimilarity", "KLDivergence", "CategoricalHinge"]
)
def test_metrics_of_vectors_take_them_for_one_example_too(keras, name):
    metric = getattr(fnn.metrics, name)()
    with keras_rules():
        expected = getattr(keras.metrics, name)()(*VECTORS)
    sums = metric.update(metric.init(), *VECTORS)
    np.testing.assert_allclose(metric.result(sums), expected, rtol=1e-4)
    of_loss = fnn.metrics.get(getattr(losses, name)())
    sign = -1 if name == "CosineSimilarity" else 1
    sums = of_loss.update(of_loss.init(), *VECTORS)
    np.testing.assert_allclose(of_loss.result(sums), sign * expected, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", ["Dice", "Tversky"])
def test_one_number_for_the_batch_is_weighted_as_in_keras(keras, name, reduction):
    y_true, y_pred = yes_no(3, 4), np.abs(normal(3, 4))
    loss = getattr(losses, name)(reduction=reduction)
    for weight in (None, np.array([1, 2, 4], "float32")):
        with keras_rules():
            oracle = getattr(keras.losses, name)(reduction=reduction)
            expected = np.asarray(oracle(y_true, y_pred, sample_weight=weight))
        found = loss(y_true, y_pred, weight)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        if reduction == "none":
            continue
        for valid in (np.ones(3, bool), np.array([True, True, False])):
            total, count = loss.totals(y_true, y_pred, weight, valid)
            part = None if weight is None else weight[valid]
            expected = loss(y_true[valid], y_pred[valid], part)
            np.testing.assert_allclose(total / count, expected, rtol=1e-5)
