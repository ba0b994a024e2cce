"""`compile(remat=...)`: layers by patterns are computed again in the backward pass."""

import jax
import numpy as np
import pytest
from jax._src.ad_checkpoint import saved_residuals

import fnn
from fnn.layers import Dense, Repeat, Residual
from fnn.training.step import make_loss
from tests.helpers.compiling import usual_jit

X = np.linspace(-1, 1, 2**15, dtype="float32").reshape(256, 128)


def block():
    return Residual(fnn.layers.Sequential([Dense(256, "tanh"), Dense(128, "tanh")]))


def network(wrap=lambda layer: layer):
    blocks = fnn.layers.Sequential([wrap(block()) for _ in range(2)], name="blocks")
    model = fnn.Sequential([blocks, Dense(1, name="head")], seed=0)
    model.build((None, 128))
    return model


def compiled(model, **options):
    model.compile(fnn.optimizers.SGD(0.05), "mse", **options)
    return model


def loss_and_batch(model):
    """The loss of training as a function of the weights that learn, for one batch."""
    arrays = {"x": X, "y": (X[:, :1],), "weight": ()}
    objective = model._program.resolve(arrays)
    loss = make_loss(model.layer, objective)
    now = model.train_state
    batch = arrays, np.ones(len(X), bool)
    return lambda params: loss(params, now, batch, jax.random.key(0))[0], now.params


def residual_bytes(model):
    """What the forward pass keeps for the backward pass, without the weights themselves."""
    kept = saved_residuals(*loss_and_batch(model))
    return sum(
        aval.size * aval.dtype.itemsize for aval, why in kept if "from the argument" not in str(why)
    )


def temporary_bytes_and_gradient(model):
    loss, params = loss_and_batch(model)
    program = usual_jit(jax.grad(loss)).lower(params).compile()
    return program.memory_analysis().temp_size_in_bytes, program(params)


@pytest.mark.slow
def test_less_is_kept_and_the_numbers_are_the_same():
    plain = compiled(network())
    again = compiled(network(), remat="blocks/**")
    by_layer = compiled(network(fnn.layers.Remat))
    # The values inside each block are gone, what stays is its input.
    assert residual_bytes(again) < 0.5 * residual_bytes(plain)
    assert residual_bytes(again) == residual_bytes(by_layer)
    losses = [
        model.fit(X, X[:, :1], batch_size=64, epochs=3, verbose=0).history["loss"]
        for model in (plain, again)
    ]
    np.testing.assert_allclose(*losses, rtol=1e-6)
    for a, b in zip(plain.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def programs_with_remat(model):
    loss, params = loss_and_batch(model)
    return str(jax.make_jaxpr(jax.grad(loss))(params)).count("remat")


@pytest.mark.slow
def test_the_outermost_layers_that_match_are_computed_again_once():
    counts = {
        pattern: programs_with_remat(compiled(network(), remat=pattern))
        for pattern in ("head", "blocks", "blocks/*", "blocks/**", "**/dense*", "blocks/residual_1")
    }
    one = counts["head"]
    assert one
    assert counts["blocks"] == counts["blocks/residual_1"] == one
    assert counts["blocks/*"] == counts["blocks/**"] == 2 * one
    assert counts["**/dense*"] == 4 * one
    # Inside `Remat` nothing is added.
    assert programs_with_remat(compiled(network(fnn.layers.Remat), remat="blocks/**")) == 2 * one
    assert programs_with_remat(compiled(network())) == 0


@pytest.mark.slow
def test_each_copy_in_repeat_is_computed_again():
    def model(**options):
        rows = [Repeat(block(), 6, name="blocks"), Dense(1, name="head")]
        made = fnn.Sequential(rows, seed=0)
        made.build((None, 128))
        return compiled(made, **options)

    plain, again = model(), model(remat=["blocks"])
    assert residual_bytes(again) < 0.5 * residual_bytes(plain)
    # (Of blocks that are not in a loop, XLA on CPU computes what is the same once, and keeps it.)
    (most, expected), (less, found) = map(temporary_bytes_and_gradient, (plain, again))
    assert less < 0.7 * most
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_dropout_batch_statistics_and_subclassed_models_stay_the_same():
    class Net(fnn.Model):
        def __init__(self):
            super().__init__(seed=0)
            self.first = fnn.layers.Sequential(
                [Dense(32, "relu"), fnn.layers.BatchNormalization(), fnn.layers.Dropout(0.5)]
            )
            self.head = Dense(1)

        def call(self, x):
            return self.head(self.first(x))

    runs = []
    for options in ({}, {"remat": ("first", "head")}):
        model = compiled(Net(), **options)
        losses = model.fit(X, X[:, :1], epochs=2, verbose=0).history["loss"]
        runs.append([np.array(losses), *model.get_weights()])
    for plain, again in zip(*runs, strict=True):
        np.testing.assert_allclose(plain, again, rtol=1e-5, atol=1e-6)


def test_a_pattern_that_matches_no_layer_is_an_error(tmp_path):
    model = compiled(network(), remat="block/**")
    with pytest.raises(
        ValueError, match=r"compile: expected remat to be patterns of layers.*blocks"
    ):
        model.fit(X, X[:, :1], verbose=0)
    with pytest.raises(ValueError, match="remat to be patterns of paths, received remat=3"):
        model.compile("sgd", "mse", remat=3)
    compiled(model, remat="blocks/**").save(tmp_path / "model.fnn")
    again = fnn.load(tmp_path / "model.fnn")
    assert again._program.arguments["remat"] == ("blocks/**",)
    assert again.get_compile_config()["remat"] == ["blocks/**"] or again.get_compile_config()[
        "remat"
    ] == ("blocks/**",)
