"""What optimizers bring to training: accumulation, averages, parts, exclusion, loss scaling."""

import random
import re
import time

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest

import fnn
from fnn import optimizers
from fnn.core.config import from_config, to_config
from fnn.core.tree import path_name
from fnn.layers import Dense, Embedding
from fnn.optimizers import SGD, Adam, ByPath, LossScaleOptimizer, current_learning_rate
from fnn.runtime.patterns import matches
from tests.helpers.counting import compilations
from tests.helpers.oracle import keras_rules

pytestmark = pytest.mark.slow


def task(rows=28, seed=0):
    x = np.random.default_rng(seed).normal(size=(rows, 4)).astype("float32")
    return x, (x.sum(axis=1, keepdims=True) ** 2).astype("float32")


def network():
    return fnn.Sequential([Dense(3, "tanh", input_shape=(4,)), Dense(1)], seed=0)


def fitted(optimizer, rows=28, batch_size=8, epochs=2, net=None, data=None, **more):
    net = net or network()
    net.compile(optimizer, more.pop("loss", "mse"))
    data = data or task(rows)
    net.fit(*data, batch_size=batch_size, epochs=epochs, shuffle=False, verbose=0, **more)
    return net


def assert_same(first, second):
    with keras_rules():
        pairs = list(zip(first.get_weights(), second.get_weights(), strict=True))
    for a, b in pairs:
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


# -- accumulation --------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [SGD, Adam], ids=lambda c: c.__name__)
def test_accumulated_batches_are_one_large_batch(make):
    """8 + 8 + 8 + 4 rows, the last batch padded, is a step on 28."""
    several = fitted(make(0.05, gradient_accumulation_steps=4))
    assert_same(several, fitted(make(0.05), batch_size=28))


def test_what_waits_at_the_end_of_an_epoch_is_taken():
    """8 + 8, then 4: two steps, of 16 rows and of 4, in every epoch."""
    several = fitted(SGD(0.05, gradient_accumulation_steps=2), rows=20, epochs=3)
    assert_same(several, fitted(SGD(0.05), rows=20, batch_size=16, epochs=3))
    assert several.train_state.optimizer["accumulated"]["count"] == 0


def test_accumulation_counts_the_steps_that_masks_leave():
    ids = np.random.default_rng(0).integers(1, 9, (24, 6))
    for row, length in enumerate(np.random.default_rng(1).integers(1, 7, 24)):
        ids[row, length:] = 0
    ids[8:16] = 0  # a batch of which nothing counts
    data = ids, np.random.default_rng(2).integers(0, 3, (24, 6))

    def net():
        layers = [Embedding(9, 4, mask_zero=True), Dense(3)]
        return fnn.Sequential([fnn.Input((6,), dtype="int32"), *layers], seed=0)

    loss = fnn.losses.SparseCategoricalCrossentropy(from_logits=True)
    several = fitted(
        SGD(0.5, gradient_accumulation_steps=3), net=net(), data=data, loss=loss, batch_size=8
    )
    assert_same(several, fitted(SGD(0.5), net=net(), data=data, loss=loss, batch_size=24))


def test_accumulation_compiles_two_programs_and_no_more():
    optimizer = SGD(0.05, gradient_accumulation_steps=3)
    net = fitted(optimizer)
    with compilations() as compiled:
        for rate in (0.1, 0.01):
            net.learning_rate = rate
            net.fit(*task(), batch_size=8, epochs=2, shuffle=False, verbose=0)
    assert compiled == []


def test_accumulation_inside_others():
    whole = fitted(SGD(0.05), batch_size=28)
    inner = SGD(0.05, gradient_accumulation_steps=4)
    assert_same(fitted(ByPath({"dense/*": inner, "**": inner})), whole)
    assert_same(fitted(LossScaleOptimizer(inner)), whole)
    mixed = fitted(ByPath({"dense/*": inner, "**": optax.sgd(0.0)}), epochs=1)
    first = fitted(SGD(0.05), batch_size=28, epochs=1).get_weights()
    np.testing.assert_allclose(mixed.get_weights()[0], first[0], rtol=1e-5)
    np.testing.assert_array_equal(mixed.get_weights()[2], network().get_weights()[2])


