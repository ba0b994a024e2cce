"""The table of layers for the documentation, made from the layers and the catalogue."""

import dataclasses
import re

import jax

import fnn.layers
from fnn.core.calling import weight_spec
from fnn.core.layer import Layer
from fnn.core.tree import flatten
from fnn.testing.comparing import PromiseError
from fnn.testing.examples import a_later_step_changes_nothing_earlier as no_step_looks_ahead
from fnn.testing.subject import Subject, is_float, plain
from tests.helpers.catalogue import CATALOGUE

MASKS = {"pass": "stays on", "use": "is read", "inside": "goes inside", "refuse": "is refused"}
KERAS, LOOP, NUMPY = "Keras", "its definition, as a loop", "NumPy"
# What the numbers are compared to where no row of the catalogue has its twin in Keras.
ORACLES = {
    **dict.fromkeys(("MultiHeadAttention", "GroupedQueryAttention", "Attention"), KERAS),
    **dict.fromkeys(("AdditiveAttention", "EinsumDense", "ActivityRegularization"), KERAS),
    **dict.fromkeys(("SpectralNormalization", "TimeDistributed", "RandomCrop"), KERAS),
    **dict.fromkeys(("Operator", "MatMul", "GetItem", "Wrapper", "JaxLayer"), KERAS),
    **dict.fromkeys(("Pipeline", "RandomCrop"), KERAS),
    **dict.fromkeys(("FlaxLayer", "Training"), LOOP),
    **dict.fromkeys(("Sequential", "Graph", "Parallel", "Residual", "Repeat", "Remat"), LOOP),
    **dict.fromkeys(
        ("InputLayer", "Frozen", "Inference", "Ensemble", "Spread", "MixtureOfExperts"), LOOP
    ),
    **dict.fromkeys(("LoRA", "Reverse", "PositionEmbedding", "SinusoidalPosition"), NUMPY),
    **dict.fromkeys(("RotaryEmbedding", "GatedDense", "Unmask", "Bias"), NUMPY),
    **dict.fromkeys(("Hashing", "HashedCrossing", "IntegerLookup", "StringLookup"), KERAS),
    "TextVectorization": KERAS,
    "Quantized": KERAS,
    **dict.fromkeys(("TransformerEncoderBlock", "TransformerDecoderBlock"), NUMPY),
}
ABOVE = """
A row for layers that are alike. **Mask**: what happens to a mask `(batch, time)` on the inputs: it
stays on the outputs; it is read, and holds; it goes inside, where the parts decide; or it is
refused with an error. **Causal**: no step of the outputs depends on a later step of the inputs,
read forwards (*can be*: by the arguments; nothing where other steps come out than went in).
**Equal to**: what the numbers are compared with, to 1e-5.
"""


def classes():
    """The layers, a class once, by the file that it is in."""
    public = {name: getattr(fnn.layers, name) for name in (*fnn.layers.__all__, "Sequential")}
    own = {thing for thing in public.values() if isinstance(thing, type)}
    found = [
        cls for cls in own if issubclass(cls, Layer) and cls not in (Layer, fnn.layers.Composite)
    ]
    return sorted(found, key=lambda cls: (cls.__module__, cls.__name__))


def rows_of(cls):
    return [case for case in CATALOGUE if type(case.layer) is cls]


def weight_names(case):
    return [path[-1] for part in weight_spec(case.layer, case.x) for path, _ in flatten(part)]


def weights(cls, known):
    """Names of the weights; of a combinator those that are its own."""
    rows = [case for case in rows_of(cls) if not getattr(case.layer, "stateful", False)]
    names = dict.fromkeys(name for case in rows for name in weight_names(case))
    if any(getattr(case.layer, "activity_regularizer", 0) is None for case in rows):
        names.pop("aux_loss", None)  # every layer has that with a penalty on its outputs
    inside = any(case.layer.children() for case in rows_of(cls))
    own = [f"`{name}`" for name in names if not inside or name not in known]
    return ", ".join([*(["those inside"] if inside else []), *own])


def causal(cls):
    """yes, no, can be; nothing where no row has its steps in the outputs."""
    rows = [case for case in rows_of(cls) if case.causal or has_steps(case)]
    verdicts = set()
    for case in sorted(rows, key=lambda case: not case.causal):  # first those known without a run
        if len(verdicts) < 2:
            verdicts.add(looks_back_only(case))
    verdict = {(): "", (True,): "yes", (False,): "no"}.get(tuple(verdicts), "can be")
    return (
        "as inside" if verdict in ("", "yes") and all(map(takes_layers, rows_of(cls))) else verdict
    )


def takes_layers(case):
    """Whether its fields hold layers that a user gave it."""
    fields = [getattr(case.layer, field.name) for field in dataclasses.fields(case.layer)]
    return any(isinstance(value, Layer) for value in jax.tree.leaves(fields))


def has_steps(case):
    """Whether the outputs have the steps of the inputs, one of them or several, in their order."""
    first, *others = plain(case.x)
    last = getattr(case.layer, "data_format", None) != "channels_first"
    forwards = not getattr(case.layer, "go_backwards", False)
    sequence = first.ndim == (3 if is_float(first) else 2)
    alike = all(x.ndim == 3 and x.shape[1] in (1, first.shape[1]) for x in others)
    if not (last and forwards and sequence and alike):
        return False
    y, _ = jax.eval_shape(case.run, *weight_spec(case.layer, case.x), case.x)
    return plain(y)[0].shape[1:2] == first.shape[1:2]


def looks_back_only(case):
    if case.causal:
        return True  # test_catalogue.py checks that
    subject = Subject(case.layer, case.x, case.key, causal=True)
    subject.weights = case.weights
    try:
        no_step_looks_ahead(subject)
    except PromiseError:
        return False
    return True


def oracle(cls):
    live = any(case.keras is not None for case in rows_of(cls))
    return KERAS if live else ORACLES.get(cls.__name__, "")


def section():
    """The part of the page of layers."""
    simple = [case for case in CATALOGUE if not case.layer.children()]
    known = {name for case in simple for name in weight_names(case)}
    groups = {}
    for cls in classes():
        mask = " or ".join(dict.fromkeys(MASKS[case.layer.masking] for case in rows_of(cls)))
        alike = cls.__module__, weights(cls, known), mask, causal(cls), oracle(cls)
        groups.setdefault(alike, []).append(cls.__name__)
    lines = [ABOVE, "| layer | weights and state | mask | causal | equal to |"]
    lines += ["|---|---|---|---|---|"]
    for (_, *cells), names in groups.items():
        lines += [f"| {' | '.join([joined(names), *cells])} |"]
    return "\n".join([*lines, "", ""])


def joined(names):
    """Conv1D, Conv2D, Dense -> Conv1D/2D, Dense."""
    sizes = {}
    for name in names:
        before, size, after = re.fullmatch(r"(.*?)([123]D|$)(.*)", name).groups()
        sizes.setdefault((before, after), []).append(size)
    return ", ".join(
        f"{before}{'/'.join(found)}{after}" for (before, after), found in sizes.items()
    )
