"""Round cells and rods under a microscope, told apart pixel by pixel by a U-Net.

The images are made here: cells of two shapes and equal brightness, blurred, in uneven light and
noise. Nothing is downloaded. Layers that turn and mirror at random change the masks along.

Baselines: everything background, and logistic regression of each pixel on the image blurred by six
widths, which sees sizes but no shapes.

In full (about 40 s of one core): mean intersection over union 0.836 for the U-Net, 0.568 for the
pixels, 0.246 for background alone.
"""

import numpy as np

import fnn
from examples import common
from fnn.layers import RandomFlip

SIZE = 32
CLASSES = ("background", "round cells", "rods")


def cell(rng, kind):
    """True where a cell is: a disk, or a rod of about the same area."""
    y, x = np.mgrid[:SIZE, :SIZE] - rng.uniform(5, SIZE - 5, (2, 1, 1))
    angle, area = rng.uniform(0, np.pi), rng.uniform(50, 130)
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    stretch = (rng.uniform(1, 1.3), rng.uniform(2.8, 4))[kind - 1]  # length by width
    radius = np.sqrt(area / np.pi)
    return (along**2 / stretch + across**2 * stretch) < radius**2


def load(count, seed):
    """Images (count, SIZE, SIZE, 1), and the class of each pixel (count, SIZE, SIZE)."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    masks = np.zeros((count, SIZE, SIZE), "int32")
    for mask in masks:
        for _ in range(rng.integers(2, 6)):
            kind = rng.integers(1, 3)
            mask[cell(rng, kind)] = kind
    images = gaussian_filter((masks > 0).astype("float32"), (0, 1.2, 1.2))
    light = gaussian_filter(rng.normal(size=masks.shape), (0, 12, 12))  # slowly varying
    light /= light.std()
    images = images * (1 + 0.1 * light) + 0.3 * light + rng.normal(0, 0.15, masks.shape)
    return images[..., None].astype("float32"), masks


def mean_overlap(masks, predicted):
    """Intersection over union of each class, averaged: 1 for the perfect mask."""
    overlaps = []
    for number in range(len(CLASSES)):
        true, found = masks == number, predicted == number
        overlaps.append((true & found).sum() / max((true | found).sum(), 1))
    return float(np.mean(overlaps))


def by_pixels(images, masks, tested):
    """The classes of the tested images by logistic regression on blurred images."""
    from scipy.ndimage import gaussian_filter
    from sklearn.linear_model import LogisticRegression

    def features(images):
        widths = (0, 1, 2, 3, 4, 8)
        blurred = [gaussian_filter(images[..., 0], (0, w, w)) for w in widths]
        return np.stack(blurred, axis=-1).reshape(-1, len(widths))

    x, y = features(images), masks.reshape(-1)
    chosen = np.random.default_rng(0).permutation(len(x))[:20_000]
    model = LogisticRegression(class_weight="balanced", max_iter=300)
    model.fit(x[chosen], y[chosen])
    return model.predict(features(tested)).reshape(tested.shape[:-1])


def draw(path, images, rows):
    """Images of the test in the first row, below them the masks by name."""
    figure = common.new_figure(10, 7)
    axes = figure.subplots(1 + len(rows), 5)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
    axes[0, 0].set_ylabel("image")
    for ax, image in zip(axes[0], images, strict=False):
        ax.imshow(image[..., 0], cmap="gray")
    for line, (name, masks) in zip(axes[1:], rows.items(), strict=True):
        line[0].set_ylabel(name)
        for ax, mask in zip(line, masks, strict=False):
            ax.imshow(mask, vmin=0, vmax=2, cmap="viridis")
    figure.supxlabel("violet: background, green: round cells, yellow: rods")
    common.write(figure, path)


def main(epochs=14, out="segmentation.png", examples=600, verbose="auto"):
    """Returns the mean intersection over union: U-Net, pixels, all background."""
    images, masks = load(examples, seed=0)
    tested, true = load(100, seed=1)
    options = {"classes": len(CLASSES), "width": 8, "depth": 3, "normalize": True}
    network = fnn.networks.unet((SIZE, SIZE, 1), **options)
    flips = RandomFlip("horizontal_and_vertical")
    model = fnn.Sequential([fnn.Input((SIZE, SIZE, 1)), flips, network], seed=0)
    steps = epochs * -(-examples // 16)
    model.compile(
        fnn.optimizers.Adam(fnn.schedules.CosineDecay(1e-2, steps)),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    model.fit(images, masks, batch_size=16, epochs=epochs, verbose=verbose)
    found = model.predict(tested, verbose=0).argmax(axis=-1)
    pixels = by_pixels(images, masks, tested)
    overlaps = [mean_overlap(true, x) for x in (found, pixels, np.zeros_like(true))]
    ours, others, least = (f"{overlap:.3f}" for overlap in overlaps)
    print(f"intersection over union: U-Net {ours}, pixels {others}, background {least}")
    draw(out, tested, {"true": true, "U-Net": found, "pixels": pixels})
    return overlaps


if __name__ == "__main__":
    common.run(main)