@pytest.mark.parametrize("reduction", ["sum", "none"])
@pytest.mark.parametrize("around", [lambda o: o, LossScaleOptimizer, lambda o: ByPath({"**": o})])
def test_sums_are_accumulated_as_sums(reduction, around):
    """8 + 8 + 8 + 4 rows; the norm of the clipping sees the whole sum."""
    loss = fnn.losses.MeanSquaredError(reduction=reduction)
    arguments = {"global_clipnorm": 40.0}
    several = around(SGD(0.002, gradient_accumulation_steps=4, **arguments))
    assert_same(
        fitted(several, loss=loss), fitted(SGD(0.002, **arguments), batch_size=28, loss=loss)
    )


def constrained(constraint, **others):
    layers = [
        Dense(3, "tanh", kernel_constraint=constraint, input_shape=(4,), **others),
        Dense(1, kernel_constraint="unit_norm" if others else None),
    ]
    return fnn.Sequential(layers, seed=0)


def test_constraints_wait_for_the_update():
    """Three of them, in one network."""
    shrinking = fnn.constraints.MinMaxNorm(0.2, 0.5, rate=0.3)
    net = lambda: constrained(shrinking, bias_constraint=fnn.constraints.NonNeg())
    several = SGD(0.05, gradient_accumulation_steps=4)
    whole = fitted(SGD(0.05), batch_size=28, net=net())
    assert_same(fitted(several, net=net()), whole)
    assert_same(fitted(ByPath({"dense/*": several, "**": several}), net=net()), whole)
    assert_same(fitted(optax.MultiSteps(optax.sgd(0.05), 7), rows=56, epochs=1, net=net()),
                fitted(SGD(0.05), rows=56, batch_size=56, epochs=1, net=net()))  # fmt: skip
    left_out = fitted(LossScaleOptimizer(SGD(0.05), 3e38), rows=8, epochs=1, net=net())
    assert_same(left_out, net())


def test_an_average_obeys_the_constraints():
    """In Keras it does not: the average of weights before they are constrained is below 0."""
    net = fitted(SGD(0.2, use_ema=True, ema_momentum=0.5), net=constrained("non_neg"), epochs=3)
    assert (net.get_weights()[0] >= 0).all()
    assert (net.train_state.optimizer["average"]["dense"]["kernel"] < 0).any()


INSIDE_OPTAX = [
    (lambda o: optax.chain(optax.clip(1.0), o), "chain"),
    (lambda o: optax.masked(o, True), "masked"),
    (lambda o: optax.chain(ByPath({"dense/*": "sgd", "**": o})), "by path"),
    (lambda o: ByPath({"dense/*": "sgd", "**": optax.chain(o)}), "in a part"),
    (lambda o: LossScaleOptimizer(optax.chain(o)), "scaled"),
]


@pytest.mark.parametrize("around", [f for f, _ in INSIDE_OPTAX], ids=[n for _, n in INSIDE_OPTAX])
def test_what_optax_does_not_hand_on_is_refused(around):
    for optimizer, word in (
        (SGD(gradient_accumulation_steps=2), "gradient_accumulation_steps"),
        (SGD(use_ema=True), "use_ema"),
    ):
        with pytest.raises(ValueError, match=f"expected {word} in an optimizer of fnn outside"):
            fitted(around(optimizer))
    with pytest.raises(ValueError, match="expected loss scaling in an optimizer of fnn outside"):
        fitted(optax.chain(LossScaleOptimizer("sgd")))
    fitted(around(SGD(0.01)))


