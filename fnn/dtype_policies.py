"""Dtype policies: Keras's names for the dtypes of weights and of what a layer computes in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, ClassVar, Self

import numpy as np

from fnn.core.config import Configurable, deserialize_keras_object
from fnn.core.config import serialize_keras_object as serialize
from fnn.core.layer import Layer
from fnn.core.tree import dtype_name
from fnn.runtime.settings import settings

__all__ = [
    "AWQDTypePolicy",
    "DTypePolicy",
    "DTypePolicyMap",
    "FloatDTypePolicy",
    "GPTQDTypePolicy",
    "Int4DTypePolicy",
    "QuantizedDTypePolicy",
    "QuantizedFloat8DTypePolicy",
    "deserialize",
    "get",
    "serialize",
]

# What a layer of these computes in, with weights in float32.
_MIXED = {"mixed_bfloat16": "bfloat16", "mixed_float16": "float16"}


class DTypePolicy(Configurable):
    """The dtypes of a layer by one name: `compute_dtype` and `variable_dtype`.

    The name is that of a dtype, for both, or "mixed_bfloat16" or "mixed_float16": computing in
    half precision with weights in float32. As the `dtype` of a layer it means its
    `compute_dtype`: weights of fnn stay in float32 (float64 for "float64").
    Raises ValueError for other names.

    >>> policy = DTypePolicy("mixed_bfloat16")
    >>> policy.compute_dtype, policy.variable_dtype
    ('bfloat16', 'float32')
    >>> fnn.layers.Dense(3, dtype=policy).dtype
    'bfloat16'
    """

    kind: ClassVar[str] = "dtype_policy"

    name: str = "float32"

    def validate(self) -> None:
        if self.name not in _MIXED:
            dtype_name(self.name)

    @property
    def quantization_mode(self) -> str | None:
        """How weights are quantized; None if they are not."""
        return None

    @property
    def compute_dtype(self) -> str:
        """The dtype that a layer computes in."""
        return _MIXED.get(self.name, self.name)

    @property
    def variable_dtype(self) -> str:
        """The dtype of weights."""
        if self.name in _MIXED:
            return "float32"
        return self.name

    @property
    def dtype(self) -> np.dtype:
        """The dtype that a layer computes in, for NumPy."""
        return np.dtype(self.compute_dtype)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The policy that `get_config` described."""
        return cls(config.get("name") or "float32")


FloatDTypePolicy = DTypePolicy


