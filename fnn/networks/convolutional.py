"""Networks of convolutions: LeNet, ResNet, U-Net."""

from __future__ import annotations

from typing import Any

from fnn.core import arguments
from fnn.core.layer import Layer
from fnn.layers import (
    Activation,
    Add,
    AveragePooling2D,
    BatchNormalization,
    Concatenate,
    Conv2D,
    Conv2DTranspose,
    Dense,
    Flatten,
    GlobalAveragePooling2D,
    MaxPooling2D,
    Sequential,
    ZeroPadding2D,
)
from fnn.symbolic.graph import connect
from fnn.symbolic.node import Input


def lenet(classes: int = 10) -> Layer:
    """LeNet-5.   (batch, height, width, channels) -> (batch, classes)

    As taught today: averages as pooling, tanh, softmax; 28 x 28 inputs are padded to 32 x 32
    (LeCun et al. 1998, section II.B).

    >>> network, x = lenet(), jnp.ones((2, 28, 28, 1))
    >>> network.apply(*network.init(jax.random.key(0), x), x)[0].shape
    (2, 10)
    """
    return Sequential(
        [
            Conv2D(6, 5, padding="same", activation="tanh"),
            AveragePooling2D(2),
            Conv2D(16, 5, activation="tanh"),
            AveragePooling2D(2),
            Flatten(),
            Dense(120, "tanh"),
            Dense(84, "tanh"),
            Dense(classes, "softmax"),
        ]
    )


BLOCKS = {  # blocks in each of the four stages, and whether they are bottlenecks
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}


def resnet(
    depth: int = 50,
    classes: int = 1000,
    shape: tuple[int | None, int | None, int] = (224, 224, 3),
) -> Layer:
    """The probability of each class of an image.   (batch, *shape) -> (batch, classes)

    `depth` 18 and 34 have blocks of two convolutions, 50, 101 and 152 bottlenecks of three. Names
    and layout of the layers are those of `keras.applications` (which has no 18 and 34), the stride
    of a bottleneck being in its first convolution, so weights can be taken over by path.
    Raises ValueError for another depth (He et al. 2016, table 1).

    >>> network, x = resnet(18, classes=5, shape=(32, 32, 3)), jnp.ones((1, 32, 32, 3))
    >>> fnn.core.calling.output_spec(network, x).shape
    (1, 5)
    """
    if depth not in BLOCKS:
        raise arguments.wrong("resnet", "depth", f"to be one of {tuple(BLOCKS)}", depth)
    blocks, bottleneck = BLOCKS[depth]
    inputs = Input(shape)
    x = ZeroPadding2D(3, name="conv1_pad")(inputs)
    x = _normalized(x, "conv1", 64, 7, strides=2)
    x = ZeroPadding2D(1, name="pool1_pad")(Activation("relu", name="conv1_relu")(x))
    x = MaxPooling2D(3, strides=2, name="pool1_pool")(x)
    for stage, number in enumerate(blocks):
        for index in range(number):
            strides = 2 if stage and not index else 1
            name = f"conv{stage + 2}_block{index + 1}"
            x = _residual(x, 64 * 2**stage, strides, bottleneck, not index, name)
    x = GlobalAveragePooling2D(name="avg_pool")(x)
    return connect(inputs, Dense(classes, "softmax", name="predictions")(x))


def _normalized(x: Any, name: str, filters: int, size: int, **options: Any) -> Any:
    x = Conv2D(filters, size, **options, name=f"{name}_conv")(x)
    return BatchNormalization(epsilon=1.001e-5, name=f"{name}_bn")(x)


def _residual(
    x: Any, filters: int, strides: int, bottleneck: bool, first: bool, name: str
) -> Any:
    """relu(x + convolutions(x)), x being brought to their shape in the first block of a stage."""
    sizes = (1, 3, 1) if bottleneck else (3, 3)
    outputs, y = filters * (4 if bottleneck else 1), x
    if x.shape[-1] != outputs or (first and (strides > 1 or bottleneck)):
        x = _normalized(x, f"{name}_0", outputs, 1, strides=strides)
    for number, size in enumerate(sizes, 1):
        last = number == len(sizes)
        options = {"strides": strides if number == 1 else 1, "padding": "same"}
        y = _normalized(
            y, f"{name}_{number}", outputs if last else filters, size, **options
        )
        if not last:
            y = Activation("relu", name=f"{name}_{number}_relu")(y)
    return Activation("relu", name=f"{name}_out")(Add(name=f"{name}_add")([x, y]))


def unet(
    shape: tuple[int, int, int], classes: int, width: int = 64, depth: int = 4
) -> Layer:
    """The probability of each class at every pixel.   (batch, *shape) -> (batch, h, w, classes)

    `depth` times half the size and twice the channels, from `width` on, and back up, each level
    joined to its twin on the way down; padded, so that the size stays.
    Raises ValueError for a size that cannot be halved so often (Ronneberger et al. 2015).

    >>> network, x = unet((8, 8, 3), classes=2, width=4, depth=2), jnp.ones((1, 8, 8, 3))
    >>> fnn.core.calling.output_spec(network, x).shape
    (1, 8, 8, 2)
    """
    if shape[0] % 2**depth or shape[1] % 2**depth:
        expected = f"to have height and width that are multiples of {2**depth}"
        raise arguments.wrong("unet", "shape", expected, shape, "pad the images")

    def twice(x: Any, filters: int) -> Any:
        for _ in range(2):
            x = Conv2D(filters, 3, padding="same", activation="relu")(x)
        return x

    x = inputs = Input(shape)
    levels = []
    for level in range(depth):
        x = twice(x, width * 2**level)
        levels.append(x)
        x = MaxPooling2D()(x)
    x = twice(x, width * 2**depth)
    for level in reversed(range(depth)):
        x = Conv2DTranspose(width * 2**level, 2, strides=2, activation="relu")(x)
        x = twice(Concatenate()([levels[level], x]), width * 2**level)
    return connect(inputs, Conv2D(classes, 1, activation="softmax")(x))
