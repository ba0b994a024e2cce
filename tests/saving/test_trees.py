"""Trees: any pytree comes back from named arrays and plain data, bit for bit."""

import io
import json
import math
from typing import NamedTuple

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings

from fnn.saving import tree_files, trees
from fnn.saving.tensors import FileError, Tensors


def through_a_file(tree):
    """The packed tree after a file of it."""
    file = io.BytesIO()
    tree_files.write(file, tree)
    size = file.tell()
    file.seek(0)
    return tree_files.read(Tensors(file, size, "tree"))


def assert_same(a, b):
    """Of the same types and bits, at every depth."""
    assert type(a) is type(b), (a, b)
    if isinstance(a, dict):
        assert [*a] == [*b]
        assert [type(key) for key in a] == [type(key) for key in b]
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            assert_same(one, other)
    elif isinstance(a, (jax.Array, np.ndarray, np.generic)):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert getattr(a, "weak_type", None) == getattr(b, "weak_type", None)
        if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
    elif isinstance(a, (float, complex)):
        assert repr(a) == repr(b)
    else:
        assert a == b


KINDS = {
    "": "bool int8 int16 int32 uint8 uint16 uint32 float16 float32 bfloat16 complex64",
    "small ": "int4 uint4 int2 uint2 float4_e2m1fn float8_e3m4 float8_e4m3 float8_e4m3b11fnuz",
    "other ": "float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu",
}
DTYPES = [dtype for names in KINDS.values() for dtype in names.split()]
WIDE = ["int64", "uint64", "float64", "complex128"]
SHAPES = st.sampled_from([(), (0,), (3,), (2, 3), (1, 0, 2)])


def bits(dtype, shape, seed):
    """An array of random bits, infinities and the payloads of NaN among them."""
    dtype = np.dtype(getattr(jnp, dtype))
    data = np.random.default_rng(seed).integers(0, 256, (*shape, dtype.itemsize), dtype="uint8")
    if dtype.name in ("bool", "int2", "uint2", "int4", "uint4", "float4_e2m1fn"):
        return (data[..., 0] % 2).astype(dtype)  # not every byte is a number of theirs
    return data.view(dtype).reshape(shape)


def of_numpy(dtype, shape, seed):
    return bits(dtype, shape, seed)


def scalar(dtype, seed):
    return bits(dtype, (), seed)[()]


def of_jax(dtype, shape, seed):
    return jnp.asarray(bits(dtype, shape, seed))


SEEDS = st.integers(0, 99)
NUMBERS = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.complex_numbers(), st.text())
)
ARRAYS = st.one_of(
    st.builds(of_jax, st.sampled_from(DTYPES), SHAPES, SEEDS),
    st.builds(of_numpy, st.sampled_from(DTYPES + WIDE), SHAPES, SEEDS),
    st.builds(scalar, st.sampled_from([*WIDE, "float32", "int32"]), SEEDS),
    st.builds(jax.random.key, SEEDS, impl=st.sampled_from(trees.PRNG)),
    st.builds(lambda seed: jax.random.split(jax.random.key(seed), (2, 1)), SEEDS),
    st.builds(jnp.asarray, st.floats(width=32)),  # its dtype gives way to that of others
)
KEYS = st.one_of(st.text("a/~i01é", max_size=3), st.integers(), st.just("__metadata__"))
TREES = st.recursive(
    st.one_of(NUMBERS, ARRAYS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(KEYS, inner, max_size=3),
    ),
    max_leaves=8,
)


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(TREES)
def test_any_tree_comes_back(tree):
    assert_same(trees.unpack(*through_a_file(tree)), tree)
    assert_same(trees.restore(*through_a_file(tree), tree), tree)


@pytest.mark.thorough
@settings(max_examples=3000, deadline=None)
@given(TREES)
def test_any_of_many_trees_comes_back(tree):
    assert_same(trees.unpack(*through_a_file(tree)), tree)
    assert_same(trees.restore(*through_a_file(tree), tree), tree)


@pytest.mark.parametrize("dtype", DTYPES + WIDE)
def test_every_dtype_comes_back(dtype):
    tree = [of_numpy(dtype, shape, 0) for shape in ((), (0, 2), (5, 3))]
    if dtype in DTYPES:
        tree += [jnp.asarray(array) for array in tree]
    assert_same(trees.unpack(*through_a_file(tree)), tree)


def test_names_are_paths():
    tree = {"a/b": {"~": jnp.ones(1)}, 3: [jnp.ones(1)], "": jnp.ones(1), "~i3": (jnp.ones(1),)}
    assert list(trees.pack(tree).arrays) == ["a~1b/~0", "~i3/0", "", "~0i3/0"]
    assert list(trees.pack(jnp.ones(1)).arrays) == [""]


class Point(NamedTuple):
    x: jax.Array
    y: object = None


def optimizers():
    adam = optax.inject_hyperparams(optax.adam)(optax.linear_schedule(0.1, 0.01, 5))
    yield optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3), optax.ema(0.9))
    yield optax.MultiSteps(adam, 2)
    yield optax.masked(optax.lion(1e-3), {"w": True, "b/c": {"d": False}})
    yield optax.partition({"a": optax.sgd(0.1, 0.9), "b": optax.rmsprop(0.1)},
                          {"w": "a", "b/c": {"d": "b"}})  # fmt: skip
    yield optax.apply_if_finite(optax.sgd(0.1, 0.9), 2)
    yield optax.contrib.schedule_free_adamw(0.1)


