"""A study that learns from the trials of an earlier one: its sampler reads them, and nothing else counts them."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from itertools import count

import pytest
from support import curve, query, record, replay, replay_file, table

from search.core import loop
from search.errors import Interrupted, UsageError
from search.sessions import earlier, widening
from search.sessions.reporter import LOGGING
from search.spec.identity import declared
from search.storage import records
from search.storage.store import Store
from search.trials import known
from search.trials.objective import Objective
from search.workers.inprocess import Replaying

NARROW = {"learning_rate": {"low": 1e-3, "high": 1e-1, "log": True}, "dropout": {"low": 0.0, "high": 0.25}}


def study(folder, name, **settings):
    folder.mkdir(exist_ok=True)
    return replay_file(folder, study__name=name, run__storage=f"{name}.db", **settings)


def informed(file, curves=curve, **options):
    """Search a study that learns from another, as `manyfit run` starts one."""
    full = declared(file)
    begun = replace(record(file), known=earlier.carry_over(earlier.find(file), file, full, LOGGING))
    loop.run(file, begun, Store, Replaying(curves), **options)
    return records.load(file.storage, file.name)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("template")
    replay(study(folder, "first", study__trials=60, search__sampler="random"), lanes=8)
    return folder


@pytest.fixture
def first(template, tmp_path):
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    return records.load(tmp_path / "first.db", "first")


def later(folder, **settings):
    learn_from = {"database": "first.db", "study": "first"}
    return study(
        folder,
        "later",
        **{
            "search__learn_from": learn_from,
            "space": NARROW,
            "study__trials": 8,
            "search__sampler": "bayes",
            **settings,
        },
    )


def test_trials_inside_the_new_space_are_known_and_no_trials_of_the_study(tmp_path, first):
    stored = informed(later(tmp_path))
    inside = [
        trial
        for trial in first.trials
        if 1e-3 <= trial.config["learning_rate"] <= 1e-1 and trial.config["dropout"] <= 0.25
    ]
    carried = known.read(stored.study_attrs, Objective.of(stored.file))
    assert 16 < len(inside) < 60
    assert [trial.params for trial in carried] == [trial.params for trial in inside]
    assert [trial.value for trial in carried] == [trial.value for trial in inside]
    assert [[epoch["val_loss"] for epoch in trial.curve] for trial in carried] == [
        [epoch["val_loss"] for epoch in trial.curve] for trial in inside
    ]
    assert [trial.number for trial in stored.trials] == list(range(8))
    assert query(stored.path, "SELECT count(*) FROM trials") == [(8,)]
    ((text,),) = query(stored.path, "SELECT value_json FROM study_system_attributes WHERE key = ?", known.KEY)
    assert json.loads(text)["study"] == "first"


@pytest.mark.parametrize("sampler", ["bayes", "tpe"])
def test_sampler_draws_near_what_was_good_from_its_first_trial_on(tmp_path, first, sampler):
    taught = informed(later(tmp_path, search__sampler=sampler))
    # Drawn evenly from 0.001..0.1, a learning rate is half a power of ten off the best one, 0.01, on average.
    off = [abs(math.log10(trial.config["learning_rate"]) + 2) for trial in taught.trials]
    assert sum(off) / len(off) < 0.3


def test_interrupted_study_goes_on_as_it_would_have_gone_although_the_earlier_one_is_gone(tmp_path, first):
    expected = table(informed(later(tmp_path)).path, "later")
    for path in tmp_path.glob("later.*"):
        path.unlink()
    calls = count()
    file = later(tmp_path)
    with pytest.raises(Interrupted):
        informed(file, interruption=lambda: 2 if next(calls) > 25 else 0)
    assert 0 < len(records.load(file.storage, "later").trials) < 8
    first.path.unlink()
    replay(file)
    assert table(file.storage, "later") == expected


def test_parameters_that_only_one_of_the_studies_searches(tmp_path, first):
    """What is fixed now may have had any value; what was fixed counts with its value, and one that was not there does not."""
    fixed = later(tmp_path, space={"learning_rate": NARROW["learning_rate"]}, model__dropout=0.3)
    carried = known.carry_over(first, fixed, declared(fixed))
    assert len(carried.trials) == sum(trial.config["learning_rate"] >= 1e-3 for trial in first.trials)
    searched = later(tmp_path, space={**NARROW, "batch_size": {"low": 16, "high": 64}})
    assert first.trials[0].config["batch_size"] == 32
    carried = known.carry_over(first, searched, declared(searched))
    assert carried.trials
    assert {trial["params"]["batch_size"] for trial in carried.trials} == {32}
    searched = later(tmp_path, space={**NARROW, "units": {"low": 16, "high": 64}})
    carried = known.carry_over(first, searched, declared(searched))
    assert (carried.trials, carried.outside, carried.attrs) == ([], 60, {})


def test_complete_trial_of_fewer_epochs_is_not_complete_here(tmp_path, first):
    file = later(tmp_path, study__epochs=18)
    states = {trial["state"] for trial in known.carry_over(first, file, declared(file)).trials}
    assert states == {"PRUNED"}
    assert {trial["state"] for trial in known.carry_over(first, later(tmp_path), declared(file)).trials} >= {"COMPLETE"}


def test_no_more_than_a_sampler_can_read_is_carried_over(tmp_path, first, monkeypatch):
    monkeypatch.setattr(known, "MOST", 6)
    file = later(tmp_path, space={**NARROW, "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}})
    carried = known.carry_over(first, file, declared(file))
    numbers = [trial["number"] for trial in carried.trials]
    assert (len(numbers), numbers) == (6, sorted(numbers))
    inside = [trial for trial in first.trials if trial.config["dropout"] <= 0.25 and trial.value is not None]
    best = sorted(inside, key=lambda trial: trial.value)[:3]
    assert {trial.number for trial in best} <= set(numbers)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"search__learn_from": {"database": "gone.db"}}, "gone.db: no such study"),
        ({"search__learn_from": {"database": "first.db", "study": "other"}}, "has no study 'other'; it has first"),
        ({"study__objective": "val_accuracy"}, "was to minimize 'val_loss', this one is to maximize 'val_accuracy'"),
        ({"study__direction": "maximize"}, "was to minimize 'val_loss', this one is to maximize 'val_loss'"),
    ],
)
def test_study_that_can_teach_nothing_is_refused(tmp_path, first, settings, said):
    with pytest.raises(UsageError, match=r"search\.learn_from") as refused:
        earlier.find(later(tmp_path, **settings))
    assert said in str(refused.value)


def test_other_data_and_another_builder_are_told(tmp_path, first):
    full = declared(later(tmp_path))
    same = {**full, "data": first.identity["data"], "model": first.identity["model"]}
    assert known.carry_over(first, later(tmp_path), same).unlike == []
    other = {**full, "data": {**full["data"], "fingerprint": "x"}, "model": {**full["model"], "files": {"a.py": "1"}}}
    assert known.carry_over(first, later(tmp_path), other).unlike == ["data", "builder"]


# -- manyfit run --widen ---------------------------------------------------------------------------------------------------


def wider(first, *widenings, overrides=()):
    return widening.widened(first, None, widenings, overrides)


def test_widened_study_is_another_one_in_the_same_database_that_begins_with_the_best(tmp_path, first):
    file = wider(first, "space.dropout.high=0.8", overrides=["study.trials=5", "search.sampler=bayes"])
    assert (file.name, file.storage) == ("first-dropout-high-0.8", first.path)
    assert file.space["dropout"].high == 0.8
    stored = informed(file)
    assert stored.trials[0].params == first.complete[0].params
    assert len(known.read(stored.study_attrs, Objective.of(file))) == len(first.trials)
    assert records.names(first.path) == ["first", "first-dropout-high-0.8"]
    # The best of the first study may be another one by now: the widened study goes on as it began.
    again = wider(replace(first, trials=first.trials[:3]), "space.dropout.high=0.8", overrides=["study.trials=6"])
    assert again.settings.search == file.settings.search
    assert len(replay(again).trials) == 6


@pytest.mark.parametrize(
    ("widening", "said"),
    [
        ("space.dropout.high=0.4", "what dropout had must stay within what it gets"),
        ("space.dropout.high=0.5", "what dropout had must stay within what it gets"),
        ("space.dropout.low=0.1", "what dropout had must stay within what it gets"),
        ("space.dropout=[0.1, 0.9]", "what dropout had must stay within what it gets"),
        ("space.dropout={ low = 0.0, high = 0.9, step = 0.1 }", "what dropout had must stay within what it gets"),
        ("space.learning_rate={ low = 1e-4, high = 1.0 }", "what learning_rate had must stay within what it gets"),
        ("space.dropot.high=0.9", "did you mean 'dropout'?"),
        ("dropout.high=0.9", "--widen takes space.dropout.high=0.7"),
        ("space.dropout.step=0.1", "--widen takes space.dropout.high=0.7"),
        ("space.dropout.high=", "--widen takes space.dropout.high=0.7"),
        ("study.trials=50", "--widen takes space.dropout.high=0.7"),
        ("space.dropout.high=nan", "bounds must be finite"),
    ],
)
def test_what_widens_nothing_is_refused(first, widening, said):
    with pytest.raises(UsageError) as refused:
        wider(first, widening)
    assert said in str(refused.value)


def test_wider_lists_keep_what_they_had(tmp_path):
    narrow = replay(study(tmp_path, "first", space__units=[16, 32], study__trials=3))
    file = wider(narrow, "space.units=[16, 32, 64]", "space.dropout.high=0.6")
    assert (file.name, file.space["units"].choices) == ("first-units-16-32-64-dropout-high-0.6", (16, 32, 64))
    with pytest.raises(UsageError, match="what units had"):
        wider(narrow, "space.units=[32, 64]")
    with pytest.raises(UsageError, match="what units had"):
        wider(narrow, "space.units={ low = 1, high = 64 }")
