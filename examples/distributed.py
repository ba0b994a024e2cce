"""One training on one device, on eight, and with its weights divided over the eight.

Without accelerators, eight virtual devices of the CPU stand for them: the program is the one that
runs on real ones, and so are the numbers, but it is not faster for it. `DataParallel` divides
batches; `FSDP` divides weights and optimizer state as well. The images are scikit-learn's digits;
nothing is downloaded.

The baseline is logistic regression on the pixels; that of the losses is the training on one device.

In full (about 20 s of one core): 0.986 of the test set each time, 0.981 for the baseline. The
losses of an epoch differ by at most 3e-8, and with FSDP a device holds 0.15 MB of weights, not
1.20 MB.
"""

import jax
import numpy as np

import fnn
from examples import common
from fnn import distribution
from fnn.layers import Dense, Dropout

DEVICES = 8


def load():
    """(images, classes) to train, and to test."""
    prepare = lambda x, y: (x.reshape(len(x), -1).astype("float32") / 16, y)
    return [prepare(*part) for part in fnn.datasets.digits()]


def train(where, data, epochs, verbose):
    """A model that was trained on the devices of a distribution, and the loss of each epoch."""
    hidden = Dense(512, "relu"), Dropout(0.3), Dense(512, "relu")
    layers = [fnn.Input((64,)), *hidden, Dense(10, "softmax")]
    model = fnn.Sequential(layers, seed=0)
    model.compile(
        "adam",
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        distribution=where,
    )
    history = model.fit(*data, batch_size=64, epochs=epochs, verbose=verbose)
    return model, history.history["loss"]


def megabytes(tree):
    """What the first device holds of a tree of arrays."""
    first = jax.devices()[0]
    shards = [s for x in jax.tree.leaves(tree) for s in x.addressable_shards]
    return sum(shard.data.nbytes for shard in shards if shard.device == first) / 1e6


def linear(train, test):
    """The accuracy of logistic regression."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=500).fit(*train).score(*test)


def owners(kernel):
    """The number of the device that holds each part of a matrix; the last one, of several."""
    numbers = np.zeros(kernel.shape)
    for shard in kernel.addressable_shards:
        numbers[shard.index] = jax.devices().index(shard.device)
    return numbers


def draw(path, losses, held, kernel):
    """The losses, one above the other; megabytes a device; which device holds which weights."""
    figure = common.new_figure(13, 4)
    left, middle, right = figure.subplots(1, 3)
    for width, (name, values) in zip((6, 3.5, 1.5), losses.items(), strict=True):
        left.plot(np.arange(1, len(values) + 1), values, linewidth=width, label=name)
    left.set(xlabel="epoch", ylabel="training loss", yscale="log")
    left.legend()
    middle.bar(list(held), list(held.values()), color=["C0", "C1", "C2"])
    middle.set(ylabel="megabytes of weights on the first device")
    image = right.imshow(
        owners(kernel), cmap="tab10", vmin=-0.5, vmax=9.5, aspect="auto"
    )
    right.set(title="a kernel with FSDP", xlabel="unit", ylabel="input")
    bar = figure.colorbar(
        image, ax=right, label="device", ticks=range(len(jax.devices()))
    )
    bar.ax.set_ylim(-0.5, len(jax.devices()) - 0.5)
    common.write(figure, path)


def main(epochs=8, out="distributed.png", verbose="auto"):
    """Returns the losses, and the accuracies on the test set, by name."""
    data, test = load()
    places = {
        "one device": None,
        "DataParallel": distribution.DataParallel(),
        "FSDP": distribution.FSDP(),
    }
    losses, scores, held = {}, {}, {}
    for name, where in places.items():
        model, losses[name] = train(where, data, epochs, verbose)
        scores[name] = model.evaluate(*test, verbose=0)[1]
        held[name] = megabytes(model.params)
        print(f"{name}: accuracy {scores[name]:.3f}, {held[name]:.2f} MB on a device")
    scores["linear"] = linear(data, test)
    print(f"linear: {scores['linear']:.3f}")
    far = max(
        np.abs(np.subtract(losses["one device"], x)).max() for x in losses.values()
    )
    print(f"{len(jax.devices())} devices; losses differ by at most {far:.1e}")
    draw(out, losses, held, model.params["dense_1"]["kernel"])
    return losses, scores, held


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", DEVICES)  # has no effect on accelerators
    common.run(main)
