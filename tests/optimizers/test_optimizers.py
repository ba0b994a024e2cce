"""Optimizers: ten steps against Keras, bits against optax, rates, own updates, messages."""

import dataclasses
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fnn import optimizers
from fnn.core.config import from_config, to_config
from fnn.optimizers import (
    SGD,
    Adam,
    Optimizer,
    Rule,
    current_learning_rate,
    expand_updates,
    with_learning_rate,
)
from fnn.schedules import CosineDecay, ExponentialDecay
from tests.helpers.compiling import usual_jit
from tests.helpers.oracle import keras_rules

random = np.random.default_rng(0)
PARAMS = {
    "dense": {
        "kernel": random.normal(size=(4, 3)).astype("float32"),
        "bias": random.normal(size=3).astype("float32"),
    }
}
STEPS = 10
GRADS = [
    jax.tree.map(lambda p: random.normal(size=p.shape).astype("float32"), PARAMS)
    for _ in range(STEPS)
]

# (class, arguments): ten steps equal Keras
TABLE = [
    ("SGD", {}),
    ("SGD", {"learning_rate": 0.1, "momentum": 0.9}),
    ("SGD", {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True}),
    ("SGD", {"learning_rate": 0.1, "weight_decay": 0.1}),
    ("SGD", {"learning_rate": 0.1, "clipnorm": 0.5}),
    ("SGD", {"learning_rate": 0.1, "clipvalue": 0.3}),
    ("SGD", {"learning_rate": 0.1, "global_clipnorm": 0.7}),
    ("SGD", {"learning_rate": 0.1, "gradient_accumulation_steps": 3, "clipnorm": 0.5}),
    ("SGD", {"learning_rate": 0.1, "use_ema": True, "ema_overwrite_frequency": 3}),
    ("RMSprop", {"learning_rate": 0.01}),
    ("RMSprop", {"learning_rate": 0.01, "momentum": 0.5, "rho": 0.8}),
    ("RMSprop", {"learning_rate": 0.01, "centered": True}),
    ("Adam", {"learning_rate": 0.1}),
    ("Adam", {"learning_rate": 0.1, "weight_decay": 0.05, "beta_1": 0.8, "global_clipnorm": 1.0}),
    ("Adam", {"learning_rate": 0.1, "gradient_accumulation_steps": 2}),
    ("AdamW", {}),
    ("AdamW", {"learning_rate": 0.1, "weight_decay": 0.1}),
    ("Adagrad", {"learning_rate": 0.1}),
    ("Adadelta", {"learning_rate": 1.0}),
    ("Adamax", {"learning_rate": 0.1}),
    ("Nadam", {"learning_rate": 0.1}),
    ("Lion", {"learning_rate": 0.01, "weight_decay": 0.1}),
    ("Lamb", {"learning_rate": 0.1}),
    ("Adafactor", {"learning_rate": 0.5}),
    ("Adafactor", {"learning_rate": 0.01, "clip_threshold": 0.5}),
    ("Ftrl", {"learning_rate": 0.1}),
    (
        "Ftrl",
        {
            "learning_rate": 0.1,
            "l1_regularization_strength": 0.1,
            "l2_regularization_strength": 0.2,
            "l2_shrinkage_regularization_strength": 0.01,
            "beta": 0.1,
            "learning_rate_power": -0.7,
        },
    ),
    ("Muon", {"learning_rate": 0.1}),
    ("Muon", {"learning_rate": 0.1, "nesterov": False, "rms_rate": None, "adam_lr_ratio": 0.1}),
    ("Muon", {"learning_rate": 0.1, "exclude_layers": ("kern",), "adam_weight_decay": None}),
    ("ScheduleFreeAdamW", {"learning_rate": 0.1}),
    ("ScheduleFreeAdamW", {"learning_rate": 0.1, "warmup_steps": 4, "weight_decay": 0.1}),
]
NAMES = [f"{name}-{arguments}" for name, arguments in TABLE]
ALL = sorted({name for name, _ in TABLE})


def run(optimizer, params=PARAMS, grads=GRADS, jit=jax.jit):
    state, update, history = optimizer.init(params), jit(optimizer.update), []
    for g in grads:
        updates, state = update(g, state, params)
        params = optax.apply_updates(params, updates)
        history.append(params)
    return history, state


