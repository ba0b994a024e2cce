"""Bodies: arrays in JSON and in safetensors, read with every check, and written."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from fnn.export.signature import Spec
from fnn.saving import tensors
from fnn.serving.served import Arrays

JSON, BINARY = "application/json", "application/safetensors"
INPUTS, OUTPUTS = "inputs", "outputs"


class BodyError(ValueError):
    """A body that is not what the model takes; the message goes to the client."""


def read(kind: str, body: bytes, specs: Sequence[Spec]) -> Arrays:
    """The inputs in a body of the type `kind`, one array for each spec, equally many examples.

    JSON is `{"inputs": array}`, or `{"inputs": {name: array, ...}}` for several inputs;
    safetensors holds them by name, a single one also as "inputs". Raises BodyError.

    >>> spec = Spec("x", (), (None, 2), "float32")
    >>> read(JSON, b'{"inputs": [[1, 2], [3, 4]]}', [spec])[0].tolist()
    [[1.0, 2.0], [3.0, 4.0]]
    """
    given = READERS[kind](body)
    if not isinstance(given, dict):
        given = {INPUTS: given}
    if len(specs) == 1 and given.keys() == {INPUTS}:
        given = {specs[0].name: given[INPUTS]}
    wanted = [spec.name for spec in specs]
    if given.keys() != set(wanted):
        raise BodyError(
            f"expected inputs named {wanted}, received {_shown(list(given))}"
        )
    arrays = [_array(given[spec.name], spec) for spec in specs]
    counts = [len(array) for array in arrays]
    if len(set(counts)) > 1 or not counts[0]:
        raise BodyError(
            f"expected at least one example, and as many in each input, received {counts}"
        )
    return arrays


def _json_inputs(body: bytes) -> Any:
    try:
        parsed = tensors.parse(body)
    except (ValueError, RecursionError) as error:
        problem = str(error) or "it is nested too deeply"
        raise BodyError(
            f"expected a JSON object, received a body with a fault: {problem}"
        ) from None
    if parsed.keys() != {INPUTS}:
        raise BodyError(
            f'expected {{"inputs": ...}}, received an object with {_shown(list(parsed))}'
        )
    return parsed[INPUTS]


def _binary_inputs(body: bytes) -> Any:
    try:
        given = tensors.Tensors(io.BytesIO(body), len(body), "the body")
        return given.load("optional")
    except tensors.FileError as error:
        raise BodyError(str(error)) from None


READERS = {JSON: _json_inputs, BINARY: _binary_inputs}


def _array(given: Any, spec: Spec) -> np.ndarray:
    """One input as an array of the dtype and shape of `spec`."""
    try:
        array = np.asarray(given)
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise BodyError(
            f"expected {spec}, received lists of unequal lengths or depths"
        ) from None
    fits = len(array.shape) == len(spec.shape) and all(
        wanted in (None, size)
        for size, wanted in zip(array.shape, spec.shape, strict=True)
    )
    if not fits:
        raise BodyError(f"expected {spec}, received an array of shape {array.shape}")
    return _converted(array, spec)


def _converted(array: np.ndarray, spec: Spec) -> np.ndarray:
    if spec.dtype == "string":
        if array.dtype.kind != "U":
            raise BodyError(f"expected strings for {spec}, received {array.dtype}")
        return array
    if array.dtype.kind not in "bfiuV":  # V: bfloat16 and other small floats
        raise BodyError(
            f"expected numbers for {spec}, received other values, such as strings or null, "
            "or integers beyond 64 bits"
        )
    with np.errstate(all="ignore"):
        made = array.astype(spec.dtype)
        is_exact = made.dtype.kind in "bui"
        changed = is_exact and (made != array).any()
    if changed:
        raise BodyError(f"expected values of {spec.dtype} for {spec}, received others")
    if not is_exact and not np.isfinite(made).all():
        raise BodyError(f"expected finite numbers for {spec}, received NaN or infinity")
    return made


def write(kind: str, arrays: Arrays, specs: Sequence[Spec]) -> bytes:
    """Outputs as a body: in JSON one alone is an array, several are an object by name.

    Raises BodyError for NaN and infinity in JSON, which has no such numbers.

    >>> write(JSON, [np.ones((1, 2))], [Spec("y", (), (None, 2), "float32")])
    b'{"outputs": [[1.0, 1.0]]}'
    """
    named = {spec.name: array for spec, array in zip(specs, arrays, strict=True)}
    if kind == BINARY:
        if len(named) == 1:
            named = {OUTPUTS: arrays[0]}
        return tensors.encode(named)
    lists = {name: array.tolist() for name, array in named.items()}
    outputs: Any = lists
    if len(lists) == 1:
        (outputs,) = lists.values()
    try:
        return json.dumps({OUTPUTS: outputs}, allow_nan=False).encode()
    except ValueError:
        raise BodyError(
            "the outputs have NaN or infinity, which JSON does not; ask for them by the header "
            f"Accept: {BINARY}"
        ) from None


def _shown(names: list[str]) -> str:
    return repr(names)[:200]
