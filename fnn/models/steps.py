"""Steps: what a model does with one batch, as Keras's methods on lists of arrays (on JAX)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array

from fnn.core import weights as core_weights
from fnn.core.context import Masked, is_masked, strip_masks
from fnn.core.tree import Tree
from fnn.models.compiled import metrics_in
from fnn.models.lists import Lists, Values
from fnn.subclassing.signature import signature_of
from fnn.training.sources import unpack_batch
from fnn.training.step import output_leaves
from fnn.variables import StatelessScope, Variable, value_of

Logs: TypeAlias = dict[str, Tree]
StepState: TypeAlias = tuple[Values, ...]


def _ignore(cls: type) -> None:
    """The default of `Steps.on_subclass`."""


if TYPE_CHECKING:  # beside each other in the bases of `Model`
    from fnn.models.attributes import Attributes as _Beside
else:
    _Beside = object


class Steps(_Beside):
    """The steps of a model as pure functions of lists, for classes that override some of them.

    The lists are the values of `trainable_variables`, `non_trainable_variables`,
    `optimizer.variables` and `metrics_variables`. `fit` runs `train_step`, and so on, if a class
    overrides a method that it calls; else the same computation in fewer parts.
    """

    # Called with each new subclass; set by `fnn.models.adapting`.
    on_subclass: ClassVar[Callable[[type], None]] = staticmethod(_ignore)

    def __init_subclass__(cls, **kwargs: object) -> None:
        Steps.on_subclass(cls)
        super().__init_subclass__(**kwargs)

    def stateless_call(
        self,
        trainable_variables: Values,
        non_trainable_variables: Values,
        *given: Tree,
        return_losses: bool = False,
        **named: Tree,
    ) -> tuple[Tree, ...]:
        """(outputs, non-trainable values after) of the model with these values; keeps nothing.

        It may be used inside `jit`, `grad` and `vmap`. `return_losses` adds a list of the losses
        from `add_loss` and regularizers. Raises ValueError for lists of other lengths.

        >>> model = fnn.Sequential([fnn.layers.Dense(2, input_shape=(3,))])
        >>> values = [v.value for v in model.trainable_variables]
        >>> outputs, others = model.stateless_call(values, [], jnp.ones((1, 3)))
        >>> outputs.shape, others
        ((1, 2), [])
        """
        lists = Lists(self._weights)
        result = lists.call(
            self.as_layer(), trainable_variables, non_trainable_variables, given, named
        )
        # For `compute_loss`, which gets the outputs without their masks.
        masked = output_leaves(result.outputs)
        vars(self)["_fnn_masks"] = [leaf for leaf in masked if is_masked(leaf)]
        found = strip_masks(result.outputs), result.non_trainable
        if return_losses:
            return *found, result.losses
        return found

    # -- losses and metrics ----------------------------------------------------------------------

    @property
    def losses(self) -> list[Array]:
        """The losses from `add_loss` in the last call, and those of weight regularizers."""
        known = vars(self).get("_fnn_losses")
        if known is not None:
            return list(known)
        if not self.built:
            return []
        now = self._weights.now
        lists = Lists(self._weights)
        values = [v.value for v in self.trainable_weights]
        others = [v.value for v in self.non_trainable_weights]
        now = lists.put(now, values, others + lists.seed(now.key))
        pairs = core_weights.penalties(self.layer, now.params)
        penalties = [value for _, value in pairs]
        return [*core_weights.auxiliaries(now.state), *penalties]

    def compute_loss(
        self,
        x: Tree = None,
        y: Tree = None,
        y_pred: Tree = None,
        sample_weight: Tree = None,
        training: bool = True,
    ) -> Array:
        """The compiled loss of a batch, plus `losses`."""
        penalty = sum(map(jnp.sum, self.losses), jnp.zeros(()))
        outputs = self._with_masks(y_pred)
        names = self._program.output_names(y_pred)
        return self._program.compiled.loss(y, outputs, sample_weight, penalty, names)

    def _with_masks(self, outputs: Tree) -> Tree:
        """Outputs of the last `stateless_call` with the masks that they had."""
        masked = vars(self).get("_fnn_masks", [])

        def with_mask(leaf: Tree) -> Tree:
            for one in masked:
                if one.values is leaf:
                    return Masked(leaf, one.mask)
            return leaf

        return jax.tree.map(with_mask, outputs)

    @property
    def metrics(self) -> list[Any]:
        """The mean of the loss, the compiled metrics, and metrics among the attributes."""
        return [*self._program.trackers, *metrics_in(self)]

    @property
    def metrics_variables(self) -> list[Variable]:
        """The variables of `metrics`."""
        return [variable for metric in self.metrics for variable in metric.variables]

    def reset_metrics(self) -> None:
        """Sets `metrics` back to their start, as each epoch does."""
        for metric in self.metrics:
            metric.reset_state()

    def get_metrics_result(self) -> Logs:
        """The values of `metrics` by name."""
        logs: Logs = {}
        for metric in self.metrics:
            result = metric.result()
            if not isinstance(result, dict):
                result = {metric.name: result}
            logs.update(result)
        return logs

    def compute_metrics(
        self, x: Tree, y: Tree, y_pred: Tree, sample_weight: Tree = None
    ) -> Logs:
        """Updates the compiled metrics by a batch. Returns the values of all metrics."""
        outputs = self._with_masks(y_pred)
        self._program.compiled.metrics.update_state(y, outputs, sample_weight)
        return self.get_metrics_result()

    # -- steps -----------------------------------------------------------------------------------

    def stateless_compute_loss(
        self,
        trainable_variables: Values,
        non_trainable_variables: Values,
        metrics_variables: Values,
        x: Tree = None,
        y: Tree = None,
        y_pred: Tree = None,
        sample_weight: Tree = None,
        training: bool = True,
    ) -> tuple[Array, tuple[list[Array], list[Array], list[Array]]]:
        """`compute_loss` with these values: (loss, the three lists after it)."""
        variables: list[list[Any]] = [
            self.trainable_variables,
            self.non_trainable_variables,
            self.metrics_variables,
        ]
        given = trainable_variables, non_trainable_variables, metrics_variables
        named = {"sample_weight": sample_weight}
        if signature_of(type(self).compute_loss).takes("training"):
            named["training"] = training
        with StatelessScope(_pairs(variables, given)) as scope:
            loss = value_of(self.compute_loss(x=x, y=y, y_pred=y_pred, **named))
        after = [[_current(scope, v) for v in part] for part in variables]
        return loss, (after[0], after[1], after[2])

    def compute_loss_and_updates(
        self,
        trainable_variables: Values,
        non_trainable_variables: Values,
        metrics_variables: Values,
        x: Tree,
        y: Tree,
        sample_weight: Tree,
        training: bool = False,
        optimizer_variables: Values | None = None,
    ) -> tuple[Array, tuple[Array, Tree, list[Array], list[Array]]]:
        """(loss, (loss, outputs, non-trainable values, values of metrics)), for `jax.grad`."""
        y_pred, others, losses = self.stateless_call(
            trainable_variables,
            non_trainable_variables,
            x,
            return_losses=True,
            training=training,
        )
        vars(self)["_fnn_losses"] = losses
        try:
            loss, (_, others, metrics) = self.stateless_compute_loss(
                trainable_variables,
                others,
                metrics_variables,
                x=x,
                y=y,
                y_pred=y_pred,
                sample_weight=sample_weight,
                training=training,
            )
        finally:
            del vars(self)["_fnn_losses"]
        return loss, (loss, y_pred, others, metrics)

    def train_step(self, state: StepState, data: Tree) -> tuple[Logs, StepState]:
        """(logs, state) after one step of training; `state` is four lists.

        A class may override it, as it may `test_step` and `predict_step`.
        """
        trainable, others, optimizer, metrics = state
        x, y, weight = unpack_batch(data)
        gradient = jax.value_and_grad(self.compute_loss_and_updates, has_aux=True)
        (_, (loss, y_pred, others, metrics)), grads = gradient(
            trainable, others, metrics, x, y, weight, True, optimizer
        )
        trainable, optimizer = self.optimizer.stateless_apply(
            optimizer, grads, trainable
        )
        logs, metrics = self._update_metrics(metrics, loss, x, y, y_pred, weight)
        return logs, (trainable, others, optimizer, metrics)

    def test_step(self, state: StepState, data: Tree) -> tuple[Logs, StepState]:
        """(logs, state) after one step of evaluation; `state` has no list of the optimizer."""
        trainable, others, metrics = state
        x, y, weight = unpack_batch(data)
        _, (loss, y_pred, others, metrics) = self.compute_loss_and_updates(
            trainable, others, metrics, x, y, weight, False
        )
        logs, metrics = self._update_metrics(metrics, loss, x, y, y_pred, weight)
        return logs, (trainable, others, metrics)

    def predict_step(self, state: StepState, data: Tree) -> tuple[Tree, Values]:
        """(outputs, non-trainable values) for the lists of weights in `state`."""
        trainable, others = state
        x = unpack_batch(data)[0]
        outputs, others = self.stateless_call(trainable, others, x, training=False)
        return outputs, others

    def _update_metrics(
        self,
        values: Values,
        loss: Array,
        x: Tree,
        y: Tree,
        y_pred: Tree,
        weight: Tree,
    ) -> tuple[Logs, list[Array]]:
        """(logs, values of metrics) after a batch."""
        variables = self.metrics_variables
        with StatelessScope(zip(variables, values, strict=True)) as scope:
            examples = jax.tree.leaves(x)[0].shape[0]
            self._program.compiled.loss_tracker.update_state(
                loss, sample_weight=examples
            )
            logs = self.compute_metrics(x, y, y_pred, weight)
            logs = {name: value_of(value) for name, value in logs.items()}
        return logs, [_current(scope, variable) for variable in variables]


def _pairs(
    variables: Sequence[Sequence[Any]], given: Sequence[Values]
) -> list[tuple[Any, Tree]]:
    pairs: list[tuple[Any, Tree]] = []
    for known, values in zip(variables, given, strict=True):
        pairs += zip(known, values, strict=True)
    return pairs


def _current(scope: StatelessScope, variable: Any) -> Array:
    found = scope.get_current_value(variable)
    assert found is not None
    return found
