"""Errors that no other test provokes, by subject: each is raised, and what it says is read."""

import json
import zipfile

import jax
import numpy as np
import pytest

import fnn
from fnn import callbacks
from fnn.core.combining import Flow
from fnn.layers import Dense
from fnn.saving.archive import FileError
from fnn.training.checks import TrainingError
from fnn.training.loop import fit

X, Y = np.ones((8, 3), "float32"), np.ones((8, 1), "float32")


def network(**compiled):
    net = fnn.Sequential([Dense(1, input_shape=(3,))], seed=0)
    net.compile("sgd", **{"loss": "mse", **compiled})
    return net


def two_outputs(**compiled):
    x = fnn.Input((3,))
    net = fnn.Model(x, [Dense(1, name="left")(x), Dense(1, name="right")(x)], seed=0)
    net.compile("sgd", **{"loss": "mse", **compiled})
    return net


def train(net, *data, **arguments):
    return net.fit(*data, verbose=0, **arguments)


def subclass(base, method):
    return type("Mine", (base,), {method: lambda self, *given: None})


def progress(y_true, y_pred):
    return y_pred - y_true


def batches(*found):
    return lambda: iter(found)


MODELS = {
    "no layer": (lambda: fnn.Model("dense"), TypeError, "expected a layer, or inputs and outputs"),
    "a combinator without a flow": (
        lambda: type("Empty", (Flow,), {})().init(jax.random.key(0), X),
        TypeError, r"expected Empty to define flow\(x, visit\)",
    ),
    "guard": (lambda: network(guard="stop"), ValueError, 'expected guard "raise", .*\'stop\''),
    "metrics as the third argument": (
        lambda: fnn.Sequential([Dense(1)]).compile("sgd", "mse", ["mae"]),
        ValueError, r"expected loss_weights to be numbers, received .*'mae'.*pass metrics by name",
    ),
    "losses for other outputs": (
        lambda: train(two_outputs(loss={"middle": "mse"}), X, [Y, Y]),
        ValueError, r"expected loss by the names of the outputs \['left', 'right'\].*'middle'",
    ),
    "losses for more outputs": (
        lambda: train(two_outputs(loss=["mse"] * 3), X, [Y, Y]),
        ValueError, "expected loss for 2 outputs .*, received 3; pass one for each",
    ),
    "no loss for any output": (
        lambda: train(two_outputs(loss=[None, None]), X, [Y, Y]),
        ValueError, r"a loss for one of the outputs .*received none; call compile\(loss=",
    ),
}  # fmt: skip

DATA = {
    "targets of one output for two": (
        lambda: train(two_outputs(), X, Y),
        ValueError, "expected y for the 2 outputs .*, received one array; pass a list",
    ),
    "weights twice": (
        lambda: train(network(), X, Y, sample_weight=np.ones(8), class_weight={1: 1.0}),
        ValueError, "expected sample_weight or class_weight, received both",
    ),
    "class weights of two outputs": (
        lambda: train(two_outputs(), X, [Y, Y], class_weight={1: 1.0}),
        ValueError, r"class_weight by the names of the 2 outputs \['left', 'right'\]",
    ),
    "an empty batch": (
        lambda: network().train_on_batch(X[:0], Y[:0]), ValueError, "received an empty batch",
    ),
    "a batch with NaN": (
        lambda: network(checks=False).train_on_batch(np.nan * X, Y),
        TrainingError, "expected a finite loss and finite gradients.*at step 0.*as it was",
    ),
    "no rows in a loop": (
        lambda: fit(lambda *now: now, 0.0, X[:0]), ValueError, "expected data with examples",
    ),
}  # fmt: skip

STREAMS = {
    "targets beside a stream": (
        lambda: train(network(), batches((X, Y)), Y),
        ValueError, r"a stream must bring its own targets and weights, but \['y'\] came beside",
    ),
    "a part of a stream": (
        lambda: train(network(), batches((X, Y)), validation_split=0.5),
        ValueError, "validation_split needs arrays or a stream of fnn.data.*validation_data",
    ),
    "validation that ends": (
        lambda: train(network(), X, Y, validation_data=iter([(X, Y)]), epochs=2),
        ValueError, "validation_data that starts again every epoch, received an iterator",
    ),
    "batches of four": (
        lambda: train(network(), batches((X, Y, Y, Y))),
        ValueError, r"expected batches \(x,\), .*received 4 items",
    ),
    "no batches": (
        lambda: train(network(), batches(None)), TypeError, "received None; check the generator",
    ),
    "another shape later": (
        lambda: train(network(), batches((X, Y), (X, Y[:, 0])), steps_per_epoch=2),
        ValueError, "batch 1 of the stream is .* and the first was .*; give every batch the same",
    ),
    "a larger batch later": (
        lambda: train(network(), batches((X[:4], Y[:4]), (X, Y)), steps_per_epoch=2),
        ValueError, "batch 1 of the stream holds 8 examples and the first held 4; give the largest",
    ),
}  # fmt: skip

CALLBACKS = {
    "an unknown hook": (
        lambda: callbacks.LambdaCallback(on_minute_end=print),
        TypeError, r"LambdaCallback: expected hooks among .*received \['on_minute_end'\]",
    ),
    "no callback": (
        lambda: train(network(), X, Y, callbacks=[print]),
        TypeError, "expected callbacks, received <built-in function print>; subclass",
    ),
    "a metric of no direction": (
        lambda: train(
            network(metrics=[progress]), X, Y, callbacks=[callbacks.EarlyStopping("progress")]
        ),
        ValueError, 'whether more is better, received monitor=\'progress\'; pass mode="min"',
    ),
}  # fmt: skip

CASES = MODELS | DATA | STREAMS | CALLBACKS


@pytest.mark.parametrize("case", CASES)
def test_an_error_says_what_to_do(case):
    run, error, message = CASES[case]
    with pytest.raises(error, match=message):
        run()


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model.fnn"
    network().save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_file_of_another_kind_or_content_is_refused(members, tmp_path):
    import hashlib

    manifest = json.loads(members["manifest.json"])
    bad = b"nothing of tensors"
    sums = {**manifest["sha256"], "weights.safetensors": hashlib.sha256(bad).hexdigest()}
    for manifest_of, tensors, message in (
        ({**manifest, "format": "zip"}, None, "it is not a file of fnn"),
        (manifest, bad, "the checksum of weights.safetensors differs"),
        ({**manifest, "sha256": sums}, bad, "damaged or not a saved model: .*header"),
    ):
        content = {**members, "manifest.json": json.dumps(manifest_of).encode()}
        content["weights.safetensors"] = tensors or members["weights.safetensors"]
        path = tmp_path / "model.fnn"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for name, data in content.items():
                archive.writestr(name, data)
        with pytest.raises(FileError, match=message):
            fnn.load(path)
