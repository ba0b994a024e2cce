"""Keras's files of models and of weights: `.keras`, `.weights.h5` and legacy `.h5`."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

import jax
import numpy as np

from fnn.core import tree
from fnn.core import weights as weights_of
from fnn.core.registry import is_ours, lookup, snake_case
from fnn.core.tree import Path, SpecTree, Tree
from fnn.core.weights import is_weight
from fnn.runtime.files import write_atomically
from fnn.runtime.warning import warn
from fnn.saving import formats, zips
from fnn.saving.description import Describable
from fnn.saving.formats import Opened
from fnn.saving.keras import hdf5, legacy, vocabularies
from fnn.saving.keras import weights as keras_weights
from fnn.saving.keras.configs import compile_to_keras, network_to_keras
from fnn.saving.keras.hdf5 import Dataset, Group
from fnn.saving.keras.hdf5_writing import to_bytes, verify
from fnn.saving.keras.layout import Holder, holders
from fnn.saving.keras.optimizers import OptimizerState, UnlikeError
from fnn.saving.report import LoadReport
from fnn.saving.tensors import FileError, FilePath, damaged, parse
from fnn.saving.weights import OWN, Weighted, named, take

METADATA, CONFIG = "metadata.json", "config.json"
WEIGHTS = "model" + ".weights.h5"
ASSETS = "assets"
# The version of Keras whose files these are.
KERAS_VERSION = "3.15.1"
# Room for what a file has beside the weights of the network, if it is compressed.
_MOST_BESIDE, _MOST_TIMES = 2**24, 8


class HasSpecs(Protocol):
    """A network: the shapes of its weights."""

    @property
    def weight_specs(self) -> tuple[SpecTree, SpecTree]: ...


class Model(Describable, Weighted, Protocol):
    """A model (`fnn.Model`, which this package must not import)."""

    def get_build_config(self) -> dict[str, Tree] | None: ...


# -- parts of a model ------------------------------------------------------------------------------


def specs_of(model: Any) -> tuple[SpecTree, SpecTree]:
    """The shapes of the weights of a model, in the order of creation."""
    specs: tuple[SpecTree, SpecTree] = model._network.weight_specs
    return specs


def holders_of(model: Any) -> list[Holder]:
    """The objects with weights that Keras has for a model."""
    return holders(model.layer, specs_of(model), model.name)


def optimizer_of(model: Any) -> OptimizerState | None:
    """The state of the optimizer of a compiled model; None if Keras has no such optimizer.

    Warns if Keras has the optimizer, with a state that cannot be converted.
    """
    program = model._program
    if program.arguments is None:
        return None
    program.ensure_optimizer_state()
    params, _ = weights_of.split(model.layer, model.train_state.params)
    shapes: dict[Path, tuple[int, ...]] = {}
    for part, path in weights_of.in_order(model.layer, *specs_of(model)):
        weight: Any = tree.get(params, path)
        if part == "params" and hasattr(weight, "shape"):
            shapes[path] = weight.shape
    try:
        return OptimizerState(program.optimizer, model.train_state.optimizer, shapes)
    except UnlikeError as error:
        warn(f"{error}; it starts afresh: save the model as .fnn to keep it")
    except ValueError:
        pass  # the arguments of compile are left out too, with a warning
    return None


# -- writing ---------------------------------------------------------------------------------------


def _save_keras(model: Model, path: FilePath, overwrite: bool) -> None:
    members: zips.Members = {
        METADATA: _json({"keras_version": KERAS_VERSION, "written_by": "fnn"}),
        # Vocabularies that were learned are assets.
        CONFIG: _json(config_of(model, beside=("learned",))),
        WEIGHTS: to_bytes(
            lambda file: _write_weights(file, model), checksum=False
        ),  # a zip has its own
    }
    for name, data in vocabularies.assets(holders_of(model)).items():
        members[f"{ASSETS}/{name}"] = data
    write_atomically(path, lambda file: zips.write(file, members), overwrite=overwrite)


def _check(model: Model) -> None:
    """Raises ValueError for what a `.keras` file cannot hold of a model."""
    config_of(model, beside=("learned",))
    vocabularies.assets(holders_of(model))


def config_of(model: Model, beside: tuple[str, ...] = ()) -> dict[str, Any]:
    """The config by which Keras makes and compiles a model."""
    config = network_to_keras(model, beside=beside)
    config["compile_config"] = _compile_config(model)
    return config


def _compile_config(model: Model) -> dict[str, Any] | None:
    """The arguments of `compile`; None, with a warning, if Keras lacks one of them."""
    try:
        config = compile_to_keras(model._program.arguments)
    except (TypeError, ValueError) as error:
        reason = f"since Keras has no form for them: {error}"
    else:
        own = sorted(set(_own_classes(config)))
        if not own:
            return config
        reason = f"since Keras does not have {', '.join(own)}"
    warn(
        f"the arguments of compile are left out of the file, {reason}; call compile after "
        "loading, or save the model as .fnn"
    )
    return None


def _own_classes(config: Any) -> Iterator[str]:
    """The classes of fnn in a config."""
    if isinstance(config, dict):
        if str(config.get("module")).partition(".")[0] == "fnn":
            yield str(config.get("class_name"))
        config = list(config.values())
    if isinstance(config, (list, tuple)):
        for item in config:
            yield from _own_classes(item)


def _json(given: dict[str, Any]) -> bytes:
    return json.dumps(given, allow_nan=False).encode()


def _save_weights(model: Model, path: FilePath, overwrite: bool) -> None:
    if os.fspath(path).lower().endswith(".weights.h5"):
        data = to_bytes(lambda file: _write_weights(file, model))
    else:
        data = to_bytes(lambda file: _write_legacy(file, model))
    write_atomically(path, lambda file: file.write(data), overwrite=overwrite)


def _save_hdf5(model: Model, path: FilePath, overwrite: bool) -> None:
    """A legacy file of a whole model."""
    config = config_of(model)
    compiled = config.pop("compile_config")

    def write(file: Any) -> None:
        file.attrs["keras_version"] = KERAS_VERSION.encode()
        file.attrs["backend"] = b"jax"
        file.attrs["model_config"] = _json(config)
        _write_legacy(file.create_group("model_weights"), model)
        if compiled is None:
            return
        file.attrs["training_config"] = _json(_training_config(compiled))
        state = optimizer_of(model)
        if state is not None:
            _warn_of_accumulation(state)
            arrays = {f"variable_{n}": a for n, a in enumerate(state.arrays())}
            legacy.write_list(file.create_group("optimizer_weights"), arrays)

    data = to_bytes(write)
    write_atomically(path, lambda file: file.write(data), overwrite=overwrite)


def _training_config(compiled: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `compile` as legacy files have them."""
    names = ("loss", "metrics", "weighted_metrics", "loss_weights")
    config = {name: compiled.get(name) for name in names}
    config["loss"] = _full_names(config["loss"])
    config["optimizer_config"] = compiled.get("optimizer")
    return config


