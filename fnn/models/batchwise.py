"""Batchwise: one batch at a time, for loops that a user writes."""

from __future__ import annotations

import threading
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core import arguments
from fnn.models.compiled import Compiled
from fnn.runtime.devices import divide
from fnn.training import checks, engine
from fnn.training.interrupt import deferring, uninterrupted
from fnn.training.state import bare, numbers
from fnn.training.step import make_eval_step, make_train_step


class Batchwise(Compiled):
    """A compiled network that trains on, tests and predicts single batches."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        arguments.refuse_methods(
            cls,
            ("call", "train_step", "test_step", "predict_step"),
            "a network that is a value, and steps that are pure functions",
            "write a function that returns Model(inputs, outputs), or a subclass of Layer with "
            "init and apply for Model(layer); in place of train_step give a pure "
            "step(state, batch, key) -> (state, logs) to fnn.training.fit",
        )

    @deferring
    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """One step on one batch. Returns the loss and metrics of this batch alone."""
        compiled = self._require_compiled("train_on_batch")
        with self._exclusive():
            arrays, objective = self._goals(x, y, sample_weight, class_weight)
            self._ensure_optimizer()
            step = make_train_step(self.layer, objective, compiled["optimizer"])
            now = bare(self._now)
            state, logs = self._one_step(step, now, arrays, now, compiled["guard"])
            self._now = state
        return self._as_result(logs, return_dict)

    @deferring
    def test_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """The loss and metrics of one batch."""
        self._require_compiled("test_on_batch")
        arrays = self._arrays(x, y, sample_weight)
        step, now = make_eval_step(self.layer, self._checked(arrays)), self._now
        weighted, logs = self._one_step(
            step, (now.params, now.state), arrays, now, "ignore"
        )
        if self._carry:
            self._carry(weighted)
        return self._as_result(logs, return_dict)

    def _one_step(
        self, step: Any, state: Any, arrays: Any, now: Any, guard: str
    ) -> Any:
        count = checks.rows_of(arrays)
        if count == 0:
            raise ValueError(
                "expected samples, received an empty batch; check the data"
            )
        own = lambda a: a if isinstance(a, jax.Array) else np.array(a, copy=True)
        batch = jax.tree.map(own, (arrays, np.ones(count, bool)))
        program = engine.program(step, state, batch, now.key, capacity=1)
        chunk = divide(jax.tree.map(lambda a: a[None], batch), state, axis=1)
        state, tallies, healthy = program(
            state,
            program.zeros(),
            chunk,
            now.key,
            first=0,
            count=1,
            number=int(now.step),
            guard=guard,
        )
        if not bool(healthy):
            raise checks.TrainingError(
                f"expected a finite loss and finite gradients, received NaN or infinity at step "
                f"{int(now.step)}; the model is as it was; lower the learning rate"
            )
        return state, numbers(tallies)

    @deferring
    def predict_on_batch(self, x: Any) -> Any:
        """The outputs for one batch, as NumPy arrays."""
        return jax.tree.map(np.asarray, self._forward(self._checked_inputs(x)))

    def reset_states(self) -> None:
        """Puts the states that recurrent layers with `stateful=True` carry on back to zeros."""
        now = self._now
        self._now = now.replace(
            state=jax.tree_util.tree_map_with_path(_reset, now.state)
        )

    def _exclusive(self) -> _Exclusive:
        return _Exclusive(self._training, self.name)


class _Exclusive:
    """A block in which no other training of the same model begins."""

    def __init__(self, lock: threading.Lock, name: str) -> None:
        self.lock, self.name = lock, name

    @uninterrupted
    def __enter__(self) -> None:
        if not self.lock.acquire(blocking=False):
            raise RuntimeError(
                f"expected the model {self.name!r} at rest, received a second training of it: "
                "it is already training, in a callback or another thread; wait until it ends"
            )

    @uninterrupted
    def __exit__(self, *error: Any) -> None:
        self.lock.release()


def _reset(path: Any, leaf: Any) -> Any:
    """Zeros for the state of a recurrent layer, by the name that it has there."""
    return jnp.zeros_like(leaf) if path[-1].key.startswith("rnn_state") else leaf
