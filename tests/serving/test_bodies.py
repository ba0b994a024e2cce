"""Bodies of requests and answers: read as they are, or refused with what is wrong."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load, save

from fnn.export.signature import Spec
from fnn.saving.tensors import encode
from fnn.serving import bodies
from fnn.serving.bodies import BINARY, JSON, BodyError

X = Spec("x", (), (None, 2), "float32")
IDS = Spec("ids", ("ids",), (None, None), "int32")
WORDS = Spec("words", (), (None,), "string")


@pytest.mark.parametrize(
    ("kind", "body", "specs", "wanted"),
    [
        (JSON, b'{"inputs": [[1, 2.5]]}', [X], [[[1, 2.5]]]),
        (JSON, b'{"inputs": {"x": [[1, 2]]}}', [X], [[[1, 2]]]),
        (JSON, b'{"inputs": {"ids": [[3]], "x": [[1, 2]]}}', [X, IDS], [[[1, 2]], [[3]]]),
        (JSON, b'{"inputs": ["a", "\xc3\xa9"]}', [WORDS], [["a", "\u00e9"]]),
        (BINARY, save({"inputs": np.ones((3, 2))}), [X], [np.ones((3, 2))]),
        (BINARY, save({"x": np.ones((3, 2), "float16")}), [X], [np.ones((3, 2))]),
        (BINARY, encode({"x": jnp.ones((3, 2), "bfloat16")}), [X], [np.ones((3, 2))]),
        (JSON, b'{"inputs": [[1, 2.0]]}', [IDS], [[[1, 2]]]),
    ],
)
def test_inputs_are_read_with_the_dtype_of_the_model(kind, body, specs, wanted):
    arrays = bodies.read(kind, body, specs)
    for array, spec, values in zip(arrays, specs, wanted, strict=True):
        np.testing.assert_array_equal(array, values)
        if spec.dtype != "string":
            assert array.dtype == spec.dtype


def nested(depth):
    return b'{"inputs": ' + b"[" * depth + b"]" * depth + b"}"


def lying(shape, size):
    """Safetensors whose header tells of more than there is."""
    header = {"inputs": {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(8)


REFUSED = {
    "no JSON": (JSON, b"x", [X], "a body with a fault"),
    "bytes that are not UTF-8": (JSON, b'{"inputs": "\xff"}', [X], "a body with a fault"),
    "an empty body": (JSON, b"", [X], "a body with a fault"),
    "a list": (JSON, b"[[1, 2]]", [X], "expected a JSON object"),
    "other keys": (JSON, b'{"instances": [[1, 2]]}', [X], r'\{"inputs": \.\.\.\}.*instances'),
    "a key twice": (JSON, b'{"inputs": 1, "inputs": 2}', [X], "duplicate key"),
    "NaN": (JSON, b'{"inputs": [[NaN, 1]]}', [X], "NaN is not finite"),
    "infinity": (JSON, b'{"inputs": [[1e999, 1]]}', [X], "1e999 is not finite"),
    "too large for the dtype": (JSON, b'{"inputs": [[1e300, 1]]}', [X], "received NaN or infinity"),
    "NaN in binary": (BINARY, save({"x": np.full((1, 2), np.nan)}), [X], "received NaN"),
    "deep lists": (JSON, nested(100_000), [X], "nested too deeply|fault"),
    "lists deeper than an array": (JSON, nested(200), [X], "lists of unequal|an array of shape"),
    "unequal lengths": (JSON, b'{"inputs": [[1, 2], [3]]}', [X], "unequal lengths or depths"),
    "another shape": (JSON, b'{"inputs": [[1, 2, 3]]}', [X], r"x: float32 \(any, 2\).*\(1, 3\)"),
    "another rank": (JSON, b'{"inputs": [1, 2]}', [X], r"received an array of shape \(2,\)"),
    "no examples": (JSON, b'{"inputs": []}', [Spec("x", (), (None,), "float32")], "at least one"),
    "strings": (JSON, b'{"inputs": [["a", "b"]]}', [X], "expected numbers"),
    "numbers for strings": (JSON, b'{"inputs": [1]}', [WORDS], "expected strings"),
    "objects": (JSON, b'{"inputs": [[{}, {}]]}', [X], "expected numbers .*received other values"),
    "huge integers": (JSON, b'{"inputs": [[1, ' + b"9" * 400 + b"]]}", [X], "other values"),
    "integers with more digits than Python reads": (
        JSON, b'{"inputs": [[1, ' + b"9" * 9000 + b"]]}", [X], "a body with a fault",
    ),
    "fractions for integers": (JSON, b'{"inputs": [[1.5]]}', [IDS], "expected values of int32"),
    "beyond int32": (JSON, b'{"inputs": [[5000000000]]}', [IDS], "expected values of int32"),
    "an input that is missing": (JSON, b'{"inputs": {"x": [[1, 2]]}}', [X, IDS], r"\['x', 'ids'\]"),
    "unequal numbers of examples": (
        JSON, b'{"inputs": {"ids": [[3], [4]], "x": [[1, 2]]}}', [X, IDS], r"received \[1, 2\]",
    ),
    "binary cut off": (BINARY, save({"x": np.ones((3, 2))})[:-1], [X], "the body, which is dam"),
    "binary that is none": (BINARY, b"\x93NUMPY\x01\x00v\x00{'descr': '|O'}", [X], "damaged"),
    "a huge header": (BINARY, b"\xff" * 16, [X], "damaged"),
    "more than there is": (BINARY, lying([2**40, 2], 2**43), [X], "ends .* bytes early"),
    "a shape that overflows": (BINARY, lying([2**62, 8], 8), [X], "damaged"),
    "complex numbers": (BINARY, save({"x": np.ones((1, 2), "complex64")}), [X], "expected numbers"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_other_bodies_are_refused(case):
    kind, body, specs, message = REFUSED[case]
    with pytest.raises(BodyError, match=message):
        bodies.read(kind, body, specs)


def test_outputs_are_written_by_name():
    y, z = np.ones((2, 1), "float32"), np.array([[1], [2]])
    specs = [Spec("y", ("y",), (None, 1), "float32"), Spec("z", ("z",), (None, 1), "int32")]
    assert json.loads(bodies.write(JSON, [y], specs[:1])) == {"outputs": [[1.0], [1.0]]}
    both = json.loads(bodies.write(JSON, [y, z], specs))
    assert both == {"outputs": {"y": [[1.0], [1.0]], "z": [[1], [2]]}}
    np.testing.assert_array_equal(load(bodies.write(BINARY, [y], specs[:1]))["outputs"], y)
    np.testing.assert_array_equal(load(bodies.write(BINARY, [y, z], specs))["z"], z)
    half = bodies.write(JSON, [np.asarray(jnp.ones((1, 1), "bfloat16"))], specs[:1])
    assert json.loads(half) == {"outputs": [[1.0]]}
    with pytest.raises(BodyError, match="ask for them by the header Accept"):
        bodies.write(JSON, [y * np.nan], specs[:1])
