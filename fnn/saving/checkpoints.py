"""Checkpoints: snapshots in folders of Orbax, with a checksum of each array and of the JSON."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core import tree
from fnn.core.tree import array_spec
from fnn.runtime.optional import optional
from fnn.saving.savers import Best, Saver
from fnn.saving.snapshots import Arrays, Json, Leaf, Specs
from fnn.saving.tensors import FileError, FilePath, parse
from fnn.training.checkpoint import Checkpoint

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

ARRAYS, JSON = "arrays", "training"  # the parts of a checkpoint
LOCK = ".lock"
WAIT = 5.0  # seconds for another process to end
# Room for what a checkpoint has beside the state, such as the best weights of a callback.
_MOST_BESIDE, _MOST_TIMES = 2**26, 8
_NAME = re.compile(r"epoch-(\d+)-step-(\d+)")


class OrbaxStore:
    """A folder with a folder for each snapshot, named by its epoch and step.

    Orbax writes into a temporary folder and renames it. It has no checksums, so the JSON holds
    the CRC-32 of each array, verified when it is read. Only one training may write to a folder.
    """

    def __init__(self, folder: FilePath) -> None:
        # Orbax takes absolute paths alone.
        self.folder = Path(os.path.abspath(os.path.expanduser(folder)))
        self._lock: int | None = None

    # -- the folder ------------------------------------------------------------------------------

    def begin(self) -> None:
        """Makes the folder, and removes what killed processes have left half-written."""
        _orbax()
        if jax.process_index():
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._take_lock()
        except OSError as error:
            raise type(error)(
                error.errno,
                f"cannot save checkpoints in {self.folder} ({error.strerror}); pass another folder",
            ) from error
        for path in self.folder.glob("epoch-*-step-*orbax-checkpoint-tmp*"):
            shutil.rmtree(path, ignore_errors=True)

    def _take_lock(self) -> None:
        """Waits for another training that writes here, which may be about to end."""
        self.end()
        flags = os.O_RDWR | os.O_CREAT
        self._lock = os.open(self.folder / LOCK, flags, 0o666)
        until = time.monotonic() + WAIT
        while fcntl is not None:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > until:
                    self.end()
                    raise BlockingIOError(
                        errno.EWOULDBLOCK, "another training saves there"
                    ) from None
                time.sleep(0.1)
            except OSError:
                # A file system without locks.
                return

    def end(self) -> None:
        """Lets other trainings write to the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def names(self) -> list[str]:
        """The complete snapshots, oldest first; other files are passed over."""
        if not self.folder.is_dir():
            return []
        found = []
        for path in self.folder.iterdir():
            match = _NAME.fullmatch(path.name)
            if match and path.is_dir():
                epoch, step = map(int, match.groups())
                found.append((epoch, step, path.name))
        return [name for _, _, name in sorted(found)]

    def remove(self, name: str) -> None:
        """Removes a snapshot: renamed first, so that no half of it is ever found."""
        if jax.process_index():
            return
        path = self.folder / name
        away = self.folder / f"{name}.orbax-checkpoint-tmp-removed"
        os.replace(path, away)
        shutil.rmtree(away, ignore_errors=True)

    def set_aside(self, name: str) -> str:
        """Renames a damaged snapshot."""
        aside = f"{name}.damaged"
        number = 2
        while (self.folder / aside).exists():
            aside = f"{name}.damaged-{number}"
            number += 1
        if not jax.process_index():
            os.replace(self.folder / name, self.folder / aside)
        return aside

    # -- a snapshot ------------------------------------------------------------------------------

    def write(self, name: str, arrays: Arrays, described: Json) -> None:
        """Writes a snapshot; durable when it returns."""
        ocp = _orbax()
        specs = {}
        for array_name, array in arrays.items():
            digest = _digest(array_name, array)
            specs[array_name] = [str(array.dtype), list(array.shape), digest]
        text = json.dumps({"training": described, "arrays": specs}, allow_nan=False)
        content = {"text": text, "crc": zlib.crc32(text.encode())}
        # Orbax refuses arrays without elements; their shapes are in the JSON.
        held = {n: a for n, a in arrays.items() if a.size}
        parts = {JSON: ocp.args.JsonSave(content)}
        if held:
            parts[ARRAYS] = ocp.args.PyTreeSave(held)
        with _checkpointer() as checkpointer:
            checkpointer.save(
                self.folder / name, args=ocp.args.Composite(**parts), force=True
            )
        _sync(self.folder)

    def describe(self, name: str) -> tuple[Json, Specs]:
        """The JSON, and shapes and dtypes of the arrays. Raises FileError if damaged."""
        return self._described(name)[:2]

    def _described(
        self, name: str
    ) -> tuple[Json, dict[str, Any], dict[str, int | None]]:
        """(JSON, specs, checksums) of a snapshot."""
        # Read without Orbax, which would start the devices.
        with self._damaged(name):
            content = parse((self.folder / name / JSON / "metadata").read_bytes())
            text = content["text"]
            if zlib.crc32(text.encode()) != content["crc"]:
                raise ValueError("its JSON has another checksum")
            found = parse(text.encode())
            specs = {}
            digests = {}
            for array, (dtype, shape, digest) in found["arrays"].items():
                specs[array] = array_spec(tuple(shape), jnp.dtype(dtype))
                digests[array] = digest
            return found["training"], specs, digests

    def read(self, name: str, like: Mapping[str, Leaf]) -> Arrays:
        """The arrays of these names, verified; of NumPy, but for those of several processes."""
        ocp = _orbax()
        _, specs, digests = self._described(name)
        self._check_size(name, specs, like)
        arrays: Arrays = {}
        targets, how = {}, {}
        for n, spec in specs.items():
            if spec.size:
                targets[n], how[n] = _how_to_restore(ocp, spec, like.get(n))
            else:
                arrays[n] = np.zeros(spec.shape, spec.dtype)
        with self._damaged(name), _checkpointer() as checkpointer:
            if targets:
                restore = ocp.args.PyTreeRestore(item=targets, restore_args=how)
                args = ocp.args.Composite(**{ARRAYS: restore})
                arrays |= checkpointer.restore(self.folder / name, args=args)[ARRAYS]
            for array, digest in digests.items():
                if digest is not None and _digest(array, arrays[array]) != digest:
                    raise ValueError(f"{array} has another checksum")
        return {n: arrays[n] for n in like}

    def _check_size(self, name: str, specs: Specs, like: Mapping[str, Leaf]) -> None:
        """Raises FileError for arrays of any size beside those whose sizes are known."""
        known = {n: s for n, s in specs.items() if like.get(n) is not None}
        beside = tree.nbytes(dict(specs)) - tree.nbytes(known)
        if beside > _MOST_TIMES * tree.nbytes(known) + _MOST_BESIDE:
            raise FileError(
                f"expected a checkpoint of the training, received {self.folder / name}, which "
                f"holds {beside} bytes of other arrays; remove it to start over"
            )

    @contextlib.contextmanager
    def _damaged(self, name: str) -> Iterator[None]:
        """A context in which errors of reading are those of a damaged checkpoint."""
        try:
            yield
        except PermissionError:
            raise
        except Exception as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise FileError(
                f"expected a whole checkpoint, received {self.folder / name}, which is damaged or "
                f"incomplete: {reason}"
            ) from error


