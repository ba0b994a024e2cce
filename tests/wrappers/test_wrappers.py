"""fnn.wrappers: scikit-learn's own checks, its tools, and Keras's wrappers beside them."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

import fnn
from fnn.layers import Dense, Flatten
from tests.helpers.oracle import keras_rules

sklearn = pytest.importorskip("sklearn", "1.6")

from sklearn.base import clone  # noqa: E402
from sklearn.datasets import load_iris  # noqa: E402
from sklearn.exceptions import NotFittedError  # noqa: E402
from sklearn.frozen import FrozenEstimator  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler, scale  # noqa: E402
from sklearn.utils.estimator_checks import (  # noqa: E402
    check_estimator,
    estimator_checks_generator,
)

from fnn.wrappers import (  # noqa: E402
    Classifier,
    Regressor,
    SKLearnClassifier,
    SKLearnRegressor,
    SKLearnTransformer,
    Transformer,
)

X, SPECIES = load_iris(return_X_y=True)
X = scale(X)
NAMES = np.array(["setosa", "versicolor", "virginica"])[SPECIES]
QUIET = {"epochs": 20, "batch_size": 50, "verbose": 0}


def network(X, y, loss="mse", activation=None, rate=0.03, seed=0):
    model = fnn.Sequential([Dense(y.shape[1], activation, input_shape=X.shape[1:])], seed=seed)
    model.compile(fnn.optimizers.SGD(rate), loss)
    return model


OF_CLASSES = {"loss": "categorical_crossentropy", "activation": "softmax", "rate": 0.5}


def classifier(**arguments):
    return Classifier(network, model_kwargs=OF_CLASSES, fit_kwargs=QUIET, **arguments)


# -- scikit-learn's own checks ---------------------------------------------------------------------


class Seeded:
    """Its model has a seed, so that checks of equal results run too."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        assert tags.non_deterministic
        tags.non_deterministic = False
        return tags


class SeededClassifier(Seeded, Classifier):
    pass


class SeededRegressor(Seeded, Regressor):
    pass


class SeededTransformer(Seeded, Transformer):
    pass


SHORT = {"epochs": 1, "batch_size": 500, "verbose": 0}  # one step, so few programs for each check


OF_PROBABILITIES = {"loss": "categorical_crossentropy", "activation": "softmax"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@pytest.mark.parametrize(
    ("kind", "model_kwargs"),
    [
        (SeededClassifier, OF_PROBABILITIES),
        pytest.param(SeededRegressor, {"rate": 1e-6}, marks=pytest.mark.thorough),
        pytest.param(SeededTransformer, {"rate": 1e-6}, marks=pytest.mark.thorough),
    ],
)
def test_the_checks_of_scikit_learn(kind, model_kwargs):
    estimator = kind(network, model_kwargs=model_kwargs, fit_kwargs=SHORT)
    checks = check_estimator(estimator, on_skip=None)  # raises what a check raises
    assert len(checks) > 40
    left_out = [check["check_name"] for check in checks if check["status"] != "passed"]
    assert left_out == ["check_array_api_input"]  # which asks for SCIPY_ARRAY_API


def checks_of(kind, **model_kwargs):
    """scikit-learn's checks, by name."""
    estimator = kind(network, model_kwargs=model_kwargs, fit_kwargs=SHORT)
    found = estimator_checks_generator(estimator)
    return {getattr(check, "func", check).__name__: (one, check) for one, check in found}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [SeededRegressor, SeededTransformer])
def test_the_checks_that_a_classifier_does_not_have(kind):
    """What all estimators share is checked with the classifier above."""
    checks = checks_of(kind, rate=1e-6)
    alone = sorted(checks.keys() - checks_of(SeededClassifier, **OF_PROBABILITIES).keys())
    assert len(alone) > 2
    for name in alone:
        estimator, check = checks[name]
        check(estimator)


# -- scikit-learn's tools --------------------------------------------------------------------------


