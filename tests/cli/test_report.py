"""`manyfit report` and `compare` by the real command: what they write, what they print, and what they refuse."""

from __future__ import annotations

import json
import random
import re

import pytest
from support import SHARED, manyfit, replay, replay_file, write_study

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


@pytest.mark.slow
def test_report_of_a_real_study_has_the_mistakes_and_first_weights_of_its_best_model(tmp_path):
    study = write_study(tmp_path, trials=2, epochs=2)
    assert manyfit("run", study).returncode == 0
    found, _ = reported(study, "-o", tmp_path / "small.html")
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
