"""Trials trained fully are ranked; what others reached on the way is told, and no metric overwrites or is overwritten."""

from __future__ import annotations

import csv
import io
import json

import jsonschema
import pytest
from rich.console import Console
from support import ROOT, manyfit, record, replay, replay_file

from search.core.loop import search
from search.core.study import Study
from search.errors import Interrupted
from search.storage import records
from search.storage.store import Store
from search.trials.events import EpochEnd, Member
from search.views import export, report, standing
from search.views.console import Progress
from search.workers.inprocess import Replaying

MAXIMIZED = """
[study]
objective = "val_accuracy"
trials = 6
epochs = 4
[data]
source = "sklearn:digits"
[space]
learning_rate = { low = 1e-4, high = 1e-1, log = true }
dropout = { low = 0.0, high = 0.5 }
[search]
sampler = "random"
pruner = "none"
"""


def study_of(folder, text, curves, **settings):
    return replay(replay_file(folder, text, **settings), curves)


def test_a_pruned_trial_that_beat_a_listed_one_is_named_with_its_value_wherever_the_best_are_listed(tmp_path):
    def curves(assignment, epoch):
        return {"loss": 1.0, "val_accuracy": 0.33 - assignment.member.trial * 0.03 - (4 - epoch) / 10}

    stored = study_of(tmp_path, MAXIMIZED, curves, study__trials=2)
    assert [trial.state for trial in stored.trials] == ["COMPLETE"] * 2
    assert standing.line(stored, 5) == "trained fully: 2 of 2 trials"
    assert "ahead" not in json.loads(export.to_json(export.best(stored)))
    for number, (curve, state) in enumerate(
        [([0.94, 0.0], "PRUNED"), ([0.32], "RUNNING"), ([0.2], "WAITING"), ([], "FAIL")], 2
    ):
        trial = Study(stored.file).trial(number, {"learning_rate": 0.01, "dropout": 0.1 * number})
        trial.state, trial.trainings[0].curve = state, [{"val_accuracy": value} for value in curve]
        trial.value = max(curve) if curve else None
        trial.best_epoch = 1
        stored.trials.append(trial)
    assert [trial.number for trial in standing.ahead(stored.trials, "maximize", stored.complete[:2])] == [2, 3]
    assert [trial.number for trial in standing.ahead(stored.trials, "maximize", stored.complete[:1])] == [2]
    assert [trial.number for trial in standing.ahead(stored.trials, "minimize", stored.complete[:1])] == [4, 3]
    assert [trial.number for trial in standing.ahead(stored.trials, "maximize", [])] == [2, 3, 4]
    assert standing.line(stored, 5) == (
        "trained fully: 2 of 6 trials; better than rank 2, but not trained fully: "
        "trial 2 0.94 (pruned at epoch 2 of 4), trial 3 0.32 (running at epoch 1 of 4)"
    )
    assert standing.line(stored, 1).endswith(
        "better than the one listed, but not trained fully: trial 2 0.94 (pruned at epoch 2 of 4)"
    )
    document = json.loads(export.to_json(export.best(stored)))
    jsonschema.validate(document, json.loads((ROOT / "search" / "views" / "best.schema.json").read_text()))
    assert [config["trial"] for config in document["configs"]] == [0, 1]
    told = [(ahead["trial"], ahead["value"], ahead["state"], ahead["epochs"]) for ahead in document["ahead"]]
    assert told == [(2, 0.94, "PRUNED", 2), (3, 0.32, "RUNNING", 1)]
    console = Console(width=200, record=True)
    report.show(stored, 5, console)
    assert "trial 2 0.94 (pruned at epoch 2 of 4)" in console.export_text()


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_export_and_show_say_what_a_pruned_trial_reached(tmp_path, direction):
    """The command itself: a trial that was poor and complete ranks among the best, others that were better were pruned."""
    sign = 1.0 if direction == "maximize" else -1.0

    def curves(assignment, epoch):
        # The first is poor and has nobody to be compared with; of the others each is a little worse than the one before.
        score = 0.33 if assignment.member.trial == 0 else 0.97 - assignment.member.trial / 1000
        return {"loss": 1.0, "val_score": sign * (score - (4 - epoch) / 1e6)}

    text = MAXIMIZED.replace("val_accuracy", f'val_score"\ndirection = "{direction}')
    stored = study_of(
        tmp_path, text.replace('"none"', '{ name = "halving", first_rung = 2, eta = 2 }'), curves, study__trials=9
    )
    pruned = [trial for trial in stored.trials if trial.state == "PRUNED"]
    assert pruned
    assert stored.trials[0] in stored.complete[:5], "nothing to be told"
    best = max(pruned, key=lambda trial: sign * trial.value)
    told = f"trial {best.number} {best.value:.5g} (pruned at epoch"
    done = manyfit("export", tmp_path / "replay.toml")
    assert told in done.stderr
    assert json.loads(done.stdout)["ahead"][0]["trial"] == best.number
    assert told in manyfit("show", tmp_path / "replay.toml").stdout


