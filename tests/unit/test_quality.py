"""Searches on recorded curves: what benchmarks/quality.py prints and keeps, curve files, and that the default search pays."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from pathlib import Path

import curves
import pytest
from ledger import Ledger
from playing import Match, Played, parse_search, play
from ranking import Estimate, average_ranks, goals, standings
from support import ROOT, SHARED, replay, replay_file

from search.errors import UsageError
from search.policies.samplers.from_optuna import OptunaSampler
from search.storage.records import load

DIGITS = ROOT / "tests" / "assets" / "digits-curves.json"
# Three configs, of which the last is the worst after one epoch and the best after four. On its scale of regret 0 is 1.0, the
# last epoch of the best, and 1 is 0.6, that of the one in the middle.
STEPS = {
    "name": "steps",
    "objective": "val_accuracy",
    "direction": "maximize",
    "epochs": 4,
    "space": {"width": [1, 2, 3]},
    "curves": [
        {"config": {"width": 1}, "values": [0.1, 0.2, 0.3, 0.4]},
        {"config": {"width": 2}, "values": [0.2, 0.3, 0.5, 0.6]},
        {"config": {"width": 3}, "values": [0.0, 0.4, 0.7, 1.0]},
    ],
}


def mirrored(table):
    """The same curves as something to minimize."""
    turned = [{**curve, "values": [round(1 - value, 6) for value in curve["values"]]} for curve in table["curves"]]
    return {**table, "name": "mirrored", "objective": "val_loss", "direction": "minimize", "curves": turned}


def write(folder, table):
    path = folder / f"{table['name']}.json"
    path.write_text(json.dumps(table), encoding="utf-8")
    return path


def command(script, *arguments):
    return subprocess.run(
        [sys.executable, ROOT / "benchmarks" / script, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
    )


def rows(printed):
    """The table's cells by search: of the line with its means, then of that with its medians."""
    lines = [[cell.strip() for cell in line.strip("│").split("│")] for line in printed.splitlines()]
    means = [index for index, cells in enumerate(lines) if len(cells) == 10 and cells[1] == "mean"]
    return {lines[index][0]: lines[index : index + 2] for index in means}


def played(search, trace, *, task="steps", seed=0, budget=12):
    match = Match(task, search, lanes=3, seed=seed, budget=budget)
    return Played(match, best=1.0, median=0.6, trials=3, whole=3, diverged=0, ms=1.0, trace=trace)


# -- the command -----------------------------------------------------------------------------------------------------


