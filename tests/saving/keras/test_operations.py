"""Operations in Keras's configs, with live Keras: classes, arguments, equal outputs."""

import importlib
import inspect
import json

import keras
import numpy as np
import pytest
from keras.src.ops.operation import Operation

import fnn
from fnn.models import model_from_json
from fnn.ops.operation import OPERATIONS
from fnn.saving.keras import operations
from fnn.saving.keras.configs import network_to_keras
from tests.helpers.keras_networks import assert_same_outputs
from tests.helpers.oracle import keras_rules


def classes_of_keras():
    """The classes behind `keras.ops`, by name, with their modules."""
    for part in ("numpy", "nn", "math", "core", "image", "linalg", "einops"):
        module = importlib.import_module(f"keras.src.ops.{part}")
        for name, cls in vars(module).items():
            is_here = getattr(cls, "__module__", None) == module.__name__
            if is_here and isinstance(cls, type) and issubclass(cls, Operation):
                yield name, part, cls


def test_every_operation_has_the_class_and_arguments_of_keras():
    theirs = {name: (part, cls) for name, part, cls in classes_of_keras()}
    known = {operations.class_of(name) for name in OPERATIONS}
    assert set(theirs) - known == {"Ndim", "SegmentReduction"}
    for name in OPERATIONS:
        if operations.class_of(name) not in theirs or name in operations._OF_FUNCTIONS:
            continue
        part, cls = theirs[operations.class_of(name)]
        assert operations.MODULE_OF.get(name, "numpy") == part, name
        call = list(inspect.signature(cls.call).parameters)[1:]
        assert operations.in_call(name) == [a for a in call if a != "kwargs"], name
        made = set(list(inspect.signature(cls.__init__).parameters)[1:]) - {"name"}
        arguments = OPERATIONS[name].signature.parameters
        others = set(arguments) - set(call) - {"operands", "kwargs", "axes_lengths"}
        assert others <= made, name


def many_operations(k):
    """A graph of operations with arguments of every kind."""
    ops = k.ops
    x, y = k.Input((4, 3)), k.Input((4, 3))
    return k.Model(
        [x, y],
        [
            ops.einsum("bij,bkj->bik", x, y),
            ops.reshape(x, (-1, 12)),
            ops.clip(x, -0.5, 0.5),
            ops.pad(x, ((0, 0), (1, 0), (0, 2)), constant_values=2.0),
            ops.stack([x, y], axis=1),
            ops.expand_dims(ops.var(x, axis=(1, 2)), -1),
            ops.take(x, np.array([2, 0]), axis=1),
            ops.one_hot(ops.argmax(x, axis=-1), 3),
            ops.cast(x > y, "float32"),
            ops.softmax(x, axis=1) + ops.gelu(y, approximate=False),
            ops.top_k(x, 2)[0],
            ops.logsumexp(x, axis=-1),
            ops.cumsum(x, axis=1),
            ops.maximum(ops.swapaxes(x, 1, 2), 0.1),
            ops.moments(x, axes=(1,))[1],
            ops.full_like(x, 2.0) / (1.0 + ops.abs(y)),
            ops.matmul(x, np.ones((3, 2), "float32")),
            ops.image.resize(ops.expand_dims(x, -1), (2, 2)),
        ],
    )


@pytest.mark.slow
def test_operations_are_read_and_written():
    with keras_rules():
        theirs = many_operations(keras)
        assert_same_outputs(model_from_json(theirs.to_json()), theirs)
        ours = many_operations(fnn)
        made = keras.models.model_from_json(json.dumps(network_to_keras(ours)))
    assert_same_outputs(ours, made)
