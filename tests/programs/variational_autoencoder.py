"""A variational autoencoder with train_step; the noise of the sampling is given as data."""

import jax
import keras
import numpy as np
from keras import layers, ops

LATENT = 2


class Sampling(layers.Layer):
    """Draws from a normal distribution of these means and logarithms of variances."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(1)

    def call(self, inputs, noise=None):
        mean, log_var = inputs
        if noise is None:
            noise = keras.random.normal(ops.shape(mean), seed=self.seed_generator)
        return mean + ops.exp(0.5 * log_var) * noise


def make_encoder():
    image = keras.Input((8, 8, 1))
    noise = keras.Input((LATENT,))
    h = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")(image)
    h = layers.Dense(6, activation="relu")(layers.Flatten()(h))
    mean = layers.Dense(LATENT, name="mean")(h)
    log_var = layers.Dense(LATENT, name="log_var")(h)
    z = Sampling()([mean, log_var], noise=noise)
    return keras.Model([image, noise], [mean, log_var, z], name="encoder")


def make_decoder():
    z = keras.Input((LATENT,))
    h = layers.Dense(4 * 4 * 4, activation="relu")(z)
    h = layers.Reshape((4, 4, 4))(h)
    h = layers.Conv2DTranspose(4, 3, strides=2, padding="same", activation="relu")(h)
    image = layers.Conv2D(1, 3, padding="same", activation="sigmoid")(h)
    return keras.Model(z, image, name="decoder")


class VAE(keras.Model):
    def __init__(self, encoder, decoder, **kwargs):
        super().__init__(**kwargs)
        self.encoder = encoder
        self.decoder = decoder
        self.trackers = [
            keras.metrics.Mean(name=name) for name in ("loss", "reconstruction", "divergence")
        ]

    @property
    def metrics(self):
        return self.trackers

    def call(self, inputs):
        mean, log_var, z = self.encoder(inputs)
        return self.decoder(z), mean, log_var

    def losses_of(self, trainable, non_trainable, image, noise):
        (decoded, mean, log_var), non_trainable = self.stateless_call(
            trainable, non_trainable, [image, noise]
        )
        entropy = keras.losses.binary_crossentropy(image, decoded)
        reconstruction = ops.mean(ops.sum(entropy, axis=(1, 2)))
        divergence = -0.5 * (1 + log_var - ops.square(mean) - ops.exp(log_var))
        divergence = ops.mean(ops.sum(divergence, axis=1))
        total = reconstruction + divergence
        return total, (total, reconstruction, divergence, non_trainable)

    def train_step(self, state, data):
        trainable, non_trainable, optimizer_variables, metrics_variables = state
        image, noise = data
        gradient = jax.grad(self.losses_of, has_aux=True)
        grads, (*losses, non_trainable) = gradient(trainable, non_trainable, image, noise)
        trainable, optimizer_variables = self.optimizer.stateless_apply(
            optimizer_variables, grads, trainable
        )
        logs = {}
        updated = []
        for metric, loss in zip(self.metrics, losses):
            start = len(updated)
            own = metrics_variables[start : start + len(metric.variables)]
            own = metric.stateless_update_state(own, loss)
            logs[metric.name] = metric.stateless_result(own)
            updated.extend(own)
        return logs, (trainable, non_trainable, optimizer_variables, updated)


rng = np.random.default_rng(0)
images = rng.uniform(size=(8, 8, 8, 1)).astype("float32")
noise = rng.normal(size=(8, LATENT)).astype("float32")

vae = VAE(make_encoder(), make_decoder())
vae([images, noise])
vae.compile(optimizer=keras.optimizers.SGD(0.01))
model = vae


def run():
    history = vae.fit(images, noise, batch_size=4, epochs=2, shuffle=False, verbose=0)
    draws = Sampling()([np.zeros((500, 2), "float32"), np.zeros((500, 2), "float32")])
    return {
        "history": history.history,
        "mean": vae.encoder.predict([images, noise], verbose=0)[0],
        "decoded": vae.decoder.predict(noise, verbose=0),
        "draws_are_normal": abs(float(ops.std(draws)) - 1.0) < 0.15,
    }
