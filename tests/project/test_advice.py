"""The code that errors advise runs: every call in a message, and the advice of common slips."""

import ast
import functools
import inspect
import multiprocessing
import re
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn.core.combining import Flow
from fnn.core.context import INFERENCE, Context, Masked
from fnn.layers import Dense
from tests.generate.modules import MODULES, nodes

CALL = re.compile(
    r"(?<![\w.{])[A-Za-z_][\w.]*\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)(?:\.\w+(?:\([^()]*\))?)*"
)
DOTTED = re.compile(r"(?<![\w.{/])(?:fnn|jax|jnp|np|optax|model)(?:\.[A-Za-z_]\w*)+(?![\w.]*\()")
X, Y = np.ones((2, 4), "float32"), np.ones((2, 1), "float32")


def words(node):
    """The text of a string in the source, `PLACE` where a value is put in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(
            part.value if isinstance(part, ast.Constant) else "PLACE" for part in node.values
        )
    return None


def strings(name):
    """Every string of a module but docstrings and what `serializers` puts into them."""
    left_out = set()
    for node in nodes(name):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            left_out.add(id(body[0].value))
        if isinstance(node, ast.JoinedStr):
            left_out |= {id(part) for part in node.values}
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "serializers":
            left_out |= {id(part) for part in node.args}
    for node in nodes(name):
        text = None if id(node) in left_out else words(node)
        if text:
            yield node.lineno, text


# No messages: signatures and examples of `fnn.ops`, styles of pages, the program of a watcher.
SILENT = ("ops/core", "ops/image", "ops/linalg", "ops/nn", "ops/numpy")
SILENT += ("ops/examples", "ops/numpy_examples", "summaries/html", "distribution/watching")
# Files.
NO_NAMES = {
    "model.png",
    "model.safetensors",
    "model.safetensors.index.json",
    "model.weights.h5",
}


@functools.cache
def texts():
    """(place, text) of every string that a message may be made of."""
    names = sorted(set(MODULES) - {f"{name}.py" for name in SILENT})
    return [(f"fnn/{name}:{line}", text) for name in names for line, text in strings(name)]


def calls_in_messages():
    return sorted({code for _, text in texts() for code in CALL.findall(text)})


def names_in_messages():
    found = {name for _, text in texts() for name in DOTTED.findall(text)}
    return sorted(name for name in found - NO_NAMES if "PLACE" not in name)


class Rescale(Flow):
    def flow(self, x, visit):
        return visit("dense", Dense(1), x)


def world():
    """What the messages speak of, by the names that they use."""
    layer = Dense(1, input_shape=(4,))
    model = fnn.Sequential([layer], seed=0)
    model.compile("adam", "mse")
    model.fit(X, Y, verbose=0)
    inputs = fnn.Input((4,))
    optimizer, metric = fnn.optimizers.Adam(), fnn.metrics.MeanSquaredError()
    sums, key = metric.init(), jax.random.key(0)
    params, state = layer.init(key, X)
    return {
        **{n: getattr(fnn.layers, n) for n in fnn.layers.__all__},
        **{n: getattr(fnn.optimizers, n) for n in fnn.optimizers.__all__},
        **{n: getattr(fnn.regularizers, n) for n in ("L1", "L2")},
        **{"fnn": fnn, "jax": jax, "jnp": jnp, "np": np, "optax": optax},
        **{"Input": fnn.Input, "Model": fnn.Model, "Context": Context, "Masked": Masked},
        **{"set_seed": fnn.set_seed, "layer": layer, "model": model, "optimizer": optimizer},
        **{"x": jnp.asarray(X), "y": jnp.asarray(Y), "key": key, "params": params, "state": state},
        **{"shape": (2,), "dtype": "float32", "function": jnp.tanh, "inputs": inputs, "n": 3},
        **{"outputs": Dense(1)(inputs), "mask": jnp.ones((2, 4), bool), "cell": LSTMCELL},
        **{"init": layer.init, "apply": layer.apply, "ctx": INFERENCE, "sums": sums},
        **{"y_true": jnp.asarray(Y), "y_pred": jnp.asarray(Y), "weight": jnp.ones(2)},
        **{"values": metric.values, "result": metric.result, "rank": 2, "l1": 0.1, "l2": 0.1},
        **{"update": metric.update, "call": fnn.losses.Huber().call, "compile": model.compile},
        **{"fit": model.fit, "visit": lambda name, layer, x: x, "name": "dense"},
        **{"flow": lambda x, visit: visit("dense", layer, x), "backward_layer": BACKWARD},
        **{"loss": lambda params: 0.0, "get_updates": lambda loss, params: params},
        **{
            "direction": optimizer.direction,
            "batch": X,
            "step": lambda state, batch, key: (state, {}),
        },
        **{"finder": fnn.callbacks.LearningRateFinder(steps=2), "keras_model": model},
        **{"schedule": fnn.schedules.ExponentialDecay(0.1, 10, 0.9), "metric": metric},
        **{"grads": GRADS, "slots": optimizer.init(GRADS), "dims": (1,), "arrays": WEIGHTS},
        **{"weights": WEIGHTS, "multiprocessing": multiprocessing},
        **{"data": X, "vocabulary": ["a", "b"]},
    }


LSTMCELL = fnn.layers.LSTMCell(4)
BACKWARD = fnn.layers.LSTM(4, go_backwards=True)
GRADS = {"w": jnp.ones(2)}
WEIGHTS = [np.ones((4, 1), "float32"), np.ones(1, "float32")]
FILE = str(Path(tempfile.mkdtemp()) / "weights.safetensors")

# Code with a hole in it, or that leaves out what the reader has -> what runs.
FILLED = {
    "fnn.config.disable_traceback_filtering()": "fnn.config.disable_traceback_filtering",
    'jax.config.update("jax_enable_x64", True)': "jax.config.update",  # it would stay so
    'fnn.config.set_dtype_policy("mixed_bfloat16")': "fnn.config.set_dtype_policy",  # it would stay
    "fnn.use_cpu_cores()": "fnn.use_cpu_cores",  # JAX runs already; test_distribution calls it
    "Conv1D(padding='causal')": "Conv1D(2, 3, padding='causal')",
    "Embedding(mask_zero=True)": "Embedding(5, 2, mask_zero=True)",
    "MultiHeadAttention(use_causal_mask=True)": "MultiHeadAttention(2, 2, use_causal_mask=True)",
    "TransformerEncoderBlock(use_causal_mask=True)": (
        "TransformerEncoderBlock(4, 2, use_causal_mask=True)"
    ),
    "Model(x, Dense(3)(x))": "Model(inputs, Dense(3)(inputs))",
    "layer(x)": "layer(inputs)",
    "fnn.utils.to_categorical(y, classes)": "fnn.utils.to_categorical([0, 1], 2)",
    "self.layer(x)": "layer(x)",
    "layer.adapt(data)": "Normalization().adapt(data)",
    "feature_space.adapt(data)": (
        "fnn.utils.FeatureSpace({'a': 'float_normalized'}).adapt({'a': [1.0, 2.0]})"
    ),
    "layer((first, second))": "HashedCrossing(3)((vocabulary, vocabulary))",
    "layer.build(input_shape)": "Dense(2).build((None, 4))",
    "add_weight(..., trainable=False)": "Wrapper(layer).add_weight((2,), trainable=False)",
    "self.add_weight(..., trainable=False)": "Wrapper(layer).add_weight((2,), trainable=False)",
    "super().__init__()": "Wrapper(layer)",
    # The forms of methods to write, not calls; `tests/models/test_custom_steps.py` writes them.
    "self.add_weight(initializer='zeros', trainable=False)": (
        "Wrapper(layer).add_weight(initializer='zeros', trainable=False)"
    ),
    "self.count.assign_add(1)": "fnn.Variable(0.0).assign_add(1)",
    "self.kept.assign(...)": "fnn.Variable(0.0).assign(1.0)",
    "train_step(self, state, data)": "model.train_step",
    "test_step(self, state, data)": "model.test_step",
    "predict_step(self, state, data)": "model.predict_step",
    # JAX must start with it; `tests/test_config.py` calls it.
    'set_floatx("float64")': "fnn.config.set_floatx",
    "layer(x, reverse=True)": "ReversibleEmbedding(5, 4)(inputs, reverse=True)",
    "optimizer.build(trainable_variables)": (
        "fnn.optimizers.Adam().build([fnn.variables.Variable(1.0)])"
    ),
    "stateless_reset_state()": "metric.stateless_reset_state()",
    "super().__init__(learning_rate=learning_rate)": "fnn.optimizers.SGD(learning_rate=0.1)",
    "super().__init__(name=name)": "fnn.metrics.Mean(name=name)",
    "update_state(y_true, y_pred, sample_weight=None)": (
        "metric.update_state(y_true, y_pred, sample_weight=None)"
    ),
    "__call__(step)": "schedule(3)",
    "init(key, {})": "init(key, x)",
    "apply(params, state, {})": "apply(params, state, x)",
    "apply(params, state, x, Context(PLACE))": (
        "apply(params, state, x, Context(train=True, key=key))"
    ),
    "apply(params, state, x.values, Context(mask=x.mask))": (
        "(lambda x: apply(params, state, x.values, Context(mask=x.mask)))"
        "(Masked(x[:, None], mask[:, :1]))"
    ),
    "Context(train=True, key=jax.random.key(PLACE))": "Context(train=True, key=jax.random.key(0))",
    "jnp.zeros(PLACE)": "jnp.zeros((2, 4))",
    "backward_layer.replace(go_backwards={self._opposite})": (
        "backward_layer.replace(go_backwards=True)"
    ),
    "update(grads, state, params)": "optimizer.update(grads, slots, grads)",
    "optimizer.update(grads, state, params)": "optimizer.update(grads, slots, grads)",
    "rule.update(grads, state, params, learning_rate=0.1)": (
        "optimizer.rule().update(grads, optimizer.rule().init(grads), grads, learning_rate=0.1)"
    ),
    # Parts of the steps in `own_steps.FORMS`, which test_custom_steps runs.
    **dict.fromkeys(
        (
            "gradient(\n            trainable, non_trainable, metrics, x, y, None, training=True)",
            "jax.value_and_grad(self.compute_loss_and_updates, has_aux=True)",
            "self.compute_loss(x, y, y_pred)",
            "self.optimizer.stateless_apply(optimizer, grads, trainable)",
            "self.stateless_call(trainable, non_trainable, data)",
            "self.stateless_call(trainable, non_trainable, x)",
            "call(inputs)",
        ),
        "[]",
    ),
    # Of PyTorch and transformers; `tests/saving/pytorch` calls them.
    **dict.fromkeys(
        (
            'safetensors.torch.save_model(model, "model.safetensors")',
            "model.save_pretrained(folder)",
            "model.state_dict()",
        ),
        "[]",
    ),
    "fnn.saving.load_pytorch(model, state_dict, rules)": (
        "fnn.saving.load_pytorch(model, {'w': np.ones((1, 4)), 'b': np.ones(1)}, "
        "[('w', 'dense', {'': (fnn.saving.pytorch.Target('kernel', lambda a, _: a.T),)}), "
        "('b', 'dense/bias', 'tensor')])"
    ),
    # Methods to write, and the pieces of what they return.
    "error.mean()": "y_pred.mean()",
    "f(apply, params, state, batch, ctx)": "[]",
    "fnn.distribution.initialize()": "fnn.distribution.initialize",  # it waits for the others
    "model.predict(images)": "model.predict(x)",
    "compile(loss=...)": "model.compile(loss='mse')",
    "model.load_weights(path)": f"(model.save_weights({FILE!r}), model.load_weights({FILE!r}))",
    "fnn.losses.get(PLACE)": "fnn.losses.get('mse')",
    "ctx.random_key(...)": "Context(train=True, key=key).random_key('noise')",
    "self.weight(...)": "layer.weight('kernel', key, (4, 2))",
    "Masked(y, its mask)": "Masked(y, mask)",
    "model.fit(x, y, epochs=..., callbacks=[finder])": "model.fit(x, y, callbacks=[finder])",
    "model.optimizer.replace(PLACE=PLACE)": "model.optimizer.replace(clipnorm=1.0)",
    "model.compile(PLACE, loss=...)": "model.compile(optimizer, loss='mse')",
    "model.predict((np.array([[1.0, 2.0]]), np.array([[3.0, 5.0]])), verbose=0).tolist()": (
        "[]"  # part of a doctest, which is run as one
    ),
}
# Code that shows what was written.
SHOWN = {
    "Context(key=None)",
}


def failures_of(run, pieces):
    """Piece of code -> the error that it raises."""
    failures = {}
    for piece in pieces:
        try:
            run(piece)
        except Exception as error:
            failures[piece] = repr(error)
    return failures


def test_the_code_in_a_message_runs():
    """All in one world, which takes longer to make; what fails there, in one of its own."""
    found = set(calls_in_messages()) - SHOWN
    assert len(found) > 100
    names = world()
    failures = failures_of(lambda code: run_code(code, names), sorted(found))
    failures = failures_of(lambda code: run_code(code, world()), failures)
    assert not failures, failures


def run_code(code, names):
    """With a hole in it, and none in the table that fills it, by its names and arguments alone."""
    if code in FILLED or not re.search(r"PLACE|\.\.\.", code):
        eval(FILLED.get(code, code), dict(names))
    else:
        code = re.sub("PLACE(?=[^=(.,]*PLACE)", "", code.replace("]PLACE", "]"))
        check_calls(ast.parse(code), names)


def check_calls(tree, names):
    """Raises unless every call in a piece of code is of something that takes its arguments."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and "PLACE" not in ast.unparse(node.func):
            function = eval(ast.unparse(node.func), names)
            named = {word.arg: None for word in node.keywords if word.arg != "PLACE"}
            inspect.signature(function).bind_partial(*map(ast.unparse, node.args), **named)


