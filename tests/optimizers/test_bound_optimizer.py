"""The optimizer of a model: Keras's attributes on it, and a value everywhere else."""

import copy
import dataclasses
import pickle

import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest

import fnn
from fnn import callbacks
from fnn.layers import Dense
from fnn.optimizers import SGD, Adam, ByPath, LossScaleOptimizer
from tests.helpers.counting import compilations
from tests.helpers.oracle import keras_rules


def task():
    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    return x, x.sum(axis=1, keepdims=True)


def network(optimizer=None):
    net = fnn.Sequential([Dense(1, input_shape=(4,))], seed=0)
    net.compile(optimizer or SGD(0.1), "mse")
    return net


def keras_network():
    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    net.compile(keras.optimizers.SGD(0.1), "mse")
    return net


def halve_by_attribute(optimizer):
    optimizer.learning_rate = optimizer.learning_rate * 0.5


def halve_by_assign(optimizer):
    optimizer.learning_rate.assign(float(optimizer.learning_rate) / 2)


def halve_by_numpy(optimizer):
    optimizer.learning_rate = np.float32(0.5) * optimizer.learning_rate.numpy()


def warm_up(optimizer):
    step = int(optimizer.iterations)
    if step < 6 and optimizer.learning_rate > 1e-6:
        optimizer.learning_rate.assign(0.01 * (step + 1))


WAYS = [halve_by_attribute, halve_by_assign, halve_by_numpy, warm_up]


def trained(library, net, change):
    """Rates and losses of a training in which an ordinary callback changes the rate."""

    class Changes(library.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            change(self.model.optimizer)
            rates.append(float(self.model.optimizer.learning_rate))

    rates = []
    arguments = {"batch_size": 32, "epochs": 4, "shuffle": False, "verbose": 0}
    history = net.fit(*task(), callbacks=[Changes()], **arguments)
    return rates, history.history["loss"]


@pytest.mark.slow
@pytest.mark.parametrize("change", WAYS)
def test_a_callback_written_for_keras_changes_the_rate(change):
    net = network()
    with keras_rules():
        other = keras_network()
        other.set_weights(net.get_weights())
        rates, losses = trained(keras, other, change)
    found, ours = trained(fnn, net, change)
    np.testing.assert_allclose(found, rates, rtol=1e-6)
    np.testing.assert_allclose(ours, losses, rtol=1e-5)


def test_the_rate_is_that_of_now_and_nothing_compiles_anew():
    net = network()
    rate = net.optimizer.learning_rate
    assert float(rate) == np.float32(0.1)
    net.fit(*task(), verbose=0)
    with compilations() as count:
        rate.assign(0.0)
        before = net.get_weights()
        net.fit(*task(), verbose=0)
    assert count == []
    assert float(rate) == 0.0
    np.testing.assert_array_equal(net.get_weights()[0], before[0])
    net.learning_rate = 0.25
    assert float(rate) == rate.value == rate.numpy() == 0.25
    assert int(net.optimizer.iterations) == int(net.train_state.step) == 4


def test_the_rate_computes_like_a_number():
    rate = network(SGD(0.5)).optimizer.learning_rate
    assert (rate * 2, 2 * rate, rate + 1, 1 - rate, rate / 2) == (1.0, 1.0, 1.5, 0.5, 0.25)
    assert rate > 0.4
    assert rate == 0.5
    assert not rate < 0.5
    assert (f"{rate:.2f}", repr(rate), int(rate), bool(rate)) == ("0.50", "0.5", 0, True)
    assert np.sqrt(rate) == np.sqrt(np.float32(0.5))
    assert np.asarray(rate, "float64").dtype == "float64"
    np.testing.assert_array_equal(jnp.arange(2) * jnp.asarray(rate), [0.0, 0.5])


def test_rates_before_there_are_weights_and_of_schedules():
    net = fnn.Sequential([Dense(1)], seed=0)
    net.compile(Adam(fnn.schedules.ExponentialDecay(0.1, 10, 0.5)), "mse")
    assert float(net.optimizer.learning_rate) == np.float32(0.1)
    net.optimizer.learning_rate = 0.25
    net.fit(*task(), verbose=0)
    assert float(net.optimizer.learning_rate) == 0.25


def test_rates_by_path_are_a_dict():
    net = network(ByPath({"*/kernel": SGD(0.1), "**": SGD(0.5)}))
    net.optimizer.learning_rate = {"**": 0.25}
    assert float(net.optimizer.learning_rate["**"]) == 0.25


OPTIMIZERS = [SGD(0.1), Adam(), optax.adam(0.1), ByPath({"**": SGD()}), LossScaleOptimizer("sgd")]


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: type(o).__name__)
def test_it_stands_wherever_the_value_does(optimizer):
    bound = network(optimizer).optimizer
    assert bound == optimizer
    assert optimizer == bound
    assert bound == network(optimizer).optimizer
    assert (hash(bound), repr(bound)) == (hash(optimizer), repr(optimizer))
    assert isinstance(bound, type(optimizer))
    assert fnn.optimizers.get(bound) is optimizer
    init, _update = bound
    assert callable(init)
    other = network(bound)
    other.fit(*task(), verbose=0)
    optax.chain(bound, optax.scale(0.5)).init({"w": jnp.ones(2)})
    for twin in (copy.copy(bound), copy.deepcopy(bound)):
        assert type(twin) is type(optimizer)
    if optimizer == SGD(0.1):
        assert type(pickle.loads(pickle.dumps(bound))) is SGD


