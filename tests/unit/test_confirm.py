"""The best configs, trained again: fresh seeds, numbers that are computed otherwise here, and what commands do with both."""

from __future__ import annotations

import json
import math
import sqlite3
from contextlib import closing
from dataclasses import replace
from statistics import mean, stdev

import optuna
import pytest
from support import curve, cut_off, record, replay_file, table
from typer.testing import CliRunner

from search import cli
from search.core.loop import search
from search.core.study import Study
from search.errors import Interrupted, StudyFileError, UsageError
from search.reading import studyfile
from search.sessions.confirming import confirm, confirming_file
from search.storage import records
from search.storage.deleting import delete
from search.storage.store import Store
from search.trials.confirmation import best_configs, interval
from search.trials.trial import make_trial
from search.views import confirmed, export
from search.workers.inprocess import Replaying


def noisy(assignment, epoch):
    """A curve of which the seed decides as much as the config."""
    loss = curve(assignment, epoch)["val_loss"] + (assignment.seed % 1009) / 1009
    return {"loss": loss, "val_loss": loss, "val_accuracy": 1 / (1 + loss)}


def played(file, curves=noisy, lanes=1, interruption=lambda: 0):
    """Search a study of a database that may hold others, or go on with it."""
    is_there = file.storage.exists() and records.exists(file.storage, file.name)
    study = Study.of(records.load(file.storage, file.name), file) if is_there else Study(file)
    with Store.of(file) if is_there else Store.create(file, record(file)) as store:
        search(study, store, Replaying(curves, lanes), watch=lambda: None, interruption=interruption)
    return records.load(file.storage, file.name)


def searched(folder, **settings):
    folder.mkdir(exist_ok=True)
    return played(replay_file(folder, **{"search__sampler": "random", "study__trials": 16, **settings}))


def trainings(file, number):
    return make_trial(file, number, {"dropout": 0.1, "learning_rate": 0.01}).trainings


def run(*arguments):
    return CliRunner().invoke(cli.app, list(map(str, arguments)))


@pytest.mark.parametrize("settings", [{}, {"study__repeats": 3}, {"study__objective": "val_accuracy"}])
def test_fresh_trainings_are_measured_as_the_search_measures_and_have_seeds_of_their_own(tmp_path, settings):
    stored = searched(tmp_path, **settings)
    file = confirming_file(stored, 3, 4)
    again = played(file, lanes=5)
    assert {one.state for one in again.trials} == {"COMPLETE"}
    assert [one.params for one in again.trials] == [trial.params for trial in stored.complete[:3]] * 4
    assert {len(one.trainings) for one in again.trials} == {settings.get("study__repeats", 1)}
    seeds = [[one.seed for trial in study.trials for one in trial.trainings] for study in (stored, again)]
    assert len({*seeds[0], *seeds[1]}) == len(seeds[0]) + len(seeds[1])
    assert again.file.settings.data.seed == stored.file.settings.data.seed

    found = confirmed.of(stored)
    sign = 1 if settings.get("study__objective") else -1
    assert (found.repeats, found.is_done, found.is_current) == (4, True, True)
    for index, config in enumerate(found.configs):
        values = [one.value for one in again.trials[index::3]]
        assert (config.trial, config.value) == (stored.complete[index].number, stored.complete[index].value)
        assert config.values == tuple(values)
        assert config.mean == pytest.approx(mean(values))
        assert config.luck == pytest.approx(sign * (config.value - mean(values)))
        half = 3.182446 * stdev(values) / 2  # Student's factor of 3 degrees of freedom, from a printed table
        assert (config.low, config.high) == pytest.approx((mean(values) - half, mean(values) + half), rel=1e-6)
    assert found.configs[0].luck > 0
    best = max(found.configs, key=lambda config: sign * config.mean)
    assert found.best == best.trial


def test_interval_is_students():
    values = [0.91, 0.93, 0.92, 0.95, 0.90, 0.94, 0.93, 0.92, 0.91, 0.96]
    half = 2.262157 * stdev(values) / math.sqrt(10)
    assert interval(values) == pytest.approx((mean(values) - half, mean(values) + half), rel=1e-6)
    assert interval([0.5]) is None


