"""Freezing by patterns of paths: no gradient, no optimizer state, the same bits afterwards."""

import jax
import numpy as np
import pytest

import fnn
from fnn.layers import BatchNormalization, Dense
from fnn.optimizers import AdamW, ByPath, LossScaleOptimizer, Muon
from fnn.runtime.patterns import matches
from fnn.training.cost import operations
from fnn.training.step import make_train_step

X = np.linspace(-1, 1, 64, dtype="float32").reshape(16, 4)
Y = X[:, :2] ** 2


def network(seed=0):
    """An encoder of two blocks (`encoder/first`, `encoder/norm`, ...) and a head."""
    rows = [Dense(8, "tanh", name="first"), BatchNormalization(name="norm"), Dense(8, name="last")]
    encoder = fnn.layers.Sequential(rows, name="encoder")
    model = fnn.Sequential([encoder, Dense(2, name="head")], seed=seed)
    model.build((None, 4))
    return model


def compiled(optimizer="adam"):
    model = network()
    model.compile(optimizer, "mse")
    return model


def fit(model, epochs=1):
    return model.fit(X, Y, batch_size=8, epochs=epochs, shuffle=False, verbose=0)


def learning(model):
    """The paths of the weights that learn, without the name of the model."""
    return [weight.path.partition("/")[2] for weight in model.trainable_weights]


FIRST, NORM, LAST = ("encoder/first", "encoder/norm", "encoder/last")
ALL = [
    *(f"{FIRST}/kernel", f"{FIRST}/bias", f"{NORM}/gamma", f"{NORM}/beta"),
    *(f"{LAST}/kernel", f"{LAST}/bias", "head/kernel", "head/bias"),
]
# A pattern, and the weights that it means: alone, or by a layer around them.
PATTERNS = {
    "encoder/**": ALL[:6],
    "encoder/*": ALL[:6],
    "encoder": ALL[:6],
    "*/first": ALL[:2],
    "**/first/**": ALL[:2],
    "encoder/first/kernel": ALL[:1],
    "**/bias": [ALL[1], ALL[5], ALL[7]],
    "biases_and_norms": [ALL[1], ALL[2], ALL[3], ALL[5], ALL[7]],
    "**/*ta": ALL[3:4],
    "head/*": ALL[6:],
    "**": ALL,
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_freezes_the_weights_that_it_means(pattern):
    model = network()
    if pattern == "encoder":
        pattern = "encoder/**"
        model.freeze("encoder")
    else:
        model.freeze(pattern)
    assert learning(model) == [path for path in ALL if path not in PATTERNS[pattern]]
    model.unfreeze(pattern)
    assert learning(model) == ALL
    assert all(not layer.fixed_weights for layer in model.layers)


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["encoder/**", "*/first/*", "**/bias", "**"])
def test_optimizers_remat_and_freeze_understand_a_pattern_alike(pattern):
    """Where a pattern matches whole paths, all of them choose the same weights."""
    chosen = [path for path in ALL if matches(pattern, path)]
    assert chosen == [path for path in ALL if path in PATTERNS.get(pattern, ALL[:2])]
    params = network().params
    ones = jax.tree.map(np.ones_like, params)
    rules = {pattern: fnn.optimizers.SGD(1.0), "**": fnn.optimizers.SGD(0.5)}
    if pattern == "**":
        del rules["**"]
        rules = {pattern: fnn.optimizers.SGD(1.0)}
    excluded = {"weight_decay": 0.5, "exclude_from_weight_decay": pattern}

    def moved(optimizer, value):
        updates, _ = optimizer.update(
            ones, optimizer.init(params), jax.tree.map(np.ones_like, ones)
        )
        leaves = jax.tree_util.tree_leaves_with_path(updates)
        named = {"/".join(part.key for part in path): leaf for path, leaf in leaves}
        return [path for path in ALL if np.allclose(named[path], value)]

    assert moved(fnn.optimizers.ByPath(rules), -1.0) == chosen
    assert moved(fnn.optimizers.SGD(1.0, **excluded), -1.0) == chosen
    labels = fnn.optimizers.Muon(exclude_layers=(pattern,)).labels(params)
    kernels = [path for path in ALL if path.endswith("kernel")]
    by_adam = [path for path in kernels if _at(labels, path) == "adam"]
    assert by_adam == [path for path in kernels if path in chosen]


def _at(branch, path):
    for name in path.split("/"):
        branch = branch[name]
    return branch


def test_keras_meaning_of_the_words_of_muon_stays():
    """A word without a glob is a regular expression, found anywhere in a path."""
    labels = fnn.optimizers.Muon(exclude_layers=("fir", "h.ad")).labels(network().params)
    assert labels["encoder"]["first"]["kernel"] == labels["head"]["kernel"] == "adam"
    assert labels["encoder"]["last"]["kernel"] == "muon"
    with pytest.raises(ValueError, match=r"Muon: expected exclude_layers .*match none"):
        fnn.optimizers.Muon(exclude_layers=("nope/**",)).init(network().params)


@pytest.mark.slow
def test_fixed_weights_have_the_same_bits_afterwards_and_no_state():
    model = compiled()
    before = dict(zip([w.path for w in model.weights], model.get_weights(), strict=True))
    model.freeze("encoder/**", "head/bias")
    fit(model, 3)
    after = dict(zip([w.path for w in model.weights], model.get_weights(), strict=True))
    changed = [path for path in before if not np.array_equal(before[path], after[path])]
    assert changed == ["sequential/head/kernel"]  # moving averages stand still too
    moments = model.train_state.optimizer["rule"].mu
    assert jax.tree.map(np.shape, moments) == {"head": {"kernel": (8, 2)}}