def run_keras(keras, oracle):
    with keras_rules():
        names = ["kernel", "bias"]
        weights = [keras.Variable(PARAMS["dense"][n], name=n) for n in names]
        history = []
        for g in GRADS:
            oracle.apply([jnp.asarray(g["dense"][n]) for n in names], weights)
            history.append({n: np.array(w) for n, w in zip(names, weights, strict=True)})
    return history


@pytest.mark.slow
@pytest.mark.parametrize(("name", "arguments"), TABLE, ids=NAMES)
def test_ten_steps_equal_keras(keras, name, arguments):
    with keras_rules():
        given = {k: list(v) if isinstance(v, tuple) else v for k, v in arguments.items()}
        expected = run_keras(keras, getattr(keras.optimizers, name)(**given))
    history, _ = run(getattr(optimizers, name)(**arguments))
    for ours, theirs in zip(history, expected, strict=True):
        for weight, value in theirs.items():
            np.testing.assert_allclose(ours["dense"][weight], value, rtol=1e-5, atol=1e-5)


SMALL = [np.float32([g, 1e-6]) for g in (0.5, -0.2, 0.3)]
FALLING = [np.float32([g, g]) for g in (0.5, 0.05, 0.02)]
# (class, arguments, gradients, whether the rate drops, what ours and Keras's weights come to)
DIFFERENCES = [
    ("Adam", {}, SMALL, False, [0.811, 0.727], [0.811, 0.910]),
    ("AdamW", {}, SMALL, False, [0.810, 0.726], [0.810, 0.909]),
    ("Muon", {}, SMALL, False, [0.810, 0.726], [0.810, 0.909]),
    ("Nadam", {}, SMALL, False, [0.869, 0.768], [0.869, 0.768]),
    ("Adam", {"amsgrad": True}, FALLING, False, [0.813] * 2, [0.766] * 2),
    ("AdamW", {"amsgrad": True}, FALLING, False, [0.812] * 2, [0.765] * 2),
    ("SGD", {"momentum": 0.9}, FALLING, True, [0.940] * 2, [0.863] * 2),
    ("RMSprop", {"momentum": 0.9}, FALLING, True, [0.622] * 2, [0.135] * 2),
]


@pytest.mark.parametrize(("name", "arguments", "grads", "drops", "ours", "theirs"), DIFFERENCES)
def test_differences_from_keras_are_those_of_the_docstrings(
    keras, name, arguments, grads, drops, ours, theirs
):
    params, rule = {"w": jnp.ones(2)}, getattr(optimizers, name)(0.1, **arguments)
    state = rule.init(params)
    with keras_rules():
        oracle = getattr(keras.optimizers, name)(0.1, **arguments)
        weight = keras.Variable(np.ones(2, "float32"), name="w")
    for number, grad in enumerate(grads):
        if drops and number:
            state, oracle.learning_rate = with_learning_rate(state, 0.01), 0.01
        updates, state = rule.update({"w": jnp.asarray(grad)}, state, params)
        params = optax.apply_updates(params, updates)
        with keras_rules():
            oracle.apply([jnp.asarray(grad)], [weight])
    np.testing.assert_allclose(params["w"], ours, atol=6e-4)
    np.testing.assert_allclose(weight.value, theirs, atol=6e-4)


BITS = [
    (SGD(0.1), optax.sgd(0.1)),
    (SGD(0.1, momentum=0.9, nesterov=True), optax.sgd(0.1, 0.9, nesterov=True)),
    (Adam(0.1), optax.adam(0.1, eps=1e-7)),
    (Adam(0.1, amsgrad=True), optax.amsgrad(0.1, eps=1e-7)),
    (optimizers.RMSprop(0.1), optax.rmsprop(0.1, eps=1e-7)),
    (optimizers.Adagrad(0.1), optax.adagrad(0.1)),
    (optimizers.Adamax(0.1), optax.adamax(0.1, eps=1e-7)),
    (optimizers.Lion(0.1), optax.lion(0.1, weight_decay=0)),
    (
        Adam(ExponentialDecay(0.1, 3, 0.5)),
        optax.adam(lambda step: ExponentialDecay(0.1, 3, 0.5)(step), eps=1e-7),
    ),
    (
        Adam(0.1, global_clipnorm=0.5),
        optax.chain(optax.clip_by_global_norm(0.5), optax.adam(0.1, eps=1e-7)),
    ),
]