def test_flushing_nothing_changes_nothing():
    params = {"w": jnp.ones(2)}
    for optimizer in (SGD(), SGD(gradient_accumulation_steps=2), optimizers.Optimizer()):
        state = optimizer.init(params)
        updates, after = optimizer.flush(state, params)
        assert updates["w"].tolist() == [0, 0]
        jax.tree.map(np.testing.assert_array_equal, after, state)


# -- averages ------------------------------------------------------------------------------------


@pytest.mark.parametrize("overwrite", [None, 3])
def test_averaged_weights_stand_in_the_model_after_fit(overwrite):
    arguments = {"use_ema": True, "ema_momentum": 0.9, "ema_overwrite_frequency": overwrite}
    x, y = task(32)
    net = network()
    with keras_rules():
        other = keras.Sequential(
            [keras.Input((4,)), keras.layers.Dense(3, "tanh"), keras.layers.Dense(1)]
        )
        other.set_weights(net.get_weights())
        other.compile(keras.optimizers.SGD(0.05, **arguments), "mse")
        other.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0)
    rule = SGD(0.05, **arguments)
    assert_same(fitted(rule, net=net, data=(x, y), epochs=3), other)
    for around in (ByPath({"**": rule}), LossScaleOptimizer(rule)):
        assert_same(fitted(around, data=(x, y), epochs=3), net)


def test_averages_move_by_updates_not_by_batches():
    arguments = {"use_ema": True, "ema_momentum": 0.5}
    several = fitted(SGD(0.05, gradient_accumulation_steps=4, **arguments))
    assert_same(several, fitted(SGD(0.05, **arguments), batch_size=28))


def test_no_average_without_an_epoch():
    net = fitted(SGD(0.05, use_ema=True), epochs=0)
    assert_same(net, network())


# -- parts ---------------------------------------------------------------------------------------


def test_each_part_has_the_optimizer_of_its_pattern():
    params = {"a": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}, "b": {"kernel": jnp.ones(3)}}
    labels = {"a": {"kernel": "adam", "bias": "none"}, "b": {"kernel": "sgd"}}
    oracle = optax.multi_transform(
        {"adam": optax.adam(0.1, eps=1e-7), "sgd": optax.sgd(0.5), "none": optax.set_to_zero()},
        labels,
    )
    ours = ByPath({"**/bias": optax.set_to_zero(), "a/*": Adam(0.1), "**": optax.sgd(0.5)})
    rng = np.random.default_rng(0)
    states = [oracle.init(params), ours.init(params)]
    for _ in range(5):
        grads = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), "float32"), params)
        (first, states[0]), (second, states[1]) = (
            rule.update(grads, state, params)
            for rule, state in zip((oracle, ours), states, strict=True)
        )
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), first, second)


def test_rates_of_parts_are_read_and_set_by_pattern():
    optimizer = ByPath({"dense/**": "sgd", "**": Adam(0.1)})
    assert optimizer == ByPath({"dense/**": SGD(), "**": Adam(0.1)})
    assert from_config(to_config(optimizer)) == optimizer
    net = fitted(optimizer)
    assert {n: float(r) for n, r in net.learning_rate.items()} == pytest.approx(
        {"dense/**": 0.01, "**": 0.1}
    )
    with compilations() as compiled:
        net.learning_rate = {"dense/**": 0.0}
        before = net.get_weights()
        net.fit(*task(), batch_size=8, verbose=0)
        net.learning_rate = 0.5
    assert compiled == []
    np.testing.assert_array_equal(before[0], net.get_weights()[0])
    assert not np.array_equal(before[2], net.get_weights()[2])
    assert {float(rate) for rate in net.learning_rate.values()} == {0.5}
    with pytest.raises(ValueError, match=r"by the patterns \['\*\*', 'dense/\*\*'\].*'den'"):
        net.learning_rate = {"den": 0.1}


