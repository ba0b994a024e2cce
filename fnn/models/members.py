"""Members: the models of several trainings, which are used together in one program."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np
from jax.sharding import Mesh

from fnn.core.layer import Layer
from fnn.core.tree import Tree
from fnn.models.feed import Data, checked_batch_size, in_batches
from fnn.models.model import Model
from fnn.runtime.program_cache import programs
from fnn.training import checks, evaluation
from fnn.training.engine import Step
from fnn.training.history import History
from fnn.training.hooks import CallbackList
from fnn.training.loop import Run
from fnn.training.many import make_many_eval_step, mesh_for, over_members, stacked
from fnn.training.predict_step import predict_function
from fnn.training.state import TrainState, without_counters

Devices: TypeAlias = Sequence[jax.Device] | None
Logs: TypeAlias = dict[str, Any]  # arrays by name, the members along their first axis


class Members:
    """The trained models of `fnn.fit_many`, one for each member; a sequence of them.

    `models`     a compiled model for each member; `members[i]` is one of them
    `histories`  the History of each, also `members[i].history`
    `failed`     the numbers of the members that ended at a loss that was not finite

    `evaluate` and `predict` run all members in one program, with the current weights of the
    models. `params` and `state` are those weights, with the members along the first axis.

    >>> model = fnn.Sequential([fnn.layers.Dense(1, input_shape=(2,))])
    >>> model.compile("sgd", "mse")
    >>> x = np.ones((6, 2), "float32")
    >>> members = fnn.fit_many(model, x, x[:, :1], learning_rates=[0.1, 1e-6, 1e-9], verbose=0)
    >>> members.best_index(), members.scores["loss"].shape, members.params["dense"]["kernel"].shape
    (0, (3,), (3, 2, 1))
    """

    def __init__(
        self,
        models: Sequence[Model],
        failed: Sequence[int] = (),
        devices: Devices = None,
    ) -> None:
        self.models = tuple(models)
        self.failed = tuple(failed)
        self.mesh = mesh_for(len(self.models), devices or jax.local_devices())

    def __len__(self) -> int:
        return len(self.models)

    def __getitem__(self, index: int) -> Model:
        return self.models[index]

    def __iter__(self) -> Iterator[Model]:
        return iter(self.models)

    def __repr__(self) -> str:
        return f"<Members: {len(self)} models like {self.models[0].name!r}>"

    # -- results ---------------------------------------------------------------------------------

    @property
    def histories(self) -> tuple[History, ...]:
        return tuple(model.history or History() for model in self.models)

    @property
    def params(self) -> Tree:
        return stacked([state.params for state in self.states()], None)

    @property
    def state(self) -> Tree:
        return stacked([state.state for state in self.states()], None)

    @property
    def scores(self) -> Logs:
        """The last value of each member in its history, by name; NaN for those that failed."""
        names = dict.fromkeys(name for each in self.histories for name in each.history)
        found = {}
        for name in names:
            columns = [each.history.get(name, [np.nan]) for each in self.histories]
            values = [column[-1] for column in columns]
            for index in self.failed:
                values[index] = np.nan
            found[name] = np.asarray(values)
        return found

    def best_index(self, monitor: str | None = None) -> int:
        """The number of the member whose last `monitor` in the history is best.

        Without one it is "val_loss" if the members were validated, else "loss". Raises ValueError
        for a name that is not in the histories, and if it is NaN for every member.
        """
        scores = self.scores
        if monitor is None:
            monitor = "val_loss" if "val_loss" in scores else "loss"
        if monitor not in scores:
            raise ValueError(
                f"monitor must be one of {', '.join(sorted(scores))}, got {monitor!r}"
            )
        values = scores[monitor]
        directions = self.models[0]._program.metric_directions
        if directions.get(monitor.removeprefix("val_")) == "max":
            values = -values
        if np.isnan(values).all():
            raise ValueError(
                f"{monitor} is NaN for every member; lower the learning rates or check the data"
            )
        return int(np.nanargmin(values))

    def best(self, monitor: str | None = None) -> Model:
        """The model of the member with this `best_index`."""
        return self.models[self.best_index(monitor)]

    # -- all members in one program --------------------------------------------------------------

    def evaluate(
        self,
        x: Tree = None,
        y: Tree = None,
        batch_size: int | None = None,
        verbose: str | int = 0,
        sample_weight: Tree = None,
    ) -> Logs:
        """Loss and metrics by name, arrays with one number for each member.

        The numbers are those of `members[i].evaluate(x, y)`.
        """
        first = self.models[0]
        data, objective = first._feed.data(
            x, y, sample_weight, batch_size=batch_size, keep=False
        )
        step = first._program.eval_step(objective)
        return self.run_evaluation(self.stacked(), step, data, True, verbose)

    def predict(self, x: Tree, batch_size: int | None = None) -> Tree:
        """The outputs of each member for all examples, as NumPy arrays.   (members, n, ...)

        The mean over the first axis is the prediction of the ensemble.
        """
        first = self.models[0]
        given = x
        x, *_ = first._feed.readable(x)
        x = first._feed.checked_inputs(x)
        count = checks.example_count({"x": x})
        size = checked_batch_size(batch_size)
        if not count or first._network.draws_in_inference:
            outputs = [model.predict(given, size, verbose=0) for model in self.models]
            return jax.tree.map(lambda *found: np.stack(found), *outputs)
        now = self.stacked()
        run = _predict_step(first._network.compiled.layer, self.mesh)
        parts = []
        for batch in in_batches(x, size):
            batch = jax.tree.map(np.asarray, batch)
            outputs = run(now.params, now.state, batch)
            parts.append(self.of_members(outputs))
        return jax.tree.map(lambda *found: np.concatenate(found, 1), *parts)

    # -- for `many` ------------------------------------------------------------------------------

    def states(self) -> list[TrainState]:
        """The current state of each member."""
        return [without_counters(model._weights.now) for model in self.models]

    def stacked(self) -> TrainState:
        """The states of all members in one, on their devices, without that of the optimizer."""
        states = [state.replace(optimizer=None) for state in self.states()]
        whole: TrainState = stacked(states, self.mesh)
        return whole

    def of_members(self, arrays: Tree) -> Tree:
        """Arrays on the host, without what fills up the devices."""
        return jax.tree.map(lambda a: np.asarray(a)[: len(self)], arrays)

    def run_evaluation(
        self,
        now: TrainState,
        step: Step,
        data: Data,
        shared: bool,
        verbose: str | int = 0,
    ) -> Logs:
        """Loss and metrics of the members with these weights; `shared`: on the same batches."""
        run = Run(now)
        params = {"verbose": verbose, "epochs": 1, "steps": data.steps}
        logs = evaluation.evaluate(
            make_many_eval_step(step, self.mesh, shared),
            run,
            data,
            callbacks=CallbackList((), run, params),
            verbose=verbose,
        )
        found: Logs = self.of_members(logs)
        return found


@programs.cached
def _predict_step(layer: Layer, mesh: Mesh | None) -> Callable[..., Tree]:
    """The compiled function (params, state, batch) -> outputs of all members."""
    step = predict_function(layer)

    def outputs(params: Tree, state: Tree, x: Tree) -> Tree:
        return step(params, state, x)[0]

    return jax.jit(over_members(outputs, (0, 0, None), mesh))
