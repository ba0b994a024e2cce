"""What losses, metrics, optimizers and their logs are called: as in Keras, which is asked live."""

import functools
import inspect
import json

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest

import fnn
from fnn import losses, metrics, optimizers
from fnn.core.config import from_config, to_config
from tests.helpers.oracle import keras_rules

pytestmark = pytest.mark.slow

# What an argument without a default is given.
NEEDED = {
    "fn": lambda y_true, y_pred: abs(y_true - y_pred),
    "num_classes": 3,
    "target_class_ids": (0,),
}
MODULES = {
    "losses": (losses, keras.losses),
    "metrics": (metrics, keras.metrics),
    "optimizers": (optimizers, keras.optimizers),
}
SHARED = [
    (part, name)
    for part, (ours, theirs) in MODULES.items()
    for name in ours.__all__
    if name[0].isupper() and hasattr(theirs, name)
]
WRAPPERS = ("MeanMetricWrapper", "LossScaleOptimizer", "MultiOptimizer", "OptimizerMap")
PLAIN = [place for place in SHARED if place[1] not in WRAPPERS and place[1] != "Optimizer"]


def places(cls):
    """The parameters of a constructor by name."""
    found = dict(inspect.signature(cls.__init__).parameters)
    del found["self"]
    return found


def needed(part, name):
    """Keras's class, and what it needs to be made."""
    oracle = getattr(MODULES[part][1], name)
    missing = [p for p in places(oracle).values() if p.default is p.empty and p.kind < 2]
    return oracle, {p.name: NEEDED.get(p.name, 0.5) for p in missing}


def in_keras(part, name, /, **more):
    oracle, given = needed(part, name)
    with keras_rules():
        keras.utils.clear_session(free_memory=False)  # which counts names
        return oracle(**given, **more)


def in_fnn(part, name, /, **more):
    return getattr(MODULES[part][0], name)(**needed(part, name)[1], **more)


@pytest.mark.parametrize(("part", "name"), PLAIN)
def test_the_name_is_keras_name_and_no_other_value(part, name):
    expected = in_keras(part, name).name
    value = in_fnn(part, name)
    assert value.name == expected
    same = [in_fnn(part, name, name=given) for given in (expected, None, "")]
    assert {value} == {value, *same}
    assert {repr(value)} == {repr(one) for one in same}
    assert "name=" not in repr(value)
    named = in_fnn(part, name, name="mine")
    assert named.name == "mine"
    assert named != value
    assert "name='mine'" in repr(named)
    assert named.replace(name=None) == value


@pytest.mark.parametrize(("part", "name"), PLAIN)
def test_configs_are_read_as_they_are_written_and_as_keras_writes_them(part, name):
    value = in_fnn(part, name, name="mine")
    if name not in ("Loss", "Metric"):
        assert from_config(json.loads(json.dumps(to_config(value)))) == value
    written = value.get_config()
    assert type(value).from_config(json.loads(json.dumps(written))) == value
    theirs = in_keras(part, name, name="mine")
    with keras_rules():
        theirs = theirs.get_config()
    assert set(theirs) - {"thresholds"} <= set(written)
    read = type(value).from_config(theirs)
    for field, held in read.get_config().items():
        if field in theirs:
            given = theirs[field]
            assert held == given or list(held) == list(given)


@pytest.mark.parametrize(("part", "name"), [p for p in PLAIN if p[1] not in ("Loss", "Metric")])
def test_arguments_go_by_position_where_keras_has_them(part, name):
    oracle, given = needed(part, name)
    taken = [p for p in places(oracle).values() if p.kind < 2]
    sample = {"name": "mine"} | ({} if part == "optimizers" else {"dtype": "float32"})
    values = {p.name: {**given, **sample}.get(p.name, p.default) for p in taken}
    cls = getattr(MODULES[part][0], name)
    made = cls(*values.values())
    assert made == cls(**values)
    assert made.name == "mine"
    with keras_rules():
        assert oracle(*values.values()).name == "mine"


def test_a_class_of_yours_has_a_name_however_it_is_written():
    class MeanGap(metrics.Metric):
        scale: float

        def values(self, y_true, y_pred):
            return self.scale * (y_true - y_pred)

    class Declared(metrics.Metric):
        scale: float
        name: str | None = None
        dtype: str | None = None

    class Called(metrics.Metric):
        name = "gap"

    class InKeras(metrics.Metric):
        def __init__(self, scale, name="spread", **kwargs):
            super().__init__(name=name, **kwargs)
            self.scale = scale

    class WithoutSuper(losses.Loss):
        def __init__(self, power):
            self.power = power

    assert MeanGap(2.0).name == "mean_gap"
    assert MeanGap(2.0, "mine", "float32").name == "mine"
    assert Declared(2.0).name == "declared"
    assert Declared(2.0, "mine").name == "mine"
    assert Called().name == "gap"
    assert Called(name="other").name == "other"
    assert InKeras(2.0).name == "spread"
    assert InKeras(2.0, dtype="float32").dtype == "float32"
    assert InKeras(2.0) == InKeras(2.0, "spread") != InKeras(2.0, "mine")
    assert WithoutSuper(2.0).name == "without_super"