def test_a_call_that_takes_no_such_argument_is_found():
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        check_calls(ast.parse("Input(colour=...)"), world())
    with pytest.raises(AttributeError, match="no attribute 'comple'"):
        check_calls(ast.parse("model.comple(...)"), world())


def test_the_names_in_a_message_are_there():
    names = world()
    found = names_in_messages()
    assert len(found) > 50
    failures = failures_of(lambda name: eval(name, names), found)
    assert not failures, failures


def test_no_message_installs_what_no_index_has():
    assert [place for place, text in texts() if "fnn[" in text] == []


def test_the_tables_hold_what_is_said():
    assert set(FILLED) | SHOWN <= set(calls_in_messages())


# -- the slips themselves ------------------------------------------------------------------------


def advice(error, pattern):
    """The code that an error advises, by a pattern that matches it."""
    found = re.search(pattern, str(error.value))
    assert found, str(error.value)
    return found.group()


def test_a_layer_is_frozen_as_its_error_says():
    names = world()
    layer = names["layer"]
    with pytest.raises(AttributeError) as error:
        layer.units = 5
    assert eval(advice(error, r"layer\.replace\(.*?\)"), names).units == 5
    with pytest.raises(
        AttributeError, match=r"its kernel cannot be assigned; use layer\.kernel\.assign\(value\)"
    ):
        layer.kernel = X
    layer.kernel.assign(WEIGHTS[0])
    with pytest.raises(AttributeError, match=r"its colour cannot be .*; it has no field of that"):
        layer.colour = "red"


