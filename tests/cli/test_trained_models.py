"""The models that a study ends with, through the command: evaluated on test rows, which is counted, and on new rows."""

from __future__ import annotations

import json
import shutil
import zipfile
from io import StringIO

import numpy as np
import pandas as pd
import pytest
from support import in_keras, manyfit, write_study

from search import data
from search.spec import model_file
from search.storage import records
from search.storage.store import Store

pytestmark = pytest.mark.slow

STUDY = """
[study]
objective = "val_accuracy"
trials = 2
epochs = 2
[data]
source = "rows.npz"
scale = "standard"
test = 0.3
[model]
units = [4]
[space]
learning_rate = { low = 1e-2, high = 1e-1, log = true }
[run]
engine = "fit"
backend = "jax"
"""


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    """A folder with a finished study and its exported model."""
    folder = tmp_path_factory.mktemp("studied")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4)) * [1, 10, 100, 0.1]
    y = np.array(["bird", "cat", "dog"])[(x[:, 0] > 0).astype(int) + (x[:, 1] > 5)]
    np.savez(folder / "rows.npz", x=x, y=y)
    for arguments in (("run", write_study(folder, STUDY)), ("export", folder / "small.toml", "--model", "best.keras")):
        done = manyfit(*arguments, cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


def evaluated(folder, *arguments):
    done = manyfit("evaluate", *arguments, "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def by_keras_alone(path, rows):
    """Evaluate a file as anybody does."""
    import keras
    import numpy as np

    model, given = keras.models.load_model(path), np.load(rows)
    found = model.evaluate(given["x"], given["y"], verbose=0, return_dict=True)
    return {name: float(value) for name, value in found.items()}


def probabilities_by_keras(path, rows):
    """Return what anybody computes by Keras and NumPy."""
    import keras
    import numpy as np

    given = keras.models.load_model(path).predict(np.load(rows)["x"], verbose=0)
    shares = np.exp(given - given.max(axis=1, keepdims=True))
    return (shares / shares.sum(axis=1, keepdims=True)).tolist()


def test_test_rows_are_evaluated_as_keras_does_and_each_look_is_counted(studied):
    of_file, of_study = evaluated(studied, "best.keras"), evaluated(studied, "small.toml")
    assert (of_file["split"], of_file["rows"], of_file["test_evaluations"]) == ("test", 60, 1)
    assert (of_study["model"], of_study["test_evaluations"]) == (None, 2)
    stored = records.load(studied / "small.db", "small")
    held = data.load(stored.file.settings.data, studied, 0, "test")
    np.savez(studied / "held.npz", x=held.raw.x_validation, y=held.y_validation)
    alone = in_keras(by_keras_alone, str(studied / "best.keras"), str(studied / "held.npz"))
    for found in (of_file, of_study):
        assert {name: one["value"] for name, one in found["metrics"].items()} == pytest.approx(alone, rel=1e-4)
        best, epoch = stored.complete[0], stored.complete[0].best_epoch
        assert found["metrics"]["accuracy"]["in_the_search"] == best.value
        assert found["metrics"]["loss"]["in_the_search"] == best.curve[epoch - 1]["val_loss"]
        accuracy, loss = found["metrics"]["accuracy"], found["metrics"]["loss"]
        assert (accuracy["interval"], loss["interval"]) == ("Wilson", "bootstrap")
        assert all(one["low"] < one["value"] < one["high"] for one in (accuracy, loss))
    # Everybody who looks at the study is told.
    assert "the test rows were evaluated 2 times" in manyfit("show", studied / "small.toml").stdout
    assert json.loads(manyfit("export", studied / "small.toml").stdout)["test_evaluations"] == 2
    assert (stored.seconds, stored.ended) == (records.load(studied / "small.db", "small").seconds, "all trials")


def test_file_says_what_it_takes_and_gives(studied):
    notes = model_file.read(studied / "best.keras")
    (given,), (taken,) = notes.outputs, notes.inputs
    assert (given.class_names, given.gives, given.squash) == (["bird", "cat", "dog"], "logits", "softmax")
    assert (taken.shape, taken.dtype, notes.preprocessing.is_inside) == ([4], "float64", True)
    assert (notes.study, notes.fingerprint) == (
        "small",
        records.load(studied / "small.db", "small").identity["data"]["fingerprint"],
    )


@pytest.mark.gallery
def test_what_can_not_be_evaluated_is_refused_and_not_counted(studied, tmp_path):
    before = records.load(studied / "small.db", "small").test_evaluations

    def refusal(*arguments, code=2):
        done = manyfit("evaluate", *arguments, cwd=studied)
        assert (done.returncode, done.stdout) == (code, ""), done.stderr
        return done.stderr

    assert "no such file" in refusal("other.keras")
    assert "the study has no trial 7" in refusal("small.toml", "--trial", "7")
    assert "choose a trial of a study" in refusal("best.keras", "--trial", "0")
    bare = tmp_path / "bare.keras"
    with zipfile.ZipFile(studied / "best.keras") as old, zipfile.ZipFile(bare, "w") as new:
        for name in old.namelist():
            new.writestr(name, b"{}" if name == "metadata.json" else old.read(name))
    assert "this model is none of manyfit's" in refusal(bare)
    bare.write_bytes((studied / "best.keras").read_bytes()[:-300])
    assert "no .keras file, or a damaged one" in refusal(bare)
    # A look that can't be recorded is not taken.
    with Store.open(studied / "small.db", "small"):
        assert "in use" in refusal("small.toml", code=3)
    moved = tmp_path / "rows.npz"
    shutil.copy(studied / "rows.npz", moved)
    given = np.load(moved)
    np.savez(studied / "rows.npz", x=given["x"] + 1, y=given["y"])
    try:
        assert "the data of study 'small' have changed" in refusal("best.keras")
        np.savez(studied / "rows.npz", x=given["x"] ** 3, y=given["y"])
        assert "data.fingerprint: the data are not the same" in refusal("small.toml")
    finally:
        shutil.copy(moved, studied / "rows.npz")
    assert records.load(studied / "small.db", "small").test_evaluations == before


def test_command_predicts_new_rows_by_the_file_alone(studied, tmp_path):
    rows = np.load(studied / "rows.npz")["x"][:7]
    np.savez(tmp_path / "new.npz", x=rows)
    # Neither the study nor its data are there.
    shutil.copy(studied / "best.keras", tmp_path)
    done = manyfit("predict", "best.keras", "new.npz", "-o", "p.csv", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    table = pd.read_csv(tmp_path / "p.csv")
    assert (said["rows"], said["columns"], len(table)) == (7, list(table), 7)
    assert sum(said["outputs"][""]["classes"].values()) == 7
    chances = table[[f"probability of {name}" for name in ("bird", "cat", "dog")]].to_numpy()
    np.testing.assert_allclose(chances.sum(axis=1), 1, rtol=1e-6)
    alone = in_keras(
        probabilities_by_keras, str(tmp_path / "best.keras"), str(tmp_path / "new.npz"), backend="tensorflow"
    )
    np.testing.assert_allclose(chances, alone, rtol=1e-4, atol=1e-6)
    before = sorted(path.name for path in tmp_path.iterdir())
    np.savez(tmp_path / "new.npz", x=rows[:, :3])
    done = manyfit("predict", "best.keras", "new.npz", "-o", "p.csv", cwd=tmp_path)
    assert (done.returncode, "the model takes rows of the shape (4,)" in done.stderr) == (2, True)
    for wrong, says in (
        (("-o", "p.txt"), "predictions are a .csv"),
        (("--json",), "name it with -o"),
        (("-o", "new.npz"), "predictions are a .csv"),
        (("--code", "mine.txt", "-o", "p.csv"), "--code: names a Python file"),
    ):
        done = manyfit("predict", "best.keras", "new.npz", *wrong, cwd=tmp_path)
        assert (done.returncode, says in done.stderr) == (2, True), done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def retrained(folder, *arguments):
    done = manyfit("retrain", *arguments, "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert all((folder / file).stat().st_size > 500 for file in said["files"])
    return said


@pytest.mark.gallery
def test_config_is_trained_again_as_in_the_search_past_its_end_and_on_more_rows(studied, tmp_path):
    stored = records.load(studied / "small.db", "small")
    best, before = stored.complete[0], sorted(path.name for path in studied.iterdir())
    # From best.json: with the same seed, the curve is that of the search.
    again = retrained(studied, "small.best.json", "-o", "again.keras")
    for one, other in zip(again["curve"], best.curve, strict=True):
        assert one == pytest.approx(other, rel=1e-5)
    assert (again["value"], again["same_seed"], again["epoch"]) == (best.value, best.value, best.best_epoch)
    assert "as in the search, with the same seed" in again["verdict"]
    found = evaluated(studied, "again.keras", "--split", "validation")
    assert not found["was_trained_on"]
    assert found["metrics"]["accuracy"]["value"] == pytest.approx(best.value)
    long = retrained(studied, "small.toml", "--long", "--seed", "3", "-o", "long.keras")
    assert (long["same_seed"], long["promise"]["low"]) == (None, None)
    assert len(long["curve"]) >= len(best.curve) + 5 or len(long["curve"]) == 10 * len(best.curve)
    # The last weights, whatever the rows say that are among the training rows now.
    full = retrained(studied, "small.toml", "--full", "-o", "full.keras")
    assert (full["value"], len(full["curve"]), full["epoch"]) == (None, best.best_epoch, best.best_epoch)
    found = evaluated(studied, "full.keras", "--split", "validation")
    assert found["was_trained_on"]
    assert found["metrics"]["loss"]["value"] == pytest.approx(full["curve"][-1]["val_loss"], rel=1e-4)
    card = (studied / "full.md").read_text()
    assert "no rows are left that could judge it" in card
    assert "`bird`, `cat`, `dog`" in card
    made = {f"{name}{end}" for name in ("again", "long", "full") for end in (".keras", ".md", ".curves.png")}
    assert {path.name.replace(".curves.html", ".curves.png") for path in studied.iterdir()} - {*before} <= made
    # The study itself is as it was.
    after = records.load(studied / "small.db", "small")
    assert (after.trials, after.events) == (stored.trials, stored.events)


@pytest.mark.gallery
def test_layers_are_drawn_where_graphviz_is_and_listed_elsewhere(studied):
    done = manyfit("plot-model", "best.keras", "-o", "layers.svg", cwd=studied)
    assert done.returncode == 0, done.stderr
    picture = studied / "layers.svg"
    if picture.exists():
        assert ("written: layers.svg" in done.stderr, done.stdout) == (True, "")
        assert "dense_1" in picture.read_text()
    else:
        assert "no picture was drawn: " in done.stderr
        assert "Total params" in done.stdout
    said = json.loads(manyfit("plot-model", "best.keras", "--json", cwd=studied).stdout)
    # Four inputs to four units to three classes.
    dense = [layer["parameters"] for layer in said["layers"] if layer["class"] == "Dense"]
    assert (dense, said["parameters"]) == ([4 * 4 + 4, 4 * 3 + 3], 35)
    assert [layer["output"] for layer in said["layers"]][-1] == [None, 3]
    assert "a picture is a .png, .svg, .pdf" in manyfit("plot-model", "best.keras", "-o", "x.doc", cwd=studied).stderr


@pytest.mark.gallery
def test_ensemble_takes_kept_weights_and_trains_again_what_has_none(studied, tmp_path):
    for file in ("small.toml", "small.db", "rows.npz"):
        shutil.copy(studied / file, tmp_path)
    stored = records.load(tmp_path / "small.db", "small")
    best, second = stored.complete
    stored.files.folder.mkdir()
    shutil.copy(studied / "small.files" / stored.files.weights(best.members[0]).name, stored.files.folder)
    done = manyfit("ensemble", "small.toml", "--top", "2", "-o", "both.keras", "--test", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["trials"], said["retrained"]) == ([best.number, second.number], [second.number])
    assert said["best"]["val_accuracy"] == best.value
    before = stored.test_evaluations
    assert [said[key]["test_evaluations"] for key in ("test", "test_of_best")] == [before + 1, before + 2]
    # What it gives is the average of both, whose files are made apart.
    held = data.load(stored.file.settings.data, tmp_path, 0, "test")
    np.savez(tmp_path / "held.npz", x=held.raw.x_validation)
    done = manyfit("export", studied / "small.toml", "--trial", second.number, "--model", tmp_path / "second.keras")
    assert done.returncode == 0, done.stderr
    shutil.copy(studied / "best.keras", tmp_path)
    rows = str(tmp_path / "held.npz")
    one, other = (
        in_keras(probabilities_by_keras, str(tmp_path / name), rows) for name in ("best.keras", "second.keras")
    )
    done = manyfit("predict", "both.keras", "held.npz", cwd=tmp_path)
    table = pd.read_csv(StringIO(done.stdout))
    chances = table[[f"probability of {name}" for name in ("bird", "cat", "dog")]].to_numpy()
    np.testing.assert_allclose(chances, (np.array(one) + np.array(other)) / 2, atol=1e-5)
    right = np.array(["bird", "cat", "dog"])[held.y_validation.ravel()] == table["prediction"]
    assert said["test"]["metrics"]["accuracy"]["value"] == pytest.approx(right.mean())
    done = manyfit("ensemble", "small.toml", "--top", "3", "-o", "no.keras", cwd=tmp_path)
    assert (done.returncode, "has 2 different configs" in done.stderr) == (2, True)
