"""`manyfit init` guesses what is to be learnt, says so, and writes files that `run` takes; what can't be used is refused."""

from __future__ import annotations

import os
import re
import sys

import numpy as np
import pandas as pd
import pytest
from drafting_kit import (
    autoencoder_npz,
    begin,
    bytes_npz,
    customers_csv,
    diabetes_parquet,
    folder_of_npy,
    frame_function,
    fraud_csv,
    house_function,
    iris,
    keys_npz,
    labels_npz,
    power_csv,
    settings_of,
    shapes_folder,
    shown,
    waves_npz,
    wine_csv,
    words_npz,
)  # fmt: skip

from search.drafting import arrays, quirks, writing
from search.drafting.draft import ORDER
from search.errors import UsageError
from search.spec.settings import DataSection

# Data -> (kind of the rows, objective, whether a data function is written).
KINDS = {
    wine_csv: ("dense", "val_accuracy", False),
    diabetes_parquet: ("dense", "val_root_mean_squared_error", False),
    customers_csv: ("dense", "val_accuracy", False),
    fraud_csv: ("dense", "val_auc", False),
    power_csv: ("sequence", "val_root_mean_squared_error", False),
    bytes_npz: ("image", "val_accuracy", False),
    keys_npz: ("dense", "val_accuracy", True),
    folder_of_npy: ("dense", "val_accuracy", True),
    words_npz: ("ids", "val_accuracy", False),
    waves_npz: ("sequence", "val_accuracy", False),
    labels_npz: ("dense", "val_loss", False),
    autoencoder_npz: ("image", "val_root_mean_squared_error", False),
    shapes_folder: ("image", "val_accuracy", False),
    house_function: ("ids", "val_loss", False),
    frame_function: ("dense", "val_accuracy", False),
}


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_study_file_and_builder_fit_the_data(tmp_path, make):
    kind, objective, has_function = KINDS[make]
    done = begin(tmp_path, make(tmp_path))
    assert next(iter(done.loaded.inputs.values())).kind == kind
    assert settings_of(done)["study"]["objective"] == objective
    assert (tmp_path / "my_data.py").exists() == has_function
    assert f"To beat: {done.goal.baseline:.4g} " in done.request.study_file.read_text(encoding="utf-8")
    compile((tmp_path / "my_model.py").read_text(encoding="utf-8"), "my_model.py", "exec")
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".") or path.name == "__pycache__"]


def test_columns_of_no_use_are_left_out_and_named(tmp_path):
    done = begin(tmp_path, customers_csv(tmp_path))
    assert settings_of(done)["data"]["columns"] == {"drop": ["fax", "id", "country"]}
    assert done.loaded.data.kinds == {
        "age": "number", "city": "category", "review": "text", "signup": "date", "vip": "boolean",
    }  # fmt: skip
    text = shown(done)
    assert "id: every row has another value, so it looks like an identifier" in text
    assert "churn (guessed: the last column; --target COLUMN names another)" in text
    assert "1 category: city" in text


@pytest.mark.parametrize(
    ("names", "target", "why"),
    [
        (("a", "Target", "b"), "Target", "by its name"),
        (("class", "a", "target"), "target", "by its name"),
        (("a", "b", "price"), "price", "the last column"),
    ],
)
def test_target_is_guessed_by_its_name_or_else_is_the_last_column(tmp_path, names, target, why):
    random = np.random.default_rng(0)
    pd.DataFrame(random.normal(size=(60, 3)), columns=list(names)).to_csv(tmp_path / "rows.csv", index=False)
    done = begin(tmp_path, "rows.csv")
    assert settings_of(done)["data"]["target"] == target
    assert why in shown(done)
    assert settings_of(begin(tmp_path, "rows.csv", target="a", force=True))["data"]["target"] == "a"


def test_target_is_no_column_that_can_not_be_learnt(tmp_path):
    frame = iris().assign(day="2024-01-01", number=range(150), empty=np.nan)
    frame.to_csv(tmp_path / "rows.csv", index=False)
    done = begin(tmp_path, "rows.csv")
    assert settings_of(done)["data"]["target"] == "species"
    assert "the last column that can be learnt: 'empty' has one value, 'number' numbers the rows" in shown(done)


def test_leak_of_the_target_is_warned_of(tmp_path):
    frame = iris()
    frame.insert(0, "code", pd.factorize(frame.species)[0] * 10.0)
    frame.to_csv(tmp_path / "rows.csv", index=False)
    assert "warning    column 'code' alone predicts" in shown(begin(tmp_path, "rows.csv"))


