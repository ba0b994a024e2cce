"""A variational autoencoder of handwritten digits: a step of one's own, in `fnn.training.fit`.

The encoder gives each image the mean and variance of a code of 8 numbers, the decoder makes pixels
of a code; a new digit is what the decoder makes of noise (Kingma and Welling 2014). The images are
scikit-learn's digits, 8 by 8 pixels; nothing is downloaded.

Baselines: images of the test set are rebuilt by a principal component analysis with a code of the
same size; their likelihood is that of independent pixels, each with its own mean.

In full (about 10 s of one core): the squared error of a pixel is 0.025 for both, though the codes
of the VAE are trained under noise; the negative log likelihood is at most 23.9 nats an image, 27.2
for independent pixels. And from noise the components make no digits.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import random

import fnn
from examples import common
from fnn.layers import Dense, Sequential

CODE = 8
encoder = Sequential([Dense(256, "relu"), Dense(128, "relu"), Dense(2 * CODE)])
decoder = Sequential([Dense(128, "relu"), Dense(256, "relu"), Dense(64)])
optimizer = fnn.optimizers.Adam(1e-3)


def encode(params, images):
    """Mean and logarithm of the variance of each code, (batch, CODE) both."""
    outputs, _ = encoder.apply(params["encoder"], {}, images)
    return jnp.split(outputs, 2, axis=-1)


def decode(params, codes):
    """Logits of the pixels, (batch, 64)."""
    return decoder.apply(params["decoder"], {}, codes)[0]


def negative_bound(params, images, key):
    """Minus the evidence lower bound on the log likelihood, in nats per image."""
    mean, log_variance = encode(params, images)
    codes = mean + jnp.exp(log_variance / 2) * random.normal(key, mean.shape)
    pixels = optax.sigmoid_binary_cross_entropy(decode(params, codes), images)
    divergence = (jnp.exp(log_variance) + mean**2 - 1 - log_variance).sum(axis=-1) / 2
    return (pixels.sum(axis=-1) + divergence).mean()


def step(state, images, key):
    """One step of the optimizer.   (state, batch, key) -> (state, logs)"""
    params, moments = state
    loss, slopes = jax.value_and_grad(negative_bound)(params, images, key)
    updates, moments = optimizer.update(slopes, moments, params)
    return (optax.apply_updates(params, updates), moments), {"loss": loss}


def start(key):
    """Fresh networks and the moments of their optimizer."""
    first, second = random.split(key)
    params = {
        "encoder": encoder.init(first, jnp.zeros((1, 64)))[0],
        "decoder": decoder.init(second, jnp.zeros((1, CODE)))[0],
    }
    return params, optimizer.init(params)


def by_components(train, test):
    """Test images rebuilt from CODE principal components of the training images."""
    mean = train.mean(axis=0)
    _, _, axes = np.linalg.svd(train - mean, full_matrices=False)
    axes = axes[:CODE]
    return (test - mean) @ axes.T @ axes + mean


def draw(path, rows, samples):
    """Test images and both reconstructions on the left, digits made of noise on the right."""
    figure = common.new_figure(11, 4.5)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    pictures = np.stack([images[:12].reshape(12, 8, 8) for images in rows]).clip(0, 1)
    common.show_images(
        left, pictures, "rows: test images, as rebuilt by the VAE and by components"
    )
    common.show_images(right, samples.reshape(8, 8, 8, 8), "made of noise")
    common.write(figure, path)


def main(epochs=100, out="vae.png", verbose="auto"):
    """Returns squared error of the pixels and nats per image: (VAE, baseline) of both."""
    (train, _), (test, _) = fnn.datasets.digits()
    train, test = (x.reshape(-1, 64).astype("float32") / 16 for x in (train, test))
    bound = jax.jit(negative_bound)
    (params, _), _ = fnn.training.fit(
        step,
        start(random.key(0)),
        train,
        batch_size=64,
        epochs=epochs,
        verbose=verbose,
        validate=lambda state: {"loss": bound(state[0], test, random.key(1))},
    )
    rebuilt = np.asarray(jax.nn.sigmoid(decode(params, encode(params, test)[0])))
    components = by_components(train, test)
    ours, baseline = (float(((x - test) ** 2).mean()) for x in (rebuilt, components))
    print(f"squared error of the pixels: VAE {ours:.4f}, components {baseline:.4f}")
    mean = train.mean(axis=0).clip(1e-4, 1 - 1e-4)
    likelihoods = test * np.log(mean) + (1 - test) * np.log(1 - mean)
    independent = -likelihoods.sum(axis=1).mean()
    nats = float(bound(params, test, random.key(1))), float(independent)
    print(f"nats: VAE at most {nats[0]:.1f}, independent pixels {nats[1]:.1f}")
    noise = random.normal(random.key(2), (64, CODE))
    samples = np.asarray(jax.nn.sigmoid(decode(params, noise)))
    draw(out, (test, rebuilt, components), samples)
    return (ours, baseline), nats


if __name__ == "__main__":
    common.run(main)
