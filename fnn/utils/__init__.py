"""Utilities with Keras's names."""

from fnn.backend import is_keras_tensor, standardize_dtype
from fnn.config import (
    disable_interactive_logging,
    enable_interactive_logging,
    is_interactive_logging_enabled,
)
from fnn.core.config import deserialize_keras_object, serialize_keras_object
from fnn.core.registry import (
    CustomObjectScope,
    custom_object_scope,
    get_custom_objects,
    get_registered_name,
    get_registered_object,
    register_keras_serializable,
)
from fnn.data.images import array_to_img, img_to_array, load_img, save_img
from fnn.runtime.session import (
    clear_session,
    set_program_cache_size,
    set_random_seed,
)
from fnn.utils import bounding_boxes
from fnn.utils.arrays import normalize, pad_sequences, to_categorical
from fnn.utils.batches import (
    get_source_inputs,
    pack_x_y_sample_weight,
    unpack_x_y_sample_weight,
)
from fnn.utils.feature_space import FeatureSpace
from fnn.utils.files import get_file
from fnn.utils.folders import (
    audio_dataset_from_directory,
    image_dataset_from_directory,
    text_dataset_from_directory,
)
from fnn.utils.options import Config
from fnn.utils.parts import split_dataset, timeseries_dataset_from_array
from fnn.utils.plots import model_to_dot, plot_model
from fnn.utils.progress_bar import Progbar
from fnn.utils.streams import PyDataset, Sequence

__all__ = [
    "Config",
    "CustomObjectScope",
    "FeatureSpace",
    "Progbar",
    "PyDataset",
    "Sequence",
    "array_to_img",
    "audio_dataset_from_directory",
    "bounding_boxes",
    "clear_session",
    "custom_object_scope",
    "deserialize_keras_object",
    "disable_interactive_logging",
    "enable_interactive_logging",
    "get_custom_objects",
    "get_file",
    "get_registered_name",
    "get_registered_object",
    "get_source_inputs",
    "image_dataset_from_directory",
    "img_to_array",
    "is_interactive_logging_enabled",
    "is_keras_tensor",
    "load_img",
    "model_to_dot",
    "normalize",
    "pack_x_y_sample_weight",
    "pad_sequences",
    "plot_model",
    "register_keras_serializable",
    "save_img",
    "serialize_keras_object",
    "set_program_cache_size",
    "set_random_seed",
    "split_dataset",
    "standardize_dtype",
    "text_dataset_from_directory",
    "timeseries_dataset_from_array",
    "to_categorical",
    "unpack_x_y_sample_weight",
]
