"""Knowledge distillation: a student that learns from labels and from a teacher's outputs."""

import keras
import numpy as np
from keras import layers, ops


class Distiller(keras.Model):
    def __init__(self, student, teacher):
        super().__init__()
        self.teacher = teacher
        self.student = student

    def compile(
        self,
        optimizer,
        metrics,
        student_loss_fn,
        distillation_loss_fn,
        alpha=0.1,
        temperature=3.0,
    ):
        super().compile(optimizer=optimizer, metrics=metrics)
        self.student_loss_fn = student_loss_fn
        self.distillation_loss_fn = distillation_loss_fn
        self.alpha = alpha
        self.temperature = temperature

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, allow_empty=False):
        scores = self.teacher(x, training=False)
        student_loss = self.student_loss_fn(y, y_pred)
        distillation_loss = self.distillation_loss_fn(
            ops.softmax(scores / self.temperature, axis=1),
            ops.softmax(y_pred / self.temperature, axis=1),
        ) * (self.temperature**2)
        return self.alpha * student_loss + (1 - self.alpha) * distillation_loss

    def call(self, x):
        return self.student(x)


teacher = keras.Sequential(
    [
        keras.Input((8, 8, 1)),
        layers.Conv2D(6, 3, strides=2, padding="same"),
        layers.LeakyReLU(negative_slope=0.2),
        layers.Flatten(),
        layers.Dense(3),
    ],
    name="teacher",
)
student = keras.Sequential(
    [
        keras.Input((8, 8, 1)),
        layers.Conv2D(2, 3, strides=2, padding="same"),
        layers.Flatten(),
        layers.Dense(3),
    ],
    name="student",
)
scratch = keras.models.clone_model(student)
teacher.trainable = False

rng = np.random.default_rng(0)
x = rng.uniform(size=(12, 8, 8, 1)).astype("float32")
y = rng.integers(0, 3, size=12)

distiller = Distiller(student=student, teacher=teacher)
distiller.compile(
    optimizer=keras.optimizers.SGD(0.05),
    metrics=[keras.metrics.SparseCategoricalAccuracy()],
    student_loss_fn=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    distillation_loss_fn=keras.losses.KLDivergence(),
    alpha=0.1,
    temperature=10,
)
scratch.compile(
    optimizer=keras.optimizers.SGD(0.05),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
)
models = [teacher, student, scratch]


def run():
    history = distiller.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    scratch.fit(x, y, batch_size=4, epochs=1, shuffle=False, verbose=0)
    return {
        "history": history.history,
        "evaluated": distiller.evaluate(x, y, batch_size=4, verbose=0),
        "student": student.predict(x, verbose=0),
        "trainable": len(distiller.trainable_variables),
    }
