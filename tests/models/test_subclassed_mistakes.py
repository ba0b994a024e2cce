"""The errors for common mistakes in models written in Keras's way."""

import re

import jax
import numpy as np
import pytest

import fnn
from tests.helpers.both_libraries import normal, on_fnn

X = normal(6, 4)


def model_of(call, init="self.dense = layers.Dense(3)"):
    """A model with this line in `__init__` and this one in `call`."""
    source = f"""
        class M(keras.Model):
            def __init__(self):
                super().__init__()
                {init}
            def call(self, x):
                {call}
        model = M()
    """
    return on_fnn(source).model


SCALE = "self.scale = self.add_weight(shape=(), initializer='ones')"
MISTAKES = {
    "leak": (
        "self.last = self.dense(x); return self.last + (0 if x.shape else self.last)",
        "self.dense, self.last = layers.Dense(3), None",
        TypeError,
        "M: expected call to return its results, received an array assigned to self.last",
    ),
    "trainable": (
        "self.scale.assign_add(1.0); return x * self.scale",
        SCALE,
        TypeError,
        "expected call to assign weights made with trainable=False",
    ),
    "made in call": (
        "return layers.Dense(3)(x)",
        "pass",
        ValueError,
        "Dense: expected a layer that is an attribute .*make it in __init__ or build",
    ),
    "branch": (
        "return self.dense(x) if ops.sum(x) > 0 else x",
        "self.dense = layers.Dense(3)",
        jax.errors.ConcretizationTypeError,
        "call of M is traced: .* use fnn.ops.where, cond or while_loop",
    ),
    "predict in call": (
        "return self.predict(x)",
        "pass",
        AttributeError,
        "M: expected call to use the layers, .* call the layers, self.layer\\(x\\)",
    ),
    "shape from data": (
        "return x * self.add_weight(shape=(ops.sum(x),))",
        "pass",
        (ValueError, TypeError, jax.errors.ConcretizationTypeError),
        "expected a shape of integers beside an initializer, received a size that depends",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_call(name):
    call, init, kind, message = MISTAKES[name]
    model = model_of(call, init)
    with pytest.raises(kind) as caught:
        model(X)
    notes = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert re.search(message, notes), notes


def test_a_constructor_without_super():
    source = """
        class M(keras.Model):
            def __init__(self):
                self.dense = layers.Dense(3)
            def call(self, x):
                return self.dense(x)
        model = M()
    """
    with pytest.raises(AttributeError, match=r"M: expected __init__ to begin with super\(\)"):
        on_fnn(source).model(X)


def test_a_class_without_call():
    class M(fnn.Model):
        def __init__(self):
            super().__init__()

    with pytest.raises(TypeError, match=r"expected M to define call\(inputs\)"):
        M().predict(X, verbose=0)


def test_unknown_arguments_of_call():
    model = model_of("return self.dense(x)")
    with pytest.raises(TypeError, match=r"expected arguments of call\('x',\).*scale"):
        model(X, scale=2.0)


def test_weights_before_they_are_made():
    model = model_of("return self.dense(x)")
    with pytest.raises(ValueError, match=r"'m' has no weights yet, since the shape"):
        model.params  # noqa: B018
    assert model.get_weights() == []
    lines = []
    model.summary(print_fn=lines.append)
    assert "?" in "\n".join(lines)


def test_after_a_mistake_the_model_can_be_used():
    source = """
        class M(keras.Model):
            def __init__(self):
                super().__init__()
                self.dense, self.fails = layers.Dense(3), True
            def call(self, x):
                if self.fails:
                    raise RuntimeError("not yet")
                return self.dense(x)
        model = M()
    """
    model = on_fnn(source).model
    with pytest.raises(RuntimeError, match="not yet"):
        model(X)
    assert not model.built
    model.fails = False
    assert np.shape(model(X)) == (6, 3)