def _full_names(loss: Any) -> Any:
    """Losses by their full names: Keras does not find "mse" when it reads a legacy file."""
    if isinstance(loss, str):
        found = lookup("loss", loss)
        if is_ours(found):
            return snake_case(found.__name__)
    if isinstance(loss, (list, tuple)):
        return [_full_names(item) for item in loss]
    if isinstance(loss, dict) and "class_name" not in loss:
        return {name: _full_names(item) for name, item in loss.items()}
    return loss


def _on_host(model: Model) -> dict[str, np.ndarray]:
    weights = named(model.train_state)
    return {name: np.asarray(leaf) for name, leaf in weights.items()}


def _write_weights(file: Any, model: Model) -> None:
    found = holders_of(model)
    keras_weights.write(file, found, _on_host(model))
    for holder in found:
        vocabularies.write_weights(file, holder)
    for name, array in model.own_stores().items():
        path, _, own = name.rpartition("/")
        holder = next(h for h in found if "/".join(h.path) == path)
        group = file.require_group(f"{holder.place}/vars".lstrip("/"))
        if own not in group:
            keras_weights.put(group, own, array)
    state = optimizer_of(model)
    if state is not None:
        _warn_of_accumulation(state)
        for place, arrays in state.groups():
            group = file.require_group(f"optimizer/{place}vars")
            for number, array in enumerate(arrays):
                keras_weights.put(group, str(number), array)


def _write_legacy(file: Any, model: Model) -> None:
    layers = legacy.layers_of(model.layer, specs_of(model))
    own = legacy.own_weights(model.layer, specs_of(model), layers)
    file.attrs["keras_version"] = KERAS_VERSION.encode()
    legacy.write(file, layers, own, _on_host(model))


def _warn_of_accumulation(state: OptimizerState) -> None:
    """Warns of what Keras's files do not hold of an optimizer that accumulates gradients."""
    if state.is_within_accumulation:
        warn(
            "the file does not say how many gradients wait in the optimizer, or of how many "
            "updates it has made: training that continues from it differs slightly; save the "
            "model as .fnn to continue exactly"
        )


# -- reading ---------------------------------------------------------------------------------------


