"""Every function of optax.losses as a loss, against calling it by hand."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn import losses
from fnn.core.config import from_config, to_config
from fnn.losses import FunctionLoss, OptaxLoss
from fnn.losses.from_optax import is_from_optax

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The function convex_kl_divergence is deprecated"),
]

random = np.random.default_rng(0)
LOGITS = random.normal(size=(6, 3)).astype("float32")
LABELS = np.array([0, 1, 2, 2, 1, 0], "int32")
ONE_HOT = np.eye(3, dtype="float32")[LABELS]
NUMBERS = random.normal(size=(6, 3)).astype("float32")
SHARES = np.asarray(jax.nn.softmax(NUMBERS))
SIGNS = np.where(NUMBERS > 0, 1.0, -1.0).astype("float32")
YES_NO = (NUMBERS > 0).astype("int32")

TARGETS = {
    "binary_dice_loss": YES_NO,
    "convex_kl_divergence": SHARES,
    "cosine_distance": NUMBERS,
    "cosine_similarity": NUMBERS,
    "dice_loss": ONE_HOT,
    "generalized_kl_divergence": SHARES,
    "hinge_loss": SIGNS,
    "huber_loss": NUMBERS,
    "kl_divergence": SHARES,
    "kl_divergence_with_log_targets": np.log(SHARES),
    "l2_loss": NUMBERS,
    "log_cosh": NUMBERS,
    "multiclass_generalized_dice_loss": ONE_HOT,
    "multiclass_hinge_loss": LABELS,
    "multiclass_perceptron_loss": LABELS,
    "multiclass_sparsemax_loss": LABELS,
    "ntxent": LABELS,
    "perceptron_loss": SIGNS,
    "poly_loss_cross_entropy": ONE_HOT,
    "ranking_softmax_loss": np.arange(18, dtype="float32").reshape(6, 3),
    "safe_softmax_cross_entropy": ONE_HOT,
    "sigmoid_binary_cross_entropy": YES_NO,
    "sigmoid_focal_loss": YES_NO.astype("float32"),
    "softmax_cross_entropy": ONE_HOT,
    "softmax_cross_entropy_with_integer_labels": LABELS,
    "sparsemax_loss": YES_NO,
    "squared_error": NUMBERS,
}
OTHERS = {
    "ctc_loss",
    "ctc_loss_with_forward_probs",
    "make_fenchel_young_loss",
    "smooth_labels",
    "triplet_margin_loss",
}


@pytest.fixture(autouse=True)
def ranks_are_promoted():  # optax relies on it
    with jax.numpy_rank_promotion("allow"):
        yield


def trained(loss, y):
    """The loss of one step on `LOGITS`, and the gradient that it took."""
    model = fnn.Sequential([fnn.layers.Dense(3, use_bias=False)])
    model.compile(fnn.optimizers.SGD(1.0), loss)
    model.fit(np.eye(6, dtype="float32"), y, epochs=0, verbose=0)
    model.params = {"dense": {"kernel": jnp.asarray(LOGITS)}}
    history = model.fit(np.eye(6, dtype="float32"), y, batch_size=6, verbose=0).history
    return history["loss"][0], LOGITS - model.params["dense"]["kernel"]


# Of one number for the whole batch: padding there is that of any function (see test_losses).
OF_THE_BATCH = ("ntxent", "multiclass_generalized_dice_loss")
VALID = np.arange(6) < 4


@functools.cache
def measured(name):
    """By optax, as a loss, and as one of which two rows are padding: by one program."""
    function, y = getattr(optax.losses, name), TARGETS[name]
    loss = losses.get(function)

    def run(p, noisy, y):
        padded = lambda p: jnp.divide(*loss.totals(y, p, None, VALID))
        found = [
            jax.value_and_grad(lambda p: jnp.mean(function(p, y)))(p),
            jax.value_and_grad(lambda p: loss(y, p))(p),
        ]
        if name not in OF_THE_BATCH:
            found += [loss(y[:4], p[:4]), jax.value_and_grad(padded)(noisy)]
        return found

    return jax.jit(run)(LOGITS, np.where(VALID[:, None], LOGITS, np.nan), y)


@pytest.mark.parametrize("name", TARGETS)
def test_a_function_of_optax_is_a_loss_as_it_is(name):
    expected, found, *_ = measured(name)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-4, atol=1e-6)
    loss = losses.get(getattr(optax.losses, name))
    assert isinstance(loss, OptaxLoss)
    assert from_config(json.loads(json.dumps(to_config(loss)))) == loss


# One for each kind of targets: class numbers, numbers, a row each, and the batch together.
TRAINED = (
    "softmax_cross_entropy_with_integer_labels",
    "sigmoid_binary_cross_entropy",
    "huber_loss",
    "cosine_distance",
    *OF_THE_BATCH,
)


@pytest.mark.parametrize("name", TRAINED)
def test_a_model_trains_on_a_function_of_optax(name):
    expected, *_ = measured(name)
    value, gradient = trained(getattr(optax.losses, name), TARGETS[name])
    np.testing.assert_allclose(value, expected[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-4, atol=1e-6)


def test_every_function_of_optax_is_measured_or_refused():
    public = {n for n in dir(optax.losses) if n[0] != "_"}
    found = {n for n in public if is_from_optax(getattr(optax.losses, n))}
    assert found == set(TARGETS) | OTHERS
    for name in OTHERS:
        with pytest.raises(TypeError, match=rf"of optax as a loss, received {name}\(.*wrap it"):
            losses.get(getattr(optax.losses, name))


def test_a_function_that_optax_makes_is_a_loss():
    made = optax.losses.make_fenchel_young_loss(jax.nn.logsumexp)
    value, _ = trained(made, ONE_HOT)
    np.testing.assert_allclose(value, jax.vmap(made)(LOGITS, ONE_HOT).mean(), rtol=1e-5)


def test_arguments_go_along():
    loss = losses.get(functools.partial(optax.losses.huber_loss, delta=0.1))
    np.testing.assert_allclose(loss(NUMBERS, LOGITS), losses.Huber(0.1)(NUMBERS, LOGITS), rtol=1e-5)


@pytest.mark.parametrize(
    ("function", "y"),
    [
        (optax.losses.squared_error, NUMBERS[:, 0]),
        (optax.losses.sigmoid_binary_cross_entropy, YES_NO[:, 0] > 0),
    ],
)
def test_one_number_each_is_aligned(function, y):
    p = LOGITS[:, :1]
    expected = np.mean(function(p[:, 0], y.astype("float32")))
    for true in (y, y[:, None]):
        for predicted in (p, p[:, 0]):
            np.testing.assert_allclose(losses.get(function)(true, predicted), expected, rtol=1e-5)


def test_class_numbers_stay_whole_and_nothing_is_broadcast():
    labels = losses.get(optax.losses.softmax_cross_entropy_with_integer_labels)
    expected = losses.SparseCategoricalCrossentropy(from_logits=True)(LABELS, LOGITS)
    for y in (LABELS, LABELS[:, None], LABELS.astype("float32")):
        np.testing.assert_allclose(labels(y, LOGITS), expected, rtol=1e-6)
    with pytest.raises(ValueError, match="OptaxLoss: expected labels among the classes"):
        labels.check_targets(LABELS + 1, LOGITS)
    with pytest.raises(ValueError, match="class numbers: use the sparse form"):
        losses.get(optax.losses.softmax_cross_entropy).check(LABELS[:3], LOGITS[:3])
    with pytest.raises(ValueError, match="one-hot"):
        labels.check(ONE_HOT, LOGITS)


@pytest.mark.parametrize("name", sorted(set(TARGETS) - set(OF_THE_BATCH)))
def test_padding_changes_nothing(name):
    *_, expected, (value, gradient) = measured(name)
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
    assert not gradient[4:].any()


def test_a_function_of_yours_takes_the_targets_first():
    assert isinstance(losses.get(lambda y_true, y_pred: y_true - y_pred), FunctionLoss)
