"""`jax.vmap` over single examples: where no axis is counted from the batch, none is needed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import layers as L
from fnn.core.context import strip_masks
from fnn.testing.subject import jit
from tests.helpers.catalogue import CATALOGUE, Case

# Layers whose arithmetic is by entry or along the last axis, and those made of such.
CLASSES = {
    *(L.Dense, L.GatedDense, L.EinsumDense, L.MatMul, L.MixtureOfExperts, L.Embedding),
    *(L.Identity, L.Unmask, L.Rescaling, L.Lambda, L.Operator, L.ReversibleEmbedding),
    *(L.Activation, L.ReLU, L.LeakyReLU, L.ELU, L.PReLU, L.Softmax),
    *(L.Dropout, L.GaussianDropout, L.GaussianNoise, L.AlphaDropout, L.ActivityRegularization),
    *(L.BatchNormalization, L.LayerNormalization, L.RMSNormalization, L.UnitNormalization),
    *(L.Add, L.Multiply, L.Average, L.Maximum, L.Minimum, L.Concatenate),
    *(L.Sequential, L.Residual, L.Parallel, L.Repeat, L.Remat, L.Frozen, L.Inference, L.Graph),
    *(L.LoRA, L.SpectralNormalization),
}


def counts_from_the_batch(case):
    """Whether an argument says which axes, or the inputs are such as cannot be without a batch."""
    layer = case.layer
    values = strip_masks(case.x)
    ranks = {a.shape for a in values} if isinstance(values, tuple) else set()
    return (
        getattr(layer, "axis", -1) not in (-1, (-1,))
        or getattr(layer, "noise_shape", None) is not None
        or getattr(layer, "mask_zero", False)  # which makes a mask of examples and steps
        or getattr(layer, "reflected", False)
        or getattr(layer, "capacity_factor", None) is not None  # examples compete for room
        or getattr(layer, "equation", "...")[:3] != "..."
        or (isinstance(layer, L.MatMul) and layer.constant is None)
        or (len(ranks) > 1 and not isinstance(layer, (L.Concatenate, L.Graph)))
        or any(counts_from_the_batch(Case(child, (1,))) for _, child in layer.children())
        or any(type(child) not in CLASSES for _, child in layer.children())
    )


ROWS = [c for c in CATALOGUE if type(c.layer) in CLASSES and not counts_from_the_batch(c)]
ROWS += [
    Case(L.EinsumDense("...a,ab->...b", 5, "tanh", "b"), (3, 4)),
    Case(L.GatedDense(3), (3, 4)),
    Case(L.LayerNormalization(), (3, 4)),
    Case(L.Repeat(L.Residual(L.Dense(4, "tanh")), 2), (3, 4)),
    Case(L.LoRA(L.Sequential([L.Dense(4), L.RMSNormalization()]), 2), (3, 4)),
    Case(L.MixtureOfExperts(L.Dense(5, "tanh"), 4), (3, 4)),
    Case(L.ReversibleEmbedding(9, 4), (3, 4)),
    Case(L.PReLU(), (3, 4)),
    Case(L.Concatenate(), (3, 4), (3, 2)),
]


def test_the_rows_are_of_all_these_classes():
    assert {type(case.layer) for case in ROWS} == CLASSES


# A row for each class, that of most arguments; the others differ in what is computed by entry.
RICHEST = {type(case.layer): case for case in sorted(ROWS, key=lambda case: len(case.id))}


def marked(case):
    rare = RICHEST[type(case.layer)] is not case
    return pytest.param(case, id=case.id, marks=[pytest.mark.thorough] * rare)


@pytest.mark.slow
@pytest.mark.parametrize("case", [marked(case) for case in ROWS])
def test_examples_one_by_one_are_as_in_a_batch(case):
    params, state = case.weights
    apply = lambda x: strip_masks(case.layer.apply(params, state, x)[0])
    together, alone = jit(lambda x: (apply(x), jax.vmap(apply)(x)))(strip_masks(case.x))
    same = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    jax.tree.map(same, alone, together)


@pytest.mark.slow
def test_one_example_gives_its_output():
    net = L.Sequential([L.Dense(8, "relu"), L.BatchNormalization(), L.Dense(2, "softmax")])
    case = Case(net, (5, 3))
    _, apply = net
    (params, state), x = case.weights, np.asarray(case.x)
    slopes = jax.eval_shape(jax.vmap(jax.jacobian(lambda row: apply(params, state, row)[0])), x)
    assert slopes.shape == (5, 2, 3)
    one, every = jit(lambda row, x: [apply(params, state, a)[0] for a in (row, x)])(x[1], x)
    np.testing.assert_allclose(one, every[1], 1e-5)


@pytest.mark.parametrize("layer", [L.Dense(2), L.GatedDense(2), L.MixtureOfExperts(L.Dense(2), 2)])
def test_init_wants_a_batch_and_a_wrong_example_is_refused(layer):
    """A model of layers that have no weights yet would take a vector for one example."""
    with pytest.raises(ValueError, match=r"2 axes \(batch, \.\.\., features\), received 1 axes"):
        layer.init(jax.random.key(0), jnp.ones(4))
    params, state = layer.init(jax.random.key(0), jnp.ones((1, 4)))
    with pytest.raises(ValueError, match="inputs of 4 features, received 3 in shape"):
        layer.apply(params, state, jnp.ones(3))


@pytest.mark.slow
@pytest.mark.parametrize("built", [False, True])
def test_a_model_refuses_an_example_without_its_batch(built):
    x, y = np.ones((8, 4), "float32"), np.ones((8, 1), "float32")
    model = fnn.Sequential([L.Dense(3, "relu"), L.Dense(1)])
    model.compile("sgd", "mse")
    if built:
        model.fit(x, y, verbose=0)
        with pytest.raises(ValueError, match=r"expected inputs of shape \(None, 4\).*received"):
            model.predict(x[0])
    with pytest.raises(ValueError, match=r"expected inputs of .*received"):
        model.fit(x[:4, 0], y[:4], verbose=0)
