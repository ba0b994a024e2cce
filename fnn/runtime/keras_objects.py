"""Objects of Keras itself: recognized by the module of their class, without importing Keras."""

from __future__ import annotations

import sys
from types import FrameType

# What a package of Keras's own code defines, and where fnn has it.
_OF_KERAS = {
    "layers": ("a layer", "fnn.layers"),
    "models": ("a model", "fnn"),
    "initializers": ("an initializer", "fnn.initializers"),
    "regularizers": ("a regularizer", "fnn.regularizers"),
    "constraints": ("a constraint", "fnn.constraints"),
    "losses": ("a loss", "fnn.losses"),
    "metrics": ("a metric", "fnn.metrics"),
    "optimizers": ("an optimizer", "fnn.optimizers"),
    "schedules": ("a schedule", "fnn.schedules"),
}


# In Keras's order of modules, which decides for a name without a module.
MODULES = {
    "function": "builtins",
    "model": "keras",
    "layer": "keras.layers",
    "activation": "keras.activations",
    "initializer": "keras.initializers",
    "regularizer": "keras.regularizers",
    "constraint": "keras.constraints",
    "loss": "keras.losses",
    "metric": "keras.metrics",
    "optimizer": "keras.optimizers",
    "schedule": "keras.optimizers.schedules",
    "dtype_policy": "keras.dtype_policies",
    "quantizer": "keras.quantizers",
    "feature": "keras.utils",
}
# Classes that Keras has, but not under a public name.
ELSEWHERE = {
    "CustomScaleLayer": "keras.src.applications.inception_resnet_v2",
    "LayerScale": "keras.src.applications.convnext",
    "StochasticDepth": "keras.src.applications.convnext",
}
# The classes of fnn that Keras does not have.
_OWN = {
    "layer": "Bias Ensemble FeatureSpace FlaxLayer Frozen GatedDense GetItem Graph "
    "Inference Item JaxLayer LoRA MatMul MixtureOfExperts ModelCall Operation Quantized "
    "Operator Parallel PositionEmbedding Remat Repeat Residual Reverse "
    "RotaryEmbedding SinusoidalPosition Spread TakeMask Training "
    "TransformerDecoderBlock TransformerEncoderBlock Unmask WithMask",
    "loss": "FunctionLoss InfoNCE OptaxLoss Triplet",
    "metric": "ExpectedCalibrationError LossMetric MultiLabelAccuracy Perplexity",
    "optimizer": "ByPath",
    "schedule": "OneCycle WarmupStableDecay",
    "feature": "Cross Feature FeatureSpace",
}

# Fields that have another name there.
_FIELD_NAMES = {"inner": "layer", "rules": "optimizer_map"}
# Fields that Keras's classes do not have: they are left out of a config at their default.
OWN_FIELDS = frozenset(
    {
        *("exact", "exclude_from_weight_decay", "fixed_weights", "input_shape"),
        *("learned", "order"),
        *("position", "return_attention_scores", "ties", "use_causal_mask"),
    }
)
# Layers whose constructors there do not take `trainable`.
_UNTRAINED = frozenset(
    {
        *("Discretization", "Pipeline"),
        *("SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"),
    }
)
# The policies that stand for computing in half precision with weights in full precision.
_MIXED = {"bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


def home_of(kind: str, name: str) -> str:
    """The module by which a config names a class of fnn: that of Keras, if Keras has it.

    >>> home_of("layer", "Dense"), home_of("layer", "Residual")
    ('keras.layers', 'fnn.layers')
    """
    module = ELSEWHERE.get(name) or MODULES.get(kind, "fnn")
    if name in _OWN.get(kind, "").split():
        return module.replace("keras", "fnn", 1)
    return module


def is_left_out(cls: type, field: str) -> bool:
    """Whether a field of fnn is left out of a config at its default, since Keras lacks it."""
    if field == "trainable":
        return cls.__name__ in _UNTRAINED
    return field in OWN_FIELDS


def argument_of(
    kind: str,
    field: str,
    held: object,
) -> tuple[str, object]:
    """A field as an argument of Keras's class: its name there, and the value.

    >>> argument_of("layer", "inner", 3), argument_of("layer", "dtype", "bfloat16")
    (('layer', 3), ('dtype', 'mixed_bfloat16'))
    """
    if field == "dtype" and kind == "layer" and isinstance(held, str):
        held = _MIXED.get(held, held)
    return _FIELD_NAMES.get(field, field), held


def name_in_keras(cls: type) -> str:
    """The name of a class of fnn, or of a user, in configs of Keras."""
    if cls.__name__ == "GroupedQueryAttention":
        return "GroupQueryAttention"
    return cls.__name__


def refuse_keras(value: object) -> None:
    """Raises TypeError for an object or class of Keras itself, naming its place in fnn.

    Functions of Keras are functions of arrays like any other, and pass.
    """
    if "keras" not in sys.modules:
        return
    cls = value if isinstance(value, type) else type(value)
    for base in cls.__mro__:
        package, _, module = base.__module__.partition(".")
        if package == "keras":
            raise TypeError(_is_of_keras(cls, base, module))


def _is_of_keras(cls: type, base: type, module: str) -> str:
    """The error message for a class that is, or is derived from, one of Keras."""
    if base.__name__ == "KerasTensor":
        return (
            "expected a symbolic node of fnn, received one of Keras; make it with fnn.Input, and "
            "import the layers that you call on it from fnn.layers"
        )
    kind, home = "an object", "fnn"
    for part in module.split("."):
        kind, home = _OF_KERAS.get(part, (kind, home))
    if cls is base:
        return f"{cls.__name__}(...) is {kind} of Keras; import it from {home}"
    return (
        f"{cls.__name__}(...) is {kind} of Keras, since it is derived from Keras's "
        f"{base.__name__}; import {base.__name__} from {home}"
    )


def is_called_by_keras() -> bool:
    """Whether the code that runs now was called by Keras, as when its layer is given a node."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if str(frame.f_globals.get("__name__")).startswith("keras.src."):
            return True
        frame = frame.f_back
    return False