def test_a_rate_by_schedule_is_read_at_any_time():
    schedule = fnn.schedules.ExponentialDecay(0.1, 4, 0.5)
    net = fitted(SGD(schedule), epochs=3)  # 4 batches an epoch
    assert float(net.learning_rate) == pytest.approx(0.1 * 0.5**3)
    net = fitted(LossScaleOptimizer(SGD(schedule)), epochs=3)
    assert float(net.learning_rate) == pytest.approx(0.1 * 0.5**3)


@pytest.mark.parametrize("around", [lambda o: o, LossScaleOptimizer, lambda o: ByPath({"**": o})])
def test_a_rate_set_in_place_of_a_schedule_holds(around):
    schedule = fnn.schedules.ExponentialDecay(0.1, 4, 0.5)
    net = fitted(around(SGD(schedule)))
    with compilations() as compiled:
        net.learning_rate = 0.02
        net.fit(*task(), batch_size=8, epochs=2, shuffle=False, verbose=0)
    assert compiled == []
    assert jax.tree.leaves(net.learning_rate) == [np.float32(0.02)]
    assert jax.tree.leaves(net.history.learning_rate) == pytest.approx([0.02, 0.02])
    other = fitted(SGD(schedule))
    other.compile(SGD(0.02), "mse")
    other.fit(*task(), batch_size=8, epochs=2, shuffle=False, verbose=0)
    assert_same(net, other)


def test_the_rate_of_a_model_without_weights_is_read_and_set():
    net = fnn.Sequential([Dense(3, "tanh"), Dense(1)], seed=0)
    net.compile(ByPath({"dense/*": SGD(0.1), "**": Adam(0.2)}), "mse")
    assert {n: float(r) for n, r in net.learning_rate.items()} == pytest.approx(
        {"dense/*": 0.1, "**": 0.2}
    )
    net.learning_rate = 0.05
    net.learning_rate = {"**": 0.01}
    assert jax.tree.leaves(net.learning_rate) == pytest.approx([0.01, 0.05])
    with pytest.raises(ValueError, match="a finite learning rate of at least 0"):
        net.learning_rate = -1
    net.fit(*task(), verbose=0)
    assert jax.tree.leaves(net.learning_rate) == pytest.approx([0.01, 0.05])
    net.compile(SGD(0.5), "mse")
    assert float(net.learning_rate) == 0.5


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        (Adam(0.25), [0.25, 0.25]),
        (SGD(fnn.schedules.ExponentialDecay(0.1, 4, 0.5)), [0.05, 0.025]),
        (ByPath({"dense/**": SGD(0.5), "**": Adam(0.1)}), [{"dense/**": 0.5, "**": 0.1}] * 2),
        (optax.sgd(0.1), [None, None]),
    ],
)
def test_the_history_has_the_rate_of_each_epoch(optimizer, expected):
    found = fitted(optimizer).history.learning_rate
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    assert jax.tree.leaves(found) == pytest.approx(jax.tree.leaves(expected))


SEARCHES = {
    "lbfgs": optax.lbfgs,
    "line search": lambda: optax.chain(
        optax.sgd(1.0), optax.scale_by_backtracking_linesearch(5, store_grad=True)
    ),
    "plateau": lambda: optax.chain(optax.adam(0.05), optax.contrib.reduce_on_plateau()),
}


@pytest.mark.parametrize("make", SEARCHES.values(), ids=SEARCHES)
@pytest.mark.parametrize("around", [lambda o: o, LossScaleOptimizer], ids=["bare", "scaled"])
def test_parts_are_given_what_they_take(make, around):
    """One part of everything is the optimizer itself."""
    assert_same(fitted(around(ByPath({"**": make()}))), fitted(make()))


