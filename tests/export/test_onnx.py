"""ONNX: programs in other operations have the same results; ONNX Runtime gives them too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import fnn
from fnn import layers as L
from fnn.export.rewriting import rewritten
from tests.helpers.exported import NETWORKS, dense, numbers

X = np.random.default_rng(0).normal(size=(2, 7, 6, 5, 3)).astype("float32")


def pool(x, window, strides, padding, dilation):
    return lax.reduce_window(
        x, -jnp.inf, lax.max, window, strides, padding, window_dilation=dilation
    )


def convolve(x, order):
    kernel = jnp.asarray(X[0, :3, :3, :3, :])  # (3, 3, 3, 3)
    return lax.conv_general_dilated(x, kernel, (2, 1), "SAME", dimension_numbers=order)


def convolve_volumes(x, strides, gaps, dilation):
    kernel = jnp.asarray(X[0, :3, :2, :3, :])  # (3, 2, 3, 3), one input for each output
    return lax.conv_general_dilated(
        jnp.moveaxis(x, -1, 1),
        kernel[:, :, :, None],
        strides,
        [(2, 1), (0, 1), (1, 1)],
        lhs_dilation=gaps,
        rhs_dilation=dilation,
        dimension_numbers=("NCDHW", "DHWIO", "NDHWC"),
        feature_group_count=3,
    )


FUNCTIONS = {
    "pooling along one axis": lambda x: pool(
        x, (1, 3, 1, 1, 1), (1, 2, 1, 1, 1), "SAME", (1, 2, 1, 1, 1)
    ),
    "pooling along three axes": lambda x: pool(
        x, (1, 2, 3, 2, 1), (1, 2, 1, 3, 1), "SAME", (1,) * 5
    ),
    "pooling of integers": lambda x: lax.reduce_window(
        x.astype("int32"), -(2**31), lax.max, (1, 2, 2, 1, 1), (1,) * 5, "VALID"
    ),
    "padding": lambda x: lax.pad(
        x, 1.5, [(0, 0, 0), (2, 1, 0), (-1, 3, 0), (-1, -2, 0), (0, 0, 0)]
    ),
    "padding between": lambda x: lax.pad(x, 0.0, [(0, 0, 0), (1, 0, 2), *[(0, 0, 0)] * 3]),
    "a kernel with outputs before inputs": lambda x: convolve(
        x[:, :, :, 0], ("NHWC", "HWOI", "NHWC")
    ),
    "a kernel in the usual order": lambda x: convolve(x[:, :, :, 0], ("NHWC", "HWIO", "NHWC")),
    "a convolution of volumes": lambda x: convolve_volumes(x, (2, 1, 1), (1, 1, 1), (2, 1, 1)),
    "a transposed convolution of volumes": lambda x: convolve_volumes(
        x, (1, 1, 1), (3, 2, 1), (1, 1, 1)
    ),
    "calls and loops": lambda x: lax.fori_loop(
        0, 3, lambda i, y: jax.jit(jnp.sin)(y) + i, jax.nn.relu(jax.checkpoint(jnp.cos)(x))
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", FUNCTIONS)
def test_a_rewritten_program_has_the_same_results(case):
    function = FUNCTIONS[case]
    (found,) = rewritten(lambda x: (function(x),))(jnp.asarray(X))
    np.testing.assert_allclose(found, function(jnp.asarray(X)), rtol=1e-6, atol=1e-6)
    names = str(jax.make_jaxpr(rewritten(lambda x: (function(x),)))(X))
    if case == "padding":
        assert "pad[" not in names


def volumes():
    rows = [L.Conv3D(2, 2, 2, "same", activation="tanh", input_shape=(5, 4, 3, 1))]
    rows += [L.Conv3DTranspose(2, 2, 2), L.MaxPooling3D(2)]
    return fnn.Sequential(rows, seed=0), numbers(5, 5, 4, 3, 1)


@pytest.mark.slow
@pytest.mark.parametrize("make", [*NETWORKS, volumes], ids=lambda make: make.__name__)
def test_onnx_runtime_gives_what_predict_gives(make, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("jax2onnx")
    model, x = make()
    model.export(tmp_path / "m.onnx", format="onnx", verbose=False)
    session = runtime.InferenceSession(tmp_path / "m.onnx")
    for count in (1, 5):
        some = jax.tree.map(lambda array: array[:count], x)  # noqa: B023
        names = [one.name for one in session.get_inputs()]
        arrays = jax.tree.leaves(some)
        found = session.run(None, dict(zip(names, arrays, strict=True)))
        wanted = jax.tree.leaves(model.predict(some, verbose=0))
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)


def test_a_file_holds_one_endpoint(tmp_path):
    model, _ = dense()
    archive = fnn.export.ExportArchive("onnx")
    archive.add_endpoint("one", model)
    archive.add_endpoint("two", model)
    with pytest.raises(ValueError, match=r"expected one endpoint.*\['one', 'two'\]"):
        archive.write_out(tmp_path / "m.onnx")


@pytest.mark.slow
def test_an_operation_that_the_format_lacks_is_named(tmp_path):
    pytest.importorskip("jax2onnx")
    model = fnn.Sequential([L.Lambda(jnp.linalg.svd, input_shape=(3, 3))])
    with pytest.raises(ValueError, match=r"svd.*this format lacks"):
        model.export(tmp_path / "m.onnx", format="onnx", verbose=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_jax_is_afterwards_as_it_was(tmp_path):
    pytest.importorskip("jax2onnx")
    before = dict(vars(jnp))
    model, _ = dense()
    model.export(tmp_path / "x.onnx", format="onnx")
    assert [name for name in before if vars(jnp)[name] is not before[name]] == []
    np.testing.assert_allclose(jnp.cumsum(X, 1), X.cumsum(1), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_a_name_that_ends_in_onnx_is_written_as_onnx(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("jax2onnx")
    model, _ = dense()
    model.export(tmp_path / "model.onnx", verbose=False)
    assert onnx.load(tmp_path / "model.onnx").graph.input
    fnn.export.export_model(model, tmp_path / "folder", verbose=False)
    assert (tmp_path / "folder" / "serve.stablehlo").is_file()


def test_another_format_under_the_name_of_onnx_is_refused(tmp_path):
    model, _ = dense()
    with pytest.raises(ValueError, match="expected the name of a folder for format='stablehlo'"):
        model.export(tmp_path / "model.onnx", "stablehlo")
    assert not (tmp_path / "model.onnx").exists()
