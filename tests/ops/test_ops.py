"""`fnn.ops` beside Keras: the values, dtypes and shapes of every function, eager and traced."""

import functools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.core.config import from_config, to_config
from fnn.ops.operation import OPERATIONS
from tests.helpers.ops_cases import CASES, Draw
from tests.helpers.oracle import keras_rules

with keras_rules():
    import keras

# Names that return what is no array, or that make arrays of sizes alone.
NO_ARRAYS = {"custom_gradient", "vectorize"}
# The shape of the result depends on values: not under jit, nor on nodes.
BY_VALUES = {"nonzero", "bincount", "convert_to_numpy", "is_tensor", "dtype", "shape"}
# Values of their own: what memory holds.
NO_VALUES = {"empty", "empty_like"}
# Known differences from Keras, its own faults. By name, all calls:
KERAS_FAULTS = {
    # Its threshold adds up running sums, so that the result does not sum to one.
    "sparsemax",
}
# In some calls, which are left out of the cases:
# - `max_pool` and `average_pool` without strides raise; here the strides are the size.
# - `gaussian_blur` without data_format takes channels first, all others its default, last.
# - `arctan2` and `logaddexp` take a number of Python as float32, all others as weak.
# - `argmax` and `argmin` on a CPU take 0.0 for larger than -0.0, elsewhere for equal.
# - `affine_transform` adds c0 and c1 times the number of the channel to the coordinates.
# - `elastic_transform` of one image in a batch loses the axis of the batch in its noise.
# - `top_k` returns a list on JAX, a tuple on its other backends.
# - Lists as `xs` of `hstack`, or as an array of `outer`, raise; a list of axes in most sums, too.
# On nodes its own rules of shapes and dtypes are sometimes not those of its results (`abs` of
# complex numbers, `slogdet`, `multi_hot`); here nodes have the shapes and dtypes of the results.
# It needs sizes that it computes with arrays.
UNTRACED_IN_KERAS = {"elastic_transform", "rearrange"}
# Its coordinates depend on c0 and c1, see above.
GRADIENT_FAULTS = {*KERAS_FAULTS, "affine_transform"}


# No gradient in JAX itself.
WITHOUT_GRADIENT = {"eig", "while_loop", "nextafter", "lu_factor", "svd", "qr", "segment_prod"}


@pytest.fixture(autouse=True)
def broadcasting_as_in_keras():
    with keras_rules():
        yield


def ours(name):
    return getattr(fnn.ops, name, None) or getattr(fnn.ops.image, name)


def theirs(name):
    return getattr(keras.ops, name, None) or getattr(keras.ops.image, name)


def public(module):
    return [name for name in dir(module) if name[0] != "_" and callable(getattr(module, name))]


def all_names():
    parts = [keras.ops, keras.ops.image, keras.ops.linalg, keras.ops.nn, keras.ops.numpy]
    return {name for part in parts for name in public(part)}


def tolerance(dtype):
    if dtype in (jnp.bfloat16, jnp.float16):
        return 2e-2
    return 2e-5 if dtype in (jnp.float32, jnp.complex64) else 0


def check(found, expected, name="", values=True):
    """The same structure, shapes, dtypes and numbers."""
    found_leaves, found_tree = jax.tree.flatten(found)
    leaves, tree = jax.tree.flatten(expected)
    if name != "top_k":  # a list in Keras's JAX backend, a tuple in all others
        assert found_tree == tree
    for a, b in zip(found_leaves, leaves, strict=True):
        if not hasattr(b, "dtype"):
            assert a == b
            continue
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        if not values:
            continue
        near = tolerance(b.dtype)
        wide = [np.asarray(x).astype(complex if b.dtype.kind == "c" else float) for x in (a, b)]
        np.testing.assert_allclose(*wide, rtol=near, atol=near)


@pytest.mark.parametrize("part", ["", "image", "linalg", "nn", "numpy"])
def test_every_name_is_here_with_a_case(part):
    module = getattr(keras.ops, part) if part else keras.ops
    here = getattr(fnn.ops, part) if part else fnn.ops
    for name in public(module):
        assert callable(getattr(here, name)), name
        assert CASES.get(name), f"no case for {name}"
    assert set(CASES) == all_names()


def test_signatures_are_those_of_keras():
    import inspect

    for name in all_names():
        shown = [
            [(p.name, p.kind, p.default) for p in inspect.signature(f).parameters.values()]
            for f in (ours(name), theirs(name))
        ]
        assert shown[0] == shown[1], name


UNTRACED = (jax.errors.JAXTypeError, jax.errors.JAXIndexError, TypeError, ValueError)


def traced(function, arrays):
    """The program of a function of arrays, and the shapes and dtypes that it returns."""
    return jax.make_jaxpr(function, return_shape=True)(*arrays)