@pytest.mark.parametrize(("ours", "oracle"), BITS, ids=[repr(ours) for ours, _ in BITS])
def test_bits_equal_optax(ours, oracle):
    found, expected = (run(rule, jit=usual_jit)[0][-1] for rule in (ours, oracle))
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def plainly(name, arguments):
    """The optimizer without what it does around its rule."""
    around = ("clipnorm", "clipvalue", "global_clipnorm", "gradient_accumulation_steps")
    around += ("use_ema", "ema_overwrite_frequency", "adam_weight_decay")
    fields = {n: value for n, value in arguments.items() if n not in around}
    muon = {"adam_weight_decay": None} if name == "Muon" else {}
    return getattr(optimizers, name)(**{**fields, **muon, "weight_decay": None})


# Rows that differ in what is around the rule are one of these.
RULES = {repr(rule): rule for rule in (plainly(*row) for row in TABLE)}


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", RULES.values(), ids=RULES)
def test_a_rule_is_a_transformation_by_itself(optimizer):
    expected, found = run(optimizer)[0], run(optimizer.rule())[0]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-6, 1e-7), found, expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_a_rule_takes_the_rate_of_the_step(name):
    init, update = getattr(optimizers, name)(0.1).rule()
    given = update(GRADS[0], init(PARAMS), PARAMS, learning_rate=0.05)
    expected = getattr(optimizers, name)(0.05).rule().update(GRADS[0], init(PARAMS), PARAMS)
    jax.tree.map(np.testing.assert_array_equal, given, expected)
    others = update(GRADS[0], init(PARAMS), PARAMS)[0]
    assert not np.allclose(others["dense"]["kernel"], given[0]["dense"]["kernel"], 1e-3)


def test_a_rule_whose_rate_is_a_schedule_wants_that_of_the_step():
    init, update = Adam(ExponentialDecay(0.1, 3, 0.5)).rule()
    with pytest.raises(ValueError, match=r"Adam: the learning rate of its rule is not a number"):
        update(GRADS[0], init(PARAMS), PARAMS)
    updates, _ = update(GRADS[0], init(PARAMS), PARAMS, learning_rate=0.1)
    np.testing.assert_allclose(np.abs(updates["dense"]["bias"]), 0.1, 1e-5)


@pytest.mark.parametrize("name", ["Ftrl", "ScheduleFreeAdamW"])
def test_a_rule_that_needs_the_weights_says_so(name):
    optimizer = getattr(optimizers, name)()
    with pytest.raises(ValueError, match=f"{name}: expected params, which the rule needs"):
        optimizer.update(GRADS[0], optimizer.init(PARAMS))


@pytest.mark.parametrize("name", [*ALL, "LossScaleOptimizer"])
def test_arguments_are_those_of_keras(keras, name):
    """All of them, in their positions, with their defaults."""
    theirs = inspect.signature(getattr(keras.optimizers, name).__init__).parameters
    ours = inspect.signature(getattr(optimizers, name)).parameters
    shown = lambda parameters: [(n, p.default, p.kind) for n, p in parameters.items()]
    expected = [row for row in shown(theirs) if row[0] not in ("self", "kwargs")]
    # a method of Keras's, which changes the optimizer
    own = [("exclude_from_weight_decay", (), inspect.Parameter.KEYWORD_ONLY)]
    assert shown(ours) == expected + (own if name in ALL else [])


def test_arguments_go_by_position():
    assert SGD(0.1, 0.9, True, 1e-4) == SGD(
        learning_rate=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4
    )
    assert SGD(0.1, 0.0, False, None, None, 1.0, None, True, 0.5, 3, None, None, "s") == SGD(
        0.1, clipvalue=1.0, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=3, name="s"
    )
    assert optimizers.LossScaleOptimizer("sgd", 2.0, 3, "l").name == "l"
    with pytest.raises(TypeError, match="multiple values for argument 'momentum'"):
        SGD(0.1, 0.9, momentum=0.9)
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:  # where Python itself says KeyError
        with pytest.raises(TypeError, match="multiple values for argument 'momentum'"):
            SGD(0.1, 0.9, momentum=0.9)


