"""Convolutional networks: LeNet, ResNet, U-Net."""

from __future__ import annotations

from typing import NamedTuple

from fnn.core import arguments
from fnn.core.layer import Activation as ActivationLike
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
from fnn.networks.dtypes import takes_dtype
from fnn.symbolic.graph import connect
from fnn.symbolic.node import Input, Node


@takes_dtype
def lenet(classes: int = 10, *, dtype: str | None = None) -> Layer:
    """LeNet-5.   (batch, height, width, channels) -> (batch, classes)

    The common variant with average pooling, tanh and softmax. Inputs of 28 x 28 are padded to
    32 x 32 (LeCun et al. 1998, section II.B).

    >>> network, x = lenet(), jnp.ones((2, 28, 28, 1))
    >>> jax.jit(network.apply)(*network.init(jax.random.key(0), x), x)[0].shape
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


class _Stages(NamedTuple):
    """The blocks of a ResNet."""

    blocks: tuple[int, ...]  # how many, in each stage
    bottleneck: bool  # three convolutions in a block instead of two


class _Version(NamedTuple):
    """What differs between Keras's ResNet and torchvision's."""

    use_bias: bool  # in convolutions
    epsilon: float
    strided: int  # the convolution of a bottleneck that has the stride
    padding: str  # of convolutions with strides


VERSIONS = {
    "v1": _Version(True, 1.001e-5, strided=1, padding="same"),
    "v1.5": _Version(False, 1e-5, strided=2, padding="both sides"),
}


STAGES = {  # by depth
    18: _Stages((2, 2, 2, 2), bottleneck=False),
    34: _Stages((3, 4, 6, 3), bottleneck=False),
    50: _Stages((3, 4, 6, 3), bottleneck=True),
    101: _Stages((3, 4, 23, 3), bottleneck=True),
    152: _Stages((3, 8, 36, 3), bottleneck=True),
}


@takes_dtype
def resnet(
    depth: int = 50,
    classes: int = 1000,
    shape: tuple[int | None, int | None, int] = (224, 224, 3),
    *,
    version: str = "v1",
    classifier_activation: ActivationLike = "softmax",
    dtype: str | None = None,
) -> Layer:
    """Class probabilities of an image.   (batch, *shape) -> (batch, classes)

    Blocks have two convolutions for `depth` 18 and 34, and are bottlenecks of three for 50, 101 and
    152. Names and layout of the layers are those of `keras.applications` (which lacks 18 and 34),
    with the stride of a bottleneck in its first convolution, so weights can be copied by path.
    `version="v1.5"` is torchvision's: the stride is in the second convolution, convolutions have
    no biases, and those with strides are padded on both sides.
    Raises ValueError for another depth or version (He et al. 2016, table 1).

    >>> network, x = resnet(18, classes=5, shape=(32, 32, 3)), jnp.ones((1, 32, 32, 3))
    >>> fnn.core.calling.output_spec(network, x).shape
    (1, 5)
    """
    if depth not in STAGES:
        raise arguments.wrong("resnet", "depth", f"to be one of {tuple(STAGES)}", depth)
    if version not in VERSIONS:
        expected = f"to be one of {tuple(VERSIONS)}"
        raise arguments.wrong("resnet", "version", expected, version)
    how = VERSIONS[version]
    blocks, bottleneck = STAGES[depth]
    inputs = Input(shape)
    x = ZeroPadding2D(3, name="conv1_pad")(inputs)
    x = _conv_and_norm(x, how, "conv1", 64, 7, strides=2)  # half the size
    x = Activation("relu", name="conv1_relu")(x)
    x = ZeroPadding2D(1, name="pool1_pad")(x)
    x = MaxPooling2D(3, strides=2, name="pool1_pool")(x)  # a quarter of the size
    for stage, number in enumerate(blocks):
        filters = 64 * 2**stage
        for index in range(number):
            first = index == 0
            # The first block of each later stage halves the size.
            strides = 2 if stage > 0 and first else 1
            name = f"conv{stage + 2}_block{index + 1}"
            x = _residual(x, how, filters, strides, bottleneck, first, name)
    x = GlobalAveragePooling2D(name="avg_pool")(x)
    classifier = Dense(classes, classifier_activation, name="predictions")
    return connect(inputs, classifier(x))


def _conv_and_norm(
    x: Node,
    how: _Version,
    name: str,
    filters: int,
    size: int,
    strides: int = 1,
    padding: str = "valid",
) -> Node:
    if padding != "valid" and strides > 1 and how.padding == "both sides":
        x = ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
        padding = "valid"
    conv = Conv2D(
        filters,
        size,
        strides=strides,
        padding=padding,
        use_bias=how.use_bias,
        name=f"{name}_conv",
    )
    normalization = BatchNormalization(epsilon=how.epsilon, name=f"{name}_bn")
    y: Node = normalization(conv(x))
    return y


def _residual(
    x: Node,
    how: _Version,
    filters: int,
    strides: int,
    bottleneck: bool,
    first: bool,
    name: str,
) -> Node:
    """relu(x + convolutions(x)); the first block of a stage changes the shape of x to fit."""
    sizes: tuple[int, ...] = (3, 3)
    outputs = filters
    strided = 1
    if bottleneck:
        sizes = (1, 3, 1)
        strided = how.strided
        outputs = 4 * filters
    y = x
    differs = first and (strides > 1 or bottleneck)
    if differs or x.shape[-1] != outputs:
        x = _conv_and_norm(x, how, f"{name}_0", outputs, 1, strides)
    for number, size in enumerate(sizes, 1):
        last = number == len(sizes)
        y = _conv_and_norm(
            y,
            how,
            f"{name}_{number}",
            outputs if last else filters,
            size,
            strides if number == strided else 1,
            "same",
        )
        if not last:
            y = Activation("relu", name=f"{name}_{number}_relu")(y)
    y = Add(name=f"{name}_add")([x, y])
    out: Node = Activation("relu", name=f"{name}_out")(y)
    return out


@takes_dtype
def unet(
    shape: tuple[int, int, int],
    classes: int,
    width: int = 64,
    depth: int = 4,
    *,
    normalize: bool = False,
    dtype: str | None = None,
) -> Layer:
    """Class probabilities of every pixel.   (batch, *shape) -> (batch, h, w, classes)

    It halves the size and doubles the channels `depth` times, from `width` channels on, and then
    goes back up; on the way up, each level is concatenated with the level of the same size on the
    way down. Convolutions are padded, so outputs have the size of the inputs. With `normalize`
    batch normalization follows each 3x3 convolution, which the paper did not have: without it, the
    lower levels learn slowly.
    Raises ValueError for a size that cannot be halved `depth` times (Ronneberger et al. 2015).

    >>> network, x = unet((8, 8, 3), classes=2, width=4, depth=2), jnp.ones((1, 8, 8, 3))
    >>> fnn.core.calling.output_spec(network, x).shape
    (1, 8, 8, 2)
    """
    if shape[0] % 2**depth or shape[1] % 2**depth:
        expected = f"to have height and width that are multiples of {2**depth}"
        raise arguments.wrong("unet", "shape", expected, shape, "pad the images")

    def convolve_twice(x: Node, filters: int) -> Node:
        for _ in range(2):
            if normalize:
                x = Conv2D(filters, 3, padding="same", use_bias=False)(x)
                x = Activation("relu")(BatchNormalization()(x))
            else:
                x = Conv2D(filters, 3, padding="same", activation="relu")(x)
        return x

    x = inputs = Input(shape)
    levels = []
    for level in range(depth):
        x = convolve_twice(x, width * 2**level)
        levels.append(x)
        x = MaxPooling2D()(x)  # half the size
    x = convolve_twice(x, width * 2**depth)
    for level in reversed(range(depth)):
        filters = width * 2**level
        x = Conv2DTranspose(filters, 2, strides=2, activation="relu")(
            x
        )  # twice the size
        x = Concatenate()([levels[level], x])
        x = convolve_twice(x, filters)
    return connect(inputs, Conv2D(classes, 1, activation="softmax")(x))
