"""`manyfit init` destroys no source, and changes no cell, number or weight on the way into a study."""

from __future__ import annotations

import gzip
import re
import tomllib
import warnings

import numpy as np
import pandas as pd
import pytest
from drafting_kit import begin, iris, power_csv, settings_of, shown

from search.drafting import forms, writing
from search.drafting.draft import draft
from search.drafting.request import Request
from search.errors import DataError, UsageError


def function(folder, body, name="rows.py"):
    """Write a data function `load`; return its source."""
    text = f"import numpy as np\nimport pandas as pd\n\n\ndef load():\n{body}\n"
    (folder / name).write_text(text, encoding="utf-8")
    return f"{name}:load"


IRIS = "    from sklearn import datasets\n    return datasets.load_iris(as_frame=True).frame"


@pytest.mark.parametrize("force", [False, True])
def test_source_is_never_replaced(tmp_path, force):
    source = function(tmp_path, IRIS, "my_model.py")
    before = (tmp_path / "my_model.py").read_text(encoding="utf-8")
    with pytest.raises(UsageError, match=r"my_model\.py, which init would replace.*rename my_model\.py") as refusal:
        begin(tmp_path, source, force=force)
    assert "--force" not in str(refusal.value)
    assert (tmp_path / "my_model.py").read_text(encoding="utf-8") == before


@pytest.mark.parametrize(
    "body", ["    import my_model\n    return my_model.frame()", "    return rows(HERE / 'rows.toml')"]
)
def test_file_that_the_source_reads_is_never_replaced(tmp_path, body):
    name = "my_model.py" if "my_model" in body else "rows.toml"
    text = "def frame():\n    from sklearn import datasets\n    return datasets.load_iris(as_frame=True).frame\n"
    (tmp_path / name).write_text(text if name == "my_model.py" else iris().to_csv(index=False), encoding="utf-8")
    source = function(tmp_path, body.replace("rows(HERE / 'rows.toml')", f"pd.read_csv({str(tmp_path / name)!r})"))
    before = (tmp_path / name).read_bytes()
    with pytest.raises(UsageError, match=rf"is read from {re.escape(name)}, which init would replace"):
        begin(tmp_path, source, force=True)
    assert (tmp_path / name).read_bytes() == before


def test_study_that_run_would_refuse_is_not_written(tmp_path):
    done = draft(Request(function(tmp_path, IRIS), tmp_path))
    files, source = dict(done.files), done.request.source
    writing.try_out(files, done.request.study_file, source)
    files[tmp_path / "my_model.py"] = "def build("
    with pytest.raises(UsageError, match=r"my_model\.py.*not valid Python.*nothing was written"):
        writing.try_out(files, done.request.study_file, source)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.py"]


def series(folder, index):
    random = np.random.default_rng(0)
    load = 100 + random.normal(size=len(index)).cumsum()
    pd.DataFrame({"temp": random.normal(size=len(index)), "load": load}, index=index).to_csv(folder / "idx.csv")
    return "idx.csv"


def test_dates_without_a_name_are_the_order_of_a_series(tmp_path):
    done = begin(tmp_path, series(tmp_path, pd.date_range("2024-01-01", periods=400, freq="h")))
    data = settings_of(done)["data"]
    assert (data["order"], data["window"], data["target"]) == ("index", 20, "load")
    assert "the first column has no name and is called 'index'" in shown(done)


