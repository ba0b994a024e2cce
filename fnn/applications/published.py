"""Published: what Keras publishes of each network: its name, its files of weights."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import urljoin

from fnn.applications.checksums import CHECKSUMS
from fnn.datasets.finding import Remote

STORAGE = "https://storage.googleapis.com/tensorflow/keras-applications/"

# How many numbers the weights of a network are, those of its state included.
PARAMETERS = {
    "ConvNeXtBase": 88_591_464,
    "ConvNeXtLarge": 197_767_336,
    "ConvNeXtSmall": 50_223_688,
    "ConvNeXtTiny": 28_589_128,
    "ConvNeXtXLarge": 350_196_968,
    "DenseNet121": 8_062_504,
    "DenseNet169": 14_307_880,
    "DenseNet201": 20_242_984,
    "EfficientNetB0": 5_330_571,
    "EfficientNetB1": 7_856_239,
    "EfficientNetB2": 9_177_569,
    "EfficientNetB3": 12_320_535,
    "EfficientNetB4": 19_466_823,
    "EfficientNetB5": 30_562_527,
    "EfficientNetB6": 43_265_143,
    "EfficientNetB7": 66_658_687,
    "EfficientNetV2B0": 7_200_312,
    "EfficientNetV2B1": 8_212_124,
    "EfficientNetV2B2": 10_178_374,
    "EfficientNetV2B3": 14_467_622,
    "EfficientNetV2L": 119_027_848,
    "EfficientNetV2M": 54_431_388,
    "EfficientNetV2S": 21_612_360,
    "InceptionResNetV2": 55_873_736,
    "InceptionV3": 23_851_784,
    "MobileNet": 4_253_864,
    "MobileNetV2": 3_538_984,
    "MobileNetV3Large": 5_507_432,
    "MobileNetV3Small": 2_554_968,
    "NASNetLarge": 88_949_818,
    "NASNetMobile": 5_326_716,
    "ResNet101": 44_707_176,
    "ResNet101V2": 44_675_560,
    "ResNet152": 60_419_944,
    "ResNet152V2": 60_380_648,
    "ResNet50": 25_636_712,
    "ResNet50V2": 25_613_800,
    "VGG16": 138_357_544,
    "VGG19": 143_667_240,
    "Xception": 22_910_480,
}


class Published(NamedTuple):
    """What Keras publishes of a network: its names, sizes of images, files of weights."""

    title: str  # of the function: "ResNet50"
    name: str  # of the model, if the user does not choose another; "" if its arguments make it
    with_top: Remote
    without_top: Remote
    size: int = 224  # of images
    least: int = 32  # of images
    channels_first: bool = True  # whether images may be so
    any_size: bool = False  # whether the classifier too takes images of other sizes


def files(
    folder: str, stem: str, end: str = "_notop", remote_stem: str = ""
) -> tuple[Remote, Remote]:
    """The files of weights with classifier, and without; `end` is in the name of the latter.

    `folder` is one of Keras's storage, or an address. `remote_stem` is there in place of `stem`,
    with "-" in place of "_", where the files have other names there than in Keras's cache.

    >>> [file.name for file in files("convnext", "convnext_tiny")]
    ['convnext_tiny.h5', 'convnext_tiny_notop.h5']
    """
    folder = urljoin(STORAGE, folder)

    def remote(end: str) -> Remote:
        name = f"{stem}{end}.h5"
        there = f"{remote_stem}{end.replace('_', '-')}.h5" if remote_stem else name
        return Remote(name, f"{folder}/{there}", CHECKSUMS.get(name))

    return remote(""), remote(end)


def published(title: str, name: str, folder: str, **sizes: Any) -> Published:
    """A network whose files are called as most are.

    >>> published("VGG16", "vgg16", "vgg16").without_top.name
    'vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5'
    """
    remotes = files(folder, f"{name}_weights_tf_dim_ordering_tf_kernels")
    return Published(title, name, *remotes, **sizes)
