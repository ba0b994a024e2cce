"""Files: the methods of a model that write and read files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import numpy as np

from fnn.core.tree import Tree
from fnn.models.compiled import metrics_in
from fnn.runtime.processes import local
from fnn.runtime.warning import warn
from fnn.saving import archive, trees, weights
from fnn.saving.report import LoadReport
from fnn.training.history import History

Filename: TypeAlias = str | os.PathLike[str]


class Files:
    """The methods of a model for files. Names choose the format, content tells it."""

    def save(self: Any, path: Filename, overwrite: bool = True) -> None:
        """Writes the model into one file, whole or not at all: `fnn.load` continues its training.

        A zip of JSON and safetensors: the network, the arguments of `compile`, the weights, the
        state of the optimizer, the random key, the numbers of steps and epochs, counters of
        callbacks and metrics, and the history. Raises ValueError for a layer without a registered
        name; an argument of `compile` without one is left out, with a warning that says how to
        load the file. Raises FileExistsError with `overwrite=False`.

        Named `.keras` or `.h5` it is a file that Keras loads, with weights, arguments of `compile`
        and the optimizer's state; this needs h5py, and raises ValueError for what Keras lacks.
        """
        archive.save_model(self, path, overwrite=overwrite)

    def save_weights(self: Any, path: Filename, overwrite: bool = True) -> None:
        """Writes the weights alone: as `.npz` or `.weights.h5` if so named, else as safetensors.

        Keras loads the latter with the optimizer's state; a plain `.h5` has its legacy layout. A
        file of safetensors has a checksum; its name may be any other. Raises ValueError for a
        dtype that the format does not know, FileExistsError with `overwrite=False`.
        """
        weights.save_weights(self, path, overwrite=overwrite)

    def load_weights(
        self: Any,
        path: Filename,
        skip_mismatch: bool = False,
        strict: bool = True,
        by_name: bool = False,
    ) -> LoadReport | None:
        """Takes the weights of a file by `save_weights` or `save`, verified. All or nothing.

        Files of Keras for an equal network are read too: `.keras` and `.weights.h5`, with the
        state of the optimizer if the model is compiled, and legacy `.h5`, there with `by_name`
        only the layers whose names are in the file.
        Raises FileError, a ValueError, that lists every missing, unexpected or misshapen path.
        `strict=False` loads all weights that fit and returns the report, without a word on the
        others. `skip_mismatch`, as in Keras, loads the layers all of whose weights fit, and warns
        of the others; the report is returned, too.

        >>> model = fnn.Sequential([fnn.layers.Dense(2, input_shape=(4,))])
        >>> model.save_weights("a.safetensors")
        >>> other = fnn.Sequential([*model.layer.layers, fnn.layers.Dense(3)])
        >>> other.build((None, 4))
        >>> report = other.load_weights("a.safetensors", strict=False)
        >>> print(report)
        params/dense_1/kernel: missing in the file
        params/dense_1/bias: missing in the file
        """
        return weights.load_weights(self, path, skip_mismatch, strict, by_name)

    # -- the training ----------------------------------------------------------------------------

    def training_record(self: Any) -> dict[str, Tree]:
        """All that a file needs beside the weights for the training to continue."""
        now = local(self.train_state)
        metrics = {}
        for metric in metrics_in(self):
            metrics[metric.name] = [variable.value for variable in metric.variables]
        return {
            "counts": {"key": now.key, "step": now.step, "epoch": now.epoch},
            "optimizer": now.optimizer,
            "callbacks": now.callbacks,
            "metrics": metrics,
            "history": _record_of(self.history),
            "weights_key": self._weights.key,
        }

    def take_training(self: Any, record: dict[str, Tree]) -> None:
        """Continues from a record, read from a file: the optimizer only if it is compiled.

        Raises ValueError, listing what differs, and leaves the model as it is.
        """
        now = self.train_state
        counts = {"key": now.key, "step": now.step, "epoch": now.epoch}
        counts = trees.refit(record["counts"], counts)
        key = trees.refit(record["weights_key"], self._weights.key)
        optimizer = now.optimizer
        if self._program.arguments is not None:
            optimizer = trees.refit(record["optimizer"], optimizer)
        history = record["history"]
        if history is not None:
            history = History.from_dict(history, self)
        callbacks = _checked_counters(record["callbacks"])
        self.train_state = now.replace(
            optimizer=optimizer, callbacks=callbacks, **counts
        )
        self._weights.key = key
        self.history = history
        for metric in metrics_in(self):
            _take_values(metric.variables, record["metrics"].get(metric.name))


def _record_of(history: History | None) -> Tree:
    """A history for a file, None if there is none; a warning if it holds other than numbers."""
    if history is None:
        return None
    record = history.as_dict()
    try:
        trees.pack(record)
    except TypeError as error:
        warn(f"the history is not saved: {error}")
        return None
    return record


def _checked_counters(callbacks: Tree) -> Tree:
    """The counters of callbacks: dicts of arrays by callback."""
    leaves = jax.tree.leaves(callbacks)
    are_arrays = all(isinstance(leaf, (np.ndarray, jax.Array)) for leaf in leaves)
    if isinstance(callbacks, dict) and are_arrays:
        return callbacks
    raise ValueError(f"expected counters of callbacks, received {callbacks!r:.80}")


def _take_values(variables: Sequence[Any], values: Tree) -> None:
    """Sets the variables of a metric, if it has made as many of these shapes."""
    shapes = [np.shape(value) for value in values or ()]
    if shapes == [tuple(variable.shape) for variable in variables]:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