# -- the stateful face -----------------------------------------------------------------------------

TRUE = np.array([[0.0], [1.0], [1.0]], "float32")
PREDICTED = np.array([[0.2], [0.6], [0.9]], "float32")


@pytest.mark.parametrize("name", ["MeanSquaredError", "BinaryAccuracy", "AUC", "Precision"])
def test_calling_a_metric_adds_a_batch_and_gives_the_result(name):
    ours, theirs = in_fnn("metrics", name), in_keras("metrics", name)
    weight = np.array([1.0, 2.0, 3.0], "float32")
    with keras_rules():
        for held in ({}, {"sample_weight": weight}):
            expected = float(theirs(TRUE, PREDICTED, **held))
            np.testing.assert_allclose(ours(TRUE, PREDICTED, **held), expected, rtol=1e-6)
        assert len(ours.variables) == len(theirs.variables)
        np.testing.assert_allclose(
            sorted(float(v.sum()) for v in ours.variables),
            sorted(float(np.sum(v)) for v in theirs.variables),
            rtol=1e-6,
        )
        ours.reset_state()
        theirs.reset_state()
        np.testing.assert_allclose(ours.result(), float(theirs.result()))
    assert all(not v.any() for v in ours.variables)
    assert ours == in_fnn("metrics", name)  # what was added is no part of the value


def test_mean_and_sum_are_called_with_values():
    for name in ("Mean", "Sum"):
        ours, theirs = in_fnn("metrics", name), in_keras("metrics", name)
        with keras_rules():
            for _ in range(2):
                expected = float(theirs([1.0, 4.0], sample_weight=[3.0, 1.0]))
                assert float(ours([1.0, 4.0], sample_weight=[3.0, 1.0])) == expected


# -- functions -------------------------------------------------------------------------------------


@fnn.register
def powered(y_true, y_pred, power=1.0, scale=1.0):
    return scale * abs(y_true - y_pred) ** power


def test_a_wrapper_hands_its_arguments_on():
    given = {"power": 3.0, "scale": 2.0}
    ours = metrics.MeanMetricWrapper(powered, "mine", None, **given)
    theirs = in_keras("metrics", "MeanMetricWrapper")
    with keras_rules():
        theirs = keras.metrics.MeanMetricWrapper(powered, "mine", None, **given)
        expected = float(theirs(TRUE, PREDICTED))
    np.testing.assert_allclose(ours(TRUE, PREDICTED), expected, rtol=1e-6)
    assert ours.name == theirs.name == "mine"
    assert ours == metrics.MeanMetricWrapper(powered, name="mine", scale=2.0, power=3.0).replace(
        kwargs=ours.kwargs
    )
    assert ours != metrics.MeanMetricWrapper(powered, "mine", power=3.0)
    assert from_config(json.loads(json.dumps(to_config(ours)))) == ours
    assert in_fnn("metrics", "MeanMetricWrapper").name == "mean_metric_wrapper"
    assert in_keras("metrics", "MeanMetricWrapper").name == "mean_metric_wrapper"
    shown = inspect.signature(metrics.MeanMetricWrapper).parameters
    assert list(shown) == list(places(keras.metrics.MeanMetricWrapper))
    with pytest.raises(TypeError, match="expected plain data"):
        metrics.MeanMetricWrapper(powered, power=jnp.ones(2))


LABELS = np.array([0, 1, 2, 2, 1, 0], "int32")
LOGITS = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")
FROM_OPTAX = {
    "huber_loss": LOGITS[::-1],
    "kl_divergence": np.asarray(jax.nn.softmax(LOGITS)),
    "softmax_cross_entropy": np.eye(3, dtype="float32")[LABELS],
    "softmax_cross_entropy_with_integer_labels": LABELS,
    "squared_error": LOGITS[::-1],
}


@pytest.mark.parametrize("name", FROM_OPTAX)
def test_a_function_of_optax_is_a_metric_with_the_predictions_first(name):
    function, y = getattr(optax.losses, name), FROM_OPTAX[name]
    metric = metrics.get(function)
    with jax.numpy_rank_promotion("allow"):
        expected = float(jnp.mean(function(jnp.asarray(LOGITS), jnp.asarray(y))))
        np.testing.assert_allclose(metric(y, LOGITS), expected, rtol=1e-5)
        model = fnn.Sequential([fnn.Input((3,)), fnn.layers.Identity()])
        model.compile("sgd", function, metrics=[function])
        logs = model.evaluate(LOGITS, y, batch_size=4, verbose=0, return_dict=True)
    np.testing.assert_allclose(logs[name], expected, rtol=1e-5)
    np.testing.assert_allclose(logs["loss"], expected, rtol=1e-5)
    assert from_config(json.loads(json.dumps(to_config(metric)))) == metric


