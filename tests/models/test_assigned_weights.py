"""Weights assigned inside the dicts that a model shows: they count, or an error says why not."""

import copy
import gc
import weakref

import jax
import numpy as np
import pytest

import fnn
from fnn.layers import BatchNormalization, Dense

X = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
Y = X.sum(1, keepdims=True)


def network(seed=0):
    model = fnn.Sequential([Dense(2, input_shape=(3,)), BatchNormalization(), Dense(1)], seed=seed)
    model.compile(fnn.optimizers.SGD(0.1), "mse")
    return model


def by_hand(model, **changed):
    """The outputs in inference, by NumPy, of the weights that `get_weights` gave, some changed."""
    names = ("kernel", "bias", "gamma", "beta", "mean", "variance", "last_kernel", "last_bias")
    w = dict(zip(names, model.get_weights(), strict=True)) | changed
    hidden = X @ w["kernel"] + w["bias"]
    hidden = (hidden - w["mean"]) / np.sqrt(w["variance"] + 1e-3) * w["gamma"] + w["beta"]
    return hidden @ w["last_kernel"] + w["last_bias"]


BIAS = np.array([5.0, -3.0], "float32")


def assign_in_params(model):
    model.params["dense"]["bias"] = BIAS


def assign_in_a_tree_held(model):
    params = model.params
    model.predict(X, verbose=0)
    params["dense"]["bias"] = BIAS


def assign_twice_in_a_tree_held(model):
    params = model.params
    params["dense"]["bias"] = np.zeros(2)
    model.predict(X, verbose=0)
    params["dense"]["bias"] = BIAS


def assign_in_train_state(model):
    model.train_state.params["dense"]["bias"] = BIAS


def assign_twice_in_a_train_state_held(model):
    state = model.train_state
    state.params["dense"]["bias"] = np.zeros(2)
    model.predict(X, verbose=0)
    state.params["dense"]["bias"] = BIAS


def assign_a_branch(model):
    model.params["dense"] = {"bias": BIAS, "kernel": model.params["dense"]["kernel"]}


def assign_by_update(model):
    model.params["dense"].update(bias=BIAS)


def assign_a_list(model):
    model.params["dense"]["bias"] = [5.0, -3.0]


def assign_on_the_device(model):
    model.params["dense"]["bias"] = jax.numpy.asarray(BIAS)


def assign_integers(model):
    model.params["dense"]["bias"] = np.array([5, -3])


def assign_after_training(model):
    before = model.get_weights()
    model.fit(X, Y, verbose=0)
    model.set_weights(before)
    model.params["dense"]["bias"] = BIAS


def assign_in_a_state_assigned(model):
    state = model.train_state
    model.train_state = state
    state.params["dense"]["bias"] = BIAS


WAYS = [value for name, value in list(globals().items()) if name.startswith("assign_")]


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_every_use_sees_what_was_assigned(way, tmp_path):
    model, plain = network(), network()
    expected = by_hand(plain, bias=BIAS)
    plain.set_weights([plain.get_weights()[0], BIAS, *plain.get_weights()[2:]])
    way(model)
    np.testing.assert_allclose(model.predict(X, verbose=0), expected, rtol=1e-4, atol=1e-5)
    for use in (
        lambda m: m.get_weights()[1],
        lambda m: m.params["dense"]["bias"],
        lambda m: m.train_state.params["dense"]["bias"],
        lambda m: m.weights[1],
        lambda m: copy.deepcopy(m).get_weights()[1],
    ):
        model = network()
        way(model)
        np.testing.assert_array_equal(use(model), BIAS)
    model = network()
    way(model)
    model.save(tmp_path / "m.fnn")
    np.testing.assert_array_equal(fnn.load(tmp_path / "m.fnn").get_weights()[1], BIAS)
    model = network()
    way(model)
    seconds = {"verbose": 0, "shuffle": False, "batch_size": 16}
    assert model.evaluate(X, Y, verbose=0) == plain.evaluate(X, Y, verbose=0)
    model.fit(X, Y, **seconds)
    plain.fit(X, Y, **seconds)
    for a, b in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_the_state_too():
    model = network()
    expected = by_hand(model, mean=BIAS)
    model.state["batch_normalization"]["moving_mean"] = BIAS
    np.testing.assert_allclose(model.predict(X, verbose=0), expected, rtol=1e-4, atol=1e-5)
    model.train_state.state["batch_normalization"]["moving_mean"] = np.zeros(2)
    np.testing.assert_array_equal(model.get_weights()[4], np.zeros(2))