@pytest.mark.slow
def test_a_classifier_in_a_pipeline_and_in_cross_validation():
    """Equal to a plain loop over the parts."""
    pipeline = make_pipeline(StandardScaler(), classifier())
    parts = StratifiedKFold(3)
    scores = cross_val_score(pipeline, X, NAMES, cv=parts)
    expected = []
    for train, test in parts.split(X, NAMES):
        mean, deviation = X[train].mean(axis=0), X[train].std(axis=0)
        x, one_hot = (X - mean) / deviation, np.eye(3, dtype="float32")[SPECIES]
        model = network(x, one_hot, **OF_CLASSES)
        model.fit(x[train], one_hot[train], **QUIET)
        found = model.predict(x[test], verbose=0).argmax(axis=1)
        expected.append(np.mean(found == SPECIES[test]))
    np.testing.assert_allclose(scores, expected)
    assert min(scores) > 0.8
    pipeline.fit(X, NAMES)
    assert list(pipeline.classes_) == ["setosa", "versicolor", "virginica"]


@pytest.mark.slow
def test_a_grid_search_varies_the_items_of_both_dicts():
    grid = {"model_kwargs__rate": [1e-6, 0.5], "fit_kwargs__epochs": [1, 20]}
    search = GridSearchCV(classifier(), grid, cv=3).fit(X, NAMES)
    assert search.best_params_ == {"model_kwargs__rate": 0.5, "fit_kwargs__epochs": 20}
    assert search.best_estimator_.model_.optimizer.learning_rate == 0.5
    assert len(search.best_estimator_.history_.epoch) == 20
    assert OF_CLASSES["rate"] == 0.5
    assert QUIET["epochs"] == 20
    assert search.score(X, NAMES) > 0.9


@pytest.mark.slow
def test_the_score_of_two_classes():
    two = SPECIES > 0
    scores = cross_val_score(classifier(), X, two, scoring="roc_auc", cv=3)
    assert scores.min() > 0.99


@pytest.mark.slow
def test_sample_weights_reach_the_model():
    """Also through a search, by metadata routing."""
    weight = (SPECIES > 0).astype("float32")
    fitted = classifier().fit(X, NAMES, sample_weight=weight)
    assert set(fitted.predict(X)) == {"versicolor", "virginica"}
    with sklearn.config_context(enable_metadata_routing=True):
        asks = classifier().set_fit_request(sample_weight=True)
        asks.set_score_request(sample_weight=False)
        search = GridSearchCV(asks, {"fit_kwargs__epochs": [20]}, cv=3)
        search.fit(X, NAMES, sample_weight=weight)
    np.testing.assert_array_equal(search.predict(X), fitted.predict(X))


@pytest.mark.parametrize("copy", [clone, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_copy_has_all_arguments(copy):
    once = classifier(warm_start=True)
    again = copy(once)
    assert type(again) is Classifier
    assert again.get_params() == once.get_params()
    assert again.get_params()["fit_kwargs__epochs"] == 20


@pytest.mark.slow
def test_a_fitted_estimator_can_be_pickled():
    fitted = classifier().fit(X, NAMES)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))
    with pytest.raises(NotFittedError):
        clone(fitted).predict(X)


def test_an_unknown_argument_is_refused_as_scikit_learn_does():
    with pytest.raises(ValueError, match="Invalid parameter 'modle' for estimator Classifier"):
        classifier().set_params(modle=3)
    with pytest.raises(ValueError, match="Invalid parameter 'modle' for estimator Classifier"):
        classifier().set_params(modle__units=3)


# -- models ----------------------------------------------------------------------------------------


def test_a_model_is_cloned_by_each_fit_unless_it_goes_on():
    model = network(X, np.eye(3), **OF_CLASSES)
    before = model.get_weights()
    estimator = Classifier(model, fit_kwargs=QUIET)
    first = estimator.fit(X, NAMES).model_
    assert first is not model
    assert estimator.fit(X, NAMES).model_ is not first
    assert estimator.score(X, NAMES) > 0.9
    for old, now in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, now)

    estimator.set_params(warm_start=True, model=model)
    del estimator.model_
    assert estimator.fit(X, NAMES).model_ is model
    losses = estimator.history_.history["loss"]
    assert estimator.fit(X[:50], NAMES[:50]).model_ is model  # one of the classes alone
    assert len(estimator.classes_) == 3
    assert losses[-1] < losses[0]


