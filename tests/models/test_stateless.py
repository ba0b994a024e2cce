"""Layers and models as functions of lists of weights, hand-written loops, beside Keras live."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from tests.helpers.both_libraries import (
    CLOSE,
    assert_equal,
    both_models,
    carried,
    compile_with_sgd,
    normal,
    on_fnn,
    on_keras,
)
from tests.helpers.oracle import keras_rules


@pytest.fixture(autouse=True)
def rules_of_users():
    """Programs in Keras's way add arrays of different ranks."""
    with jax.numpy_rank_promotion("allow"):
        yield


X, Y = normal(8, 4), normal(8, 3, seed=1)

LOOP = """
    import jax
    class M(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden = layers.Dense(5, activation="tanh", kernel_regularizer="l2")
            self.norm = layers.BatchNormalization()
            self.out = layers.Dense(3)
        def call(self, x, training=None):
            return self.out(self.norm(self.hidden(x), training=training))
    model = M()

    def train(model, x, y, steps):
        optimizer = model.optimizer
        optimizer.build(model.trainable_variables)
        trainable = [v.value for v in model.trainable_variables]
        others = [v.value for v in model.non_trainable_variables]
        state = [v.value for v in optimizer.variables]
        metrics = [v.value for v in model.metrics_variables]
        gradient = jax.value_and_grad(model.compute_loss_and_updates, has_aux=True)
        @jax.jit
        def step(trainable, others, state, metrics):
            (loss, (_, y_pred, others, metrics)), grads = gradient(
                trainable, others, metrics, x, y, None, training=True,
                optimizer_variables=state)
            trainable, state = optimizer.stateless_apply(state, grads, trainable)
            return loss, trainable, others, state, metrics
        losses = []
        for _ in range(steps):
            loss, trainable, others, state, metrics = step(trainable, others, state, metrics)
            losses.append(float(loss))
        for variable, value in zip(model.trainable_variables, trainable):
            variable.assign(value)
        for variable, value in zip(model.non_trainable_variables, others):
            variable.assign(value)
        return losses
"""


@pytest.mark.slow
def test_a_hand_written_loop_runs_as_on_keras():
    mine, theirs = on_fnn(LOOP), on_keras(LOOP)
    losses = []
    for names in (mine, theirs):
        with keras_rules():
            names.model(X)
    carried(theirs.model, mine.model)
    for names in (mine, theirs):
        compile_with_sgd(names.model, names is theirs, {"loss": "mse"})
        with keras_rules():
            losses.append(names.train(names.model, X, Y, 5))
    assert_equal(*losses, **CLOSE)
    with keras_rules():
        wanted = theirs.model.get_weights()
    assert_equal(mine.model.get_weights(), wanted, **CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize(
    "layer",
    [
        "layers.Dense(3)",
        "layers.BatchNormalization()",
        "layers.LayerNormalization()",
    ],
)
def test_layers_as_functions_of_lists(layer):
    source = f"layer = {layer}"
    mine, theirs = on_fnn(source).layer, on_keras(source).layer
    results = []
    for one in (mine, theirs):
        with keras_rules():
            one(X)
            if one is theirs:
                carried(theirs, mine)
    for one in (mine, theirs):
        lists = [
            [jnp.asarray(v.value) for v in part]
            for part in (one.trainable_variables, one.non_trainable_variables)
        ]
        named = {"training": True} if "Batch" in layer else {}
        with keras_rules():
            call = jax.jit(lambda *given, one=one, named=named: one.stateless_call(*given, **named))
            results.append(call(*lists, X))
    assert_equal(*results, **CLOSE)


def test_a_layer_of_the_users_as_a_function_of_lists():
    source = """
        class L(layers.Layer):
            def build(self, input_shape):
                self.scale = self.add_weight(shape=(input_shape[-1],), initializer="ones")
                self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)
            def call(self, x):
                self.count.assign_add(1.0)
                self.add_loss(ops.sum(x))
                return x * self.scale
        layer = L()
    """
    results = []
    for names in (on_fnn(source), on_keras(source)):
        layer = names.layer
        with keras_rules():
            layer(X)
            found = layer.stateless_call([2 * np.ones(4)], [np.float32(3)], X, return_losses=True)
        results.append(found)
    assert_equal(*results, **CLOSE)


@pytest.mark.slow
def test_gradients_and_vmap_of_stateless_call():
    model = fnn.Sequential([fnn.layers.Dense(3, input_shape=(4,))])
    trainable = [v.value for v in model.trainable_variables]

    def loss(trainable, x):
        return jnp.mean(model.stateless_call(trainable, [], x)[0] ** 2)

    grads = jax.grad(loss)(trainable, X)
    params = jax.grad(lambda p: jnp.mean(model.layer.apply(p, {}, X)[0] ** 2))(model.params)
    assert_equal(grads, [params["dense"]["kernel"], params["dense"]["bias"]])
    several = [jnp.stack([a, 2 * a]) for a in trainable]
    losses = jax.vmap(loss, in_axes=(0, None))(several, X)
    assert_equal(list(losses), [loss(trainable, X), loss([2 * a for a in trainable], X)], **CLOSE)


def test_random_numbers_move_on_with_the_list():
    model = fnn.Sequential([fnn.layers.Dropout(0.5, input_shape=(4,))])
    (seed,) = [v.value for v in model.non_trainable_variables]
    call = jax.jit(lambda others: model.stateless_call([], others, jnp.ones((3, 4)), training=True))
    first, others = call([seed])
    second, _ = call(others)
    again, _ = call([seed])
    assert (first != second).any()
    assert_equal(first, again)
    assert_equal(model.stateless_call([], [seed], X)[0], X)
    assert fnn.Sequential([fnn.layers.Dense(2, input_shape=(4,))]).non_trainable_variables == []


@pytest.mark.slow
def test_losses_of_a_model():
    source = """
        class M(keras.Model):
            def __init__(self):
                super().__init__()
                self.dense = layers.Dense(3, kernel_regularizer="l2", activity_regularizer="l1")
            def call(self, x):
                y = self.dense(x)
                self.add_loss(ops.mean(y))
                return y
        model = M()
    """
    mine, theirs = both_models(source, X)
    with keras_rules():
        theirs(X)
        wanted = sum(float(np.asarray(loss)) for loss in theirs.losses)
    mine(X)
    assert sum(map(float, mine.losses)) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.slow
def test_optimizer_variables_of_a_model():
    model = fnn.Sequential([fnn.layers.Dense(3, input_shape=(4,))])
    model.compile(fnn.optimizers.Adam(0.01), "mse")
    assert [v.shape for v in model.optimizer.variables[:2]] == [(), ()]
    model.fit(X, Y, batch_size=8, verbose=0)
    assert int(model.optimizer.variables[0].value) == 1
    assert float(model.optimizer.variables[1].value) == pytest.approx(0.01)


def test_lists_of_other_lengths():
    model = fnn.Sequential([fnn.layers.Dense(3, input_shape=(4,))])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"the values of 2 trainable_variables and 0 non_"):
        model.stateless_call([], [], X)
    with pytest.raises(ValueError, match=r"the values of the 2 variables of the optimizer"):
        values = [v.value for v in model.trainable_variables]
        model.optimizer.stateless_apply([], values, values)
    values = [v.value for v in model.optimizer.variables]
    with pytest.raises(ValueError, match=r"gradients and values of the 2 trainable_variables"):
        model.optimizer.stateless_apply(values, [], [])
    with pytest.raises(ValueError, match=r"Dense: .*no weights yet"):
        fnn.layers.Dense(3).stateless_call([], [], X)
