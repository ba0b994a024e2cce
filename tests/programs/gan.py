"""A GAN: a train_step with a loss for each of two models, from noise that is given as data."""

import jax
import keras
import numpy as np
from keras import layers, ops

LATENT = 3
FEATURES = 4

discriminator = keras.Sequential(
    [
        keras.Input((FEATURES,)),
        layers.Dense(6),
        layers.LeakyReLU(negative_slope=0.2),
        layers.Dense(1),
    ],
    name="discriminator",
)
generator = keras.Sequential(
    [
        keras.Input((LATENT,)),
        layers.Dense(6, activation="relu"),
        layers.BatchNormalization(),
        layers.Dense(FEATURES, activation="tanh"),
    ],
    name="generator",
)


class GAN(keras.Model):
    def __init__(self, discriminator, generator):
        super().__init__()
        self.discriminator = discriminator
        self.generator = generator
        self.entropy = keras.losses.BinaryCrossentropy(from_logits=True)
        self.d_loss = keras.metrics.Mean(name="d_loss")
        self.g_loss = keras.metrics.Mean(name="g_loss")
        self.built = True

    @property
    def metrics(self):
        return [self.d_loss, self.g_loss]

    def split(self, values, trainable=True):
        kind = "trainable_variables" if trainable else "non_trainable_variables"
        count = len(getattr(self.discriminator, kind))
        return values[:count], values[count:]

    def loss_of_discriminator(self, d_weights, d_state, real, fake):
        both = ops.concatenate([fake, real], axis=0)
        ones = ops.ones((ops.shape(fake)[0], 1))
        labels = ops.concatenate([ones, ops.zeros((ops.shape(real)[0], 1))], axis=0)
        scores, _ = self.discriminator.stateless_call(d_weights, d_state, both)
        return self.entropy(labels, scores)

    def loss_of_generator(self, g_weights, g_state, d_weights, d_state, noise):
        fake, g_state = self.generator.stateless_call(g_weights, g_state, noise, training=True)
        scores, _ = self.discriminator.stateless_call(d_weights, d_state, fake)
        return self.entropy(ops.zeros_like(scores), scores), g_state

    def train_step(self, state, data):
        trainable, fixed, optimizer_variables, metrics_variables = state
        real, noise = data
        d_weights, g_weights = self.split(trainable)
        d_state, g_state = self.split(fixed, trainable=False)
        fake, g_state = self.generator.stateless_call(g_weights, g_state, noise, training=True)
        d_loss, d_grads = jax.value_and_grad(self.loss_of_discriminator)(
            d_weights, d_state, real, fake
        )
        (g_loss, g_state), g_grads = jax.value_and_grad(self.loss_of_generator, has_aux=True)(
            g_weights, g_state, d_weights, d_state, noise
        )
        trainable, optimizer_variables = self.optimizer.stateless_apply(
            optimizer_variables, [*d_grads, *g_grads], trainable
        )
        middle = len(self.d_loss.variables)
        of_d = self.d_loss.stateless_update_state(metrics_variables[:middle], d_loss)
        of_g = self.g_loss.stateless_update_state(metrics_variables[middle:], g_loss)
        logs = {
            "d_loss": self.d_loss.stateless_result(of_d),
            "g_loss": self.g_loss.stateless_result(of_g),
        }
        fixed = [*d_state, *g_state]
        return logs, (trainable, fixed, optimizer_variables, [*of_d, *of_g])


rng = np.random.default_rng(0)
real = rng.normal(size=(16, FEATURES)).astype("float32")
noise = rng.normal(size=(16, LATENT)).astype("float32")

gan = GAN(discriminator, generator)
gan.compile(optimizer=keras.optimizers.SGD(0.05))
models = [discriminator, generator]


def run():
    history = gan.fit(real, noise, batch_size=8, epochs=2, shuffle=False, verbose=0)
    fake = generator.predict(noise, verbose=0)
    return {
        "history": history.history,
        "fake": fake,
        "scores": np.asarray(discriminator(fake)),
    }