def _orbax() -> Any:
    with optional("orbax-checkpoint", extra="checkpoint"):
        import orbax.checkpoint as ocp
    return ocp


@contextlib.contextmanager
def _checkpointer() -> Iterator[Any]:
    ocp = _orbax()
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        yield checkpointer


def _how_to_restore(ocp: Any, spec: Any, like: Leaf) -> tuple[Any, Any]:
    """(target, arguments) of an array: on the host, or divided as `like` over processes."""
    if isinstance(like, jax.Array) and not like.is_fully_addressable:
        target = array_spec(spec.shape, spec.dtype, sharding=like.sharding)
        return target, ocp.ArrayRestoreArgs(sharding=like.sharding, dtype=spec.dtype)
    return spec, ocp.RestoreArgs(restore_type=np.ndarray, dtype=spec.dtype)


def _digest(name: str, array: Any) -> int | None:
    """The checksum of name, dtype, shape and values; None where others hold a part."""
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        return None
    values = np.asarray(array, order="C")
    header = f"{name} {values.dtype} {values.shape}"
    data = values.reshape(-1).view(np.uint8).data
    return zlib.crc32(data, zlib.crc32(header.encode()))


def _sync(folder: Path) -> None:
    """Makes the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_saver(checkpoint: Checkpoint, resume: bool) -> Saver:
    """What saves to the folder of a checkpoint."""
    best = None
    if checkpoint.keep_best is not None:
        best = Best("Checkpoint", checkpoint.keep_best, checkpoint.mode)
    return Saver(
        OrbaxStore(checkpoint.directory),
        every_epochs=checkpoint.every_epochs,
        every_steps=checkpoint.every_steps,
        every_minutes=checkpoint.every_minutes,
        keep=checkpoint.keep,
        best=best,
        background=checkpoint.background,
        resume=resume,
        allow_changes=checkpoint.allow_changes,
    )


Checkpoint.on_opened = staticmethod(open_saver)
