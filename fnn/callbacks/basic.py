"""Short callbacks: History, hooks from functions, stopping at NaN, averaged weights in tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core import tree
from fnn.core.tree import Tree
from fnn.runtime.processes import say
from fnn.training.history import History as _History
from fnn.training.hooks import Callback, Logs
from fnn.training.step import with_average


class History(_History, Callback):
    """The record of a training as a separate callback; `fit` returns one anyway.

    >>> record = History()
    >>> model.fit(x, y, epochs=2, callbacks=[record], verbose=0)
    <History of 2 epochs: loss=0.25>
    >>> record.history, record.epoch
    ({'loss': [1.0, 0.25]}, [0, 1])
    """

    def __init__(self) -> None:
        Callback.__init__(self)
        _History.__init__(self)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.history = {}
        self.epoch = []
        self.learning_rate = []

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        rate = getattr(self.model, "learning_rate", None)
        self.record(epoch, logs or {}, rate)


class LambdaCallback(Callback):
    """A callback made of functions, one for each hook that is needed.

    >>> LambdaCallback(on_epoch_end=lambda epoch, logs: print(epoch)).on_epoch_end(3, {})
    3
    """

    HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_"))

    def __init__(self, **hooks: Callable[..., object]) -> None:
        super().__init__()
        unknown = sorted(set(hooks) - set(self.HOOKS))
        if unknown:
            raise TypeError(
                f"LambdaCallback: expected hooks among {self.HOOKS}, received {unknown}"
            )
        for name, function in hooks.items():
            setattr(self, name, function)


class ProgbarLogger(Callback):
    """Does nothing: `fit` itself shows the progress bar, see its argument `verbose`.

    It exists for compatibility with Keras.

    >>> model.fit(x, y, callbacks=[ProgbarLogger()], verbose=0)  # and no bar
    <History of 1 epochs: loss=1>
    """


class TerminateOnNaN(Callback):
    """Stops the training at a loss or gradient that is not finite, without an error.

    The model keeps its weights from the step before (in Keras they are lost); the loss
    of that epoch is NaN in History. There is no synchronization cost: the step itself
    checks. With `raise_error` a RuntimeError is raised. If the model was compiled with
    guard="ignore", the callback checks the loss of each epoch.

    >>> model.learning_rate = 1e30
    >>> model.fit(x, y, epochs=9, callbacks=[TerminateOnNaN()], verbose=0).epoch
    Invalid loss, terminating training: ...
    [0, 1]
    """

    def __init__(self, raise_error: bool = False) -> None:
        super().__init__()
        self.raise_error = raise_error

    def on_not_finite(self, message: str) -> bool:
        """Whether a training with a value that is not finite ends without an error."""
        if self.raise_error:
            raise RuntimeError(message)
        say(f"Invalid loss, terminating training: {message}")
        self.model.stop_training = True
        return True

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        loss = (logs or {}).get("loss", 0.0)
        if not np.isfinite(loss) and not self.model.stop_training:
            self.on_not_finite(
                f"expected a finite loss, received {loss} in epoch {epoch + 1}; lower the "
                "learning rate or scale the inputs"
            )


class SwapEMAWeights(Callback):
    """Replaces the weights by their running average for validation, evaluate and predict.

    The optimizer keeps the average (`use_ema=True`). With `swap_on_epoch` the model also
    holds the average from the end of an epoch to the start of the next, for callbacks
    listed after this one, such as `ModelCheckpoint`. Raises ValueError for an optimizer
    without an average.

    >>> model.compile(fnn.optimizers.SGD(0.125, use_ema=True, ema_momentum=0.5), "mse")
    >>> swap, data = SwapEMAWeights(), (x, y)
    >>> history = model.fit(*data, epochs=2, callbacks=[swap], validation_data=data, verbose=0)
    >>> history.history["val_loss"]  # 0.0625 is that of the weights themselves
    [0.25, 0.140625]
    """

    resumed: ClassVar[tuple[str, ...]] = ("kept",)

    def __init__(self, swap_on_epoch: bool = False) -> None:
        super().__init__()
        self.swap_on_epoch = swap_on_epoch
        # The weights themselves, while the model holds their average.
        self.kept: Tree = None

    def _require_average(self) -> None:
        optimizer = self.model.optimizer
        averages = getattr(optimizer, "averages", False)
        if not averages or self.model.train_state.optimizer is None:
            raise ValueError(
                "SwapEMAWeights: expected an optimizer that has an average of the weights, "
                f"received {optimizer!r}; compile with an optimizer with use_ema=True, and fit"
            )

    def _swap_in(self) -> None:
        if self.kept is not None:
            return
        self._require_average()
        now = self.model.train_state
        self.kept = now.params
        averaged = with_average(self.model.layer, self.model.optimizer, now)
        self.model.train_state = averaged

    def _swap_out(self) -> None:
        if self.kept is None:
            return
        now = self.model.train_state
        # After resuming, `kept` comes from a file: in another order, as NumPy arrays.
        kept = tree.fill(now.params, self.kept)
        params = jax.tree.map(jnp.asarray, kept)
        self.model.train_state = now.replace(params=params)
        self.kept = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._require_average()

    def on_train_end(self, logs: Logs | None = None) -> None:
        self.kept = None  # after training the model keeps the average

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._swap_out()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self.swap_on_epoch:
            self._swap_in()

    def on_test_begin(self, logs: Logs | None = None) -> None:
        self._swap_in()

    def on_test_end(self, logs: Logs | None = None) -> None:
        self._swap_out()

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        self._swap_in()

    def on_predict_end(self, logs: Logs | None = None) -> None:
        self._swap_out()