@pytest.mark.gallery
def test_table_is_the_one_computed_by_hand_and_a_second_command_goes_on(tmp_path):
    files, out = [write(tmp_path, STEPS), write(tmp_path, mirrored(STEPS))], tmp_path / "runs.jsonl"
    arguments = ["random", "random+halving", "--curves", *files, "--lanes", 3, "--budget", 3, "--jobs", 1, "--out", out]
    done = command("quality.py", *arguments, "--seeds", 2)
    assert done.returncode == 0, done.stderr
    shown = rows(done.stdout)
    # All three configs are trained in step, whatever their order: 3 epochs each tick. The best of the first epoch is 0.2, of
    # the second 0.4, of the fourth 1.0: regrets of (1 - 0.2) / 0.4, (1 - 0.4) / 0.4 and 0.
    for search in ("random", "random + halving"):
        assert [line[2:5] for line in shown[search]] == [
            ["2.000 (2.000 to 2.000)", "1.500 (1.500 to 1.500)", "0.000 (0.000 to 0.000)"]
        ] * 2
        assert shown[search][0][5] == "1.50"
    # Halving leaves one of three at epoch 3: its fourth epoch is the tenth in all, and ends the search.
    assert shown["random + halving"][0][6:9] == ["10 (100%)", "3", "1"]
    assert shown["random"][0][7:9] == ["3", "3"]
    before = out.read_text(encoding="utf-8").splitlines()
    assert len(before) == 8

    # The last run is cut off as a power failure would cut it, one more seed is asked for, and manyfit's own store is to be used.
    out.write_text("\n".join(before)[:-9], encoding="utf-8")
    again = command("quality.py", *arguments, "--seeds", 3, "--storage", "sqlite")
    assert again.returncode == 0, again.stderr
    assert "7 of 12 were played before" in again.stderr
    after = out.read_text(encoding="utf-8").splitlines()
    assert after[:7] == before[:7]
    assert len(after) == 12
    assert json.loads(after[7])["trace"] == json.loads(before[7])["trace"]
    assert rows(again.stdout)["random + halving"][0][6:9] == ["10 (100%)", "3", "1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--curves", "missing.json"], "missing.json can't be read"),
        (["--tasks", "no-such-task"], "LCBench"),
        (["tqe", "--curves", DIGITS], "no such sampler: 'tqe'; did you mean 'tpe'?"),
        (["random+halving:eta=1", "--curves", DIGITS], "eta must be at least 2; received 1"),
        (["random", "--curves", DIGITS, "--picture", "picture.bmp"], "a picture is one of .svg"),
    ],
)
def test_what_can_not_be_played_is_said_in_a_line(arguments, message):
    done = command("quality.py", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_picture_is_drawn_and_the_same_each_time(tmp_path):
    pytest.importorskip("matplotlib", reason="pip install -e '.[bench]'")
    import drawing

    runs = [
        played("random", [(1, 0.2), (9, 0.6)]),
        played("bayes", [(1, 0.2), (4, 1.0)]),
        played("tpe + median", [(2, 0.5)]),
    ]
    for name in ("a.svg", "b.svg"):
        drawing.draw(runs, tmp_path / name, "three runs")
    assert (tmp_path / "a.svg").read_text() == (tmp_path / "b.svg").read_text()


# -- searches by name ------------------------------------------------------------------------------------------------


def test_names_are_searches_of_the_comparison_first():
    assert parse_search("tpe+halving") == parse_search("tpe + halving")
    assert parse_search("tpe + halving").pruner == {"name": "halving", "first_rung": 3, "eta": 3}
    assert parse_search("bayes").pruner == {"name": "halving"}
    assert parse_search("bayes+halving").title == "bayes"
    assert parse_search("random+none").title == "random"


def test_options_follow_a_name():
    search = parse_search("tpe:multivariate=true,n_startup_trials=5 + percentile:percentile=12.5")
    assert search.sampler == {"name": "tpe", "multivariate": True, "n_startup_trials": 5}
    assert search.pruner == {"name": "percentile", "percentile": 12.5}
    assert search.title == "tpe (multivariate=true, n_startup_trials=5) + percentile (percentile=12.5)"
    with pytest.raises(UsageError, match="an option is key=value; received 'eta'"):
        parse_search("random+halving:eta")


# -- figures ---------------------------------------------------------------------------------------------------------


def test_regret_is_measured_between_the_best_and_the_median():
    run = played("random", [(1, 0.2), (5, 0.6), (9, 1.1)])
    assert [run.regret(epochs) for epochs in (0, 4, 5, 12)] == pytest.approx([math.inf, 2.0, 1.0, -0.25])
    assert [run.epochs_to(regret) for regret in (1.5, 0.0, -1.0)] == [5, 9, math.inf]


def test_equals_share_a_rank_and_random_sets_the_goal():
    runs = [
        played("random", [(12, 0.6)], seed=0),
        played("random", [(12, 1.0)], seed=1),
        played("tpe", [(3, 0.6), (6, 1.0)], seed=0),
        played("tpe", [(3, 1.0)], seed=1),
    ]
    assert average_ranks(runs) == {"random": 1.75, "tpe": 1.25}
    assert goals(runs) == {"steps": 0.5}
    random, tpe = standings(runs)
    # Random search comes to its own mean in one of its runs; tpe after 6 and after 3 epochs.
    assert (random.epochs, random.reached) == (math.inf, 0.5)
    assert (tpe.epochs, tpe.reached) == (4.5, 1.0)


def test_interval_holds_the_estimate_and_is_the_same_each_time():
    import numpy as np

    values = [0.1, 0.2, 0.4, 0.9]
    estimate = Estimate.of(values, np.mean)
    assert estimate.value == pytest.approx(0.4)
    assert min(values) < estimate.low < estimate.value < estimate.high < max(values)
    assert Estimate.of(values, np.mean) == estimate


def test_runs_on_other_curves_of_the_same_name_are_refused(tmp_path):
    run = played("random", [(1, 0.2)])
    Ledger(tmp_path / "runs.jsonl").add(run)
    ledger = Ledger(tmp_path / "runs.jsonl")
    assert run.match in ledger
    ledger.check([run.match], "steps", best=1.0, median=0.6)
    with pytest.raises(UsageError, match="other curves named steps"):
        ledger.check([run.match], "steps", best=0.9, median=0.6)


def test_file_that_is_no_ledger_is_refused(tmp_path):
    path = tmp_path / "runs.jsonl"
    path.write_text('{"task": "steps"}\n', encoding="utf-8")
    with pytest.raises(UsageError, match="line 1 is no run of this benchmark"):
        Ledger(path)


# -- curve files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 3}, "curves.0.values: there are 4 of 3 epochs"),
        ({"epochs": "4"}, "epochs: .* received '4'"),
        ({"direction": "up"}, "direction: .* received 'up'"),
        ({"colour": "red"}, "colour: .* received 'red'"),
        ({"curves": []}, "curves: "),
        ({"space": {}}, "space: there is nothing to search"),
        ({"space": {"width": {"low": 3, "high": 1}}}, "space.width.low: low must be below high"),
        ({"space": {"width": [1, 2, 3], "epochs": [1, 4]}}, "space.epochs: curves of different lengths"),
        ({"space": {"width": [1, 2]}}, r"curves.2.config.width: must be one of \[1, 2\]; received 3"),
        ({"space": {"width": [1, 2, 3], "depth": [1, 2]}}, "curves.0.config: depth is missing"),
        (
            {"curves": [{"config": {"width": 1}, "values": [0.1, math.nan]}]},
            "end a curve before the epoch that diverged",
        ),
        ({"curves": [{"config": {"width": 1}, "values": [0.1]}]}, "all random configs diverge"),
        ({"curves": [{"config": {"width": 1}, "values": [0.1] * 4}]}, "there is nothing to find"),
    ],
)
def test_bad_curve_file_is_refused_with_the_place(tmp_path, change, message):
    with pytest.raises(UsageError, match=message) as caught:
        curves.Recorded(write(tmp_path, {**STEPS, **change}))
    assert str(tmp_path) in str(caught.value)


