"""The weights of a model one by one, against Keras: names, values, assignment, arithmetic."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.layers import Dense
from tests.helpers.both_libraries import check, fill

X = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")


def network(k):
    layers = k.layers
    return fill(
        k.Sequential(
            [
                k.Input((3,)),
                layers.Dense(4, "relu", name="h", kernel_regularizer="l2"),
                layers.BatchNormalization(name="n"),
                layers.Dense(2, name="o"),
            ],
            name="net",
        )
    )


def test_names_paths_shapes_and_values_are_those_of_keras():
    def program(k):
        model = network(k)
        shown = [
            (w.name, w.path, tuple(w.shape), str(w.dtype), w.trainable, w.ndim, w.numpy(), w.value)
            for w in model.weights
        ]
        paths = [
            [w.path for w in some]
            for some in (
                model.trainable_weights,
                model.non_trainable_weights,
                model.trainable_variables,
                model.non_trainable_variables,
                model.variables,
            )
        ]
        return shown, paths, model.count_params()

    check(program)


def test_the_path_in_a_graph_begins_with_the_layer():
    def program(k):
        x = k.Input((3,))
        inner = k.Sequential([k.Input((3,)), k.layers.Dense(2, name="d")], name="inner")
        model = k.Model(x, k.layers.Dense(1, name="last")(inner(x)))
        return [w.path for w in model.weights]

    check(program)


def test_assigning_changes_the_model():
    def program(k):
        model = network(k)
        kernel, bias = model.weights[:2]
        kernel.assign(np.ones((3, 4)))
        bias.assign_add([1.0, 2.0, 3.0, 4.0])
        model.layers[0].bias.assign_sub(np.ones(4))
        model.layers[1].moving_mean.assign(np.full(4, 0.25))
        return model.predict(X, verbose=0), model.get_weights(), bias.numpy()

    check(program)


def test_layers_of_a_model_show_their_weights():
    def program(k):
        model = network(k)
        hidden, norm, _ = model.layers
        kinds = ("weights", "trainable_weights", "non_trainable_weights", "trainable_variables")
        shown = [[w.path for w in getattr(norm, kind)] for kind in kinds]
        values = hidden.kernel, norm.gamma, norm.moving_variance
        return shown, values, hidden.built, model.losses, hidden.losses, norm.losses

    check(program)


@pytest.mark.slow
def test_a_variable_is_an_array_in_arithmetic():
    def program(k):
        w = network(k).weights[1]
        other = np.arange(4, dtype="float32")
        results = [
            w + 1,
            1 - w,
            other * w,
            w / 2.0,
            -w,
            abs(w),
            w**2,
            w @ other,
            other @ w,
            w > 0.2,
        ]
        results += [w[1:], np.asarray(w), np.sum(w.numpy()), w == w, k.ops.sum(w)]
        return [*results, k.ops.square(w), k.ops.concatenate([w, w]), k.ops.matmul(other, w)]

    check(program)


def test_a_variable_is_one_object_and_a_copy_is_an_array():
    model = fnn.Sequential([Dense(2, input_shape=(3,))])
    kernel = model.weights[0]
    assert kernel is model.layers[0].weights[0]
    assert kernel in {kernel}
    assert [float(sum(row)) for row in kernel] == [float(sum(row)) for row in kernel.numpy()]
    assert len(kernel) == 3
    assert isinstance(pickle.loads(pickle.dumps(kernel)), jax.Array)
    assert float(jnp.sum(kernel.value)) == float(kernel.sum())
    assert "path=sequential/dense/kernel, shape=(3, 2), dtype=float32" in repr(kernel)
    bias = model.weights[1]
    assert f"{bias[0]:.1f}, {int(bias[:1].sum())}" == "0.0, 0"
    assert not bool(fnn.Sequential([Dense(1, input_shape=(1,))]).weights[1])
    with pytest.raises(AttributeError):
        _ = kernel._private
    with pytest.raises(ValueError, match=r"of shape \(3, 2\) for sequential/dense/kernel, rec"):
        kernel.assign(np.ones(2))


def test_a_shared_layer_has_one_variable():
    base = fnn.Sequential([Dense(2, input_shape=(3,)), Dense(2)])
    head = fnn.Sequential([fnn.Input((3,)), base, Dense(1)])
    part = fnn.Sequential(base.layers[:1])
    assert part.weights[0] is base.weights[0] is head.weights[0]
    head.weights[1].assign([5.0, 6.0])
    np.testing.assert_array_equal(base.get_weights()[1], [5.0, 6.0])
    np.testing.assert_array_equal(part.get_weights()[1], [5.0, 6.0])


@pytest.mark.slow
def test_the_state_of_the_optimizer_one_by_one():
    def program(k):
        model = k.Sequential([k.Input((3,)), k.layers.Dense(2)])
        model.compile(k.optimizers.Adam(0.5), "mse")
        fill(model).fit(X, X[:, :2], verbose=0)
        first = [(v.name, v.path, tuple(v.shape)) for v in model.optimizer.variables[:2]]
        model.optimizer.learning_rate.assign(0.25)
        rate = float(np.asarray(model.optimizer.variables[1]))
        sizes = sorted(int(np.size(np.asarray(v))) for v in model.optimizer.variables)
        return first, rate, int(model.optimizer.iterations.numpy()), sizes[-4:]

    check(program)
    model = fnn.Sequential([Dense(2, input_shape=(3,))])
    model.compile("adam", "mse")
    model.optimizer.variables[1].assign(0.125)
    assert float(model.learning_rate) == 0.125
    assert not model.optimizer.variables[1].trainable