def test_a_study_under_way_lists_the_best_so_far_of_trials_that_run(tmp_path):
    file = replay_file(tmp_path, MAXIMIZED)
    values = {0: 0.5, 1: 0.97, 2: 0.2}

    def curves(assignment, epoch):
        return {"loss": 1.0, "val_accuracy": values.get(assignment.member.trial, 0.1) - epoch / 100}

    with pytest.raises(Interrupted), Store.create(file, record(file)) as store:
        search(
            Study(file),
            store,
            Replaying(curves, 3),
            interruption=iter([0, 0, 0, *[2] * 9]).__next__,
            watch=lambda: None,
        )
    (brief,) = records.briefs(file.storage)
    assert (brief.best, brief.ahead) == (None, (pytest.approx(0.96), 1, "WAITING"))
    (found,) = json.loads(manyfit("list", tmp_path, "--json").stdout)
    (tmp_path / "above").mkdir()
    (tmp_path / "above" / "studies").symlink_to(tmp_path)
    (same,) = json.loads(manyfit("list", tmp_path / "above", "--json").stdout)
    assert same == {**found, "database": str(tmp_path / "above" / "studies" / "replay.db")}
    assert found["best"] is None
    assert found["ahead"] == {"value": pytest.approx(0.96), "trial": 1, "state": "WAITING"}
    assert "0.96 (trial 1, interrupted)" in manyfit("list", tmp_path).stdout
    shown = manyfit("show", tmp_path / "replay.toml").stdout
    assert "trained fully: 0 of 3 trials; only not trained fully: trial 1 0.96 (interrupted at epoch" in shown


def test_the_live_view_has_the_best_so_far_of_running_trials_marked_as_running(tmp_path):
    study = Study(replay_file(tmp_path, MAXIMIZED))
    console = Console(width=200, force_terminal=True)
    progress = Progress(study, console)
    assert progress.best_text().plain == "no epoch yet"
    for number, values in enumerate([[0.3] * 4, [0.97], [0.2]]):
        study.next_assignment()
        for epoch, value in enumerate(values, 1):
            study.record([EpochEnd(Member(number), epoch, {"loss": 1.0, "val_accuracy": value}, 0.1)])
            study.judge([Member(number)])
    assert progress.best_text().plain == "best so far 0.97 (trial 1, running)"
    for epoch, value in enumerate([0.98, 0.5, 0.5], 2):
        study.record([EpochEnd(Member(1), epoch, {"loss": 1.0, "val_accuracy": value}, 0.1)])
        study.judge([Member(1)])
    assert progress.best_text().plain == "best 0.98 (trial 1)"


OWN_NAMES = (
    "seconds",
    "epoch",
    "value",
    "rank",
    "trial",
    "state",
    "kind",
    "at",
    "number",
    "ended",
    "best_epoch",
    "params",
    "curve",
)


def test_metrics_of_any_name_keep_their_values_in_every_file_and_command(tmp_path):
    def curves(assignment, epoch):
        named = {name: float(place * 100 + epoch) for place, name in enumerate(OWN_NAMES, 1)}
        return {
            "loss": 1.0 / epoch,
            "val_loss": 1.0 / epoch,
            **named,
            **{f"val_{name}": -v for name, v in named.items()},
        }

    text = MAXIMIZED.replace("val_accuracy", "val_loss")
    stored = study_of(tmp_path, text, curves, study__trials=2)
    expected = {name: [place * 100.0 + epoch for epoch in (1, 2, 3, 4)] for place, name in enumerate(OWN_NAMES, 1)}
    document = json.loads(export.to_json(export.best(stored)))
    jsonschema.validate(document, json.loads((ROOT / "search" / "views" / "best.schema.json").read_text()))
    for config in document["configs"]:
        assert {name: config["curve"][name] for name in OWN_NAMES} == expected
        assert config["seconds"] == [0.0] * 4
    told = json.loads(manyfit("show", tmp_path / "replay.toml", "--json").stdout)
    assert {name: told["configs"][0]["curve"][name] for name in OWN_NAMES} == expected
    trial = json.loads(manyfit("show", tmp_path / "replay.toml", "--trial", 1, "--json").stdout)
    assert [metrics["seconds"] for metrics in trial["curve"]] == expected["seconds"]
    rows = list(csv.DictReader(io.StringIO(export.to_csv(stored))))
    assert [(row["trial"], row["state"], float(row["seconds"])) for row in rows] == [
        ("0", "COMPLETE", 0.0),
        ("1", "COMPLETE", 0.0),
    ]


def test_curves_of_ordinary_metrics_have_the_seconds_of_each_epoch_among_them_as_ever(tmp_path):
    (config, *_) = export.best(
        study_of(tmp_path, MAXIMIZED, lambda assignment, epoch: {"loss": 1.0, "val_accuracy": 0.5})
    ).configs
    assert config.curve["seconds"] == [0.0] * 4
    assert set(config.model_dump(mode="json")) == {
        "rank", "trial", "value", "epoch", "params", "config", "seed", "ended", "curve",
    }  # fmt: skip


def test_parameters_of_any_name_keep_their_values_in_csv_and_json(tmp_path):
    names = ("seconds", "trial", "state", "value", "rank", "ended", "epoch", "curve", "seed", "started")
    space = "\n".join(f"{name} = [{place}, {place + 100}]" for place, name in enumerate(names, 1))
    text = MAXIMIZED.replace("[search]", f"{space}\n[search]")
    stored = study_of(tmp_path, text, lambda assignment, epoch: {"loss": 1.0, "val_accuracy": 0.5}, study__trials=3)
    rows = list(csv.DictReader(io.StringIO(export.to_csv(stored))))
    for trial, row in zip(stored.trials, rows, strict=True):
        assert {name: int(row[f"params.{name}"]) for name in names} == {name: trial.params[name] for name in names}
        assert (row["trial"], row["state"]) == (str(trial.number), "COMPLETE")