def test_the_base_takes_what_that_of_keras_takes():
    class Plain(Optimizer):
        def get_updates(self, loss, params):
            return jax.tree.map(lambda g: -self.learning_rate * g, jax.grad(loss)(params))

    class Scaled(Plain):
        factor: float = 2.0

    class Open(Plain):
        def __init__(self, learning_rate, name="open"):
            super().__init__(learning_rate, name=name)

    assert (Plain(0.5).learning_rate, Plain(learning_rate=0.5, name="p").name) == (0.5, "p")
    assert (Scaled(0.5, 3.0, "s").factor, Scaled(0.5).factor) == (3.0, 2.0)
    assert (Open(0.5).learning_rate, Open(0.5).name) == (0.5, "open")
    assert Open(0.5) == Open(0.5) != Open(0.25)
    assert current_learning_rate(Open(0.5), Open(0.5).init(PARAMS)) == 0.5


@pytest.mark.slow
@pytest.mark.parametrize(("name", "arguments"), TABLE, ids=NAMES)
def test_an_optimizer_is_a_value_with_a_steady_state(name, arguments):
    optimizer = getattr(optimizers, name)(**arguments)
    assert from_config(to_config(optimizer)) == optimizer
    assert hash(optimizer) == hash(getattr(optimizers, name)(**arguments))
    state = optimizer.init(PARAMS)
    new = jax.eval_shape(optimizer.update, GRADS[0], state, PARAMS)[1]
    assert jax.tree.structure(state) == jax.tree.structure(new)
    assert jax.tree.map(lambda a: (a.shape, a.dtype), state) == jax.tree.map(
        lambda a: (a.shape, a.dtype), new
    )
    assert state["learning_rate"].dtype == jnp.float32


@pytest.mark.slow
@pytest.mark.parametrize(("name", "arguments"), TABLE, ids=NAMES)
def test_half_precision_weights_stay_so(name, arguments):
    optimizer = getattr(optimizers, name)(**arguments)
    half = jax.tree.map(lambda p: jnp.asarray(p, "bfloat16"), PARAMS)
    state = jax.eval_shape(optimizer.init, half)
    updates, new = jax.eval_shape(optimizer.update, half, state, half)
    assert jax.tree.map(lambda a: a.dtype, state) == jax.tree.map(lambda a: a.dtype, new)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(updates)} == {"bfloat16"}


def test_an_optimizer_is_an_optax_transformation():
    init, update = Adam(0.1)
    assert init(PARAMS)["step"] == 0
    updates, _ = update(GRADS[0], init(PARAMS), PARAMS)
    chained = optax.chain(Adam(0.1), optax.scale(0.5))
    half, _ = chained.update(GRADS[0], chained.init(PARAMS), PARAMS)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, 0.5 * b), half, updates)
    kept = optax.masked(SGD(0.1), {"dense": {"kernel": True, "bias": False}})
    assert kept.update(GRADS[0], kept.init(PARAMS), PARAMS)[0]["dense"]["bias"] is not None
    extra, _ = update(GRADS[0], init(PARAMS), PARAMS, value=1.0)
    jax.tree.map(np.testing.assert_array_equal, extra, updates)


def test_the_rate_changes_without_compiling_anew():
    optimizer, traces = SGD(0.1), []

    @jax.jit
    def step(grads, state):
        traces.append(1)
        return optimizer.update(grads, state)

    state = optimizer.init(PARAMS)
    assert current_learning_rate(optimizer, state) == np.float32(0.1)
    updates, state = step(GRADS[0], state)
    state = with_learning_rate(state, 0.5)
    assert current_learning_rate(optimizer, state) == 0.5
    updates, state = step(GRADS[0], state)
    assert len(traces) == 1
    np.testing.assert_allclose(updates["dense"]["bias"], -0.5 * GRADS[0]["dense"]["bias"])


def test_a_schedule_sets_the_rate():
    schedule = CosineDecay(0.1, 10)
    optimizer = SGD(schedule)
    state = optimizer.init(PARAMS)
    for step in range(3):
        np.testing.assert_allclose(current_learning_rate(optimizer, state), schedule(step))
        updates, state = optimizer.update(GRADS[0], state)
        np.testing.assert_allclose(
            updates["dense"]["bias"], -schedule(step) * GRADS[0]["dense"]["bias"], rtol=1e-6
        )
    state = with_learning_rate(state, 0.5)
    for _ in range(2):
        assert current_learning_rate(optimizer, state) == 0.5
        updates, state = optimizer.update(GRADS[0], state)
        np.testing.assert_allclose(updates["dense"]["bias"], -0.5 * GRADS[0]["dense"]["bias"])
    plain = SGD(lambda step: 0.1 / (step + 1))
    assert current_learning_rate(plain, plain.init(PARAMS)) == np.float32(0.1)


