"""History: what each epoch measured."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


class History:
    """The record of a training: `history["loss"]` has one number an epoch.

    `epoch`   the numbers of the epochs, from 0
    `learning_rate`   the rate at the end of each; of `ByPath` a dict by pattern, None if unknown
    `params`  {"epochs", "steps", "verbose"}
    `model`   what was trained, while it lives; None for a training without a Model

    >>> history = History()
    >>> history.record(0, {"loss": 0.5})
    >>> history.record(1, {"loss": 0.25}, rate=0.1)
    >>> history.history["loss"], history.learning_rate
    ([0.5, 0.25], [None, 0.1])
    """

    def __init__(self, params: dict[str, Any] | None = None, model: Any = None) -> None:
        self.history: dict[str, list[Any]] = {}
        self.epoch: list[int] = []
        self.learning_rate: list[Any] = []
        self.params = params or {}
        self._model: Callable[[], Any] | None
        self.model = model

    @property
    def model(self) -> Any:
        return None if self._model is None else self._model()

    @model.setter
    def model(self, model: Any) -> None:
        # A model has its history; were it the other way round too, neither would go at once.
        self._model = None if model is None else weakref.ref(model)

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or a pickle takes over: all but the model, which gives its copy to it."""
        return {**vars(self), "_model": None}

    def record(self, epoch: int, logs: dict[str, Any], rate: Any = None) -> None:
        """Adds the logs of one epoch, and the learning rate after it."""
        self.epoch.append(epoch)
        self.learning_rate.append(jax.tree.map(float, rate))
        for name, value in logs.items():
            single = hasattr(value, "__array__") and np.ndim(value) == 0
            # A live learning rate would go on changing, and cannot be pickled.
            self.history.setdefault(name, []).append(
                np.asarray(value).item() if single else value
            )

    def __repr__(self) -> str:
        last = ", ".join(
            f"{name}={_short(values[-1])}" for name, values in self.history.items()
        )
        return f"<History of {len(self.epoch)} epochs: {last}>"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, (int, float)) else str(value)
