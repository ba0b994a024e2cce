"""A network that has seen the digits 0 to 4 learns 5 to 9 from six examples each.

First a convolutional network is trained on many images of the first five digits. Then its layers
are frozen under a new last layer, which learns the other five from few images; at the end all of it
is tuned with small steps. The images are scikit-learn's digits, each somewhere in a larger image
and in noise: what is noise, and that the place does not matter, few examples can hardly teach.
Nothing is downloaded.

Baselines, on the same few images: the same network from fresh weights, and logistic regression on
the pixels. All numbers are means over five draws of the few images.

In full (about 40 s of one core): accuracy 0.594 with a new last layer, 0.640 once tuned; 0.470 from
fresh weights, 0.213 by logistic regression.
"""

import numpy as np

import fnn
from examples import common
from fnn.layers import Conv2D, Dense, Dropout, GlobalMaxPooling2D, MaxPooling2D

FEW = 6  # images of each new digit
SIZE = 16  # of the images; that of a digit is 8


def scatter(x, times, rng):
    """Each digit `times` times, each time in another place of an image (SIZE, SIZE, 1)."""
    x = np.repeat(x, times, axis=0)
    images = rng.normal(0, 0.3, (len(x), SIZE, SIZE, 1)).astype("float32")
    for image, digit in zip(images, x, strict=True):
        row, column = rng.integers(SIZE - 8 + 1, size=2)
        image[row : row + 8, column : column + 8, 0] += digit / 16
    return images


def load():
    """(images, classes 0 to 4) of the first digits; the same of the others, to train and test."""
    (x, y), (x_test, y_test) = fnn.datasets.digits()
    rng = np.random.default_rng(0)

    def part(x, y, chosen, times):
        return scatter(x[chosen], times, rng), np.repeat(y[chosen] % 5, times)

    new = part(x, y, y >= 5, 1), part(x_test, y_test, y_test >= 5, 2)
    return part(x, y, y < 5, 4), *new


def new_base(seed):
    """The layers that are to be kept, from images to features."""
    convolution = lambda filters: Conv2D(filters, 3, activation="relu", padding="same")
    layers = [convolution(32), MaxPooling2D(2), convolution(64), convolution(128)]
    layers = [fnn.Input((SIZE, SIZE, 1)), *layers, GlobalMaxPooling2D()]
    return fnn.Sequential(layers, seed=seed)


def with_head(base, seed, dropout=0.0):
    """A classifier of five digits that shares the weights of the base."""
    inputs = fnn.Input((SIZE, SIZE, 1))
    outputs = Dense(5, "softmax")(Dropout(dropout)(base(inputs)))
    return fnn.Model(inputs, outputs, seed=seed)


def train(model, data, rate, epochs, verbose=0):
    """Trains what is not frozen."""
    loss = "sparse_categorical_crossentropy"
    model.compile(fnn.optimizers.Adam(rate), loss, metrics=["accuracy"])
    model.fit(*data, epochs=epochs, verbose=verbose)


def pick(data, rng):
    """FEW examples of each class."""
    of_class = [np.flatnonzero(data[1] == number) for number in range(5)]
    chosen = np.concatenate([rng.choice(n, FEW, replace=False) for n in of_class])
    return data[0][chosen], data[1][chosen]


def compare(learned, few, test, seed, epochs):
    """The accuracies of four ways to learn from few examples, by name."""
    from sklearn.linear_model import LogisticRegression

    accuracy = lambda model: model.evaluate(*test, verbose=0)[1]
    base = new_base(seed)
    base.set_weights(learned.get_weights())
    base.trainable = False
    model = with_head(base, seed)
    train(model, few, 0.01, epochs)
    found = {"new head": accuracy(model)}
    base.trainable = True
    train(model, few, 3e-4, epochs)
    found["fine-tuned"] = accuracy(model)
    fresh = with_head(new_base(seed), seed)
    train(fresh, few, 1e-3, 2 * epochs)
    found["from scratch"] = accuracy(fresh)
    flat = lambda x: x.reshape(len(x), -1)
    linear = LogisticRegression(max_iter=500).fit(flat(few[0]), few[1])
    return found | {"linear": linear.score(flat(test[0]), test[1])}


def main(epochs=50, out="transfer_learning.png", draws=5, verbose="auto"):
    """Returns the mean accuracy of each way to learn from few examples."""
    many, rest, test = load()
    learned = new_base(0)
    train(with_head(learned, 0, dropout=0.3), many, 1e-3, -(-epochs // 5), verbose)
    few = [pick(rest, np.random.default_rng(seed)) for seed in range(draws)]
    found = [compare(learned, few[n], test, n, epochs) for n in range(draws)]
    means = {name: float(np.mean([each[name] for each in found])) for name in found[0]}
    print("accuracy:", ", ".join(f"{name} {mean:.3f}" for name, mean in means.items()))
    figure = common.new_figure(11, 4)
    left, right = figure.subplots(1, 2, width_ratios=(2, 3))
    images = few[0][0].reshape(5, FEW, SIZE, SIZE)
    common.show_images(left, images, "all that is seen of five digits")
    right.barh(list(means), means.values(), color=["C0", "C0", "0.7", "0.7"])
    right.invert_yaxis()
    right.set(xlabel="accuracy on the test set", xlim=(0, 1))
    common.write(figure, out)
    return means


if __name__ == "__main__":
    common.run(main)
