"""Inputs with an axis of size 1 more or less, outputs in lists, masks and states, against Keras."""

import jax
import numpy as np
import pytest

import fnn
from fnn.layers import Dense, Embedding, Masking
from tests.helpers.both_libraries import check, fill

X = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")
IDS = np.array([[1, 0, 2], [3, 3, 0]])


@pytest.mark.slow
def test_a_last_axis_of_size_1_is_added_to_inputs():
    images = np.random.default_rng(1).normal(size=(5, 4, 4)).astype("float32")
    y = np.ones((5, 2), "float32")

    def program(k):
        layers = [k.Input((4, 4, 1)), k.layers.Flatten(), k.layers.Dense(2)]
        model = fill(k.Sequential(layers))
        model.compile(k.optimizers.SGD(0.01), "mse")
        outputs = [model.predict(images, verbose=0), model(images), model.predict_on_batch(images)]
        history = model.fit(images, y, verbose=0, validation_data=(images, y)).history
        loss = model.evaluate(images, y, verbose=0)
        x = k.Input((1,))
        one = fill(k.Model(x, k.layers.Dense(2)(x)))
        outputs += [one.predict(np.arange(3.0), verbose=0), one(np.arange(3.0))]
        i, j = k.Input((3,)), k.Input((1,))
        two = fill(k.Model([i, j], k.layers.Dense(2)(k.layers.Concatenate()([i, j]))))
        return [*outputs, two.predict([X, np.arange(6.0)], verbose=0), history, loss]

    check(program)


def test_a_last_axis_of_size_1_is_taken_off_inputs():
    def program(k):
        x = k.Input((3,))
        model = fill(k.Model(x, k.layers.Dense(2)(x)))
        return model.predict(X[..., None], verbose=0), model.predict(X, verbose=0)

    check(program)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["list", "tuple", "dict", "nested", "one"])
def test_outputs_have_the_structure_in_which_they_were_given(form):
    def program(k):
        x = k.Input((3,))
        a, b = k.layers.Dense(1)(x), k.layers.Dense(2)(x)
        forms = {"list": [a, b], "tuple": (a, b), "dict": {"p": a, "q": b}}
        forms |= {"nested": {"p": [a, b], "q": (b, a)}, "one": [a]}
        model = fill(k.Model(x, forms[form]))
        forward = jax.tree.map(np.asarray, model(X))
        return model.predict(X, verbose=0), model.predict_on_batch(X), forward

    check(program)


def test_a_list_of_outputs_is_saved_and_used_again(tmp_path):
    x = fnn.Input((3,))
    model = fnn.Model(x, [Dense(1)(x), Dense(2)(x)])
    model.save(tmp_path / "model.fnn")
    again = fnn.load(tmp_path / "model.fnn")
    for one, other in zip(model.predict(X, verbose=0), again.predict(X, verbose=0), strict=True):
        np.testing.assert_array_equal(one, other)
    nodes = again(fnn.Input((3,)))
    assert type(nodes) is list
    first, _ = nodes
    assert fnn.Model(x, Dense(4)(again(x)[1])).predict(X, verbose=0).shape == (6, 4)
    assert first.shape == (None, 1)


@pytest.mark.slow
def test_a_row_of_layers_of_another_model_is_built_at_once():
    base = fill(fnn.Sequential([fnn.Input((3,)), Dense(4, "relu"), Dense(2)]))
    head = fnn.Sequential([*base.layers[:-1], Dense(5)])
    assert head.built
    assert head.output_shape == (None, 5)
    np.testing.assert_array_equal(head.get_weights()[0], base.get_weights()[0])
    tail = fnn.Sequential(base.layers[1:])
    assert tail.input_shape == (None, 4)
    np.testing.assert_allclose(
        tail.predict(fnn.Sequential(base.layers[:1])(X), verbose=0), base(X), rtol=1e-6
    )
    steps = fnn.Sequential([fnn.Input((3,), dtype="int32"), Embedding(4, 2, mask_zero=True)])
    steps.add(fnn.layers.LSTM(2))
    assert fnn.Sequential(steps.layers[1:]).input_shape == (None, 3, 2)


