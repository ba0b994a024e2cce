"""Scopes: `with` blocks for the names and the device of what is computed inside."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import jax


@contextlib.contextmanager
def device(device_name: str) -> Iterator[None]:
    """In a `with` block, new arrays are on this device: "cpu", "gpu:1".

    Raises RuntimeError for a kind of device that there is not, ValueError for a number.

    >>> with device("cpu:0"):
    ...     print(jax.numpy.ones(2).device.platform)
    cpu
    """
    kind, _, number = device_name.lower().partition(":")
    devices = jax.devices(kind)
    place = int(number or 0)
    if place >= len(devices):
        raise ValueError(
            f"expected a device among the {len(devices)} of {kind!r}, received {device_name!r}; "
            f'e.g. "{kind}:0"'
        )
    with jax.default_device(devices[place]):
        yield


class name_scope:  # noqa: N801 - Keras's name
    """In a `with` block, operations get this name in profiles, as by `jax.named_scope`.

    Layers get their names from their parents in any case. Raises ValueError for what is no name.

    >>> with name_scope("encoder") as scope:
    ...     scope.name
    'encoder'
    """

    def __init__(
        self,
        name: str,
        caller: object = None,
        deduplicate: bool = True,
        override_parent: str | None = None,
    ) -> None:
        if not isinstance(name, str) or "/" in name:
            raise ValueError(
                f"name_scope: expected a string without '/', received {name!r}; nest two scopes"
            )
        self.name = name
        self._open: list[contextlib.ExitStack] = []

    def __enter__(self) -> name_scope:
        stack = contextlib.ExitStack()
        stack.enter_context(jax.named_scope(self.name))
        self._open.append(stack)
        return self

    def __exit__(self, *error: object) -> None:
        self._open.pop().close()