class QuantizedDTypePolicy(DTypePolicy):
    """A policy with quantized weights: a name that programs and configs of Keras use.

    `mode` is "int8", "int4" or "float8" (with sizes in some subclasses: "gptq/4/128"),
    `source_name` the policy of the layer before. Layers of fnn compute with their weights as they
    are. Raises ValueError for another mode.

    >>> policy = QuantizedDTypePolicy("int8", "mixed_bfloat16")
    >>> policy.name, policy.quantization_mode, policy.compute_dtype
    ('int8_from_mixed_bfloat16', 'int8', 'bfloat16')
    """

    # The form of `mode`, and an example of it.
    form: ClassVar[str] = r"int8|int4|float8|gptq|awq"
    example: ClassVar[str] = "int8"

    name: str = ""
    mode: str = ""
    source_name: str | None = None

    def __init__(self, mode: str, source_name: str | None = None) -> None:
        if not re.fullmatch(self.form, mode):
            raise ValueError(
                f"{type(self).__name__}: expected a mode like {self.example!r}, received {mode!r}"
            )
        source = DTypePolicy(source_name or "float32").name
        named = {"mode": mode, "source_name": source, "name": f"{mode}_from_{source}"}
        vars(self).update(named)
        self.__post_init__()

    def validate(self) -> None:
        """The source has been checked."""

    @property
    def quantization_mode(self) -> str:
        return self.mode.partition("/")[0]

    @property
    def compute_dtype(self) -> str:
        return DTypePolicy(self.source_name or "float32").compute_dtype

    @property
    def variable_dtype(self) -> str:
        return DTypePolicy(self.source_name or "float32").variable_dtype

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {"mode": self.mode, "source_name": self.source_name}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The policy that `get_config` described."""
        return cls(config["mode"], config.get("source_name"))


class Int4DTypePolicy(QuantizedDTypePolicy):
    """Integers of 4 bits in blocks: a mode like "int4/128"; see `QuantizedDTypePolicy`.

    >>> Int4DTypePolicy("int4/128").name
    'int4/128_from_float32'
    """

    form = r"int4/-?\d+"
    example = "int4/128"


class QuantizedFloat8DTypePolicy(QuantizedDTypePolicy):
    """Floating-point numbers of 8 bits: the mode "float8"; see `QuantizedDTypePolicy`.

    >>> QuantizedFloat8DTypePolicy("float8").quantization_mode
    'float8'
    """

    form = "float8"
    example = "float8"


class GPTQDTypePolicy(QuantizedDTypePolicy):
    """GPTQ by bits and the size of groups: a mode like "gptq/4/128"; see `QuantizedDTypePolicy`.

    >>> GPTQDTypePolicy("gptq/4/128").quantization_mode
    'gptq'
    """

    form = r"gptq/\d+/-?\d+"
    example = "gptq/4/128"


class AWQDTypePolicy(QuantizedDTypePolicy):
    """AWQ with 4 bits and the size of groups: a mode like "awq/4/128"; see `QuantizedDTypePolicy`.

    >>> AWQDTypePolicy("awq/4/128").quantization_mode
    'awq'
    """

    form = r"awq/4/-?\d+"
    example = "awq/4/128"


class DTypePolicyMap(MutableMapping[str, DTypePolicy]):
    """Policies by the paths of layers; a key is a path or a regular expression of whole paths.

    Other paths get `default_policy`, by default the policy in force. Raises ValueError for a key
    that is set twice, and on reading for a path that several expressions match; TypeError for
    what is no policy.

    >>> policies = DTypePolicyMap(policy_map={"encoder/.*": DTypePolicy("mixed_bfloat16")})
    >>> policies["encoder/dense"].name, policies["head"].name
    ('mixed_bfloat16', 'float32')
    """

    def __init__(
        self,
        default_policy: DTypePolicy | str | None = None,
        policy_map: Mapping[str, DTypePolicy] | None = None,
    ) -> None:
        self._default = default_policy
        self._by_key: dict[str, DTypePolicy] = {}
        for key, policy in (policy_map or {}).items():
            self[key] = policy

    @property
    def default_policy(self) -> DTypePolicy:
        """The policy of layers that no key matches."""
        return get(self._default)

    @property
    def name(self) -> str:
        """The name of the default policy after "map_"."""
        return f"map_{self.default_policy.name}"

    @property
    def compute_dtype(self) -> str:
        """The dtype of the default policy."""
        return self.default_policy.compute_dtype

    @property
    def variable_dtype(self) -> str:
        """The dtype of weights of the default policy."""
        return self.default_policy.variable_dtype

    def __getitem__(self, key: str) -> DTypePolicy:
        if key in self._by_key:
            return self._by_key[key]
        found = [one for one in self._by_key if re.fullmatch(one, key)]
        if len(found) > 1:
            raise ValueError(
                f"expected one policy for {key}, received several, for {found}; change the "
                "expressions so that one of them matches"
            )
        if found:
            return self._by_key[found[0]]
        return self.default_policy

    def __setitem__(self, key: str, policy: DTypePolicy) -> None:
        if key in self._by_key:
            raise ValueError(
                f"DTypePolicyMap: expected a new key, received {key!r}; delete the old entry first"
            )
        if not isinstance(policy, DTypePolicy):
            raise TypeError(
                f"DTypePolicyMap: expected a policy for {key!r}, received {policy!r}; "
                "e.g. fnn.DTypePolicy('mixed_bfloat16')"
            )
        self._by_key[key] = policy

    def __delitem__(self, key: str) -> None:
        del self._by_key[key]

    def __len__(self) -> int:
        return len(self._by_key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_key)

    def get_config(self) -> dict[str, Any]:
        """The arguments in Keras's form."""
        return {
            "default_policy": self._default and serialize(self.default_policy),
            "policy_map": {key: serialize(item) for key, item in self._by_key.items()},
        }

    @classmethod
    def from_config(
        cls,
        config: Mapping[str, Any],
        custom_objects: Mapping[str, object] | None = None,
    ) -> DTypePolicyMap:
        """The map that `get_config` described."""
        policies = config["policy_map"].items()
        default = config["default_policy"]
        if default is not None:
            default = deserialize(default, custom_objects)
        return cls(
            default, {k: deserialize(item, custom_objects) for k, item in policies}
        )


def get(identifier: object) -> DTypePolicy:
    """The policy of a name, of a policy or of its config; the one in force for None.

    Raises ValueError for anything else.

    >>> get("mixed_float16").compute_dtype, get(None)
    ('float16', DTypePolicy())
    """
    if identifier is None:
        return DTypePolicy(settings.dtype_policy)
    if isinstance(identifier, DTypePolicy):
        return identifier
    if isinstance(identifier, dict):
        return deserialize(identifier)
    if isinstance(identifier, str):
        mode, quantized, source = identifier.partition("_from_")
        kinds: list[Any] = [
            *QuantizedDTypePolicy.__subclasses__(),
            QuantizedDTypePolicy,
        ]
        for kind in kinds:
            if quantized and re.fullmatch(kind.form, mode):
                found: DTypePolicy = kind(mode, source)
                return found
        return DTypePolicy(identifier)
    raise ValueError(
        f"expected the name of a policy, a policy or its config, received {identifier!r}; "
        'e.g. "float32"'
    )


def of_layer(layer: Layer) -> DTypePolicy:
    """The policy of a layer by its `dtype`: half precision computes with weights in float32.

    >>> of_layer(fnn.layers.Dense(2, dtype="float16")).name
    'mixed_float16'
    """
    computes = layer.compute_dtype
    name = f"mixed_{computes}"
    if name not in _MIXED or layer.variable_dtype == computes:
        name = computes
    return DTypePolicy(name)


def deserialize(
    config: Any, custom_objects: Mapping[str, object] | None = None
) -> DTypePolicy:
    """The policy that `serialize` described.

    >>> deserialize(serialize(DTypePolicy("float64")))
    DTypePolicy(name='float64')
    """
    policy: DTypePolicy = deserialize_keras_object(config, custom_objects)
    return policy
