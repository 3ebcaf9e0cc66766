"""Models of tables: trained on features, exported with the encoding inside, opened by Keras alone on rows of the table."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from mixed_kit import rows_of
from support import PROGRAMS, in_keras, manyfit, ran, told

from search.engines.devices import Device

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


# ---------------------------------------------------------------- layers


def compare(seed):
    import keras
    import numpy as np
    from mixed_kit import rows_of

    from search.data import table_encoding
    from search.data.columns import read_table
    from search.engines import raw_rows
    from search.spec.settings import Columns

    settings = Columns(category=("zip",))
    train = rows_of(300, seed).drop(columns=["churn", "part"])
    table, findings = read_table(train, settings, str)
    assert not findings.faults, findings.faults
    adapted = table_encoding.adapt(table, np.arange(200), "standard", "t")
    # Rows that no training row resembles.
    new = rows_of(8, seed + 1).drop(columns=["churn", "part"])
    new["plan"] = ["free", "", "?", "never seen", "FREE", " free", "n/a", "Ünlimited plan"]
    new["zip"] = [123, np.nan, 7, 90210, 456, -1, 1e6, 123]
    new["note"] = ["", "good\u00a0bad", "GOOD\tday\n", "ÜBER the", "bad-day", "it's", "(very)", "new words only"]
    new["sign up"] = [
        "",
        "2024-2-29 7:05",
        "2000-01-01",
        "1999-12-31T23:59:59Z",
        "1900-03-01",
        "2400-02-29",
        "NA",
        "2024/12/31",
    ]
    new["born"] = [
        "",
        "1/2/2024",
        "31.12.1999",
        "01-01-1970",
        "28/02/1900",
        "29/02/2000",
        "?",
        "7/11/2023 10:11",
    ]
    new["age"] = [np.nan, 0, -5, 1e6, 40, 1e-9, 41.5, 39]
    other, findings = read_table(new, settings, str, like=table)
    assert not findings.faults, findings.faults
    raw_rows.find_tensorflow()
    model = raw_rows.in_front({"": adapted}, "one", keras.layers.Identity())
    model.save("whole.keras")
    loaded = keras.models.load_model("whole.keras")
    worst = 0.0
    for given, index in ((table, np.arange(300)), (other, np.arange(8))):
        expected = table_encoding.encode(adapted, given, index)
        for each in (model, loaded):
            stage, rows = raw_rows.staged(each, given.raw(index))
            received = stage.predict(rows, verbose=0)
            assert received.shape == expected.shape
            worst = max(worst, float((np.abs(received - expected) / np.maximum(1, np.abs(expected))).max()))
    worst = max(worst, *windows_differ(train.drop(columns="note"), new.drop(columns="note"), settings))
    return {"worst": worst, "features": len(adapted.features)}


def windows_differ(train, new, settings):
    """Yield the differences between windows of encoded rows and what layers give for windows of raw rows."""
    import keras
    import numpy as np

    from search.data import table_encoding
    from search.data.columns import read_table
    from search.engines import raw_rows

    table, _ = read_table(train, settings, str)
    other, _ = read_table(new, settings, str, like=table)
    adapted = table_encoding.adapt(table, np.arange(200), "standard", "t")
    model = raw_rows.in_front({"": adapted}, "one", keras.layers.Identity(), window=3)
    model.save("windows.keras")
    loaded = keras.models.load_model("windows.keras")
    for given, count in ((table, 300), (other, 8)):
        starts = [[start, start + 1, start + 2] for start in range(count - 2)]
        expected = table_encoding.encode(adapted, given, np.arange(count))[starts]
        rows = {name: cells[starts] for name, cells in given.raw(np.arange(count)).items()}
        stage, coded = raw_rows.staged(loaded, rows)
        received = stage.predict(coded, verbose=0)
        assert received.shape == expected.shape
        yield float((np.abs(received - expected) / np.maximum(1, np.abs(expected))).max())


@pytest.mark.parametrize("backend", [pytest.param("tensorflow", marks=pytest.mark.gallery), "jax"])
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.gallery)])
def test_layers_compute_the_features_that_trials_trained_on(tmp_path, backend, seed):
    """Also for unknown categories, missing values and dates of all centuries."""
    found = in_keras(compare, seed, backend=backend, cwd=tmp_path)
    assert found["features"] == 27
    assert found["worst"] < 1e-5


# ---------------------------------------------------------------- the whole way

STUDY = """
[study]
objective = "val_loss"
trials = 3
epochs = 4
[data]
source = "rows.csv"
target = "{target}"
split = "part"
{columns}
[model]
units = [8]
[train]
batch_size = 32
optimizer = "adam"
[space]
learning_rate = [0.001, 0.01, 0.03]
[search]
sampler = "grid"
pruner = "none"
[run]
engine = "{engine}"
backend = "{backend}"
"""

# Keras, pandas and nothing of ours. The rows are read as a user reads them.
OPEN = PROGRAMS / "open_raw_rows.py"


def opened(folder, target, backend, tensorflow="with", is_refused=False):
    """Evaluate the exported model in a new process; return what it prints, or, if it must fail, its error."""
    done = subprocess.run(
        [sys.executable, "-I", OPEN, "best.keras", target, tensorflow],
        cwd=folder,
        env={
            **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            **Device().environment(backend),
        },
        capture_output=True,
        text=True,
        timeout=600,
    )
    if is_refused:
        return done.stderr
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def curves_of(folder, target, engine, backend, columns=""):
    """Search with the command; return best.json and the curves by learning rate."""
    text = STUDY.format(target=target, engine=engine, backend=backend, columns=columns)
    (folder / f"{engine}-{backend}.toml").write_text(text)
    done = manyfit("run", f"{engine}-{backend}.toml", cwd=folder, timeout=600)
    assert done.returncode == 0, done.stderr
    best = json.loads((folder / f"{engine}-{backend}.best.json").read_text())
    curves = {config["params"]["learning_rate"]: config["curve"] for config in best["configs"]}
    return best, {rate: np.array(curve["val_loss"]) for rate, curve in curves.items()}


@pytest.mark.gallery
@pytest.mark.parametrize(
    "engines",
    [pytest.param(["lanes"], id="lanes"), pytest.param(["lanes", "fit"], id="both", marks=pytest.mark.gallery)],
)
def test_table_of_every_kind_is_searched_exported_and_opened_on_raw_rows(tmp_path, engines):
    rows_of(600, 0).to_csv(tmp_path / "rows.csv", index=False)
    columns = 'columns = { category = ["zip"] }'
    best, lanes = curves_of(tmp_path, "churn", "lanes", "jax", columns)
    assert len(lanes) == 3
    if "fit" in engines:
        _, fit = curves_of(tmp_path, "churn", "fit", "jax", columns)
        for rate, curve in lanes.items():
            assert np.allclose(curve, fit[rate], rtol=1e-5, atol=1e-5), rate
    assert best["identity"]["data"]["kinds"] == {
        "age": "number",
        "in/come": "number",
        "plan": "category",
        "zip": "category",
        "member": "boolean",
        "sign up": "date",
        "born": "date",
        "note": "text",
    }
    value = best["configs"][0]["value"]
    # Far better than guessing: the target depends on a number, a category and a word.
    assert value < 0.5
    for engine in engines:
        (tmp_path / "best.keras").unlink(missing_ok=True)
        done = manyfit("export", f"{engine}-jax.toml", "--model", "best.keras", cwd=tmp_path, timeout=600)
        assert done.returncode == 0, done.stderr
        assert "plan (category)" in done.stderr
        assert "NOT inside" not in done.stderr
        for backend in ("tensorflow", "jax")[: len(engines)]:
            seen = opened(tmp_path, "churn", backend)
            assert seen["value"] == pytest.approx(value, rel=1e-4), (engine, backend)
            assert abs(seen["one"]) < 1e-5
    if "fit" in engines:
        assert "requires TensorFlow" in opened(tmp_path, "churn", "jax", "without", is_refused=True)


@pytest.mark.gallery
def test_table_of_numbers_with_blanks_opens_without_tensorflow(tmp_path):
    """Real data: the diabetes of scikit-learn, with every seventh cell removed."""
    from sklearn.datasets import load_diabetes

    frame = load_diabetes(as_frame=True, scaled=False).frame
    target = frame.pop("target") / 100
    holes = np.random.default_rng(0).random(frame.shape) < 1 / 7
    frame = frame.mask(holes).assign(disease=target)
    frame["part"] = np.random.default_rng(1).choice(["train", "validation"], len(frame), p=[0.7, 0.3])
    frame.to_csv(tmp_path / "rows.csv", index=False)
    columns = 'columns = { category = ["sex"] }'
    best, _ = curves_of(tmp_path, "disease", "fit", "tensorflow", columns)
    value = best["configs"][0]["value"]
    done = manyfit("export", "fit-tensorflow.toml", "--model", "best.keras", cwd=tmp_path, timeout=600)
    assert done.returncode == 0, done.stderr
    for backend, tensorflow in (("tensorflow", "with"), ("jax", "with"), ("jax", "without")):
        seen = opened(tmp_path, "disease", backend, tensorflow)
        assert seen["value"] == pytest.approx(value, rel=1e-4)


def case_without_tensorflow():
    import sys

    from export_kit import FOLDER, export

    sys.modules["tensorflow"] = None
    (FOLDER / "t.csv").write_text("a,b,y\n" + "".join(f"{'pq'[i % 2]},{i},{i % 3}\n" for i in range(90)))
    from search.engines import raw_rows

    has = raw_rows.find_tensorflow()
    case = export("t", {"source": "t.csv", "target": "y"}) if not has else {}
    return {"lines": case["lines"], "has": has}


def test_export_without_tensorflow_says_that_the_encoding_is_not_inside(tmp_path):
    found = told(ran(case_without_tensorflow, backend="jax", cwd=tmp_path))
    assert not found["has"]
    assert found["lines"][0] == (
        "the encoding is NOT inside (ModuleNotFoundError: texts and dates need TensorFlow: install it and export again): the "
        "model takes 3 features: b, a = p, a = q, ..."
    )


# ---------------------------------------------------------------- windows over a panel

PANEL = """
[study]
objective = "val_loss"
trials = 2
epochs = 3
[data]
source = "rows.csv"
target = "sales"
group = "store"
order = "day"
window = 4
validation = 0.2
test = 0
[model]
units = [8]
[train]
batch_size = 64
[space]
learning_rate = [0.003, 0.03]
[search]
sampler = "grid"
pruner = "none"
[run]
engine = "{engine}"
backend = "jax"
"""

# The windows of the validation days of every store, made by a loop over rows; nothing of ours.
OPEN_WINDOWS = PROGRAMS / "open_windows.py"


@pytest.mark.gallery
def test_windows_over_a_panel_are_searched_exported_and_opened_on_raw_windows(tmp_path):
    random = np.random.default_rng(0)
    days = pd.date_range("2024-01-01", periods=60)
    stores = [pd.DataFrame({"store": store, "day": days.strftime("%Y-%m-%d")}) for store in ("north", "south", "east")]
    frame = pd.concat(stores).sample(frac=1, random_state=0)
    frame["sky"] = random.choice(["sun", "rain", ""], len(frame))
    frame["opened"] = random.choice(["1999-05-01", "2012-10-30", ""], len(frame))
    frame["visits"] = np.where(random.random(len(frame)) < 0.2, np.nan, random.normal(50, 10, len(frame)).round())
    frame["sales"] = (random.normal(0, 1, len(frame)) + (frame.sky == "sun")).round(3)
    frame.to_csv(tmp_path / "rows.csv", index=False)
    bests = {}
    for engine in ("lanes", "fit"):
        (tmp_path / f"{engine}.toml").write_text(PANEL.format(engine=engine))
        done = manyfit("run", f"{engine}.toml", cwd=tmp_path, timeout=600)
        assert done.returncode == 0, done.stderr
        bests[engine] = json.loads((tmp_path / f"{engine}.best.json").read_text())
    curves = [{config["trial"]: config["curve"]["val_loss"] for config in best["configs"]} for best in bests.values()]
    for trial, curve in curves[0].items():
        np.testing.assert_allclose(curve, curves[1][trial], rtol=1e-5)
    done = manyfit("export", "lanes.toml", "--model", "best.keras", cwd=tmp_path, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "NOT inside" not in done.stderr
    for backend in ("tensorflow", "jax"):
        done = subprocess.run(
            [sys.executable, "-I", OPEN_WINDOWS], cwd=tmp_path, capture_output=True, text=True, timeout=600,
            env={**{name: v for name, v in os.environ.items() if name != "PYTHONPATH"}, **Device().environment(backend)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        seen = json.loads(done.stdout.splitlines()[-1])
        assert seen["rows"] == 3 * (12 - 4)
        assert seen["value"] == pytest.approx(bests["lanes"]["configs"][0]["value"], rel=1e-4), backend