def test_a_partial_of_optax_is_a_metric_too():
    metric = metrics.get(functools.partial(optax.losses.huber_loss, delta=0.1))
    expected = in_keras("losses", "Huber", delta=0.1)
    with keras_rules():
        expected = float(expected(LOGITS[::-1], LOGITS))
    np.testing.assert_allclose(metric(LOGITS[::-1], LOGITS), expected, rtol=1e-5)
    assert metric.name == "huber_loss"
    with pytest.raises(TypeError, match="received ctc_loss"):
        metrics.get(optax.losses.ctc_loss)


# -- keys of logs ----------------------------------------------------------------------------------


def gap(y_true, y_pred):
    return abs(y_true - y_pred).mean(-1)


def meanGap(y_true, y_pred):  # noqa: N802
    return gap(y_true, y_pred)


class Gap:
    """A callable object."""

    def __call__(self, y_true, y_pred):
        return gap(y_true, y_pred)


# What is compiled, made by a function of the library: it has its own metrics.
ONE_OUTPUT = {
    "strings": lambda k: {"metrics": ["acc", "mse"], "weighted_metrics": ["acc"]},
    "accuracy twice": lambda k: {"metrics": ["accuracy", "accuracy", "acc"]},
    "twice and weighted": lambda k: {
        "metrics": ["mse", "mse"],
        "weighted_metrics": ["mse", "mse", "mae"],
    },
    "weighted twice": lambda k: {"weighted_metrics": ["acc", "acc"]},
    "values": lambda k: {
        "metrics": [
            "mse",
            k.metrics.MeanSquaredError(name="mse"),
            k.metrics.MeanSquaredError(),
            k.metrics.MeanSquaredError,
            k.metrics.AUC(),
            k.metrics.LogCoshError(),
            k.metrics.Precision(name="mine"),
        ]
    },
    "functions": lambda k: {
        "metrics": [gap, meanGap, functools.partial(gap), Gap(), lambda y, p: abs(y - p)]
    },
    "lambdas": lambda k: {"metrics": [lambda y, p: abs(y - p), lambda y, p: abs(p - y)]},
    "losses": lambda k: {"metrics": [k.losses.Huber(), k.losses.Poisson(name="mine")]},
    "functions of losses": lambda k: {"metrics": [k.losses.mean_squared_error]},
    "wrappers": lambda k: {
        "metrics": [k.metrics.MeanMetricWrapper(gap), k.metrics.MeanMetricWrapper(gap, name="g")]
    },
    "other words": lambda k: {"metrics": ["MSE", "AUC", "MeanSquaredError", "kl_divergence"]},
    "a dict": lambda k: {"metrics": {"a": ["acc"]}},
}
TWO_OUTPUTS = {
    "one loss": lambda k: {},
    "losses by name": lambda k: {"loss": {"a": "mse", "b": "mae"}},
    "losses by place": lambda k: {"loss": ["mse", lambda y, p: abs(y - p)]},
    "no loss for one": lambda k: {"loss": ["mse", None], "metrics": [["acc"], ["acc"]]},
    "lists": lambda k: {"metrics": [["acc"], ["mse"]], "weighted_metrics": [["acc"], ["acc"]]},
    "one each": lambda k: {"metrics": ["acc", "mse"], "weighted_metrics": ["acc", "acc"]},
    "dicts": lambda k: {
        "metrics": {"a": ["acc", "mse"]},
        "weighted_metrics": {"a": ["acc"], "b": ["acc"]},
    },
    "twice": lambda k: {
        "metrics": {"a": ["acc", "acc"], "b": "acc"},
        "weighted_metrics": {"a": ["acc", "acc", "acc"], "b": ["acc"]},
    },
    "values and functions": lambda k: {
        "metrics": {
            "a": k.metrics.MeanSquaredError(name="x"),
            "b": [gap, lambda y, p: abs(y - p)],
        }
    },
}
X = np.ones((4, 3), "float32")
ONE_HOT = np.eye(2, dtype="float32")[[0, 1, 0, 1]]


