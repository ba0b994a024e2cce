"""Served: a model as a function of a list of arrays, and how such batches are joined."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

import fnn
from fnn.core import tree
from fnn.export.signature import Spec, is_spec, outputs_of, signature_of, specs_in
from fnn.models.feed import pads
from fnn.runtime import program_cache

Arrays = list[np.ndarray]


class Served:
    """A model or its file as a server runs it: `run(arrays) -> arrays`.

    `inputs` and `outputs` are their names, shapes and dtypes, in order. `takes_batches`: examples
    of several requests may be joined and padded, since each output depends on its own example
    alone. A program is compiled for each shape of a batch; before there are more than `programs`,
    all are dropped, so that requests of ever new lengths do not fill the memory.
    Raises FileError for a file that is not a model, ValueError for a model without weights
    or with a state that calls leave behind.

    >>> model = fnn.Sequential([fnn.layers.Dense(2, input_shape=(3,))], name="dense")
    >>> served = Served(model)
    >>> served.name, str(served.inputs[0]), served.run([np.ones((5, 3), "float32")])[0].shape
    ('dense', 'input_0: float32 (any, 3)', (5, 2))
    """

    def __init__(self, model: Any, most: int = 32, programs: int = 128) -> None:
        self.name = str(getattr(model, "name", model))
        if isinstance(model, (str, os.PathLike)):
            file_name = os.path.basename(model)
            self.name = os.path.splitext(file_name)[0]
            model = fnn.load(model, compile=False)
        self.model = model
        self.most = most
        self.programs = programs
        # The shapes of the batches whose programs are kept.
        self.shapes: set[tuple[tuple[int, ...], ...]] = set()
        self.output_names: Sequence[str] = model.output_names  # raises without weights
        (signature,) = signature_of((model.input,))
        self.inputs = specs_in(signature)
        self.structure = jax.tree.structure(signature, is_leaf=is_spec)
        weights = model._weights
        network = weights.network.compiled
        if network.is_stateful:
            raise ValueError(
                f"the model {self.name!r} is stateful, so that an answer would depend on the "
                "requests before it; serve a model with stateful=False and these weights"
            )
        self.takes_batches = pads(weights, tree.resized(network.trial(), 4))
        self.outputs: list[Spec] = []

    def run(self, arrays: Arrays) -> Arrays:
        """The outputs for a batch, which is not divided."""
        self._note_shapes(arrays)
        x = jax.tree.unflatten(self.structure, arrays)
        outputs = self.model.predict(x, batch_size=len(arrays[0]), verbose=0)
        if not self.outputs:
            found = outputs_of(outputs, self.output_names)
            self.outputs = [one._replace(shape=(None, *one.shape[1:])) for one in found]
        return jax.tree.leaves(outputs)

    def _note_shapes(self, arrays: Arrays) -> None:
        shapes = tuple(array.shape for array in arrays)
        if shapes not in self.shapes and len(self.shapes) >= self.programs:
            program_cache.programs.clear()
            self.shapes.clear()
        self.shapes.add(shapes)

    def warm_up(self) -> None:
        """Compiles the program of every size of a batch, where the other sizes are fixed.

        Raises what the model raises, such as the error for outputs that are not one an example.
        """
        sizes = [1]
        if self.takes_batches:
            doubled = [2**n for n in range(self.most.bit_length())]
            sizes = sorted({*doubled, self.most})
        for size in sizes:
            self.run([_zeros(spec, size) for spec in self.inputs])


def _zeros(spec: Spec, count: int) -> np.ndarray:
    """Inputs like `spec`; a free size, whose programs are compiled at requests, is 2."""
    sizes = [2 if size is None else size for size in spec.shape[1:]]
    shape = (count, *sizes)
    if spec.dtype == "string":
        return np.full(shape, "")
    return np.zeros(shape, spec.dtype)


def joined(requests: Sequence[Arrays], size: int) -> Arrays:
    """The examples of several requests, padded to `size` by copies of the last.

    >>> joined([[np.array([1])], [np.array([2, 3])]], 4)
    [array([1, 2, 3, 3])]
    """
    columns = zip(*requests, strict=True)
    return [_padded(np.concatenate(column), size) for column in columns]


def _padded(array: np.ndarray, size: int) -> np.ndarray:
    missing = size - len(array)
    if missing <= 0:
        return array
    copies = np.repeat(array[-1:], missing, axis=0)
    return np.concatenate([array, copies])
