"""One program on Keras and on fnn: run, given equal weights, and compared.

A program is a source text in Keras's way, in which the name `keras` means either library, or a
function of the library.
"""

import contextlib
import textwrap
from types import ModuleType

import jax
import jax.numpy as jnp
import keras
import numpy as np

import fnn
from fnn.core.registry import TABLE
from tests.helpers.oracle import keras_rules

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def rules(library):
    """The context in which a library runs: fnn itself must keep the strict rules."""
    return contextlib.nullcontext() if library is fnn else keras_rules()


# -- Programs ------------------------------------------------------------------------------------


def on_fnn(source):
    """The names that a program defines, run on fnn."""
    return _run(fnn, source, "fnn_program")


def on_keras(source):
    """The names that a program defines, run on Keras; weights are the same in every run."""
    keras.utils.set_random_seed(1)
    return _run(keras, source, "keras_program")


def _run(library, source, name):
    program = ModuleType(name)
    vars(program).update(keras=library, layers=library.layers, ops=library.ops)
    vars(program).update(np=np, jnp=jnp, jax=jax)
    with keras_rules():  # users' programs broadcast freely
        exec(compile(textwrap.dedent(source), f"<program on {name}>", "exec"), vars(program))
    return program


def both(source):
    """(with fnn, with Keras): the names that a program defines."""
    return on_fnn(source), on_keras(source)


def on_both(source, run):
    """(with fnn, with Keras): what `run(names, library)` returns."""
    results = []
    for names in both(source):
        with rules(names.keras):
            results.append(run(names, names.keras))
    return results


def check(program, rtol=1e-5, atol=1e-6):
    """What `program(library)` returns is equal on both: numbers, strings, structures."""
    keras.backend.clear_session()  # default names count from 0 again
    with keras_rules():
        theirs = program(keras)
    assert_equal(program(fnn), theirs, rtol, atol, ordered=True)


# -- Weights -------------------------------------------------------------------------------------


def carried(theirs, ours):
    """`ours` (a layer or model of fnn that has weights) with the weights of `theirs`."""
    with keras_rules():
        # Copies: Keras gives its buffers to the next step, views of them included.
        ours.set_weights([np.array(array) for array in theirs.get_weights()])
    return ours


def fill(model, scale=0.5):
    """Gives a model weights that depend on their shapes alone."""
    draw = np.random.default_rng(7).normal
    model.set_weights([scale * abs(draw(size=w.shape)) for w in model.get_weights()])
    return model


def linear(library, kernel, **arguments):
    """A model of one Dense layer with this kernel, built."""
    layer = library.layers.Dense(kernel.shape[1], **arguments)
    model = library.Sequential([library.layers.Input((kernel.shape[0],)), layer])
    model.layers[-1].set_weights([kernel, np.zeros(kernel.shape[1], "float32")])
    return model


def both_models(source, x, name="model"):
    """(the model on fnn, the model on Keras), built for `x`, with equal weights."""
    mine, theirs = (getattr(names, name) for names in both(source))
    build(mine, theirs, x)
    return mine, theirs


def build(mine, theirs, x):
    """Builds both for `x` and carries the weights over."""
    with keras_rules():
        theirs(first(x))
    mine(first(x))
    carried(theirs, mine)


@contextlib.contextmanager
def registered(*classes):
    """Inside, saved files may refer to these classes."""
    known = dict(TABLE)
    for cls in classes:
        fnn.register(cls)
    try:
        yield
    finally:
        TABLE.clear()
        TABLE.update(known)


# -- Inputs --------------------------------------------------------------------------------------


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def first(x, count=2):
    """The first examples."""
    return jax.tree.map(lambda a: a[:count], x)


# -- Comparisons ---------------------------------------------------------------------------------


def assert_equal(ours, theirs, rtol=1e-5, atol=1e-6, *, ordered=False, place=""):
    """Equal structures of arrays, up to rounding, and of strings; `ordered`: dicts too."""
    inside = {"rtol": rtol, "atol": atol, "ordered": ordered}
    if isinstance(theirs, dict):
        order = list if ordered else set
        assert order(ours) == order(theirs), place
        for name in theirs:
            assert_equal(ours[name], theirs[name], **inside, place=f"{place}[{name!r}]")
    elif isinstance(theirs, (list, tuple)):
        assert type(ours) is type(theirs), f"{place}: {ours!r}, in Keras {theirs!r}"
        assert len(ours) == len(theirs), f"{place}: {ours!r}, in Keras {theirs!r}"
        for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            assert_equal(one, other, **inside, place=f"{place}[{number}]")
    elif theirs is None or isinstance(theirs, (str, bool)):
        assert ours == theirs, place
    else:
        ours, theirs = np.asarray(ours), np.asarray(theirs)
        assert ours.shape == theirs.shape, place
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol, err_msg=place)


def assert_same_outputs(source, *given, rtol=1e-5, atol=1e-6, **named):
    """`layer(*given, **named)` of both libraries, with equal weights; returns both layers.

    `source` defines `layer`.
    """
    mine, theirs = (names.layer for names in both(source))
    with keras_rules():
        wanted = theirs(*given, **named)
        mine(*given, **named)
        carried(theirs, mine)
        found = mine(*given, **named)
    assert_equal(found, wanted, rtol, atol)
    return mine, theirs


def assert_same_predictions(mine, theirs, x):
    with keras_rules():
        wanted = theirs.predict(x, verbose=0)  # at once: Keras compiles for each size of a batch
    assert_equal(mine.predict(x, verbose=0, batch_size=4), wanted, **CLOSE)


def assert_same_training(mine, theirs, x, y=None, *, compiles=None, epochs=2, **fit):
    """Equal logs of every epoch, weights, evaluation and predictions."""
    fit = {"batch_size": 4, "shuffle": False, "verbose": 0, "epochs": epochs, **fit}
    scoring = {"batch_size": 4, "verbose": 0, "return_dict": True}
    for model in (mine, theirs):
        compile_with_sgd(model, model is theirs, compiles or {"loss": "mse"})
    with keras_rules():
        wanted = theirs.fit(x, y, **fit).history
        weights = theirs.get_weights()
        scores = theirs.evaluate(x, y, **scoring)
    found = mine.fit(x, y, **fit).history
    assert_equal(found, wanted, **CLOSE)
    assert_equal(mine.evaluate(x, y, **scoring), scores, **CLOSE)
    assert_equal(mine.get_weights(), weights, **CLOSE)
    assert_same_predictions(mine, theirs, x)
    return found


def compile_with_sgd(model, is_keras, named):
    """Compiles with plain gradient descent at rate 0.1."""
    library = keras if is_keras else fnn
    with keras_rules():
        model.compile(optimizer=library.optimizers.SGD(0.1), **named)