def test_file_that_is_not_json_is_refused(tmp_path):
    (tmp_path / "curves.json").write_text("{", encoding="utf-8")
    with pytest.raises(UsageError, match="is not JSON"):
        curves.Recorded(tmp_path / "curves.json")


def test_config_plays_the_nearest_record_on_its_own_scale(tmp_path):
    space = {"learning_rate": {"low": 1e-4, "high": 1.0, "log": True}, "units": [[8], [8, 8]]}
    recorded = [
        {"config": {"learning_rate": 1e-3, "units": [8]}, "values": [0.1]},
        {"config": {"learning_rate": 1e-1, "units": [8]}, "values": [0.3]},
        {"config": {"learning_rate": 1e-2, "units": [8, 8]}, "values": [0.2]},
    ]
    task = curves.Recorded(write(tmp_path, {**STEPS, "epochs": 1, "space": space, "curves": recorded}))
    # Half way from 1e-3 to 1e-1 on a logarithmic scale is 1e-2; another choice is further away than all of that.
    for rate, units, value in ((9e-3, "[8]", 0.1), (1.1e-2, "[8]", 0.3), (1.1e-2, "[8, 8]", 0.2)):
        assert task.curve({"learning_rate": rate, "units": units}) == (value,)


def test_parameter_that_is_not_drawn_stands_in_no_record(tmp_path):
    space = {"optimizer": ["adam", "sgd"], "momentum": {"low": 0.0, "high": 0.9, "when": {"optimizer": "sgd"}}}
    recorded = [
        {"config": {"optimizer": "adam"}, "values": [0.1]},
        {"config": {"optimizer": "sgd", "momentum": 0.0}, "values": [0.2]},
        {"config": {"optimizer": "sgd", "momentum": 0.9}, "values": [0.3]},
    ]
    table = {**STEPS, "epochs": 1, "space": space, "curves": recorded}
    task = curves.Recorded(write(tmp_path, table))
    assert task.curve({"optimizer": "sgd", "momentum": 0.7}) == (0.3,)
    recorded[0]["config"]["momentum"] = 0.5
    with pytest.raises(UsageError, match=r"curves.0.config: momentum is not drawn beside the others"):
        curves.Recorded(write(tmp_path, table))