@pytest.mark.slow
def test_a_layer_three_times_in_a_row_has_one_set_of_weights():
    def program(k):
        model = k.Sequential([k.Input((3,)), *[k.layers.Dense(3, name="d")] * 3])
        fill(model)
        model.compile(k.optimizers.SGD(0.1), "mse")
        model.fit(X, X, verbose=0, batch_size=6)
        paths = [w.path.split("/")[1] for w in model.weights]
        return model.get_weights(), model.predict(X, verbose=0), paths, len(model.layers)

    check(program)
    row = fnn.layers.Sequential([Dense(3), Dense(4)], order=(0, 0, 1))
    assert row.row == (Dense(3), Dense(3), Dense(4))
    with pytest.raises(ValueError, match=r"expected order to be numbers of the 2 layers"):
        fnn.layers.Sequential([Dense(3), Dense(4)], order=(0, 2))
    pair = row.init(jax.random.key(0), X)
    with pytest.raises(ValueError, match="in which some run several times"):
        fnn.layers.stack(row, *pair)


@pytest.mark.slow
def test_the_mask_of_a_layer_and_of_a_node():
    def program(k):
        embedding = k.layers.Embedding(5, 2, mask_zero=True)
        masking = k.layers.Masking(0.0)
        values = np.stack([IDS, 0 * IDS], -1).astype("float32")
        masks = [embedding.compute_mask(IDS), masking.compute_mask(values)]
        masks += [k.layers.Embedding(5, 2).compute_mask(IDS)]
        x = k.Input((3,), dtype="int32")
        steps = embedding(x)
        pool = k.layers.GlobalAveragePooling1D()
        y = pool(k.layers.Dense(2)(steps), mask=steps._keras_mask)
        model = fill(k.Model(x, y))
        shapes = tuple(steps._keras_mask.shape), tuple(embedding.compute_mask(x).shape)
        return masks, shapes, model.predict(IDS, verbose=0)

    check(program)
    x = fnn.Input((3,), dtype="int32")
    mask = Embedding(5, 2, mask_zero=True)(x)._keras_mask
    np.testing.assert_array_equal(fnn.Model(x, mask).predict(IDS, verbose=0), IDS != 0)
    assert fnn.Input((3,))._keras_mask is None
    assert Masking()(fnn.Input((3, 2)))._keras_mask.shape == (None, 3)


@pytest.mark.slow
def test_the_states_of_a_recurrent_layer():
    steps = np.random.default_rng(2).normal(size=(4, 3, 2)).astype("float32")

    def program(k):
        start = k.Input((3, 2), batch_size=4)
        model = fill(k.Sequential([start, k.layers.LSTM(2, stateful=True)]))
        layer = model.layers[0]
        model(steps)
        before = [state.numpy() for state in layer.states]
        layer.reset_state()
        return before, [state.numpy() for state in layer.states], model(steps)

    check(program)
    model = fnn.Sequential([fnn.Input((3, 2)), fnn.layers.LSTM(2), Dense(2)])
    assert model.layers[0].states is None
    with pytest.raises(AttributeError, match="states"):
        _ = model.layers[1].states


@pytest.mark.slow
def test_a_model_called_with_training_is_listed_as_itself():
    def program(k):
        base = k.Sequential([k.Input((3,)), k.layers.Dense(4, name="inner")], name="base")
        x = k.Input((3,))
        y = k.layers.Dense(2, name="head")(base(x, training=False))
        model = fill(k.Model(x, y))
        listed = [layer.name for layer in model.layers[1:]]
        kernel = base.get_layer("inner").kernel
        return listed, tuple(kernel.shape), model.predict(X, verbose=0)

    check(program)