def test_values_made_of_it_hold_the_value():
    bound = network(SGD(0.1)).optimizer
    assert LossScaleOptimizer(bound) == LossScaleOptimizer(SGD(0.1))
    assert ByPath({"**": bound}) == ByPath({"**": SGD(0.1)})
    assert bound.replace(momentum=0.9) == SGD(0.1, momentum=0.9)
    assert bound != Adam()
    assert SGD(0.1) != "sgd"
    assert (SGD(0.1) == np.zeros(2)) is False


def test_it_keeps_no_model_alive_in_a_cache():
    import gc
    import weakref

    net = network(Adam(0.123, beta_1=0.777))
    net.fit(*task(), verbose=0)
    fnn.training.make_train_step(net.layer, net._program.objective, net.optimizer)
    gone = weakref.ref(net)
    del net
    gc.collect()
    assert gone() is None


def test_what_cannot_be_set_says_what_to_do():
    net = network()
    with pytest.raises(
        dataclasses.FrozenInstanceError,
        match=r"the clipnorm of an optimizer is compiled into the step; call "
        r"model\.compile\(model\.optimizer\.replace\(clipnorm=1\.0\), loss=\.\.\.\)",
    ):
        net.optimizer.clipnorm = 1.0
    with pytest.raises(dataclasses.FrozenInstanceError, match=r"compile\(another optimizer, loss"):
        net.optimizer.colour = "red"
    with pytest.raises(AttributeError, match=r"steps is counted by training; assign model\.train_"):
        net.optimizer.iterations.assign(0)
    with pytest.raises(AttributeError, match=r"has no readable learning rate; compile with one"):
        network(optax.sgd(0.1)).optimizer.learning_rate  # noqa: B018
    with pytest.raises(ValueError, match="finite learning rate"):
        net.optimizer.learning_rate = -1.0
    held = network(optax.inject_hyperparams(optax.sgd)(0.1)).optimizer
    held.learning_rate = 0.5
    assert float(held.learning_rate) == 0.5


def test_callbacks_of_fnn_and_it_see_one_rate():
    seen = []
    reduce = callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=9.0)
    watch = callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(float(net.optimizer.learning_rate))
    )
    net = network(SGD(0.5))
    net.fit(*task(), epochs=3, callbacks=[reduce, watch], verbose=0)
    assert seen == [0.5, 0.25, 0.125]


def scaled_in_place(optimizer):
    optimizer.learning_rate *= 0.5
    optimizer.learning_rate += 0.25
    optimizer.learning_rate -= 0.125
    optimizer.learning_rate /= 4
    rate = optimizer.learning_rate
    rate *= 0.5  # a number of its own
    return float(rate)


def test_changes_in_place_set_the_rate():
    net = network()
    with keras_rules():
        other = keras_network()
    assert scaled_in_place(net.optimizer) == pytest.approx(scaled_in_place(other.optimizer))
    np.testing.assert_allclose(
        float(net.optimizer.learning_rate), float(other.optimizer.learning_rate), rtol=1e-6
    )


def test_a_rate_is_set_from_another_models():
    net, other, unbuilt = network(), network(SGD(0.5)), fnn.Sequential([Dense(1)])
    unbuilt.compile("sgd", "mse")
    unbuilt.optimizer.learning_rate = other.optimizer.learning_rate
    net.optimizer.learning_rate = net.optimizer.learning_rate
    assert float(net.learning_rate) == np.float32(0.1)
    net.optimizer.learning_rate.assign(other.optimizer.learning_rate)
    other.learning_rate = 0.25
    assert (float(net.learning_rate), float(unbuilt.learning_rate)) == (0.5, 0.5)
    assert SGD(other.optimizer.learning_rate) == SGD(0.25)


def test_a_rate_of_one_pattern_is_set_by_its_name():
    net = network(ByPath({"*/kernel": SGD(0.5), "**": SGD(0.5)}))
    net.optimizer.learning_rate["**"] = 0.25
    net.learning_rate["**"] *= 0.5
    net.optimizer.learning_rate.update({"*/kernel": 0.75})
    expected = {"*/kernel": 0.75, "**": 0.125}
    assert net.learning_rate == expected
    net.optimizer.learning_rate |= {"**": 1.0}
    assert net.optimizer.learning_rate == {**expected, "**": 1.0}
    assert type(copy.deepcopy(net.learning_rate)) is dict
    with pytest.raises(ValueError, match="by the patterns"):
        net.optimizer.learning_rate["bias"] = 0.5
    assert net.fit(*task(), verbose=0).learning_rate == [{"*/kernel": 0.75, "**": 1.0}]