def test_rates_of_plain_optax():
    injected = optax.inject_hyperparams(optax.adam)(learning_rate=0.1)
    state = injected.init(PARAMS)
    assert current_learning_rate(injected, state) == np.float32(0.1)
    assert current_learning_rate(injected, with_learning_rate(state, 0.5)) == 0.5
    assert current_learning_rate(optax.adam(0.1), optax.adam(0.1).init(PARAMS)) is None


INSIDE = {
    "chain": (lambda: optax.chain(optax.clip(1.0), Adam(0.1)), 0.1),
    "chain of a schedule": (lambda: optax.chain(optax.clip(1.0), Adam(CosineDecay(0.1, 9))), 0.1),
    "inject": (
        lambda: optax.chain(optax.clip(1.0), optax.inject_hyperparams(optax.adam)(0.1)),
        0.1,
    ),
    "masked": (lambda: optax.masked(SGD(0.1), {"dense": {"kernel": False, "bias": True}}), 0.1),
    "many steps": (lambda: optax.MultiSteps(SGD(0.1), 1), 0.1),
    "two": (lambda: optax.chain(SGD(0.1), SGD(0.2)), {"0": 0.1, "1": 0.2}),
    "by path": (
        lambda: optax.chain(optimizers.ByPath({"**/bias": SGD(0.1), "**": optax.sgd(1.0)})),
        {"**/bias": 0.1, "**": None},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(("make", "expected"), INSIDE.values(), ids=INSIDE)
def test_rates_inside_others_are_read_and_set(make, expected):
    optimizer = make()
    state = optimizer.init(PARAMS)
    found = current_learning_rate(optimizer, state)
    assert jax.tree.map(float, found) == pytest.approx(expected)
    state = with_learning_rate(state, 0.0)
    assert not any(jax.tree.leaves(current_learning_rate(optimizer, state)))
    updates, state = jax.jit(optimizer.update)(GRADS[0], state, PARAMS)
    assert not any(jax.tree.leaves(current_learning_rate(optimizer, state)))
    assert not updates["dense"]["bias"].any()


@pytest.mark.parametrize("rate", [-1, float("nan"), float("inf"), "0.1", True, [0.1], None])
def test_a_rate_that_is_none_is_refused(rate):
    for optimizer in (SGD(), optax.inject_hyperparams(optax.adam)(0.1)):
        with pytest.raises(ValueError, match="a finite learning rate of at least 0, received"):
            with_learning_rate(optimizer.init(PARAMS), rate)


def test_rates_that_cannot_be_set_are_refused():
    scheduled = optax.inject_hyperparams(optax.adam)(lambda step: 0.1)
    with pytest.raises(ValueError, match=r"a schedule inside optax.inject_hyperparams sets"):
        with_learning_rate(scheduled.init(PARAMS), 0.5)
    with pytest.raises(ValueError, match=r"holds a learning rate.*plain optax"):
        with_learning_rate(optax.adam(0.1).init(PARAMS), 0.5)
    with pytest.raises(ValueError, match="one learning rate, received"):
        with_learning_rate(SGD().init(PARAMS), {"**": 0.5})


def test_assigning_the_rate_of_a_value_names_the_way():
    for optimizer in (
        SGD(),
        optimizers.ByPath({"**": SGD()}),
        optimizers.LossScaleOptimizer("sgd"),
    ):
        with pytest.raises(dataclasses.FrozenInstanceError, match=r"set model.learning_rate = 0.5"):
            optimizer.learning_rate = 0.5


def test_averages_of_the_weights():
    optimizer = SGD(0.1, use_ema=True, ema_momentum=0.5)
    history, state = run(optimizer)
    average = history[0]
    for params in history[1:]:
        average = jax.tree.map(lambda a, p: 0.5 * a + 0.5 * p, average, params)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), state["average"], average
    )
    jax.tree.map(np.testing.assert_array_equal, history[-1], run(SGD(0.1))[0][-1])


