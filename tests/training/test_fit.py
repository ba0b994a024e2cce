"""fit, evaluate and predict as Keras has them: arguments, results, order of events."""

import json

import jax.numpy as jnp
import keras
import numpy as np
import pytest

import fnn
from fnn.layers import Add, Concatenate, Dense, Dropout
from tests.helpers.oracle import keras_rules


def task(rows=100, seed=0):
    x = np.random.default_rng(seed).normal(size=(rows, 4)).astype("float32")
    return x, x.sum(axis=1, keepdims=True)


def model(**compiled):
    net = fnn.Sequential([Dense(3, "tanh", input_shape=(4,)), Dense(1)], seed=0)
    net.compile(**{"optimizer": "adam", "loss": "mse", "metrics": ["mae"], **compiled})
    return net


class Events(fnn.callbacks.Callback):
    """Writes down what happens, in order."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __getattribute__(self, name):
        if not name.startswith("on_"):
            return object.__getattribute__(self, name)
        return lambda *arguments: self.seen.append(
            (name, *[a for a in arguments if not isinstance(a, dict)])
        )


@pytest.mark.slow
def test_events_come_in_the_order_of_keras():
    x, y = task(64)
    ours = Events()
    ours.__class__ = type(
        "Watching", (Events,), {"on_train_batch_end": None, "on_test_batch_end": None}
    )
    held = {"validation_data": (x[:40], y[:40])}
    model().fit(x, y, epochs=2, batch_size=32, callbacks=[ours], verbose=0, **held)

    class Theirs(keras.callbacks.Callback):
        seen = []

    for name in dir(keras.callbacks.Callback):
        if name.startswith("on_"):
            setattr(
                Theirs,
                name,
                lambda self, *a, name=name, **k: self.seen.append(
                    (
                        name,
                        *[
                            v
                            for v in (*a, *k.values())
                            if not isinstance(v, dict) and v is not None
                        ],
                    )
                ),
            )
    with keras_rules():
        other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        other.compile("adam", "mse")
        other.fit(x, y, epochs=2, batch_size=32, callbacks=[Theirs()], verbose=0, **held)
    seen = [event for event in ours.seen if event[0] != "on_epoch_recorded"]  # Keras has no such
    assert seen == Theirs.seen


def test_history_has_keras_keys_in_keras_order():
    history = model().fit(*task(), epochs=3, validation_data=task(20), verbose=0)
    assert list(history.history) == ["loss", "mae", "val_loss", "val_mae"]
    assert history.epoch == [0, 1, 2]
    assert history.params == {"verbose": 0, "epochs": 3, "steps": 4}
    assert all(len(values) == 3 for values in history.history.values())


def test_epochs_is_the_last_one_and_validation_may_be_rare():
    history = model().fit(
        *task(), initial_epoch=2, epochs=6, validation_data=task(20), validation_freq=2, verbose=0
    )
    assert history.epoch == [2, 3, 4, 5]
    assert len(history.history["val_loss"]) == 2
    at = model().fit(*task(), epochs=3, validation_data=task(9), validation_freq=[3], verbose=0)
    assert len(at.history["val_loss"]) == 1


@pytest.mark.slow
def test_training_equals_keras_step_by_step():
    x, y = task()
    ours = model(optimizer=fnn.optimizers.SGD(0.1))
    with keras_rules():
        theirs = keras.Sequential(
            [keras.Input((4,)), keras.layers.Dense(3, "tanh"), keras.layers.Dense(1)]
        )
        theirs.compile(keras.optimizers.SGD(0.1), "mse", metrics=["mae"])
        theirs.set_weights(ours.get_weights())
        expected = theirs.fit(
            x, y, epochs=3, batch_size=32, shuffle=False, validation_split=0.2, verbose=0
        )
        history = ours.fit(
            x, y, epochs=3, batch_size=32, shuffle=False, validation_split=0.2, verbose=0
        )
        assert list(history.history) == list(expected.history)
        for name, values in expected.history.items():
            np.testing.assert_allclose(history.history[name], values, rtol=1e-5)
        for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(
            ours.evaluate(x, y, verbose=0), theirs.evaluate(x, y, verbose=0), rtol=1e-5
        )
        batch = ours.train_on_batch(x, y), theirs.train_on_batch(x, y)
        np.testing.assert_allclose(*batch, rtol=1e-5)
        np.testing.assert_allclose(
            ours.predict(x, verbose=0), theirs.predict(x, verbose=0), rtol=1e-5, atol=1e-6
        )


def two_heads(library):
    x = library.Input((4,), name="x")
    h = library.layers.Dense(5, "relu", name="h")(x)
    return library.Model(
        x,
        [
            library.layers.Dense(1, "sigmoid", name="p")(h),
            library.layers.Dense(3, "softmax", name="q")(h),
        ],
    )


LOSSES = {"p": "binary_crossentropy", "q": "sparse_categorical_crossentropy"}
METRICS = {"p": ["accuracy", "mse"], "q": ["accuracy"]}
WEIGHTS = {"p": 1.0, "q": 0.3}
HEADS = {"p": (task()[0][:, :1] > 0).astype("float32"), "q": np.arange(100) % 3}


@pytest.fixture(scope="module")
def two_heads_of_keras():
    """The weights it starts with, and what Keras makes of it."""
    x, _ = task()
    with keras_rules():
        model = two_heads(keras)
        model.compile(keras.optimizers.SGD(0.1), LOSSES, WEIGHTS, METRICS)
        start = model.get_weights()
        flipped = dict(reversed(HEADS.items()))
        history = model.fit(x, flipped, epochs=2, shuffle=False, verbose=0).history
        return start, history, model.evaluate(x, HEADS, verbose=0), model.predict(x, verbose=0)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["dict", "list"])
def test_several_outputs_equal_keras(form, two_heads_of_keras):
    (x, _), given = task(), (LOSSES, WEIGHTS, METRICS)
    start, expected, results, outputs = two_heads_of_keras
    y, flipped = HEADS, dict(reversed(HEADS.items()))
    if form == "list":
        *given, y = (list(d.values()) for d in (*given, HEADS))
        flipped = y
    ours = two_heads(fnn)
    ours.set_weights(start)
    ours.compile(fnn.optimizers.SGD(0.1), *given)
    found = ours.fit(x, flipped, epochs=2, shuffle=False, verbose=0).history
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(ours.evaluate(x, y, verbose=0), results, rtol=1e-5)
    for a, b in zip(ours.predict(x, verbose=0), outputs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_dicts_go_by_key_whatever_their_order():
    a, b = fnn.Input((4,), name="a"), fnn.Input((2,), name="b")
    net = fnn.Model(
        {"a": a, "b": b}, {"two": Dense(2)(a), "one": Dense(1)(Concatenate()([a, b]))}, seed=0
    )
    net.compile("sgd", {"one": "mse", "two": "mae"})
    data = {"a": task()[0], "b": task()[0][:, :2]}
    y = {"one": np.ones((100, 1)), "two": np.zeros((100, 2))}
    flipped = dict(reversed(data.items())), dict(reversed(y.items()))
    assert net.evaluate(data, y, verbose=0) == net.evaluate(*flipped, verbose=0)
    assert net.predict(flipped[0], verbose=0)["two"].shape == (100, 2)
    with pytest.raises(ValueError, match="expected targets for the output 'two'"):
        net.fit(data, {"one": y["one"]}, verbose=0)


def test_a_shared_layer_has_one_set_of_weights():
    a, b = fnn.Input((4,)), fnn.Input((4,))
    shared = Dense(3)
    net = fnn.Model([a, b], Add()([shared(a), shared(b)]), seed=0)
    assert [w.shape for w in net.get_weights()] == [(4, 3), (3,)]
    x = task(5)[0]
    kernel, bias = net.get_weights()
    np.testing.assert_allclose(
        net.predict([x, 2 * x], verbose=0), 3 * x @ kernel + 2 * bias, rtol=1e-5, atol=1e-6
    )


def test_a_model_in_a_model_brings_its_weights_along():
    base = model()
    base.fit(*task(), verbose=0)
    outer = fnn.Sequential([base, Dense(2)], seed=1)
    x = fnn.Input((4,))
    graph = fnn.Model(x, Dense(2)(base(x)), seed=1)
    wrapped = fnn.Model(fnn.layers.Frozen(base))
    wrapped.build((None, 4))
    for other in (outer, graph, wrapped):
        for mine, theirs in zip(base.get_weights(), other.get_weights(), strict=False):
            np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(
        wrapped.predict(task()[0], verbose=0), base.predict(task()[0], verbose=0)
    )
    again = fnn.Sequential([outer, Dense(1)])
    np.testing.assert_array_equal(again.get_weights()[0], outer.get_weights()[0])


@pytest.mark.slow
def test_fixed_weights_stay_and_have_no_slots():
    base = fnn.Sequential([Dense(3, input_shape=(4,))], seed=0)
    base.trainable = False
    net = fnn.Sequential([base, Dense(1)], seed=1)
    net.compile("adam", "mse")
    before = net.get_weights()
    net.fit(*task(), verbose=0)
    same = [np.array_equal(a, b) for a, b in zip(before, net.get_weights(), strict=True)]
    assert same == [True, True, False, False]
    import jax

    shapes = {leaf.shape for leaf in jax.tree.leaves(net.train_state.optimizer) if leaf.ndim == 2}
    assert shapes == {(3, 1)}


@pytest.mark.slow
def test_regularizers_and_constraints_as_in_keras():
    x, y = task()

    def make(library):
        net = library.Sequential(
            [
                library.Input((4,)),
                library.layers.Dense(
                    3,
                    kernel_regularizer="l2",
                    activity_regularizer=library.regularizers.L1(0.02),
                    kernel_constraint=library.constraints.MaxNorm(0.5),
                ),
                library.layers.Dense(1, bias_regularizer="l1"),
            ]
        )
        net.compile(library.optimizers.SGD(0.1), "mse")
        return net

    with keras_rules():
        ours, theirs = make(fnn), make(keras)
        ours.set_weights(theirs.get_weights())
        # Rows are weighted alike in both only if the batches are full.
        found = ours.fit(x, y, batch_size=25, epochs=2, shuffle=False, verbose=0).history["loss"]
        expected = theirs.fit(x, y, batch_size=25, epochs=2, shuffle=False, verbose=0).history[
            "loss"
        ]
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_weighted_metrics_and_masks_of_names():
    x, y = task()
    net = model(metrics=["mae"], weighted_metrics=["mae"])
    weights = np.linspace(0, 1, 100)
    logs = net.evaluate(x, y, sample_weight=weights, verbose=0, return_dict=True)
    error = np.abs(net.predict(x, verbose=0) - y)[:, 0]
    assert logs["mae"] == pytest.approx(error.mean(), rel=1e-5)
    assert logs["weighted_mae"] == pytest.approx((error * weights).sum() / weights.sum(), rel=1e-5)


def test_early_stopping_restores_the_best_weights():
    seen = []

    class Remember(fnn.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["val_loss"] = [3.0, 1.0, 2.0, 2.0, 0.0][epoch]
            seen.append(self.model.get_weights())

    stop = fnn.callbacks.EarlyStopping(patience=2, restore_best_weights=True)
    net = model()
    history = net.fit(*task(), epochs=5, callbacks=[Remember(), stop], verbose=0)
    assert history.epoch == [0, 1, 2, 3]
    assert history.history["val_loss"] == [3.0, 1.0, 2.0, 2.0]
    for now, best in zip(net.get_weights(), seen[1], strict=True):
        np.testing.assert_array_equal(now, best)


def test_early_stopping_names_the_logs_there_are():
    with pytest.raises(ValueError, match=r"val_acc.*\['loss', 'mae'\]"):
        model().fit(*task(), callbacks=[fnn.callbacks.EarlyStopping("val_acc")], verbose=0)


@pytest.mark.slow
def test_a_callback_sees_and_sets_the_weights_of_its_step():
    steps = []

    class Zero(fnn.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            steps.append(int(self.model.train_state.step))
            if batch == 2:
                self.model.set_weights([np.zeros_like(w) for w in self.model.get_weights()])
            if batch == 3:  # one step of gradient descent away from zero, no further
                self.kernel = self.model.get_weights()[0]

    watch = Zero()
    model(optimizer=fnn.optimizers.SGD(0.01)).fit(*task(), callbacks=[watch], verbose=0)
    assert steps == [1, 2, 3, 4]
    np.testing.assert_array_equal(watch.kernel, 0)  # the gradient there is 0: the last layer is 0


@pytest.mark.parametrize(
    "hook", ["on_train_begin", "on_epoch_begin", "on_train_batch_end", "on_epoch_end"]
)
def test_a_failing_callback_leaves_a_model_and_the_others_are_told(hook):
    ended = []

    def fail(*_):
        raise ZeroDivisionError

    others = fnn.callbacks.LambdaCallback(on_train_end=lambda logs: ended.append(True))
    failing = fnn.callbacks.LambdaCallback(**{hook: fail})
    net = model()
    with pytest.raises(ZeroDivisionError):
        net.fit(*task(), callbacks=[others, failing], verbose=0)
    assert np.isfinite(net.predict(task()[0], verbose=0)).all()
    net.fit(*task(), verbose=0)
    assert ended == [True]


def test_a_second_training_at_the_same_time_is_refused():
    class Again(fnn.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.fit(*task(), verbose=0)

    with pytest.raises(RuntimeError, match="already training"):
        model().fit(*task(), callbacks=[Again()], verbose=0)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["generator", "callable", "sequence", "iterable"])
def test_streams_train_like_arrays(form):
    x, y = task()
    parts = [(x[i : i + 32], y[i : i + 32]) for i in range(0, 100, 32)]
    source = {
        "generator": (part for part in parts),
        "callable": lambda: iter(parts),
        "sequence": type(
            "Parts", (), {"__len__": lambda _: 4, "__getitem__": lambda _, i: parts[i]}
        )(),
        "iterable": type("Parts", (), {"__iter__": lambda _: iter(parts)})(),
    }[form]
    epochs = 1 if form == "generator" else 3
    plain, streamed = model(), model()
    expected = plain.fit(x, y, epochs=epochs, shuffle=False, verbose=0).history
    found = streamed.fit(source, epochs=epochs, verbose=0).history
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-6)
    for a, b in zip(plain.get_weights(), streamed.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
    if form != "generator":
        assert streamed.evaluate(source, verbose=0)[0] == pytest.approx(
            plain.evaluate(x, y, verbose=0)[0], rel=1e-5
        )


def test_a_stream_may_use_its_buffer_again():
    x, y = task(96)
    buffers = np.empty((32, 4), "float32"), np.empty((32, 1), "float32")

    def batches():
        for first in range(0, 96, 32):
            buffers[0][:], buffers[1][:] = x[first : first + 32], y[first : first + 32]
            yield buffers

    plain, reused = model(), model()
    plain.fit(x, y, epochs=4, shuffle=False, verbose=0)
    reused.fit(batches, epochs=4, verbose=0)
    for a, b in zip(plain.get_weights(), reused.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_iterator_that_ends_is_not_trained_on_twice():
    x, y = task()
    with pytest.raises(ValueError, match=r"starts again for 3 epochs.*iterator"):
        model().fit(iter([(x, y)]), epochs=3, verbose=0)
    net = model()
    with pytest.raises(ValueError, match="expected 5 batches in a pass, received 3"):
        net.fit(iter([(x[:32], y[:32])] * 3), steps_per_epoch=5, verbose=0)
    assert int(net.train_state.step) in (0, 3)  # the batches that came were trained on, or none
    with pytest.raises(ValueError, match="empty stream"):
        model().fit(iter([]), verbose=0)


@pytest.mark.slow
def test_steps_per_epoch_goes_on_where_the_last_epoch_ended():
    taken = []

    def batches():
        for number in range(100):
            taken.append(number)
            yield task(32)

    net = model()
    net.fit(batches(), epochs=3, steps_per_epoch=4, verbose=0)
    assert int(net.train_state.step) == 12
    assert len(taken) == 12


def test_steps_per_epoch_over_arrays_goes_on_where_the_last_epoch_ended():
    x, y = task()
    plain, stepped = model(), model()
    plain.fit(x, y, epochs=2, shuffle=False, verbose=0)  # 8 batches in all
    history = stepped.fit(
        x, y, epochs=4, steps_per_epoch=2, batch_size=32, shuffle=False, verbose=0
    )
    for a, b in zip(plain.get_weights(), stepped.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(history.epoch) == 4


def test_an_error_in_a_stream_comes_out_with_the_batch_and_the_steps_before_count():
    def batches():
        yield task(8)
        yield task(8)
        raise OSError("the disk is gone")

    net = model()
    with pytest.raises(OSError, match="the disk is gone"):
        net.fit(batches(), verbose=0)
    assert np.isfinite(net.predict(task()[0], verbose=0)).all()

    def odd():
        yield task(8)
        yield task(8)[0][:, :3], task(8)[1]

    with pytest.raises(ValueError, match="expected") as caught:
        net.fit(odd(), verbose=0)
    assert any("batch 1" in note for note in [str(caught.value), *caught.value.__notes__])


def test_predict_and_evaluate_take_streams():
    x, _ = task(70)
    net = model()
    batches = lambda: iter([x[:32], x[32:64], x[64:]])
    np.testing.assert_allclose(
        net.predict(batches, verbose=0), net.predict(x, verbose=0), atol=1e-6
    )


@pytest.mark.slow
def test_numbers_that_are_not_finite_stop_before_their_step():
    x, y = task()
    net = model(optimizer=fnn.optimizers.SGD(1e30))
    with pytest.raises(fnn.training.TrainingError, match="at step 1, first in the loss") as caught:
        net.fit(x, y, epochs=3, verbose=0)
    assert "not finite" in str(caught.value) or "NaN or infinity" in str(caught.value)
    assert int(net.train_state.step) == 1
    assert all(np.isfinite(w).all() for w in net.get_weights())
    net.learning_rate = 1e-3
    net.set_weights(model().get_weights())
    net.fit(x, y, verbose=0)


@pytest.mark.slow
def test_a_gradient_that_is_not_finite_stops_too():
    class Root(fnn.Layer):
        def apply(self, params, state, x, ctx=fnn.INFERENCE):
            import jax.numpy as jnp

            return jnp.sqrt(x - x[:1]), state  # finite, with an infinite slope at 0

    net = fnn.Sequential([Dense(1, input_shape=(4,)), Root()], seed=0)
    net.compile("sgd", "mse", guard="raise")
    with pytest.raises(fnn.training.TrainingError):
        net.fit(np.zeros((4, 4)), np.zeros((4, 1)), verbose=0)
    assert all(np.isfinite(w).all() for w in net.get_weights())


def test_weights_that_the_user_holds_never_die():
    net = model()
    held = net.params
    net.fit(*task(), epochs=2, verbose=0)
    net.evaluate(*task(), verbose=0)
    assert np.isfinite(np.asarray(held["dense"]["kernel"])).all()


def test_data_changed_after_fit_started_is_not_seen():
    x, y = task()
    plain, changed = model(), model()
    plain.fit(x, y, epochs=2, verbose=0)
    copy = x.copy()
    spoil = fnn.callbacks.LambdaCallback(on_train_begin=lambda logs: copy.fill(1e3))
    changed.fit(copy, y, epochs=2, callbacks=[spoil], verbose=0)
    for a, b in zip(plain.get_weights(), changed.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", ["readonly", "fortran", "strided", "big-endian", "memmap", "list"])
def test_any_array_in_memory_will_do(kind, tmp_path):
    x, y = task()
    if kind == "memmap":
        other = np.memmap(tmp_path / "x", "float32", "w+", shape=x.shape)
        other[:] = x
    else:
        other = {
            "readonly": x.copy(),
            "fortran": np.asfortranarray(x),
            "strided": np.repeat(x, 2, axis=0)[::2],
            "big-endian": x.astype(">f4"),
            "list": x.tolist(),
        }[kind]
    if kind == "readonly":
        other.flags.writeable = False
    nets = model(), model()
    for net, data in zip(nets, (x, other), strict=True):
        net.fit(data, y, verbose=0)
    for a, b in zip(nets[0].get_weights(), nets[1].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_random_state_of_python_and_numpy_is_left_alone():
    import random

    random.seed(1)
    np.random.seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist()
    fnn.set_seed(3)
    net = fnn.Sequential([Dense(3, input_shape=(4,)), Dropout(0.5), Dense(1)])
    net.compile("adam", "mse")
    net.fit(*task(), verbose=0)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


def test_add_and_pop_layers():
    net = fnn.Sequential(seed=0)
    net.add(fnn.Input((4,)))
    net.add(Dense(3))
    net.add(Dense(1))
    assert net.output_shape == (None, 1)
    net.pop()
    assert net.output_shape == (None, 3)
    assert [type(layer).__name__ for layer in net.layers] == ["Dense"]
    assert net.get_layer("dense") == Dense(3) == net.get_layer(index=0)
    with pytest.raises(ValueError, match=r"\['dense'\].*other"):
        net.get_layer("other")
    with pytest.raises(ValueError, match="received an empty one"):
        fnn.Sequential().pop()


def test_set_weights_is_all_or_nothing():
    net = model()
    before = net.get_weights()
    with pytest.raises(ValueError, match=r"dense/kernel: expected \(4, 3\), received \(3, 4\)"):
        net.set_weights([before[0].T, *before[1:]])
    with pytest.raises(ValueError, match="expected 4 arrays"):
        net.set_weights(before[:2])
    with pytest.raises(ValueError, match="dense/bias: missing"):
        net.params = {"dense": {"kernel": before[0]}, "dense_1": net.params["dense_1"]}
    for a, b in zip(before, net.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_weights_are_none_before_a_shape_is_known():
    assert fnn.Sequential([Dense(1)]).get_weights() == []


def test_eight_threads_may_predict_at_once():
    import threading

    net, x = model(), task()[0]
    expected, found = net.predict(x, verbose=0), [None] * 8

    def work(i):
        for _ in range(5):
            found[i] = net.predict(x, verbose=0)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for result in found:
        np.testing.assert_array_equal(result, expected)


@pytest.mark.slow
def test_the_first_number_that_is_not_finite_is_located():
    class Blow(fnn.Layer):
        def apply(self, params, state, x, ctx=fnn.INFERENCE):
            return x / 0.0 if ctx.train else x, state

    inner = fnn.layers.Sequential([Dense(3), Blow(name="blow")], name="inner")
    net = fnn.Sequential([Dense(2, input_shape=(4,)), inner, Dense(1)], seed=0)
    net.compile("sgd", "mse")
    with pytest.raises(
        fnn.training.TrainingError, match="first in the outputs of layer inner/blow"
    ):
        net.fit(*task(), verbose=0)


@pytest.fixture
def donating(monkeypatch):
    from fnn.training import engine

    engine._cached_program.cache_clear()
    monkeypatch.setattr(engine, "DONATED_BYTES", 0)
    yield
    engine._cached_program.cache_clear()


@pytest.mark.slow
def test_large_states_are_donated_with_the_same_results(donating):
    nets = model(), model()
    held = nets[0].params
    best = fnn.callbacks.EarlyStopping("loss", restore_best_weights=True, patience=9)
    nets[0].fit(*task(), epochs=4, callbacks=[best], verbose=0)
    watch = fnn.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None)
    nets[1].fit(*task(), epochs=4, callbacks=[watch], verbose=0)  # batch by batch: not donated
    for a, b in zip(nets[0].get_weights(), nets[1].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.isfinite(np.asarray(held["dense"]["kernel"])).all()


class Fails(fnn.Layer):
    """Raises on the host, in the middle of a compiled step, at the second epoch."""

    masking = "pass"
    calls = []

    def apply(self, params, state, x, ctx=fnn.INFERENCE):
        import jax

        def host(value):
            self.calls.append(1)
            if len(self.calls) > 6:
                raise OSError("no such sensor")
            return value

        if not ctx.train:
            return x, state
        same = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return x + jax.lax.stop_gradient(
            jax.pure_callback(host, same, jax.lax.stop_gradient(x))
        ), state


@pytest.mark.slow
@pytest.mark.parametrize("donated", [False, True])
def test_an_error_on_the_device_leaves_the_weights_of_before(donated, request):
    if donated:
        request.getfixturevalue("donating")
    Fails.calls.clear()
    net = fnn.Sequential([Dense(3, input_shape=(4,)), Fails(), Dense(1)], seed=0)
    net.compile("adam", "mse")
    seen = []
    remember = fnn.callbacks.LambdaCallback(
        on_epoch_end=lambda e, logs: seen.append(net.get_weights())
    )
    with pytest.raises(Exception, match="no such sensor") as caught:
        net.fit(*task(), epochs=3, callbacks=[remember], verbose=0)
    assert "the model is as it was" in "".join(caught.value.__notes__)
    assert np.isfinite(net.predict(task()[0], verbose=0)).all()
    if donated:
        for a, b in zip(net.get_weights(), seen[-1], strict=True):
            np.testing.assert_array_equal(a, b)
    Fails.calls.clear()
    net.fit(task()[0][:32], task()[1][:32], verbose=0)


@pytest.mark.slow
def test_penalties_of_recurrent_weights_and_of_several_outputs_as_in_keras():
    x = np.random.default_rng(0).normal(size=(20, 5, 3)).astype("float32")

    def make(library):
        inputs = library.Input((5, 3))
        lstm = library.layers.LSTM(
            2, recurrent_regularizer="l2", activity_regularizer="l1", return_state=True
        )
        y, h, _ = lstm(inputs)
        outputs = library.layers.Dense(1)(library.layers.Concatenate()([y, h]))
        net = library.Model(inputs, outputs)
        net.compile("sgd", "mse")
        return net

    with keras_rules():
        ours, theirs = make(fnn), make(keras)
        ours.set_weights(theirs.get_weights())
        found = ours.evaluate(x, np.zeros((20, 1)), batch_size=20, verbose=0)
        expected = theirs.evaluate(x, np.zeros((20, 1)), batch_size=20, verbose=0)
    assert found == pytest.approx(expected, rel=1e-5)


class Parts:
    """Four batches with a length, and a count of the passes that came to their end."""

    ends = 0

    def __len__(self):
        return 4

    def __getitem__(self, index):
        x, y = task(128)
        return x[index * 32 : (index + 1) * 32], y[index * 32 : (index + 1) * 32]

    def on_epoch_end(self):
        self.ends += 1


@pytest.mark.slow
def test_validation_on_a_stream_sees_the_same_rows_every_epoch():
    parts, (x, y) = Parts(), task(128)
    streamed, plain = model(), model()
    found = streamed.fit(parts, epochs=4, validation_data=parts, verbose=0).history
    expected = plain.fit(x, y, epochs=4, shuffle=False, validation_data=(x, y), verbose=0).history
    np.testing.assert_allclose(found["val_loss"], expected["val_loss"], rtol=1e-6)
    assert parts.ends == 8
    some = (
        model().fit(parts, epochs=3, validation_data=parts, validation_steps=2, verbose=0).history
    )
    first = model().fit(x, y, epochs=3, shuffle=False, validation_data=(x[:64], y[:64]), verbose=0)
    np.testing.assert_allclose(some["val_loss"], first.history["val_loss"], rtol=1e-6)


def test_as_many_steps_as_there_are_batches_start_over_each_epoch():
    given = model().fit(Parts(), epochs=3, steps_per_epoch=4, verbose=0).history
    known = model().fit(Parts(), epochs=3, verbose=0).history
    np.testing.assert_array_equal(given["loss"], known["loss"])


@pytest.mark.slow
def test_a_second_ctrl_c_leaves_a_model_whose_state_was_given_away(donating, monkeypatch):
    from fnn.training import cost, engine

    net, plain = model(), model()
    for one in (net, plain):
        one.fit(*task(), epochs=1, shuffle=False, verbose=0)
    waits, wait = [], fnn.training.trainer.Trainer._settle

    def interrupted(self, ahead):
        waits.append(ahead)
        if len(waits) > 1:  # the first step is committed, the second has its state
            raise KeyboardInterrupt
        wait(self, 0)

    engine._cached_program.cache_clear()
    monkeypatch.setattr(cost, "STEPS_PER_DISPATCH", 1)
    monkeypatch.setattr(fnn.training.trainer.Trainer, "_settle", interrupted)
    before = int(net.train_state.step)
    with pytest.raises(KeyboardInterrupt):
        net.fit(*task(), epochs=1, shuffle=False, verbose=0)
    monkeypatch.undo()
    assert int(net.train_state.step) - before == 2
    plain.fit(*(a[:64] for a in task()), epochs=1, shuffle=False, verbose=0)
    for a, b in zip(plain.get_weights(), net.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    net.fit(*task(), epochs=1, verbose=0)


@pytest.mark.slow
@pytest.mark.parametrize("number", [np.int32, np.uint8, np.bool_])
def test_a_batch_of_integers_among_floats_is_cast_where_nothing_is_lost(number):
    x, y = task(64)
    x = np.round(np.abs(x)).clip(0, 1).astype("float32")

    def stream():
        yield x[:32], y[:32]
        yield x[32:].astype(number), y[32:]

    net, plain = model(), model()
    net.fit(stream, verbose=0)
    plain.fit(x, y, shuffle=False, verbose=0)
    for a, b in zip(net.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)

    def fractions_last():
        yield x[:32].astype("int32"), y[:32]
        yield x[32:] + 0.5, y[32:]

    with pytest.raises(ValueError, match=r"batch 1 of the stream is float32.*the first was int32"):
        model().fit(fractions_last, verbose=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("steps_per_dispatch", "donated"),
    [
        (1, True),
        (32, False),
        # Of each of these, one part is shown above.
        pytest.param(1, False, marks=pytest.mark.thorough),
        pytest.param(32, True, marks=pytest.mark.thorough),
    ],
)
def test_batches_before_an_error_of_the_stream_count(
    donated, steps_per_dispatch, monkeypatch, request
):
    from fnn.training import cost, engine

    if donated:
        request.getfixturevalue("donating")
    engine._cached_program.cache_clear()
    monkeypatch.setattr(cost, "STEPS_PER_DISPATCH", steps_per_dispatch)
    x, y = task(96)

    def stream():
        for first in (0, 32):
            yield x[first : first + 32], y[first : first + 32]
        raise OSError("disk")

    net, plain = model(), model()
    with pytest.raises(OSError, match="disk"):
        net.fit(stream, epochs=1, verbose=0)
    plain.fit(x[:64], y[:64], epochs=1, shuffle=False, verbose=0)
    assert int(net.train_state.step) == 2
    for a, b in zip(plain.get_weights(), net.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    engine._cached_program.cache_clear()


def test_few_large_batches_are_not_gathered_many_times(monkeypatch):
    from fnn.training import data

    arrays = data.ArrayData({"x": np.zeros((4000, 1000), "float32")}, 1000)
    assert arrays.chunk_size(32) == 4
    monkeypatch.setattr(data, "GATHERED_BYTES", 2**22)
    assert arrays.chunk_size(32) == 1
    assert data.ArrayData({"x": np.zeros((64, 2), "float32")}, 2).chunk_size(1) == 8


def test_a_training_that_is_stopped_before_it_begins_measures_nothing():
    class Stop(fnn.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.model.stop_training = True

    assert model().fit(*task(), epochs=3, callbacks=[Stop()], verbose=0).history == {}


WRONG = {
    "shuffle": ({"shuffle": "bacth"}, "shuffle as True, False or \"batch\", received 'bacth'"),
    "steps": ({"steps_per_epoch": -1}, "steps as an integer of at least 1, received -1"),
    "validation": (
        {"validation_data": task(), "validation_freq": 0},
        "validation_freq as an integer of at least 1, received 0",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_arguments_of_fit_that_cannot_work(wrong):
    arguments, message = WRONG[wrong]
    with pytest.raises(ValueError, match=message):
        model().fit(*task(), verbose=0, **arguments)


def test_arguments_of_the_loop_that_cannot_work():
    def step(state, batch, key):
        return state, {"loss": batch.mean(0)}

    data = np.ones((8, 2), "float32")
    for arguments, message in (
        ({"guard": "riase"}, 'guard "raise", "skip" or "ignore", received \'riase\''),
        ({"steps_per_epoch": 0}, "steps_per_epoch as an integer of at least 1"),
        ({}, r"one number for 'loss' in the logs of a step, received an array of shape \(2,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            fnn.training.fit(step, 0.0, data, batch_size=4, verbose=0, **arguments)
    with pytest.raises(
        ValueError, match="expected x with an axis of examples, received the single number"
    ):
        model().fit(jnp.float32(1), np.ones(1), verbose=0)


@pytest.mark.slow
def test_metrics_of_several_numbers_stand_in_history_and_in_files(tmp_path, capsys):
    x, labels = task()[0], np.eye(3, dtype="float32")[np.arange(100) % 3]
    net = fnn.Sequential([Dense(3, "softmax", input_shape=(4,))], seed=0)
    net.compile("adam", "categorical_crossentropy", metrics=[fnn.metrics.F1Score(), "accuracy"])
    files = [
        fnn.callbacks.CSVLogger(tmp_path / "a.csv"),
        fnn.callbacks.JSONLogger(tmp_path / "a.json"),
        fnn.callbacks.TensorBoard(str(tmp_path / "logs"), update_freq=1),
    ]
    history = net.fit(x, labels, epochs=2, callbacks=files, verbose=1).history
    assert [score.shape for score in history["f1_score"]] == [(3,), (3,)]
    assert " - f1_score: [0." in capsys.readouterr().out
    loss, scores, accuracy = net.evaluate(x, labels, verbose=0)
    assert scores.shape == (3,)
    assert isinstance(loss, float)
    assert isinstance(accuracy, float)
    assert net.train_on_batch(x, labels)[1].shape == (3,)
    assert "[0." in (tmp_path / "a.csv").read_text()
    lines = [json.loads(line) for line in (tmp_path / "a.json").read_text().splitlines()]
    assert len(lines[1]["f1_score"]) == 3
    stop = fnn.callbacks.EarlyStopping("f1_score", mode="max")
    with pytest.raises(ValueError, match="a monitor that is one number, received 'f1_score'"):
        net.fit(x, labels, callbacks=[stop], verbose=0)


@pytest.mark.slow
def test_what_a_callback_sets_before_a_batch_counts_for_that_batch():
    class Freeze(fnn.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.model.learning_rate = 0.0

    net = model()
    before = net.get_weights()
    net.fit(*task(), callbacks=[Freeze()], verbose=0)
    for a, b in zip(before, net.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_weights_of_classes_need_not_be_all_in_the_batch():
    net = fnn.Sequential([Dense(3, "softmax", input_shape=(4,))], seed=0)
    net.compile("sgd", "sparse_categorical_crossentropy")
    x, weights = task()[0], {0: 1.0, 1: 5.0, 2: 2.0}
    assert np.isfinite(net.train_on_batch(x, np.zeros(100, int), class_weight=weights))
    labels = np.sort(np.arange(100) % 3)
    net.fit(x, labels, class_weight=weights, validation_split=0.5, verbose=0)
    for wrong, error, message in (
        ({0: 1.0, 1: 1.0, 2: 1.0, 3: 1.0}, ValueError, r"received one for \[3\]"),
        ({0: -1.0, 1: 1.0, 2: 1.0}, ValueError, "class_weight of at least 0 .*received -1"),
        ([1.0, 2.0, 3.0], TypeError, "class_weight as a dict from class to weight"),
    ):
        with pytest.raises(error, match=message):
            net.fit(x, labels, class_weight=wrong, verbose=0)


@pytest.mark.slow
def test_sample_weights_of_one_of_several_outputs():
    x = fnn.Input((4,))
    net = fnn.Model(x, [Dense(1, name="a")(x), Dense(2, name="b")(x)], seed=0)
    net.compile("sgd", "mse")
    inputs, y = task(20)
    targets, w = [y, np.ones((20, 2))], np.arange(20.0)
    plain = net.evaluate(inputs, targets, return_dict=True, verbose=0)
    for given in ([w, None], [w[:, None], None], {"a": w}):
        found = net.evaluate(inputs, targets, sample_weight=given, return_dict=True, verbose=0)
        error = (net.predict(inputs, verbose=0)[0] - y)[:, 0] ** 2
        assert found["a_loss"] == pytest.approx((error * w).mean(), rel=1e-5)
        assert found["b_loss"] == pytest.approx(plain["b_loss"], rel=1e-6)


@pytest.mark.slow
def test_epochs_without_validation_do_not_count_for_what_watches_it():
    stop = fnn.callbacks.EarlyStopping("val_loss", patience=0)
    net = model()
    history = net.fit(
        *task(), epochs=4, validation_data=task(), validation_freq=2, callbacks=[stop], verbose=0
    )
    assert len(history.history["loss"]) == 4
    assert len(history.history["val_loss"]) == 2


@pytest.mark.parametrize(
    "metric", ["sparse_categorical_accuracy", "sparse_top_k_categorical_accuracy"]
)
def test_labels_are_checked_for_metrics_too(metric):
    net = fnn.Sequential([Dense(3, "softmax", input_shape=(4,))], seed=0)
    net.compile("sgd", lambda t, p: p.sum(-1), metrics=[metric])
    labels = np.full(100, 1)
    labels[17] = 3
    with pytest.raises(ValueError, match="received label 3 at row 17, the model has classes 0"):
        net.fit(task()[0], labels, verbose=0)


@pytest.mark.slow
def test_one_row_as_nested_lists():
    net = fnn.Sequential([Dense(3, "softmax", input_shape=(2,))], seed=0)
    net.compile("sgd", "categorical_crossentropy")
    assert np.isfinite(net.train_on_batch([[1.0, 2.0]], [[1, 0, 0]]))


def test_what_predict_returns_may_be_written_to():
    for rows in (20, 100):
        found = model().predict(task(rows)[0], verbose=0)
        found[found < 0] = 0


def test_the_first_entry_that_is_no_number_is_named():
    x = task()[0].astype(object)
    x[50, 2] = "q"
    with pytest.raises(TypeError, match="received dtype object, 'q' in row 50"):
        model().fit(x, task()[1], verbose=0)
    with pytest.raises(TypeError, match="split complex numbers"):
        model().fit(jnp.ones((4, 4), "complex64"), np.ones((4, 1)), verbose=0)


def test_no_batch_hook_costs_no_wait():
    """The next step is dispatched before the results of the last are fetched."""
    waits = []
    settle = fnn.training.trainer.Trainer._settle

    def watched(self, ahead):
        waits.append(ahead)
        settle(self, ahead)

    quiet = fnn.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: None)
    loud = fnn.callbacks.LambdaCallback(on_batch_end=lambda batch, logs: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fnn.training.trainer.Trainer, "_settle", watched)
        model().fit(*task(), callbacks=[quiet], verbose=0)
        assert waits[:-1] == [1] * (len(waits) - 1)
        waits.clear()
        model().fit(*task(), callbacks=[loud], verbose=0)
        assert waits == [0] * 5


@pytest.mark.slow
def test_bytes_are_labels_of_256_classes():
    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    y = np.random.default_rng(1).integers(0, 256, 64)
    metrics = ["accuracy", "sparse_top_k_categorical_accuracy", fnn.metrics.Perplexity()]
    seen = []
    for dtype in ("uint8", "int32"):
        net = fnn.Sequential([Dense(256, "softmax", input_shape=(4,))], seed=0)
        net.compile("adam", "sparse_categorical_crossentropy", metrics=metrics)
        seen.append(net.fit(x, y.astype(dtype), epochs=2, verbose=0).history)
        seen[-1] |= net.evaluate(x, y.astype(dtype), verbose=0, return_dict=True)
    assert seen[0] == seen[1]
    assert all(np.isfinite(values).all() for values in seen[0].values())
