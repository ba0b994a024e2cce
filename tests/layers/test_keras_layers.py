"""Every layer of the catalogue against Keras, run live: signature, weights, outputs, gradients."""

import dataclasses
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import layers as L
from fnn.core import tree
from fnn.core.calling import weight_spec
from fnn.core.fields import field_kind
from fnn.core.layer import Layer
from fnn.core.masking import attach_mask, is_masked, split_mask, strip_masks
from fnn.core.value import Fields
from fnn.layers import Conv3DTranspose
from tests.catalogue import CATALOGUE, jit
from tests.layers import (
    test_attention,
    test_dropout,
    test_normalization,
    test_recurrent,
    test_reversible_embedding,
    test_spectral,
)
from tests.oracle import keras_rules


def moves(case):
    """Whether training changes a state of the layer: then its numbers can be those of Keras."""
    state = weight_spec(case.layer, case.x)[1]
    return any(path[-1] != "aux_loss" for path, _ in tree.flatten(state)) and case.trains


TWINS = [case for case in CATALOGUE if case.keras is not None]
# In training where something moves: dropout draws other random numbers than Keras. Not where Keras
# moves the averages of a `TimeDistributed` once a step: here all steps are one batch, by NumPy in
# test_combinators.py.
RUNS = [
    pytest.param(case, train, id=f"{'training' if train else 'inference'}-{case.id}")
    for case in TWINS
    for train in (False, True)
    if not train or (moves(case) and not isinstance(case.layer, L.TimeDistributed))
]
CLASSES = sorted({type(case.layer) for case in TWINS if case.keras == "same"}, key=str)
IN_CALL = {"use_causal_mask", "return_attention_scores"}  # what Keras takes in the call
OURS = {"name", "trainable", "dtype", "input_shape"}
# Of Keras's arguments fnn leaves out: what wrappers do, what JAX decides, arrays in a value.
LEFT_OUT = {
    "weights",
    "lora_rank",
    "lora_alpha",
    "quantization_config",
    "gptq_unpacked_column_size",
    "use_cudnn",
    "name",
    "dtype",
}


def twin(case):
    """The Keras layer with the same arguments and `case.weights`."""
    import keras

    if case.keras != "same":
        layer = case.keras(keras.layers)
    else:
        fields = {
            n: v for n, v in vars(case.layer).items() if n[0] != "_" and n not in OURS | IN_CALL
        }
        fields = {n: v.as_dict() if isinstance(v, Fields) else v for n, v in fields.items()}
        layer = getattr(keras.layers, type(case.layer).__name__)(**fields)
    plain = strip_masks(case.x)
    shapes = jax.tree.map(lambda a: a.shape, plain, is_leaf=lambda a: hasattr(a, "shape"))
    if isinstance(plain, tuple):
        shapes = shapes[0] if takes_states(layer) else list(shapes)
    layer.build(shapes)
    return layer


def takes_states(layer):
    """Whether what follows the first input is a list of states: recurrent layers and cells."""
    return hasattr(layer, "return_state") or hasattr(layer, "state_size")


def ordered(case):
    """(paths, weights) in the order in which the layer made them: params, then state."""
    pairs = [
        (path, tree.get(part, path))
        for part, made in zip(case.weights, weight_spec(case.layer, case.x), strict=True)
        for path, _ in tree.flatten(made)
        if path[-1] != "aux_loss"  # a loss of Keras's, where it is no weight
    ]
    return [path for path, _ in pairs], [weight for _, weight in pairs]


def objective(y, penalty=0.0):
    """The sum of the outputs times fixed random numbers, and a penalty; nothing hides in it."""
    return penalty + sum(
        jnp.vdot(np.random.default_rng(5).normal(size=a.shape).astype("float32"), a)
        for a in jax.tree.leaves(strip_masks(y))
    )