def test_a_rate_is_set_as_its_error_says():
    names = world()
    with pytest.raises(AttributeError) as error:
        names["optimizer"].learning_rate = 0.25
    exec(advice(error, r"model\.learning_rate = [\d.]+"), names)
    assert float(names["model"].learning_rate) == 0.25
    with pytest.raises(AttributeError) as error:
        names["model"].optimizer.clipnorm = 1.0
    code = advice(error, r"model\.compile\(.*\)").replace("loss=...", "loss='mse'")
    exec(code, names)
    assert names["model"].optimizer.clipnorm == 1.0


DROPOUT = fnn.layers.Dropout(0.5)
CALLS = {
    "a number for a key": lambda: DROPOUT.apply({}, {}, X, Context(train=True, key=0)),
    "train": lambda: DROPOUT.apply({}, {}, X, train=True),
    "training": lambda: DROPOUT.apply({}, {}, X, training=True),
    "a key": lambda: DROPOUT.apply({}, {}, X, key=jax.random.key(0)),
}


@pytest.mark.parametrize("slip", CALLS)
def test_a_call_without_a_context_says_how_to_write_it(slip):
    with pytest.raises(TypeError) as error:
        CALLS[slip]()
    code = advice(error, r"Context\(train=True, key=(?:jax\.random\.key\(0\)|key)\)")
    context = eval(code, world())
    assert (DROPOUT.apply({}, {}, X, context)[0] == 0).any()


