"""Every layer, loss and optimizer as a program for GPU and TPU, made where there is neither."""

import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import layers as L
from fnn import optimizers
from fnn.core.calling import call, weight_spec
from fnn.core.context import Context, strip_masks
from fnn.training import engine
from fnn.training.objective import Objective, OutputGoal
from fnn.training.state import TrainState
from fnn.training.step import init_optimizer, make_train_step
from tests.helpers.catalogue import CATALOGUE, COMPILED, KEY
from tests.helpers.loss_metric_rows import LOSSES, METRICS

PLATFORMS = ("cuda", "tpu")
CUDNN = {"__cudnn$fmhaSoftmax", "__cudnn$fmhaSoftmaxBackward"}
SIZE = 25  # rows in a program


@pytest.fixture(autouse=True)
def _as_on_an_accelerator(monkeypatch):
    """What a layer computes may differ by platform; these tests take what it is on others."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")


def exported(function, *given, platforms=PLATFORMS):
    """The text of the program of a function, for platforms that are not there."""
    specs = jax.tree.map(lambda a: jax.ShapeDtypeStruct(jnp.shape(a), jnp.result_type(a)), given)
    compiled = function if hasattr(function, "trace") else jax.jit(function)
    # JAX promises nothing for these in files of later versions.
    allowed = [jax.export.DisabledSafetyCheck.custom_call(name) for name in CUDNN]
    export = jax.export.export(compiled, platforms=platforms, disabled_checks=allowed)
    return export(*specs).mlir_module()


def calls(text):
    """The names of functions that a program calls outside of XLA."""
    return {*re.findall(r"custom_call @([\w.$]+)", text)}


def refuse_host(text):
    """Nothing of a program runs in Python, and nothing is sent to the host or comes from it."""
    assert not [name for name in calls(text) if "callback" in name or "host" in name.lower()]
    for operation in ("infeed", "outfeed", "stablehlo.send", "stablehlo.recv"):
        assert operation not in text


def spec(tree):
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(jnp.shape(a), jnp.result_type(a)), tree)


# -- layers ----------------------------------------------------------------------------------------


def gradients(layer, params, state, x, key):
    """Outputs in inference, and the gradients of a layer in training; `x` in parts of floats."""
    floats, others, treedef = x
    places = [a is not None for a in floats]

    def loss(params, floats):
        parts = [a if real else b for a, b, real in zip(floats, others, places, strict=True)]
        inputs = treedef.unflatten(parts)
        y, after = call(layer, params, state, inputs, Context(train=True, key=key))
        total = 0.0
        for leaf in jax.tree.leaves(strip_masks(y)):
            if jnp.issubdtype(leaf.dtype, jnp.floating):
                total += (leaf.astype("float32") ** 2).sum()
        return total, after

    plain = treedef.unflatten(
        [a if real else b for a, b, real in zip(floats, others, places, strict=True)]
    )
    outputs, _ = call(layer, params, state, plain, Context(key=key))
    return strip_masks(outputs), jax.value_and_grad(loss, (0, 1), True, allow_int=True)(
        params, floats
    )


def in_parts(x):
    leaves, treedef = jax.tree.flatten(spec(x))
    real = [jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves]
    floats = [leaf if yes else None for leaf, yes in zip(leaves, real, strict=True)]
    return floats, [None if yes else leaf for leaf, yes in zip(leaves, real, strict=True)], treedef


def program_of(cases):
    """All rows in one program, each forward and backward."""
    given, layers, treedefs = [], [], []
    for case in cases:
        params, state = weight_spec(case.layer, case.x)
        floats, others, treedef = in_parts(case.x)
        given.append((params, state, floats, others))
        layers.append(case.layer)
        treedefs.append(treedef)

    def run(given, key):
        return [
            gradients(layer, params, state, (floats, others, treedef), key)
            for layer, treedef, (params, state, floats, others) in zip(
                layers, treedefs, given, strict=True
            )
        ]

    return exported(run, given, jax.eval_shape(lambda: KEY))


def parts(rows):
    rows = [*rows]
    return [rows[at : at + SIZE] for at in range(0, len(rows), SIZE)]


def check_layers(cases):
    """All of them lower at once; if not, the error names the first row that does not."""
    try:
        text = program_of(cases)
    except Exception:
        for case in cases:
            try:
                program_of([case])
            except Exception as error:
                error.add_note(f"in the row {case.id}")
                raise
        raise
    refuse_host(text)


def test_some_layers():
    """A sample of the next two tests."""
    check_layers([*COMPILED][::40])


@pytest.mark.slow
@pytest.mark.parametrize("cases", parts(COMPILED), ids=lambda cases: cases[0].id)
def test_layers_of_each_class(cases):
    check_layers(cases)


@pytest.mark.thorough
@pytest.mark.parametrize("cases", parts(CATALOGUE), ids=lambda cases: cases[0].id)
def test_every_layer(cases):
    check_layers(cases)


# -- losses, metrics, optimizers -------------------------------------------------------------------


def row_data(row):
    rng = np.random.default_rng(0)
    return row.make(rng, row.shapes[0])


def of(module, row):
    return getattr(module, row.name)(**row.arguments)


@pytest.mark.slow
def test_every_loss_with_its_gradient():
    losses = [of(fnn.losses, row) for row in LOSSES]
    data = [row_data(row) for row in LOSSES]
    covered = {type(loss) for loss in losses}
    assert len(covered) > 20

    def run(data):
        return [
            jax.grad(lambda p, y=y, loss=loss: loss(y, p).astype("float32").sum())(p)
            for loss, (y, p) in zip(losses, data, strict=True)
        ]

    refuse_host(exported(run, data))


@pytest.mark.slow
def test_every_metric():
    metrics = [of(fnn.metrics, row) for row in METRICS]
    data = [row_data(row) for row in METRICS]

    def result(metric, y, p):
        if y is None:  # a mean or sum of numbers
            return metric.result(metric.update(metric.init(), p))
        return metric.result(metric.update(metric.init(y, p), y, p))

    def run(data):
        return [result(metric, *given) for metric, given in zip(metrics, data, strict=True)]

    refuse_host(exported(run, data))


OWN = {
    "ByPath": optimizers.ByPath({"**/bias": optimizers.SGD(), "**": optimizers.Adam()}),
    "LossScaleOptimizer": optimizers.LossScaleOptimizer(optimizers.Adam()),
    "accumulating": optimizers.Adam(gradient_accumulation_steps=2, use_ema=True, clipnorm=1.0),
}
NAMES = [
    name
    for name in optimizers.__all__
    if isinstance(kind := getattr(optimizers, name), type)
    and issubclass(kind, optimizers.Optimizer)
    and name not in {"Optimizer", "Rule", "MultiOptimizer", *OWN}  # the third is made below
]


def problem(layer, x, y, optimizer, loss="sparse_categorical_crossentropy"):
    """A step of training, and the shapes of its state and batch."""
    goal = OutputGoal("output", fnn.losses.get(loss))
    step = make_train_step(layer, Objective((goal,)), optimizer)

    def start(key):
        params, state = layer.init(key, x)
        return TrainState(params, state, init_optimizer(layer, optimizer, params), key)

    now = jax.eval_shape(start, KEY)
    batch = {"x": spec(x), "y": (spec(y),), "weight": ()}, spec(np.ones(len(x), bool))
    return step, now, batch


NETWORK = L.Sequential(
    [L.Dense(8, "relu"), L.BatchNormalization(), L.Dropout(0.2), L.Dense(3, "softmax")]
)
VECTORS, CLASSES = np.ones((8, 4), "float32"), np.zeros(8, "int32")


@pytest.mark.slow
def test_a_step_of_every_optimizer():
    known = {name: getattr(optimizers, name)() for name in NAMES} | OWN
    model = fnn.Model(NETWORK)
    several = optimizers.OptimizerMap(optimizers.SGD(), {".*bias": optimizers.Adam()})
    model.compile(optimizers.MultiOptimizer(several), "mse")
    model.build((None, 4))
    model._program.ensure_optimizer_state()  # now it knows which weights match
    known["MultiOptimizer"] = model._program.optimizer
    assert len(known) > 15
    made = {name: problem(NETWORK, VECTORS, CLASSES, one) for name, one in known.items()}

    def run(states, batch, key):
        return {name: made[name][0](now, batch, key) for name, now in states.items()}

    states = {name: now for name, (_, now, _) in made.items()}
    refuse_host(exported(run, states, made["Adam"][2], jax.eval_shape(lambda: KEY)))


# -- the program that fit runs ---------------------------------------------------------------------

WIDE = L.Sequential([L.Dense(512, "relu"), L.Dropout(0.2), L.Dense(512), L.Dense(3, "softmax")])
TEXT = L.Sequential([L.Embedding(20, 16), L.LSTM(8), L.Dense(3, "softmax")])
IMAGES = L.Sequential([L.Conv2D(4, 3), L.MaxPooling2D(), L.Flatten(), L.Dense(3, "softmax")])
FITTED = {
    "wide": (WIDE, VECTORS),
    "recurrent": (TEXT, np.zeros((8, 6), "int32")),
    "convolutions": (IMAGES, np.ones((8, 9, 9, 1), "float32")),
}


def dispatch(name, donate=True):
    """The compiled function of a dispatch of `fit`, and what it takes."""
    layer, x = FITTED[name]
    step, now, batch = problem(layer, x, CLASSES, optimizers.Adam())
    program = engine.program(step, now, batch, jax.eval_shape(lambda: KEY))
    chunk = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((program.capacity, *leaf.shape), leaf.dtype), batch
    )
    key = jax.eval_shape(lambda: KEY)
    scalar = lambda dtype, *shape: jax.ShapeDtypeStruct(shape, dtype)
    batches = engine.Batches(chunk, key, scalar("int32", 3), scalar("bool", 2))
    run = program._run_donating if donate else program._run
    return run, (now, spec(program.zeros()), scalar("bool"), batches, True, None), program


def donated(run, given, platform):
    text = run.trace(*given).lower(lowering_platforms=(platform,)).as_text()
    return len(re.findall(r"tf\.aliasing_output|jax\.buffer_donor", text)), text


@pytest.mark.slow
@pytest.mark.parametrize("name", FITTED)
def test_the_program_of_fit_runs_nothing_on_the_host_and_donates_as_on_cpu(name):
    """Many steps in one dispatch, with the whole state donated."""
    run, given, program = dispatch(name)
    assert program.capacity > 1
    expected, _ = donated(run, given, "cpu")
    # Random keys and counters are among the leaves.
    assert expected == len(jax.tree.leaves(given[0])) == donated(run, given, "cuda")[0]
    for platform in PLATFORMS:
        count, text = donated(run, given, platform)
        assert count == expected
        refuse_host(text)
    assert donated(*dispatch(name, donate=False)[:2], "cuda")[0] == 0


# -- attention -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_attention_is_exported_with_the_kernel_of_cudnn(monkeypatch):
    """As if there were a GPU (`tests/layers/test_attention.py`); for tpu it is plain products."""
    cudnn = types.SimpleNamespace(cudnn_get_version=lambda: 91000)
    monkeypatch.setattr("jax._src.cudnn.fused_attention_stablehlo.cuda_versions", cudnn)
    gpu = types.SimpleNamespace(compute_capability="9.0")
    monkeypatch.setattr(jax, "local_devices", lambda backend: [gpu])
    block = L.TransformerEncoderBlock(128, 2, use_causal_mask=True)
    x = jax.ShapeDtypeStruct((2, 128, 128), jnp.bfloat16)
    params, _ = weight_spec(block, x)
    params = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, jnp.bfloat16), params)

    def run(params, x, key):
        def loss(params):
            y, _ = call(block, params, {}, x, Context(train=True, key=key))
            return (y.astype("float32") ** 2).sum()

        return jax.value_and_grad(loss)(params)

    given = params, x, jax.eval_shape(lambda: KEY)
    text = exported(run, *given, platforms=("cuda",))
    assert calls(text) == CUDNN
    assert not calls(exported(run, *given, platforms=("tpu",)))
