"""Frames as arrays: mixed columns of numbers, missing values, strings, series, polars."""

import numpy as np
import pytest

import fnn
from fnn.runtime.frames import array_of_frame

pandas = pytest.importorskip("pandas")
MIXED = pandas.DataFrame({"size": [1.5, 2.0], "new": [True, False], "rooms": [3, 4]})
MISSING = pandas.DataFrame({"a": pandas.array([1, None], "Int64"), "b": [True, False]})


def test_numbers_and_booleans_are_floats():
    found = array_of_frame(MIXED)
    assert found.dtype == "float32"
    np.testing.assert_array_equal(found, [[1.5, 1, 3], [2, 0, 4]])
    np.testing.assert_array_equal(array_of_frame(MISSING), [[1, 1], [np.nan, 0]])
    np.testing.assert_array_equal(array_of_frame(MISSING["a"]), [1, np.nan])


@pytest.mark.slow
def test_other_frames_keep_their_values():
    assert array_of_frame(MIXED[["rooms"]]).dtype == "int64"
    assert array_of_frame(pandas.Series(["a", None], dtype=object)).tolist() == ["a", None]
    polars = pytest.importorskip("polars")
    assert array_of_frame(polars.DataFrame({"a": [1, 2]})).tolist() == [[1], [2]]
    assert array_of_frame(polars.Series(["a", "b"])).tolist() == ["a", "b"]


@pytest.mark.slow
def test_a_model_takes_them_and_names_the_column_of_a_missing_value():
    model = fnn.Sequential([fnn.layers.Dense(1)])
    model.compile("sgd", "mse")
    assert list(model.fit(MIXED, [1.0, 2.0], verbose=0).history) == ["loss"]
    one = fnn.Sequential([fnn.Input((2,)), fnn.layers.Dense(1)])
    one.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"NaN in row 1 of column 'a'"):
        one.predict(MISSING)
