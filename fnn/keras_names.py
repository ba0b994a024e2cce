"""Keras names that fnn does not provide, with their replacements, and arguments that it ignores."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NoReturn

from fnn.core import arguments
from fnn.core.layer import Layer
from fnn.models import Model

NOT_YET = "not implemented yet"
CONFIG = "`fnn.core.config.to_config` and `from_config`, for all values"
OTHERS = "a layer is a class with `init` and `apply`; other frameworks' objects are not wrapped"
FUNCTION = "the function of the same name in `fnn.losses`"
LEGACY = "Keras's own legacy code"
CUSTOM = "`fnn.register`, or the argument `custom_objects` of `fnn.load`"
PRECISION = 'the argument `dtype="bfloat16"` of a layer; weights stay float32'
SYMBOLIC = "call layers on an `Input`; the graph that they make is a `fnn.layers.Graph`"
BASES = (
    "the base class in its module: `fnn.losses.Loss`, `fnn.metrics.Metric` and so on"
)
IMAGES = "`np.asarray(PIL.Image.open(path))` and `PIL.Image.fromarray`"
FROM_FILES = f"{NOT_YET}: `fit` takes a function that yields batches"
LOGGING = "the argument `verbose` of `fit`, `evaluate` and `predict`"
BATCH = "a batch is the tuple `(x, y, sample_weight)` itself"


def _for_all(names: str, reason: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), reason)


_SERIALIZATION = _for_all("serialize deserialize", CONFIG)
_REGISTRY = _for_all(
    "CustomObjectScope custom_object_scope get_custom_objects", CUSTOM
) | _for_all(
    "deserialize_keras_object get_registered_name get_registered_object serialize_keras_object",
    CONFIG,
)
_ALIASES = {
    "MSE": "`mean_squared_error` or `mse`",
    "MAE": "`mean_absolute_error` or `mae`",
    "MAPE": "`mean_absolute_percentage_error` or `mape`",
    "MSLE": "`mean_squared_logarithmic_error` or `msle`",
    "KLD": "`kl_divergence` or `kld`",
    "kullback_leibler_divergence": "`kl_divergence` or `kld`",
    "logcosh": "`log_cosh`",
}

# By module: name -> what to use instead. The README lists those that Keras has now.
MISSING_NAMES: dict[str, dict[str, str]] = {
    "fnn": {
        "backend": "the backend is JAX: `jax` and `jax.numpy`",
        "config": "`jax.config`, and the arguments of each layer",
        "applications": "`fnn.networks`, functions that return networks; without trained weights",
        "preprocessing": "`fnn.utils.pad_sequences` for sequences; otherwise NumPy",
        "Variable": "a leaf of `params`, which `init` of a layer returns",
        "InputSpec": "a layer checks its inputs in `init`",
        "device": "`jax.default_device`",
        "distillation": "a pure step for `fnn.training.fit`",
        "export": f"{NOT_YET}: `jax.export` takes the `apply` of a network",
        "legacy": LEGACY,
        "name_scope": "`jax.named_scope`; layers get their names from their parents",
        "tree": "`jax.tree`",
        "version": "`fnn.__version__`",
        "load_model": "`fnn.load`",
        **_for_all("Initializer Loss Metric Optimizer Regularizer", BASES),
        **_for_all(
            "mixed_precision dtype_policies DTypePolicy FloatDTypePolicy", PRECISION
        ),
        **_for_all("Function KerasTensor Operation", SYMBOLIC),
        **_for_all(
            "RematScope remat", "`fnn.layers.Remat(layer)`, or `jax.checkpoint`"
        ),
        **_for_all(
            "StatelessScope SymbolicScope",
            "every layer is a pure pair of `init` and `apply`",
        ),
        **_for_all("Quantizer quantizers wrappers", NOT_YET),
    },
    "fnn.layers": {
        **_for_all(
            "AugMix AutoContrast CategoryEncoding CenterCrop "
            "ContrastLimitedAdaptiveHistogramEqualization CutMix Discretization Equalization "
            "HashedCrossing Hashing IntegerLookup MaxNumBoundingBoxes MelSpectrogram MixUp "
            "Normalization Pipeline RandAugment RandomBrightness RandomColorDegeneration "
            "RandomColorJitter RandomContrast RandomCrop RandomElasticTransform RandomErasing "
            "RandomFlip RandomGaussianBlur RandomGrayscale RandomHue RandomInvert "
            "RandomPerspective RandomPosterization RandomRotation RandomSaturation "
            "RandomSharpness RandomShear RandomTranslation RandomZoom Resizing STFTSpectrogram "
            "Solarization StringLookup TextVectorization",
            NOT_YET,
        ),
        **_for_all("FlaxLayer JaxLayer TFSMLayer TorchModuleWrapper", OTHERS),
        "InputLayer": "`Input`, which is not a layer",
        "InputSpec": "a layer checks its inputs in `init`",
        "Wrapper": "no base class: a wrapper is a layer with a layer among its fields",
        **_SERIALIZATION,
    },
    "fnn.activations": _SERIALIZATION,
    "fnn.initializers": _SERIALIZATION,
    "fnn.regularizers": _SERIALIZATION,
    "fnn.constraints": _SERIALIZATION,
    "fnn.schedules": _SERIALIZATION,
    "fnn.losses": _ALIASES | _SERIALIZATION,
    "fnn.metrics": {
        **_for_all(
            "binary_crossentropy binary_focal_crossentropy categorical_crossentropy "
            "categorical_focal_crossentropy categorical_hinge hinge huber kl_divergence log_cosh "
            "mean_absolute_error mean_absolute_percentage_error mean_squared_error "
            "mean_squared_logarithmic_error poisson sparse_categorical_crossentropy squared_hinge",
            FUNCTION,
        ),
        **_SERIALIZATION,
    },
    "fnn.optimizers": {
        "MultiOptimizer": '`ByPath({"encoder/**": Adam(1e-4), "**": SGD()})`, by path',
        "OptimizerMap": "the dict that `ByPath` takes",
        "legacy": LEGACY,
        **_SERIALIZATION,
    },
    "fnn.callbacks": {
        "OrbaxCheckpoint": f"{NOT_YET}: `ModelCheckpoint` and `BackupAndRestore` have their own "
        "format",
        "RemoteMonitor": "`JSONLogger`, which writes the same data to a file",
    },
    "fnn.distribution": {
        "distribute_tensor": "`jax.device_put` with a `jax.sharding.NamedSharding`",
        "get_device_count": "`jax.device_count`",
        "initialize": "`jax.distributed.initialize`",
        "list_devices": "`jax.devices`",
        **_for_all(
            "DataParallel DeviceMesh LayoutMap ModelParallel TensorLayout distribution "
            "set_distribution",
            f"{NOT_YET}: arrays that `jax.device_put` divides stay divided",
        ),
    },
    "fnn.models": {
        "clone_model": "`fnn.Model(model.layer)`: an equal network with its own weights",
        "model_from_json": CONFIG,
    },
    "fnn.saving": {
        "KerasFileEditor": "a saved model is a zip of JSON and safetensors",
        **_REGISTRY,
    },
    "fnn.datasets": {
        "california_housing": "`sklearn.datasets.fetch_california_housing`",
        **_for_all("boston_housing cifar10 cifar100 imdb reuters", NOT_YET),
    },
    "fnn.utils": {
        "Progbar": f"`fit` has its own: {LOGGING}",
        "get_file": "`urllib.request.urlretrieve`",
        "legacy": LEGACY,
        "split_dataset": "the argument `validation_split` of `fit`, or slices of the arrays",
        "standardize_dtype": "`jnp.dtype(dtype).name`",
        **_for_all("PyDataset Sequence", "any object with `__len__` and `__getitem__`"),
        **_for_all("Config FeatureSpace bounding_boxes", NOT_YET),
        **_for_all("array_to_img img_to_array load_img save_img", IMAGES),
        **_for_all(
            "audio_dataset_from_directory image_dataset_from_directory "
            "text_dataset_from_directory timeseries_dataset_from_array",
            FROM_FILES,
        ),
        **_for_all(
            "disable_interactive_logging enable_interactive_logging is_interactive_logging_enabled",
            LOGGING,
        ),
        **_for_all("get_source_inputs is_keras_tensor", SYMBOLIC),
        **_for_all("model_to_dot plot_model", "`model.summary()`"),
        **_for_all("pack_x_y_sample_weight unpack_x_y_sample_weight", BATCH),
        **_REGISTRY,
    },
}
MISSING_NAMES["fnn.metrics"] |= {
    name: f"{reason} of `fnn.losses`" for name, reason in _ALIASES.items()
}


# Attributes of Keras's layers and models, and what to use instead.
_WEIGHTS = (
    "a layer has no weights; use layer.get_weights(), or model.params for all by name"
)
_AS_CONFIG = "use fnn.core.config.to_config of a layer, or model.save"
_AUXILIARY = "return it from apply, in the state, under the name aux_loss"
LAYER_ATTRIBUTES = {
    **dict.fromkeys(("weights", "variables", "kernel", "bias", "embeddings"), _WEIGHTS),
    **dict.fromkeys(("trainable_weights", "trainable_variables"), _WEIGHTS),
    **dict.fromkeys(("non_trainable_weights", "non_trainable_variables"), _WEIGHTS),
    "get_config": _AS_CONFIG,
    **dict.fromkeys(
        ("input", "output", "get_weights", "set_weights", "count_params"),
        "the layer is in no model that has weights; put it into one",
    ),
    "add_weight": "return the weights from the init of your layer",
    "add_loss": _AUXILIARY,
}
MODEL_ATTRIBUTES = {
    "variables": "use model.weights",
    "trainable_variables": "use model.trainable_weights",
    "non_trainable_variables": "use model.non_trainable_weights",
    **dict.fromkeys(("get_config", "to_json"), _AS_CONFIG),
    **dict.fromkeys(("losses", "add_loss", "add_metric"), _AUXILIARY),
    "compute_loss": "use fnn.training.fit with your own step",
    "export": "use jax.export of model.layer.apply",
    "reset_metrics": "not needed: every epoch starts with reset metrics",
}


def _shape_of_size(size: object) -> tuple[object, ...] | None:
    if size is None:
        return None
    return (size,)


# Arguments of Keras's layers that are other names of fields: (the field, a conversion).
ARGUMENT_ALIASES: dict[str, tuple[str, Callable[[object], object]]] = {
    "input_dim": ("input_shape", _shape_of_size),
    "layer": ("inner", lambda layer: layer),
    "alpha": ("negative_slope", lambda slope: slope),
}
# Arguments without effect: (the values accepted, None for all; what to do for other values).
IGNORED_ARGUMENTS: dict[str, tuple[tuple[object, ...] | None, str]] = {
    "input_length": (None, ""),  # shapes are known from the inputs
    "use_cudnn": (None, ""),  # XLA chooses
    "implementation": (None, ""),
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
    """Installs these tables in modules, layers, models and constructors.

    A module gets its `__getattr__` (PEP 562) here, since type checkers would accept every name of
    a module that defines one.
    """
    Layer.attribute_advice.update(LAYER_ATTRIBUTES)
    Model.attribute_advice.update(MODEL_ATTRIBUTES)
    arguments.ARGUMENT_ALIASES.update(ARGUMENT_ALIASES)
    arguments.IGNORED_ARGUMENTS.update(IGNORED_ARGUMENTS)
    for module, names in MISSING_NAMES.items():
        vars(sys.modules[module])["__getattr__"] = _getter(module, names)


def _getter(module: str, names: dict[str, str]) -> Callable[[str], NoReturn]:
    def getter(name: str) -> NoReturn:
        if name in names:
            # Without `obj`, since Python would append a suggestion of its own.
            raise AttributeError(
                f"{module}.{name} is not available: {names[name]}", name=name
            )
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return getter