def test_a_search_over_one_part_leaves_the_others_fixed():
    """L-BFGS on the last layer alone, by hand: the loss as a function of that layer's weights."""
    x, y = task(28)
    net, search = network(), optax.lbfgs()
    start = net.params

    def loss(part):
        hidden = jnp.tanh(x @ start["dense"]["kernel"] + start["dense"]["bias"])
        return jnp.square(hidden @ part["dense_1/kernel"] + part["dense_1/bias"] - y).mean()

    part = {f"dense_1/{name}": leaf for name, leaf in start["dense_1"].items()}
    slots = search.init(part)

    @jax.jit
    def step(part, slots):
        value, grad = jax.value_and_grad(loss)(part)
        updates, slots = search.update(grad, slots, part, value=value, grad=grad, value_fn=loss)
        return optax.apply_updates(part, updates), slots

    with keras_rules():  # it adds (3,) to (28, 3)
        for _ in range(4):
            part, slots = step(part, slots)
    fitted(
        ByPath({"dense_1/*": optax.lbfgs(), "**": optax.set_to_zero()}),
        net=net, batch_size=28, epochs=4,
    )  # fmt: skip
    np.testing.assert_array_equal(net.params["dense"]["kernel"], start["dense"]["kernel"])
    for name, leaf in part.items():
        np.testing.assert_allclose(
            net.params["dense_1"][name.partition("/")[2]], leaf, rtol=1e-3, atol=1e-4
        )


def test_lookahead_is_refused():
    for around in (lambda o: o, LossScaleOptimizer, lambda o: ByPath({"**": o})):
        with pytest.raises(ValueError, match=r"received optax.lookahead, .* in pairs"):
            fitted(around(optax.chain(optax.clip(1.0), optax.lookahead(optax.sgd(0.1), 5, 0.5))))


# -- weight decay --------------------------------------------------------------------------------


@pytest.mark.parametrize("patterns", [("**/bias",), ["biases_and_norms"], "biases_and_norms"])
def test_excluded_weights_do_not_decay(patterns):
    x, y = task(32)
    net = network()
    with keras_rules():
        other = keras.Sequential(
            [keras.Input((4,)), keras.layers.Dense(3, "tanh"), keras.layers.Dense(1)]
        )
        other.set_weights(net.get_weights())
        theirs = keras.optimizers.SGD(0.05, weight_decay=0.2)
        theirs.exclude_from_weight_decay(var_names=["bias"])
        other.compile(theirs, "mse")
        other.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0)
    ours = SGD(0.05, weight_decay=0.2, exclude_from_weight_decay=patterns)
    assert from_config(to_config(ours)) == ours
    assert_same(fitted(ours, net=net, data=(x, y), epochs=3), other)


def test_a_named_option_covers_the_slopes_of_prelu():
    layers = [Embedding(4, 3), Dense(3), fnn.layers.PReLU(), fnn.layers.LayerNormalization()]
    net = fnn.Sequential([fnn.Input((2,), dtype="int32"), *layers], seed=0)
    optimizer = SGD(0.5, weight_decay=0.1, exclude_from_weight_decay="biases_and_norms")
    weights = jax.tree.map(jnp.ones_like, net.params)
    still = jax.tree.map(jnp.zeros_like, weights)
    updates, _ = optimizer.update(still, optimizer.init(weights), weights)
    moved = {path_name(p) for p, u in jax.tree_util.tree_leaves_with_path(updates) if u.any()}
    assert moved == {"embedding/embeddings", "dense/kernel"}


def test_a_pattern_that_fits_no_weight_is_refused():
    for patterns in (("nope/**",), ("**/bias", "nope/**")):
        rule = SGD(weight_decay=0.1, exclude_from_weight_decay=patterns)
        for around in (rule, ByPath({"**": rule}), LossScaleOptimizer(rule)):
            with pytest.raises(
                ValueError, match=r"\['nope/\*\*'\]; which match none.*dense/kernel"
            ):
                fitted(around)
    with pytest.raises(ValueError, match=r"e\.g\. dense_1/bias, dense/bias"):
        fitted(SGD(weight_decay=0.1, exclude_from_weight_decay=("dense_1/bais",)))
    SGD(exclude_from_weight_decay="biases_and_norms").init({"kernel": jnp.ones(1)})


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("**", "kernel", True),
        ("**", "a/b/kernel", True),
        ("a/**", "a/b/kernel", True),
        ("a/**", "ab/kernel", False),
        ("a/**", "a", False),
        ("**/kernel", "kernel", True),
        ("*/kernel", "a/b/kernel", False),
        ("dense*/kernel", "dense_1/kernel", True),
        ("a.c/kernel", "abc/kernel", False),
        ("a/**/kernel", "a/kernel", True),
        ("biases_and_norms", "lstm/bias", True),
        ("biases_and_norms", "batch_normalization/beta", True),
        ("biases_and_norms", "p_re_lu/alpha", True),
        ("biases_and_norms", "dense/kernel", False),
        ("biases_and_norms", "embedding/embeddings", False),
    ],
)
def test_patterns_of_paths(pattern, path, expected):
    assert matches(pattern, path) is expected