def results(case, weights, run):
    """(outputs, state, gradients by weights and inputs) of `run(weights, inputs without masks)`."""
    x = strip_masks(case.x)
    learned = all(jnp.issubdtype(a.dtype, jnp.floating) for a in jax.tree.leaves(x))

    def value(weights, x):
        y, state = run(weights, x)
        return objective(y, state.get("aux_loss", 0.0)), (y, state)

    gradient = jax.grad(value, (0, 1) if learned else (0,), has_aux=True)
    gradients, (y, state) = jit(gradient)(weights, x)
    return strip_masks(y), state, gradients


def stateless(layer, trainable, others, *args, **named):
    """(outputs, state, losses): `stateless_call` with the layer's own penalty, which it omits."""
    import keras

    variables = [*layer.trainable_variables, *layer.non_trainable_variables]
    values = zip(variables, [*trainable, *others], strict=True)
    with keras.StatelessScope(values, collect_losses=True) as scope:
        y, losses = layer(*args, **named), list(layer.losses)
    return y, [scope.get_current_value(v) for v in layer.non_trainable_variables], losses


def theirs(case, layer, train):
    trainable = [jnp.asarray(v.value) for v in layer.trainable_variables]
    others = [jnp.asarray(v.value) for v in layer.non_trainable_variables]
    known = inspect.signature(layer.call).parameters
    mask = split_mask(case.x)[1]
    named = {"training": train, "mask": list(mask) if isinstance(mask, tuple) else mask}
    named = {name: value for name, value in named.items() if name in known and value is not None}
    asked = {name: getattr(case.layer, name, False) for name in IN_CALL}
    named |= {name: value for name, value in asked.items() if value}
    names = [v.name for v in layer.non_trainable_variables]

    def run(trainable, x):
        if isinstance(x, tuple) and takes_states(layer):
            args = x[0], list(x[1:])
        else:
            args = (list(x) if isinstance(x, tuple) else x,)
        y, state, penalties = stateless(layer, trainable, others, *args, **named)
        pairs = zip(names, state, strict=True)
        moved = [(name, value) for name, value in pairs if name != "seed_generator_state"]
        assert len(dict(moved)) == len(moved)
        return y, dict(moved) | ({"aux_loss": sum(penalties)} if penalties else {})

    return results(case, trainable, run)


def ours(case, train):
    params, state = case.weights
    masked = jax.tree.leaves(case.x, is_leaf=is_masked)

    def run(params, x):
        values = jax.tree.leaves(x)
        masks = [a.mask if is_masked(a) else None for a in masked]
        x = jax.tree.unflatten(jax.tree.structure(x), map(attach_mask, values, masks))
        return case.run(params, state, x, train=train)

    return results(case, params, run)


def assert_same(received, expected):
    """Shapes and numbers."""
    received, expected = jax.tree.leaves(received), jax.tree.leaves(expected)
    for a, b in zip(received, expected, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("case", "train"), RUNS)
def test_layer_equals_keras(case, train):
    with keras_rules():
        layer = twin(case)
        paths, weights = ordered(case)
        assert [v.name for v in layer.weights] == [path[-1] for path in paths]
        layer.set_weights([np.asarray(w) for w in weights])
        y, state, gradients = theirs(case, layer, train)
    mine, new, (by_weights, *by_inputs) = ours(case, train)
    assert_same(mine, y)
    new = {path[-1]: a for path, a in tree.flatten(new)}
    assert set(new) == set(state)
    for name, value in state.items():  # by name: the order is not the same
        assert_same(new[name], value)
    spec = weight_spec(case.layer, case.x)[0]
    assert_same([tree.get(by_weights, path) for path, _ in tree.flatten(spec)], gradients[0])
    assert_same(by_inputs, gradients[1:])


