"""OneBatch: the methods of a model for a single batch, for loops that a user writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import numpy as np

from fnn.core.tree import Tree
from fnn.models import inference
from fnn.models.laid_out import distributed
from fnn.runtime.compilations import active
from fnn.training.interrupt import deferring, interruptible
from fnn.training.one_batch import run_one_batch
from fnn.training.prediction import in_full
from fnn.training.state import in_order, without_counters

if TYPE_CHECKING:  # beside each other in the bases of `Model`
    from fnn.models.attributes import Attributes as _Beside
    from fnn.models.feed import Feed
else:
    _Beside = object


class OneBatch(_Beside):
    """Training, evaluation and prediction of one batch."""

    _feed: Feed

    @deferring
    @distributed
    def train_on_batch(
        self,
        x: Tree,
        y: Tree = None,
        sample_weight: Tree = None,
        class_weight: Tree = None,
        return_dict: bool = False,
    ) -> Tree:
        """One step on one batch. Returns loss and metrics of this batch alone."""
        program, weights = self._program, self._weights
        program.require("train_on_batch")
        with weights.training:
            arrays, objective = self._feed.goals(x, y, sample_weight, class_weight)
            program.ensure_optimizer_state()
            holder = program.holder
            now = without_counters(holder.now)
            step = program.train_step(objective)
            holder.now, logs = run_one_batch(step, now, arrays, now, program.guard)
        return self._as_result(logs, return_dict)

    @deferring
    @distributed
    def test_on_batch(
        self,
        x: Tree,
        y: Tree = None,
        sample_weight: Tree = None,
        return_dict: bool = False,
    ) -> Tree:
        """Loss and metrics of one batch."""
        self._program.require("test_on_batch")
        active.set(self._weights.compilations)
        arrays, objective = self._feed.goals(x, y, sample_weight, train=False)
        step = self._program.eval_step(objective)
        now = self._program.evaluated.now
        before = now.params, now.state
        (_, state), logs = run_one_batch(step, before, arrays, now, "ignore")
        keep = self._program.carry(keeps=True)
        if keep is not None:
            keep(state)
        return self._as_result(logs, return_dict)

    def _as_result(self, logs: dict[str, float], return_dict: bool) -> Tree:
        if return_dict:
            return logs
        return in_order(logs, self.metrics_names)

    @distributed
    def predict_on_batch(self, x: Tree) -> Tree:
        """The outputs for one batch, as NumPy arrays."""
        outputs = inference.as_before(self._feed, x)
        if outputs is None:
            with interruptible():
                given = self._feed.checked_inputs(x)
                outputs = inference.forward(self._weights, given)
        if isinstance(outputs, jax.Array):
            return in_full(np.asarray(outputs))
        return jax.tree.map(lambda y: in_full(np.asarray(y)), outputs)