def test_rows_at_even_steps_in_time_are_a_series(tmp_path):
    done = begin(tmp_path, power_csv(tmp_path))
    data = settings_of(done)["data"]
    assert (data["order"], data["window"], data["target"]) == ("hour", 24, "load")
    last = float(done.goal.also.removeprefix("Also try to beat ").split(",")[0])
    assert last == pytest.approx(np.diff(pd.read_csv(tmp_path / "power.csv").load).std(), rel=0.1)
    assert last < done.goal.baseline
    table = begin(tmp_path, "power.csv", overrides=("data.order=hour",), force=True)
    assert "window" not in settings_of(table)["data"]
    assert table.loaded.inputs[""].shape == (1,)


def test_rows_in_order_of_time_that_are_no_series_get_a_note(tmp_path):
    frame = pd.read_csv(tmp_path / power_csv(tmp_path)).drop(index=range(1, 700, 2))
    frame.to_csv(tmp_path / "power.csv", index=False)
    done = begin(tmp_path, "power.csv")
    assert "--set data.order=hour tests on the last of them" in shown(done)
    assert done.loaded.inputs[""].kind == "dense"


def as_written(name):
    frame = iris()
    return {
        "no header.csv": lambda path: frame.to_csv(path, index=False, header=False),
        "plain.data": lambda path: frame.to_csv(path, index=False, header=False),
        "index.csv": frame.to_csv,
        "comma.csv": lambda path: frame.to_csv(path, index=False, sep=";", decimal=","),
        "packed.csv.gz": lambda path: frame.to_csv(path, index=False),
        "packed.zip": lambda path: frame.to_csv(
            path, index=False, compression={"method": "zip", "archive_name": "a.csv"}
        ),
        "windows.csv": lambda path: frame.replace("setosa", "Größe").to_csv(path, encoding="cp1252"),
        "lines.jsonl": lambda path: frame.to_json(path, orient="records", lines=True),
        "blanks.txt": lambda path: frame.to_csv(path, index=False, sep=" ", header=False),
        "records.json": lambda path: frame.to_json(path, orient="records"),
        "numbered.csv": lambda path: frame.assign(species=frame.index // 50).to_csv(
            path, index=False, header=[*map(str, range(5))]
        ),
    }[name]


@pytest.mark.parametrize(
    "name",
    ["no header.csv", "plain.data", "index.csv", "comma.csv", "packed.csv.gz", "windows.csv", "lines.jsonl", "blanks.txt", "records.json", "numbered.csv"],
)  # fmt: skip
def test_table_that_a_study_file_can_not_describe_gets_a_data_function(tmp_path, name):
    as_written(name)(tmp_path / name)
    done = begin(tmp_path, name)
    assert settings_of(done)["data"]["source"] == "my_data.py:rows"
    assert done.loaded.data.info.input_shape == (4,)
    assert done.loaded.data.info.train_rows + done.loaded.data.info.validation_rows == 135
    assert done.goal.baseline == pytest.approx(1 / 3)
    assert f'HERE / "{name}"' in (tmp_path / "my_data.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16"])
def test_table_in_another_encoding_is_named_so(tmp_path, encoding):
    iris().replace("setosa", "Größe").to_csv(tmp_path / "d.csv", index=False, encoding=encoding)
    done = begin(tmp_path, "d.csv")
    section = settings_of(done)["data"]
    assert (section["source"], section["encoding"]) == ("d.csv", encoding)
    assert "Größe" in done.loaded.data.info.class_names
    assert f"encoding {encoding}" in " ".join(shown(done).split())
    named = begin(tmp_path, "d.csv", overrides=(f"data.encoding={encoding}",), force=True)
    assert settings_of(named)["data"] == section


TEXTS = """
import numpy as np
import pandas as pd

y = np.arange(120) % 2
texts = [f"{'good' if bit else 'bad'} film number {row % 9} of {row % 5}" for row, bit in enumerate(y)]
frame = pd.DataFrame({"a": y * 900.0 + np.arange(120), "plan": np.where(y, "u", "v")})


def alone():
    return texts, y


def several():
    return {"title": texts, "table": frame, "size": np.arange(240.0).reshape(120, 2)}, y
"""


