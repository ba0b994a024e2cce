"""fit_many and cross_validate: each member is what `fit` makes of it alone."""

import jax
import numpy as np
import pytest
from sklearn.model_selection import KFold, StratifiedKFold

import fnn
from fnn import layers as L
from fnn.distribution import FSDP, DataParallel
from fnn.models.folding import folds_of
from fnn.training import many
from tests.helpers.counting import compilations

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 4)).astype("float32")
LABELS = RNG.integers(0, 3, 50)
SERIES = RNG.normal(size=(24, 5, 3)).astype("float32")
IMAGES = RNG.normal(size=(20, 6, 6, 1)).astype("float32")
WEIGHT = np.linspace(0.5, 2, 50).astype("float32")
CROSSENTROPY = {"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"]}
ONE, TWO = jax.devices()[:1], jax.devices()[:2]

DROPOUT = L.Sequential(
    [
        L.Dense(8, "relu", kernel_regularizer="l2", input_shape=(4,)),
        L.Dropout(0.3),
        L.Dense(3, "softmax"),
    ]
)
STATISTICS = L.Sequential(
    [
        L.Dense(8, use_bias=False, input_shape=(4,)),
        L.BatchNormalization(),
        L.ReLU(),
        L.Dense(3, "softmax"),
    ]
)
RECURRENT = L.Sequential([L.LSTM(4, dropout=0.2, input_shape=(5, 3)), L.Dense(1)])
CONVOLUTIONS = L.Sequential(
    [L.Conv2D(3, 3, input_shape=(6, 6, 1)), L.MaxPooling2D(), L.Flatten(), L.Dense(1)]
)


def model_of(layer, optimizer="adam", seed=0, **compiled):
    model = fnn.Model(layer, seed=seed)
    model.compile(optimizer, **(compiled or CROSSENTROPY))
    return model


def same(received, expected, tolerance=1e-5):
    paths = jax.tree_util.tree_leaves_with_path(expected)
    for (path, a), b in zip(paths, jax.tree.leaves(received), strict=True):
        np.testing.assert_allclose(b, a, rtol=tolerance, atol=tolerance, err_msg=str(path))


def agree(member, alone, tolerance=1e-5):
    """Weights, state, state of the optimizer, counters and history."""
    now, then = member.train_state, alone.train_state
    same((now.params, now.state), (then.params, then.state), tolerance)
    same(now.optimizer, then.optimizer, 10 * tolerance)
    assert (int(now.step), int(now.epoch)) == (int(then.step), int(then.epoch))
    assert (jax.random.key_data(now.key) == jax.random.key_data(then.key)).all()
    assert member.history.epoch == alone.history.epoch
    assert [*member.history.history] == [*alone.history.history]
    for name, values in alone.history.history.items():
        np.testing.assert_allclose(
            member.history.history[name], values, rtol=1e-5, atol=1e-5, err_msg=name
        )


CASES = {
    "dropout": (DROPOUT, "adam", X, LABELS, CROSSENTROPY, {}),
    "statistics, weights": (STATISTICS, "adam", X, LABELS, CROSSENTROPY, {"sample_weight": WEIGHT}),
    "classes": (DROPOUT, "sgd", X, LABELS, CROSSENTROPY, {"class_weight": {0: 2.0, 2: 0.5}}),
    "recurrent": (RECURRENT, "adam", SERIES, SERIES[:, 0, :1], {"loss": "mse"}, {}),
    "convolutions": (CONVOLUTIONS, "sgd", IMAGES, IMAGES[:, 0, 0], {"loss": "mse"}, {}),
    "metrics that do not add": (
        L.Sequential([L.Dense(4, "tanh", input_shape=(4,)), L.Dense(1, "sigmoid")]),
        "rmsprop",
        X,
        (LABELS > 0).astype("float32")[:, None],
        {"loss": "binary_crossentropy", "metrics": ["auc", "mae", fnn.metrics.F1Score()]},
        {},
    ),
    "accumulation and average": (
        DROPOUT,
        fnn.optimizers.Adam(0.01, gradient_accumulation_steps=3, use_ema=True),
        X,
        LABELS,
        CROSSENTROPY,
        {},
    ),
    "schedule, no shuffling, part of an epoch": (
        DROPOUT,
        fnn.optimizers.SGD(fnn.schedules.ExponentialDecay(0.1, 2, 0.5), momentum=0.9),
        X,
        LABELS,
        CROSSENTROPY,
        {"shuffle": False, "steps_per_epoch": 3},
    ),
    "blocks, clipping": (
        DROPOUT,
        fnn.optimizers.AdamW(0.01, global_clipnorm=0.1),
        X,
        LABELS,
        CROSSENTROPY,
        {"shuffle": "batch"},
    ),
}


