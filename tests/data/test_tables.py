"""Tables: CSV files as pandas reads them, in batches, with errors that name file and line."""

import itertools

import numpy as np
import pandas as pd
import pytest

import fnn
from fnn.data import csv

RNG = np.random.default_rng(0)
COUNT = 53


def frame(count=COUNT):
    return pd.DataFrame(
        {
            "city": RNG.choice(["Bonn", 'Say "hi", you', "Köln\nDeutz"], count),
            "age": RNG.integers(0, 99, count),
            "id": RNG.integers(2**33, 2**40, count),
            "height": RNG.normal(size=count).round(3),
            "code": [f"{n:03d}" for n in range(count)],
            "price": RNG.normal(size=count),
            "weight": RNG.uniform(1, 2, count),
        }
    )


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    path = tmp_path_factory.mktemp("tables") / "people.csv"
    frame().to_csv(path, index=False)
    return path


def test_columns_are_those_that_pandas_reads(people):
    x, y, weight = csv(people, "price", sample_weight="weight").read()
    expected = pd.read_csv(people)
    assert list(x) == ["city", "age", "id", "height", "code"]
    assert [x[name].dtype for name in x] == [object, "int32", "int64", "float32", "int32"]
    for name, column in x.items():
        np.testing.assert_array_equal(column, expected[name].to_numpy().astype(column.dtype))
    np.testing.assert_array_equal(y, expected["price"].to_numpy("float32"))
    np.testing.assert_array_equal(weight, expected["weight"].to_numpy("float32"))


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_batches_are_the_rows_in_order(people, batch_size):
    table = csv(people, ["price", "height"], columns=["id", "age"], batch_size=batch_size)
    whole, targets = table.read()
    assert targets.shape == (COUNT, 2)
    for _ in range(2):
        batches = list(table)
        assert [len(y) for _, y in batches[:-1]] == [batch_size] * (len(batches) - 1)
        np.testing.assert_array_equal(np.concatenate([x["id"] for x, _ in batches]), whole["id"])
        np.testing.assert_array_equal(np.concatenate([y for _, y in batches]), targets)


def test_columns_as_one_array(people):
    x, y = csv(people, "price", columns=["height", "age"], as_dict=False).read()
    expected = pd.read_csv(people)[["height", "age"]].to_numpy()
    np.testing.assert_allclose(x, expected, rtol=1e-6)
    assert y.shape == (COUNT,)
    only = csv(people, columns=["age"], as_dict=False).read()
    assert only.shape == (COUNT, 1)


def test_dtypes_by_name(people):
    table = csv(people, columns=["code", "age"], dtypes={"code": object, "age": "float64"})
    x = table.read()
    assert x["code"][:2].tolist() == ["000", "001"]
    assert x["age"].dtype == "float64"


def write(path, content):
    path.write_text(content, encoding="utf-8")
    return path


def test_missing_values(tmp_path):
    path = write(tmp_path / "a.csv", "n,f,s,m\n1,,a,NA\nNA,2.5,,4\n3,nan,NA,-\n")
    x = csv(path, missing=("", "NA", "nan", "-")).read()
    np.testing.assert_array_equal(x["n"], np.array([1, np.nan, 3], "float32"))
    np.testing.assert_array_equal(x["f"], np.array([np.nan, 2.5, np.nan], "float32"))
    assert x["s"].tolist() == ["a", "", "NA"]
    filled = csv(
        path, fill={"n": -1, "f": 0.5, "s": "none", "m": 7}, missing=("", "NA", "nan", "-")
    )
    x = filled.read()
    assert x["n"].tolist() == [1, -1, 3]
    assert x["n"].dtype == x["m"].dtype == "int32"
    assert x["f"].tolist() == [0.5, 2.5, 0.5]
    assert x["s"].tolist() == ["a", "none", "NA"]
    assert x["m"].tolist() == [7, 4, 7]


def test_several_files_one_after_the_other(tmp_path):
    parts = [write(tmp_path / f"{n}.csv", f"a;b\n{n};2\n\n{n};3\n") for n in range(3)]
    x = csv(parts, delimiter=";").read()
    assert x["a"].tolist() == [0, 0, 1, 1, 2, 2]
    bare = write(tmp_path / "bare.csv", "\ufeff1,2\n3,4\n")
    assert csv(bare, names=["a", "b"]).read()["b"].tolist() == [2, 4]