# What is compared live: here and, since attention is called in another way there, in its own test.
LIVE = [case.layer for case in TWINS] + [layer for layer, _ in test_attention.RELATIVES.values()]
# Layers of Keras that stand in none of these, and the test that compares them instead.
ELSEWHERE = {
    # in training alone: at inference Keras reads a kernel that it wrote over
    "SpectralNormalization": test_spectral.test_training_is_that_of_keras,
}
# Options that cannot show in such a comparison, and what shows them.
FLASH = test_attention.test_flash_attention_is_the_same_attention
PENALTY = test_attention.test_every_projection_is_penalized
BACK = test_reversible_embedding.test_back_and_forth_are_those_of_keras
UNSEEN = {
    "seed": test_dropout.test_key_path_and_seed_decide_the_noise,
    "stateful": test_recurrent.test_stateful_equals_keras,
    "BatchNormalization.synchronized": test_normalization.test_the_batch_is_one_on_several_devices,
    "MultiHeadAttention.flash_attention": FLASH,
    "GroupedQueryAttention.flash_attention": FLASH,
    # Keras takes it and leaves it out
    "SimpleRNN.activity_regularizer": test_dropout.test_the_penalty_leaves_masked_steps_out,
    "MultiHeadAttention.activity_regularizer": PENALTY,
    "GroupedQueryAttention.activity_regularizer": PENALTY,
    "ReversibleEmbedding.reverse_dtype": BACK,
    "ReversibleEmbedding.logit_soft_cap": BACK,
    # Keras takes the mask of steps for one of columns
    "ConvLSTM1D.zero_output_for_mask": test_recurrent.test_conv_lstm_of_one_pixel_is_lstm,
    "ConvLSTM2D.zero_output_for_mask": test_recurrent.test_conv_lstm_of_one_pixel_is_lstm,
    "ConvLSTM3D.zero_output_for_mask": test_recurrent.test_conv_lstm_of_one_pixel_is_lstm,
}
OWN_OPTIONS = {  # fnn's own, and what is taken and not read
    ("MultiHeadAttention", "position"),
    ("GroupedQueryAttention", "position"),
    ("Lambda", "output_shape"),
    ("ActivityRegularization", "l1"),  # by default it does nothing
    ("ActivityRegularization", "l2"),
}


def test_every_layer_that_keras_has_too_is_compared_with_it():
    import keras

    theirs = {name for name, value in vars(keras.layers).items() if inspect.isclass(value)}
    both = {
        cls
        for name, cls in vars(L).items()
        if name in theirs and inspect.isclass(cls) and issubclass(cls, Layer) and cls is not Layer
    }
    missing = {cls.__name__ for cls in both - set(map(type, LIVE))}
    assert missing == set(ELSEWHERE)
    assert len(both) >= 90


def options():
    """(class, field) of what the layers compared live can be given, but for weights' own."""
    for cls in sorted({type(layer) for layer in LIVE}, key=str):
        for field in dataclasses.fields(cls):
            of_weights = field_kind(field.name) in ("initializer", "regularizer", "constraint")
            of_weights &= field.name != "activity_regularizer"
            ours = field.name in OURS or (cls.__name__, field.name) in OWN_OPTIONS
            if field.default is not dataclasses.MISSING and not of_weights and not ours:
                yield cls, field


def test_every_option_is_compared_with_keras_as_it_is_by_default_and_otherwise():
    missing = []
    for cls, field in options():
        given = [getattr(layer, field.name) for layer in LIVE if type(layer) is cls]
        default = {repr(value) == repr(field.default) for value in given}
        name = f"{cls.__name__}.{field.name}"
        if default != {True, False} and not {field.name, name} & UNSEEN.keys():
            missing.append(name)
    assert not missing


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_arguments_are_those_of_keras(cls):
    """Names, order and defaults."""
    import keras

    theirs = inspect.signature(getattr(keras.layers, cls.__name__).__init__).parameters
    theirs = {
        name: parameter.default
        for name, parameter in theirs.items()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and name not in {"self", *LEFT_OUT}
    }
    missing = dataclasses.MISSING
    mine = {
        field.name: inspect.Parameter.empty if field.default is missing else field.default
        for field in dataclasses.fields(cls)
        if not field.kw_only
    }
    if cls is not Conv3DTranspose:  # Keras has another order there than in 1D and 2D
        assert list(mine) == list(theirs)
    assert mine == theirs
