"""Whole numbers that float32 can't hold are kept or refused; ordinary data are what they were before."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_kit import all_rows, draw, load, refused, without_remarks, write_function, write_table

from search.data.returned import parts_of
from search.errors import DataError

ROWS = 60
I = np.arange(ROWS)  # noqa: E741
IDS = 20_000_000 + I


def save(path: Path, **arrays: Any) -> None:
    np.savez(path / "d.npz", **arrays)


@pytest.mark.parametrize(
    ("x", "dtype"),
    [
        (IDS, np.int32),
        (-IDS.astype(np.int32), np.int32),
        (IDS.astype(np.uint32), np.int32),
        (np.stack([IDS, I], axis=1), np.int32),
        (IDS.reshape(ROWS, 1, 1), np.int32),
        (3_000_000_001 + I, np.int64),
        ((4_000_000_001 + I).astype(np.uint32), np.int64),
        ((2**53 + 1 + I), np.int64),
        ((2**62 + 1 + I).astype(np.uint64), np.int64),
        (np.where(I == 3, 2**63 - 1, I), np.int64),
    ],
)
def test_whole_features_that_float32_would_change_stay_integers(tmp_path, x, dtype):
    save(tmp_path, x=x, y=I % 2)
    loaded = load(tmp_path, "d.npz", test=0)
    assert loaded.x_train.dtype == loaded.x_validation.dtype == dtype
    assert sorted(all_rows(loaded).ravel().tolist()) == sorted(x.ravel().tolist())


def test_a_split_of_its_own_decides_for_all(tmp_path):
    save(tmp_path, x_train=I, y_train=I % 2, x_test=IDS, y_test=I % 2)
    assert load(tmp_path, "d.npz").x_train.dtype == np.int32


@pytest.mark.parametrize(
    "x",
    [
        2**24 - I,
        2**24 + 2 * I,
        (I * 2**40),
        I.astype(np.uint8),
        I % 2 == 0,
        (IDS + 0.5),
        I * 1e9 / 7,
        1.5e30 + I * 1e25,
        IDS.astype(np.float32),
    ],
)
def test_features_that_float32_holds_or_that_are_measured_become_float32(tmp_path, x):
    save(tmp_path, x=x, y=I % 2)
    loaded = load(tmp_path, "d.npz", test=0)
    assert loaded.x_train.dtype == np.float32
    assert set(all_rows(loaded).ravel()) == set(np.asarray(x, np.float32).ravel())


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (IDS.astype(float), ("row 1 of x", "20000001", "float64", "integers", "standard")),
        (np.stack([I / 7, IDS], axis=1), ("row 1 of x", "20000001", "float64")),
        (-(2.0**53 - I), ("row 1 of x", "-9007199254740991")),
        (1.7e18 + I * 256, ("row 0 of x", "1700000000000000000")),
        (np.uint64(2**63) + I.astype(np.uint64), ("row 0 of x", "beyond int64")),
        ((I[:, None, None] + 2.0**25 * np.ones((2, 3))), ("row 1 of x", "33554433")),
    ],
)
def test_whole_features_that_can_not_be_kept_are_refused(tmp_path, x, words):
    save(tmp_path, x=x, y=I % 2)
    refused(tmp_path, "d.npz", "d.npz", *words)


def test_integers_in_one_split_and_reals_in_another_are_refused(tmp_path):
    save(tmp_path, x_train=IDS, y_train=I % 2, x_test=I / 7, y_test=I % 2)
    refused(tmp_path, "d.npz", "row 1 of x_train", "20000001", "integer")


@pytest.mark.parametrize("x", [IDS, IDS.astype(float), 2**60 + I * 2**40])
def test_scaled_quantities_may_be_of_any_size(tmp_path, x):
    save(tmp_path, x=x, y=I % 2)
    scaled = load(tmp_path, "d.npz", scale="standard", test=0).x_train
    assert scaled.dtype == np.float32
    assert len(np.unique(scaled)) == len(scaled)


@pytest.mark.parametrize("row", ["90071992547409910{i},{half},{kind}", "1000000000000000000000{i},{half},{kind}"])
def test_scaled_columns_beside_reals_may_be_of_any_size(tmp_path, row):
    write_table(tmp_path, "id,size,kind", row)
    loaded = load(tmp_path, "d.csv", target="kind", scale="standard")
    assert np.isfinite(loaded.x_train).all()
    refused(tmp_path, "d.csv", "column 'id'", 'scale = "standard"', target="kind")


@pytest.mark.parametrize("labels", [IDS % 3 + 20_000_001, (IDS % 3 + 20_000_001).astype(float), 2**31 - 1 - I % 3])
def test_large_class_numbers_stay_apart(tmp_path, labels):
    save(tmp_path, x=I / 7, y=labels)
    loaded = load(tmp_path, "d.npz")
    assert loaded.info.class_names == tuple(str(int(label)) for label in np.unique(labels))
    assert set(loaded.y_train) == {0, 1, 2}
    assert loaded.warnings == ()


def test_table_of_whole_columns_keeps_them(tmp_path):
    write_table(tmp_path, "id,n,kind", "{i}0000001,{i},{kind}")
    loaded = load(tmp_path, "d.csv", target="kind", test=0)
    assert loaded.x_train.dtype == np.int32
    assert sorted(all_rows(loaded)[:, 0].tolist()) == [i * 10_000_000 + 1 for i in range(40)]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("2000000{i},{half},{kind}", ("line 3", "column 'id'", "20000001")),
        ("900719925474099{i},{half},{kind}", ("column 'id'", "is a whole number")),
        ("2000000{i}.0,{half},{kind}", ("line 3", "column 'id'", "20000001")),
        ("10000000000000000000000{i},{half},{kind}", ("column 'id'", "is a whole number")),
        ("10000000000000000000000{i},{i},{kind}", ("column 'id'", "is a whole number")),
    ],
)
def test_large_ids_beside_reals_are_refused_with_their_column(tmp_path, row, words):
    write_table(tmp_path, "id,size,kind", row)
    refused(tmp_path, "d.csv", "d.csv", *words, target="kind")


def test_large_ids_of_a_frame_beside_reals_are_refused_with_their_column(tmp_path):
    source = write_function(
        tmp_path, "i = np.arange(60)\nreturn pd.DataFrame({'id': 2**53 + 1 + 2 * i, 'size': i / 2}), i % 2"
    )
    refused(tmp_path, source, "row 0 of x", "column 'id'", "9007199254740993")


@pytest.mark.parametrize(
    "x",
    [
        "pd.DataFrame({'id': [str(n) for n in ids], 'size': i / 2})",
        "pd.DataFrame({'id': [decimal.Decimal(n) for n in ids], 'size': i / 2})",
        "[[n, k / 2] for k, n in enumerate(ids)]",
        "np.array([[n, k / 2] for k, n in enumerate(ids)], dtype=object)",
    ],
)
def test_large_ids_of_python_beside_reals_are_refused(tmp_path, x):
    body = f"import decimal\ni = np.arange(60)\nids = [2**53 + 1 + 2 * k for k in range(60)]\nreturn {x}, i % 2"
    refused(tmp_path, write_function(tmp_path, body), "row 0 of x", "9007199254740993 is a whole number")


@pytest.mark.parametrize(
    "row",
    [
        lambda i: np.full((28, 28), i, np.float32),
        lambda i: [float(i)] * 784,
        lambda i: (np.float64(i),) * 784,
        lambda i: np.full((7, 7, 16), 2.0**60 * (i == 3), np.float32),
    ],
    ids=["images", "lists", "tuples", "one large"],
)
def test_rows_of_a_list_are_searched_for_large_numbers_without_a_copy_of_objects(row):
    """The sample: 60,000 images of 28x28 took 2 GB more, an object for each number."""
    x = [row(i) for i in range(300)]
    tracemalloc.start()
    parts_of((x, np.arange(300) % 2), "rows")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * np.asarray(x).nbytes


@pytest.mark.parametrize(
    "x",
    [
        [[0.5, 1]] * 3 + [[1, 2**53 + 1]],
        [0.5, 1, 2, 2**53 + 1],
        [[[0.5], [1]]] * 3 + [[[2**60], [2**53 + 1]]],
        [np.array([0.5, 1])] * 3 + [np.array([1, 2**53 + 1])],
    ],
)
def test_row_of_a_large_number_is_named_in_every_shape(x):
    with pytest.raises(DataError, match=rf"3.*{2**53 + 1} is a whole number"):
        parts_of((x, [0, 1, 0, 1]), "rows")


def test_targets_that_float32_makes_equal_are_refused(tmp_path):
    save(tmp_path, x=I / 7, y=IDS)
    refused(tmp_path, "d.npz", "row 1 of x", "target 20000001 becomes 20000000", "subtract", task="regression")


@pytest.mark.parametrize("y", [I * 10_000_001, I * 10_000_001.0, np.stack([I * 10_000_001, I], axis=1)])
def test_whole_targets_that_are_rounded_a_little_are_told_of(tmp_path, y):
    save(tmp_path, x=I / 7, y=y)
    loaded = load(tmp_path, "d.npz", task="regression")
    assert loaded.y_train.dtype == np.float32
    (warning,) = loaded.warnings
    assert "as float32" in warning
    assert "divide" in warning


@pytest.mark.parametrize(
    ("x", "steps"), [(1.7e9 + I * 60 + 0.25, 28), (101_325 + I / 1000, 8), (np.stack([I, 1e6 + I / 1e3], axis=1), 1)]
)
def test_reals_that_lie_too_close_together_are_told_of(tmp_path, x, steps):
    save(tmp_path, x=x, y=I % 2)
    (warning,) = load(tmp_path, "d.npz").warnings
    assert f"only {steps} steps" in warning
    assert "subtract" in warning
    assert load(tmp_path, "d.npz", scale="standard").warnings == ()


@pytest.mark.parametrize("x", [np.full(ROWS, 0.1), 0.1 + I * 1e-17, I / 7, 1e6 + I, I * 1e-30, np.full(ROWS, 1e6 / 3)])
def test_ordinary_reals_are_told_nothing_of(tmp_path, x):
    save(tmp_path, x=x, y=I % 2)
    assert load(tmp_path, "d.npz").warnings == ()


def ordinary(path: Path) -> dict[str, dict[str, str]]:
    """Write data of every form, made of arithmetic alone, and return their sections."""
    x = np.stack([I * 0.1, (I * 7) % 11 / 3.0, I % 5], axis=1)
    arrays = {
        "floats": (x, I % 3),
        "ints": (np.stack([I * 1000, 2**24 - I], axis=1), I / 7),
        "large": ((I[:, None] + 1) * 1e9 / 3, I % 2),
        "bytes": ((I[:, None, None] * 4 + np.arange(4).reshape(2, 2)).astype("uint8"), I % 2),
        "bools": (np.stack([I % 2 == 0, I % 3 == 0], axis=1), np.array(["b", "a"] * 30)),
        "targets": (x, np.stack([I / 7, I / 9], axis=1)),
        "onehot": (x, np.eye(4)[I % 4]),
    }
    for name, (features, labels) in arrays.items():
        np.savez(path / f"{name}.npz", x=features, y=labels)
    kinds = [f"{k}.25,{'true' if k % 3 else 'false'},{k},{'dog' if k % 2 else 'cat'}\n" for k in I]
    (path / "table.csv").write_text("size,old,count,kind\n" + "".join(kinds))
    (path / "whole.csv").write_text("a,b,t\n" + "".join(f"{k},{k * k},{k / 7}\n" for k in I))
    for k in range(24):
        file = path / "pets" / ("cat" if k % 2 else "dog") / f"{k}.png"
        draw(file, k)
    (path / "mine.py").write_text(
        "import numpy as np, pandas as pd\ni = np.arange(60)\n"
        "def frame():\n    return pd.DataFrame({'a': i / 7, 'b': i}), pd.Series(['x', 'y', 'z'] * 20)\n"
        "def pairs():\n    x = np.stack([i / 7, i], axis=1)\n    return (x, i % 2), (x[:20], i[:20] % 2)\n"
    )
    return {"table.csv": {"target": "kind"}, "whole.csv": {"target": "t"}}


@pytest.mark.parametrize(
    ("source", "fingerprint"),
    [
        ("floats.npz", "2348919e5e57287d4c4bef1c018368d2"),
        ("ints.npz", "b5ffb055d89803827ac5f79b566b4afe"),
        ("large.npz", "1040932135e191720346943bb02133f2"),
        ("bytes.npz", "ddc42159cb1a98dadf8638a203262e62"),
        ("bools.npz", "2dc808d842cf275f4dfdcf0f8bcf04f3"),
        ("targets.npz", "cb9d28bb23bb435d1df02b29350bf165"),
        ("onehot.npz", "ffe47c10e4d945186e08a0ebad543452"),
        ("mine.py:frame", "d12d43201a454fbd5c3f1387f8f8647d"),
        ("mine.py:pairs", "1e5b63f2336c276f3234e0e4613be892"),
        ("sklearn:digits", "b2a5c9a1d0f1c933f57990b5a4655da8"),
        ("sklearn:breast_cancer", "68bc12567e18e3ea24a53633110bfae2"),
        ("sklearn:diabetes", "a4262aa5e00252c511a6628878874784"),
        ("table.csv", "59b53b9604bb2c5f1a207be3d0224b8f"),
        ("whole.csv", "e4f62a8b70b2c3e839310d44df8081c9"),
    ],
)
def test_fingerprints_of_ordinary_data_are_those_of_older_versions(tmp_path, source, fingerprint):
    """Studies that were begun with an older version go on: the values are from its code."""
    sections = ordinary(tmp_path)
    loaded = load(tmp_path, source, **sections.get(source, {}))
    assert loaded.fingerprint == fingerprint
    assert without_remarks(loaded.warnings) == []