def of_values(tmp_path, *values, direction="minimize"):
    """A confirmation of configs whose search values are 1, 2, ... and whose fresh values are given."""
    at = {}

    def curves(assignment, epoch):
        config = round(assignment.config["dropout"] * 100)
        if assignment.seed in first:
            return {"loss": 1.0, "val_loss": config if direction == "minimize" else -config}
        turn = at.setdefault(config, iter(values[config - 1]))
        if (value := next(turn)) is None:
            raise ValueError("boom")
        return {"loss": 1.0, "val_loss": value}

    start = [{"dropout": (index + 1) / 100, "learning_rate": 0.01} for index in range(len(values))]
    file = replay_file(
        tmp_path,
        search__start=start,
        search__sampler="random",
        study__trials=len(values),
        study__epochs=1,
        study__direction=direction,
    )
    first = {training.seed for number in range(len(values)) for training in trainings(file, number)}
    stored = played(file, curves)
    played(confirming_file(stored, len(values), len(values[0])), curves)
    return confirmed.of(stored)


def test_order_is_told_by_rank_correlation_and_by_pairs_that_are_apart(tmp_path):
    found = of_values(tmp_path, [1.0, 1.2, 1.4], [9.0, 9.1, 9.2], [1.1, 1.2, 1.6], [5.0, 5.1, 5.2])
    # Ranks 1 2 3 4 and 1 4 2 3: 1 - 6 (0 + 4 + 1 + 1) / (4 * 15).
    assert found.correlation == pytest.approx(0.4)
    assert found.pairs == 6
    assert set(found.apart) == {(0, 1), (2, 1), (3, 1), (0, 3), (2, 3)}
    assert "trial 0 is the best again; rank correlation of the search's values with the means +0.40" in confirmed.order(
        found
    )
    assert "5 of 6 pairs of configs can be told apart: " in confirmed.order(found)


