"""Data sources, splits and labels; every kind of bad data ends in one error that names the place."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from search import data
from search.errors import DataError
from search.spec.settings import DataSection

REAL = Path(__file__).resolve().parents[3] / "shared" / "data"
ROWS = 100


def load(base: Path, source: str, seed: int = 0, **section: Any) -> data.Data:
    return data.load(DataSection(source=source, **section), base, seed)


def refused(base: Path, source: str, *words: str, seed: int = 0, **section: Any) -> str:
    """Load, and expect a DataError that holds all the words."""
    with pytest.raises(DataError) as caught:
        load(base, source, seed, **section)
    for word in words:
        assert word in str(caught.value)
    return str(caught.value)


def refused_at_once(base: Path, source: str, *words: str, **section: Any) -> None:
    with pytest.raises(DataError) as caught:
        data.check(DataSection(source=source, **section), base)
    for word in words:
        assert word in str(caught.value)


def table(rows: int = ROWS, classes: int = 2) -> tuple[Any, Any]:
    """Return features (rows, 3) whose first column is the row's number, and labels that take turns."""
    x = np.random.default_rng(5).normal(size=(rows, 3))
    x[:, 0] = np.arange(rows)
    return x, np.arange(rows) % classes


def save(path: Path, **arrays: Any) -> None:
    np.savez(path / "d.npz", **arrays)


def write_csv(path: Path, text: str) -> None:
    (path / "d.csv").write_text(textwrap.dedent(text).lstrip("\n"))


def write_function(path: Path, body: str, head: str = "load()") -> None:
    code = textwrap.indent(textwrap.dedent(body), "    ")
    (path / "mine.py").write_text(f"import numpy as np\n\n\ndef {head}:\n{code}")


def draw(file: Path, value: int = 0, size: tuple[int, int] = (8, 6), mode: str = "RGB") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode in ("L", "I;16") else (value, value, value)).save(file)


def draw_classes(folder: Path, names: tuple[str, ...] = ("cat", "dog"), count: int = 10, **how: Any) -> None:
    for number, name in enumerate(names):
        for index in range(count):
            draw(folder / name / f"{index}.png", 10 * number + index, **how)


# ---------------------------------------------------------------- the module