def in_words(program, shapes):
    """What makes a program: of two functions, one need not run where they are equal in this."""
    return str(program), str(shapes), *[np.asarray(c).tobytes() for c in program.consts]


def programs_of(functions, arrays):
    """The programs of functions of arrays, in words; None where they need values."""
    try:
        return tuple(in_words(*traced(f, arrays)) for f in functions)
    except UNTRACED:
        return None  # or what they return is no array


@functools.cache
def programs_of_case(name, number):
    """The programs of a function and of Keras's, of the first arrays that a case draws."""
    given = CASES[name][number](Draw(0))
    return programs_of([closed(f, given) for f in (ours(name), theirs(name))], arrays_of(given))


def results(groups):
    """What functions of arrays return, [(functions, several arrays), ...], by one program."""

    @jax.jit
    def run(given):
        pairs = zip(groups, given, strict=True)
        return [[f(*arrays) for f in functions] for (functions, _), arrays in pairs]

    for turn in range(max((len(several) for _, several in groups), default=0)):
        yield from run([several[min(turn, len(several) - 1)] for _, several in groups])


# Seeds, places and shapes. Where the program is that of Keras, it needs no run.
DRAWS = [(0, 0, 0), (3, 2, 1), (7, 4, 0)]


def every_tenth_is_quick(names):
    slow = pytest.mark.slow
    return [pytest.param(n, marks=slow if i % 10 else ()) for i, n in enumerate(names)]


@pytest.mark.parametrize("name", every_tenth_is_quick(sorted({*CASES} - NO_ARRAYS - KERAS_FAULTS)))
def test_values_are_those_of_keras(name):
    groups = {}
    for draw in DRAWS:
        for number, make in enumerate(CASES[name]):
            given = make(Draw(*draw))
            both, arrays = [closed(f, given) for f in (ours(name), theirs(name))], arrays_of(given)
            first = draw == DRAWS[0]
            programs = programs_of_case(name, number) if first else programs_of(both, arrays)
            if programs is None:
                check(*[f(*arrays) for f in both], name, name not in NO_VALUES)
            elif programs[0] != programs[1]:
                groups.setdefault(programs, (both, []))[1].append(arrays)
    for found, expected in results([*groups.values()]):
        check(found, expected, name, name not in NO_VALUES)


def is_array(x):
    return isinstance(x, np.ndarray) and x.ndim > 0


def with_arrays(given, arrays):
    """The arguments with other arrays in the places of theirs."""
    leaves, tree = jax.tree.flatten(given)
    rest = iter(arrays)
    return tree.unflatten([next(rest) if is_array(x) else x for x in leaves])


def arrays_of(given):
    return [x for x in jax.tree.leaves(given) if is_array(x)]


def traced_cases():
    for name, makes in sorted(CASES.items()):
        if name in BY_VALUES | NO_ARRAYS | NO_VALUES:
            continue
        for number, make in enumerate(makes):
            given = make(Draw(0))
            by_values = name == "unique" and "size" not in given[1]
            by_values |= name == "where" and len(given[0]) == 1
            if arrays_of(given) and not by_values:
                yield pytest.param(name, given, id=f"{name}-{number}")


def closed(function, given):
    """The function of the arrays alone."""

    def run(*arrays):
        args, kwargs = with_arrays(given, arrays)
        return function(*args, **kwargs)

    return run


# Constants in these places are no arrays to trace: sizes and places.
STATIC = {"repeat", "slice"}


def words(program):
    """The text of a program in words; which of its arrays are constants is left out."""
    head, _, rest = str(program).partition(" let")
    return re.findall(r"[^\s;.]+", head) + rest.split()


def given_is_seen_alike(run, arrays):
    """Whether a function makes one program of arrays: of what it sees, and of what jit gives it."""
    (seen, found), (program, expected) = traced(lambda: run(*arrays), []), traced(run, arrays)
    held = [*program.consts, *arrays]
    same = len(seen.consts) == len(held) and all(map(np.array_equal, seen.consts, held))
    return same and words(seen) == words(program) and str(found) == str(expected)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "given"), [*traced_cases()])
def test_under_jit_and_on_nodes_the_values_are_the_same(name, given, request):
    arrays = arrays_of(given)
    run = closed(ours(name), given)
    first = request.node.callspec.id.endswith("-0")
    if first and name not in STATIC and name != "jvp" and not given_is_seen_alike(run, arrays):
        check(jax.jit(run)(*arrays), run(*arrays), name)
    if name in OPERATIONS:
        on_nodes(name, given, arrays, run)


def as_arrays(result):
    """Its leaves, numbers of Python as arrays: what they are in a graph."""
    leaves = jax.tree.leaves(result)
    return tuple(x if hasattr(x, "dtype") else jnp.asarray(x) for x in leaves)