def test_texts_get_embeddings_below_the_vocabulary_of_the_study(tmp_path):
    (tmp_path / "texts.py").write_text(TEXTS, encoding="utf-8")
    done = begin(tmp_path, "texts.py:alone")
    assert done.loaded.inputs[""].kind == "ids"
    assert "--model" not in shown(done)
    assert "keras.layers.Embedding(data.vocabulary_size, " in done.files[tmp_path / "my_model.py"]
    with pytest.raises(UsageError, match="rows are token ids of texts; leave it out"):
        begin(tmp_path, "texts.py:alone", model="sequence", force=True)
    counted = begin(tmp_path, "texts.py:alone", overrides=('data.text={ output_mode = "count" }',), force=True)
    assert settings_of(counted)["data"]["text"] == {"output_mode": "count"}
    assert counted.loaded.inputs[""].kind == "dense"
    several = begin(tmp_path, "texts.py:several", force=True)
    assert {name: rows.kind for name, rows in several.loaded.inputs.items()} == {
        "title": "ids",
        "table": "dense",
        "size": "dense",
    }
    model = several.files[tmp_path / "my_model.py"]
    assert 'keras.layers.Embedding(data.vocabulary_sizes["title"], ' in model
    # A table is scaled by the study, an array in the model.
    assert model.count("Normalization(") == 1


def test_last_value_of_a_series_with_categories_is_that_of_its_target(tmp_path):
    random = np.random.default_rng(0)
    days = pd.date_range("2024-01-01", periods=300).strftime("%Y-%m-%d")
    frame = pd.DataFrame({"day": days, "sky": random.choice(["sun", "rain"], 300), "heat": random.normal(size=300)})
    frame["load"] = 100 + random.normal(size=300).cumsum().round(3)
    frame.to_csv(tmp_path / "d.csv", index=False)
    overrides = ("data.window=5", "data.order=day", "data.validation=0.2", "data.test=0")
    done = begin(tmp_path, "d.csv", target="load", overrides=overrides)
    load = frame.load.to_numpy()[240:]
    error = np.sqrt(np.mean((load[5:] - load[4:-1]) ** 2))
    assert f"Also try to beat {error:.4g}, by repeating the last known value." in done.goal.also
    # The model adds a change to the last value: without one, it has that error.
    model = done.files[tmp_path / "my_model.py"]
    assert "last = keras.layers.Rescaling(" in model
    spread, mean = frame.load[:240].std(ddof=0), frame.load[:240].mean()
    written = re.search(r"last = keras.layers.Rescaling\((.+?), (.+?)\)\(inputs\[:, -1, 1:2\]\)", model)
    assert [*map(float, written.groups())] == pytest.approx([spread, mean], rel=1e-5)
    assert done.loaded.inputs[""].kind == "sequence"


def test_every_key_of_data_that_is_set_is_written():
    assert set(ORDER) == set(DataSection.model_fields)


@pytest.mark.parametrize(
    "columns", [["a", "b", "c"], ["2019", "2020", "name"], ["0", "1", "2", "label"], ["x1", "7", "8"]]
)
def test_header_is_told_from_rows(tmp_path, columns):
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.normal(size=(50, len(columns))), columns=columns)
    frame[columns[-1]] = random.choice(["u", "v"], 50)
    frame.to_csv(tmp_path / "rows.csv", index=False)
    assert quirks.reading_of(tmp_path / "rows.csv").why == ()


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("X_train y_train X_test y_test", {"x_train": "X_train", "y_train": "y_train", "x_test": "X_test", "y_test": "y_test"}),
        ("train_images train_labels", {"x_train": "train_images", "y_train": "train_labels"}),
        ("trainX trainY valX valY", {"x_train": "trainX", "y_train": "trainY", "x_validation": "valX", "y_validation": "valY"}),
        ("data target", {"x": "data", "y": "target"}),
        ("images labels test_images test_labels", {"x_train": "images", "y_train": "labels", "x_test": "test_images", "y_test": "test_labels"}),
        ("arr_0 arr_1", {"x": "arr_0", "y": "arr_1"}),
        ("xtrain ytrain notes", {"x_train": "xtrain", "y_train": "ytrain"}),
    ],
)  # fmt: skip
def test_arrays_are_told_by_their_names(keys, expected):
    shapes = {
        key: (9, 4) if key.lower()[0] in "xi" or "X" in key or "mage" in key or key in ("data", "arr_0") else (9,)
        for key in keys.split()
    }
    assert arrays.keys_of(shapes, "a.npz") == expected


@pytest.mark.parametrize("keys", ["a b c", "x_train x", "data images labels", "labels"])
def test_arrays_that_can_not_be_told_are_refused_by_name(keys):
    with pytest.raises(UsageError, match=keys.split()[0]):
        arrays.keys_of(dict.fromkeys(keys.split(), (9, 4)), "a.npz")