@pytest.mark.slow
@pytest.mark.parametrize("rule", list(optimizers()))
def test_whole_states_of_optax_continue(rule):
    params = {"w": jnp.ones(3, jnp.bfloat16), "b/c": {"d": jnp.ones(2)}}
    state = rule.init(params)
    step = jax.jit(rule.update)
    gradients = jax.tree.map(lambda x: x / 3, params)
    for _ in range(3):
        _, state = step(gradients, state, params)
    again = trees.restore(*through_a_file(state), rule.init(params))
    assert jax.tree.structure(again) == jax.tree.structure(state)
    jax.tree.map(assert_same, again, state)
    jax.tree.map(assert_same, step(gradients, again, params), step(gradients, state, params))
    plain = trees.unpack(*through_a_file(state))
    assert len(jax.tree.leaves(plain)) == len(jax.tree.leaves(state))


def test_without_a_target_named_tuples_are_dicts_of_their_fields():
    tree = {"p": Point(1, Point(2.0)), "q": [Point(None)]}
    plain = {"p": {"x": 1, "y": {"x": 2.0, "y": None}}, "q": [{"x": None, "y": None}]}
    assert trees.unpack(*through_a_file(tree)) == plain
    assert trees.restore(*through_a_file(tree), tree) == tree
    assert type(trees.restore(*through_a_file(plain), tree)["p"]) is Point


def test_a_target_decides_what_holds_a_leaf():
    packed = trees.pack({"a": np.ones(2, "float32"), "b": np.float32(3), "c": [jnp.ones(2)]})
    like = {"a": jnp.zeros(2), "b": np.zeros((), "float32"), "c": (np.zeros(2, "float32"),)}
    found = trees.restore(*packed, like)
    types = [type(leaf) for leaf in jax.tree.leaves(found)]
    assert types == [type(leaf) for leaf in jax.tree.leaves(like)]
    assert type(found["c"]) is tuple


def test_another_structure_is_named_path_by_path():
    packed = trees.pack({"a": jnp.ones(2), "b": {"c": 3}, "k": jax.random.key(0)})
    like = {"a": jnp.ones(3), "b": {"d": 3.0}, "k": jax.random.key_data(jax.random.key(0))}
    with pytest.raises(ValueError, match="a tree of another structure") as caught:
        trees.restore(*packed, like)
    assert str(caught.value).splitlines()[1:] == [
        "  b/d: missing in the file",
        "  b/c: not in the model",
        "  a: expected float32[3], found float32[2]",
        "  k: expected uint32[2], found key<fry>[]",
    ]


def test_what_cannot_be_packed_is_named_by_its_path():
    with pytest.raises(TypeError, match=r"received object at 'a/0'; register the class"):
        trees.pack({"a": [object()]})
    with pytest.raises(TypeError, match=r"keys of the dict at 'a', received \(1, 2\)"):
        trees.pack({"a": {(1, 2): 3}})
    with pytest.raises(TypeError, match=r"keys of the dict at '', received True"):
        trees.pack({True: 3})
    with pytest.raises(ValueError, match="array of numbers at a, received <U1"):
        through_a_file({"a": np.array("x")})


def test_a_wide_array_of_jax_needs_wide_numbers():
    with jax.enable_x64(True):
        packed = trees.pack({"a": jnp.ones(2)})
        assert trees.unpack(*packed)["a"].dtype == "float64"
    with pytest.raises(ValueError, match=r"a is of float64, .*jax_enable_x64"):
        trees.unpack(*packed)


DAMAGED = [
    *(3, "x", [], {}, {"dict": 1, "list": 2}, {"dict": 3}, {"dict": [[1]]}),
    *({"dict": [["a", None], ["a", None]]}, {"list": {}}, {"int": 1.5}, {"int": True}, {"str": 3}),
    *({"float": 3}, {"float": "x"}, {"complex": ["0x1"]}, {"jax": "b"}, {"jax": 3}),
    *({"os": "system"}, {"dict": [[1.5, None]]}),
    *({"key": ["a", "mine"]}, {"key": "a"}, {"key": ["a", "rbg"]}, {"key": ["b", "rbg"]}),
    *({"numpy": None}, {"scalar": ["a"]}, {"list": [{"tuple": 7}]}),
]  # fmt: skip


@pytest.mark.parametrize("description", DAMAGED, ids=str)
def test_damaged_descriptions_are_refused(description):
    with pytest.raises((ValueError, TypeError)):
        trees.unpack({"a": np.zeros(3, "uint32")}, description)


def test_files_of_other_programs_are_refused():
    from safetensors.numpy import save

    data = save({"a": np.ones(3)})
    with pytest.raises(FileError, match="the structure of its tree is missing"):
        tree_files.read(Tensors(io.BytesIO(data), len(data), "tree"))
    deep = json.dumps({"tree": None}).replace("null", '{"list":[' * 5000 + "]}" * 5000)
    data = save({"a": np.ones(3)}, metadata={"fnn_tree": deep})
    with pytest.raises(FileError, match="structure of its tree: RecursionError"):
        tree_files.read(Tensors(io.BytesIO(data), len(data), "tree"))


def test_numbers_of_python_keep_their_bits():
    tree = [0.1, -0.0, math.inf, 5e-324, 10**40, -(2**70), 1e308 * (1 + 1j)]
    assert_same(trees.unpack(*through_a_file(tree)), tree)