def test_accumulation_waits_and_takes_the_mean():
    optimizer = SGD(0.1, gradient_accumulation_steps=2)
    history, _ = run(optimizer, grads=GRADS[:2])
    jax.tree.map(np.testing.assert_array_equal, history[0], PARAMS)
    mean = jax.tree.map(lambda a, b: (a + b) / 2, *GRADS[:2])
    expected = run(SGD(0.1), grads=[mean])[0][0]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), history[1], expected)


@pytest.mark.slow
def test_muon_leaves_embeddings_and_vectors_to_adam():
    params = {"embedding": {"embeddings": jnp.ones((3, 2))}, "dense": PARAMS["dense"]}
    assert optimizers.Muon().labels(params) == {
        "embedding": {"embeddings": "adam"},
        "dense": {"kernel": "muon", "bias": "adam"},
    }
    assert optimizers.Muon(exclude_embeddings=False).labels(params)["embedding"] == {
        "embeddings": "muon"
    }
    assert optimizers.Muon(weight_decay=None, adam_weight_decay=None).decays(params) is None
    x = random.normal(size=(6, 4)).astype("float32")
    u, _, v = np.linalg.svd(x, full_matrices=False)
    near = optimizers.Muon(rms_rate=None, ns_steps=10)._orthogonalize(x)
    cosine = (near * (u @ v)).sum() / np.linalg.norm(near) / np.linalg.norm(u @ v)
    assert cosine > 0.97


def test_a_custom_optimizer_computes_its_own_updates():
    class CustomOptimizer(Optimizer):
        def __init__(self, learning_rate=0.01):
            super(CustomOptimizer, self).__init__()  # noqa: UP008 - as users write it
            self.learning_rate = learning_rate

        def get_updates(self, loss, params):
            grads = jax.grad(loss)(params)
            return {"dense/bias": -self.learning_rate * grads["dense"]["bias"]}

    optimizer = CustomOptimizer(0.5)
    assert optimizers.get(optimizer) is optimizer
    assert optimizer == CustomOptimizer(0.5)
    assert optimizer != CustomOptimizer(0.25)
    assert current_learning_rate(optimizer, optimizer.init(PARAMS)) == 0.5
    params = jax.tree.map(jnp.asarray, PARAMS)
    given = optimizer.get_updates(lambda p: (p["dense"]["bias"] ** 2).sum(), params)
    updates = expand_updates(given, params)
    np.testing.assert_allclose(updates["dense"]["bias"], -PARAMS["dense"]["bias"], rtol=1e-6)
    assert not updates["dense"]["kernel"].any()
    with pytest.raises(TypeError, match="expected CustomOptimizer to define update"):
        optimizer.update(GRADS[0], optimizer.init(PARAMS))


def test_updates_are_expanded_to_a_tree_like_the_weights():
    bias = np.ones(3, "float32")
    for given in (
        {"dense/bias": bias},
        {"dense": {"bias": bias}},
        {"dense": {"bias": bias, "kernel": None}},
    ):
        expanded = expand_updates(given, PARAMS)
        assert jax.tree.structure(expanded) == jax.tree.structure(PARAMS)
        np.testing.assert_array_equal(expanded["dense"]["bias"], bias)
        assert not np.any(expanded["dense"]["kernel"])
    whole = expand_updates(GRADS[0], PARAMS)
    jax.tree.map(np.testing.assert_array_equal, whole, GRADS[0])
    nothing = expand_updates({}, PARAMS)
    assert jax.tree.structure(nothing) == jax.tree.structure(PARAMS)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(nothing))
    with pytest.raises(ValueError, match=r"received \['dense/bais'\].*by path: dense/kernel"):
        expand_updates({"dense/bais": bias}, PARAMS)
    with pytest.raises(ValueError, match=r"shape \(3,\) for dense/bias, received \(4, 3\)"):
        expand_updates({"dense/bias": np.ones((4, 3))}, PARAMS)


