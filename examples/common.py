"""What the examples share: their options, and how a picture is written."""

import argparse
import inspect
import sys

import numpy as np

import fnn


def run(main):
    """Calls `main` with the options of the command line; its defaults are those of `main`."""
    defaults = inspect.signature(main).parameters
    first_line = sys.modules[main.__module__].__doc__.splitlines()[0]
    parser = argparse.ArgumentParser(description=first_line)
    parser.add_argument("--epochs", type=int, default=defaults["epochs"].default)
    parser.add_argument("--out", default=defaults["out"].default, help="the picture")
    parser.add_argument(
        "--cores", action="store_true", help="let the cores of the CPU work in parallel"
    )
    options = parser.parse_args()
    if options.cores:
        fnn.use_cpu_cores()
    return main(epochs=options.epochs, out=options.out)


def new_figure(width, height):
    """A figure that no window shows."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def write(figure, path):
    """Writes the picture, and says where."""
    figure.savefig(path, dpi=110)
    print(f"the picture is in {path}")


def draw_epochs(figure, title, training, test, **baselines):
    """A metric by epoch, while training and on what is tested; baselines are dashed lines."""
    curves = {title: training, f"val_{title}": test}
    axes = fnn.visualization.plot_history(curves, figure=figure).axes[0]
    for name, value in baselines.items():
        axes.axhline(value, color="0.5", linestyle="--", label=name.replace("_", " "))
    axes.legend()


def show_images(axes, images, title):
    """Images (rows, columns, height, width), from 0 to 1, as one picture."""
    framed = np.pad(images, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=1)
    rows, columns, height, width = framed.shape
    tiled = framed.transpose(0, 2, 1, 3).reshape(rows * height, columns * width)
    axes.imshow(tiled, cmap="gray", vmin=0, vmax=1)
    axes.set(title=title, xticks=[], yticks=[])
