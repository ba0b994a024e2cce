"""Bad input: an error before the first compile that says where, what was expected, what came.

After every failing call the model is as it was, and can be used.
"""

import numpy as np
import pytest

import fnn
from fnn.layers import Dense, Embedding, Flatten, Reshape
from tests.helpers.counting import compilations


def x(rows=64, width=10):
    return np.random.default_rng(0).normal(size=(rows, width)).astype("float32")


def network(last, loss, *, inputs=10, metrics=()):
    model = fnn.Sequential(
        [
            Dense(8, "relu", input_shape=(inputs,)),
            fnn.Sequential([Dense(6, "relu"), last], name="head"),
        ],
        seed=0,
    )
    model.compile("adam", loss, metrics=list(metrics))
    return model


def one_unit(loss="mse"):
    return network(Dense(1), loss)


def three_classes(loss="sparse_categorical_crossentropy"):
    return network(Dense(3, "softmax"), loss)


def with_nan():
    bad = x()
    bad[17, 4] = np.nan
    return bad


LABELS = np.arange(64) % 3
ONE_HOT = np.eye(3)[LABELS]

# name: (model, arguments of fit, what the message must hold)
CASES = {
    "width": (one_unit, (x(width=5), np.zeros(64)), ["dense", "expected", "10", "received", "5"]),
    "broadcasting targets": (one_unit, (x(), np.zeros((64, 3))), ["(64, 1)", "(64, 3)"]),
    "targets (N, 1, 1)": (one_unit, (x(), np.zeros((64, 1, 1))), ["(64, 1)", "(64, 1, 1)"]),
    "label = classes": (three_classes, (x(), LABELS + 1), ["label 3", "row 2", "0..2"]),
    "label -1": (three_classes, (x(), LABELS - 1), ["-1", "row 0", "0..2"]),
    "label 255": (three_classes, (x(), np.full(64, 255)), ["255", "0..2"]),
    "label 1.7": (three_classes, (x(), LABELS + 0.5), ["integers", "0.5"]),
    "one-hot for sparse": (three_classes, (x(), ONE_HOT), ["one-hot", "categorical"]),
    "labels for one-hot": (
        lambda: three_classes("categorical_crossentropy"),
        (x(), LABELS), ["class numbers", "sparse"],
    ),
    "labels for one-hot, N = C": (
        lambda: three_classes("categorical_crossentropy"),
        (x(3), np.arange(3)), ["class numbers", "sparse"],
    ),
    "binary labels 1 and 2": (
        lambda: network(Dense(1, "sigmoid"), "binary_crossentropy"),
        (x(), LABELS % 2 + 1), ["2", "0", "1"],
    ),
    "empty": (one_unit, (x(0), np.zeros(0)), ["samples", "empty"]),
    "lengths": (one_unit, (x(), np.zeros(63)), ["64", "63", "x", "y"]),
    "NaN": (one_unit, (with_nan(), np.zeros(64)), ["NaN", "row 17", "column 4"]),
    "NaN in y": (one_unit, (x(), np.full(64, np.nan)), ["NaN", "y"]),
    "strings": (one_unit, (x().astype(str), np.zeros(64)), ["x", "numbers", "<U"]),
    "string labels": (three_classes, (x(), np.array(["a", "b"] * 32)), ["y", "return_inverse"]),
    "objects": (one_unit, (np.array([[None, 1]] * 64), np.zeros(64)), ["x", "object", "None"]),
    "ragged": (one_unit, ([[1.0, 2.0], [1.0]] * 32, np.zeros(64)), ["x", "ragged"]),
    "complex": (one_unit, (x() + 1j, np.zeros(64)), ["complex", "real and imaginary"]),
    "dates": (one_unit, (x().astype("datetime64[s]"), np.zeros(64)), ["datetime64", "days"]),
    "float64 too large": (one_unit, (x().astype("float64") * 1e300, np.zeros(64)), ["float32"]),
    "int64 too large": (one_unit, (np.full((64, 10), 2**40), np.zeros(64)), ["int32", str(2**40)]),
    "no rows axis": (one_unit, (np.float32(3), np.zeros(64)), ["examples", "3"]),
    "no targets": (one_unit, (x(), None), ["targets", "y=None"]),
    "label inf": (
        three_classes, (x(), np.where(np.arange(64) == 5, np.inf, LABELS)), ["inf at row 5"],
    ),
    "inf in y": (one_unit, (x(), np.full(64, -np.inf)), ["finite", "-inf", "row 0"]),
    "one axis more": (
        one_unit, (np.ones((64, 5, 10)), np.zeros((64, 5, 1))), ["(None, 10)", "(64, 5, 10)"],
    ),
    "two arrays for one input": (
        one_unit, ([x(), x(5)], np.zeros(2)),
        ["(None, 10)", "a list of 2 arrays, float32[64, 10], float32[5, 10]: as many inputs"],
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_fit_says_what_is_wrong_before_it_compiles(case):
    make, arguments, words = CASES[case]
    model = make()
    weights = model.get_weights()
    with compilations() as compiled, pytest.raises((ValueError, TypeError)) as caught:
        model.fit(*arguments, verbose=0)
    text = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", ())])
    for word in words:
        assert word in text
    assert "expected" in text
    assert "received" in text or "label" in text
    assert compiled == []
    assert_usable(model, weights)


def assert_usable(model, weights):
    for old, new in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    good = LABELS if model.output_shape == (None, 3) else LABELS[:, None] % 2
    if model._program.arguments["loss"] == "categorical_crossentropy":
        good = ONE_HOT
    model.fit(x(), good, verbose=0)
    assert np.isfinite(model.predict(x(), verbose=0)).all()


ARGUMENTS = {
    "batch_size 0": ({"batch_size": 0}, "batch_size"),
    "batch_size -1": ({"batch_size": -1}, "batch_size"),
    "batch_size 2.5": ({"batch_size": 2.5}, "batch_size"),
    "epochs -1": ({"epochs": -1}, "epochs"),
    "split NaN": ({"validation_split": np.nan}, "validation_split .* received nan"),
    "split as a string": ({"validation_split": "0.2"}, "validation_split .* received '0.2'"),
    "split below 0": ({"validation_split": -0.2}, "validation_split"),
    "validation_steps 0": (
        {"validation_data": (x(), LABELS % 2), "validation_steps": 0},
        "validation_steps .* 0",
    ),
    "validation_batch_size 0": (
        {"validation_split": 0.5, "validation_batch_size": 0},
        "validation_batch_size .* 0",
    ),
    "validation without examples": (
        {"validation_data": (x(0), np.zeros(0))},
        "expected samples, received an empty batch",
    ),
    "infinite weight": ({"sample_weight": np.full(64, np.inf)}, "finite, received inf"),
    "split 1": ({"validation_split": 1.0}, "validation_split"),
    "split so large that no row is left": ({"validation_split": 0.999}, "validation_split"),
    "weights of another length": ({"sample_weight": np.ones(63)}, "63"),
    "negative weight": ({"sample_weight": -np.ones(64)}, "sample_weight"),
    "NaN weight": ({"sample_weight": np.full(64, np.nan)}, "sample_weight"),
    "no weight at all": ({"sample_weight": np.zeros(64)}, "sample_weight"),
    "no weights of classes": ({"class_weight": {}}, "class_weight"),
    "weight without class": ({"class_weight": {0: 1.0, 1: 1.0, 7: 2.0}}, "7"),
    "verbose": ({"verbose": 7}, "verbose"),
}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_wrong_arguments_of_fit(case):
    arguments, word = ARGUMENTS[case]
    model = network(Dense(1, "sigmoid"), "binary_crossentropy")
    weights = model.get_weights()
    with pytest.raises(ValueError, match=word):
        model.fit(x(), LABELS % 2, **{"verbose": 0, **arguments})
    assert_usable(model, weights)


def test_a_batch_larger_than_the_data_is_fine():
    model = one_unit()
    model.fit(x(), np.zeros(64), batch_size=1000, verbose=0)
    assert int(model.train_state.step) == 1


@pytest.mark.parametrize("call", ["fit", "evaluate", "train_on_batch", "test_on_batch"])
def test_nothing_trains_before_compile(call):
    model = fnn.Sequential([Dense(1, input_shape=(10,))])
    with pytest.raises(RuntimeError, match=r"needs a compiled model.* model\.compile"):
        getattr(model, call)(x(), np.zeros(64))


def test_the_middle_of_a_nested_network_is_named_when_it_is_built():
    with pytest.raises(ValueError, match="expected") as caught:
        fnn.Sequential(
            [
                Dense(8, input_shape=(10,)),
                fnn.Sequential(
                    [Dense(6), fnn.Sequential([Reshape((4, 4))], name="deep")], name="mid"
                ),
            ]
        )
    assert "in layer mid/deep/reshape: Reshape(target_shape=(4, 4))" in caught.value.__notes__[-1]
    assert "float32[3, 6]" in caught.value.__notes__[-1]


def test_a_wrong_width_in_a_nested_layer_is_named_with_its_path():
    inner = fnn.layers.Sequential([Dense(4), Dense(2)], name="inner")
    outer = fnn.layers.Sequential([Dense(3), inner], name="outer")
    import jax

    params, state = outer.init(jax.random.key(0), x())
    params["inner"]["dense_1"]["kernel"] = np.zeros((5, 2), "float32")
    with pytest.raises(ValueError, match="expected inputs of 5 features, received 4") as caught:
        outer.apply(params, state, x())
    assert caught.value.__notes__ == [
        "in layer inner/dense_1: Dense(units=2) applied to float32[64, 4]"
    ]


UNKNOWN = {
    "activation": (lambda: Dense(3, activation="rellu"), "'rellu'.*'relu'"),
    "initializer": (lambda: Dense(3, kernel_initializer="glorot"), "'glorot'"),
    "loss": (lambda: one_unit("binary_crossentropi"), "'binary_crossentropi'.*_crossentropy'"),
    "optimizer": (lambda: one_unit().compile("adm", "mse"), "'adm'.*'adam'"),
    "metric": (lambda: one_unit().compile("adam", "mse", metrics=["acurracy"]), "'acurracy'"),
    "units": (lambda: Dense(-3), "units.*-3"),
    "no layer": (lambda: fnn.Sequential([3]), "expected a layer at position 0, received 3"),
    "class for a layer": (lambda: fnn.Sequential([Flatten]), r"Flatten\(...\)"),
    "same names": (
        lambda: fnn.Sequential([Dense(1, name="a"), Dense(1, name="a")]), "different names",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", UNKNOWN)
def test_unknown_names_and_wrong_arguments(case):
    make, pattern = UNKNOWN[case]
    with pytest.raises((ValueError, TypeError), match=pattern):
        make()


def ids_model():
    model = fnn.Sequential([Embedding(10, 4, input_shape=(5,)), Flatten(), Dense(1)], seed=0)
    model.compile("adam", "mse")
    return model


@pytest.mark.parametrize("bad", [10, -1, 10**6])
@pytest.mark.parametrize("call", ["fit", "predict", "evaluate", "stream"])
def test_ids_out_of_range(bad, call):
    ids = np.arange(320).reshape(64, 5) % 10
    ids[3, 2] = bad
    model, y = ids_model(), np.zeros(64)
    with pytest.raises(ValueError, match=f"{bad}"):
        if call == "predict":
            model.predict(ids, verbose=0)
        elif call == "stream":
            model.fit(iter([(ids, y)]), verbose=0)
        else:
            getattr(model, call)(ids, y, verbose=0)


@pytest.mark.slow
@pytest.mark.parametrize("call", ["predict", "evaluate", "fit", "train_on_batch", "save"])
def test_every_failing_call_leaves_the_model_as_it_was(call, tmp_path):
    model = one_unit()
    weights = model.get_weights()
    wrong = x(width=5)
    with pytest.raises((ValueError, OSError)):
        if call == "save":
            model.save(tmp_path / "no folder" / "model.fnn")
        elif call == "predict":
            model.predict(wrong, verbose=0)
        else:
            getattr(model, call)(wrong, np.zeros(64))
    assert_usable(model, weights)


def test_pandas_columns_are_named():
    class Frame:
        columns = ["age", "height"]

        def to_numpy(self):
            return np.array([[1.0, np.nan], [2.0, 3.0]], "float32")

    model = network(Dense(1), "mse", inputs=2)
    with pytest.raises(ValueError, match="NaN in row 0 of column 'height'"):
        model.fit(Frame(), np.zeros(2), verbose=0)


@pytest.mark.slow
def test_checks_can_be_left_out():
    model = one_unit()
    model.compile("adam", "mse", checks=False, guard="skip")
    model.fit(with_nan(), np.zeros(64), verbose=0)
    assert all(np.isfinite(w).all() for w in model.get_weights())


@pytest.mark.parametrize("call", ["evaluate", "test_on_batch", "train_on_batch"])
def test_infinite_weights_are_refused_as_in_fit(call):
    model, weight = one_unit(), np.ones(64)
    weight[3] = np.inf
    with pytest.raises(ValueError, match=r"expected sample_weight of at least 0 and finite.* inf"):
        getattr(model, call)(x(), np.zeros(64), sample_weight=weight)


@pytest.mark.parametrize("call", ["evaluate", "predict", "predict_on_batch", "call"])
@pytest.mark.parametrize("given", [np.ones((64, 5, 10), "float32"), [x(), x()]])
def test_inputs_of_another_number_of_axes(call, given):
    """A Dense layer takes them; the model states other inputs."""
    model = one_unit()
    run = {
        "evaluate": lambda: model.evaluate(given, np.zeros((64, 5, 1)), verbose=0),
        "predict": lambda: model.predict(given, verbose=0),
        "predict_on_batch": lambda: model.predict_on_batch(given),
        "call": lambda: model(given),
    }
    with pytest.raises(ValueError, match=r"expected inputs of shape \(None, 10\).*received"):
        run[call]()


@pytest.mark.slow
def test_a_list_of_examples_is_one_array():
    model = one_unit()
    rows = list(x(3))
    np.testing.assert_array_equal(model.predict(rows, verbose=0), model.predict(x(3), verbose=0))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [list, tuple])
@pytest.mark.parametrize("call", ["predict", "predict_on_batch", "fit", "call"])
def test_several_arrays_are_as_many_inputs(kind, call):
    """As in Keras, also of a model that is built by them."""
    a, b = x(6), x(6, 4)
    net = fnn.Sequential([fnn.layers.Concatenate(), Dense(1)], seed=0)
    net.compile(fnn.optimizers.SGD(0.0), "mse")
    run = {
        "predict": lambda: net.predict(kind([a, b]), verbose=0),
        "predict_on_batch": lambda: net.predict_on_batch(kind([a, b])),
        "fit": lambda: net.fit(kind([a, b]), np.zeros((6, 1)), verbose=0) and net.predict([a, b]),
        "call": lambda: net(kind([a, b])),
    }
    found = run[call]()
    kernel, bias = net.get_weights()
    np.testing.assert_allclose(found, np.concatenate([a, b], 1) @ kernel + bias, rtol=1e-5)


@pytest.mark.slow
def test_several_inputs_of_a_network_of_one_are_named():
    net = fnn.Sequential([Dense(1)], seed=0)
    for other in (x(), x(5)):
        with pytest.raises(TypeError, match=r"Dense: expected one array .* received a tuple of 2"):
            net.predict([x(), other], verbose=0)
    assert net.predict(x(), verbose=0).shape == (64, 1)  # it can still be built
    with pytest.raises(ValueError, match="received a tuple of 2 arrays"):
        net.predict((x(), x()), verbose=0)


@pytest.mark.slow
def test_an_axis_of_length_1_at_the_end_is_no_difference():
    """As in Keras: y `(96, 3, 1)` for outputs `(96, 3)`, and the reverse: the same numbers."""
    inputs, y = x(96), np.random.default_rng(1).normal(size=(96, 3)).astype("float32")
    for last, given in (([], y[..., None]), ([Reshape((3, 1))], y)):
        models = [
            fnn.Sequential([Dense(3, input_shape=(10,)), *last], seed=0) for last in (last, [])
        ]
        for model, targets in zip(models, (given, y), strict=True):
            model.compile(fnn.optimizers.SGD(0.1), "mse", metrics=["mae"])
            data = {"validation_data": (inputs, targets), "verbose": 0, "shuffle": False}
            model.history_of = model.fit(inputs, targets, **data).history
            model.found = model.evaluate(inputs, targets, verbose=0)
        error = models[0].predict(inputs, verbose=0).reshape(y.shape).astype("float64") - y
        assert models[0].found == pytest.approx([(error**2).mean(), abs(error).mean()], rel=1e-5)
        assert models[0].found == pytest.approx(models[1].found, rel=1e-6)
        for name in ("loss", "mae", "val_loss", "val_mae"):
            assert models[0].history_of[name] == pytest.approx(models[1].history_of[name], rel=1e-6)
        for a, b in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["categorical_crossentropy", "categorical_focal_crossentropy"])
def test_targets_that_sum_to_more_than_1_are_warned_of(loss):
    model = three_classes(loss)
    with pytest.warns(
        UserWarning, match="expected targets that sum to 1 over the classes"
    ) as found:
        model.evaluate(x(), 2 * ONE_HOT, verbose=0)
    assert len(found) == 1
    several = ONE_HOT.copy()
    several[3] = [1, 1, 0]
    with pytest.warns(UserWarning, match="use binary_crossentropy if an example may have"):
        model.evaluate(x(), several, verbose=0)
    none = ONE_HOT.copy()
    none[3:5] = 0  # what one_hot makes of -1
    smooth = 0.9 * ONE_HOT + 0.1 / 3
    for right in (none, smooth, smooth[..., None]):
        model.evaluate(x(), right, verbose=0)


@pytest.mark.slow
def test_targets_that_are_weighted_on_purpose():
    """Policy gradients: one-hot actions times advantages, also negative. A mean by NumPy."""
    advantages = np.linspace(-1, 2, 64, dtype="float32")[:, None]
    model = three_classes("categorical_crossentropy")
    model.compile("sgd", "categorical_crossentropy", checks=False)
    y_pred = model.predict(x(), verbose=0)
    expected = -(ONE_HOT * advantages * np.log(y_pred)).sum(1).mean()
    found = model.evaluate(x(), ONE_HOT * advantages, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    model.fit(x(), ONE_HOT * advantages, verbose=0)
    model.compile("sgd", "sparse_categorical_crossentropy", checks=False)
    with pytest.raises(ValueError, match="labels"):
        model.fit(x(), np.full(64, 3), verbose=0)


@pytest.mark.slow
def test_a_warning_of_targets_is_at_the_line_of_fit():
    model = three_classes("categorical_crossentropy")
    with pytest.warns(UserWarning, match=r"compile\(checks=False\) if the targets are") as found:
        model.fit(x(), 2 * ONE_HOT, verbose=0)
    assert found[0].filename == __file__


@pytest.mark.slow
def test_functions_of_a_users_may_be_given_infinite_targets():
    model = one_unit(lambda t, p: np.e ** -abs(t - p))
    assert model.evaluate(x(), np.full(64, np.inf), verbose=0) == 0
