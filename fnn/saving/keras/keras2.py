"""Keras 2: configs of Keras 2 in the form of Keras 3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fnn.core.registry import TABLE
from fnn.saving.keras.operations import HOME, MODULE_OF, class_of
from fnn.saving.keras.structures import Config, as_tensor

# Arguments of layers that had no effect, or were computed from others.
_DROPPED = {
    "BatchNormalization": "fused virtual_batch_size adjustment renorm_clipping",
    "Conv1DTranspose": "groups",
    "Conv2DTranspose": "groups",
    "Conv3DTranspose": "groups",
    "DepthwiseConv1D": "filters groups kernel_initializer kernel_regularizer kernel_constraint",
    "DepthwiseConv2D": "filters groups kernel_initializer kernel_regularizer kernel_constraint",
    "Lambda": "module function_type output_shape_type output_shape_module",
    "MultiHeadAttention": "query_shape key_shape value_shape",
    "SeparableConv1D": "groups kernel_initializer kernel_regularizer kernel_constraint",
    "SeparableConv2D": "groups kernel_initializer kernel_regularizer kernel_constraint",
}
_RENAMED_CLASSES = {"CuDNNLSTM": "LSTM", "CuDNNGRU": "GRU", "Model": "Functional"}

# TensorFlow's functions on tensors of a graph: the function of `fnn.ops`, and the names of the
# arguments there.
_OF_TENSORFLOW = {
    "__operators__.add": "add y:x2",
    "cast": "cast dtype",
    "clip_by_value": "clip clip_value_min:x_min clip_value_max:x_max",
    "concat": "concatenate axis",
    "expand_dims": "expand_dims axis",
    "linalg.matmul": "matmul b:x2",
    "math.abs": "absolute",
    "math.add": "add y:x2",
    "math.divide": "true_divide y:x2",
    "math.exp": "exp",
    "math.greater": "greater y:x2",
    "math.less": "less y:x2",
    "math.log": "log",
    "math.maximum": "maximum y:x2",
    "math.minimum": "minimum y:x2",
    "math.multiply": "multiply y:x2",
    "math.negative": "negative",
    "math.pow": "power y:x2",
    "math.reduce_max": "max axis keepdims",
    "math.reduce_mean": "mean axis keepdims",
    "math.reduce_min": "min axis keepdims",
    "math.reduce_prod": "prod axis keepdims",
    "math.reduce_sum": "sum axis keepdims",
    "math.rsqrt": "rsqrt",
    "math.sigmoid": "sigmoid",
    "math.sqrt": "sqrt",
    "math.square": "square",
    "math.subtract": "subtract y:x2",
    "math.tanh": "tanh",
    "math.truediv": "true_divide y:x2",
    "nn.gelu": "gelu approximate",
    "nn.leaky_relu": "leaky_relu alpha:negative_slope",
    "nn.log_softmax": "log_softmax axis",
    "nn.relu": "relu",
    "nn.relu6": "relu6",
    "nn.silu": "silu",
    "nn.softmax": "softmax axis",
    "nn.softplus": "softplus",
    "reshape": "reshape shape:newshape",
    "squeeze": "squeeze axis",
    "stack": "stack axis",
    "tile": "tile multiples:repeats",
    "transpose": "transpose perm:axes",
    "compat.v1.transpose": "transpose perm:axes",
}


def modern(data: Any) -> Any:
    """A config in the form of Keras 3, whichever version wrote it."""
    if isinstance(data, list):
        return [modern(item) for item in data]
    if not isinstance(data, Mapping):
        return data
    entry = {key: modern(item) for key, item in data.items()}
    if "class_name" not in entry or "config" not in entry:
        return entry
    if isinstance(entry["config"], list) and entry["class_name"] == "Sequential":
        entry["config"] = {"layers": entry["config"]}
    if isinstance(entry["config"], dict):
        entry = _entry(entry)
    return entry


def _entry(entry: Config) -> Config:
    """An object with the names that classes and arguments have in Keras 3."""
    name = _class_name(str(entry["class_name"]))
    config = dict(entry["config"])
    if name == "InputLayer" and "batch_input_shape" in config:
        config["batch_shape"] = config.pop("batch_input_shape")
    for dropped in _DROPPED.get(name, "").split():
        config.pop(dropped, None)
    axis = config.get("axis")
    if name == "BatchNormalization" and isinstance(axis, list) and len(axis) == 1:
        config["axis"] = axis[0]
    own_name = config.get("name")
    if isinstance(own_name, str):
        config["name"] = own_name.replace("/", "_")
    for key, item in config.items():
        if key.endswith("_initializer") and isinstance(item, dict):
            config[key] = _initializer(item)
    layers = config.get("layers")
    if isinstance(layers, list) and name == "Sequential":
        config["layers"] = _started(layers)
    elif isinstance(layers, list) and any(map(_has_old_nodes, layers)):
        config = _graph(config, layers)
    new = {**entry, "class_name": name, "config": config}
    if "batch_input_shape" in config:
        # A row starts with an input layer of this shape.
        new["batch_input_shape"] = config.pop("batch_input_shape")
    return new


def _class_name(name: str) -> str:
    name = _RENAMED_CLASSES.get(name, name)
    # `BatchNormalizationV1`, `LSTMV2`: the versions of TensorFlow.
    if name[-2:] in ("V1", "V2") and ("layer", name[:-2]) in TABLE:
        return name[:-2]
    return name


def _initializer(item: Config) -> Config:
    config = item.get("config")
    if not isinstance(config, dict):
        return item
    kept = {key: value for key, value in config.items() if key != "dtype"}
    return {**item, "config": kept}


def _started(layers: list[Any]) -> list[Any]:
    """The layers of a row, with an input layer first if the first one says its input shape."""
    first: Any = {}
    if layers and isinstance(layers[0], dict):
        first = layers[0]
    config = first.get("config")
    if not isinstance(config, dict) or "batch_input_shape" not in first:
        return layers
    dtype = config.get("dtype")
    if first.get("class_name") == "Embedding":
        dtype = "int32"
    elif not isinstance(dtype, str):
        dtype = "float32"
    start = {"batch_shape": first["batch_input_shape"], "dtype": dtype}
    return [{"class_name": "InputLayer", "config": start}, *layers]


# -- graphs --------------------------------------------------------------------------------------


def _has_old_nodes(entry: Any) -> bool:
    """Whether the calls of a layer are written as lists of inputs."""
    nodes = _nodes_of(entry) or []
    return any(isinstance(node, list) for node in nodes)


def _nodes_of(entry: Any) -> list[Any] | None:
    """The calls of a layer; None if the entry has no list of them."""
    if not isinstance(entry, dict):
        return None
    nodes = entry.get("inbound_nodes")
    if isinstance(nodes, list):
        return nodes
    return None


def _graph(config: Config, layers: list[Any]) -> Config:
    """The config of a graph with the calls of its layers in the form of Keras 3."""
    first = {
        entry.get("name"): _first_call(entry)
        for entry in layers
        if isinstance(entry, dict)
    }
    config = {**config, "layers": [_called(entry, first) for entry in layers]}
    starts, ends = config.get("input_layers"), config.get("output_layers")
    if isinstance(starts, list) and len(starts) == 1 and as_tensor(starts[0]):
        config["input_layers"] = starts[0]
    rows = {e["name"] for e in layers if e.get("class_name") == "Sequential"}
    if isinstance(ends, list):
        outputs = []
        for end in ends:
            if as_tensor(end) and end[0] in rows:
                end = _counted(end, first)
            outputs.append(end)
        config["output_layers"] = outputs
    return config


def _first_call(entry: Config) -> int:
    """The number of the first call of a layer in the graph: 1 for models that have inputs."""
    if entry.get("class_name") == "Functional":
        return 1
    config = entry.get("config")
    if entry.get("class_name") != "Sequential" or not isinstance(config, dict):
        return 0
    layers = config.get("layers") or [{}]
    return int(layers[0].get("class_name") == "InputLayer")


def _counted(tensor: list[Any], first: dict[Any, int]) -> list[Any]:
    """A tensor by the number of the call in the graph, from 0."""
    name, number, index = tensor
    return [name, number - first.get(name, 0), index]


def _called(entry: Any, first: dict[Any, int]) -> Any:
    nodes = _nodes_of(entry)
    if nodes is None:
        return entry
    calls = [_node(node, first) for node in nodes]
    if entry.get("class_name") in ("TFOpLambda", "SlicingOpLambda"):
        return _operation(entry, calls)
    return {**entry, "inbound_nodes": calls}


def _node(node: Any, first: dict[Any, int]) -> Any:
    """A call, `[[layer, call, output, arguments], ...]`, as its arguments."""
    if not isinstance(node, list):
        return node
    inputs: list[Any] = []
    kwargs: Config = {}
    for item in node:
        if not isinstance(item, list) or len(item) not in (3, 4):
            raise ValueError(
                f"expected [layer, call, output] for an input, received {item!r}; the file is "
                "damaged"
            )
        if len(item) == 4 and isinstance(item[3], dict):
            kwargs |= item[3]
        if item[0] == "_CONSTANT_VALUE":
            inputs.append(item[2])
        else:
            inputs.append(_tensor(_counted(item[:3], first)))
    named = {key: _with_tensors(value, first) for key, value in kwargs.items()}
    args = [inputs]
    if len(inputs) == 1:
        args = inputs
    return {"args": args, "kwargs": named}


def _tensor(history: list[Any]) -> Config:
    return {"class_name": "__keras_tensor__", "config": {"keras_history": history}}


def _with_tensors(value: Any, first: dict[Any, int]) -> Any:
    """An argument by name, in which `["dense", 0, 0]` is a tensor."""
    tensor = as_tensor(value)
    if tensor is not None and tensor[0] in first:
        return _tensor(_counted(list(tensor), first))
    if isinstance(value, list):
        return [_with_tensors(item, first) for item in value]
    if isinstance(value, dict):
        return {key: _with_tensors(item, first) for key, item in value.items()}
    return value


def _operation(entry: Config, calls: list[Any]) -> Config:
    """A function of TensorFlow as an operation of Keras 3."""
    function = str(entry["config"].get("function"))
    if entry["class_name"] == "SlicingOpLambda":
        calls = [_slicing(call) for call in calls]
        return _as_operation(entry, "get_item", calls)
    if function not in _OF_TENSORFLOW:
        raise ValueError(
            f"expected functions of TensorFlow that fnn has, received {function} in the layer "
            f"{entry.get('name')!r}; rebuild the network with layers, and load the weights alone"
        )
    name, *arguments = _OF_TENSORFLOW[function].split()
    fields = {}
    for argument in arguments:
        theirs, _, ours = argument.partition(":")
        fields[theirs] = ours or theirs
    changed = []
    for call in calls:
        kwargs = {}
        for key, item in call["kwargs"].items():
            if key in fields:
                kwargs[fields[key]] = item
            elif key != "name" and item is not None:
                raise ValueError(
                    f"expected arguments of {function} that fnn has, received {key}={item!r}"
                )
        changed.append({"args": call["args"], "kwargs": kwargs})
    return _as_operation(entry, name, changed)


def _as_operation(entry: Config, name: str, calls: list[Any]) -> Config:
    return {
        "module": HOME + MODULE_OF.get(name, "numpy"),
        "class_name": class_of(name),
        "config": {},
        "name": entry.get("name"),
        "inbound_nodes": calls,
    }


def _slicing(call: Any) -> Any:
    """The call of `x[...]`, whose slices Keras 2 writes as dicts."""
    spec = call["kwargs"].get("slice_spec")
    if not isinstance(spec, list):
        spec = [spec]
    items = []
    for item in spec:
        if isinstance(item, dict):
            item = {"class_name": "__slice__", "config": item}
        elif item == "Ellipsis":
            item = {"class_name": "__ellipsis__", "config": {}}
        items.append(item)
    return {"args": [call["args"][0], items], "kwargs": {}}