@pytest.mark.parametrize("model", ["dense", "sequence", "ids"])
def test_model_overrules_the_guess(tmp_path, model):
    done = begin(tmp_path, words_npz(tmp_path), model=model)
    assert done.loaded.inputs[""].kind == model


def test_flat_pixels_are_images_if_you_say_so(tmp_path):
    from sklearn import datasets

    x, y = datasets.load_digits(return_X_y=True)
    pd.DataFrame(x, columns=[f"p{i}" for i in range(64)]).assign(label=y).to_csv(tmp_path / "digits.csv", index=False)
    assert "if so: --model image" in shown(begin(tmp_path, "digits.csv"))
    done = begin(tmp_path, "digits.csv", model="image", force=True)
    assert "keras.layers.Reshape((8, 8, 1))" in (tmp_path / "my_model.py").read_text(encoding="utf-8")
    assert done.loaded.inputs[""].image == (8, 8, 1)


def test_large_data_are_tried_on_some_rows(tmp_path):
    random = np.random.default_rng(0)
    np.savez(
        tmp_path / "rows.npz", x=random.normal(size=(40_000, 3)).astype(np.float32), y=random.integers(0, 2, 40_000)
    )
    done = begin(tmp_path, "rows.npz")
    assert settings_of(done)["data"]["limit"] == 20_000
    assert (
        done.loaded.data.info.train_rows + done.loaded.data.info.validation_rows + done.loaded.data.info.test_rows
        == 20_000
    )


def test_names_of_all_kinds_survive(tmp_path):
    frame = iris().rename(columns={"species": 'the "kind"\\ of # it', "petal width (cm)": "größe\t[m]"})
    frame.to_csv(tmp_path / "Daten — 2024 (neu).csv", index=False)
    done = begin(tmp_path, "Daten — 2024 (neu).csv")
    assert done.request.study_file.name == "Daten_2024_neu.toml" or done.request.study_file.name.startswith("Daten")
    assert settings_of(done)["data"]["target"] == 'the "kind"\\ of # it'


def test_user_folder_may_have_modules_with_our_names(tmp_path):
    (tmp_path / "search.py").write_text("MINE = 1\n", encoding="utf-8")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("", encoding="utf-8")
    text = "import search\nfrom sklearn import datasets\n\n\ndef rows():\n    assert search.MINE\n    return datasets.load_wine(as_frame=True).frame\n"
    (tmp_path / "rows.py").write_text(text, encoding="utf-8")
    before = sys.path[:]
    assert shown(begin(tmp_path, "rows.py:rows"))
    assert sys.path == before, "what is imported next would be the user's"


def table(folder, **columns):
    pd.DataFrame({"a": np.arange(40) % 7 / 3, "b": np.arange(40) % 5 / 3, **columns}).to_csv(
        folder / "rows.csv", index=False
    )
    return "rows.csv"


def empty(folder):
    (folder / "rows.csv").touch()
    return "rows.csv"


def of_bytes(name, raw):
    def make(folder):
        (folder / name).write_bytes(raw)
        return name

    return make


