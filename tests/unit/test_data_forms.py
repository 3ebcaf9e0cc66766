"""What data functions return: every form that people know is taken, or refused with what to write instead."""

from __future__ import annotations

import numpy as np
import pytest
from data_kit import all_rows, data, load, refused, write_function

from search.errors import DataError
from search.spec.settings import DataSection

HEAD = "i = np.arange(60)\nx = np.stack([i / 7, i], axis=1)\ny = i % 2\n"


def write(path, body: str) -> str:
    return write_function(path, HEAD + body)


# ---------------------------------------------------------------- keys


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ("{'x': x, 'y': y, 'sample_weight': i}", ("unknown key 'sample_weight'", "not supported yet", "class_weight")),
        ("{'x_train': x, 'y_train': y, 'w_train': i}", ("unknown key 'w_train'", "not supported yet")),
        ("{'x': x, 'y': y, 'weights': i}", ("unknown key 'weights'", "class_weight")),
        ("{'x': x, 'y': y, 'groups': i}", ("unknown key 'groups'", "known are x, x_train", "remove it")),
        ("{'x': x, 'y': y, 'feature_names': ['a', 'b']}", ("unknown key 'feature_names'",)),
        ("(x, y, i / 60)", ("received 3 values", "not supported yet")),
        ("((x, y, i), (x, y, i))", ("(x, y, weights)", "not supported yet")),
        ("((x, y), (x, y), (x, y))", ("three pairs", "x_validation")),
        ("(x, y, x, y)", ("tuple of 4 values", "return (x, y)")),
        ("[x]", ("list of 1 values", "return (x, y)")),
    ],
)
def test_nothing_that_is_returned_is_dropped_without_a_word(tmp_path, result, words):
    refused(tmp_path, write(tmp_path, f"return {result}"), "mine.py", *words)


@pytest.mark.parametrize("key", ["sample_weight", "z", "class_names", "arr_0"])
def test_array_of_an_npz_that_is_not_known_is_refused_at_once(tmp_path, key):
    np.savez(tmp_path / "d.npz", x=np.arange(9), y=np.arange(9), **{key: np.arange(9)})
    with pytest.raises(DataError, match=f"unknown key '{key}'"):
        data.check(DataSection(source="d.npz"), tmp_path)


# ---------------------------------------------------------------- several inputs and outputs


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ("[x, i], y", ("x is a list of 2 arrays", "several inputs", "join them")),
        ("(x, i), y", ("x is a tuple of 2 arrays", "several inputs")),
        ("[x, x, x], y", ("x is a list of 3 arrays", "several inputs")),
        ("{'a': x, 'b': i}, y", ("x is a dict", "several inputs")),
        ("x, [y, i]", ("y is a list of 2 arrays", "several outputs", "one output")),
        ("x, (y, i, i)", ("y is a tuple of 3 arrays", "several outputs")),
        ("x, {'a': y, 'b': i}", ("y is a dict", "several outputs")),
        ("[x, i], [y, i]", ("x is a list of 2 arrays", "several inputs")),
        ("[x, i[:5]], y", ("x is a list of 2 arrays", "several inputs")),
    ],
)
def test_several_inputs_or_outputs_are_named_as_such(tmp_path, result, words):
    refused(tmp_path, write(tmp_path, f"return {result}"), *words)


@pytest.mark.parametrize(
    "result",
    [
        "list(x), list(y)",
        "[row.tolist() for row in x], y.tolist()",
        "tuple(x), y",
        "list(x), [np.array([k]) for k in y]",
    ],
)
def test_a_list_of_rows_is_no_list_of_inputs(tmp_path, result):
    assert load(tmp_path, write(tmp_path, f"return {result}")).info.input_shape == (2,)


# ---------------------------------------------------------------- datasets and generators


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("yield x, y", ("received generator", "np.concatenate", "islice")),
        ("return iter([(x, y)])", ("received list_iterator", "return arrays")),
        ("return (row for row in x), y", ("x is generator", "return arrays")),
        ("return x, None", ("y is None",)),
        ("x[0]", ("received NoneType", "no return")),
        ("return {'x': x, 'y': None}", ("y is None",)),
        ("return np.ma.masked_equal(x, 3), y", ("row 3 of x", "masked values")),
    ],
)
def test_what_is_no_array_is_told_how_to_become_one(tmp_path, body, words):
    refused(tmp_path, write(tmp_path, body), *words)


# ---------------------------------------------------------------- pandas and scipy


