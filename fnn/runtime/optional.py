"""Optional packages: imported where they are used, with an error that says how to get them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def optional(package: str, extra: str) -> Iterator[None]:
    """Around an import of a package that fnn does not depend on; `extra` installs it with fnn.

    Raises ImportError, saying what to install.

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
