"""Distillation: a model learns from the outputs and features of another one, as in Keras."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fnn import losses, metrics
from fnn.core.tree import Tree
from fnn.models.model import Model
from fnn.models.subclassed import KerasModel

FINAL = "final_output"


class DistillationLoss:
    """The base of losses between the outputs of a teacher and a student.

    A subclass defines `compute_loss(teacher_outputs, student_outputs)`, which returns a scalar.

    >>> class Gap(DistillationLoss):
    ...     def compute_loss(self, teacher_outputs, student_outputs, **named):
    ...         return jnp.max(jnp.abs(teacher_outputs - student_outputs))
    >>> float(Gap().compute_loss(jnp.ones(2), jnp.zeros(2)))
    1.0
    """

    def compute_loss(
        self,
        teacher_outputs: Tree,
        student_outputs: Tree,
        **named: Any,
    ) -> Array:
        """The loss of a batch."""
        raise NotImplementedError(
            f"{type(self).__name__}: define the method compute_loss, which returns a scalar"
        )

    def validate_outputs(self, teacher_outputs: Tree, student_outputs: Tree) -> None:
        """Raises ValueError unless both have the same structure."""
        theirs: object = jax.tree.structure(teacher_outputs)
        ours: object = jax.tree.structure(student_outputs)
        if theirs != ours:
            raise ValueError(
                f"expected outputs of teacher and student of one structure, received {theirs} and "
                f"{ours}; use a student with outputs like the teacher's"
            )

    def validate_model_compatibility(self, teacher: Model, student: Model) -> None:
        """Raises ValueError for models that this loss cannot use; by default it takes all."""


class _PerOutput(DistillationLoss):
    """A loss for each output, None for an output without one."""

    loss: Tree

    def _take(self, loss: Tree) -> None:
        self.loss = jax.tree.map(losses.get, loss, is_leaf=_is_none)
        if not jax.tree.leaves(self.loss):
            raise ValueError(
                f"{type(self).__name__}: expected a loss for one output at least, received "
                f"{loss!r}; e.g. loss='mse'"
            )

    def _sum(self, teacher_outputs: Tree, student_outputs: Tree) -> Array:
        """The sum over outputs of the mean of each loss."""
        each = jax.tree.map(
            self._of_one, self.loss, teacher_outputs, student_outputs, is_leaf=_is_none
        )
        total: Array = sum(jax.tree.leaves(each), jnp.zeros(()))
        return total

    def _of_one(self, loss: Any, teacher: Array, student: Array) -> Array:
        if loss is None:
            return jnp.zeros(())
        return jnp.mean(loss(teacher, student))


class FeatureDistillation(_PerOutput):
    """A loss between what a layer of the teacher and a layer of the student compute.

    The layers are found by name in a `Sequential` or functional model; the final outputs count for
    None. `loss` is a loss or a structure of them like the outputs.

    >>> loss = FeatureDistillation("mse")
    >>> float(loss.compute_loss(jnp.ones((1, 2)), jnp.zeros((1, 2))))
    1.0
    """

    def __init__(
        self,
        loss: Tree = "mse",
        teacher_layer_name: str | None = None,
        student_layer_name: str | None = None,
    ) -> None:
        self.teacher_layer_name = teacher_layer_name
        self.student_layer_name = student_layer_name
        self._take(loss)

    def validate_model_compatibility(self, teacher: Model, student: Model) -> None:
        """Raises ValueError for a layer that is not in its model."""
        names = (self.teacher_layer_name, self.student_layer_name)
        for model, name in zip((teacher, student), names, strict=True):
            if name is not None:
                model.get_layer(name)

    def compute_loss(
        self,
        teacher_outputs: Tree,
        student_outputs: Tree,
        **named: Any,
    ) -> Array:
        """The sum over outputs of the mean of each loss."""
        return self._sum(teacher_outputs, student_outputs)


class LogitsDistillation(_PerOutput):
    """A loss between logits divided by `temperature` (Hinton et al. 2015).

    `KLDivergence` gets their softmax, and is multiplied by temperature^2; other losses get the
    divided logits. Keras takes the softmax for `KLDivergence()` alone, not for the default, its
    name "kl_divergence". Raises ValueError unless `temperature` is a positive number.

    >>> loss = LogitsDistillation(temperature=2.0)
    >>> float(loss.compute_loss(jnp.ones((1, 2)), jnp.zeros((1, 2))))
    0.0
    """

    def __init__(self, temperature: float = 3.0, loss: Tree = "kl_divergence") -> None:
        if not isinstance(temperature, (int, float)) or temperature <= 0:
            raise ValueError(
                "LogitsDistillation: temperature must be a positive number, got "
                f"{temperature!r}"
            )
        self.temperature = temperature
        self._take(loss)

    def compute_loss(
        self,
        teacher_outputs: Tree,
        student_outputs: Tree,
        **named: Any,
    ) -> Array:
        """The sum over outputs of the mean of each loss."""
        return self._sum(teacher_outputs, student_outputs)

    def _of_one(self, loss: Any, teacher: Array, student: Array) -> Array:
        teacher, student = teacher / self.temperature, student / self.temperature
        if not isinstance(loss, losses.KLDivergence):
            return super()._of_one(loss, teacher, student)
        teacher, student = jax.nn.softmax(teacher), jax.nn.softmax(student)
        return super()._of_one(loss, teacher, student) * self.temperature**2


class Distiller(KerasModel):
    """Trains `student` on the targets and on what `teacher` computes, which is frozen.

    The loss is student_loss_weight * (the compiled loss) + (1 - student_loss_weight) * (the sum of
    the distillation losses times their weights). Outputs are the student's. The logs have
    `student_loss`, `distillation_loss` and `total_loss`.

    >>> def net():
    ...     return fnn.Sequential([fnn.layers.Dense(2, input_shape=(3,))])
    >>> distiller = Distiller(net(), net(), LogitsDistillation(loss="mse"))
    >>> distiller.compile("sgd", loss="mse")
    >>> history = distiller.fit(jnp.ones((4, 3)), jnp.ones((4, 2)), verbose=0)
    >>> sorted(history.history)
    ['distillation_loss', 'loss', 'student_loss', 'total_loss']
    """

    def __init__(
        self,
        teacher: Model,
        student: Model,
        distillation_losses: DistillationLoss | Sequence[DistillationLoss],
        distillation_loss_weights: Sequence[float] | None = None,
        student_loss_weight: float = 0.5,
        name: str = "distiller",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        for role, model in (("teacher", teacher), ("student", student)):
            if not isinstance(model, Model):
                raise ValueError(
                    f"Distiller: {role} must be a model, got {type(model).__name__}"
                )
        if not 0 <= student_loss_weight <= 1:
            raise ValueError(
                "Distiller: student_loss_weight must be between 0 and 1, got "
                f"{student_loss_weight}"
            )
        if isinstance(distillation_losses, DistillationLoss):
            distillation_losses = [distillation_losses]
            distillation_loss_weights = None
        weights = distillation_loss_weights or [1.0] * len(distillation_losses)
        if len(weights) != len(distillation_losses):
            raise ValueError(
                f"Distiller: expected {len(distillation_losses)} distillation_loss_weights, one "
                f"for each loss, received {len(weights)}"
            )
        for loss in distillation_losses:
            loss.validate_model_compatibility(teacher, student)
        self.teacher = teacher
        self.student = student
        self.student_loss_weight = student_loss_weight
        self.distillation_losses = list(distillation_losses)
        self.distillation_loss_weights = list(weights)
        # Not tracked: their layers are those of the teacher and the student.
        self._fnn_teacher_features = _features(
            teacher, self._names("teacher_layer_name")
        )
        self._fnn_student_features = _features(
            student, self._names("student_layer_name")
        )
        self.teacher.trainable = False
        self.student_loss_tracker = metrics.Mean(name="student_loss")
        self.distillation_loss_tracker = metrics.Mean(name="distillation_loss")
        self.total_loss_tracker = metrics.Mean(name="total_loss")

    def _names(self, which: str) -> list[str]:
        found = [getattr(loss, which, None) for loss in self.distillation_losses]
        return [name for name in dict.fromkeys(found) if name]

    def compile(  # type: ignore[override]
        self,
        optimizer: Any = "adam",
        loss: Tree = None,
        metrics: Any = None,
        **kwargs: Any,
    ) -> None:
        """Sets the optimizer, the student's loss and its metrics."""
        if loss is None:
            raise ValueError(
                "Distiller: expected the student's loss, received None; pass loss='mse'"
            )
        self.student_loss = jax.tree.map(losses.get, loss)
        super().compile(optimizer=optimizer, loss=None, metrics=metrics, **kwargs)

    def call(
        self,
        inputs: Tree,
        training: bool | None = None,
        **named: Any,
    ) -> Tree:
        """The student's outputs."""
        return self.student(inputs, training=training, **named)

    def compute_loss(
        self,
        x: Tree = None,
        y: Tree = None,
        y_pred: Tree = None,
        sample_weight: Tree = None,
        training: bool = True,
    ) -> Array:
        """The loss of a batch, which updates the three means."""
        of_student = distilled = jnp.zeros(())
        if self.student_loss_weight > 0 and y is not None:
            each = jax.tree.map(
                lambda loss, true, predicted: jnp.mean(loss(true, predicted)),
                self.student_loss, y, y_pred,
            )  # fmt: skip
            of_student = sum(jax.tree.leaves(each), jnp.zeros(()))
        if self.student_loss_weight < 1:
            distilled = self._distillation_loss(x, y_pred)
        share = self.student_loss_weight
        total = share * of_student + (1 - share) * distilled
        self.student_loss_tracker.update_state(of_student)
        self.distillation_loss_tracker.update_state(distilled)
        self.total_loss_tracker.update_state(total)
        return total

    def _distillation_loss(self, x: Tree, y_pred: Tree) -> Array:
        """The sum of the distillation losses times their weights."""
        theirs, ours = {}, {FINAL: y_pred}
        if self._fnn_teacher_features is None:
            theirs = {FINAL: self.teacher(x, training=False)}
        else:
            theirs = self._fnn_teacher_features(x, training=False)
        if self._fnn_student_features is not None:
            ours = {**self._fnn_student_features(x, training=True), FINAL: y_pred}
        total = jnp.zeros(())
        pairs = zip(
            self.distillation_losses, self.distillation_loss_weights, strict=True
        )
        for loss, weight in pairs:
            of_teacher = theirs[getattr(loss, "teacher_layer_name", None) or FINAL]
            of_student = ours[getattr(loss, "student_layer_name", None) or FINAL]
            loss.validate_outputs(of_teacher, of_student)
            total += weight * loss.compute_loss(of_teacher, of_student)
        return total


def _features(model: Model, names: list[str]) -> Model | None:
    """A model of the final outputs and those of the layers of these names; None for no names."""
    if not names:
        return None
    outputs = {name: model.get_layer(name).output for name in names}
    outputs[FINAL] = model.outputs[0]
    return Model(model.inputs, outputs, name=f"{model.name}_features")


def _is_none(leaf: object) -> bool:
    return leaf is None