@pytest.mark.parametrize(
    "frame",
    [
        "{'a': x[:, 0], 'b': i % 3 == 0}",
        "{'a': pd.array(x[:, 0], dtype='Float64'), 'b': pd.array(i % 3 == 0, dtype='boolean')}",
        "{'a': pd.array(i, dtype='Int64'), 'b': x[:, 0]}",
        "{'a': pd.array(i, dtype='UInt8'), 'b': i % 3 == 0}",
        "{'a': pd.Series(i % 4, dtype='Sparse[int]'), 'b': x[:, 0]}",
        "{'a': pd.Series(x[:, 0], dtype='category'), 'b': i}",
        "{'a': np.array([k / 7 for k in i], dtype=object), 'b': i}",
        "{'a': x[:, 0].astype('float32'), 'b': i.astype('int8')}",
    ],
)
def test_columns_of_any_dtype_of_numbers_are_taken(tmp_path, frame):
    source = write(tmp_path, f"f = pd.DataFrame({frame})\nreturn f, y")
    namespace: dict = {}
    exec("import numpy as np, pandas as pd\n" + HEAD + f"f = pd.DataFrame({frame})", namespace)  # noqa: S102 (the test's own text)
    loaded = load(tmp_path, source, test=0)
    expected = namespace["f"].astype("float64").to_numpy().astype("float32")
    assert loaded.x_train.dtype == np.float32
    assert {tuple(row) for row in all_rows(loaded).tolist()} == {tuple(row) for row in expected.tolist()}


def test_dummies_beside_numbers_are_taken(tmp_path):
    body = "f = pd.get_dummies(pd.DataFrame({'size': x[:, 0], 'city': ['a', 'b', 'c'] * 20}))\nreturn f, y"
    loaded = load(tmp_path, write(tmp_path, body))
    assert loaded.info.input_shape == (4,)
    assert (loaded.x_train[:, 1:].sum(axis=1) == 1).all()


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ("pd.Series(y, dtype='Int64')", ("0", "1")),
        ("pd.Series(y == 1, dtype='boolean')", ("False", "True")),
        ("pd.Series(['b', 'a'] * 30, dtype='category')", ("a", "b")),
        ("pd.Series(['b', 'a'] * 30, dtype='string')", ("a", "b")),
        ("pd.DataFrame({'kind': ['b', 'a'] * 30})", ("a", "b")),
        ("pd.DataFrame({'n': pd.array(y, dtype='Int8')})", ("0", "1")),
        ("pd.Categorical(['b', 'a'] * 30)", ("a", "b")),
        ("np.array([True, False] * 30, dtype=object)", ("False", "True")),
    ],
)
def test_labels_of_any_dtype_are_taken(tmp_path, labels, names):
    assert load(tmp_path, write(tmp_path, f"return x, {labels}")).info.class_names == names


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ("pd.DataFrame({'a': i, 'city': ['x'] * 60}), y", ("row 0 of x", "column 'city'", "'x'", "get_dummies")),
        (
            "pd.DataFrame({'a': i, 'b': pd.array([1, None] * 30, dtype='Int64')}), y",
            ("row 1 of x", "feature 'b' is nan"),
        ),
        ("pd.DataFrame({'a': i, 'b': pd.array([True, None] * 30, dtype='boolean')}), y", ("feature 'b' is nan",)),
        ("pd.DataFrame({'a': i, 'd': pd.date_range('2020', periods=60)}), y", ("column 'd'", "Timestamp", "no number")),
        ("pd.DataFrame({'a': i, 'b': [1, 'NA'] * 30}), y", ("row 1 of x", "column 'b'", "missing value")),
        ("pd.DataFrame({'a': i, 'b': ['1,5'] * 60}), y", ("column 'b'", "'1,5'", "decimal point")),
        ("pd.DataFrame({'a': i, 'b': x[:, 0] + 1j}), y", ("column 'b'", "no number")),
        ("x, pd.Series(['a', None, 'b'] * 20)", ("row 1 of y", "missing value")),
        ("x, pd.Series([1, None] * 30, dtype='Int64')", ("label is nan",)),
        ("x, np.array([1, 'a', 2] * 20, dtype=object)", ("row 0 of y", "among texts")),
        ("np.array([x, None], dtype=object), y[:2]", ("row 0 of x", "ndarray")),
    ],
)
def test_columns_that_are_no_numbers_are_named(tmp_path, result, words):
    refused(tmp_path, write(tmp_path, f"return {result}"), *words)


@pytest.mark.parametrize("kind", ["csr_matrix", "csc_array", "coo_matrix"])
def test_sparse_matrices_are_written_out(tmp_path, kind):
    loaded = load(tmp_path, write(tmp_path, f"import scipy.sparse\nreturn scipy.sparse.{kind}(x), y"), test=0)
    assert sorted(all_rows(loaded)[:, 1].tolist()) == list(range(60))


def test_sparse_matrix_that_is_too_large_is_refused(tmp_path):
    body = "import scipy.sparse\nreturn scipy.sparse.csr_matrix((60, 10**9)), y"
    refused(tmp_path, write(tmp_path, body), "sparse matrix of shape (60, 1000000000)", "GiB")


def test_converting_time_is_linear_in_the_columns(tmp_path):
    """100,000 columns of two dtypes took minutes, one assignment each."""
    body = "return pd.concat([pd.DataFrame(np.ones((60, 50_000)) * i[:, None]), pd.DataFrame(np.ones((60, 50_000), bool))], axis=1), y"
    import time

    began = time.process_time()
    assert load(tmp_path, write(tmp_path, body)).info.input_shape == (100_000,)
    assert time.process_time() - began < 20
