"""Small members of the families of networks, by fnn.applications and by Keras's own functions."""

from functools import partial

from fnn.applications import convnext, efficientnet, efficientnet_v2, nasnet, resnet
from fnn.applications.application import Parts, application
from fnn.applications.densenet import densenet
from fnn.applications.published import published


def residual(name, blocks, activations_first):
    body = partial(resnet.features, blocks=blocks, activations_first=activations_first)
    return application(published(name, name.lower(), "resnet"), Parts(body), __name__)


_design = efficientnet.Design
# Each as deep as its family must be to have all kinds of blocks.
OURS = {
    "ResNetSmall": residual("ResNetSmall", (1, 2, 1, 1), activations_first=False),
    "ResNetSmallV2": residual("ResNetSmallV2", (2, 2, 2, 2), activations_first=True),
    "DenseNetSmall": densenet((1, 2, 1, 1)),
    "EfficientNetBSmall": efficientnet._version_1(
        efficientnet.facts_of("B0", 224), _design(1, 32, efficientnet.BLOCKS, 0.5, 0.5)
    ),
    "EfficientNetV2Small": efficientnet_v2._version_2(
        efficientnet.facts_of("V2B0", 224), _design(2, 32, efficientnet_v2.BASE, 0.5, 0.25)
    ),
    "ConvNeXtSmaller": convnext._convnext(convnext._published("Tiny"), convnext._Design(1, 8)),
    "NASNetSmall": nasnet._nasnet(
        nasnet._published("Mobile", 224), nasnet._Design(8, 1, 8, skip_reduction=False)
    ),
}


def theirs(keras, name):
    """Keras's function of the same network."""
    of = keras.src.applications
    named = lambda function, *given, name: partial(function, *given, name=name, weights_name=name)
    make = {
        "ResNetSmall": lambda: named(
            of.resnet.ResNet,
            stack(of.resnet.stack_residual_blocks_v1, (1, 2, 1, 1), (1, 2, 2, 2)),
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
            of.efficientnet.EfficientNet, 0.5, 0.5, 224, name="efficientnetb0"
        ),
        "EfficientNetV2Small": lambda: named(
            of.efficientnet_v2.EfficientNetV2, 0.5, 0.25, 224, name="efficientnetv2-b0"
        ),
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


def stack(block, numbers, strides):
    """The stages of a residual network."""

    def stages(x):
        for index, (number, stride) in enumerate(zip(numbers, strides, strict=True)):
            x = block(x, 64 * 2**index, number, stride1=stride, name=f"conv{index + 2}")
        return x

    return stages