def test_a_mask_goes_into_a_context():
    layer = fnn.layers.LSTM(2)
    x, mask = jnp.ones((2, 3, 4)), jnp.ones((2, 3), bool)
    params, state = layer.init(jax.random.key(0), x)
    with pytest.raises(TypeError, match=r"LSTM: apply takes mask in a Context") as error:
        layer.apply(params, state, x, mask=mask)
    code = advice(error, r"apply\(params.*\)")
    names = {"apply": layer.apply, "params": params, "state": state, "x": x, "mask": mask}
    assert eval(code, {**names, "Context": Context})[0].shape == (2, 2)


def test_a_key_that_is_none_where_one_draws():
    with pytest.raises(TypeError, match=r"Context\(key='a'\) has no key of jax\.random; pass"):
        Context(key="a").random_key()


def squares(w, batch):
    return ((batch - w) ** 2).mean()


STEPS = {
    "no logs": (
        lambda w, batch, key: w - jax.grad(squares)(w, batch),
        r"step must return \(state, logs\).* but returned \w+; return .* or \(state, \{\}\)",
    ),
    "logs that are a number": (
        lambda w, batch, key: (w, squares(w, batch)),
        r"logs a dict of numbers, but returned \(\w+, \w+\); return \(state, \{\"loss\": loss\}",
    ),
    "three results": (lambda w, batch, key: (w, {}, key), r"returned \(\w+, dict, \w+\)"),
    "no key": (
        lambda w, b: (w, {}),
        r"called with \(state, batch, key\), but takes \(w, b\); write it as step\(state,",
    ),
    "no function": (3, r"step must be a function, but is 3; pass step\(state, batch, key\)"),
}


@pytest.mark.parametrize("slip", STEPS)
def test_a_step_of_another_form_says_how_to_write_it(slip):
    step, message = STEPS[slip]
    data = np.ones(8, "float32")
    with pytest.raises(TypeError, match=message):
        fnn.training.fit(step, jnp.zeros(()), data, batch_size=4, verbose=0)
    silent = lambda state, batch, key: (state - jax.grad(squares)(state, batch), {})
    fnn.training.fit(silent, jnp.zeros(()), data, batch_size=4, verbose=0)
