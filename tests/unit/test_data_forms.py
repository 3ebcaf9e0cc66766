"""What data functions return: every form that people know is taken, or refused with what to write instead."""

from __future__ import annotations

import numpy as np
import pandas as pd
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
        (
            "{'x': x, 'y': y, 'sample_weights_': i}",
            ("unknown key 'sample_weights_'", "sample_weight for weights of rows"),
        ),
        ("{'x': x, 'y': y, 'w': i, 'weights': i}", ("has both w and weights", "keep one")),
        ("{'x': x, 'y': y, 'groups': i}", ("unknown key 'groups'", "known are x, x_train", "remove it")),
        ("{'x': x, 'y': y, 'x_more': i}", ("unknown key 'x_more'", "x_NAME")),
        ("{'x': x, 'y': y, 'feature_names': ['a', 'b']}", ("unknown key 'feature_names'",)),
        ("(x, y, x)", ("received 3 values", "not one weight a row", "(x, y, weights)")),
        ("(x, y, i[:9])", ("received 3 values", "not one weight a row")),
        ("((x, y), (x, y), (x, y))", ("three pairs", "x_validation")),
        ("(x, y, x, y)", ("tuple of 4 values", "return (x, y)")),
        ("[x]", ("list of 1 values", "return (x, y)")),
    ],
)
def test_nothing_that_is_returned_is_dropped_without_a_word(tmp_path, result, words):
    refused(tmp_path, write(tmp_path, f"return {result}"), "mine.py", *words)


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ("pd.DataFrame(x), pd.Series(y).sample(frac=1, random_state=0)", ("x and y have the same index in another order",)),
        ("{'x_train': pd.DataFrame(x), 'y_train': y, 'w_train': pd.Series(1.0 + y, i[::-1])}",
         ("x_train and the weights have the same index", "row 0: 0 and 59")),
        ("{'x': {'a': pd.DataFrame(x), 'b': x}, 'y': {'p': y, 'q': pd.Series(i, i[::-1])}}", ("x['a'] and y['q'] have",)),
    ],
)  # fmt: skip
def test_rows_that_an_index_pairs_otherwise_are_refused(tmp_path, result, words):
    refused(tmp_path, write(tmp_path, f"return {result}"), *words, "reset_index(drop=True)")


def test_rows_are_paired_by_position_where_no_index_says_otherwise(tmp_path):
    body = "f = pd.DataFrame(x).sample(frac=1, random_state=0)\nreturn f, pd.Series(f[1].to_numpy(), f.index)"
    loaded = load(tmp_path, write(tmp_path, body), task="regression", test=0)
    assert (loaded.x_train[:, 1] == loaded.y_train.ravel()).all()
    others = "return pd.DataFrame(x, index=[f'r{k}' for k in i]), pd.Series(y)"
    assert load(tmp_path, write_function(tmp_path, HEAD + others, name="named"), test=0).info.train_rows == 54


@pytest.mark.parametrize("key", ["samples", "z", "class_names", "arr_0"])
def test_array_of_an_npz_that_is_not_known_is_refused_at_once(tmp_path, key):
    np.savez(tmp_path / "d.npz", x=np.arange(9), y=np.arange(9), **{key: np.arange(9)})
    with pytest.raises(DataError, match=f"unknown key '{key}'"):
        data.check(DataSection(source="d.npz"), tmp_path)


# ---------------------------------------------------------------- several inputs and outputs