# Data and options -> what the refusal says.
REFUSED = {
    "missing": (lambda folder: "rows.csv", {}, "no such file or folder"),
    "near": (lambda folder: (wine_csv(folder), "wind.csv")[1], {}, "did you mean 'wine.csv'?"),
    "empty": (empty, {}, "the file is empty"),
    "header only": (of_bytes("rows.csv", b"a,b,c\n"), {}, "there are no rows below the header"),
    "unknown": (of_bytes("rows.h5", b"\x89HDF"), {}, "no known kind of data; init takes"),
    "bytes": (of_bytes("rows.csv", b"\0\1\2\3" * 99), {}, "holds NUL bytes"),
    "damaged npz": (of_bytes("rows.npz", b"PK\3\4no"), {}, "not an .npz file"),
    "damaged parquet": (of_bytes("rows.parquet", b"PAR1"), {}, "no parquet file, or a damaged one"),
    "damaged gzip": (of_bytes("rows.csv.gz", b"\x1f\x8b\x08\0zzzz"), {}, "can't be read"),
    "damaged JSON": (of_bytes("rows.json", b"{[}"), {}, "pandas.read_json can't read it"),
    "no such target": (wine_csv, {"target": "colour"}, "has no column 'colour'"),
    "one value": (lambda folder: table(folder, y=1), {"target": "y"}, "the target has one value in all rows"),
    "empty target": (
        lambda folder: table(folder, y=[np.nan, *np.arange(39) % 2]), {"target": "y"}, "the target must be there"
    ),
    "mixed": (
        lambda folder: table(folder, c=["12 kg", *np.arange(39)], y=np.arange(40) % 2), {}, "--set 'data.KEY=VALUE'"
    ),
    "target of arrays": (bytes_npz, {"target": "y"}, "--target names a column of a table"),
    "empty folder": (lambda folder: ((folder / "photos").mkdir(), "photos")[1], {}, "the folder is empty"),
    "one class": (lambda folder: (shapes_folder(folder), "shapes/dark")[1], {}, "holds no folders"),
    "model of no image": (wine_csv, {"model": "image"}, "a row of 13 numbers is no square image"),
    "model of no ids": (wine_csv, {"model": "ids"}, "ids are rows of whole numbers from 0"),
    "model of several": (house_function, {"model": "dense"}, "--model is for a single input"),
    "unknown model": (wine_csv, {"model": "tree"}, "there are dense, image, sequence, ids"),
    "name": (wine_csv, {"name": "a/b"}, "--name: a study's name has letters"),
    "other key": (wine_csv, {"overrides": ("study.trials=3",)}, "takes keys of [data]"),
    "misspelt key": (wine_csv, {"overrides": ("data.limits=3",)}, "did you mean 'limit'?"),
    "wrong value": (wine_csv, {"overrides": ("data.limit=few",)}, "must be a whole number"),
    "no function": (lambda folder: (house_function(folder), "house.py:lode")[1], {}, "did you mean 'load'?"),
    "unknown set": (lambda folder: "sklearn:irs", {}, "did you mean 'iris'?"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_can_not_be_used_is_refused_and_nothing_is_written(tmp_path, case):
    make, options, says = REFUSED[case]
    source = make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError) as refusal:
        begin(tmp_path, source, **options)
    assert says in str(refusal.value)
    assert ".my_data_" not in str(refusal.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_function_that_raises_is_named_with_its_line(tmp_path):
    (tmp_path / "rows.py").write_text("def rows():\n    return 1 / 0\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"rows\.py, line 2: rows raised ZeroDivisionError"):
        begin(tmp_path, "rows.py:rows")


def test_files_that_are_there_are_kept_unless_force_is_given(tmp_path):
    source = wine_csv(tmp_path)
    (tmp_path / "my_model.py").write_text("# mine\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"my_model\.py is there already, and nothing was written"):
        begin(tmp_path, source)
    assert (tmp_path / "my_model.py").read_text(encoding="utf-8") == "# mine\n"
    assert not (tmp_path / "wine.toml").exists()
    begin(tmp_path, source, force=True)
    with pytest.raises(UsageError, match=r"wine\.toml and my_model\.py are there already"):
        begin(tmp_path, source)


def test_files_are_written_all_or_none(tmp_path):
    with pytest.raises(UsageError, match=r"b\.txt can't be written"):
        writing.write({tmp_path / "a.txt": "a", tmp_path / "missing" / "b.txt": "b"})
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match="is no folder that can be written to"):
        begin(tmp_path / "missing", "sklearn:iris")


def test_rows_that_come_in_batches_have_no_splits_or_batch_size_to_choose(tmp_path):
    (tmp_path / "rows.py").write_text(BATCHES, encoding="utf-8")
    settings = settings_of(begin(tmp_path, "rows.py:load"))
    assert settings["data"] == {"source": "rows.py:load"}
    assert "batch_size" not in settings["space"]


BATCHES = """
import numpy as np


def batches():
    random = np.random.default_rng(0)
    for _ in range(5):
        x = random.normal(size=(8, 4))
        yield x, (x[:, 0] > 0).astype(int)


def load():
    return {"train": batches, "steps": 5, "validation": batches, "validation_steps": 5}
"""


def test_link_is_never_replaced(tmp_path):
    source = wine_csv(tmp_path)
    (tmp_path / "my_model.py").symlink_to("elsewhere.py")
    with pytest.raises(UsageError, match=r"my_model\.py is there already and is no file"):
        begin(tmp_path, source, force=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_folder_that_can_not_be_written_to_is_refused(tmp_path):
    source = wine_csv(tmp_path)
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(UsageError, match="can be written to"):
            begin(tmp_path, source)
    finally:
        tmp_path.chmod(0o700)