@pytest.mark.slow
def test_no_gradient_of_fixed_weights_is_computed():
    def work(model):
        model.evaluate(X, Y, verbose=0)  # finds the objective
        program = model._program
        step = make_train_step(model.layer, program.objective, program.optimizer)
        arrays = {"x": X, "y": (Y,), "weight": ()}
        batch = arrays, np.ones(16, bool)
        jaxpr = jax.make_jaxpr(step)(model.train_state, batch, jax.random.key(0))
        products = str(jaxpr).count("dot_general")
        return products, operations(jaxpr.jaxpr)

    model = compiled("sgd")
    # Three products forward, two backward for each but the first, whose inputs need no gradient.
    products, whole = work(model)
    assert products == 3 + 5
    model.freeze("encoder/**")
    frozen_products, frozen = work(model)
    assert frozen_products == 3 + 1
    assert frozen < 0.6 * whole
    model.unfreeze("encoder/**")
    assert work(model) == (products, whole)


@pytest.mark.slow
def test_freezing_between_fits_keeps_the_state_of_all_other_weights():
    """As a training whose frozen weights are put back after each step, moments included."""
    model = compiled(fnn.optimizers.Adam(0.01))
    fit(model)
    state = model.train_state.optimizer
    model.freeze("encoder/first/**")
    model._program.ensure_optimizer_state()
    kept = model.train_state.optimizer
    assert int(kept["step"]) == int(state["step"]) == 2
    head, new = state["rule"].nu["head"], kept["rule"].nu["head"]
    np.testing.assert_array_equal(head["kernel"], new["kernel"])
    assert "first" not in kept["rule"].nu["encoder"]
    model.learning_rate = 0.005
    fit(model)
    model.unfreeze("encoder/first/**")
    moments = model.train_state.optimizer["rule"].nu["head"]["kernel"]
    fit(model, 0)
    again = model.train_state.optimizer
    np.testing.assert_array_equal(again["rule"].nu["head"]["kernel"], moments)
    assert int(again["step"]) == 4
    assert float(model.learning_rate) == np.float32(0.005)
    # What learns anew has a state of its own again.
    assert not np.any(again["rule"].nu["encoder"]["first"]["kernel"])
    fit(model)
    assert np.any(model.train_state.optimizer["rule"].nu["encoder"]["first"]["kernel"])


@pytest.mark.slow
def test_frozen_or_not_is_saved_and_can_be_nested(tmp_path):
    model = compiled()
    model.freeze("encoder/**")
    model.unfreeze("encoder/last/**", "**/gamma")
    assert learning(model) == [f"{NORM}/gamma", f"{LAST}/kernel", f"{LAST}/bias", *ALL[6:]]
    fit(model)
    model.save(tmp_path / "model.fnn")
    again = fnn.load(tmp_path / "model.fnn")
    assert learning(again) == learning(model)
    for new, old in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)


@pytest.mark.slow
def test_a_subclassed_model_freezes_by_its_attributes():
    class Net(fnn.Model):
        def __init__(self):
            super().__init__(seed=0)
            self.encoder = Dense(3)
            self.head = Dense(2)

        def call(self, x):
            return self.head(self.encoder(x))

    model = Net()
    model.compile("sgd", "mse")
    fit(model)
    before = model.get_weights()
    model.freeze("encoder/**", "head/bias")
    fit(model)
    same = [np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)]
    assert same == [True, True, False, True]


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer",
    [
        ByPath({"encoder/**": AdamW(1e-2), "**": "sgd"}),
        ByPath({"**/kernel": AdamW(exclude_from_weight_decay=FIRST + "/**"), "**": "sgd"}),
        LossScaleOptimizer(AdamW(exclude_from_weight_decay=["encoder/**", "**/bias"])),
        Muon(exclude_layers=("encoder/**",)),
    ],
    ids=lambda optimizer: type(optimizer).__name__,
)
def test_patterns_of_optimizers_may_match_frozen_weights_alone(optimizer):
    model = network()
    model.freeze("encoder/**")
    model.compile(optimizer, "mse")
    before = model.get_weights()
    fit(model)
    model.unfreeze(f"{FIRST}/**")
    fit(model)
    same = [np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)]
    assert same == [False] * 2 + [True] * 6 + [False] * 2
    model.compile(AdamW(exclude_from_weight_decay=["encodr/**"]), "mse")
    with pytest.raises(ValueError, match=r"encodr.*which match none; use paths"):
        fit(model)


def test_a_pattern_that_matches_nothing_is_an_error_with_near_ones():
    model = network()
    with pytest.raises(ValueError, match=r"encodr/\*\*.*which match none.*encoder/"):
        model.freeze("encodr/**")
    with pytest.raises(ValueError, match="unfreeze: expected layers to be patterns of weights"):
        model.unfreeze("**/kernl")
    with pytest.raises(ValueError, match=r"norm/moving_mean would stop .*freeze encoder/norm/\*\*"):
        model.freeze("**/moving_mean")
    with pytest.raises(ValueError, match="has no weights yet"):
        fnn.Sequential([Dense(2)]).freeze("**")
    assert learning(model) == ALL