def test_in_several_trees_at_once():
    model = network()
    model.train_state.params["dense"]["bias"] = BIAS
    model.params["dense_1"]["bias"] = [7.0]
    model.state["batch_normalization"]["moving_mean"] = BIAS
    state, params = model.train_state, model.params
    state.params["dense_1"]["kernel"] = np.ones((2, 1))
    params["batch_normalization"]["gamma"] = np.zeros(2)
    found = model.get_weights()
    for place, array in ((1, BIAS), (7, [7.0]), (4, BIAS), (6, np.ones((2, 1))), (2, [0, 0])):
        np.testing.assert_array_equal(found[place], array)


@pytest.mark.slow
def test_in_a_callback():
    class Zeroing(fnn.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 0:
                self.model.params["dense_1"]["kernel"] = np.zeros((2, 1))

    model = network()
    model.compile(fnn.optimizers.SGD(0.0), "mse")
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[Zeroing()])
    np.testing.assert_array_equal(model.params["dense_1"]["kernel"], np.zeros((2, 1)))


def test_a_model_that_shares_the_layer_sees_it():
    inner = network()
    outer = fnn.Sequential([inner, Dense(1)])
    inner.params["dense"]["bias"] = BIAS
    np.testing.assert_array_equal(outer.get_weights()[1], BIAS)
    outer.params["sequential"]["dense"]["bias"] = -BIAS
    np.testing.assert_array_equal(outer.get_weights()[1], -BIAS)
    np.testing.assert_array_equal(inner.get_weights()[1], -BIAS)


def shared():
    """An owner of the layer "a", a follower, and a follower of both."""
    x = fnn.Input((3,))
    hidden = Dense(4, name="a")(x)
    base = fnn.Model(x, hidden, name="base")
    full = fnn.Model(x, Dense(1, name="b")(hidden), name="full")
    outer = fnn.Model(x, Dense(1, name="c")(full(x)), name="outer")
    return base, full, outer


PLACES = [lambda p: p["a"], lambda p: p["a"], lambda p: p["full"]["a"]]
SHARERS = [(i, j) for i in range(3) for j in range(3)]


@pytest.mark.slow
@pytest.mark.parametrize(("writer", "reader"), SHARERS)
def test_every_model_that_shares_the_layer_sees_it_at_its_next_use(writer, reader):
    models = shared()
    PLACES[writer](models[writer].params)["bias"] = np.full(4, 5.0)
    found = models[reader].get_weights()
    np.testing.assert_array_equal(found[1], np.full(4, 5.0))
    plain = shared()[reader]
    plain.set_weights(found)
    outputs = [m.predict(X, verbose=0) for m in (models[reader], plain)]
    np.testing.assert_allclose(*outputs, rtol=1e-6)


LATER = {
    "set_weights": lambda m, w: m.set_weights(w),
    "set_weights of the layer": lambda m, w: m.get_layer("a").set_weights(w[:2]),
    "train_state": lambda m, w: setattr(m, "train_state", m.train_state.replace(params=w)),
    "params": lambda m, w: setattr(m, "params", w),
}


@pytest.mark.slow
@pytest.mark.parametrize("way", LATER)
@pytest.mark.parametrize(("first", "then"), [(i, j) for i, j in SHARERS if j < 2])
def test_what_is_written_later_wins_in_all_models_that_share(way, first, then):
    models = shared()
    given = [np.asarray(a) + 1 for a in models[then].get_weights()]
    if way in ("train_state", "params"):
        given = jax.tree.map(lambda a: a + 1, models[then].params)
        expected = [np.asarray(given["a"][name]) for name in ("kernel", "bias")]
    else:
        expected = given[:2]
    PLACES[first](models[first].params)["bias"] = np.full(4, 5.0)
    LATER[way](models[then], given)
    for model in models:
        for a, b in zip(model.get_weights(), expected, strict=False):
            np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize(("first", "then"), SHARERS)
