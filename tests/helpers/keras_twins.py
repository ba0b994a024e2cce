"""A layer of Keras with the same arguments and weights, and whether it gives the same numbers."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core import tree
from fnn.core.calling import output_spec, weight_spec
from fnn.core.context import attach_mask, is_masked, split_mask, strip_masks
from fnn.core.value import Fields
from fnn.core.weights import in_order
from tests.helpers.catalogue import jit
from tests.helpers.oracle import keras_rules, random_weights_unset

IN_CALL = {"use_causal_mask", "return_attention_scores"}  # what Keras takes in the call
OURS = {"fixed_weights", "name", "trainable", "dtype", "input_shape"}


def twin(case):
    """The Keras layer with the same arguments, to be given `case.weights`."""
    import keras

    if case.keras != "same":
        layer = case.keras(keras.layers)
    else:
        fields = {
            n: v for n, v in vars(case.layer).items() if n[0] != "_" and n not in OURS | IN_CALL
        }
        fields = {n: v.as_dict() if isinstance(v, Fields) else v for n, v in fields.items()}
        layer = getattr(keras.layers, type(case.layer).__name__)(**fields)
    return built(layer, case)


def built(layer, case):
    """A layer of Keras, built for the inputs of a row, to be given its weights."""
    plain = strip_masks(case.x)
    shapes = jax.tree.map(lambda a: a.shape, plain, is_leaf=lambda a: hasattr(a, "shape"))
    if isinstance(plain, tuple):
        shapes = shapes[0] if takes_states(layer) else list(shapes)
    with random_weights_unset():
        layer.build(shapes)
    return layer


def takes_states(layer):
    """Whether what follows the first input is a list of states: recurrent layers and cells."""
    return hasattr(layer, "return_state") or hasattr(layer, "state_size")


def ordered(case):
    """(paths, weights) in the order of `get_weights`, which is Keras's."""
    parts = dict(zip(("params", "state"), case.weights, strict=True))
    order = in_order(case.layer, *weight_spec(case.layer, case.x))
    pairs = [(path, tree.get(parts[part], path)) for part, path in order]
    return [path for path, _ in pairs], [weight for _, weight in pairs]


def objective(y, penalty=0.0):
    """The sum of the outputs times fixed random numbers, and a penalty; nothing hides in it."""
    return penalty + sum(
        jnp.vdot(np.random.default_rng(5).normal(size=a.shape).astype("float32"), a)
        for a in jax.tree.leaves(strip_masks(y))
    )


def graded(case, run):
    """A function like `run(weights, inputs without masks)`, of gradients too, by both of them."""
    x = strip_masks(case.x)
    learned = all(jnp.issubdtype(a.dtype, jnp.floating) for a in jax.tree.leaves(x))

    def value(weights, x):
        y, state = run(weights, x)
        return objective(y, state.get("aux_loss", 0.0)), (y, state)

    gradient = jax.grad(value, (0, 1) if learned else (0,), has_aux=True)

    def results(weights, x):
        gradients, (y, state) = gradient(weights, x)
        return strip_masks(y), state, gradients

    return results


def stateless(layer, trainable, others, *args, **named):
    """(outputs, state, losses): `stateless_call` with the layer's own penalty, which it omits."""
    import keras

    variables = [*layer.trainable_variables, *layer.non_trainable_variables]
    values = zip(variables, [*trainable, *others], strict=True)
    with keras.StatelessScope(values, collect_losses=True) as scope:
        y, losses = layer(*args, **named), list(layer.losses)
    return y, [scope.get_current_value(v) for v in layer.non_trainable_variables], losses


def runner(case, layer, train):
    """The trainable weights of a layer of Keras, and `run(weights, inputs without masks)`."""
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

    return trainable, run


def ours(case, train):
    """As `runner`, of the layer itself."""
    params, state = case.weights
    masked = jax.tree.leaves(case.x, is_leaf=is_masked)

    def run(params, x):
        values = jax.tree.leaves(x)
        masks = [a.mask if is_masked(a) else None for a in masked]
        x = jax.tree.unflatten(jax.tree.structure(x), map(attach_mask, values, masks))
        return case.run(params, state, x, train=train)

    return params, run


def plain(case, run):
    """As `graded`, with no gradients."""

    def results(weights, x):
        y, state = run(weights, x)
        return strip_masks(y), state, ((),)

    return results


def results(case, layer, train, of=graded):
    """(outputs, state, gradients) of Keras's layer, and of fnn's, by one program."""
    (weights, run), (params, run_ours) = runner(case, layer, train), ours(case, train)

    def both(weights, params, x):
        with keras_rules():
            theirs = of(case, run)(weights, x)
        return theirs, of(case, run_ours)(params, x)

    return jit(both)(weights, params, strip_masks(case.x))


def assert_same(received, expected):
    """Shapes and numbers."""
    received, expected = jax.tree.leaves(received), jax.tree.leaves(expected)
    for a, b in zip(received, expected, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def assert_same_shapes(received, expected):
    """Structure, shapes and dtypes."""
    received, expected = (
        jax.tree.map(lambda a: (a.shape, a.dtype.name), tree) for tree in (received, expected)
    )
    assert received == expected


def assert_finite_and_not_all_zero(gradients, case):
    gradients = jax.tree.leaves(gradients)
    assert all(np.isfinite(g).all() for g in gradients)
    blocked = not gradients or "gradients_are_finite" in case.without
    assert blocked or any(np.any(g) for g in gradients)


def assert_equals_keras(case, train, layer=None, gradients=True):
    """Names of weights, outputs, states, gradients by weights and inputs (where asked for).

    `layer` is the layer of Keras, by default the twin; it is built here.
    """
    with keras_rules():
        layer = built(layer, case) if layer is not None else twin(case)
        paths, weights = ordered(case)
        assert [v.name for v in layer.weights] == [path[-1] for path in paths]
        layer.set_weights([np.asarray(w) for w in weights])
    of = graded if gradients else plain
    (y, state, expected), (mine, new, learned) = results(case, layer, train, of)
    assert_same(mine, y)
    if not train:
        assert_same_shapes(mine, strip_masks(output_spec(case.layer, case.x)))
    new = {path[-1]: a for path, a in tree.flatten(new)}
    assert set(new) == set(state)
    for name, value in state.items():  # by name: the order is not the same
        assert_same(new[name], value)
    if not gradients:
        return
    assert_finite_and_not_all_zero(learned, case)
    by_weights, *by_inputs = learned
    spec = weight_spec(case.layer, case.x)[0]
    assert_same([tree.get(by_weights, path) for path, _ in tree.flatten(spec)], expected[0])
    assert_same(by_inputs, expected[1:])
