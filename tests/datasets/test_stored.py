"""Objects in files: read as Python reads them, and nothing of them is executed."""

import pickle

import numpy as np
import pytest

from fnn.datasets.stored import StoredObject
from tests.helpers.dataset_files import as_python_2

LISTS = np.empty(3, object)
LISTS[:] = [[1, 300, 70_000], [], [-1, 255, 256, 65_535, 65_536]]
OBJECTS = [
    [1, [2, (3,), (4, 5), (6, 7, 8), (1, 2, 3, 4), ()], None, True, False, {}],
    {b"labels": list(range(3000)), b"more": {b"a": b"x" * 300}},
    np.arange(6, dtype="uint8").reshape(2, 3),
    np.arange(6, dtype=">f8").reshape(2, 3).T,
    LISTS,
]


@pytest.mark.parametrize("obj", OBJECTS, ids=str)
@pytest.mark.parametrize("write", [as_python_2, 3, 4])
def test_objects_are_read_as_python_reads_them(obj, write):
    data = write(obj) if callable(write) else pickle.dumps(obj, write)
    found = StoredObject(data).load()
    expected = pickle.loads(data, encoding="bytes")
    assert type(found) is type(expected)
    if not isinstance(obj, np.ndarray):
        assert found == expected
        return
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert found.tolist() == expected.tolist()


def test_an_object_that_appears_twice_is_one():
    array = np.arange(3)
    first, second = StoredObject(pickle.dumps([array, array], 3)).load()
    assert first is second
    np.testing.assert_array_equal(first, array)


class Harm:
    def __reduce__(self):
        return (print, ("executed",))


class State:
    def __init__(self):
        self.a = 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            b"cos\nsystem\n(X\x02\x00\x00\x00lstR.",
            "names 'os system', which is no part",
        ),
        (pickle.dumps(Harm(), 2), "names '__builtin__ print'"),
        (pickle.dumps(Harm(), 4), "names 'builtins print'"),
        (pickle.dumps(State(), 3), "names"),
        (pickle.dumps(np.float64(1), 3), "names 'numpy"),
        (pickle.dumps(np.array(["a"]), 3), r"calls 'dtype' of \('U1'"),
        (b"cnumpy\nndarray\n)R.", "it is damaged"),
        (b"cnumpy\nndarray\n(X\x01\x00\x00\x00atR.", "calls 'ndarray'"),
        (b"I1\n.", "the code b'I' is unknown"),
        (b"\x80\x03]q\x00(K\x01K\x02", "ends too early"),
        (b"", "ends too early"),
        (b"h\x05.", "it is damaged: KeyError"),
        (b"e.", "it is damaged: IndexError"),
        (b"NNb.", "it is damaged: AttributeError"),
        (b"U\xffa.", "ends too early"),
    ],
)
def test_other_objects_and_damaged_files_are_errors(data, message, capsys):
    with pytest.raises(ValueError, match=message):
        StoredObject(data).load()
    assert capsys.readouterr().out == ""