@pytest.mark.parametrize(
    ("result", "inputs", "outputs"),
    [
        ("[x, i], y", {"0": ((2,), "float32"), "1": ((1,), "int32")}, [""]),
        ("(x, x, i), y", {"0": ((2,), "float32"), "1": ((2,), "float32"), "2": ((1,), "int32")}, [""]),
        ("{'a': x, 'b': i}, y", {"a": ((2,), "float32"), "b": ((1,), "int32")}, [""]),
        ("{'a': x}, y", {"a": ((2,), "float32")}, [""]),
        ("x, [y, i / 7]", {}, ["0", "1"]),
        ("x, {'kind': y, 'size': i / 7}", {}, ["kind", "size"]),
        ("[x, i], [y, i / 7]", {"0": ((2,), "float32"), "1": ((1,), "int32")}, ["0", "1"]),
        ("{'x_a': x, 'x_b': i, 'y': y}", {"a": ((2,), "float32"), "b": ((1,), "int32")}, [""]),
        ("{'x': x, 'y_kind': y, 'y_size': i / 7}", {}, ["kind", "size"]),
        ("{'x_train_a': x, 'x_train_b': i, 'y_train': y, 'x_test_a': x, 'x_test_b': i, 'y_test': y}",
         {"a": ((2,), "float32"), "b": ((1,), "int32")}, [""]),
        ("(x, i), (y, i / 7)", {"0": ((2,), "float32"), "1": ((1,), "int32")}, ["0", "1"]),
        ("{'a': (i % 5).astype('uint8'), 'b': i % 2 == 0}, y", {"a": ((1,), "uint8"), "b": ((1,), "bool")}, [""]),
        ("{'a': i * 10**10, 'b': x}, y", {"a": ((1,), "int64"), "b": ((2,), "float32")}, [""]),
    ],
)  # fmt: skip
def test_several_inputs_and_outputs_keep_their_names_and_dtypes(tmp_path, result, inputs, outputs):
    loaded = load(tmp_path, write(tmp_path, f"return {result}"))
    assert dict(loaded.info.inputs) == inputs
    assert list(loaded.info.targets) == (outputs if outputs != [""] else [])
    for name in outputs:
        head = loaded.output(name)
        of = head.info
        assert (of.task, of.classes) == (("regression", 0) if name in ("1", "size") else ("binary", 2)), name
        assert len(head.y_train) == loaded.info.train_rows
    # Rows stay together: i is x * 7 in every one, and y is i % 2.
    for split in ("train", "validation"):
        x, y = getattr(loaded, f"x_{split}"), getattr(loaded, f"y_{split}")
        given = list(x.values()) if isinstance(x, dict) else list(x) if isinstance(x, tuple) else [x]
        targets = list(y.values()) if isinstance(y, dict) else list(y) if isinstance(y, tuple) else [y]
        rows = next((array[:, 1] for array in given if array.shape[1:] == (2,)), None)
        if rows is None:
            continue
        assert np.array_equal(targets[0].reshape(-1), rows % 2)
        for array in given:
            if array.dtype == np.int32:
                assert np.array_equal(array[:, 0], rows)
        if len(targets) > 1:
            assert np.allclose(targets[1].reshape(-1), rows / 7)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ("(x, y, i / 60)", lambda i: i / 60),
        ("{'x': x, 'y': y, 'w': i}", lambda i: i),
        ("{'x': x, 'y': y, 'sample_weight': i}", lambda i: i),
        ("{'x': x, 'y': y, 'weights': i.reshape(-1, 1)}", lambda i: i),
        ("{'x_train': x, 'y_train': y, 'w_train': i, 'x_test': x, 'y_test': y, 'w_test': i}", lambda i: i),
        ("((x, y, i), (x, y, i))", lambda i: i),
        ("{'a': x, 'b': i}, y, i", lambda i: i),
        ("x, {'kind': y, 'size': i / 7}, {'kind': i, 'size': i + 1}", lambda i: {"kind": i, "size": i + 1}),
        ("x, {'kind': y, 'size': i / 7}, i", lambda i: i),
    ],
)  # fmt: skip
def test_weights_of_rows_stay_with_their_rows(tmp_path, result, expected):
    loaded = load(tmp_path, write(tmp_path, f"return {result}"))
    for split in ("train", "validation"):
        x, weights = getattr(loaded, f"x_{split}"), getattr(loaded, f"w_{split}")
        rows = (x["a"] if isinstance(x, dict) else x)[:, 1]
        of = expected(rows)
        if isinstance(of, dict):
            assert all(np.allclose(weights[name], values) for name, values in of.items())
        else:
            assert np.allclose(weights, of)
            assert weights.dtype == np.float32


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ("[x, i[:5]], y", ("5 rows of features but 60 labels",)),
        ("{}, y", ("x holds no array",)),
        ("{'a': x, 'b': None}, y", ("x['b'] is None", "give one array")),
        ("{'a': x, 'b': i.astype(str)}, y", ("row 0 of x['b']", "'0' and all other texts are numbers", "as numbers")),
        ("{'a': x, 'b': np.where(i == 3, np.nan, i)}, y", ("row 3 of x['b']", "nan")),
        ("x, {'a': y, 'b': np.where(i == 3, np.nan, i)}", ("row 3 of y['b']", "nan")),
        ("x, {'a': y, 'b': y[:7]}", ("60 rows of features but 7 labels",)),
        ("{'a': x, 'b': 2**63 + i.astype('uint64')}, y", ("x['b']", "beyond int64")),
        ("{'x_train': {'a': x, 'b': i}, 'y_train': y, 'x_test': {'a': x}, 'y_test': y}",
         ("x has a, b in training and a in test",)),
        ("{'x_train': {'a': x, 'b': i}, 'y_train': y, 'x_test': x, 'y_test': y}",
         ("a dictionary of arrays in training and one array in test",)),
        ("x, {'val': y, 'z': i / 7}", ("an output is named 'val'", "rename it")),
        ("x, {'val_price': y, 'price': i / 7}", ("an output is named 'val_price'", "rename it")),
        ("(i, y), (i, y)", ("training and test, or several inputs and outputs", "dictionary")),
        ("x, y, -(i / 60)", ("the weights in", "row 1", "at least 0")),
        ("x, y, i / 0", ("the weights", "finite")),
        ("x, y, i * 0", ("all 0",)),
        ("{'x': x, 'y': y, 'w': i.astype(str)}", ("the weights", "type <U", "give numbers")),
        ("{'x': x, 'y': y, 'w': i[:4]}", ("the weights in train", "shape (4,)", "60 rows")),
        ("{'x_train': x, 'y_train': y, 'w_train': i, 'x_test': x, 'y_test': y}", ("no weights in test", "1 for rows")),
        ("{'x': x, 'y': y, 'w_test': i}", ("weights of the split 'test', which has no rows",)),
        ("x, {'kind': y, 'size': i / 7}, {'kinds': i}", ("the weights of 'kinds'", "there are kind, size")),
        ("x, {'kind': y, 'size': i / 7}, {'kind': i}", ("no weights of size", "one for each")),
    ],
)  # fmt: skip
def test_several_arrays_that_do_not_go_together_are_refused(tmp_path, result, words):
    with np.errstate(divide="ignore"):
        refused(tmp_path, write(tmp_path, f"return {result}"), *words)