def test_patterns_match_as_regular_expressions_do_and_in_time():
    generator = random.Random(0)
    parts = ["**", "*", "a", "a*", "*b", "a*b", "ab", "*a*b*", "**a", "b**", "a.b"]
    for _ in range(3000):
        names = [generator.choice(parts) for _ in range(generator.randint(1, 4))]
        path = "/".join(
            "".join(generator.choice("ab") for _ in range(generator.randint(1, 3)))
            for _ in range(generator.randint(1, 4))
        )
        one = lambda name: re.escape(name).replace(r"\*", "[^/]*") + "/"
        expression = "".join("([^/]+/)*" if name == "**" else one(name) for name in names)
        if len(names) > 1 and names[-1] == "**":  # all inside, so something
            expression = expression[:-1] + "+"
        expected = re.fullmatch(expression, f"{path}/") is not None
        assert matches("/".join(names), path) is expected, (names, path)
    start = time.process_time()
    assert not matches("*a" * 30 + "b", "a" * 2000)
    assert not matches("**/" * 14 + "b", "/".join("a" * 500))
    assert not matches("**/*a*a*a*b/" * 9 + "b", "/".join(["aaaaaaaaaaaa"] * 60))
    assert time.process_time() - start < 1


# -- loss scaling --------------------------------------------------------------------------------


def test_the_loss_scale_follows_that_of_keras():
    start, grads = np.ones(3, "float32"), np.random.default_rng(0).normal(size=(12, 3))
    grads[[4, 9]] = np.inf
    with keras_rules():
        weights, expected = [jnp.asarray(start)], []
        theirs = keras.optimizers.LossScaleOptimizer(
            keras.optimizers.SGD(0.1), initial_scale=8.0, dynamic_growth_steps=3
        )
        theirs.build([keras.Variable(start)])
        slots = [variable.value for variable in theirs.variables]
        place = [variable is theirs.dynamic_scale for variable in theirs.variables].index(True)
        for grad in grads:
            grad = jnp.asarray(grad, "float32")
            weights, slots = theirs.stateless_apply(slots, [grad], weights)
            expected.append((float(slots[place]), np.array(weights[0])))
    ours = LossScaleOptimizer(SGD(0.1), 8.0, 3)
    params = {"w": jnp.asarray(start)}
    state = ours.init(params)
    for grad, (scale, weights) in zip(grads, expected, strict=True):
        updates, state = ours.update({"w": jnp.asarray(grad, "float32")}, state, params)
        params = optax.apply_updates(params, updates)
        assert float(state["loss_scale"]) == scale
        np.testing.assert_allclose(params["w"], weights, rtol=1e-6)


def test_training_scales_the_loss_and_takes_the_scale_back():
    assert_same(fitted(LossScaleOptimizer(SGD(0.05))), fitted(SGD(0.05)))


def test_an_overflow_is_left_out_and_the_scale_comes_down():
    net = fitted(LossScaleOptimizer(SGD(0.01), initial_scale=3e38), epochs=4)
    scale = net.train_state.optimizer["loss_scale"]
    assert 1 < scale < 3e38
    assert all(np.isfinite(w).all() for w in net.get_weights())
    assert_not_equal(net, network())