def test_training_starts_from_what_a_sharer_has_and_is_not_undone(first, then):
    models, plain = shared(), shared()[then]
    weights = models[then].get_weights()
    plain.set_weights([weights[0], np.full(4, 0.5), *weights[2:]])
    PLACES[first](models[first].params)["bias"] = np.full(4, 0.5)
    for model in (models[then], plain):
        model.compile(fnn.optimizers.SGD(0.01), "mse")
        model.fit(X, np.ones((16, 4 if then == 0 else 1)), verbose=0, shuffle=False)
    for model in models:
        for a, b in zip(model.get_weights()[:2], plain.get_weights(), strict=False):
            np.testing.assert_allclose(a, b, rtol=1e-6)


def test_an_older_state_assigned_to_a_model_that_shares_counts():
    base, full, _ = shared()
    before, kept = full.get_weights(), full.train_state
    base.set_weights([np.zeros((3, 4)), np.ones(4)])
    full.train_state = kept
    for model in (base, full):
        np.testing.assert_array_equal(model.get_weights()[0], before[0])
        np.testing.assert_array_equal(model.get_weights()[1], before[1])


def test_in_the_trees_of_two_models_that_share_before_any_use():
    base, full, outer = shared()
    trees = base.params, full.params, outer.params
    trees[0]["a"]["bias"] = np.full(4, 2.0)
    trees[1]["a"]["kernel"] = np.full((3, 4), 3.0)
    trees[2]["c"]["bias"] = [4.0]
    for model in (base, full, outer):
        np.testing.assert_array_equal(model.get_weights()[0], np.full((3, 4), 3.0))
        np.testing.assert_array_equal(model.get_weights()[1], np.full(4, 2.0))
    np.testing.assert_array_equal(outer.get_weights()[-1], [4.0])