def test_divergence_ends_a_trial_and_counts_as_the_worst(tmp_path):
    table = json.loads(json.dumps(STEPS))
    table["curves"][2]["values"] = [0.5, 0.9]
    task = curves.Recorded(write(tmp_path, table))
    assert (task.best, task.median) == (0.6, 0.4)
    run = play(task, parse_search("random"), Match("steps", "random", lanes=3, seed=0, budget=12))
    assert (run.trials, run.whole, run.diverged) == (3, 2, 1)
    # What it had reached was found all the same, 0.9 with the second epoch of one of three.
    assert run.trace[-1] in [(spent, 0.9) for spent in (4, 5, 6)]


def test_what_a_suggestion_takes_counts_the_draw(tmp_path, monkeypatch):
    plain = OptunaSampler.draw

    def slow(self, trials, attempt, given):
        until = time.process_time() + 0.05
        while time.process_time() < until:
            pass
        return plain(self, trials, attempt, given)

    monkeypatch.setattr(OptunaSampler, "draw", slow)
    task = curves.Recorded(write(tmp_path, STEPS))
    assert play(task, parse_search("random"), Match("steps", "random", lanes=3, seed=0, budget=12)).ms >= 50


def test_study_becomes_a_curve_file_without_what_was_pruned(tmp_path):
    def falling(assignment, epoch):
        rate = assignment.config["learning_rate"]
        loss = math.nan if rate > 0.03 and epoch > 2 else 1 / epoch + rate
        return {"loss": loss, "val_loss": loss}

    stored = replay(replay_file(tmp_path, study__trials=30, search__sampler="random", study__epochs=9), falling)
    whole = [trial for trial in stored.trials if trial.ended == "finished"]
    diverged = [trial for trial in stored.trials if trial.ended == "diverged"]
    pruned = [trial for trial in stored.trials if trial.ended == "pruned"]
    assert whole
    assert diverged
    assert pruned
    out = tmp_path / "curves.json"
    done = command("curves.py", stored.path, out)
    assert done.returncode == 0, done.stderr
    assert f"{len(whole) + len(diverged)} curves, {len(diverged)} of them diverge" in done.stderr
    assert f"left out: {len(pruned)} trials" in done.stderr
    task = curves.Recorded(out)
    assert (task.objective, task.direction, task.epochs) == ("val_loss", "minimize", 9)
    for trial in [*whole, *diverged]:
        assert task.curve(trial.params) == pytest.approx([m["val_loss"] for m in trial.curve], rel=1e-4)


def test_study_without_a_whole_curve_is_refused(tmp_path):
    file = replay_file(tmp_path, study__trials=2, search__early_stopping={"patience": 1}, search__pruner="none")
    replay(file, lambda assignment, epoch: {"loss": epoch, "val_loss": epoch})
    with pytest.raises(UsageError, match="no trial that came to its last epoch"):
        curves.recorded(load(file.storage, file.name))


# -- what it is for --------------------------------------------------------------------------------------------------


@pytest.mark.gallery
def test_default_search_beats_random_search_on_the_noisy_curves_of_digits():
    task = curves.Recorded(DIGITS)
    found = {}
    for name in ("random", "bayes"):
        runs = [
            play(task, parse_search(name), Match(task.name, name, lanes=16, seed=seed, budget=30 * task.epochs))
            for seed in range(8)
        ]
        assert any(run.diverged for run in runs)
        found[name] = sum(run.regret(run.match.budget) for run in runs) / len(runs)
    assert found["bayes"] < 0.75 * found["random"], found


@pytest.mark.skipif(not Path(SHARED / "lcbench").is_dir(), reason="no surrogate of LCBench")
def test_default_search_beats_random_search_on_a_task_of_lcbench():
    pytest.importorskip("onnxruntime", reason="pip install -e '.[bench]'")
    task = curves.LCBench("189906")
    regrets = {
        name: play(task, parse_search(name), Match(task.name, name, lanes=16, seed=0, budget=15 * task.epochs)).regret(
            780
        )
        for name in ("random", "bayes")
    }
    assert regrets["bayes"] < regrets["random"]