def assert_not_equal(first, second):
    pairs = zip(first.get_weights(), second.get_weights(), strict=True)
    assert any(not np.array_equal(a, b) for a, b in pairs)


def test_a_gradient_that_no_scale_makes_finite_is_an_error():
    root = lambda y_true, y_pred: jnp.sqrt(jnp.abs(y_pred * 0)).mean(-1)
    with pytest.raises(fnn.training.TrainingError, match="finite gradients"):
        fitted(LossScaleOptimizer(SGD(0.01), initial_scale=4.0), loss=root)


# -- refusals ------------------------------------------------------------------------------------

PARAMS = {"dense": {"kernel": jnp.ones(1)}}

WRONG = [
    (lambda: ByPath({}), ValueError, "rules to be a dict of optimizers by pattern"),
    (lambda: ByPath(SGD()), ValueError, "rules to be a dict"),
    (lambda: ByPath({"": SGD()}), ValueError, "rules to be patterns of paths"),
    (lambda: ByPath({"**": 3}), TypeError, "expected an optimizer, received 3 of type int"),
    (lambda: ByPath({"**": "adma"}), ValueError, "'adam'"),
    (lambda: ByPath({"**": LossScaleOptimizer("sgd")}), ValueError, "without loss scaling"),
    (lambda: ByPath({"d": "sgd"}).init(PARAMS), ValueError, "matches dense/kernel"),
    (
        lambda: ByPath({"d": "sgd", "**": "sgd"}).init(PARAMS),
        ValueError,
        r"\['d'\]; which match none",
    ),
    (lambda: LossScaleOptimizer(3), TypeError, "expected an optimizer, received 3"),
    (lambda: LossScaleOptimizer("sgd", 0.5), ValueError, "initial_scale to be a number of at le"),
    (
        lambda: LossScaleOptimizer("sgd", 2.0, 0),
        ValueError,
        "dynamic_growth_steps to be an integer",
    ),
    (lambda: SGD(exclude_from_weight_decay=("",)), ValueError, "to be patterns of paths"),
    (lambda: SGD(exclude_from_weight_decay=3), ValueError, "to be a tuple of strings"),
]


@pytest.mark.parametrize(("make", "error", "message"), WRONG)
def test_wrong_arguments_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_extra_arguments_go_to_those_that_take_them():
    search = optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(5))
    net = fitted(search)
    assert_not_equal(net, network())
    assert current_learning_rate(search, net.train_state.optimizer) is None


# -- compilations --------------------------------------------------------------------------------

SWEPT = {
    "Adam": Adam,
    "accumulating": lambda rate: SGD(rate, gradient_accumulation_steps=3),
    "ByPath": lambda rate: ByPath({"dense/*": SGD(rate), "**": Adam(2 * rate)}),
    "LossScaleOptimizer": lambda rate: LossScaleOptimizer(SGD(rate)),
    "open": lambda rate: Halved(rate),
}


ALONE = {Adam: lambda rate: optax.adam(rate, eps=1e-7), SWEPT["open"]: lambda r: optax.sgd(r / 2)}


class Halved(SGD):
    """A rule with an `__init__` of its own."""

    def __init__(self, rate):
        super().__init__(learning_rate=rate / 2)


@pytest.mark.parametrize("make", SWEPT.values(), ids=SWEPT)
def test_a_sweep_of_rates_compiles_once_in_all(make):
    """Five fresh models, and a change in mid-run, with the numbers of models by themselves."""
    fitted(make(0.3))
    rates, found = [1, 0.1, 0.01, 1e-3, 1e-4], []
    with compilations() as compiled:
        for rate in rates:
            found.append(fitted(make(rate)))
        change = fnn.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: epoch and setattr(found[-1], "learning_rate", 0.02)
        )
        found.append(network())
        fitted(make(0.1), net=found[-1], callbacks=[change])
    assert compiled == []
    for net, rate in zip(found[1:3], rates[1:3], strict=True):
        assert_same(net, fitted(ALONE.get(make, make)(rate)))
    assert_not_equal(found[1], found[2])
    changed, alone = found[-1], fitted(make(0.1), epochs=1)
    alone.learning_rate = 0.02
    alone.fit(*task(), batch_size=8, epochs=2, initial_epoch=1, shuffle=False, verbose=0)
    assert_same(changed, alone)


