"""Labels and targets keep the shape that the source gave; splits and the fingerprint see past it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from search import data
from search.data.splits import fingerprint
from search.data.targets import label_numbers
from search.spec.settings import DataSection

ROWS = 100
X = np.random.default_rng(0).normal(size=(ROWS, 3)).astype("float32")
TWO, FOUR = np.arange(ROWS) % 2, np.arange(ROWS) % 4


def load(folder: Path, **more):
    return data.load(DataSection(**{"source": "d.npz", "test": 0, **more}), folder, 0)


def of(folder: Path, y, **more):
    np.savez(folder / "d.npz", x=X, y=y)
    return load(folder, **more)


@pytest.mark.parametrize(
    ("y", "more", "shape", "dtype"),
    [
        (TWO, {}, (), "int32"),
        (TWO[:, None], {}, (1,), "int32"),
        (TWO.astype("float64"), {}, (), "float32"),
        (TWO[:, None] == 1, {}, (1,), "int32"),
        (np.eye(2)[TWO], {}, (2,), "float32"),
        (FOUR.astype("uint8")[:, None], {}, (1,), "int32"),
        (np.eye(4, dtype="int8")[FOUR], {}, (4,), "int32"),
        (np.eye(4)[FOUR], {}, (4,), "float32"),
        (np.array(["a", "b", "c", "d"])[FOUR], {}, (), "int32"),
        (np.array([["a"], ["b"]])[TWO], {}, (1,), "int32"),
        (FOUR * 10 - 10 * (FOUR == 0), {"task": "regression"}, (), "float32"),
        (X[:, 0], {}, (), "float32"),
        (X[:, :1], {}, (1,), "float32"),
        (X[:, :2], {}, (2,), "float32"),
        ((X > 0).astype(int), {"task": "regression"}, (3,), "float32"),
        (np.eye(4)[FOUR], {"task": "regression"}, (4,), "float32"),
    ],
)
def test_arrays_of_the_users_own_keep_the_shape_of_their_labels(tmp_path, y, more, shape, dtype):
    loaded = of(tmp_path, y, **more)
    for part in (loaded.y_train, loaded.y_validation):
        assert (part.shape[1:], part.dtype) == (shape, dtype)
        assert part.flags.c_contiguous


@pytest.mark.parametrize(
    ("source", "shape"),
    [("breast_cancer", (1,)), ("diabetes", (1,)), ("iris", ()), ("digits", ())],
)
def test_named_data_have_a_column_for_models_of_one_output(tmp_path, source, shape):
    assert load(tmp_path, source=f"sklearn:{source}").y_train.shape[1:] == shape


def test_columns_of_a_csv_are_columns_for_models_of_one_output(tmp_path):
    columns = {
        "two": [str(n % 2) for n in range(ROWS)],
        "three": ["xyz"[n % 3] for n in range(ROWS)],
        "b": [str(b) for b in X[:, 1]],
    }
    shapes = {}
    for target, cells in columns.items():
        rows = [f"{a},{cell}" for a, cell in zip(X[:, 0], cells, strict=True)]
        (tmp_path / "d.csv").write_text("\n".join([f"a,{target}", *rows]))
        shapes[target] = load(tmp_path, source="d.csv", target=target).y_train.shape[1:]
    assert shapes == {"two": (1,), "three": (), "b": (1,)}


def test_a_function_of_the_users_own_keeps_its_shapes_whatever_the_splits_have(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n\ndef rows():\n    x = np.arange(80.0).reshape(40, 2)\n    y = np.arange(40) % 2\n"
        "    return (x, y[:, None]), (x, y)\n"
    )
    assert load(tmp_path, source="mine.py:rows").y_train.shape[1:] == (1,)


@pytest.mark.parametrize(
    "y", [TWO, TWO[:, None], np.eye(4)[FOUR], np.eye(4, dtype=int)[FOUR], FOUR, X[:, 0], X[:, :1], X[:, :2]]
)
def test_fingerprint_is_that_of_labels_as_they_always_were(tmp_path, y):
    """So that a study of an older version goes on: whole numbers (rows,) for classes, numbers without a column of one."""
    loaded = of(tmp_path, y)
    arrays = {"x_train": loaded.x_train, "x_validation": loaded.x_validation}
    for split, handed in (("train", loaded.y_train), ("validation", loaded.y_validation)):
        if loaded.info.classes:
            arrays[f"y_{split}"] = label_numbers(handed).astype(np.int32)
        else:
            arrays[f"y_{split}"] = handed[:, 0] if handed.shape[1:] == (1,) else handed
    assert fingerprint(arrays) == loaded.fingerprint


def test_rows_and_labels_belong_together_in_every_shape(tmp_path):
    order = np.random.default_rng(1).permutation(ROWS)
    x = FOUR[order][:, None].astype("float32") + np.array([0.0, 10.0])
    for y in (FOUR[order], FOUR[order][:, None], np.eye(4)[FOUR[order]], FOUR[order] * 5 + 3.0):
        np.savez(tmp_path / "d.npz", x=x, y=y)
        loaded = load(tmp_path, test=0.2)
        assert (loaded.x_train[:, 0] == label_numbers(loaded.y_train)).all()
        assert (loaded.x_validation[:, 0] == label_numbers(loaded.y_validation)).all()