# The others differ from these in the step alone.
SCORED = ("dropout", "statistics, weights", "metrics that do not add")

# Two devices have two members and one (and a copy of it); alone a device has all three.
PLACES = [("dropout", ONE), ("statistics, weights", None)]
PLACES += [(case, TWO) for case in CASES if case != "statistics, weights"]

# That a layer runs for several weights at once is a promise that the catalogue checks for each.
LAYERS = ("recurrent", "convolutions")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "devices"),
    [pytest.param(*row, marks=[pytest.mark.thorough] * (row[0] in LAYERS)) for row in PLACES],
)
def test_each_member_is_trained_as_it_would_be_alone(case, devices):
    """The last batch is not full; with all devices three of them have a member each."""
    layer, optimizer, x, y, compiled, given = CASES[case]
    weighted = {name: given[name] for name in given if name == "sample_weight"}
    scored = {"validation_data": (x, y, *weighted.values())} if case in SCORED else {}
    given = {"batch_size": 16, "epochs": 2, "verbose": 0, **scored, **given}
    model = model_of(layer, optimizer, 7, **compiled)
    model.build((None, *x.shape[1:]))
    before = jax.tree.map(np.asarray, model.params)
    members = fnn.fit_many(model, x, y, seeds=[0, 1, 5], devices=devices, **given)
    assert len(members) == 3
    assert members.failed == ()
    same(model.params, before, 0)
    assert model.history is None
    for seed, member in zip([0, 1, 5], members, strict=True):
        alone = model_of(layer, optimizer, seed, **compiled)
        alone.fit(x, y, **given)
        agree(member, alone)
    if case not in SCORED:
        return
    for name, values in members.evaluate(x, y, 16, **weighted).items():
        same(values, members.scores[f"val_{name}"])  # those of each alone, as the history is
    # In several batches, or in one.
    together = members.predict(x, batch_size=16 if case == "dropout" else 50)
    same(together, np.stack([member.predict(x, verbose=0) for member in members]))


@pytest.mark.slow
def test_initial_weights_orders_and_keys_are_exactly_those_of_a_training_alone():
    """Without a step of training every bit is the same."""
    model = model_of(DROPOUT)
    members = fnn.fit_many(model, X, LABELS, seeds=[3, 4], epochs=0, verbose=0)
    for seed, member in zip([3, 4], members, strict=True):
        alone = model_of(DROPOUT, seed=seed)
        alone(X)
        same(member.params, alone.params, 0)
        state = member.train_state
        assert (jax.random.key_data(state.key) == jax.random.key_data(alone.train_state.key)).all()
    found = many.ManyData(X, orders := [order_of(0), order_of(1)])
    chunk, valid = next(iter(found.chunks(2, 4)))[0]
    for index, order in enumerate(orders):
        (positions, ones), _ = next(iter(order.chunks(2, 4)))
        np.testing.assert_array_equal(valid[:, :, index], ones)
        np.testing.assert_array_equal(chunk[:, :, index], X[positions])


def order_of(seed):
    every = np.arange(50)
    options = {"shuffle": True, "remainder": "pad", "keep": False}
    return many.ArrayData(every, 16, seed=seed, **options)


