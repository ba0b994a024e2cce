"""Layers in Keras's way are pure pairs of init and apply, and mistakes in them get the words."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import layers, ops
from fnn.runtime.program_cache import programs
from fnn.testing import check_layer

X = jnp.ones((2, 4))


@pytest.fixture(autouse=True)
def broadcasting():
    """Users' programs broadcast freely."""
    with jax.numpy_rank_promotion("allow"):
        yield


@fnn.register
class Linear(layers.Layer):
    def __init__(self, units=3, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        self.w = self.add_weight(shape=(input_shape[-1], self.units))
        self.b = self.add_weight(shape=(self.units,), initializer="zeros")

    def call(self, inputs):
        return ops.matmul(inputs, self.w) + self.b


class Outer(layers.Layer):
    def __init__(self, units):
        super().__init__()
        self.first = Linear(units)
        self.rest = [layers.Dense(units, "tanh"), layers.Dropout(0.5)]

    def call(self, x):
        for layer in (self.first, *self.rest):
            x = layer(x)
        return x


def test_the_tree_has_the_names_of_attributes():
    params, state = Outer(3).init(jax.random.key(0), X)
    assert jax.tree.map(jnp.shape, params) == {
        "first": {"w": (4, 3), "b": (3,)},
        "rest_0": {"kernel": (3, 3), "bias": (3,)},
    }
    assert state == {}


@pytest.mark.slow
def test_check_layer_passes():
    check_layer(Linear(3), X)


@pytest.mark.slow
def test_transforms_hold():
    init, apply = Outer(3)
    params, state = init(jax.random.key(0), X)
    plain = apply(params, state, X)[0]
    np.testing.assert_allclose(jax.jit(apply)(params, state, X)[0], plain, rtol=1e-6)

    def loss(params):
        return jnp.sum(apply(params, state, X)[0] ** 2)

    gradients = jax.grad(loss)(params)
    step = 1e-3
    moved = jax.tree.map(lambda w, g: w - step * g, params, gradients)
    squares = sum(jnp.sum(g**2) for g in jax.tree.leaves(gradients))
    np.testing.assert_allclose(loss(params) - loss(moved), step * squares, rtol=2e-2)

    several = jax.vmap(lambda key: init(key, X)[0])(jax.random.split(jax.random.key(1), 3))
    outputs = jax.vmap(lambda p: apply(p, state, X)[0])(several)
    alone = apply(jax.tree.map(lambda w: w[1], several), state, X)[0]
    np.testing.assert_allclose(outputs[1], alone, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "wrap",
    [
        lambda: layers.Repeat(Linear(4), 3),
        lambda: layers.Remat(Linear(4)),
        lambda: layers.Ensemble(Linear(4), 2),
        lambda: layers.TimeDistributed(Linear(4)),
        lambda: layers.Residual(Linear(4)),
    ],
)
def test_combinators_take_them(wrap):
    x = jnp.ones((2, 5, 4))
    twin = {"kernel_initializer": "glorot_uniform"}
    combined = wrap()
    params, state = combined.init(jax.random.key(0), x)
    outputs = combined.apply(params, state, x)[0]
    inner = next(v for v in vars(combined).values() if isinstance(v, Linear))
    same = combined.replace(
        **{name: layers.Dense(4, **twin) for name, v in vars(combined).items() if v is inner}
    )

    def renamed(tree):
        return {"kernel": tree["w"], "bias": tree["b"]}

    np.testing.assert_allclose(outputs, same.apply(renamed(params), state, x)[0], rtol=1e-5)


@pytest.mark.slow
def test_equal_arguments_make_equal_layers_that_share_programs():
    assert Outer(3) == Outer(3)
    assert hash(Outer(3)) == hash(Outer(3))
    assert Outer(3) != Outer(4)
    changed = Outer(3)
    changed.scale = 2.0
    assert changed != Outer(3)
    programs.clear()
    data = np.ones((8, 4), "float32")
    for _ in range(3):
        model = fnn.Sequential([fnn.Input((4,)), Outer(3)])
        model.compile("sgd", "mse")
        model.fit(data, data[:, :3], verbose=0)
        model.predict(data, verbose=0)
        count = len(programs)
    assert count == len(programs)


def test_a_step_is_that_of_built_in_layers():
    class Network(layers.Layer):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(8, activation="relu")
            self.dense_1 = layers.Dense(3)

        def call(self, x):
            return self.dense_1(self.dense(x))

    plain = layers.Sequential([layers.Dense(8, activation="relu"), layers.Dense(3)])
    params, state = plain.init(jax.random.key(0), X)

    def program(layer):
        def loss(params):
            return jnp.sum(layer.apply(params, state, X)[0])

        return str(jax.make_jaxpr(jax.value_and_grad(loss))(params))

    assert program(Network()) == program(plain)


def test_weights_are_drawn_as_those_of_other_layers():
    class Network(layers.Layer):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(8)

        def call(self, x):
            return self.dense(x)

    params = Network().init(jax.random.key(7), X)[0]
    same = layers.Sequential([layers.Dense(8)]).init(jax.random.key(7), X)[0]
    np.testing.assert_array_equal(params["dense"]["kernel"], same["dense"]["kernel"])


# -- mistakes ------------------------------------------------------------------------------------


def run(body, init=""):
    """A layer whose `call` has this body, applied."""
    source = "class Wrong(layers.Layer):\n def __init__(self):\n  super().__init__()\n"
    source += "".join(f"  {line}\n" for line in init.splitlines())
    source += " def call(self, x):\n" + "".join(f"  {line}\n" for line in body.splitlines())
    names = {"layers": layers, "ops": ops, "fnn": fnn}
    exec(source, names)
    layer = names["Wrong"]()
    params, state = layer.init(jax.random.key(0), X)
    return layer, layer.apply(params, state, X)[0]


def test_a_tensor_kept_on_self():
    with pytest.raises(TypeError, match=r"expected call to return its results.*self\.last"):
        run("self.last = x\nreturn x", "self.last = None")
    layer, _ = run("self.last = x * 2\nreturn self.last")
    with pytest.raises(AttributeError, match="what call assigns to self is gone after the call"):
        _ = layer.last


def test_a_trainable_weight_assigned_in_call():
    with pytest.raises(TypeError, match=r"trainable weight 'w'.*trainable=False"):
        run("self.w.assign(self.w + 1)\nreturn x * self.w", "self.w = self.add_weight(shape=())")


def test_a_weight_of_a_size_that_depends_on_data():
    with pytest.raises(ValueError, match="depends on the data"):
        run("w = self.add_weight(shape=(ops.max(x),))\nreturn x")


def test_python_branching_on_a_traced_value():
    with pytest.raises(jax.errors.ConcretizationTypeError) as caught:
        run("if ops.max(x) > 0:\n return x\nreturn -x")
    assert "fnn.ops.where, cond or while_loop" in "".join(caught.value.__notes__)


def test_a_layer_made_in_call():
    with pytest.raises(ValueError, match=r"make it in __init__ or build, self\.layer = "):
        run("return layers.Dense(3)(x)")
    # One without weights is the same each time.
    assert run("return layers.Flatten()(layers.Activation('relu')(x))")[1].shape == (2, 4)


def test_unknown_arguments_of_a_call():
    with pytest.raises(
        TypeError, match=r"expected arguments of call\('inputs',\), received \['scale'\]"
    ):
        Linear(3)(X, scale=2.0)


def test_no_weights_inside_jit():
    with pytest.raises(ValueError, match=r"params, state = layer\.init\(key, x\)"):
        jax.jit(Linear(3))(X)