def test_import_brings_in_none_of_the_heavy_packages():
    code = "import search.data, sys; print([m for m in ('keras','sklearn','pandas','PIL') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_check_brings_in_none_of_the_heavy_packages(tmp_path):
    save(tmp_path, x=np.zeros((4, 2)), y=np.arange(4))
    write_csv(tmp_path, "a,b\n1,2\n")
    draw_classes(tmp_path / "images", count=1)
    code = """
        import sys
        from pathlib import Path
        from search import data
        from search.spec.settings import DataSection
        for section in (dict(source="d.npz"), dict(source="d.csv", target="b"), dict(source="images"),
                        dict(source="sklearn:iris"), dict(source="keras:mnist")):
            data.check(DataSection(**section), Path(sys.argv[1]))
        print([m for m in ("keras", "sklearn", "pandas", "PIL", "numpy") if m in sys.modules])
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---------------------------------------------------------------- named sources


@pytest.mark.parametrize(
    ("name", "expected", "rows"),
    [
        ("digits", ((64,), "classification", 10, 10), 1797),
        ("iris", ((4,), "classification", 3, 3), 150),
        ("wine", ((13,), "classification", 3, 3), 178),
        ("breast_cancer", ((30,), "binary", 2, 1), 569),
        ("diabetes", ((10,), "regression", 0, 1), 442),
    ],
)
def test_sklearn_sources_load(tmp_path, name, expected, rows):
    info = load(tmp_path, f"sklearn:{name}").info
    assert (info.input_shape, info.task, info.classes, info.outputs) == expected
    assert info.train_rows + info.validation_rows + info.test_rows == rows
    assert len(info.class_names) == info.classes


def test_digits_are_scaled_to_one(tmp_path):
    loaded = load(tmp_path, "sklearn:digits")
    assert (loaded.x_train.min(), loaded.x_train.max()) == (0, 1)


def test_class_names_of_a_named_source_are_words(tmp_path):
    assert load(tmp_path, "sklearn:breast_cancer").info.class_names == ("malignant", "benign")


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("sklearn:digit", "did you mean 'digits'?"),
        ("keras:minst", "did you mean 'mnist'?"),
        ("digits", "did you mean 'sklearn:digits'?"),
        ("skleran:iris", "did you mean 'sklearn:iris'?"),
        ("nothing/like/that", "no such data source"),
        ("data.orc", "no such data source"),
        ("mine.py", "mine.py:function"),
        ("a\0b", "no such data source"),
    ],
)
def test_unknown_source_is_refused_with_the_nearest_name(tmp_path, source, hint):
    """B5."""
    refused_at_once(tmp_path, source, hint)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10", "cifar100", "california_housing"])
def test_keras_names_are_known_without_keras(tmp_path, name):
    data.check(DataSection(source=f"keras:{name}"), tmp_path)


def test_unknown_kind_of_file_is_refused(tmp_path):
    """B5."""
    (tmp_path / "d.xlsx").write_bytes(b"PK")
    refused_at_once(tmp_path, "d.xlsx", "d.xlsx", "no known kind of data file")


@pytest.mark.parametrize("extra", [{"target": "a"}, {"image_size": (8, 8)}])
def test_a_key_that_does_not_fit_the_source_is_refused(tmp_path, extra):
    """B5."""
    refused_at_once(tmp_path, "sklearn:iris", next(iter(extra)), "remove", **extra)


# ---------------------------------------------------------------- splits


def test_arrays_have_the_promised_types(tmp_path):
    save(tmp_path, x=np.asfortranarray(table()[0]), y=table()[1])
    loaded = load(tmp_path, "d.npz")
    assert loaded.x_train.dtype == np.float32
    assert loaded.x_train.flags.c_contiguous
    assert loaded.y_train.dtype == np.int32
    assert loaded.y_train.shape == (80,)
    assert (loaded.info.train_rows, loaded.info.validation_rows, loaded.info.test_rows) == (80, 10, 10)


def test_validation_is_a_fraction_of_all_rows(tmp_path):
    save(tmp_path, x=table()[0], y=table()[1])
    info = load(tmp_path, "d.npz", validation=0.25, test=0.5).info
    assert (info.train_rows, info.validation_rows, info.test_rows) == (25, 25, 50)


def test_no_row_is_in_two_splits_and_test_rows_are_held_out(tmp_path):
    save(tmp_path, x=table()[0], y=table()[1])
    loaded = load(tmp_path, "d.npz")
    train, validation = set(loaded.x_train[:, 0]), set(loaded.x_validation[:, 0])
    assert not train & validation
    assert len(train | validation) == ROWS - loaded.info.test_rows


def test_every_row_keeps_its_own_label(tmp_path):
    save(tmp_path, x=table(classes=5)[0], y=table(classes=5)[1])
    loaded = load(tmp_path, "d.npz", limit=60)
    assert (loaded.x_train[:, 0] % 5 == loaded.y_train).all()
    assert (loaded.x_validation[:, 0] % 5 == loaded.y_validation).all()


def test_classes_are_split_in_their_shares(tmp_path):
    labels = np.repeat([0, 1, 2], [70, 20, 10])
    save(tmp_path, x=table()[0], y=labels)
    loaded = load(tmp_path, "d.npz")
    assert np.bincount(loaded.y_train).tolist() == [56, 16, 8]
    assert np.bincount(loaded.y_validation).tolist() == [7, 2, 1]


def test_same_seed_gives_the_same_arrays_and_another_gives_others(tmp_path):
    save(tmp_path, x=table()[0], y=table()[1])
    first, again, other = (load(tmp_path, "d.npz", seed) for seed in (3, 3, 2**63 - 1))
    assert (first.x_train == again.x_train).all()
    assert (first.y_validation == again.y_validation).all()
    assert first.fingerprint == again.fingerprint
    assert first.fingerprint != other.fingerprint


def test_fingerprint_tells_a_changed_value_in_any_split(tmp_path):
    x, y = table()
    splits = {f"{array}_{split}": value for split in ("train", "val", "test") for array, value in (("x", x), ("y", y))}
    save(tmp_path, **splits)
    seen = {load(tmp_path, "d.npz").fingerprint}
    for key in ("x_train", "x_val", "x_test", "y_test"):
        changed = splits[key].copy()
        changed[7] = 1 - changed[7] if key == "y_test" else changed[7] + 1
        save(tmp_path, **{**splits, key: changed})
        seen.add(load(tmp_path, "d.npz").fingerprint)
    assert len(seen) == 5
    assert {len(fingerprint) for fingerprint in seen} == {32}


@pytest.mark.parametrize("own", [(), ("test",), ("validation",), ("validation", "test")])
def test_splits_that_the_source_brings_are_reported(tmp_path, own):
    x, y = table()
    save(tmp_path, **{f"{key}_{split}": array for split in ("train", *own) for key, array in (("x", x), ("y", y))})
    assert load(tmp_path, "d.npz").own_splits == own


def test_no_test_split_is_fine(tmp_path):
    save(tmp_path, x=table()[0], y=table()[1])
    info = load(tmp_path, "d.npz", test=0).info
    assert (info.train_rows, info.validation_rows, info.test_rows) == (90, 10, 0)


def test_limit_keeps_that_many_rows_and_the_classes_shares(tmp_path):
    save(tmp_path, x=table(1000, 4)[0], y=table(1000, 4)[1])
    loaded = load(tmp_path, "d.npz", limit=200)
    assert (loaded.info.train_rows, loaded.info.validation_rows, loaded.info.test_rows) == (160, 20, 20)
    assert np.bincount(loaded.y_train).tolist() == [40, 40, 40, 40]


def test_limit_leaves_the_sources_own_test_rows_alone(tmp_path):
    x, y = table(200)
    save(tmp_path, x_train=x, y_train=y, x_val=x[:100], y_val=y[:100], x_test=x, y_test=y)
    info = load(tmp_path, "d.npz", limit=30).info
    assert (info.train_rows, info.validation_rows, info.test_rows) == (20, 10, 200)


def test_limit_above_the_rows_changes_nothing(tmp_path):
    save(tmp_path, x=table()[0], y=table()[1])
    assert load(tmp_path, "d.npz", limit=10_000).fingerprint == load(tmp_path, "d.npz").fingerprint


def test_class_with_too_few_rows_to_split_is_named(tmp_path):
    """B5."""
    x, y = table()
    save(tmp_path, x=x, y=np.where(np.arange(ROWS) == 4, 7, y))
    refused(tmp_path, "d.npz", "d.npz", "class '7' has 1", "needs 3")


def test_fewer_validation_rows_than_classes_is_said(tmp_path):
    """B5."""
    x, y = table(60, 15)
    save(tmp_path, x=x, y=y)
    refused(tmp_path, "d.npz", "15 classes", "test")


def test_validation_rows_may_lack_a_class(tmp_path):
    x, y = table()
    save(tmp_path, x_train=x, y_train=y, x_validation=x[::2], y_validation=y[::2])
    assert set(load(tmp_path, "d.npz").y_validation) == {0}


def test_validation_label_that_training_lacks_is_named_with_its_row(tmp_path):
    """B5."""
    x, y = table()
    save(tmp_path, x_train=x, y_train=y, x_validation=x, y_validation=np.where(np.arange(ROWS) == 9, 2, y))
    refused(tmp_path, "d.npz", "row 9 of x_validation", "class '2'", "no training row")


def test_test_label_that_training_lacks_is_named_with_its_row(tmp_path):
    """B5."""
    x, y = table()
    save(tmp_path, x_train=x, y_train=y, x_test=x, y_test=np.where(np.arange(ROWS) == 3, 5, y))
    refused(tmp_path, "d.npz", "row 3 of x_test", "class '5'")


# ---------------------------------------------------------------- scaling


def test_bytes_of_images_become_zero_to_one(tmp_path):
    x = np.full((ROWS, 4, 4), 255, np.uint8)
    save(tmp_path, x=x, y=table()[1])
    assert load(tmp_path, "d.npz").x_train.max() == 1


def test_bytes_of_tables_stay_as_they_are(tmp_path):
    save(tmp_path, x=np.full((ROWS, 4), 200, np.uint8), y=table()[1])
    assert load(tmp_path, "d.npz").x_train.max() == 200


@pytest.mark.parametrize("scale", ["standard", "minmax"])
def test_scale_is_fitted_on_training_rows_only(tmp_path, scale):
    x, y = table()
    save(tmp_path, x_train=x, y_train=y, x_val=x + 1000, y_val=y)
    loaded = load(tmp_path, "d.npz", scale=scale, test=0)
    if scale == "standard":
        assert np.allclose(loaded.x_train.mean(axis=0), 0, atol=1e-5)
        assert np.allclose(loaded.x_train.std(axis=0), 1, atol=1e-5)
    else:
        assert np.allclose([loaded.x_train.min(axis=0), loaded.x_train.max(axis=0)], [[0] * 3, [1] * 3])
    assert loaded.x_validation.min() > loaded.x_train.max()


@pytest.mark.parametrize("scale", ["standard", "minmax"])
def test_constant_column_scales_to_a_finite_number(tmp_path, scale):
    x, y = table()
    x[:, 1] = 1e6 / 3
    save(tmp_path, x=x, y=y)
    loaded = load(tmp_path, "d.npz", scale=scale)
    assert np.isfinite(loaded.x_train).all()
    assert np.allclose(loaded.x_train[:, 1], 0, atol=1e-6)


def test_scale_of_images_is_refused(tmp_path):
    """B5."""
    save(tmp_path, x=np.zeros((ROWS, 4, 4)), y=table()[1])
    refused(tmp_path, "d.npz", 'scale = "standard"', "(4, 4)", scale="standard")


# ---------------------------------------------------------------- labels and tasks


@pytest.mark.parametrize(
    ("y", "task", "outputs", "names"),
    [
        (np.arange(ROWS) % 2, "binary", 1, ("0", "1")),
        (np.arange(ROWS) % 3, "classification", 3, ("0", "1", "2")),
        (np.arange(ROWS) % 3.0, "classification", 3, ("0", "1", "2")),
        ((np.arange(ROWS) % 3)[:, None], "classification", 3, ("0", "1", "2")),
        (np.arange(ROWS) % 2 == 0, "binary", 1, ("False", "True")),
        (np.arange(ROWS) % 2 * 2 - 1, "binary", 1, ("-1", "1")),
        (np.array(["dog", "ant"] * 50), "binary", 1, ("ant", "dog")),
        (np.array(["b", "a", "c", "d"] * 25), "classification", 4, ("a", "b", "c", "d")),
        (np.arange(ROWS) % 3 * 10 + 5, "classification", 3, ("5", "15", "25")),
        (np.eye(4)[np.arange(ROWS) % 4], "classification", 4, ("0", "1", "2", "3")),
        (np.eye(2, dtype=int)[np.arange(ROWS) % 2], "binary", 1, ("0", "1")),
        (np.arange(ROWS) / 7, "regression", 1, ()),
        (np.arange(ROWS), "regression", 1, ()),
        (np.arange(3 * ROWS).reshape(-1, 3) / 7, "regression", 3, ()),
        ((np.arange(ROWS) / 7)[:, None], "regression", 1, ()),
    ],
)
def test_task_is_told_by_the_labels(tmp_path, y, task, outputs, names):
    save(tmp_path, x=table()[0], y=y)
    info = load(tmp_path, "d.npz").info
    assert (info.task, info.classes, info.outputs, info.class_names) == (task, len(names), outputs, names)


def test_many_numbered_classes_are_classes(tmp_path):
    save(tmp_path, x=table(1000, 50)[0], y=table(1000, 50)[1])
    assert load(tmp_path, "d.npz").info.classes == 50


def test_task_of_the_file_is_obeyed(tmp_path):
    save(tmp_path, x=table()[0], y=table()[1])
    as_numbers = load(tmp_path, "d.npz", task="regression")
    assert (as_numbers.y_train.dtype, as_numbers.info.outputs) == (np.float32, 1)
    as_classes = load(tmp_path, "d.npz", task="classification")
    assert (as_classes.y_train.dtype, as_classes.info.outputs) == (np.int32, 2)


def test_targets_of_a_regression_may_be_several(tmp_path):
    save(tmp_path, x=table()[0], y=np.ones((ROWS, 2)) / 3)
    assert load(tmp_path, "d.npz").y_train.shape == (80, 2)


def test_one_hot_rows_may_be_targets_of_a_regression(tmp_path):
    save(tmp_path, x=table()[0], y=np.eye(2)[table()[1]])
    assert load(tmp_path, "d.npz", task="regression").y_train.shape == (80, 2)


@pytest.mark.parametrize(
    ("task", "labels", "words"),
    [
        ("binary", table(classes=3)[1], ("3 classes", "binary")),
        ("classification", np.where(np.arange(ROWS) == 6, -1, table()[1]), ("row 6", "-1", "out of range")),
        ("classification", np.where(np.arange(ROWS) == 6, 0.5, table()[1]), ("row 6", "0.5", "out of range")),
        (None, np.where(np.arange(ROWS) == 6, -1, table()[1]), ("row 6", "-1", "out of range")),
        ("classification", np.full((ROWS, 3), 0.3), ("row 0", "not one-hot")),
        (None, np.ones((ROWS, 3), int), ("row 0", "not one-hot", "several labels")),
        ("regression", np.array(["a", "b"] * 50), ("row 0", "'a'", "no number")),
        ("regression", table()[1] == 0, ("row 0", "no number")),
        (None, np.zeros(ROWS, int), ("one class only", "'0'")),
        (None, np.array(["a"] * ROWS), ("one class only", "'a'")),
        ("classification", np.zeros(ROWS), ("one class only",)),
        (None, np.zeros((ROWS, 2, 2), int), ("(100, 2, 2)", "one label a row")),
        (None, np.where(np.arange(ROWS) == 8, np.nan, 0.5), ("row 8", "label is nan")),
    ],
)
def test_labels_that_cannot_be_are_refused(tmp_path, task, labels, words):
    """B5."""
    save(tmp_path, x=table()[0], y=labels)
    refused(tmp_path, "d.npz", "d.npz", *words, task=task)


def test_text_and_numbers_do_not_mix_among_the_splits(tmp_path):
    x, y = table()
    save(tmp_path, x_train=x, y_train=y, x_test=x, y_test=y.astype(str))
    refused(tmp_path, "d.npz", "d.npz", "test", "make them alike")


# ---------------------------------------------------------------- npz files and bad arrays


@pytest.mark.parametrize("name", ["val", "validation"])
def test_npz_splits_of_its_own_are_used(tmp_path, name):
    x, y = table()
    extra = {f"x_{name}": x[:30], f"y_{name}": y[:30]}
    save(tmp_path, x_train=x, y_train=y, **extra, x_test=x[:20], y_test=y[:20])
    info = load(tmp_path, "d.npz").info
    assert (info.train_rows, info.validation_rows, info.test_rows) == (100, 30, 20)


def test_npz_without_validation_gets_it_from_training_rows(tmp_path):
    x, y = table()
    save(tmp_path, x_train=x, y_train=y, x_test=x[:20], y_test=y[:20])
    info = load(tmp_path, "d.npz", validation=0.2).info
    assert (info.train_rows, info.validation_rows, info.test_rows) == (80, 20, 20)


def test_npz_rows_of_one_number_get_a_column(tmp_path):
    save(tmp_path, x=np.arange(ROWS), y=table()[1])
    assert load(tmp_path, "d.npz").info.input_shape == (1,)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (("a", "b"), ("no x_train and y_train", "a, b")),
        (("x", "b"), ("has x but no y",)),
        (("x_train", "y_train", "x_test"), ("has x_test but no y_test",)),
        (("X_train", "y_train"), ("unknown key 'X_train'", "did you mean 'x_train'?")),
        (("x", "y", "x_tets", "y_tets"), ("unknown key 'x_tets'", "did you mean 'x_test'?")),
        (("x", "y", "x_train", "y_train"), ("both x and x_train",)),
        (("x", "y", "x_val", "y_val", "x_validation", "y_validation"), ("both x_val and x_validation",)),
        ((), ("it has nothing",)),
    ],
)
def test_npz_with_wrong_keys_is_refused_at_once(tmp_path, keys, words):
    """B5."""
    save(tmp_path, **{key: np.arange(4) for key in keys})
    refused_at_once(tmp_path, "d.npz", "d.npz", *words)


def test_missing_file_is_refused_at_once(tmp_path):
    """B5."""
    save(tmp_path, x=np.zeros(4), y=np.zeros(4))
    refused_at_once(tmp_path, "dd.npz", str(tmp_path / "dd.npz"), "no such file", "did you mean 'd.npz'?")
    refused_at_once(tmp_path, "none.csv", "no such file", target="a")
    refused_at_once(tmp_path, "no/where.npz", "no such file")


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04broken"])
def test_file_that_is_no_npz_is_refused_at_once(tmp_path, content):
    """B5."""
    (tmp_path / "d.npz").write_bytes(content)
    refused_at_once(tmp_path, "d.npz", "d.npz", "not an .npz file")


def test_npz_with_damaged_bytes_is_refused(tmp_path):
    """B5."""
    save(tmp_path, x=table()[0], y=table()[1])
    raw = bytearray((tmp_path / "d.npz").read_bytes())
    raw[400] ^= 0xFF
    (tmp_path / "d.npz").write_bytes(raw)
    refused(tmp_path, "d.npz", "d.npz", "x can't be read")


def test_pickled_objects_are_refused(tmp_path):
    """B5."""
    save(tmp_path, x=np.array([{"a": 1}] * 4, dtype=object), y=np.arange(4))
    refused(tmp_path, "d.npz", "d.npz", "x can't be read", "allow_pickle=False")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_feature_that_is_not_finite_is_named_with_its_row(tmp_path, value):
    """B5."""
    x, y = table()
    x[17, 2] = value
    save(tmp_path, x=x, y=y)
    refused(tmp_path, "d.npz", "d.npz", "row 17 of x", f"feature 2 is {value}")


def test_nan_in_a_test_image_is_named_with_its_place(tmp_path):
    """B5."""
    x, y = np.zeros((ROWS, 4, 4), np.float32), table()[1]
    bad = x.copy()
    bad[5, 1, 2] = np.nan
    save(tmp_path, x_train=x, y_train=y, x_test=bad, y_test=y)
    refused(tmp_path, "d.npz", "row 5 of x_test", "(1, 2)", "nan")


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (table()[0], table(90)[1], ("100 rows", "90 labels")),
        (np.zeros((0, 3)), np.zeros(0), ("empty", "(0, 3)")),
        (np.zeros((4, 0)), np.arange(4), ("empty", "(4, 0)")),
        (np.float64(3), np.arange(4), ("empty",)),
        (np.array([["a", "b"], ["b", "c"]]), np.arange(2), ("row 0 of x", "2 texts a row", "table of pandas")),
        (np.zeros((4, 2), complex), np.arange(4), ("features", "complex")),
        (np.zeros((4, 2)), np.zeros(4, complex), ("labels", "complex")),
        (np.zeros((1, 2)), np.array([0.5]), ("too few to split",)),
        (np.zeros((3, 2)), np.array([0, 1, 0.5]), ("too few to split",)),
        (np.zeros((4, 2)), np.array([0, 1, 0, 1]), ("class '0' has 2", "needs 3")),
    ],
)
def test_arrays_that_cannot_be_are_refused(tmp_path, x, y, words):
    """B5."""
    save(tmp_path, x=x, y=y)
    refused(tmp_path, "d.npz", "d.npz", *words)


def test_splits_of_different_shapes_are_refused(tmp_path):
    """B5."""
    x, y = table()
    save(tmp_path, x_train=x, y_train=y, x_test=x[:, :2], y_test=y)
    refused(tmp_path, "d.npz", "(3,) in training and (2,) in test")


def test_splits_of_bytes_and_of_floats_are_refused(tmp_path):
    """B5."""
    x, y = np.zeros((ROWS, 4, 4), np.uint8), table()[1]
    save(tmp_path, x_train=x, y_train=y, x_test=x / 255, y_test=y)
    refused(tmp_path, "d.npz", "uint8 in training and float64 in test")


def test_limit_that_leaves_one_class_is_said(tmp_path):
    """B5."""
    save(tmp_path, x=table()[0], y=table()[1])
    refused(tmp_path, "d.npz", "class", "limit", limit=2)


# ---------------------------------------------------------------- csv files


def write_rows(path: Path, bad: str = "", rows: int = 30) -> None:
    lines = [
        "size,is_old,kind",
        *(f"{i}.5,{'true' if i % 3 else 'false'},{'dog' if i % 2 else 'cat'}" for i in range(rows)),
    ]
    lines.insert(6, bad)
    (path / "d.csv").write_text("\n".join(lines) + "\n\n")


def test_csv_with_text_classes_loads(tmp_path):
    write_rows(tmp_path)
    loaded = load(tmp_path, "d.csv", target="kind")
    assert loaded.info.class_names == ("cat", "dog")
    assert loaded.info.input_shape == (2,)
    assert set(loaded.x_train[:, 1]) == {0, 1}
    assert ((loaded.x_train[:, :1] - 0.5) % 2 == loaded.y_train).all()


def test_csv_with_numbers_is_a_regression(tmp_path):
    write_csv(tmp_path, "a,b\n" + "".join(f"{i},{i / 7}\n" for i in range(40)))
    assert load(tmp_path, "d.csv", target="b").info.task == "regression"


def test_csv_with_a_byte_order_mark_loads(tmp_path):
    text = "a,b\n" + "".join(f"{i},{i % 2}\n" for i in range(40))
    (tmp_path / "d.csv").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert load(tmp_path, "d.csv", target="b").info.task == "binary"


def test_csv_class_called_none_is_a_class(tmp_path):
    write_csv(tmp_path, "a,b\n" + "".join(f"{i},{'None' if i % 2 else 'NA'}\n" for i in range(40)))
    assert load(tmp_path, "d.csv", target="b").info.class_names == ("NA", "None")


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("red,true,cat", ("line 7", "'size'", "'red' is no number", 'category = ["size"]')),
        ("1.5,perhaps,cat", ("line 7", "'is_old'", "'perhaps' is neither true nor false")),
        ("1.5,true,", ("line 7", "'kind'", "empty")),
        ("1.5,true", ("line 7", "'kind'", "empty")),
        ("inf,true,cat", ("line 7", "'size'", "inf", "finite")),
        ("1.5,true,cat,more", ("line 7",)),
    ],
)
def test_csv_bad_cell_is_named_by_line_column_and_value(tmp_path, bad, words):
    """B5."""
    write_rows(tmp_path, bad)
    refused(tmp_path, "d.csv", str(tmp_path / "d.csv"), *words, target="kind")


def test_csv_lines_are_counted_across_blank_and_long_ones(tmp_path):
    rows = "".join(f"{i},{i % 2}\n" for i in range(20))
    write_csv(tmp_path, f'a,b\n\n  \n1,"two\nlines"\n{rows}x,1\n{rows}')
    refused(tmp_path, "d.csv", "line 26,", "'x'", target="b")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n", ("no column 'c'", "it has a, b")),
        ("a,C\n1,2\n", ("no column 'c'",)),
        ("1.5,2\n1,2\n", ("line 1", "only numbers")),
        (",b,c\n0,1,2\n", ("line 1", "column 1 has no name")),
        ("b,b,c\n0,1,2\n", ("'b' stands there twice",)),
        ("c\n1\n", ("only column",)),
        ("a,c\n", ("no rows",)),
        ("", ("empty",)),
        ("\n\n", ("empty",)),
    ],
)
def test_csv_without_a_usable_header_is_refused_at_once(tmp_path, text, words):
    """B5."""
    (tmp_path / "d.csv").write_text(text)
    refused_at_once(tmp_path, "d.csv", "d.csv", *words, target="c")


def test_csv_target_is_guessed_at(tmp_path):
    write_csv(tmp_path, "size,colour\n1,2\n")
    refused_at_once(tmp_path, "d.csv", "did you mean 'colour'?", target="color")


def test_csv_needs_a_target(tmp_path):
    write_csv(tmp_path, "a,b\n1,2\n")
    refused_at_once(tmp_path, "d.csv", "Add target")


def test_csv_that_is_not_text_is_refused_at_once(tmp_path):
    """B5."""
    (tmp_path / "d.csv").write_bytes(b"\xff\xfe\x00a")
    refused_at_once(tmp_path, "d.csv", "d.csv", "UTF-8", target="a")


def test_csv_with_more_cells_than_names_in_every_row_is_refused(tmp_path):
    """B5."""
    write_csv(tmp_path, "a,b\n" + "1,2,3\n" * 10)
    refused(tmp_path, "d.csv", "more cells than the header", target="b")


def test_csv_text_target_of_a_regression_is_named_by_line(tmp_path):
    """B5."""
    write_csv(tmp_path, "a,b\n" + "1,2.5\n" * 10 + "1,many\n")
    refused(tmp_path, "d.csv", "line 12", "'many'", target="b", task="regression")


# ---------------------------------------------------------------- folders of images


def test_folder_of_classes_is_split(tmp_path):
    draw_classes(tmp_path / "pets")
    loaded = load(tmp_path, "pets")
    assert loaded.info.input_shape == (6, 8, 3)
    assert loaded.info.class_names == ("cat", "dog")
    assert (loaded.info.train_rows, loaded.info.validation_rows, loaded.info.test_rows) == (16, 2, 2)
    values = np.rint(loaded.x_train[:, 0, 0, 0] * 255)
    assert ((values >= 10) == loaded.y_train.reshape(values.shape)).all()


@pytest.mark.parametrize("name", ["validation", "val", "valid"])
def test_folder_with_splits_uses_them(tmp_path, name):
    for split, count in (("train", 6), (name, 3), ("test", 2)):
        draw_classes(tmp_path / "pets" / split, count=count)
    info = load(tmp_path, "pets").info
    assert (info.train_rows, info.validation_rows, info.test_rows) == (12, 6, 4)


def test_files_that_are_no_images_are_skipped(tmp_path):
    draw_classes(tmp_path / "pets")
    for name in ("README.txt", "cat/.DS_Store", "dog/notes.txt", "dog/._1.png"):
        (tmp_path / "pets" / name).write_text("no image")
    (tmp_path / "pets" / ".ipynb_checkpoints").mkdir()
    assert load(tmp_path, "pets").info.classes == 2


def test_grayscale_images_have_one_channel(tmp_path):
    draw_classes(tmp_path / "pets", mode="L")
    assert load(tmp_path, "pets").info.input_shape == (6, 8, 1)


def test_one_colour_image_makes_all_of_them_rgb(tmp_path):
    draw_classes(tmp_path / "pets", mode="L")
    draw(tmp_path / "pets" / "cat" / "z.png", 3)
    assert load(tmp_path, "pets").info.input_shape == (6, 8, 3)


def test_image_size_is_height_and_width(tmp_path):
    draw_classes(tmp_path / "pets")
    draw(tmp_path / "pets" / "cat" / "z.png", 3, size=(30, 20))
    assert load(tmp_path, "pets", image_size=(4, 5)).info.input_shape == (4, 5, 3)


def test_images_of_different_sizes_ask_for_image_size(tmp_path):
    draw_classes(tmp_path / "pets")
    draw(tmp_path / "pets" / "dog" / "4.png", 3, size=(30, 20))
    refused(
        tmp_path,
        "pets",
        str(tmp_path / "pets" / "dog" / "4.png"),
        "20 high and 30 wide",
        "image_size = [6, 8]",
    )


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", None])
def test_unreadable_image_is_named(tmp_path, content):
    """B5."""
    draw_classes(tmp_path / "pets")
    file = tmp_path / "pets" / "dog" / "3.png"
    if content is None:  # a header without its pixels
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)).save(file)
        content = file.read_bytes()[:80]
    file.write_bytes(content)
    refused(tmp_path, "pets", str(file), "can't be read as an image")


def test_image_of_numbers_without_a_range_is_refused(tmp_path):
    """B5."""
    draw_classes(tmp_path / "pets")
    file = tmp_path / "pets" / "dog" / "3.tif"
    Image.new("F", (8, 6), 0.5).save(file)
    refused(tmp_path, "pets", str(file), "mode F, more than 8 bits without a known range")


def test_images_load_the_same_every_time(tmp_path):
    draw_classes(tmp_path / "pets", count=30)
    assert load(tmp_path, "pets").fingerprint == load(tmp_path, "pets").fingerprint


def test_folder_without_classes_is_refused_at_once(tmp_path):
    """B5."""
    (tmp_path / "pets").mkdir()
    refused_at_once(tmp_path, "pets", "pets", "holds no folders")
    draw(tmp_path / "pets" / "1.png")
    refused_at_once(tmp_path, "pets", "pets", "holds no folders")


def test_folder_with_one_class_is_refused_at_once(tmp_path):
    """B5."""
    draw_classes(tmp_path / "pets", ("cat",))
    refused_at_once(tmp_path, "pets", "one class only", "'cat'")


def test_empty_class_folder_is_refused_at_once(tmp_path):
    """B5."""
    draw_classes(tmp_path / "pets")
    (tmp_path / "pets" / "eel").mkdir()
    refused_at_once(tmp_path, "pets", str(tmp_path / "pets" / "eel"), "no images")


def test_misspelt_split_folder_is_refused_at_once(tmp_path):
    """B5."""
    for split in ("train", "vaildation"):
        draw_classes(tmp_path / "pets" / split, count=2)
    refused_at_once(tmp_path, "pets", "vaildation", "did you mean 'validation'?")


# ---------------------------------------------------------------- functions


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        ("return np.zeros((50, 2)), np.arange(50) % 2", (40, 5, 5)),
        ("return [[i, i] for i in range(50)], ['a', 'b'] * 25", (40, 5, 5)),
        ("x = np.zeros((50, 2)); y = np.arange(50) % 2\nreturn (x, y), (x[:8], y[:8])", (45, 5, 8)),
        (
            "x = np.zeros((50, 2)); y = np.arange(50) % 2\nreturn dict(x=x, y=y, x_val=x[:8], y_val=y[:8])",
            (45, 8, 5),
        ),
        (
            "import pandas as pd\nreturn pd.DataFrame({'a': range(50)}), pd.Series(['a', 'b'] * 25)",
            (40, 5, 5),
        ),
    ],
)
def test_function_may_return_arrays_in_several_forms(tmp_path, body, rows):
    write_function(tmp_path, body)
    info = load(tmp_path, "mine.py:load").info
    if "dict" in body:
        assert (info.train_rows, info.validation_rows, info.test_rows) == (45, 8, 5)
    else:
        assert (info.train_rows, info.validation_rows, info.test_rows) == rows


def test_function_is_given_the_seed_if_it_asks(tmp_path):
    write_function(tmp_path, "return np.full((50, 1), seed), np.arange(50) % 2", "load(*, seed=1)")
    assert set(load(tmp_path, "mine.py:load", seed=42).x_train.ravel()) == {42}


def test_function_that_raises_is_named_with_its_line(tmp_path):
    """B5."""
    write_function(tmp_path, "x = 1\nnp.zeros((2, 2)).reshape(7)\nreturn x, x")
    refused(tmp_path, "mine.py:load", "mine.py, line 6", "ValueError", "reshape")


def test_function_that_exits_is_an_error(tmp_path):
    """B5."""
    write_function(tmp_path, "raise SystemExit(0)")
    refused(tmp_path, "mine.py:load", "mine.py, line 5", "SystemExit")


def test_file_that_fails_to_import_is_an_error(tmp_path):
    """B5."""
    (tmp_path / "mine.py").write_text("import no_such_module_at_all\n\ndef load():\n    pass\n")
    refused(tmp_path, "mine.py:load", "mine.py", "no_such_module_at_all")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return None", ("received NoneType", "return (x, y)")),
        ("return 1, 2, 3", ("received 3 values", "weights")),
        ("return {'a': 1}", ("no x_train and y_train", "it has a")),
        ("return [[1, 2], [3]], [0, 1]", ("x can't be made an array", "equal length")),
        ("return np.array([None, 1] * 20), np.arange(40) % 2", ("row 0 of x", "missing value")),
        ("return (x for x in range(4)), np.arange(4)", ("x is generator", "return arrays")),
    ],
)
def test_function_with_a_wrong_result_is_told_the_right_one(tmp_path, body, words):
    write_function(tmp_path, body)
    refused(tmp_path, "mine.py:load", "mine.py", *words)


def test_function_that_needs_arguments_is_refused(tmp_path):
    """B5."""
    write_function(tmp_path, "return path", "load(path)")
    refused(tmp_path, "mine.py:load", "mine.py", "path", "takes nothing, or seed")


def test_missing_function_is_refused_at_once(tmp_path):
    """B5."""
    write_function(tmp_path, "return 1")
    refused_at_once(tmp_path, "mine.py:laod", "'laod'", "load")
    refused_at_once(tmp_path, "your.py:load", "your.py")


def test_check_runs_nothing_of_the_users(tmp_path):
    (tmp_path / "mine.py").write_text("raise RuntimeError\n\ndef load():\n    pass\n")
    data.check(DataSection(source="mine.py:load"), tmp_path)


# ---------------------------------------------------------------- real data


def test_mnist_file_loads_as_keras_gives_it():
    if not (REAL / "mnist.npz").is_file():
        pytest.skip(f"{REAL / 'mnist.npz'} is not there")
    loaded = load(REAL, "mnist.npz", limit=2000)
    info = loaded.info
    assert (info.input_shape, info.task, info.classes) == ((28, 28), "classification", 10)
    assert (info.train_rows, info.validation_rows, info.test_rows) == (1800, 200, 10_000)
    assert (loaded.x_train.min(), loaded.x_train.max()) == (0, 1)


def test_cats_and_dogs_are_checked_quickly():
    if not (REAL / "cats_vs_dogs").is_dir():
        pytest.skip(f"{REAL / 'cats_vs_dogs'} is not there")
    data.check(DataSection(source="cats_vs_dogs", image_size=(32, 32)), REAL)


def test_rows_of_booleans_are_no_numbers_for_a_regression(tmp_path):
    np.savez(tmp_path / "rows.npz", x=np.zeros((30, 2)), y=np.eye(3, dtype=bool)[np.arange(30) % 3])
    with pytest.raises(DataError, match="is no number; for a regression"):
        data.load(DataSection(source="rows.npz", task="regression"), tmp_path, 0)