def test_updates_as_a_list_are_in_the_order_of_the_leaves():
    bias, kernel = GRADS[0]["dense"]["bias"], GRADS[0]["dense"]["kernel"]
    for given in ([bias, kernel], (bias, kernel), jax.tree.leaves(GRADS[0])):
        jax.tree.map(np.testing.assert_array_equal, expand_updates(given, PARAMS), GRADS[0])


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ([np.ones(3)], ValueError, "for each of 2 weights, received 1"),
        ([np.ones((4, 3)), np.ones(3)], ValueError, r"shape \(4, 3\) for dense/kernel, rec"),
        (np.ones(3), TypeError, "a dict by path or a tree like params, received ndarray"),
        (3.0, TypeError, "received float"),
        ({("dense", "bias"): np.ones(3)}, TypeError, r"received the key \('dense', 'bias'\)"),
        ({"dense": {0: np.ones(3)}}, TypeError, "received the key 0"),
        ({"dense": [np.ones(3), np.ones((4, 3))]}, ValueError, r"received \['dense'\]"),
        ({"dense/bias": [1.0, 2.0, 3.0]}, ValueError, "for dense/bias, received list"),
    ],
)
def test_updates_of_no_form_are_refused(given, error, message):
    with pytest.raises(error, match=message):
        expand_updates(given, PARAMS)


@pytest.mark.parametrize("name", ALL)
def test_get_resolves_names_in_any_case(keras, name):
    cls = getattr(optimizers, name)
    for identifier in (name, name.lower(), name.upper(), cls, cls()):
        assert optimizers.get(identifier) == cls()
    if name not in ("ScheduleFreeAdamW", "Lamb"):  # Keras's table lacks them
        with keras_rules():
            assert type(keras.optimizers.get(name.lower())).__name__ == name


def test_get_takes_optax_as_it_is():
    adam = optax.adam(0.1)
    assert optimizers.get(adam) is adam
    with pytest.raises(ValueError, match="'adam'"):
        optimizers.get("adma")
    for wrong in (3, None, Schedule):
        with pytest.raises(TypeError, match="expected an optimizer, received"):
            optimizers.get(wrong)


class Schedule:
    pass


WRONG = [
    (lambda: Adam(-0.1), "learning_rate to be finite and not below 0.*-0.1"),
    (lambda: Adam(float("nan")), "learning_rate to be finite"),
    (lambda: Adam("0.1"), "learning_rate to be a number or a schedule"),
    (lambda: SGD(momentum=1.5), "momentum to be a number between 0 and 1"),
    (lambda: SGD(clipnorm=1.0, clipvalue=1.0), "one kind of clipping, received clipnorm and clipv"),
    (lambda: SGD(clipnorm=0), "clipnorm to be a finite number above 0"),
    (lambda: SGD(weight_decay=-0.1), "weight_decay to be a finite number not below 0"),
    (
        lambda: SGD(gradient_accumulation_steps=1),
        "gradient_accumulation_steps to be an integer",
    ),
    (lambda: SGD(ema_overwrite_frequency=3), "ema_overwrite_frequency .* with use_ema"),
    (lambda: SGD(use_ema=True, ema_momentum=2), "ema_momentum to be a number between 0 and 1"),
    (lambda: SGD(loss_scale_factor=2.0), "loss_scale_factor to be None.*LossScaleOptimizer"),
    (lambda: SGD(weight_decay=0.1).update(GRADS[0], SGD().init(PARAMS)), "expected params"),
    (lambda: optimizers.RMSprop(rho=2), "rho to be a number between 0 and 1"),
    (lambda: Adam(beta_1=-1), "beta_1 to be a number between 0 and 1"),
    (lambda: Adam(epsilon=0), "epsilon to be a finite number above 0"),
    (lambda: optimizers.Adagrad(initial_accumulator_value=-1), "initial_accumulator_value not to"),
    (lambda: optimizers.Adafactor(beta_2_decay=0.8), "beta_2_decay to be below 0"),
    (
        lambda: optimizers.Ftrl(l1_regularization_strength=-1),
        "l1_regularization_strength to be a finite number not below 0",
    ),
    (lambda: optimizers.Ftrl(learning_rate_power=1), "learning_rate_power not to be above 0"),
    (lambda: optimizers.ScheduleFreeAdamW(beta_1=0.0), "beta_1 to be above 0"),
    (lambda: optimizers.ScheduleFreeAdamW(warmup_steps=-1), "warmup_steps to be an integer"),
    (lambda: optimizers.Muon(ns_steps=0), "ns_steps to be an integer"),
]


@pytest.mark.parametrize(("make", "message"), WRONG)
def test_wrong_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_rule_without_a_direction_says_so():
    with pytest.raises(TypeError, match=r"expected Rule to define direction\(\)"):
        Rule().init(PARAMS)


def test_a_rate_may_be_an_array():
    assert SGD(jnp.float32(0.5)) == SGD(np.float32(0.5)) == SGD(0.5)