@pytest.mark.slow
def test_learning_rates_from_the_weights_of_the_model():
    """Members without seeds go on from where the model is; each has its own rate."""
    model = model_of(DROPOUT, seed=2)
    model.fit(X, LABELS, 16, epochs=1, verbose=0)
    rates, given = [1e-4, 1e-3, 1e-2], {"batch_size": 16, "verbose": 0}
    members = fnn.fit_many(model, X, LABELS, learning_rates=rates, epochs=2, devices=TWO, **given)
    for rate, member in zip(rates, members, strict=True):
        alone = model_of(DROPOUT, seed=2)
        alone.fit(X, LABELS, epochs=1, **given)
        alone.optimizer.learning_rate = rate
        alone.fit(X, LABELS, epochs=2, **given)
        agree(member, alone)
        assert float(member.optimizer.learning_rate) == pytest.approx(rate)
    member.fit(X, LABELS, **given)  # a model as any other
    alone.fit(X, LABELS, **given)
    agree(member, alone)
    same(members.params["dense"]["kernel"][2], alone.params["dense"]["kernel"])
    alone = member.evaluate(X, LABELS, 16, verbose=0, return_dict=True)
    together = members.evaluate(X, LABELS, 16)
    same({name: together[name][2] for name in alone}, alone)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [ONE, TWO], ids=["a device", "two devices"])
def test_all_members_share_one_compilation_which_other_rates_do_not_repeat(devices):
    model = model_of(L.Dense(1, input_shape=(4,)), "sgd", loss="mse")
    given = {"x": X, "y": X[:, :1], "epochs": 2, "verbose": 0, "devices": devices}
    with compilations() as first:
        fnn.fit_many(model, seeds=range(4), learning_rates=[0.2] * 4, **given)
    assert sum("training" in one["fun_name"] for one in first) == 1
    with compilations() as again:
        fnn.fit_many(model, seeds=range(4, 8), learning_rates=[0.1] * 4, **given)
    assert again == []
    with compilations() as more:
        fnn.fit_many(model, seeds=range(6), **given)  # other shapes: once more
    assert more


# -- folds -----------------------------------------------------------------------------------------


def test_an_integer_means_the_folds_of_scikit_learn():
    folds = folds_of(4, 50)
    assert len(folds) == 4
    for fold, (train, valid) in zip(folds, KFold(4).split(X), strict=True):
        np.testing.assert_array_equal(fold.train, train)
        np.testing.assert_array_equal(fold.valid, valid)


SPLITTERS = {
    "a splitter": (StratifiedKFold(3, shuffle=True, random_state=0),) * 2,
    "pairs": ([(np.arange(20), np.arange(20, 50)), (np.arange(30), np.arange(30, 50))], None),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "devices"),
    [("a splitter", None), ("pairs", ONE)],
    ids=["a splitter", "pairs, one device"],
)
def test_cross_validation_is_a_loop_over_the_folds_of_scikit_learn(kind, devices):
    """Folds of different sizes: some have a batch less in an epoch."""
    folds, splitter = SPLITTERS[kind]
    given = {"epochs": 2, "batch_size": 19, "verbose": 0}
    model = model_of(DROPOUT, seed=1)
    members = fnn.cross_validate(model, X, LABELS, folds, devices=devices, **given)
    pairs = folds if splitter is None else splitter.split(X, LABELS)
    for index, (train, valid) in enumerate(pairs):
        alone = model_of(DROPOUT, seed=1)
        held_out = X[valid], LABELS[valid]
        alone.fit(X[train], LABELS[train], validation_data=held_out, validation_freq=2, **given)
        agree(members[index], alone)
        score = alone.evaluate(*held_out, return_dict=True, verbose=0)
        for name, value in score.items():
            assert members.scores[f"val_{name}"][index] == pytest.approx(value, abs=1e-5)
    assert len(members) == index + 1