def test_a_rule_that_reads_its_own_rate_in_a_step_fails_loudly():
    class Reads(SGD):
        def direction(self):
            return optax.scale(2 * self.learning_rate)

    with pytest.raises(TypeError):
        fitted(Reads(0.1))


# -- updates that are not finite -----------------------------------------------------------------


class Diverging(fnn.optimizers.Optimizer):
    """Its updates are infinite where its gradients are not."""

    def __init__(self):
        super().__init__()

    def get_updates(self, loss, params):
        return jax.tree.map(lambda g: g / 0.0, jax.grad(loss)(params))


DIVERGING = {
    "get_updates": Diverging,
    "optax": lambda: optax.chain(optax.scale(1e30), optax.scale(-1e30)),
    "part": lambda: ByPath({"dense/*": "sgd", "**": optax.scale(float("nan"))}),
    "scaled": lambda: LossScaleOptimizer(optax.scale(float("nan"))),
}


@pytest.mark.parametrize("make", DIVERGING.values(), ids=DIVERGING)
def test_updates_that_are_not_finite_are_not_committed(make):
    net = network()
    with pytest.raises(fnn.training.TrainingError, match="in the updates of the optimizer"):
        fitted(make(), net=net)
    assert_same(net, network())
    net.compile(make(), "mse", guard="skip")
    net.fit(*task(), batch_size=8, verbose=0)
    assert_same(net, network())


LAST = 2**31 - 1
COUNTED = [
    optimizers.SGD,
    optimizers.Adam,
    optimizers.Nadam,
    optimizers.ScheduleFreeAdamW,
    lambda rate: optimizers.ByPath({"**": optimizers.SGD(rate)}),
    lambda rate: optimizers.LossScaleOptimizer(optimizers.SGD(rate)),
]


@pytest.mark.parametrize("make", COUNTED)
def test_the_last_step_of_32_bits_is_not_followed_by_the_first(make):
    """A count that wrapped would start the schedule again, and the corrections of Adam."""
    rate = 0.1 if make is optimizers.ScheduleFreeAdamW else fnn.schedules.CosineDecay(0.1, 1000)
    optimizer, params = make(rate), {"w": jnp.ones(2)}
    state = optimizer.init(params)
    counts = lambda path: path_name(path).endswith(("step", "count"))
    at_end = lambda path, leaf: jnp.full_like(leaf, LAST) if counts(path) else leaf
    state = jax.tree_util.tree_map_with_path(at_end, state)
    for _ in range(3):
        updates, state = optimizer.update({"w": jnp.ones(2)}, state, params)
        assert np.isfinite(updates["w"]).all()
    found = jax.tree_util.tree_leaves_with_path(state)
    assert {int(leaf) for path, leaf in found if counts(path)} == {LAST}
    if rate != 0.1 and make is optimizers.SGD:
        assert float(state["learning_rate"]) == 0.0


def test_training_goes_on_after_the_last_step_of_32_bits():
    net = fnn.Sequential([fnn.layers.Dense(1, input_shape=(2,)), fnn.layers.Dropout(0.5)], seed=0)
    net.compile("adam", "mse")
    net.fit(np.ones((8, 2)), np.ones((8, 1)), verbose=0)
    net.train_state = net.train_state.replace(step=np.int32(LAST - 1))
    net.fit(np.ones((8, 2)), np.ones((8, 1)), batch_size=2, epochs=2, verbose=0)
    assert int(net.train_state.step) == LAST
    assert np.isfinite(net.get_weights()[0]).all()