def recompiled(optimizer_of, net):
    """Rates and steps of a model whose optimizer is compiled again, then another one."""
    net.optimizer.learning_rate = 0.5
    net.fit(*task(), batch_size=32, verbose=0)
    seen = [float(net.optimizer.get_config()["learning_rate"]), int(net.optimizer.iterations)]
    net.compile(optimizer_of(net), "mse")
    seen.append(float(net.optimizer.learning_rate))
    net.compile("sgd", "mse")
    seen += [float(net.optimizer.learning_rate), int(net.optimizer.iterations)]
    net.fit(*task(), batch_size=32, verbose=0)
    return [*seen, int(net.optimizer.iterations)]


def test_a_rate_that_was_set_is_compiled_again():
    with keras_rules():
        expected = recompiled(lambda net: net.optimizer, keras_network())
    assert expected == pytest.approx([0.5, 2, 0.5, 0.01, 0, 2])
    for optimizer_of in (
        lambda net: net.optimizer,
        lambda net: net.optimizer.replace(momentum=0.9),
        lambda net: copy.deepcopy(net.optimizer),
        lambda net: LossScaleOptimizer(net.optimizer),
    ):
        np.testing.assert_allclose(recompiled(optimizer_of, network()), expected, rtol=1e-6)


def test_a_rate_that_was_set_before_there_are_weights_is_compiled_again():
    net = fnn.Sequential([Dense(1)], seed=0)
    net.compile("sgd", "mse")
    bound = net.optimizer
    net.learning_rate = 0.5
    assert net.optimizer == bound == SGD()
    net.compile(net.optimizer, "mae")
    net.compile(bound, "mse")
    assert float(net.learning_rate) == 0.5
    net.compile("adam", "mse")
    net.compile(bound, "mse")  # by now one of the past
    assert float(net.learning_rate) == np.float32(0.01)


@pytest.mark.slow
def test_compiling_with_the_optimizer_of_the_model_keeps_its_state():
    """As in Keras with the same object; an equal value, or another model, starts afresh."""
    x, y = task()
    arguments = {"batch_size": 16, "shuffle": False, "verbose": 0}

    def trained(library, net, optimizer_of=lambda net: net.optimizer, epochs=(3, 2)):
        for count in epochs:
            net.fit(x, y, epochs=count, **arguments)
            net.compile(optimizer_of(net), "mae")
        net.fit(x, y, **arguments)
        return net.get_weights(), int(net.optimizer.iterations)

    with keras_rules():
        other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        # At greater rates the signs of mae's slopes turn what rounding does into differences.
        other.compile(keras.optimizers.Adam(0.01), "mse")
        net = network(Adam(0.01))
        net.set_weights(other.get_weights())
        expected, steps = trained(keras, other)
    found = trained(fnn, net)
    assert found[1] == steps == 24
    for ours, theirs in zip(found[0], expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    held = net.optimizer
    net.learning_rate = 0.1
    net.compile(held, "mse")
    assert int(net.optimizer.iterations) == 24
    net.compile(Adam(0.1), "mse")
    assert int(net.optimizer.iterations) == 0
    net.fit(x, y, **arguments)
    net.compile("sgd", "mse")
    net.compile(held, "mse")  # one of the past
    assert int(net.optimizer.iterations) == 0
    net.fit(x, y, **arguments)
    counted = int(net.optimizer.iterations)
    net.freeze(net.layers[0])
    net.compile(net.optimizer, "mse")  # counters stay, as in Keras
    assert int(net.optimizer.iterations) == counted > 0
    again = network(net.optimizer)
    assert int(again.optimizer.iterations) == 0


SCHEDULE = fnn.schedules.ExponentialDecay(0.5, 1, 0.5)


def test_rates_by_path_and_schedules_are_compiled_again():
    net = network(LossScaleOptimizer(ByPath({"*/kernel": SGD(0.1), "**": SGD(SCHEDULE)})))
    net.learning_rate["*/kernel"] = 0.25
    net.fit(*task(), verbose=0)
    expected = ByPath({"*/kernel": SGD(0.25), "**": SGD(SCHEDULE)})  # the schedule goes on
    net.compile(net.optimizer, "mse")
    assert net.optimizer == LossScaleOptimizer(expected)
    net.learning_rate["**"] = 1.0
    assert net.optimizer.replace(initial_scale=2.0) == LossScaleOptimizer(
        expected.replace(rules={"*/kernel": SGD(0.25), "**": SGD(1.0)}), 2.0
    )


@pytest.mark.slow
def test_steps_of_optax_are_those_of_the_model():
    net = network(optax.sgd(0.1))
    net.fit(*task(), verbose=0)
    assert int(net.optimizer.iterations) == 2
