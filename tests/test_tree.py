"""fnn.tree against keras.tree: every function on pairs of structures of every kind."""

import collections
import itertools

import numpy as np
import pytest

import fnn.tree as ours
from tests.helpers.oracle import keras_rules

P = collections.namedtuple("P", "x y")
Q = collections.namedtuple("Q", "x y")
STRUCTURES = [
    *(1, None, "abc", {1, 2}, range(3), [], (), {}),
    *([1, [2, None]], [1, 2], (1, 2), collections.deque([1, 2]), P(1, [2]), Q(1, [2])),
    *({"b": 1, "a": (2, 3)}, {"b": 1, "a": [2]}, {3: "x", 1: "y"}),
    collections.OrderedDict([("b", 1), ("a", [2])]),
    collections.defaultdict(int, {"b": 1, "a": [2]}),
    *([(1, 2), [3], {"a": 4}], [[1, 1], [2, 2]], [[None, 3], (2,)]),
]


@pytest.fixture(scope="module")
def theirs():
    with keras_rules():
        import keras

        return keras.tree


def outcome(function, *args, **named):
    """What a call returns, with the order of dicts, or the kind of its error."""
    try:
        return repr(function(*args, **named))
    except (ValueError, TypeError) as error:
        return type(error).__name__


def traversed(tree, structure, top_down):
    """What is visited, and the result where lists become tuples and 1 becomes None."""
    visited = []

    def visit(part):
        visited.append(part)
        if isinstance(part, list):
            return tuple(part)
        return tree.MAP_TO_NONE if isinstance(part, int) and part == 1 else None

    return tree.traverse(visit, structure, top_down), visited


CALLS = {
    **{
        name: lambda tree, s, name=name: getattr(tree, name)(s)
        for name in ("is_nested", "flatten", "flatten_with_path", "lists_to_tuples")
    },
    "down": lambda tree, s: traversed(tree, s, True),
    "up": lambda tree, s: traversed(tree, s, False),
    "shapes": lambda tree, s: tree.map_shape_structure(lambda shape: [shape], s),
    "map": lambda tree, s: tree.map_structure(lambda leaf: [leaf], s),
    "map without None": lambda tree, s: tree.map_structure(
        lambda leaf: [leaf], s, none_is_leaf=False
    ),
    **{
        f"pack {n}": lambda tree, s, n=n: tree.pack_sequence_as(s, list(range(n))) for n in range(5)
    },
}


@pytest.mark.parametrize("name", CALLS)
def test_functions_of_one_structure_are_as_in_keras(name, theirs):
    for structure in STRUCTURES:
        expected = outcome(CALLS[name], theirs, structure)
        assert outcome(CALLS[name], ours, structure) == expected, structure


@pytest.mark.parametrize("name", ["assert_same_structure", "assert_same_paths", "map_structure"])
def test_functions_of_two_structures_are_as_in_keras(name, theirs):
    first = [lambda a, b: (a, b)] if name == "map_structure" else []
    for a, b in itertools.product(STRUCTURES, STRUCTURES):
        expected = outcome(getattr(theirs, name), *first, a, b)
        assert outcome(getattr(ours, name), *first, a, b) == expected, (a, b)


def test_mapping_up_to_a_shallow_structure(theirs):
    """As in Keras, but for None in the shallow one, with which Keras fails against its docs."""
    for a, b in itertools.product(STRUCTURES, STRUCTURES):
        if "None" not in repr(a):
            expected = outcome(theirs.map_structure_up_to, a, lambda part: [part], b)
            assert outcome(ours.map_structure_up_to, a, lambda part: [part], b) == expected, (a, b)
    assert ours.map_structure_up_to([None, [None]], str, [[1, 1], [[2]]]) == ["[1, 1]", ["[2]"]]


def test_arrays_are_leaves(theirs):
    arrays = {"b": np.ones(2), "a": [np.zeros(1)]}
    assert [leaf.shape for leaf in ours.flatten(arrays)] == [(1,), (2,)]
    assert ours.map_structure(np.sum, arrays) == theirs.map_structure(np.sum, arrays)


def test_no_structure_is_an_error():
    with pytest.raises(ValueError, match="at least one structure, received none"):
        ours.map_structure(len)
    with pytest.raises(ValueError, match="at least one structure, received none"):
        ours.map_structure_up_to([1], len)
    with pytest.raises(ValueError, match="expected 2 leaves, received 1"):
        ours.pack_sequence_as([0, 0], [1])
    with pytest.raises(ValueError, match=r"with the same paths, .*only one has"):
        ours.assert_same_paths([1], [1, 2])
    with pytest.raises(ValueError, match=r"structures of one form, received \[1\] and \(1,\)"):
        ours.assert_same_structure([1], (1,))
