"""Config: named options of a program, with Keras's name."""

from __future__ import annotations

import difflib
import json
from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from typing import Any


class Config:
    """Options by name, as attributes and as items; `freeze()` refuses changes.

    Raises ValueError for a change while frozen, AttributeError for an unknown name.

    >>> config = Config(rate=0.1)
    >>> config.steps = 10
    >>> config["rate"], config.to_json()
    (0.1, '{"rate": 0.1, "steps": 10}')
    """

    _config: dict[str, Any]
    _frozen: bool

    def __init__(self, **kwargs: Any) -> None:
        object.__setattr__(self, "_config", kwargs)
        object.__setattr__(self, "_frozen", False)

    @property
    def frozen(self) -> bool:
        """Whether changes are refused."""
        return self._frozen

    def freeze(self) -> None:
        """Refuses changes from now on."""
        object.__setattr__(self, "_frozen", True)

    def unfreeze(self) -> None:
        """Allows changes again."""
        object.__setattr__(self, "_frozen", False)

    def as_dict(self) -> dict[str, Any]:
        """The options as a dict of its own."""
        return dict(self._config)

    def to_json(self) -> str:
        """The options as a JSON object."""
        return json.dumps(self._config)

    def keys(self) -> KeysView[str]:
        """The names."""
        return self._config.keys()

    def values(self) -> ValuesView[Any]:
        """The values."""
        return self._config.values()

    def items(self) -> ItemsView[str, Any]:
        """Names and values."""
        return self._config.items()

    def get(self, keyname: str, value: Any = None) -> Any:
        """The option, or `value` without one of this name."""
        return self._config.get(keyname, value)

    def pop(self, *args: Any) -> Any:
        """Removes an option and returns it, as of a dict."""
        return self._changing().pop(*args)

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Sets several options, as of a dict."""
        self._changing().update(*args, **kwargs)

    def _changing(self) -> dict[str, Any]:
        if self._frozen:
            raise ValueError(
                "expected a config that may change, received a frozen one; "
                "unfreeze it before"
            )
        return self._config

    def __setattr__(self, name: str, value: Any) -> None:
        self._changing()[name] = value

    def __getattr__(self, name: str) -> Any:
        options = vars(self).get("_config", {})
        if name in options:
            return options[name]
        close = difflib.get_close_matches(name, options, 1)
        advice = f"; did you mean {close[0]!r}?" if close else ""
        raise AttributeError(f"the config has no option {name!r}{advice}")

    def __setitem__(self, name: str, value: Any) -> None:
        self._changing()[name] = value

    def __getitem__(self, name: str) -> Any:
        return self._config[name]

    def __contains__(self, name: object) -> bool:
        return name in self._config

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._config))

    def __len__(self) -> int:
        return len(self._config)

    def __repr__(self) -> str:
        return f"<Config {self._config}>"
