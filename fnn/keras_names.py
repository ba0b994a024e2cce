"""Keras names that fnn does not provide, with their replacements, and arguments that it ignores."""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable
from types import FrameType, ModuleType

from fnn import utils
from fnn.core import arguments, registry
from fnn.core.layer import Layer
from fnn.core.value import Value
from fnn.models import Model
from fnn.runtime import keras_objects

NOT_YET = "not implemented yet"
LEGACY = "Keras's own legacy code"


def _for_all(names: str, reason: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), reason)


# By module: name -> what to use instead. The README lists those that Keras has now.
MISSING_NAMES: dict[str, dict[str, str]] = {
    "fnn": {
        "legacy": LEGACY,
        "load_model": "`fnn.load`",
        "SymbolicScope": "every layer is a pure pair of `init` and `apply`",
    },
    "fnn.layers": {
        "TFSMLayer": "its files hold programs of TensorFlow, which JAX cannot run",
        "TorchModuleWrapper": "PyTorch computes outside of JAX, so nothing could be compiled or "
        "differentiated together; load its weights by `model.set_weights`",
    },
    "fnn.optimizers": {"legacy": LEGACY},
    "fnn.saving": {
        "KerasFileEditor": "`model.load_weights` takes what fits with `strict=False`, and "
        "reports the rest; h5py changes files",
    },
    "fnn.quantizers": _for_all(
        "AWQConfig Float8QuantizationConfig GPTQConfig Int4QuantizationConfig "
        "QuantizationConfig",
        '`model.quantize("int8")` is the only mode',
    ),
    "fnn.visualization": _for_all(
        "draw_bounding_boxes draw_segmentation_masks plot_bounding_box_gallery "
        "plot_image_gallery plot_segmentation_mask_gallery",
        f"{NOT_YET}: `fnn.visualization.plot_predictions` shows images with their classes",
    ),
    "fnn.utils": {
        "legacy": LEGACY,
    },
}


# Attributes of Keras's layers and models, and what to use instead.
_WEIGHTS = (
    "the layer has no weights yet; call it on an array, or layer.build(input_shape)"
)
_AUXILIARY = "return it from apply, in the state, under the name aux_loss"
LAYER_ATTRIBUTES = {
    **dict.fromkeys(("kernel", "bias", "embeddings"), _WEIGHTS),
    **dict.fromkeys(
        ("input", "output", "get_weights", "set_weights", "count_params"),
        "the layer is in no model that has weights; put it into one",
    ),
    "add_weight": "return the weights from the init of your layer",
    "add_loss": _AUXILIARY,
}
MODEL_ATTRIBUTES = {
    **dict.fromkeys(("add_loss", "add_metric"), _AUXILIARY),
    "compute_loss": "use fnn.training.fit with your own step",
    "reset_metrics": "not needed: every epoch starts with reset metrics",
}


# Names of Keras for what stands in another module: module -> (that module, the names).
SECOND_NAMES: dict[str, tuple[ModuleType, str]] = {
    "fnn.preprocessing": (
        utils,
        "image_dataset_from_directory text_dataset_from_directory timeseries_dataset_from_array",
    ),
}


def _shape_of_size(size: object) -> tuple[object, ...] | None:
    if size is None:
        return None
    return (size,)


# Arguments of Keras that are other names of fields: (the field, a conversion).
ARGUMENT_ALIASES: dict[str, tuple[str, Callable[[object], object]]] = {
    "input_dim": ("input_shape", _shape_of_size),
    "layer": ("inner", lambda layer: layer),
    "optimizer_map": ("rules", lambda optimizers: optimizers),
    "alpha": ("negative_slope", lambda slope: slope),
}
# Arguments without effect: (the values accepted, None for all; what to do for other values).
IGNORED_ARGUMENTS: dict[str, tuple[tuple[object, ...] | None, str]] = {
    "input_length": (None, ""),  # shapes are known from the inputs
    "use_cudnn": (None, ""),  # XLA chooses
    "implementation": (None, ""),
    "oov_method": (("floormod",), "leave it out: strings are hashed in one way"),
    "vocabulary_dtype": (("string",), "leave it out: tokens are strings"),
    "autocast": (
        (True,),
        "use dtype='float32' for a layer that computes in full precision",
    ),
    "time_major": ((False,), "swap the axes: inputs are (batch, time, features)"),
    "weights": ((None,), "make the model, then layer.set_weights(weights)"),
    "activity_regularizer": (
        (None,),
        "put ActivityRegularization(l1, l2) after the layer",
    ),
    "batch_input_shape": (
        (None,),
        "use input_shape=..., or Input(batch_shape=...) before it",
    ),
    "lora_rank": ((None,), "use LoRA(layer, rank=...)"),
    "lora_alpha": ((None,), "use LoRA(layer, rank=..., alpha=...)"),
    "quantization_config": ((None,), "leave it out: weights are not quantized here"),
    "gptq_unpacked_column_size": (
        (None,),
        "leave it out: weights are not quantized here",
    ),
}


def install() -> None:
    """Installs these tables in modules, layers, models and constructors; refuses Keras's objects.

    A module gets its `__getattr__` (PEP 562) here, since type checkers would accept every name of
    a module that defines one.
    """
    Value.on_foreign = staticmethod(keras_objects.refuse_keras)
    registry.SCHEMA = keras_objects
    Layer.attribute_advice.update(LAYER_ATTRIBUTES)
    Model.attribute_advice.update(MODEL_ATTRIBUTES)
    arguments.ARGUMENT_ALIASES.update(ARGUMENT_ALIASES)
    arguments.IGNORED_ARGUMENTS.update(IGNORED_ARGUMENTS)
    for module, (home, found) in SECOND_NAMES.items():
        for name in found.split():
            setattr(sys.modules[module], name, getattr(home, name))
    for module, names in MISSING_NAMES.items():
        vars(sys.modules[module])["__getattr__"] = _getter(module, names)


def _getter(module: str, names: dict[str, str]) -> Callable[[str], ModuleType]:
    def getter(name: str) -> ModuleType:
        if (module, name) == ("fnn", "wrappers"):
            import fnn.wrappers  # now, since it needs scikit-learn

            return fnn.wrappers
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        message = f"{module}.{name} is not available: {names[name]}"
        if _imports_a_name(sys._getframe(1)):
            raise ImportError(message, name=module)
        # Without `obj`, since Python would append a suggestion of its own.
        raise AttributeError(message, name=name)

    return getter


def _imports_a_name(frame: FrameType) -> bool:
    """Whether a frame is at `from module import name`.

    There Python replaces an AttributeError by an ImportError without its message.
    """
    code = frame.f_code.co_code[frame.f_lasti]
    return dis.opname[code] == "IMPORT_FROM"
