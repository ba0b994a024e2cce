"""Tracebacks: uncaught errors are shown without the frames of fnn and JAX."""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import jax

LIBRARIES = {"fnn", "jax", "jaxlib", "optax"}
# Hidden where one of the libraries calls them; a user's own calls of them are shown.
CALLED_BY_THEM = sys.stdlib_module_names | {"numpy"}
# Part of the note that JAX adds to an error whose traceback it has shortened.
NOTE = "JAX has removed its internal frames"
HINT = (
    "fnn: the traceback leaves out {} frames of fnn and JAX; "
    "fnn.config.disable_traceback_filtering() shows them"
)


def is_filtering() -> bool:
    """Whether tracebacks are shown without the frames of fnn and JAX: JAX's own setting."""
    return bool(getattr(jax.config, "jax_traceback_filtering") != "off")  # noqa: B009


def install() -> None:
    """Shortens the tracebacks that Python and, in a notebook, IPython show from now on.

    Errors are changed only while they are shown: what catches one, a debugger and
    `traceback.print_exc` see all of its frames. Nothing runs before an error is shown.
    """
    show = sys.excepthook  # another package may have set one

    def hook(
        kind: type[BaseException],
        error: BaseException,
        traceback: TracebackType | None,
    ) -> None:
        with shortened(error) as hidden:
            if hidden:
                # Above the traceback, so that the message comes last.
                print(HINT.format(hidden), file=sys.stderr)
                traceback = error.__traceback__
            show(kind, error, traceback)

    sys.excepthook = hook
    shell = _ipython()
    if shell is not None and not shell.custom_exceptions:
        shell.set_custom_exc((Exception,), _show_in_ipython)


def _ipython() -> Any:
    """The shell of IPython or Jupyter in which this runs, None if there is none."""
    module = sys.modules.get("IPython")
    return module and module.get_ipython()


def _show_in_ipython(
    shell: Any,
    kind: type[BaseException],
    error: BaseException,
    traceback: TracebackType | None,
    tb_offset: int | None = None,
) -> None:
    with shortened(error):
        found = kind, error, error.__traceback__
        shell.showtraceback(found, tb_offset=tb_offset, running_compiled_code=True)
    sys.last_traceback = traceback  # for `pdb.pm`


@contextlib.contextmanager
def shortened(error: BaseException) -> Iterator[int]:
    """Inside, an error and its causes have tracebacks of the user's frames, and no note of JAX.

    Gives the number of frames left out. It is 0, and nothing changes, if filtering is off, no
    frame is of fnn, or the error has no frame of the user.
    """
    errors = _with_causes(error)
    wholes = [_entries(one.__traceback__) for one in errors]
    kept = [_of_user(entries) for entries in wholes]
    of_fnn = any(_package(entry) == "fnn" for entry in itertools.chain(*wholes))
    if not (is_filtering() and of_fnn and kept[0]):
        yield 0
        return
    before = [(one.__traceback__, getattr(one, "__notes__", None)) for one in errors]
    for one, entries in zip(errors, kept, strict=True):
        one.__traceback__ = _joined(entries)
        if hasattr(one, "__notes__"):
            one.__notes__ = [note for note in one.__notes__ if NOTE not in note]
    try:
        yield sum(map(len, wholes)) - sum(map(len, kept))
    finally:
        for one, (traceback, notes) in zip(errors, before, strict=True):
            one.__traceback__ = traceback
            if notes is not None:
                one.__notes__ = notes


def _with_causes(error: BaseException) -> list[BaseException]:
    """An error and those that are shown above it."""
    errors: dict[int, BaseException] = {}
    found: BaseException | None = error
    while found is not None and id(found) not in errors:
        errors[id(found)] = found
        above = found.__cause__
        if above is None and not found.__suppress_context__:
            above = found.__context__
        found = above
    return list(errors.values())


def _entries(traceback: TracebackType | None) -> list[TracebackType]:
    entries = []
    while traceback is not None:
        entries.append(traceback)
        traceback = traceback.tb_next
    return entries


def _package(entry: TracebackType) -> str:
    name: str = entry.tb_frame.f_globals.get("__name__", "")
    return name.partition(".")[0]


def _of_user(entries: list[TracebackType]) -> list[TracebackType]:
    """The frames of the user, also those that the libraries call, as a layer's `call`."""
    kept = []
    hidden = False
    for entry in entries:
        package = _package(entry)
        hidden = package in LIBRARIES or (hidden and package in CALLED_BY_THEM)
        if not hidden:
            kept.append(entry)
    return kept


def _joined(entries: list[TracebackType]) -> TracebackType | None:
    """A traceback of these entries, which are left as they are."""
    joined = None
    for entry in reversed(entries):
        joined = TracebackType(joined, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return joined