def test_what_does_not_fit_harms_no_model_that_shares():
    base, full, _ = models = shared()
    before = [model.get_weights() for model in models]
    full.train_state.params["a"]["bias"] = np.zeros(3)
    with pytest.raises(ValueError, match=r"a/bias: expected \(4,\), received \(3,\)") as caught:
        base.predict(X, verbose=0)
    assert "of 'full'" in caught.value.__notes__[0]
    for model, weights in zip(models, before, strict=True):
        model.predict(X, verbose=0)
        for a, b in zip(model.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_model_that_shares_lives_no_longer_for_it():
    base, full, outer = shared()
    gone = weakref.ref(outer)
    del outer
    gc.collect()
    assert gone() is None
    full.params["a"]["bias"] = np.full(4, 5.0)
    np.testing.assert_array_equal(base.get_weights()[1], np.full(4, 5.0))


@pytest.mark.slow
@pytest.mark.parametrize("change", [lambda m: m.add(Dense(3)), lambda m: m.pop()])
def test_before_layers_come_or_go(change):
    model = network()
    model.params["dense"]["bias"] = BIAS
    change(model)
    np.testing.assert_array_equal(model.get_weights()[1], BIAS)
    model.predict(X, verbose=0)
    model.params["dense"]["bias"] = np.zeros(3)
    with pytest.raises(ValueError, match="dense/bias: expected"):
        change(model)
    np.testing.assert_array_equal(model.get_weights()[1], BIAS)
    while model.layers:
        model.params["dense"]["bias"] = -BIAS
        model.pop()
    model.add(Dense(1, input_shape=(3,)))
    assert model.predict(X, verbose=0).shape == (16, 1)


def test_a_branch_assigned_from_elsewhere_is_not_tied_to_its_place():
    model = fnn.Sequential([Dense(3, input_shape=(3,)), Dense(3)])
    other = fnn.Sequential([Dense(3, input_shape=(3,))])
    kernel = model.get_weights()[2]
    mine = {"kernel": np.ones((3, 3)), "bias": np.ones(3)}
    model.params["dense"] = model.params["dense_1"]
    np.testing.assert_array_equal(model.get_weights()[0], kernel)
    model.params["dense"]["bias"] = np.full(3, 2.0)
    np.testing.assert_array_equal(model.get_weights()[3], np.zeros(3))
    model.params["dense_1"] = other.params["dense"] = mine
    assert model.params["dense_1"] is not mine
    assert type(mine["bias"]) is np.ndarray
    other.params["dense"]["bias"] = np.full(3, 4.0)
    mine["bias"] = np.full(3, 5.0)
    for weights, expected in ((model.get_weights()[1::2], (2, 1)), (other.get_weights()[1:], [4])):
        for a, b in zip(weights, expected, strict=True):
            np.testing.assert_array_equal(a, np.full(3, float(b)))


WRONG = {
    "another shape": (lambda p: p["dense"].update(bias=np.zeros(3)), r"bias: expected \(2,\), rec"),
    "a number": (lambda p: p["dense"].update(bias=0.0), r"expected \(2,\), received \(\)"),
    "None": (lambda p: p["dense"].update(bias=None), "dense/bias: .* an array, received None"),
    "a word": (lambda p: p["dense"].update(bias="zeros"), "an array, received 'zeros'"),
    "objects": (lambda p: p["dense"].update(bias=[None, 1]), r"an array, received \[None, 1\]"),
    "a string": (lambda p: p["dense"].update(bias=["a", "b"]), "expected float32, received <U1"),
    "complex": (lambda p: p["dense"].update(bias=BIAS + 1j), "float32, received complex64"),
    "ragged": (lambda p: p["dense"].update(bias=[[1], [2, 3]]), "an array, received list"),
    "a new name": (lambda p: p["dense"].update(bais=BIAS), "dense/bais: not in this model"),
    "a key that is no string": (lambda p: p["dense"].update({3: BIAS}), "dense/3: not in this"),
    "no longer there": (lambda p: p["dense"].pop("bias"), "dense/bias: missing"),
    "no branch": (lambda p: p.update(dense=BIAS), "dense/bias: missing"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("shown", ["params", "train_state"])
def test_what_does_not_fit_is_refused_and_the_weights_stay(case, shown):
    change, message = WRONG[case]
    model = network()
    before = model.get_weights()
    change(model.params if shown == "params" else model.train_state.params)
    with pytest.raises(ValueError, match=f"expected params like those[^;]*{message}") as caught:
        model.predict(X, verbose=0)
    assert "inside model.params" in caught.value.__notes__[0]
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    model.fit(X, Y, verbose=0)


def test_what_is_shown_is_plain_dicts_of_their_own():
    """For JAX: a tree of grads or of `init` has the same structure; and a picture stays one."""
    model = network()
    params, state = model.layer.init(jax.random.key(0), X)
    assert jax.tree.structure(model.params) == jax.tree.structure(params)
    assert jax.tree.structure(model.state) == jax.tree.structure(state)
    assert type(model.params) is type(model.params["dense"]) is dict
    assert list(model.params) == list(params)
    kept, shown = model.train_state, model.params
    model.params["dense"]["bias"] = BIAS
    model.predict(X, verbose=0)
    np.testing.assert_array_equal(kept.params["dense"]["bias"], np.zeros(2))  # as callbacks keep it
    assert model.params is shown
    model.fit(X, Y, verbose=0)
    assert model.params is not shown
    np.testing.assert_array_equal(shown["dense"]["bias"], BIAS)  # before the training


def test_the_callers_array_stays_the_callers():
    model, mine = network(), BIAS.copy()
    model.params["dense"]["bias"] = mine
    model.predict(X, verbose=0)
    mine[:] = 0
    np.testing.assert_array_equal(model.get_weights()[1], BIAS)
