"""History: the logs of each epoch."""

from __future__ import annotations

import contextlib
import copy
import weakref
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fnn.training.hooks import AnyModel, Logs, RunParams
from fnn.visualization.curves import history_svg, plot_history

# What a file holds of it, and of which types.
_KEPT: dict[str, Any] = {
    "history": {},
    "epoch": [],
    "learning_rate": [],
    "params": {},
}


class History:
    """The record of a training: `history["loss"]` has one number per epoch.

    `epoch`          the numbers of the epochs, from 0
    `learning_rate`  the rate at the end of each; a dict by pattern for `ByPath`, None if
                     unknown
    `params`         {"epochs", "steps", "verbose"}
    `model`          the trained model while it is alive; None for a training without one

    >>> history = History()
    >>> history.record(0, {"loss": 0.5})
    >>> history.record(1, {"loss": 0.25}, rate=0.1)
    >>> history.history["loss"], history.learning_rate
    ([0.5, 0.25], [None, 0.1])
    """

    def __init__(self, params: RunParams | None = None, model: AnyModel = None) -> None:
        self.history: dict[str, list[Any]] = {}
        self.epoch: list[int] = []
        self.learning_rate: list[Any] = []
        self.params = params or {}
        self._model: Callable[[], AnyModel] | None
        self.model = model

    @property
    def model(self) -> AnyModel:
        if self._model is None:
            return None
        return self._model()

    @model.setter
    def model(self, model: AnyModel) -> None:
        # The model refers to its history. A weak reference back avoids a cycle, so that
        # both are freed at once.
        self._model = None
        if model is not None:
            self._model = weakref.ref(model)

    def __getstate__(self) -> dict[str, object]:
        """The state of a copy or a pickle: without the model, which sets itself again."""
        return {**vars(self), "_model": None}

    def record(
        self,
        epoch: int,
        logs: Logs,
        rate: Any = None,
    ) -> None:
        """Adds the logs of one epoch, and the learning rate after it."""
        self.epoch.append(epoch)
        self.learning_rate.append(jax.tree.map(float, rate))
        for name, value in logs.items():
            if hasattr(value, "__array__") and np.ndim(value) == 0:
                # A live learning rate would keep changing, and cannot be pickled.
                value = np.asarray(value).item()
            self.history.setdefault(name, []).append(value)

    def as_dict(self) -> dict[str, Any]:
        """The record as dicts, lists and numbers, for a file, as it is now."""
        return {name: copy.deepcopy(getattr(self, name)) for name in _KEPT}

    @classmethod
    def from_dict(cls, record: Any, model: AnyModel = None) -> History:
        """The history of such a record. Raises ValueError if it is none."""
        history = cls(model=model)
        history.restore(record)
        history.params = record["params"]
        return history

    def restore(self, record: Any) -> None:
        """Takes the epochs of an earlier training, which this one goes on with.

        Raises ValueError if `record` is not what `as_dict` returns.
        """
        kinds = {name: type(value) for name, value in _KEPT.items()}
        found = {}
        if isinstance(record, dict):
            found = {name: type(value) for name, value in record.items()}
        if found != kinds:
            raise ValueError(f"expected the record of a training, received {found}")
        record = copy.deepcopy(record)
        self.history, self.epoch = record["history"], record["epoch"]
        self.learning_rate = record["learning_rate"]

    def plot(
        self,
        path: str | Path | None = None,
        *,
        figure: Any = None,
    ) -> Any:
        """A figure with a panel for each metric: `fnn.visualization.plot_history`.

        Raises ValueError before the first epoch, ImportError without matplotlib.

        >>> history = History()
        >>> history.record(0, {"loss": 0.5, "val_loss": 0.75})
        >>> [axes.get_title() for axes in history.plot().axes]
        ['Loss']
        """
        return plot_history(self, path, figure=figure)

    def _repr_html_(self) -> str:
        shown = f"<div>{escape(repr(self)[1:-1])}</div>"
        if len(self.epoch) < 2:
            return shown
        with contextlib.suppress(ImportError):  # without matplotlib, the numbers alone
            shown += history_svg(self)
        return shown

    def __repr__(self) -> str:
        last = [f"{name}={_short(v[-1])}" for name, v in self.history.items()]
        return f"<History of {len(self.epoch)} epochs: {', '.join(last)}>"


def _short(value: object) -> str:
    if isinstance(value, (int, float)):
        return f"{value:.4g}"
    return str(value)
