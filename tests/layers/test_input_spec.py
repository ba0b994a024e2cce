"""InputSpec against Keras's, as a value and as what a layer checks."""

import numpy as np
import pytest

import fnn
from fnn import InputSpec
from fnn.core.config import from_config, to_config
from tests.helpers.oracle import keras_rules

SPECS = [
    {"shape": (None, 3)}, {"ndim": 2}, {"min_ndim": 3}, {"max_ndim": 2}, {"axes": {-1: 3}},
    {"min_ndim": 2, "axes": {1: 4, -1: None}}, {"dtype": "float32"}, {"dtype": "int32", "ndim": 2},
    {"shape": (None, 3, 1), "allow_last_axis_squeeze": True},
    {"shape": (None, 4), "allow_last_axis_squeeze": True},
]  # fmt: skip
INPUTS = [np.ones(shape, dtype) for shape in ((2, 3), (2, 4), (2, 3, 1), (2, 4, 3), (2, 1))
          for dtype in ("float32", "int32")]  # fmt: skip


class Checked(fnn.Layer):
    def __init__(self, spec):
        super().__init__()
        self.input_spec = spec

    def apply(self, params, state, x, ctx=fnn.INFERENCE):
        return x, state


@pytest.fixture
def keras():
    with keras_rules():
        import keras

        yield keras


def accepts(run):
    try:
        run()
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("named", SPECS, ids=str)
def test_layers_accept_what_keras_accepts(named, keras):
    class Theirs(keras.layers.Layer):
        def __init__(self):
            super().__init__(autocast=False)
            self.input_spec = keras.InputSpec(**named)

        def call(self, x):
            return x

    layer = Checked(InputSpec(**named))
    for x in INPUTS:
        expected = accepts(lambda x=x: Theirs()(x))
        assert accepts(lambda x=x: layer.apply({}, {}, x)) is expected, x.shape
        node = fnn.Input(batch_shape=x.shape, dtype=x.dtype)
        assert accepts(lambda node=node: layer(node)) is expected, x.shape


@pytest.mark.parametrize("named", SPECS, ids=str)
def test_the_value_is_that_of_keras(named, keras):
    ours, theirs = InputSpec(**named), keras.InputSpec(**named)
    assert ours.get_config() == theirs.get_config()
    assert repr(ours) == repr(theirs)
    assert InputSpec.from_config({**named}) == ours
    assert hash(InputSpec(**named)) == hash(ours)
    assert from_config(to_config(ours)) == ours


def test_wrong_axes(keras):
    for package in (fnn, keras):
        with pytest.raises(ValueError, match=r"(?i)ax[ei]s"):
            package.InputSpec(ndim=2, axes={3: 1})
        with pytest.raises(TypeError, match="axes"):
            package.InputSpec(axes={"a": 1})
    assert fnn.layers.InputSpec is InputSpec


def test_several_inputs():
    a, b = np.ones((2, 3), "float32"), np.ones((2, 4), "float32")
    layer = Checked([InputSpec(ndim=2), None])
    layer.apply({}, {}, (a, b))
    with pytest.raises(ValueError, match="Checked: expected 2 inputs, as its input_spec says"):
        layer.apply({}, {}, (a, b, b))
    with pytest.raises(ValueError, match=r"expected 3 axes of input 1, .* received shape \(2, 4\)"):
        Checked([None, InputSpec(ndim=3)]).apply({}, {}, (a, b))
    named = Checked([InputSpec(shape=(None, 4), name="b"), InputSpec(ndim=2, name="a")])
    named.apply({}, {}, {"a": a, "b": b})
    with pytest.raises(ValueError, match=r"the shape \(None, 4\) of input 0"):
        named.apply({}, {}, {"a": b, "b": a})
