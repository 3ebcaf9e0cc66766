"""`manyfit report` and `compare` by the real command: what they write, what they print, and what they refuse."""

from __future__ import annotations

import json
import random
import re

import pytest
from support import SHARED, cut_off, manyfit, replay, replay_file, write_study

from search.storage.store import Store

KINDS = """
[study]
objective = "{objective}"
trials = 2
epochs = 2
[data]
source = "{source}"
{data}
[model]
build = "{build}"
[train]
optimizer = "adam"
{train}
[space]
learning_rate = {{ low = 1e-3, high = 1e-2, log = true }}
"""
ACCURACY = 'metrics = ["accuracy"]'


def reported(path, *arguments):
    done = manyfit("report", path, "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout, parse_constant=pytest.fail), done.stderr


@pytest.mark.gallery
def test_report_of_a_real_study_has_the_mistakes_and_first_weights_of_its_best_model(tmp_path):
    study = write_study(tmp_path, trials=2, epochs=2)
    assert manyfit("run", study).returncode == 0
    found, _ = reported(study, "-o", tmp_path / "small.html")
    assert found["model"]["training"] == ""
    (head,) = found["model"]["heads"]
    wrong = sum(count for k, row in enumerate(head["confusion"]) for j, count in enumerate(row) if j != k)
    best = json.loads((tmp_path / "small.best.json").read_text())["configs"][0]
    assert head["wrong"] == wrong == round((1 - best["value"]) * head["rows"])
    assert all(one["true"] != one["predicted"] for one in head["mistakes"])
    assert found["model"]["weights"]["size"] == [8, 8, 1]
    written = (tmp_path / "small.html").read_text(encoding="utf-8")
    assert written.count('<img src="data:image/png;base64,') == len(head["mistakes"]) + 16
    for name in ("confusion", "history", "curves", "time"):
        assert f'id="{name}"' in written
    # Without the weights, the rest is there, and a line says why the pictures are not.
    assert manyfit("clean", study, "--weights").returncode == 0
    done = manyfit("report", study)
    assert done.returncode == 0
    assert "the best model's pictures are left out: the weights of trial" in done.stderr
    assert "Its pictures are left out: the weights of trial" in (tmp_path / "small.report.html").read_text("utf-8")


@pytest.mark.gallery
@pytest.mark.parametrize(
    ("kind", "has_pictures", "weights"),
    [
        ("binary", False, None), ("regression", False, None), ("table", False, None), ("convolution", True, [3, 3, 1]),
        ("colours", True, [3, 3, 3]),
    ],
)  # fmt: skip
def test_mistakes_of_every_kind_of_data(tmp_path, kind, has_pictures, weights):
    rng = random.Random(0)
    rows = [(rng.randint(18, 80), rng.choice(["Oslo", "<b>Bern"]), rng.gauss(50, 20)) for _ in range(200)]
    lines = [f"{age},{city},{income:.2f},{'yes' if age + income > 100 else 'no'}" for age, city, income in rows]
    (tmp_path / "rows.csv").write_text("\n".join(["age,city,income,churn", *lines]))
    study, data, build, objective = {
        "binary": ("sklearn:breast_cancer", 'scale = "standard"', "mlp", "val_accuracy"),
        "regression": ("sklearn:diabetes", 'scale = "standard"', "mlp", "val_loss"),
        "table": ("rows.csv", 'target = "churn"', "mlp", "val_accuracy"),
        "convolution": (f"{SHARED}/mnist.npz", "limit = 600", "cnn", "val_accuracy"),
        "colours": (f"{SHARED}/cifar10_4000.npz", "limit = 600", "cnn", "val_accuracy"),
    }[kind]
    train = ACCURACY if objective == "val_accuracy" else ""
    text = KINDS.format(source=study, data=data, build=build, objective=objective, train=train)
    path = write_study(tmp_path, text, name="kind")
    done = manyfit("run", path)
    assert done.returncode == 0, done.stderr
    found, _ = reported(path, "-o", tmp_path / "kind.html")
    (head,) = found["model"]["heads"]
    assert "left_out" not in head
    if kind == "regression":
        true, predicted = zip(*head["points"], strict=True)
        mean = sum((a - b) ** 2 for a, b in zip(true, predicted, strict=True)) / len(true)
        assert mean == pytest.approx(found["steps"][-1]["value"], rel=1e-4)
    else:
        assert 1 - head["wrong"] / head["rows"] == pytest.approx(found["steps"][-1]["value"], abs=1e-6)
        written = (tmp_path / "kind.html").read_text("utf-8")
        assert ('<img src="data:image/png;' in written) is has_pictures
        assert "<b>Bern" not in written
    assert found["model"]["weights"].get("size") == weights


def test_report_refuses_to_replace_what_the_study_is_made_of(tmp_path):
    replay(replay_file(tmp_path, study__trials=2))
    before = (tmp_path / "replay.db").read_bytes()
    done = manyfit("report", tmp_path / "replay.toml", "-o", tmp_path / "replay.db")
    assert (done.returncode, done.stdout) == (2, "")
    assert "is the study's database; name another file" in done.stderr
    assert (tmp_path / "replay.db").read_bytes() == before


def test_json_alone_writes_no_file(tmp_path):
    replay(replay_file(tmp_path, study__trials=2))
    found, _ = reported(tmp_path / "replay.toml", "--no-model")
    assert found["model"] is None
    assert re.match(r"too early to say", found["answers"][0]["answer"])
    assert not list(tmp_path.glob("*.html"))


@pytest.fixture
def two(tmp_path):
    """A folder with two studies in one database, which differ in their range and their budget."""

    def accuracy(assignment, epoch):
        return {"loss": 1.0, "val_accuracy": assignment.config["dropout"] + epoch / 100}

    text = {
        "study__objective": "val_accuracy",
        "search__sampler": "random",
        "search__pruner": "none",
        "study__epochs": 3,
    }
    replay(replay_file(tmp_path, **text, study__trials=4), accuracy)
    replay(replay_file(tmp_path, **text, study__trials=8, study__name="wide b", space__dropout__high=0.9), accuracy)
    return tmp_path


def test_compare_sets_studies_of_a_database_side_by_side(two):
    done = manyfit("compare", two / "replay.db", "-o", two / "compared.html")
    assert done.returncode == 0, done.stderr
    assert re.search(r"space\.dropout +\{.*0\.5.*\} +\{.*0\.9.*\}", done.stdout)
    assert "compare the values at equal epochs, 12" in done.stdout
    written = (two / "compared.html").read_text("utf-8")
    assert all(f'id="best-over-{over}"' in written for over in ("epochs", "seconds", "trials"))
    found = json.loads(manyfit("compare", two / "replay.db", "--json").stdout, parse_constant=pytest.fail)
    narrow, wide = found["studies"]
    assert [(one["study"], one["trials"], one["epochs"]) for one in (narrow, wide)] == [
        ("replay", 4, 12),
        ("wide b", 8, 24),
    ]
    assert wide["at_equal_epochs"] == max(step["value"] for step in wide["steps"] if step["epochs"] <= 12)
    assert {"study.trials", "space.dropout"} == {one["key"] for one in found["differences"]}


def test_compare_refuses_less_than_two_studies_and_unknown_names(two):
    done = manyfit("compare", two / "replay.db", "--name", "replay")
    assert done.returncode == 2
    assert "a comparison needs two studies; received replay" in done.stderr
    done = manyfit("compare", two / "replay.db", "--name", "other")
    assert done.returncode == 2
    assert "no database here has a study 'other'" in done.stderr


def test_model_is_left_out_while_the_study_runs(tmp_path):
    file = replay_file(tmp_path, study__trials=8, study__epochs=2)
    cut_off(file, 3)
    with Store.of(file):  # the lock of a running command
        assert manyfit("report", tmp_path / "replay.toml").returncode == 0
    written = (tmp_path / "replay.report.html").read_text("utf-8")
    assert "Its pictures are left out: the study is running" in written
    assert "next: it is running" in written