@pytest.mark.slow
def test_folds_with_seeds_and_layers_that_mix_examples():
    """Incomplete batches of such a network are not padded; folds must then be of one size."""
    mixing = L.Sequential([L.Dense(4, input_shape=(4,)), L.Lambda(centred), L.Dense(1)])
    model = model_of(mixing, "sgd", loss="mse")
    given = {"epochs": 2, "batch_size": 16, "verbose": 0}
    members = fnn.fit_many(model, X, X[:, :1], seeds=[1, 2], folds=2, **given)
    for seed, (train, valid), member in zip([1, 2], KFold(2).split(X), members, strict=True):
        alone = model_of(mixing, "sgd", seed, loss="mse")
        alone.fit(X[train], X[train, :1], validation_data=(X[valid], X[valid, :1]), **given)
        agree(member, alone)
    with pytest.raises(ValueError, match="pass a batch_size that divides these numbers"):
        fnn.fit_many(model, X, X[:, :1], folds=3, **given)


@fnn.register
def centred(x):
    return x - x.mean(0, keepdims=True)


# -- devices ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 8, 9, 16])
def test_members_are_divided_over_the_devices(count):
    mesh = many.mesh_for(count, jax.devices())
    whole = many.stacked([{"w": np.full(3, i, "float32")} for i in range(count)], mesh)
    shards = whole["w"].addressable_shards
    assert len(shards) == mesh.size == {2: 2, 8: 8, 9: 5, 16: 8}[count]
    assert {shard.data.shape[0] for shard in shards} == {-(-count // mesh.size)}
    back = many.unstacked(whole, count)
    assert [int(one["w"][0]) for one in back] == list(range(count))


@pytest.mark.slow
def test_a_distribution_of_the_model_gives_the_devices_of_the_members():
    """Two of the three have two members each, the last has one and a copy of it."""
    layer = L.Dense(1, input_shape=(4,))
    distribution = DataParallel(devices=jax.devices()[:3])
    model = model_of(layer, "sgd", loss="mse", distribution=distribution)
    members = fnn.fit_many(model, X, X[:, :1], seeds=range(5), verbose=0)
    assert list(members.mesh.devices.flat) == jax.devices()[:3]
    alone = model_of(layer, "sgd", 4, loss="mse")
    alone.fit(X, X[:, :1], verbose=0)
    agree(members[4], alone)
    with FSDP().scope(), pytest.raises(ValueError, match="divides weights: <FSDP over"):
        fnn.fit_many(model_of(DROPOUT), X, LABELS, seeds=range(5), verbose=0)


# -- losses that are not finite --------------------------------------------------------------------


SLOW = [pytest.param(guard, marks=pytest.mark.slow) for guard in ("skip", "ignore")]


@pytest.mark.parametrize("guard", ["raise", *SLOW])
def test_a_member_whose_loss_is_not_finite(guard):
    """It stops before the step, leaves the step out, or goes on, as alone; others are not hurt."""
    y = X.sum(1, keepdims=True)
    model = fnn.Model(L.Dense(1, input_shape=(4,)), seed=0)
    model.compile("sgd", "mse", guard=guard)
    given = {"epochs": 4, "batch_size": 10, "verbose": 0}
    options = {"learning_rates": [0.1, 1e12, 0.01], **given}
    if guard == "raise":
        with pytest.warns(UserWarning, match=r"1 of 3 members was not finite.*\(members 1\)"):
            members = fnn.fit_many(model, X, y, **options)
        assert members.failed == (1,)
        assert np.isnan(members.histories[1].history["loss"][-1])
        assert np.isnan(members.scores["loss"]).tolist() == [False, True, False]
    else:
        members = fnn.fit_many(model, X, y, **options)
    for rate, member in zip([0.1, 1e12, 0.01], members, strict=True):
        alone = fnn.Model(L.Dense(1, input_shape=(4,)), seed=0)
        alone.compile("sgd", "mse", guard=guard)
        alone.optimizer.learning_rate = rate
        try:
            alone.fit(X, y, **given)
        except fnn.training.TrainingError:
            same(member.train_state.params, alone.train_state.params)
            assert int(member.train_state.step) == int(alone.train_state.step)
        else:
            agree(member, alone)
    if guard == "raise":
        assert members.best() is members[0]
        assert members.best_index("loss") == 0
        with pytest.raises(ValueError, match="monitor must be one of loss, got 'auc'"):
            members.best("auc")


def test_no_best_member_if_all_failed():
    model = fnn.Model(L.Dense(1, input_shape=(4,)), seed=0)
    model.compile("sgd", "mse")
    given = {"learning_rates": [1e15, 1e20, 1e25], "epochs": 9, "batch_size": 10, "verbose": 0}
    with pytest.warns(UserWarning, match="3 of 3 members"):
        members = fnn.fit_many(model, X, X[:, :1], **given)
    with pytest.raises(ValueError, match="loss is NaN for every member"):
        members.best()


# -- mistakes --------------------------------------------------------------------------------------

MISTAKES = {
    "needs a list of seeds": {},
    "needs a list of seeds, learning_rates or folds": {"seeds": 3},
    "got 2 seeds, 3 learning_rates": {"seeds": [0, 1], "learning_rates": [0.1, 0.2, 0.3]},
    "takes no callbacks.*got EarlyStopping": {
        "seeds": [0, 1],
        "callbacks": [fnn.callbacks.EarlyStopping()],
    },
    "folds or validation_data, not both": {"folds": 2, "validation_data": (X, LABELS)},
    "folds must be at most the number of examples, 50": {"folds": 51},
    "expected folds": {"folds": 1},
    "folds must be an integer": {"folds": [1, 2]},
    "fold 0 must hold a list of indices": {"folds": [([0.5], [1])]},
    "fold 1 has indices from 0 to 50, but there are 50": {"folds": [([0], [1]), ([0, 50], [1])]},
    "expected seeds": {"seeds": [0.5, 1]},
}


@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes(message):
    with pytest.raises(ValueError, match=message):
        fnn.fit_many(model_of(DROPOUT), X, LABELS, verbose=0, **MISTAKES[message])


def test_what_cannot_run_in_one_program():
    with pytest.raises(RuntimeError, match="fit_many needs a compiled model"):
        fnn.fit_many(fnn.Model(DROPOUT), X, LABELS, seeds=[0, 1])
    with pytest.raises(ValueError, match=r"fit_many needs arrays.*got a generator"):
        fnn.fit_many(model_of(DROPOUT), ((X, LABELS) for _ in range(2)), seeds=[0, 1])
    stateful = L.Sequential([L.LSTM(2, stateful=True, input_shape=(5, 3))])
    with pytest.raises(ValueError, match="no stateful recurrent layers"):
        fnn.fit_many(model_of(stateful, loss="mse"), SERIES, SERIES[:, 0], seeds=[0, 1])

    class Own(fnn.Model):
        def train_step(self, state, data):
            return super().train_step(state, data)

    own = Own(DROPOUT)
    own.compile("adam", "mse")
    with pytest.raises(ValueError, match="runs the step of fit, but Own has its own"):
        fnn.fit_many(own, X, LABELS, seeds=[0, 1])


@pytest.mark.slow
def test_networks_that_draw_in_inference_and_data_without_examples():
    members = fnn.fit_many(model_of(DROPOUT), X, LABELS, seeds=[0, 1], epochs=0, verbose=0)
    assert members.predict(X[:0]).shape == (2, 0, 3)
    always = L.Sequential([L.Dense(8), L.Training(L.Dropout(0.5))])
    model = model_of(always, loss="mse")
    y = X[:, :1] + np.zeros(8, "float32")
    members = fnn.fit_many(model, X, y, seeds=[0, 1], epochs=0, verbose=0)
    first, again = members.predict(X), members.predict(X)
    assert first.shape == (2, 50, 8)
    assert (first != again).any()


@pytest.mark.slow
def test_learned_statistics_of_the_data_stay():
    normalization = L.Normalization()
    normalization.adapt(5 * X + 3)
    model = fnn.Sequential([L.Input((4,)), normalization, L.Dense(1)], seed=0)
    model.compile("sgd", "mse")
    members = fnn.fit_many(model, X, X[:, :1], seeds=[1, 2], epochs=0, verbose=0)
    for member in members:
        same(member.layers[0](X), model.layers[0](X), 1e-6)
