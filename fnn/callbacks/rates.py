"""Callbacks that set the learning rate: by a function of the epoch, or to find a good one."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from fnn.optimizers import with_learning_rate
from fnn.runtime.optional import optional
from fnn.runtime.processes import say
from fnn.training.hooks import Callback, Logs


def learning_rates(callback: Callback) -> dict[str, float]:
    """The current rate by its name in logs: `learning_rate`, or one per pattern of `ByPath`."""
    found = getattr(callback.model, "learning_rate", None)
    if not isinstance(found, dict):
        found = {"": found}
    rates = {}
    for pattern, rate in found.items():
        name = "learning_rate"
        if pattern:
            name = f"learning_rate_{pattern}"
        if rate is not None:
            rates[name] = float(rate)
    if not rates:
        optimizer = getattr(callback.model, "optimizer", callback.model)
        raise ValueError(
            f"{type(callback).__name__}: expected a model whose optimizer has a readable "
            f"learning rate, received {optimizer!r}; compile with an optimizer of "
            "fnn.optimizers, or with optax.inject_hyperparams"
        )
    return rates


def set_learning_rate(
    callback: Callback,
    name: str,
    value: float,
) -> None:
    """Sets one of the rates, by its name in `learning_rates`."""
    pattern = name.removeprefix("learning_rate").removeprefix("_")
    rate: float | dict[str, float] = value
    if pattern:
        rate = {pattern: value}
    callback.model.learning_rate = rate


def check_rate_can_be_set(callback: Callback) -> None:
    """Raises ValueError unless the model has a learning rate that can be set."""
    learning_rates(callback)
    state = getattr(callback.model.train_state, "optimizer", None)
    if state is not None:
        with_learning_rate(state, 0.0)


class LearningRateScheduler(Callback):
    """Sets the learning rate before each epoch to `schedule(epoch, rate)`, or `schedule(epoch)`.

    `epoch` counts from 0, `rate` is the current rate; it is passed if `schedule` accepts
    two arguments, even if the second has a default. The logs contain the rate as
    `learning_rate`. A function of the step belongs in the optimizer:
    `Adam(fnn.schedules.CosineDecay(...))`. Raises ValueError if the schedule does not
    return a number.

    >>> schedule = LearningRateScheduler(lambda epoch, rate: rate if epoch < 10 else 0.9 * rate)
    """

    def __init__(self, schedule: Callable[..., Any], verbose: int = 0) -> None:
        super().__init__()
        self.schedule = schedule
        self.verbose = verbose
        self._takes_rate = _takes_two(schedule)

    def added_logs(self) -> Iterable[str]:
        return learning_rates(self)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        for name, rate in learning_rates(self).items():
            arguments: tuple[float, ...] = (epoch,)
            if self._takes_rate:
                arguments = (epoch, rate)
            new = self.schedule(*arguments)
            if np.ndim(new) or np.asarray(new).dtype.kind not in "fiu":
                raise ValueError(
                    "LearningRateScheduler: expected a number from schedule, received "
                    f"{new!r} for epoch {epoch}; return the learning rate"
                )
            set_learning_rate(self, name, float(new))
            if self.verbose:
                say(
                    f"\nEpoch {epoch + 1}: LearningRateScheduler setting "
                    f"{name.replace('_', ' ', 1)} to {float(new)}."
                )

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if logs is not None:
            logs.update(learning_rates(self))


def _takes_two(schedule: Callable[..., Any]) -> bool:
    """Whether a function can be called with two arguments, as Keras calls it if possible."""
    try:
        signature = inspect.signature(schedule)
    except ValueError:
        # Some builtin functions, such as `max`, have no signature.
        return True
    try:
        signature.bind(0, 0.0)
    except TypeError:
        return False
    return True


class LearningRateFinder(Callback):
    """Raises the learning rate step by step, to find where the loss falls and where it diverges.

    Pass it to `fit` as the only callback, with enough epochs for `steps` batches. It
    ends the training after them, or once the smoothed loss is `diverged` times its
    minimum. The model is then restored. The results are `rates` and `losses` (smoothed),
    `suggestion`, the rate where the loss falls fastest, and `plot()`, a figure.
    Source: Smith 2017, Cyclical Learning Rates, section 3.3.

    >>> finder = LearningRateFinder(steps=50)
    >>> finder.rates, finder.losses
    ([], [])
    """

    def __init__(
        self,
        lowest: float = 1e-6,
        highest: float = 1.0,
        steps: int = 100,
        smoothing: float = 0.9,
        diverged: float = 4.0,
    ) -> None:
        super().__init__()
        possible = (
            0 < lowest < highest and steps >= 2 and 0 <= smoothing < 1 and diverged > 1
        )
        if not possible:
            raise ValueError(
                "LearningRateFinder: expected 0 < lowest < highest, steps of at least 2, "
                "smoothing in [0, 1) and diverged above 1, received "
                f"lowest={lowest}, highest={highest}, steps={steps}, "
                f"smoothing={smoothing}, diverged={diverged}"
            )
        self.planned = np.geomspace(lowest, highest, steps)
        self.smoothing = smoothing
        self.diverged = diverged
        self.rates: list[float] = []
        self.losses: list[float] = []

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.rates = []
        self.losses = []
        self._mean = 0.0  # the running mean of the loss, biased towards 0
        self._sum_before = 0.0  # the sum of the losses of the epoch, one step ago
        self._start = self.model.train_state
        self._set_next_rate()

    def _set_next_rate(self) -> None:
        for name in learning_rates(self):
            set_learning_rate(self, name, float(self.planned[len(self.rates)]))

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        if self.model.stop_training:
            return
        loss = self._batch_loss(batch, (logs or {})["loss"])
        self._mean = self.smoothing * self._mean + (1 - self.smoothing) * loss
        self.rates.append(float(self.planned[len(self.rates)]))
        bias_correction = 1 - self.smoothing ** len(self.rates)
        self.losses.append(self._mean / bias_correction)
        # Written with `not` so that NaN counts as diverged.
        diverged = not self.losses[-1] <= self.diverged * min(self.losses)
        if diverged or len(self.rates) == len(self.planned):
            self.model.stop_training = True
        else:
            self._set_next_rate()

    def _batch_loss(self, batch: int, mean_so_far: float) -> float:
        """The loss of this batch alone: logs hold the mean over the epoch so far."""
        size: int = self.details.get("batch_size", 1)
        seen_before = batch * size
        seen = seen_before + size
        examples: int | None = self.details.get("rows")
        if examples:
            # The last batch may be short.
            seen_before = min(seen_before, examples)
            seen = min(seen, examples)
        total = seen * mean_so_far
        total_before = 0.0
        if batch:
            total_before = self._sum_before
        self._sum_before = total
        return (total - total_before) / (seen - seen_before)

    def on_not_finite(self, message: str) -> bool:
        """A loss that is not finite ends the search without an error."""
        return True

    def on_train_end(self, logs: Logs | None = None) -> None:
        self.model.train_state = self._start

    @property
    def suggestion(self) -> float:
        """The rate where the loss falls fastest (per factor of the rate), before its minimum.

        The first tenth of the steps is ignored: there the smoothed loss depends on very
        few batches.
        """
        if len(self.losses) < 3:
            raise ValueError(
                f"LearningRateFinder: expected a search of at least 3 steps, received "
                f"{len(self.losses)}; call model.fit(x, y, epochs=..., callbacks=[finder])"
            )
        first = len(self.losses) // 10
        minimum = first + int(np.argmin(self.losses[first:]))
        # A slope needs a few points, even if the minimum is at the start.
        end = max(minimum + 1, first + 3)
        losses = np.array(self.losses[first:end])
        rates = np.log(self.rates[first:end])
        slopes = np.gradient(losses, rates)
        return self.rates[first + int(np.argmin(slopes))]

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """A matplotlib figure of the loss over the rate; saved if a path is given."""
        with optional("matplotlib", extra="plot"):
            from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        axes.plot(self.rates, self.losses)
        label = f"suggestion {self.suggestion:.2g}"
        axes.axvline(self.suggestion, linestyle=":", label=label)
        axes.set(xscale="log", xlabel="learning rate", ylabel="loss, smoothed")
        axes.legend()
        if path is not None:
            figure.savefig(path)
        return figure