def test_a_pair_is_apart_only_if_it_is_among_all_pairs(tmp_path):
    # Welch's p of the first two is 0.0213, by t = -3.674 with 4 degrees of freedom: below 0.05, but not below 0.05 / 3.
    three = of_values(tmp_path, [1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [2.5, 3.5, 4.5])
    assert three.apart == ()
    (tmp_path / "two").mkdir()
    two = of_values(tmp_path / "two", [1.0, 2.0, 3.0], [4.0, 5.0, 6.0])
    assert two.apart == ((0, 1),)


def test_configs_without_spread_are_apart_only_by_enough_trainings(tmp_path):
    """Of all ways to deal out the values, 2 of 6 are as far apart for twice two, 2 of 252 for twice five."""
    few = of_values(tmp_path, [0.9] * 2, [0.8] * 2, direction="maximize")
    assert few.apart == ()
    (tmp_path / "more").mkdir()
    more = of_values(tmp_path / "more", [0.9] * 5, [0.8] * 5, direction="maximize")
    assert more.apart == ((0, 1),)


@pytest.mark.filterwarnings("error")
def test_a_config_whose_trainings_all_agree_is_compared_without_a_warning(tmp_path):
    """Welch's t is 0.0055556 / (0.0039284 / sqrt(5)) = 3.1623 with 4 degrees of freedom: p is 0.034."""
    alike, other = [0.98333335] * 5, [0.98333335, 0.97777778, 0.97222222, 0.97777778, 0.97777778]
    found = of_values(tmp_path, alike, other, direction="maximize")
    assert found.apart == ((0, 1),)
    assert found.configs[0].low == found.configs[0].high == pytest.approx(0.98333335)


def test_sentence_on_luck_says_which_way_and_whether_it_can_be_told(tmp_path):
    for name, values, direction, text in (
        ("lucky", [2.0, 2.1, 2.2], "minimize", ": luck made it look 1.1 better than it is"),
        ("told", [0.9, 1.1, 1.2], "minimize", ": 0.067 worse, too little to tell from chance"),
        ("none", [0.5, 0.6, 0.7], "minimize", ": its value was no luck"),
        ("up", [-2.0, -2.1, -2.2], "maximize", ": luck made it look 1.1 better than it is"),
    ):
        (tmp_path / name).mkdir()
        assert confirmed.line(of_values(tmp_path / name, values, direction=direction)).endswith(text)


def test_failed_trainings_are_counted_and_leave_the_others(tmp_path):
    found = of_values(tmp_path, [1.0, None, 2.0], [None, 5.0, None])
    first, second = found.configs
    assert (first.values, first.failed, first.mean) == ((1.0, 2.0), 1, 1.5)
    assert (second.values, second.failed, second.mean, second.luck, second.low) == ((5.0,), 2, 5.0, 3.0, None)
    assert (found.is_done, found.pairs, found.correlation) == (True, 0, pytest.approx(1.0))
    assert "no two configs can be compared" in confirmed.order(found)
    assert confirmed.line(found).endswith("; 1 more ended without a value")


def test_interrupted_confirmation_tells_how_far_it_is_and_goes_on_to_the_same_numbers(tmp_path):
    stored = searched(tmp_path / "cut")
    file = confirming_file(stored, 2, 3)
    with pytest.raises(Interrupted):
        played(file, lanes=2, interruption=iter([*[0] * 9, *[2] * 9]).__next__)
    partial = confirmed.of(stored)
    assert not partial.is_done
    assert 0 < len(partial.configs[0].values) < 3
    assert confirmed.line(partial).endswith("; not done: `manyfit confirm` goes on")
    again = records.confirming(stored)
    played(replace(again.file, database=stored.path), lanes=2)
    assert confirmed.of(stored).is_done
    whole = searched(tmp_path / "whole")
    played(confirming_file(whole, 2, 3), lanes=2)
    assert table(whole.path, "replay.confirm") == table(stored.path, "replay.confirm")
    assert confirmed.of(whole).configs == confirmed.of(stored).configs


def test_both_numbers_are_exported_and_shown(tmp_path):
    stored = searched(tmp_path)
    assert confirmed.of(stored) is None
    assert "confirmed" not in export.to_json(export.best(stored))
    played(confirming_file(stored, 2, 3))
    found = confirmed.of(stored)
    first, second, third, *_ = json.loads(export.to_json(export.best(stored)))["configs"]
    assert first["value"] == found.configs[0].value
    assert first["confirmed"]["mean"] == found.configs[0].mean
    assert second["confirmed"]["values"] == list(found.configs[1].values)
    assert "confirmed" not in third
    shown = run("show", stored.path).output
    assert confirmed.line(found) in shown.replace("\n", "")
    assert confirmed.order(found) in shown.replace("\n", "")
    assert json.loads(run("show", stored.path, "--json").stdout)["confirmation"] == json.loads(
        json.dumps(confirmed.to_json(found))
    )


def test_commands_know_the_study_of_a_confirmation(tmp_path):
    stored = searched(tmp_path)
    played(confirming_file(stored, 2, 3))
    assert records.only_name(stored.path) == "replay"
    assert [brief.confirms for brief in records.briefs(stored.path)] == ["", "replay"]
    line = next(line for line in run("list", tmp_path).stdout.splitlines() if "replay.confirm" in line)
    assert "(of manyfit confirm)" in line
    named = (stored.path, "--name", "replay.confirm")
    assert "the best value is luck" in run("show", *named).output
    assert "export replay, with both numbers" in run("export", *named).output
    assert len(run("export", *named, "--csv").stdout.splitlines()) == 7
    assert "itself a confirmation" in run("confirm", *named).output
    assert "only `manyfit confirm` makes such a study, and goes on with it" in run("run", *named).output
    with pytest.raises(StudyFileError, match=r"study\.confirms: only `manyfit confirm`"):
        studyfile.read(tmp_path / "replay.toml", ["study.confirms=[3]"], allow_unused=True)


def test_study_is_deleted_with_what_confirms_it(tmp_path):
    stored = searched(tmp_path)
    played(confirming_file(stored, 2, 3))
    assert (
        "16 trials, replay.confirm, which confirms it, "
        in run("delete", stored.path, "--name", "replay", "--yes").output
    )
    assert not stored.path.exists()
    stored = searched(tmp_path)
    played(confirming_file(stored, 2, 3))
    delete(stored.path, "replay.confirm")
    assert records.names(stored.path) == ["replay"]
    assert confirmed.of(stored) is None


def test_study_is_copied_and_renamed_with_what_confirms_it(tmp_path):
    stored = searched(tmp_path)
    played(confirming_file(stored, 2, 3))
    found = confirmed.of(stored)
    assert "with second.confirm, which confirms it" in run("copy", stored.path, "--name", "second").output
    assert run("rename", stored.path, "--name", "third", "--from", "replay").exit_code == 0
    assert sorted(records.names(stored.path)) == ["second", "second.confirm", "third", "third.confirm"]
    for name in ("second", "third"):
        same = confirmed.of(records.load(stored.path, name))
        assert same == replace(found, study=f"{name}.confirm")
    too_long = run("copy", stored.path, "--from", "third", "--name", "n" * 195)
    assert (too_long.exit_code, "is too long to have '.confirm' at its end" in too_long.output) == (2, True)
    refused = run("copy", stored.path, "--from", "third.confirm", "--name", "fourth")
    assert "third.confirm confirms third and is copied or renamed with it" in refused.output
    taken = run("copy", stored.path, "--from", "third", "--name", "second.confirm")
    assert "already" in taken.output
    played(replay_file(tmp_path, study__name="other", run__storage=str(stored.path), study__trials=2))
    assert "has a study 'other' already" in run("copy", stored.path, "--from", "third", "--name", "other").output
    assert "other.confirm" not in records.names(stored.path)


def test_name_that_has_no_place_for_another_ending_is_refused(tmp_path):
    stored = searched(tmp_path, study__name="n" * 195)
    with pytest.raises(UsageError, match="its name is too long to have"):
        confirm(stored)


@pytest.mark.parametrize(
    ("top", "repeats", "text"),
    [
        (3, None, "replay was confirmed with --top 2; received --top 3; leave it out, or delete replay.confirm first"),
        (None, 4, "replay was confirmed with --repeats 3; received --repeats 4"),
    ],
)
def test_confirmation_with_other_numbers_is_refused(tmp_path, top, repeats, text):
    stored = searched(tmp_path)
    played(confirming_file(stored, 2, 3))
    with pytest.raises(UsageError, match=text):
        confirm(stored, top, repeats)


def test_search_that_went_on_says_so_and_is_not_confirmed_by_older_numbers(tmp_path):
    stored = searched(tmp_path)
    played(confirming_file(stored, 2, 3))
    later = searched(tmp_path, study__trials=40)
    assert best_configs(later, 2) != best_configs(stored, 2)
    found = confirmed.of(later)
    assert not found.is_current
    assert "the search has found other best configs since" in confirmed.line(found)
    with pytest.raises(UsageError, match="has gone on since it was confirmed"):
        confirm(later)


def test_study_that_cannot_be_confirmed_is_refused(tmp_path):
    file = replay_file(tmp_path, search__sampler="random")
    cut_off(file, 6)
    with pytest.raises(UsageError, match=r"is not done: \d of 20 trials; its best configs may change"):
        confirm(records.load(file.storage, file.name))
    (tmp_path / "few").mkdir()
    stored = searched(tmp_path / "few", study__trials=2, search__pruner="none")
    with pytest.raises(UsageError, match="2 different configs that were trained fully; received --top 3; use --top 2"):
        confirm(stored, 3)
    assert len(confirming_file(stored).settings.study.confirms) == 2


def test_configs_that_were_drawn_twice_are_confirmed_once(tmp_path):
    start = [{"dropout": 0.1, "learning_rate": 0.01}] * 3 + [{"dropout": 0.3, "learning_rate": 0.01}]
    stored = searched(tmp_path, search__start=start, search__duplicates=True, study__trials=4)
    confirms = confirming_file(stored, 2).settings.study.confirms
    assert confirms[0] == stored.complete[0].number
    assert len({json.dumps(stored.trials[number].params) for number in confirms}) == 2


@pytest.mark.parametrize("fault", ["another study of that name", "another search of that name"])
def test_study_of_that_name_that_is_no_confirmation_is_not_taken_for_one(tmp_path, fault):
    stored = searched(tmp_path)
    if fault == "another study of that name":
        played(replay_file(tmp_path, study__name="replay.confirm", run__storage=str(stored.path), study__trials=2))
    else:
        played(confirming_file(stored, 2, 3))
        optuna.delete_study(study_name="replay", storage=f"sqlite:///{stored.path}")
        stored = searched(tmp_path, study__seed=1)
    assert confirmed.of(stored) is None
    with pytest.raises(UsageError, match=r"has a study 'replay\.confirm' that does not confirm 'replay' as it is"):
        confirm(stored)


def test_study_of_an_earlier_version_is_confirmed_on_its_own_split(tmp_path):
    stored = searched(tmp_path, study__seed=7)
    with closing(sqlite3.connect(stored.path)) as connection, connection:
        for key in ("data.seed", "search.prune_start", "study.repeats"):
            for column in ("settings", "identity"):
                connection.execute(f"UPDATE manyfit_studies SET {column} = json_remove({column}, '$.{key}')")  # noqa: S608
    stored = records.load(stored.path, stored.name)
    again = played(confirming_file(stored, 2, 3))
    assert (again.file.settings.data.seed, again.identity["data"]["seed"]) == (7, 7)
    assert again.file.settings.study.seed != 7
    assert confirmed.of(stored).is_done