@pytest.mark.slow
def test_warm_start_goes_on_with_the_model_of_a_function():
    estimator = Regressor(network, warm_start=True, fit_kwargs=QUIET)
    first = estimator.fit(X, X[:, 0]).history_.history["loss"]
    model = estimator.model_
    second = estimator.fit(X, X[:, 0]).history_.history["loss"]
    assert estimator.model_ is model
    assert second[0] < first[-1] < first[0]


def test_arguments_of_fit_win_and_change_nothing():
    fitted = classifier().fit(X, NAMES, epochs=2)
    assert len(fitted.history_.epoch) == 2
    assert fitted.fit_kwargs == QUIET == {"epochs": 20, "batch_size": 50, "verbose": 0}


@pytest.mark.slow
def test_probabilities_of_logits():
    """By the softmax of SciPy."""
    from scipy.special import softmax

    loss = fnn.losses.CategoricalCrossentropy(from_logits=True)
    fitted = Classifier(network, model_kwargs={"loss": loss}, fit_kwargs=QUIET).fit(X, NAMES)
    outputs = fitted.model_.predict(X, verbose=0)
    np.testing.assert_array_equal(fitted.decision_function(X), outputs)
    expected = softmax(outputs.astype("float64"), axis=1)
    np.testing.assert_allclose(fitted.predict_proba(X), expected, rtol=1e-12)


def of_images(X, y):
    layers = [Flatten(input_shape=X.shape[1:]), Dense(y.shape[1])]
    model = fnn.Sequential(layers, seed=0)
    model.compile(fnn.optimizers.SGD(0.03), "mse")
    return model


@pytest.mark.slow
def test_images_and_several_targets():
    images = X.reshape(-1, 2, 2, 1)
    targets = X[:, :2] - X[:, 2:]
    fitted = Regressor(of_images, fit_kwargs=QUIET).fit(images, targets)
    flat = Regressor(network, fit_kwargs=QUIET).fit(X, targets)
    assert fitted.predict(images).shape == (150, 2)
    np.testing.assert_allclose(fitted.predict(images), flat.predict(X), atol=1e-5)


@pytest.mark.slow
def test_sparse_matrices():
    from scipy.sparse import csr_matrix

    dense, sparse = classifier().fit(X, NAMES), classifier().fit(csr_matrix(X), NAMES)
    expected = dense.predict_proba(X)
    np.testing.assert_allclose(sparse.predict_proba(csr_matrix(X)), expected, atol=1e-5)


@pytest.mark.slow
def test_a_transformer_gives_features():
    embed = fnn.Sequential([Dense(2, input_shape=(4,))], seed=0)
    frozen = FrozenEstimator(Transformer(embed))
    pipeline = make_pipeline(frozen, LogisticRegression()).fit(X, SPECIES)
    reference = LogisticRegression().fit(embed.predict(X, verbose=0), SPECIES)
    np.testing.assert_array_equal(
        pipeline.predict(X), reference.predict(embed.predict(X, verbose=0))
    )
    fitted = Transformer(network, fit_kwargs=QUIET).fit(X, X[:, :2])
    np.testing.assert_array_equal(fitted.transform(X), fitted.model_.predict(X, verbose=0))
    assert list(fitted.get_feature_names_out()) == ["transformer0", "transformer1"]
    table = fitted.set_output(transform="pandas").transform(X)
    assert list(table.columns) == ["transformer0", "transformer1"]


# -- Keras -----------------------------------------------------------------------------------------


def keras_network(weights):
    import keras

    def build(X, y, loss, activation=None):
        model = keras.Sequential(
            [keras.Input(X.shape[1:]), keras.layers.Dense(y.shape[1], activation)]
        )
        model.set_weights(weights)
        model.compile(keras.optimizers.SGD(0.05), loss)
        return model

    return build


