"""Weights assigned inside the dicts that a model shows: they count, or an error says why not."""

import copy

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


WRONG = {
    "another shape": (lambda p: p["dense"].update(bias=np.zeros(3)), r"bias: expected \(2,\), rec"),
    "a number": (lambda p: p["dense"].update(bias=0.0), r"expected \(2,\), received \(\)"),
    "None": (lambda p: p["dense"].update(bias=None), "dense/bias: expected"),
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
