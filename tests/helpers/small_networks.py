"""Small members of the families of networks, by fnn.applications and by Keras's own functions."""

from functools import partial
from unittest import mock

from fnn.applications import (
    convnext,
    efficientnet,
    efficientnet_v2,
    mobilenet_v3,
    nasnet,
    resnet,
)
from fnn.applications.application import Parts, application
from fnn.applications.densenet import densenet
from fnn.applications.published import published


def residual(name, blocks, activations_first):
    body = partial(resnet.features, blocks=blocks, activations_first=activations_first)
    return application(published(name, name.lower(), "resnet"), Parts(body), __name__)


def mobilenet(**arguments):
    """A MobileNetV3 of the first blocks of the small one, of which each kind is there."""
    few = {"Tiny": mobilenet_v3.BLOCKS["Small"][:4]}
    widths = mock.patch.dict(mobilenet_v3.WIDTHS, Tiny=64)
    with mock.patch.dict(mobilenet_v3.BLOCKS, few), widths:
        network = mobilenet_v3._mobilenet_v3(mobilenet_v3._published("Small"), "Tiny")
        return network(**arguments)


_block, _design = efficientnet.Block, efficientnet.Design
BLOCKS = (_block(3, 1, 16, 1, 1), _block(5, 2, 24, 6, 2), _block(3, 1, 40, 6, 1))
FUSED = (
    _block(3, 1, 16, 1, 1, fused=True),
    _block(3, 2, 32, 4, 2, fused=True),
    _block(3, 3, 48, 4, 2),
)


def blocks_of_keras(blocks, filters=32):
    """Blocks of an EfficientNet in the form that Keras has for its first version."""
    for block in blocks:
        yield {
            "kernel_size": block.window,
            "repeats": block.repeats,
            "filters_in": filters,
            "filters_out": block.filters,
            "expand_ratio": block.expansion,
            "id_skip": True,
            "strides": block.strides,
            "se_ratio": 0.25,
        }
        filters = block.filters


def fused_of_keras(blocks, filters=32):
    """The same for the second version."""
    for block in blocks:
        yield {
            "kernel_size": block.window,
            "num_repeat": block.repeats,
            "input_filters": filters,
            "output_filters": block.filters,
            "expand_ratio": block.expansion,
            "se_ratio": 0 if block.fused else 0.25,
            "strides": block.strides,
            "conv_type": int(block.fused),
        }
        filters = block.filters


def fused(depth, **arguments):
    """An EfficientNet of the second version, with the preprocessing of the base."""
    with mock.patch.object(efficientnet_v2, "BASE", FUSED):
        design = _design(2, 32, FUSED, 0.5, depth)
        return efficientnet_v2._version_2(efficientnet.facts_of("V2B0", 224), design)(**arguments)


# Each as deep as its family must be to have all kinds of blocks.
OURS = {
    "MobileNetV3Tiny": mobilenet,
    "ResNetSmall": residual("ResNetSmall", (1, 2), activations_first=False),
    "ResNetSmallV2": residual("ResNetSmallV2", (2, 2, 2, 2), activations_first=True),
    "DenseNetSmall": densenet((1, 2, 1, 1)),
    "EfficientNetBSmall": efficientnet._version_1(
        efficientnet.facts_of("B0", 224), _design(1, 32, BLOCKS, 0.5, 0.75)
    ),
    "EfficientNetV2Small": partial(fused, 0.5),
    "ConvNeXtSmaller": convnext._convnext(convnext._published("Tiny"), convnext._Design(1, 8)),
    "NASNetSmall": nasnet._nasnet(
        nasnet._published("Mobile", 224), nasnet._Design(8, 1, 8, skip_reduction=False)
    ),
}

# As deep as one must be for rates of dropping above 0.2, for which the numbers do not matter.
DEEP = 1.7
DEEPER = {"EfficientNetV2Deep": partial(fused, DEEP)}


def theirs(keras, name):
    """Keras's function of the same network."""
    of = keras.src.applications
    named = lambda function, *given, name: partial(function, *given, name=name, weights_name=name)
    make = {
        "MobileNetV3Tiny": lambda: partial(
            of.mobilenet_v3.MobileNetV3, few_blocks(of.mobilenet_v3), 64, name="MobileNetV3Tiny"
        ),
        "ResNetSmall": lambda: named(
            of.resnet.ResNet,
            stack(of.resnet.stack_residual_blocks_v1, (1, 2), (1, 2)),
            False,
            True,
            name="resnetsmall",
        ),
        "ResNetSmallV2": lambda: named(
            of.resnet.ResNet,
            stack(of.resnet.stack_residual_blocks_v2, (2, 2, 2, 2), (2, 2, 2, 1)),
            True,
            True,
            name="resnetsmallv2",
        ),
        "DenseNetSmall": lambda: partial(of.densenet.DenseNet, [1, 2, 1, 1]),
        "EfficientNetBSmall": lambda: named(
            partial(of.efficientnet.EfficientNet, blocks_args=[*blocks_of_keras(BLOCKS)]),
            *(0.5, 0.75, 224),
            name="efficientnetb0",
        ),
        "EfficientNetV2Small": lambda: fused_twin(of, 0.5),
        "EfficientNetV2Deep": lambda: fused_twin(of, DEEP),
        "ConvNeXtSmaller": lambda: named(
            of.convnext.ConvNeXt, [3, 3, 1, 3], [8, 16, 32, 64], name="convnext_tiny"
        ),
        "NASNetSmall": lambda: partial(
            of.nasnet.NASNet,
            penultimate_filters=8 * 24,
            num_blocks=1,
            stem_block_filters=8,
            skip_reduction=False,
            default_size=224,
        ),
    }
    return make[name]()


def fused_twin(of, depth):
    """Keras's function of `fused`."""
    network = partial(of.efficientnet_v2.EfficientNetV2, blocks_args=[*fused_of_keras(FUSED)])
    name = "efficientnetv2-b0"
    return partial(network, 0.5, depth, 224, name=name, weights_name=name)


def few_blocks(of):
    """The first four blocks of Keras's small MobileNetV3."""

    def stages(x, kernel, activation, se_ratio):
        x = of._inverted_res_block(x, 1, 16, 3, 2, se_ratio, of.relu, 0)
        x = of._inverted_res_block(x, 72 / 16, 24, 3, 2, None, of.relu, 1)
        x = of._inverted_res_block(x, 88 / 24, 24, 3, 1, None, of.relu, 2)
        return of._inverted_res_block(x, 4, 40, kernel, 2, se_ratio, activation, 3)

    return stages


def stack(block, numbers, strides):
    """The stages of a residual network."""

    def stages(x):
        for index, (number, stride) in enumerate(zip(numbers, strides, strict=True)):
            x = block(x, 64 * 2**index, number, stride1=stride, name=f"conv{index + 2}")
        return x

    return stages