def test_settings_of_one_array_are_refused_for_several(tmp_path):
    source = write(tmp_path, "return {'a': x, 'b': i}, {'kind': y, 'size': i / 7}")
    refused(tmp_path, source, "scale", "keras.layers.Normalization", scale="standard")
    refused(tmp_path, source, "window", "several inputs", window=3)
    refused(tmp_path, source, "output 'sizes'", "there are kind, size", task={"sizes": "regression"})
    loaded = load(tmp_path, source, task={"kind": "regression"})
    assert loaded.info.targets["kind"].task == "regression"
    single = write_function(tmp_path, HEAD + "return x, y", name="other")
    refused(tmp_path, single, "one output without a name", task={"kind": "binary"})


def test_an_npz_has_several_inputs_by_its_keys(tmp_path):
    i = np.arange(60)
    np.savez(tmp_path / "d.npz", x_ids=i, x_size=np.stack([i / 7, i], axis=1), y_kind=i % 2, y_size=i / 7, w=i)
    data.check(DataSection(source="d.npz"), tmp_path)
    loaded = load(tmp_path, "d.npz")
    assert list(loaded.info.inputs) == ["ids", "size"]
    assert list(loaded.info.targets) == ["kind", "size"]
    assert np.array_equal(loaded.w_train, loaded.x_train["ids"][:, 0])
    assert load(tmp_path, "d.npz").fingerprint == loaded.fingerprint
    np.savez(tmp_path / "d.npz", x_ids=i, x_size=np.stack([i / 7, i], axis=1), y_kind=i % 2, y_size=i / 7, w=i + 1)
    assert load(tmp_path, "d.npz").fingerprint != loaded.fingerprint


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
        ("pd.DataFrame({'a': i, 'city': [['x']] * 60}), y", ("column 'city'", "cells of type list")),
        ("pd.DataFrame({'a': i, 'b': [1, 'x', 2] * 20}), y", ("row 1 of x", "column 'b'", "'x' (str)", "int, str")),
        ("pd.DataFrame({'a': i, 'b': ['1,5'] * 60}), y", ("column 'b'", "'1,5'", "decimal point")),
        ("pd.DataFrame({'a': i, 'b': x[:, 0] + 1j}), y", ("column 'b'", "complex128")),
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


# ---------------------------------------------------------------- tables among several inputs

TABLE = """
rng = np.random.default_rng(4)
frame = pd.DataFrame({
    "age": rng.normal(40, 9, 60).round(1),
    "plan": rng.choice(["free", "pro"], 60),
    "since": pd.date_range("2024-01-05", periods=60).strftime("%Y-%m-%d"),
    "fold": np.where(np.arange(60) % 3, "train", "val"),
})
frame.loc[::7, "age"] = np.nan
image = rng.integers(0, 256, (60, 4, 5, 3), np.uint8)
y = np.arange(60) % 2
"""


def table_and(folder, result, name="mine"):
    return write_function(folder, f"{TABLE}\nreturn {result}", name=name)


