"""Optional packages: imported where they are used, with an error that says how to install them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def optional(package: str, extra: str) -> Iterator[None]:
    """A context for importing a package that only the extra `extra` of fnn depends on.

    Raises ImportError with the command that installs it.

    >>> with optional("matplotlib", extra="plot"):
    ...     from matplotlib.figure import Figure
    """
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f"this needs {package}, which cannot be imported: {error}; run "
            f'pip install "{package}", or pip install ".[{extra}]" in a checkout of fnn'
        ) from error