def test_shuffled_rows_come_once_in_a_new_order(people):
    table = csv(people, columns=["code"], batch_size=10, shuffle=20, seed=0)
    passes = [np.concatenate([x["code"] for x in table]).tolist() for _ in range(2)]
    assert passes[0] != passes[1]
    for found in passes:
        assert sorted(found) == list(range(COUNT))
        assert max(n - code for n, code in enumerate(found)) <= COUNT
        assert max(code - n for n, code in enumerate(found)) < 20, "by a buffer of 20"
    again = csv(people, columns=["code"], batch_size=10, shuffle=20, seed=0)
    assert np.concatenate([x["code"] for x in again]).tolist() == passes[0]


@pytest.mark.slow
def test_a_large_file_is_not_read_at_once(tmp_path):
    path = tmp_path / "large.csv"
    with open(path, "w") as file:
        file.write("a\n")
        file.writelines(f"{n}\n" for n in range(200_000))
        file.write("no number\n")
    table = csv(path, batch_size=100)
    assert [x["a"][0] for x in itertools.islice(table, 3)] == [0, 100, 200]
    with pytest.raises(ValueError, match=r"large\.csv, line 200002: expected 'a' as int32"):
        list(table)


@pytest.mark.slow
def test_tables_go_into_fit(people):
    table = csv(people, "price", columns=["age", "height"], sample_weight="weight", batch_size=16)
    inputs = {name: fnn.Input((1,), name=name) for name in ("age", "height")}
    scaled = fnn.layers.Rescaling(0.01)(inputs["age"])
    hidden = fnn.layers.Concatenate()([scaled, inputs["height"]])
    model = fnn.Model(inputs, fnn.layers.Dense(1)(hidden), seed=0)
    model.compile("sgd", "mse")
    history = model.fit(table, epochs=3, verbose=0)
    assert int(model.optimizer.iterations) == 12
    assert history.history["loss"][-1] < history.history["loss"][0]
    x, y, weight = table.read()
    expected = model.evaluate(x, y, sample_weight=weight, verbose=0)
    np.testing.assert_allclose(model.evaluate(table, verbose=0), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (
            "a,b\n1,2\n3\n",
            {},
            r"t\.csv, line 3: expected 2 fields, .*, received 1",
        ),
        (
            "a,b\n1,2\n",
            {"targets": "c"},
            r"t\.csv: expected columns among .*, received 'c'",
        ),
        ("a,b\n1,2\n", {"columns": ["d"]}, "received 'd'"),
        ("a,b\n1,2\n", {"dtypes": {"c": int}}, "dtypes and fill by names among .* received 'c'"),
        ("a,a\n1,2\n", {}, "a different name for each column, received"),
        ("", {}, r"a first line with a different name for each column, received \[\]"),
        ("a,b\n", {}, r"expected rows in .*t\.csv, received none"),
        ("a\nx\n", {"as_dict": False}, r"columns of numbers for as_dict=False, .* \['a'\]"),
        ("a\n1\n", {"batch_size": 0}, "batch_size as a positive integer, received 0"),
        ("a\n1\n", {"sample_weight": "a"}, "csv: expected targets beside sample_weight='a'"),
        (
            "a,b\n1,2\nx,3\n",
            {"dtypes": {"a": int}},
            r"line 3: .*'a' as int64.*dtypes=\{'a': ",
        ),
        ("a,b\n1,2\n,3\n", {"dtypes": {"a": int}}, r"line 3: .*received ''; pass fill=\{'a': 0\}"),
        ("a\n1\n-\n", {"dtypes": {"a": float}}, r"received '-'; pass missing=\[\.\.\., '-'\]"),
    ],
)
def test_errors_name_file_and_line(content, arguments, message, tmp_path):
    path = write(tmp_path / "t.csv", content)
    with pytest.raises(ValueError, match=message):
        csv(path, **arguments).read()


def test_files_must_have_the_same_columns(tmp_path):
    paths = [write(tmp_path / "a.csv", "a\n1\n"), write(tmp_path / "b.csv", "b\n1\n")]
    with pytest.raises(ValueError, match=r"b\.csv: expected the columns \['a'\] of .*a\.csv"):
        csv(paths)
    with pytest.raises(ValueError, match="a file or a list of files, received none"):
        csv([])
    with pytest.raises(FileNotFoundError):
        csv(tmp_path / "none.csv")