def root_of(opened: Opened, model: Any = None) -> Group:
    """The tree of an HDF5 file, or of that in a `.keras` file for `model`."""
    if opened.zip is None:
        root = hdf5.read(opened.file, opened.file.size)
        verify(root, opened.path, opened.file)
        return root
    if WEIGHTS not in opened.zip.names:
        raise damaged(opened.path, f"it has no {WEIGHTS}")
    # Stored weights are not larger than the file; compressed ones could be.
    most = opened.file.size
    if model is not None and model.built:
        needed = tree.nbytes(named(model.train_state))
        most = max(most, _MOST_TIMES * needed + _MOST_BESIDE)
    data = opened.zip.read(WEIGHTS, most)
    return hdf5.read(io.BytesIO(data), len(data))


def _load_weights(
    model: Model,
    opened: Opened,
    skip_mismatch: bool,
    strict: bool,
    by_name: bool = False,
) -> LoadReport:
    root = root_of(opened, model)
    report = load_from(model, root, opened.path, skip_mismatch, strict, by_name)
    if not legacy.is_legacy(root):
        load_optimizer(model, root)
    return report


def load_from(
    model: Model,
    root: Group,
    path: FilePath,
    skip_mismatch: bool = False,
    strict: bool = True,
    by_name: bool = False,
) -> LoadReport:
    """Loads into `model` the weights of a file of Keras; see `fnn.saving.weights.take`."""
    now = named(model.train_state)
    # What a call leaves for the next one is no weight in Keras.
    found: dict[str, Any] = {
        name: leaf
        for name, leaf in now.items()
        if not is_weight(name.rpartition("/")[2])
    }
    if legacy.is_legacy(root):
        layers = legacy.layers_of(model.layer, specs_of(model))
        own = legacy.own_weights(model.layer, specs_of(model), layers)
        try:
            found |= legacy.find(root, layers, own, now, by_name)
        except ValueError as error:
            raise FileError(
                f"expected weights for this model in {path}: {error}"
            ) from error
        if by_name:
            found = {**now, **found}
    elif by_name:
        raise FileError(
            f"expected a legacy file of Keras (.h5) with by_name=True, received {path} in another "
            "layout; leave by_name out"
        )
    else:
        found |= keras_weights.find(root, holders_of(model), now)
        found |= _own_stores(model, root)

    def load(names: Iterable[str]) -> dict[str, np.ndarray]:
        return {name: _value(found[name]) for name in names}

    return take(model, found, load, path, skip_mismatch, strict)


def _value(entry: Any) -> np.ndarray:
    if isinstance(entry, keras_weights.Entry):
        return entry.read()
    if isinstance(entry, jax.ShapeDtypeStruct):
        # Of a model that has no arrays yet: losses and states begin with zeros.
        return np.zeros(entry.shape, entry.dtype)
    return np.asarray(entry)


def _own_stores(model: Model, root: Group) -> dict[str, keras_weights.Entry]:
    """What classes with `save_own_variables` have stored themselves."""
    if not model.stores_own:
        return {}
    found = {}
    for holder, group in keras_weights.with_groups(root, holders_of(model)):
        for name, dataset in group.group("vars").items.items():
            if isinstance(dataset, Dataset):
                own = "/".join((*holder.path, name))
                found[OWN + own] = keras_weights.Entry(dataset)
    return found


def load_optimizer(model: Any, root: Group) -> None:
    """Takes the state of the optimizer from a file; warns if it does not fit, as Keras does."""
    arrays: list[Dataset] | None
    if legacy.is_legacy(root):
        arrays = legacy.optimizer_arrays(root)
    else:
        arrays = _numbered(root.group("optimizer/vars").items)
    state = optimizer_of(model)
    if not arrays or state is None:
        return
    try:
        shapes = [dataset.shape for dataset in arrays]
        state.check(shapes)
        values = [keras_weights.Entry(dataset).read() for dataset in arrays]
        new = state.with_arrays(values)
    except ValueError as error:
        warn(
            "the weights are loaded, but not the state of the optimizer, which starts afresh: that "
            f"in the file does not fit: {error}"
        )
        return
    model.train_state = model.train_state.replace(optimizer=new)


def _numbered(items: Mapping[str, Any]) -> list[Dataset]:
    names = sorted(filter(str.isdigit, items), key=int)
    return [items[name] for name in names if isinstance(items[name], Dataset)]


def read_config(opened: Opened) -> dict[str, Any]:
    """The config of a `.keras` file."""
    assert opened.zip is not None
    return parse(opened.zip.read(CONFIG))


formats.KERAS.save_model = _save_keras
formats.KERAS.check_model = _check
formats.HDF5.check_model = config_of
formats.KERAS.load_weights = _load_weights
formats.HDF5.save_model = _save_hdf5
formats.HDF5.save_weights = _save_weights
formats.HDF5.load_weights = _load_weights