def own_network(weights):
    def build(X, y, loss, activation=None):
        model = fnn.Sequential([Dense(y.shape[1], activation, input_shape=X.shape[1:])])
        model.set_weights(weights)
        model.compile(fnn.optimizers.SGD(0.05), loss)
        return model

    return build


def both(kind, outputs, y, **model_kwargs):
    """Keras's estimator and fnn's after the same training."""
    import keras

    rng = np.random.default_rng(0)
    weights = [rng.normal(size=(4, outputs)).astype("float32"), np.zeros(outputs, "float32")]
    whole = {"epochs": 5, "batch_size": 150, "shuffle": False, "verbose": 0}
    theirs = getattr(keras.wrappers, kind)(
        keras_network(weights), model_kwargs=model_kwargs, fit_kwargs=whole
    )
    ours = getattr(fnn.wrappers, kind)(
        own_network(weights), model_kwargs=model_kwargs, fit_kwargs=whole
    )
    return theirs.fit(X, y), ours.fit(X, y)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_estimators_agree_with_those_of_keras():
    with keras_rules():
        theirs, ours = both(
            "SKLearnClassifier", 3, NAMES, loss="categorical_crossentropy", activation="softmax"
        )
        np.testing.assert_allclose(
            ours.decision_function(X), theirs.decision_function(X), atol=1e-5
        )
        np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
        np.testing.assert_array_equal(ours.classes_, theirs.classes_)
        theirs, ours = both("SKLearnRegressor", 1, X[:, 0], loss="mse")
        assert ours.predict(X).shape == theirs.predict(X).shape == (150,)
        np.testing.assert_allclose(ours.predict(X), theirs.predict(X), atol=1e-5)
        theirs, ours = both("SKLearnTransformer", 1, X[:, 0], loss="mse")
        np.testing.assert_allclose(ours.transform(X), theirs.transform(X), atol=1e-5)


def test_arguments_are_those_of_keras():
    import inspect

    with keras_rules():
        import keras

        expected = inspect.signature(keras.wrappers.SKLearnClassifier).parameters
        names = {name: one.default for name, one in expected.items()}
    for cls in (SKLearnClassifier, SKLearnRegressor, SKLearnTransformer):
        found = inspect.signature(cls).parameters
        assert {name: one.default for name, one in found.items()} == names


# -- errors and imports ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cause", "error", "message"),
    [
        (lambda: classifier().fit(X, np.ones(150)), ValueError, "of at least two classes"),
        (lambda: classifier().fit(X, X[:, 0]), ValueError, "Unknown label type"),
        (lambda: classifier().fit(X, np.eye(3)[SPECIES]), ValueError, "y should be a 1d array"),
        (lambda: classifier().fit(X, None), ValueError, "requires y to be passed"),
        (lambda: Classifier(fnn.Sequential([Dense(3)])).fit(X, NAMES), RuntimeError, "compile"),
        (
            lambda: classifier(warm_start=True).fit(X, NAMES).fit(X, NAMES[::-1].astype("U3")),
            ValueError, r"expected labels among \['setosa'.*received \['set', 'ver', 'vir'\] too",
        ),
        (
            lambda: fnn.wrappers.estimator.Estimator(network).fit(X, NAMES),
            NotImplementedError, "Estimator does not know what its targets are",
        ),
    ],
)  # fmt: skip
def test_errors(cause, error, message):
    with pytest.raises(error, match=message):
        cause()


@pytest.mark.slow
def test_scikit_learn_is_imported_with_the_wrappers_alone():
    code = """
import sys, fnn
assert "sklearn" not in sys.modules
sys.modules["sklearn"] = sys.modules["sklearn.base"] = None
try:
    fnn.wrappers
except ImportError as error:
    print(error)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.stderr == ""
    assert "this needs scikit-learn" in ran.stdout
    assert 'pip install ".[sklearn]"' in ran.stdout
    assert fnn.wrappers.SKLearnClassifier is Classifier
