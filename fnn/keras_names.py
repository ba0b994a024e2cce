"""Keras's names that fnn does not have, with their replacements; and its arguments without use."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from fnn.core import fields
from fnn.core.layer import Layer
from fnn.models import Model

NOT_YET = "not written yet"
CONFIG = "one pair for all values: `fnn.core.config.to_config` and `from_config`"
OTHERS = "wraps an object of another framework: here a class with `init` and `apply` is a layer"
FUNCTION = "the function of the loss: `fnn.losses` has it by the same name"
PAST = "what Keras keeps of its own past"
CUSTOM = "`fnn.register`, or the argument `custom_objects` of `fnn.load`"
PRECISION = 'the argument `dtype="bfloat16"` of a layer; weights stay float32'
SYMBOLS = (
    "`Input` and layers called on it make a graph; its value is a `fnn.layers.Graph`"
)
BASES = "in its own module: `fnn.losses.Loss`, `fnn.metrics.Metric` and so on"
PICTURES = "`np.asarray(PIL.Image.open(path))` and `PIL.Image.fromarray`"
READING = f"{NOT_YET}: `fit` takes a function that yields batches"
LOGGING = "the argument `verbose` of `fit`, `evaluate` and `predict`"
BATCH = "a batch is the tuple `(x, y, sample_weight)` itself"


def _all(names: str, reason: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), reason)


_PAIR = _all("serialize deserialize", CONFIG)
_REGISTRY = _all(
    "CustomObjectScope custom_object_scope get_custom_objects", CUSTOM
) | _all(
    "deserialize_keras_object get_registered_name get_registered_object serialize_keras_object",
    CONFIG,
)
_SHORT = {
    "MSE": "`mean_squared_error` or `mse`",
    "MAE": "`mean_absolute_error` or `mae`",
    "MAPE": "`mean_absolute_percentage_error` or `mape`",
    "MSLE": "`mean_squared_logarithmic_error` or `msle`",
    "KLD": "`kl_divergence` or `kld`",
    "kullback_leibler_divergence": "`kl_divergence` or `kld`",
    "logcosh": "`log_cosh`",
}

# By module: names -> what to use. Those that Keras has now stand in the README, too.
ABSENT: dict[str, dict[str, str]] = {
    "fnn": {
        "backend": "the backend is JAX itself: `jax` and `jax.numpy`",
        "config": "`jax.config`, and the arguments of each layer",
        "applications": "`fnn.networks`, functions that return a network; without trained weights",
        "preprocessing": "`fnn.utils.pad_sequences` for sequences; NumPy for all else",
        "Variable": "a leaf of `params`, which `init` of a layer returns",
        "InputSpec": "a layer checks its inputs in `init`",
        "device": "`jax.default_device`",
        "distillation": "a pure step for `fnn.training.fit`",
        "export": f"{NOT_YET}: `jax.export` takes the `apply` of a network",
        "legacy": PAST,
        "name_scope": "`jax.named_scope`; layers are named by their parents",
        "tree": "`jax.tree`",
        "version": "`fnn.__version__`",
        "load_model": "`fnn.load`",
        **_all("Initializer Loss Metric Optimizer Regularizer", BASES),
        **_all(
            "mixed_precision dtype_policies DTypePolicy FloatDTypePolicy", PRECISION
        ),
        **_all("Function KerasTensor Operation", SYMBOLS),
        **_all("RematScope remat", "`fnn.layers.Remat(layer)`, or `jax.checkpoint`"),
        **_all(
            "StatelessScope SymbolicScope",
            "every layer is a pure pair of `init` and `apply`",
        ),
        **_all("Quantizer quantizers wrappers", NOT_YET),
    },
    "fnn.layers": {
        **_all(
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
        **_all("FlaxLayer JaxLayer TFSMLayer TorchModuleWrapper", OTHERS),
        "InputLayer": "`Input` is no layer here",
        "InputSpec": "a layer checks its inputs in `init`",
        "Wrapper": "no base class: a wrapper is a layer with a layer among its fields",
        **_PAIR,
    },
    "fnn.activations": _PAIR,
    "fnn.initializers": _PAIR,
    "fnn.regularizers": _PAIR,
    "fnn.constraints": _PAIR,
    "fnn.schedules": _PAIR,
    "fnn.losses": _SHORT | _PAIR,
    "fnn.metrics": {
        **_all(
            "binary_crossentropy binary_focal_crossentropy categorical_crossentropy "
            "categorical_focal_crossentropy categorical_hinge hinge huber kl_divergence log_cosh "
            "mean_absolute_error mean_absolute_percentage_error mean_squared_error "
            "mean_squared_logarithmic_error poisson sparse_categorical_crossentropy squared_hinge",
            FUNCTION,
        ),
        **_PAIR,
    },
    "fnn.optimizers": {
        "MultiOptimizer": '`ByPath({"encoder/**": Adam(1e-4), "**": SGD()})`, by path',
        "OptimizerMap": "the dict that `ByPath` takes",
        "legacy": PAST,
        **_PAIR,
    },
    "fnn.callbacks": {
        "OrbaxCheckpoint": f"{NOT_YET}: `ModelCheckpoint`, `BackupAndRestore` write files of their "
        "own",
        "RemoteMonitor": "`JSONLogger` writes the same lines into a file, for any sender",
    },
    "fnn.distribution": {
        "distribute_tensor": "`jax.device_put` with a `jax.sharding.NamedSharding`",
        "get_device_count": "`jax.device_count`",
        "initialize": "`jax.distributed.initialize`",
        "list_devices": "`jax.devices`",
        **_all(
            "DataParallel DeviceMesh LayoutMap ModelParallel TensorLayout distribution "
            "set_distribution",
            f"{NOT_YET}: arrays that `jax.device_put` divides stay divided",
        ),
    },
    "fnn.models": {
        "clone_model": "`fnn.Model(model.layer)`: an equal network with weights of its own",
        "model_from_json": CONFIG,
    },
    "fnn.saving": {
        "KerasFileEditor": "a saved model is a zip of JSON and safetensors",
        **_REGISTRY,
    },
    "fnn.datasets": {
        "california_housing": "`sklearn.datasets.fetch_california_housing`",
        **_all("boston_housing cifar10 cifar100 imdb reuters", NOT_YET),
    },
    "fnn.utils": {
        "Progbar": f"`fit` draws its own: {LOGGING}",
        "get_file": "`urllib.request.urlretrieve`",
        "legacy": PAST,
        "split_dataset": "the argument `validation_split` of `fit`, or slices of the arrays",
        "standardize_dtype": "`jnp.dtype(dtype).name`",
        **_all("PyDataset Sequence", "any object with `__len__` and `__getitem__`"),
        **_all("Config FeatureSpace bounding_boxes", NOT_YET),
        **_all("array_to_img img_to_array load_img save_img", PICTURES),
        **_all(
            "audio_dataset_from_directory image_dataset_from_directory "
            "text_dataset_from_directory timeseries_dataset_from_array",
            READING,
        ),
        **_all(
            "disable_interactive_logging enable_interactive_logging is_interactive_logging_enabled",
            LOGGING,
        ),
        **_all("get_source_inputs is_keras_tensor", SYMBOLS),
        **_all("model_to_dot plot_model", "`model.summary()`"),
        **_all("pack_x_y_sample_weight unpack_x_y_sample_weight", BATCH),
        **_REGISTRY,
    },
}
ABSENT["fnn.metrics"] |= {
    name: f"{reason} of `fnn.losses`" for name, reason in _SHORT.items()
}


# Attributes that Keras has on layers and on models, and what to do here.
_WEIGHTS = (
    "a layer holds no weights; use layer.get_weights(), or model.params for all by name"
)
_AS_CONFIG = "use fnn.core.config.to_config of a layer, or model.save"
_AUXILIARY = "return it from apply, among the state, under the name aux_loss"
LAYER_ATTRIBUTES = {
    **dict.fromkeys(("weights", "variables", "kernel", "bias", "embeddings"), _WEIGHTS),
    **dict.fromkeys(("trainable_weights", "trainable_variables"), _WEIGHTS),
    **dict.fromkeys(("non_trainable_weights", "non_trainable_variables"), _WEIGHTS),
    "get_config": _AS_CONFIG,
    **dict.fromkeys(
        ("input", "output", "get_weights", "set_weights", "count_params"),
        "it stands in no model that has weights; put it into one",
    ),
    "add_weight": "return the weights of a layer of yours from its init",
    "add_loss": _AUXILIARY,
}
MODEL_ATTRIBUTES = {
    "variables": "use model.weights",
    "trainable_variables": "use model.trainable_weights",
    "non_trainable_variables": "use model.non_trainable_weights",
    **dict.fromkeys(("get_config", "to_json"), _AS_CONFIG),
    **dict.fromkeys(("losses", "add_loss", "add_metric"), _AUXILIARY),
    "compute_loss": "use fnn.training.fit with a step of yours",
    "export": "use jax.export of model.layer.apply",
    "reset_metrics": "every epoch begins with sums of zero",
}


# Arguments of Keras's layers that are another word for a field: (the field, what it holds then).
OTHER_WORDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "input_dim": ("input_shape", lambda size: None if size is None else (size,)),
    "layer": ("inner", lambda layer: layer),
    "alpha": ("negative_slope", lambda slope: slope),
}
# What changes nothing in a layer: at these values (None: at any), and what to do for another.
IDLE: dict[str, tuple[tuple[Any, ...] | None, str]] = {
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
    """Hands modules, layers, models and constructors what they say of these names.

    Set from here rather than written there: a module with a `__getattr__` (PEP 562) would tell type
    checkers that it has every name.
    """
    Layer.attribute_advice.update(LAYER_ATTRIBUTES)
    Model.attribute_advice.update(MODEL_ATTRIBUTES)
    fields.OTHER_WORDS.update(OTHER_WORDS)
    fields.IDLE.update(IDLE)
    for module, names in ABSENT.items():
        vars(sys.modules[module])["__getattr__"] = _getter(module, names)


def _getter(module: str, names: dict[str, str]) -> Callable[[str], Any]:
    def getter(name: str) -> Any:
        if (
            name in names
        ):  # with a name and no object, or Python adds what it thinks was meant
            raise AttributeError(
                f"{module}.{name} is not here: {names[name]}", name=name
            )
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return getter