def on_nodes(name, given, arrays, run):
    """As a layer of a model, all arrays inputs, then the first alone; and from its config."""
    structure_of_result = jax.tree.structure(jax.eval_shape(run, *arrays))
    for count in {len(arrays), 1}:
        inputs = [fnn.Input(batch_shape=a.shape, dtype=a.dtype) for a in arrays[:count]]
        args, kwargs = with_arrays(given, [*inputs, *arrays[count:]])
        made = ours(name)(*args, **kwargs)
        nodes, structure = jax.tree.flatten(made)
        model = fnn.Model(inputs, nodes)

        def direct(*some, count=count):
            return as_arrays(run(*some, *arrays[count:]))

        def of_model(*some, model=model):
            return as_arrays(model.layer.apply({}, {}, some)[0])

        both, some = (of_model, direct), arrays[:count]
        (program, leaves), expected = traced(of_model, some), traced(direct, some)
        if name in STATIC:
            check(of_model(*some), direct(*some), name)
        elif in_words(program, leaves) != in_words(*expected):
            check(*next(results([(both, [some])])), name)
        assert structure == structure_of_result
        for node, leaf in zip(nodes, leaves, strict=True):
            assert (node.shape, node.dtype) == (leaf.shape, leaf.dtype)
        if not any(callable(leaf) for leaf in jax.tree.leaves(given)):
            config = json.dumps(to_config(model.layer), allow_nan=False)
            again = from_config(json.loads(config))
            assert again == model.layer
            assert hash(again) == hash(model.layer)


def floating(arrays):
    return [place for place, a in enumerate(arrays) if a.dtype == np.float32]


def gradient_cases():
    for case in traced_cases():
        name, given = case.values
        if floating(arrays_of(given)) and name not in GRADIENT_FAULTS | WITHOUT_GRADIENT:
            yield case


def total(result):
    parts = [
        x for x in jax.tree.leaves(result) if jnp.issubdtype(jnp.asarray(x).dtype, jnp.inexact)
    ]
    numbers = [jnp.abs(p) if jnp.iscomplexobj(p) else p.astype("float32") for p in parts]
    weights = [jnp.cos(jnp.arange(p.size, dtype="float32")).reshape(p.shape) for p in numbers]
    return sum((w * p).sum() for w, p in zip(weights, numbers, strict=True))


def derived_alike(name, number):
    """Whether two functions are one program without rules of its own: so are their gradients."""
    own, program = programs_of_case(name, number) or (None, "")
    return own == program and "custom_" not in own[0]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "given"), [*gradient_cases()])
def test_gradients_are_those_of_keras(name, given, request):
    arrays, functions = arrays_of(given), (ours(name), theirs(name))
    untraced = name in UNTRACED_IN_KERAS
    number = int(request.node.callspec.id.rpartition("-")[2])
    if not untraced and derived_alike(name, number):
        return

    def gradient(function):
        def run(some):
            whole = list(arrays)
            for place, value in zip(floating(arrays), some, strict=True):
                whole[place] = value
            args, kwargs = with_arrays(given, whole)
            return jnp.asarray(total(function(*args, **kwargs)), "float32")

        return jax.grad(run)

    floats = [jnp.asarray(arrays[place]) for place in floating(arrays)]
    both = [gradient(f) for f in functions]
    programs = None if untraced else programs_of(both, [floats])
    if programs is None:
        check(*[f(floats) for f in both], name)
    elif programs[0] != programs[1]:
        check(*next(results([(both, [[floats]])])), name)


@pytest.mark.slow
def test_functions_that_return_functions():
    x = np.arange(3.0, dtype="float32")
    plus = fnn.ops.vectorize(lambda a, b: a + b)
    np.testing.assert_array_equal(plus(x, x), keras.ops.vectorize(lambda a, b: a + b)(x, x))

    @fnn.ops.custom_gradient
    def doubled(x):
        return x, lambda upstream: 2 * upstream

    assert jax.grad(doubled)(3.0) == 2


def saved_cases():
    """The first call of each operation that a file can describe: no functions, some arrays."""
    seen = set()
    for case in traced_cases():
        name, given = case.values
        functions = any(callable(leaf) for leaf in jax.tree.leaves(given))
        if name in OPERATIONS and name not in seen and not functions:
            seen.add(name)
            yield name, given


@pytest.mark.slow
def test_a_model_of_all_operations_goes_through_a_file(tmp_path):
    inputs, outputs = {}, []
    for name, row in saved_cases():
        arrays = arrays_of(row)
        nodes = [fnn.Input(batch_shape=a.shape, dtype=a.dtype) for a in arrays]
        inputs |= {f"{name}_{place}": node for place, node in enumerate(nodes)}
        args, kwargs = with_arrays(row, nodes)
        outputs += jax.tree.leaves(ours(name)(*args, **kwargs))
    model = fnn.Model(inputs, outputs)
    model.save(tmp_path / "all.fnn")
    again = fnn.load(tmp_path / "all.fnn")
    assert again.layer == model.layer
    assert len(again.layer.steps) > 280
