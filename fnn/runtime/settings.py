"""Settings of the process that Keras keeps in `keras.config`, for every module to read."""

from __future__ import annotations

import dataclasses
import os

from fnn.runtime.program_cache import clear_all


def _limit(variable: str) -> int | None:
    """A limit from an environment variable of Keras, None without it."""
    given = os.environ.get(variable)
    if given is None:
        return None
    return int(given)


@dataclasses.dataclass
class Settings:
    """The values that `fnn.config` reads and sets."""

    epsilon: float = 1e-7
    floatx: str = "float32"
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