def test_first_column_without_a_name_is_left_out_only_if_it_numbers_the_rows(tmp_path):
    frame = iris()
    for index, is_left_out in (
        (np.random.default_rng(0).permutation(150) + 7, True),
        (np.arange(150) // 2, False),
        ([f"plot {row % 9}" for row in range(150)], False),
        (np.arange(150) / 2, False),
    ):
        frame.set_index(pd.Index(index)).to_csv(tmp_path / "rows.csv")
        done = begin(tmp_path, "rows.csv", force=True)
        assert ("index" not in [column["name"] for column in done.loaded.data.columns]) == is_left_out


def test_row_with_more_cells_than_the_header_is_refused(tmp_path):
    rows = "".join(f"{row},{row % 7},{row % 5},{row % 2}\n" for row in range(60))
    with gzip.open(tmp_path / "x.csv.gz", "wt") as file:
        file.write("height,weight,y\n" + rows)
    with pytest.raises(UsageError, match="rows have more cells than the header"):
        begin(tmp_path, "x.csv.gz")
    # The function that init writes refuses such rows that come later, too.
    with gzip.open(tmp_path / "x.csv.gz", "wt") as file:
        file.write("number,height,weight,y\n" + rows)
    begin(tmp_path, "x.csv.gz")
    with gzip.open(tmp_path / "x.csv.gz", "wt") as file:
        file.write("height,weight,y\n" + rows)
    with pytest.raises(UsageError, match="rows raised ParserWarning"):
        draft(Request("my_data.py:rows", tmp_path, target="y"), force=True)


CELLS = {"kind": ["None", "NA", "a"] * 40, "size": [1.5, 0.1, ""] * 40, "y": ["None", "null", "b"] * 40}


def test_cells_of_a_packed_table_are_those_of_the_plain_one(tmp_path):
    pd.DataFrame(CELLS).to_csv(tmp_path / "plain.csv", index=False)
    pd.DataFrame(CELLS).to_csv(tmp_path / "packed.csv.gz", index=False)
    plain, packed = (begin(tmp_path, name, force=True).loaded.data for name in ("plain.csv", "packed.csv.gz"))
    assert packed.info.class_names == plain.info.class_names == ("None", "b", "null")
    assert packed.columns == plain.columns
    assert packed.x_train.tolist() == plain.x_train.tolist()


def test_codes_keep_their_zeros(tmp_path):
    codes = pd.DataFrame({"plz": ["012", "12", "0012"] * 40, "a": np.arange(120) % 7 / 3, "y": ["u", "v"] * 60})
    codes.to_csv(tmp_path / "codes.csv.gz", index=False)
    overrides = ('data.columns={ category = ["plz"] }',)
    packed = begin(tmp_path, "codes.csv.gz", overrides=overrides)
    codes.to_json(tmp_path / "codes.json", orient="records")
    for data in (packed.loaded.data, begin(tmp_path, "codes.json", overrides=overrides, force=True).loaded.data):
        assert set(data.encoding.categories[0].known) == {"012", "12", "0012"}


def test_numbers_of_json_keep_their_digits(tmp_path):
    x = np.random.default_rng(0).normal(size=60)
    rows = ",".join(f'{{"a": {value!r}, "date": {row}, "y": "{row % 2}"}}' for row, value in enumerate(x.tolist()))
    (tmp_path / "rows.json").write_text(f"[{rows}]", encoding="utf-8")
    done = begin(tmp_path, "rows.json", overrides=("data.scale=none",))
    a = [column["name"] for column in done.loaded.data.columns].index("a")
    assert set(done.loaded.data.x_train[:, a].tolist()) <= set(x.astype(np.float32).tolist())


WEIGHTED = """    random = np.random.default_rng(0)
    x, w = random.normal(size=(400, 3)), random.uniform(0.1, 9, 400)
    labels = random.random(400)
    return x, {y}, w"""


@pytest.mark.parametrize("y", ["np.digitize(labels, [0.9, 0.95])", "(x[:, :2] > labels[:, None]).astype(int)"])
def test_baseline_of_the_loss_counts_the_weights_of_rows(tmp_path, y):
    done = begin(tmp_path, function(tmp_path, WEIGHTED.format(y=y)))
    assert done.goal.objective == "val_loss"
    data = done.loaded.data
    w, held = data.w_train.astype(float), data.w_validation.astype(float)
    if data.info.task == "regression":
        p = w @ data.y_train / w.sum()
        losses = -np.where(data.y_validation == 1, np.log(p), np.log(1 - p)).mean(axis=1)
    else:
        p = np.array([w[data.y_train == label].sum() for label in range(3)]) / w.sum()
        losses = -np.log(p[data.y_validation])
    assert done.goal.baseline == pytest.approx((losses * held).mean(), rel=1e-6)
    assert "of the training rows by weight" in done.goal.words


CUSTOMERS = """    i = np.arange(6000)
    return pd.DataFrame(dict(customer=16777216 + i % 3000, a={a}, y=np.where(i % 7 < 3, "u", "v")))"""


@pytest.mark.parametrize("a", ["i % 11 / 3", "i % 11", 'np.where(i % 2, "s", "t")'])
def test_whole_numbers_beyond_float32_are_named_where_scaling_takes_them(tmp_path, a):
    source = function(tmp_path, CUSTOMERS.format(a=a))
    done = begin(tmp_path, source)
    assert "taken for quantities and standardised: 'customer'" in shown(done)
    text = done.request.study_file.read_text(encoding="utf-8")
    assert "whole numbers that float32 would round: 'customer'" in text
    dropped = begin(tmp_path, source, overrides=('data.columns={ drop = ["customer"] }',), force=True)
    assert "quantities" not in shown(dropped)


@pytest.mark.parametrize("x", ["16777217 + i % 3000", "i % 5 / 2"])
def test_whole_numbers_of_arrays_beyond_float32_are_named(tmp_path, x):
    body = f"    i = np.arange(600)\n    return np.stack([{x}, i + 2**25], axis=1), i % 7 < 3"
    done = begin(tmp_path, function(tmp_path, body))
    assert settings_of(done)["data"]["scale"] == "standard"
    assert "taken for quantities and standardised" in shown(done)


def test_rescaling_is_exact_to_a_part_of_the_spread(tmp_path):
    body = "    random = np.random.default_rng(0)\n    return random.normal(size=(300, 3)), 1204567 + random.normal(0, 0.8, 300)"
    done = begin(tmp_path, function(tmp_path, body))
    spread, mean = map(float, re.search(r"Rescaling\((.+?), (.+?)\)", done.files[tmp_path / "my_model.py"]).groups())
    y = done.loaded.data.y_train.astype(float)
    assert abs(mean - y.mean()) < 1e-4 * y.std()
    assert spread == pytest.approx(y.std(), rel=1e-5)
    means, spreads = forms.written(np.array([1204567.123456, -3e-7, 5.0]), np.array([0.8, 2e-9, 0.0]))
    assert np.abs(np.subtract(means, [1204567.123456, -3e-7, 5.0]) / [0.8, 2e-9, 1]).max() < 1e-5
    assert spreads == [0.8, 2e-9, 1.0]


def test_last_value_of_a_forecast_is_exact_to_a_part_of_its_change(tmp_path):
    random = np.random.default_rng(0)
    days = pd.date_range("2024-01-01", periods=400).strftime("%Y-%m-%d")
    load = 1204567 + np.linspace(0, 3000, 400) + random.normal(0, 0.01, 400)
    pd.DataFrame({"day": days, "load": load}).to_csv(tmp_path / "d.csv", index=False)
    done = begin(tmp_path, "d.csv")
    text = done.files[tmp_path / "my_model.py"]
    scale, mean = map(float, re.search(r"last = keras.layers.Rescaling\((.+?), (.+?)\)", text).groups())
    change = float(re.search(r"change = keras.layers.Rescaling\((.+?)\)", text)[1])
    scaling = done.loaded.data.scaling
    assert abs(mean - scaling.mean[0]) < 1e-4 * change
    assert abs(scale - scaling.spread[0]) < 1e-4 * change


def test_constant_training_target_has_a_spread_of_one(tmp_path):
    body = """    i = np.arange(300)
    x = np.stack([i % 5, i % 3], axis=1) / 2
    return {'x_train': x, 'y_train': np.full(300, 0.1), 'x_val': x, 'y_val': i / 7}"""
    done = begin(tmp_path, function(tmp_path, body), overrides=("data.task=regression", "data.test=0"))
    assert "keras.layers.Rescaling(1.0, 0.1)(outputs)" in done.files[tmp_path / "my_model.py"]


@pytest.mark.parametrize(
    ("overrides", "window", "horizon"),
    [(("data.window=12",), 12, 1), (("data.horizon=3",), 24, 3), (("data.window=8", "data.horizon=2"), 8, 2)],
)
def test_windows_that_are_set_keep_the_guessed_order(tmp_path, overrides, window, horizon):
    done = begin(tmp_path, power_csv(tmp_path), overrides=overrides)
    data = settings_of(done)["data"]
    assert (data["order"], data["window"], data.get("horizon", 1)) == ("hour", window, horizon)
    assert f"{window} rows foretell 'load'" in shown(done)


def test_horizon_of_rows_that_are_no_series_is_refused(tmp_path):
    iris().to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(UsageError, match="horizon is for windows over a series; add window = 24"):
        begin(tmp_path, "rows.csv", overrides=("data.horizon=3",))


@pytest.mark.parametrize("names", ["x y", "features labels"])
def test_group_of_an_npz_is_taken(tmp_path, names):
    x, y = names.split()
    random = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", **{x: random.normal(size=(90, 3)), y: np.arange(90) % 2, "g": np.arange(90) // 6})
    done = begin(tmp_path, "d.npz", overrides=("data.group=g",))
    assert settings_of(done)["data"]["group"] == "g"
    with pytest.raises(DataError, match="has no array 'h'"):
        begin(tmp_path, "d.npz", overrides=("data.group=h",), force=True)


def test_one_hot_labels_are_classes(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.random.default_rng(0).normal(size=(90, 3)), y=np.eye(3)[np.arange(90) % 3])
    done = begin(tmp_path, "d.npz")
    assert done.goal.objective == "val_accuracy"
    assert "3 classes, with training rows: 0 (" in shown(done)


def test_dropped_column_is_no_target(tmp_path):
    iris().assign(junk=np.arange(150) % 4).to_csv(tmp_path / "rows.csv", index=False)
    done = begin(tmp_path, "rows.csv", overrides=('data.columns={ drop = ["junk"] }',))
    assert settings_of(done)["data"]["target"] == "species"


def test_input_whose_name_keras_refuses_is_refused_before_anything_is_written(tmp_path):
    body = "    i = np.arange(90)\n    x = np.stack([i % 5, i % 3], axis=1) / 2\n    return {'a/b': x, 'c': x}, i % 2"
    with pytest.raises(UsageError, match="the input 'a/b': Keras takes no / in the name of an input"):
        begin(tmp_path, function(tmp_path, body))
    assert [path.name for path in tmp_path.iterdir()] == ["rows.py"]


def test_dates_with_a_time_zone_are_an_order_without_a_warning(tmp_path):
    body = """    random = np.random.default_rng(0)
    hours = pd.date_range("2024-03-01", periods=400, freq="h", tz="Europe/Berlin")
    return pd.DataFrame(dict(hour=hours, load=random.normal(size=400)))"""
    source = function(tmp_path, body)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        done = begin(tmp_path, source)
    assert tomllib.loads(done.files[done.request.study_file])["data"]["order"] == "hour"
