"""`compile(objective=f)`: a pure function of the user's in place of losses, against optax loops."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn.layers import BatchNormalization, Dense

X = np.linspace(-1, 1, 80, dtype="float32").reshape(20, 4)
Y = X[:, :1] ** 2


def network(**options):
    rows = [Dense(8, "tanh", input_shape=(4,)), Dense(1)]
    return fnn.Sequential(rows, seed=0, **options)


@fnn.register
def smooth_fit(apply, params, state, batch, ctx):
    """A squared error, and the squared gradient by the inputs, as for an equation of physics."""
    x, y = batch
    outputs, state = apply(params, state, x)
    value = lambda point: apply(params, state, point[None])[0].sum()
    slope = jnp.square(jax.vmap(jax.grad(value))(x)).mean()
    error = jnp.square(outputs - y).mean()
    return error + 0.1 * slope, (state, {"error": error, "slope": slope})


def optax_loop(model, objective, batches, transform):
    """Losses and params of a hand-written loop over the batches."""
    params, state = model.params, model.state
    network = model.layer

    def loss_of(params, state, batch):
        ctx = fnn.Context(train=True, key=jax.random.key(0))
        apply = lambda params, state, x: network.apply(params, state, x, ctx)
        return objective(apply, params, state, batch, ctx)

    @jax.jit
    def step(params, state, moments, batch):
        (loss, (state, _)), grads = jax.value_and_grad(loss_of, has_aux=True)(params, state, batch)
        updates, moments = transform.update(grads, moments, params)
        return optax.apply_updates(params, updates), state, moments, loss

    moments, losses = transform.init(params), []
    for batch in batches:
        params, state, moments, loss = step(params, state, moments, batch)
        losses.append(float(loss))
    return losses, params, state


@pytest.mark.slow
def test_training_is_that_of_a_hand_written_loop():
    model = network()
    # 20 examples in batches of 8: the last one is smaller, and its mean is over its own.
    parts = [slice(0, 8), slice(8, 16), slice(16, 20)]
    batches = [(X[part], Y[part]) for part in parts] * 3
    losses, params, _ = optax_loop(model, smooth_fit, batches, optax.sgd(0.1, 0.9))
    model.compile(optax.sgd(0.1, 0.9), objective=smooth_fit)
    history = model.fit(X, Y, batch_size=8, epochs=3, shuffle=False, verbose=0)
    sizes = np.array([8, 8, 4]) / 20
    expected = (np.reshape(losses, (3, 3)) * sizes).sum(1)
    np.testing.assert_allclose(history.history["loss"], expected, rtol=1e-6, atol=1e-6)
    for a, b in zip(jax.tree.leaves(model.params), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
    assert set(history.history) == {"loss", "error", "slope"}


@pytest.mark.slow
def test_evaluate_validation_callbacks_and_batches_have_its_logs():
    model = network()
    model.compile("sgd", objective=smooth_fit)
    plain = lambda params: smooth_fit(model.layer.apply, params, {}, (X, Y), None)
    _, (_, logs) = jax.jit(plain)(model.params)
    found = model.evaluate(X, Y, batch_size=8, verbose=0, return_dict=True)
    np.testing.assert_allclose(found["error"], logs["error"], rtol=1e-5)
    np.testing.assert_allclose(found["loss"], logs["error"] + 0.1 * logs["slope"], rtol=1e-5)
    np.testing.assert_allclose(model.test_on_batch(X, Y, return_dict=True)["loss"], found["loss"])
    stop = fnn.callbacks.EarlyStopping("val_error", mode="min", patience=1)
    history = model.fit(X, Y, validation_split=0.2, epochs=9, callbacks=[stop], verbose=0).history
    assert len(history["val_error"]) < 9
    before = model.get_weights()[0]
    assert set(model.train_on_batch(X, Y, return_dict=True)) == {"loss", "error", "slope"}
    assert np.any(model.get_weights()[0] != before)


@pytest.mark.slow
def test_gradients_accumulate_over_batches_as_of_one():
    """With another number of examples in the last one."""
    models = []
    for size, steps in ((20, None), (8, 3)):
        model = network()
        optimizer = fnn.optimizers.SGD(0.1, gradient_accumulation_steps=steps)
        model.compile(optimizer, objective=smooth_fit)
        model.fit(X, Y, batch_size=size, epochs=2, shuffle=False, verbose=0)
        models.append(model)
    for a, b in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_it_is_saved_by_name_and_resumes(tmp_path):
    def run(epochs, **options):
        model = network()
        model.compile("adam", objective=smooth_fit)
        model.fit(X, Y, batch_size=10, epochs=epochs, verbose=0, **options)
        return model

    whole = run(3)
    run(1, checkpoint=tmp_path / "run")
    resumed = run(3, checkpoint=tmp_path / "run", resume=True)
    for a, b in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    for name in ("model.fnn", "model.keras"):
        whole.save(tmp_path / name)
        again = fnn.load(tmp_path / name)
        loss = again.evaluate(X, Y, verbose=0, return_dict=True)["loss"]
        assert loss == whole.evaluate(X, Y, verbose=0, return_dict=True)["loss"]


def autoencoder(apply, params, state, batch, ctx):
    outputs, state = apply(params, state, batch)
    noise = jax.random.normal(ctx.random_key("noise"), outputs.shape) if ctx.train else 0.0
    return jnp.square(outputs + 0.1 * noise - batch).mean(), (state, {})


def contrast(apply, params, state, batch, ctx):
    """Each view is to be nearer to the other view of its example than to those of others."""
    (first, state), (second, state) = (apply(params, state, batch[name]) for name in ("a", "b"))
    scores = first @ second.T
    labels = jnp.arange(len(scores))
    loss = optax.softmax_cross_entropy_with_integer_labels(scores, labels).mean()
    return loss, (state, {"hits": (scores.argmax(1) == labels).mean()})


@pytest.mark.slow
def test_batches_have_the_structure_that_fit_was_given():
    model = fnn.Sequential([Dense(3, input_shape=(4,)), BatchNormalization(), Dense(4)], seed=0)
    model.compile("adam", objective=autoencoder)
    losses = model.fit(X, batch_size=5, epochs=20, verbose=0).history["loss"]
    assert losses[-1] < 0.9 * losses[0]
    assert np.any(model.get_weights()[4])  # the moving mean: the state is kept
    model.compile("adam", objective=contrast)
    views = {"a": X, "b": X + 0.01}
    history = model.fit(views, batch_size=10, epochs=2, verbose=0).history
    assert set(history) == {"loss", "hits"}

    def stream():
        for start in (0, 8, 16):
            yield {name: view[start : start + 8] for name, view in views.items()}

    # The last batch is smaller here, too.
    streamed = model.evaluate(stream, verbose=0)
    assert streamed == pytest.approx(model.evaluate(views, batch_size=8, verbose=0), rel=1e-5)


@pytest.mark.slow
def test_penalties_of_layers_are_added_and_remat_changes_nothing():
    def run(**options):
        model = fnn.Sequential(
            [Dense(8, input_shape=(4,), kernel_regularizer="l2"), Dense(1)], seed=0
        )
        model.compile("sgd", objective=smooth_fit, **options)
        return model, model.fit(X, Y, verbose=0).history["loss"][0]

    plain, loss = run()
    assert run(remat="dense")[1] == pytest.approx(loss, rel=1e-6)
    logs = plain.evaluate(X, Y, verbose=0, return_dict=True)
    penalty = 0.01 * np.square(plain.get_weights()[0]).sum()
    np.testing.assert_allclose(
        logs["loss"], logs["error"] + 0.1 * logs["slope"] + penalty, rtol=1e-5
    )


def returning(result):
    def objective(apply, params, state, batch, ctx):
        outputs, state = apply(params, state, batch)
        return result(outputs.mean(), state)

    return objective


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (lambda loss, state: loss, "must return .loss, .state, logs.*, but returned"),
        (lambda loss, state: (loss[None], (state, {})), "one number as the loss.*shape .1,"),
        (lambda loss, state: (loss, ({"a": 1}, {})), "a state like the one it was passed"),
        (lambda loss, state: (loss, (state, {"x": loss[None]})), "logs as a dict of numbers"),
    ],
)
def test_what_it_must_return_is_said(result, message):
    model = network()
    model.compile("sgd", objective=returning(result))
    with pytest.raises((TypeError, ValueError), match=message):
        model.fit(X, verbose=0)


def test_arguments_that_do_not_go_together_are_refused():
    model = network()
    with pytest.raises(ValueError, match="compile: expected objective without loss, metrics"):
        model.compile("sgd", "mse", metrics=["mae"], objective=smooth_fit)
    with pytest.raises(TypeError, match="expected objective to be a function, received 3; write f"):
        model.compile("sgd", objective=3)

    class Own(fnn.Model):
        def train_step(self, state, data):
            return {}, state

    own = Own(network().layer)
    with pytest.raises(
        ValueError, match=r"Own computes its training step itself.*objective=\.\.\."
    ):
        own.compile("sgd", objective=smooth_fit)
