"""Settings of the process that Keras keeps in `keras.config`, for every module to read."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from contextvars import ContextVar

from fnn.runtime.program_cache import clear_all


def _limit(variable: str) -> int | None:
    """A limit from an environment variable of Keras, None without it."""
    given = os.environ.get(variable)
    if given is None:
        return None
    return int(given)


_ignored = ContextVar("the policy is ignored", default=False)


@dataclasses.dataclass
class Settings:
    """The values that `fnn.config` reads and sets."""

    epsilon: float = 1e-7
    floatx: str = "float32"
    # The name of the dtype policy, and the dtype that it gives to new layers; None: its own.
    dtype_policy: str = "float32"
    policy_dtype: str | None = None
    image_data_format: str = "channels_last"
    # None: as the device and the sizes allow.
    flash_attention: bool | None = None
    interactive_logging: bool = True
    max_epochs: int | None = _limit("KERAS_MAX_EPOCHS")
    max_steps_per_epoch: int | None = _limit("KERAS_MAX_STEPS_PER_EPOCH")

    @property
    def channels_first(self) -> bool:
        """Whether channels come first in layers that do not say."""
        return self.image_data_format == "channels_first"

    @property
    def dtype_of_new_layers(self) -> str | None:
        """The dtype of a layer that is made now and does not say; None: that of its inputs."""
        if self.policy_dtype is None or _ignored.get():
            return None
        return self.policy_dtype

    @contextlib.contextmanager
    def without_policy(self) -> Iterator[None]:
        """Layers made in this block have the dtype that they are given, or none.

        For copies, files and the parts of a layer: a layer keeps the policy it was made under.
        """
        token = _ignored.set(True)
        try:
            yield
        finally:
            _ignored.reset(token)

    def change(self, **values: object) -> None:
        """Sets values that compiled programs depend on, and frees these programs."""
        for name, value in values.items():
            if getattr(self, name) != value:
                setattr(self, name, value)
                clear_all()


settings = Settings()


def epsilon() -> float:
    """The small number that keeps logarithms and quotients finite.

    >>> epsilon()
    1e-07
    """
    return settings.epsilon
