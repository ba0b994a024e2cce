"""Published: what Keras publishes of each network: its name, its files of weights."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import urljoin

from fnn.applications.checksums import CHECKSUMS
from fnn.datasets.finding import Remote

STORAGE = "https://storage.googleapis.com/tensorflow/keras-applications/"


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
