"""Finding: where the files of a dataset lie, and their download into the cache."""

from __future__ import annotations

import http.client
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from fnn.runtime.warning import warn
from fnn.utils.files import get_file, has_checksum


class Remote(NamedTuple):
    """A file of a dataset: its name in the cache, its address, and its checksum.

    The checksum is the SHA-256, or the MD5 where nothing else is known. Without one (""), the file
    is not downloaded, and is taken as it is where it lies. With None, whoever publishes the file
    gives no checksum: it is downloaded with a warning, and only its length is checked.
    """

    name: str
    url: str
    checksum: str | None


def given_folder(dataset: str) -> Path | None:
    """The folder of a dataset in `$FNN_DATA`: `$FNN_DATA/name`, or that itself if it has the name.

    The name decides, since several datasets have the same file names.
    """
    given = os.environ.get("FNN_DATA")
    if not given:
        return None
    data = Path(given).expanduser().absolute()
    inside = data / dataset
    if data.name == dataset and not inside.is_dir():
        return data
    return inside


def cache_folder(dataset: str) -> Path:
    """The folder of a dataset in the cache, `$FNN_CACHE` or `~/.cache/fnn`."""
    folder = os.environ.get("FNN_CACHE") or "~/.cache/fnn"
    return Path(folder).expanduser() / dataset


def keras_folder(kind: str = "datasets") -> Path:
    """The folder in which Keras keeps its datasets, or its "models"."""
    return Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / kind


def file_of(dataset: str, remote: Remote, path: str, kind: str = "datasets") -> Path:
    """A file of a dataset (or of "models"), which is called `path` where it is looked for.

    It is looked for in `$FNN_DATA`, in Keras's cache, where it counts with the right checksum, and
    in the cache of fnn, into which it is downloaded. An absolute path is the file itself.
    """
    if os.path.isabs(path):
        if not Path(path).is_file():
            raise FileNotFoundError(
                f"{dataset}: expected a file, received {path}; leave the path out, or put the file "
                f"from {remote.url} there"
            )
        return Path(path)
    given = given_folder(dataset)
    if given is not None and (given / path).is_file():
        return given / path
    of_keras = keras_folder(kind) / path
    if of_keras.is_file() and has_checksum(of_keras, remote.checksum or None):
        return of_keras
    return downloaded(dataset, [remote._replace(name=path)])[0]


def folder_of(dataset: str, remote: Remote, name: str, of_keras: Iterable[str]) -> Path:
    """The folder `name` that an archive of a dataset contains.

    `of_keras` are the folders in Keras's cache into which it extracts the archive.
    """
    given = given_folder(dataset)
    places = [] if given is None else [given]
    places += [keras_folder() / folder for folder in of_keras]
    stem = remote.name.partition(".")[0]
    places.append(cache_folder(dataset) / f"{stem}_extracted")  # as `get_file` calls it
    for place in places:
        if (place / name).is_dir():
            return place / name
    return downloaded(dataset, [remote], extract=True)[0] / name


def downloaded(
    dataset: str, remotes: Sequence[Remote], extract: bool = False
) -> list[Path]:
    """The files in the cache, downloaded unless they are there.

    Raises FileNotFoundError that names all files that are missing and where to put them, and
    ValueError for a download with another checksum.
    """
    paths, failed = [], []
    folder = cache_folder(dataset)
    for remote in remotes:
        is_there = (folder / remote.name).is_file()
        if remote.checksum is None and not is_there:
            warn(
                f"{remote.name} is published without a checksum, so only its length is checked; if "
                f"you have a copy that you trust, put it into {folder} and call this again"
            )
        if remote.checksum == "" and not is_there:
            failed.append(
                f"{remote.name} ({remote.url}: not downloaded, since no checksum is known for it)"
            )
            continue
        try:
            path = get_file(
                remote.name,
                remote.url,
                file_hash=remote.checksum or None,
                cache_dir=folder.parent,
                cache_subdir=folder.name,
                extract=extract,
            )
            paths.append(Path(path))
        except (OSError, http.client.HTTPException) as error:
            failed.append(f"{remote.name} ({remote.url}: {error})")
    if failed:
        lines = "\n  ".join(failed)
        raise FileNotFoundError(
            f"expected the files of {dataset}, but these are missing:\n  {lines}\nput them into "
            f"{folder}, or set FNN_DATA to a folder and put them into {dataset}/ inside it"
        )
    return paths
