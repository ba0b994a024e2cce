"""Callbacks that look inside a step: norms of gradients and weights, profiler traces."""

from __future__ import annotations

import os
from collections.abc import Callable

import jax

from fnn.callbacks.checks import check_writable
from fnn.training.hooks import Callback, Logs


class GradientStatistics(Callback):
    """The norms of gradients, updates and weights by path, averaged over each epoch.

    `history` maps a path to `{"gradient": [...], "update": [...], "weight": [...]}`, one
    number per epoch. The norms are computed inside the step, without synchronization,
    and do not appear in the logs; a `fit` with this callback compiles its own step.
    Gradients are taken before clipping, weights before the update.

    >>> norms = GradientStatistics()
    >>> history = model.fit(x, y, callbacks=[norms], verbose=0)
    >>> {kind: round(v[0], 3) for kind, v in norms.history["dense/kernel"].items()}
    {'gradient': 2.0, 'update': 0.25, 'weight': 0.0}
    """

    step_statistics = True  # `fit` then uses a step that logs norms

    def __init__(self) -> None:
        super().__init__()
        self.history: dict[str, dict[str, list[float]]] = {}

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.history = {}

    def on_step_statistics(self, epoch: int, norms: dict[str, float]) -> None:
        """Records the norms of an epoch: `gradient_norm/dense/kernel` and the like."""
        for name, value in norms.items():
            kind, _, path = name.partition("/")
            of_path = self.history.setdefault(path, {})
            of_path.setdefault(kind.removesuffix("_norm"), []).append(value)

    def ratios(self) -> dict[str, float]:
        """The norm of the last update divided by that of the weight, by path.

        About 1e-3 is usual.
        """
        ratios = {}
        for path, norms in self.history.items():
            weight = max(norms["weight"][-1], 1e-12)
            ratios[path] = norms["update"][-1] / weight
        return ratios


class Profile(Callback):
    """Traces steps `first` to `last` (from 0, over all epochs) with the profiler of JAX.

    The trace is written to `log_dir`, for TensorBoard's profile page or xprof;
    operations appear under the names of their layers. The first step includes
    compilation, so trace a later one. Waits for every batch.

    Raises ValueError unless 0 <= first <= last.

    >>> profile = Profile("trace", first=5, last=7)  # three steps, after compilation
    >>> profile.first, profile.last
    (5, 7)
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str],
        first: int = 2,
        last: int = 4,
    ) -> None:
        super().__init__()
        if not 0 <= first <= last:
            raise ValueError(
                f"Profile: expected 0 <= first <= last, received first={first}, last={last}"
            )
        self.log_dir = os.fspath(log_dir)
        self.first = first
        self.last = last
        self._step = 0
        self._tracing = False

    def on_train_begin(self, logs: Logs | None = None) -> None:
        check_writable(self, os.path.join(self.log_dir, "trace"))
        self._step = 0

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        if self._step == self.first:
            jax.profiler.start_trace(self.log_dir)
            self._tracing = True

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        if self._step == self.last:
            self._stop()
        self._step += 1

    def on_train_end(self, logs: Logs | None = None) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._tracing:
            self._tracing = False
            stop: Callable[[], None] = jax.profiler.stop_trace
            stop()