def test_table_beside_an_array_is_encoded_as_a_table_alone(tmp_path):
    alone = load(tmp_path, table_and(tmp_path, "frame, y", "alone"), split="fold", test=0)
    loaded = load(tmp_path, table_and(tmp_path, "{'table': frame, 'image': image}, y"), split="fold", test=0)
    assert alone.info.input_shape == (8,)
    assert loaded.info.inputs == {"table": ((8,), "float32"), "image": ((4, 5, 3), "uint8")}
    for split in ("train", "validation"):
        np.testing.assert_array_equal(getattr(loaded, f"x_{split}")["table"], getattr(alone, f"x_{split}"))
    scope: dict = {"np": np, "pd": pd}
    exec(TABLE, scope)  # noqa: S102 (the code of the data function)
    np.testing.assert_array_equal(loaded.x_validation["image"], scope["image"][::3])
    assert loaded.kinds == alone.kinds == {"age": "number", "plan": "category", "since": "date"}
    assert loaded.columns == alone.columns
    raw = loaded.raw.x_validation
    assert list(raw) == ["age", "plan", "since", "image"]
    assert raw["since"][:2].tolist() == ["2024-01-05", "2024-01-08"]
    tuple_form = load(tmp_path, table_and(tmp_path, "(frame, image), y", "tuple_form"), split="fold", test=0)
    np.testing.assert_array_equal(tuple_form.x_train[0], alone.x_train)
    assert list(tuple_form.raw.x_validation) == ["age", "plan", "since", "1"]


def test_tables_and_texts_and_their_settings_go_together(tmp_path):
    result = (
        "{'who': frame[['age', 'plan']], 'when': frame[['since', 'fold']], 'says': [f'word{i % 7} said' for i in range(60)],"
        " 'size': image[:, 0, 0].astype(float)}, y"
    )
    loaded = load(
        tmp_path, table_and(tmp_path, result), test=0, scale="minmax", text={"output_mode": "count"},
        columns={"category": ("fold",), "drop": ("age",)},
    )  # fmt: skip
    assert loaded.info.inputs["who"] == ((2,), "float32")
    assert loaded.info.inputs["when"] == ((6,), "float32")
    assert loaded.info.inputs["says"] == ((loaded.info.vocabulary_sizes["says"],), "float32")
    assert (loaded.x_train["when"][:, :4].min(), loaded.x_train["when"][:, :4].max()) == (0, 1)
    # Arrays of numbers stay as they are.
    assert loaded.x_train["size"].max() > 100


def test_table_of_numbers_among_several_inputs_stays_an_array(tmp_path):
    loaded = load(tmp_path, table_and(tmp_path, "{'a': pd.DataFrame({'n': y * 5.0, 'm': y}), 'b': image}, y"))
    assert loaded.encodings == {}
    assert loaded.x_train["a"].max() == 5
    assert set(loaded.raw.x_validation) == {"a", "b"}


@pytest.mark.parametrize(
    ("result", "section", "words"),
    [
        ("{'a': frame, 'b': frame}, y", {}, ("'age' is a column of 'a' and a column of 'b'", "rename one")),
        ("{'table': frame, 'plan': image}, y", {}, ("'plan' is a column of 'table' and an input",)),
        ("{'t': frame, 'b': image}, y", {"columns": {"drop": ("agee",)}}, ("columns.drop names 'agee'", "did you mean 'age'?")),
        ("{'t': frame, 'b': image}, y", {"columns": {"number": ("plan",)}}, ("row 0 of x['t']", "column 'plan'", "is no number")),
        ("{'b': image, 'c': y}, y", {"columns": {"drop": ("age",)}}, ("columns is for tables of pandas",)),
        ("{'t': frame[:50], 'b': image}, y", {}, ("50 rows of features but 60 labels",)),
        ("{'t': frame, 'b': image}, y", {"window": 3}, ("window is for one array of features",)),
        ("{'b': image, 'c': y}, y", {"scale": "standard"}, ("with several inputs scale in the model",)),
        ("{'x_train': {'t': frame, 'b': image}, 'y_train': y, 'x_val': {'t': image, 'b': image}, 'y_val': y}", {},
         ("x_val['t'] is no table", "in every split")),
        ("{'x_train': {'t': frame, 'b': image}, 'y_train': y, 'x_val': {'t': frame[['age']], 'b': image}, 'y_val': y}", {},
         ("a split has no column 'plan'",)),
    ],
)  # fmt: skip
def test_tables_among_several_inputs_that_cannot_be_are_refused(tmp_path, result, section, words):
    said = None
    try:
        load(tmp_path, table_and(tmp_path, result), **section)
    except DataError as error:
        said = str(error)
    assert said is not None
    for word in words:
        assert word in said