def keys(library, heads, arguments):
    """The keys of the history of a model with such outputs: their names, or a dict of them."""
    x = library.Input((3,))
    head = lambda name: library.layers.Dense(2, activation="softmax", name=name)(x)
    if isinstance(heads, dict):
        outputs, y = {key: head(n) for key, n in heads.items()}, dict.fromkeys(heads, ONE_HOT)
    else:
        outputs, y = [head(n) for n in heads], [ONE_HOT] * len(heads)
    if len(heads) == 1:
        (outputs,), (y,) = outputs, y
    model = library.Model(x, outputs)
    # Keras compiles nothing: its keys are the same
    eager = {"run_eagerly": True} if library is keras else {}
    model.compile(**{"optimizer": "sgd", "loss": "mse", **arguments(library), **eager})
    with keras_rules():
        return list(model.fit(X, y, validation_data=(X, y), verbose=0).history)


@pytest.mark.parametrize("arguments", ONE_OUTPUT.values(), ids=ONE_OUTPUT)
def test_keys_of_one_output_are_keras_keys(arguments):
    keras.utils.clear_session(free_memory=False)
    assert keys(fnn, ["a"], arguments) == keys(keras, ["a"], arguments)


# Names of a dict are those of its outputs, which these show. (Keras wants no lists for it.)
LISTS, DICT = ["b", "a"], {"b": "p", "a": "q"}
OF_A_DICT = ("one loss", "losses by name", "dicts")
KEYS = [pytest.param(TWO_OUTPUTS[name], LISTS, id=f"{name}-list") for name in TWO_OUTPUTS]
KEYS += [pytest.param(TWO_OUTPUTS[name], DICT, id=f"{name}-dict") for name in OF_A_DICT]
KEYS += [
    pytest.param(TWO_OUTPUTS[name], DICT, id=f"{name}-dict", marks=pytest.mark.thorough)
    for name in ("twice", "values and functions")
]


@pytest.mark.parametrize(("arguments", "heads"), KEYS)
def test_keys_of_two_outputs_are_keras_keys(arguments, heads):
    keras.utils.clear_session(free_memory=False)
    assert keys(fnn, heads, arguments) == keys(keras, heads, arguments)


def test_a_metric_called_loss_takes_its_place_in_logs():
    arguments = lambda k: {"metrics": [k.metrics.MeanSquaredError(name="loss")]}
    assert keys(keras, ["a"], arguments) == ["loss", "val_loss"]
    assert keys(fnn, ["a"], arguments) == ["loss", "val_loss"]


# -- what is given in the wrong place -------------------------------------------------------------

Adam, MSE = fnn.optimizers.Adam, fnn.losses.MeanSquaredError
SWAPPED = {
    "strings": (
        {"optimizer": "mse", "loss": "adam"},
        ValueError,
        r"expected an optimizer, received 'mse', which is a loss; use compile\(loss='mse'\)",
    ),
    "values": (
        {"optimizer": MSE(), "loss": Adam()},
        TypeError,
        r"an optimizer, received MeanSquaredError\(\), which is a loss; use compile\(loss=Mean",
    ),
    "classes": ({"loss": Adam}, TypeError, r"a loss, received Adam\(\), which is an optimizer"),
    "loss accuracy": (
        {"loss": "accuracy"},
        ValueError,
        r"a loss, received 'accuracy', which is a metric; use compile\(metrics=\['accuracy'\]\)",
    ),
    "loss acc": ({"loss": "acc"}, ValueError, r"use compile\(metrics=\['acc'\]\)"),
    "loss auc": ({"loss": metrics.AUC()}, TypeError, r"use compile\(metrics=\[AUC\(\)\]\)"),
    "loss layer": (
        {"loss": fnn.layers.Dense(3)},
        TypeError,
        r"expected a loss, received Dense\(units=3\), which is a layer$",
    ),
    "metric adam": (
        {"loss": "mse", "metrics": ["adam"]},
        ValueError,
        r"a metric, received 'adam', which is an optimizer; use compile\(optimizer='adam'\)",
    ),
    "metric huber": (
        {"loss": "mse", "weighted_metrics": ["huber"]},
        ValueError,
        r"which is a loss; use compile\(loss='huber'\), or for its mean metrics=\[fnn.losses.get",
    ),
    "nothing known": (
        {"loss": "nonsense"},
        ValueError,
        "expected a loss that fnn knows, received 'nonsense'",
    ),
}


@pytest.mark.parametrize(("arguments", "error", "words"), SWAPPED.values(), ids=SWAPPED)
def test_compile_says_what_was_likely_meant(arguments, error, words):
    model = fnn.Sequential([fnn.layers.Dense(1)])
    with pytest.raises(error, match=words):
        model.compile(**arguments)


def test_names_that_hang_on_shapes_wait_for_them():
    model = fnn.Sequential([fnn.Input((3,)), fnn.layers.Dense(2, "softmax")])
    model.compile("sgd", "crossentropy", metrics=["acc", "CE"])
    logs = model.evaluate(X, ONE_HOT, verbose=0, return_dict=True)
    assert list(logs) == ["CE", "acc", "loss"]
    assert logs["CE"] == pytest.approx(logs["loss"])
