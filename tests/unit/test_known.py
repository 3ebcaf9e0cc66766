"""A study that learns from the trials of an earlier one: its sampler reads them, and nothing else counts them."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from itertools import count

import pytest
from support import REPLAY, curve, query, record, replay, replay_file, table

from search.core import loop
from search.errors import Interrupted, UsageError
from search.policies.samplers import bayes
from search.sessions import earlier, widening
from search.sessions.reporter import LOGGING
from search.spec.identity import declared
from search.spec.settings import LimitsSection, Named, SearchSection
from search.storage import records
from search.storage.store import Store
from search.trials import known
from search.trials.events import Member
from search.trials.objective import Objective
from search.trials.trial import Training
from search.views import learned
from search.views.insights import answers
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


def test_trials_count_as_with_the_epochs_of_the_new_study(tmp_path, first):
    """A value after its last epoch counts for nothing, and what was pruned later is complete."""
    file = later(tmp_path, study__epochs=2)
    carried = known.carry_over(first, file, declared(file)).trials
    by_number = {trial.number: trial for trial in first.trials}
    assert {first.trials[one["number"]].state for one in carried} == {"COMPLETE", "PRUNED"}
    for one in carried:
        values = [epoch["val_loss"] for epoch in by_number[one["number"]].curve][:2]
        assert (one["state"], one["ended"], one["values"]) == ("COMPLETE", "finished", values)
        assert (one["value"], one["epochs"]) == (min(values), 2)


def test_epochs_that_are_searched_are_no_less_than_all(tmp_path):
    text = REPLAY.replace("epochs = 9\n", "")
    epochs = {"space__epochs": {"low": 2, "high": 9}, "search__pruner": "none", "search__sampler": "random"}
    stored = replay(replay_file(tmp_path, text, study__name="first", run__storage="first.db", **epochs))
    (tmp_path / "later").mkdir()
    file = replay_file(tmp_path / "later", text, **epochs)
    states = {one["epochs"]: one["state"] for one in known.carry_over(stored, file, declared(file)).trials}
    assert len(states) > 3
    assert {*states.values()} == {"COMPLETE"}


def test_configs_beyond_a_limit_count_under_the_same_limits_alone(tmp_path, first):
    limits = {"limits": LimitsSection(parameters=1000)}
    settings = first.file.settings.model_copy(update=limits)
    trials = [replace(first.trials[0], state="PRUNED", ended="refused", value=None, trainings=[Training(Member(0), 0)])]
    limited = replace(first, file=replace(first.file, settings=settings), trials=trials)
    wide = {"low": 1e-4, "high": 1e-1, "log": True}
    space = {"learning_rate": wide, "dropout": {"low": 0.0, "high": 0.5}}
    file = later(tmp_path, space=space)
    assert known.carry_over(limited, file, declared(file)).trials == []
    file = later(tmp_path, space=space, limits__parameters=1000)
    assert len(known.carry_over(limited, file, declared(file)).trials) == 1


def test_belief_is_of_the_best_of_the_studys_own_trials(tmp_path, first, monkeypatch):
    """Where the earlier study's are better, the process learns from few of this one's."""

    def worse(assignment, epoch):
        return {name: value + 9 for name, value in curve(assignment, epoch).items()}

    configs = [(0.01, 0.0), (0.09, 0.2), (0.0011, 0.2), (0.095, 0.25)]
    start = [{"learning_rate": rate, "dropout": dropout} for rate, dropout in configs]
    stored = informed(later(tmp_path, search__start=start, study__trials=len(start)), worse)
    monkeypatch.setattr(bayes, "ROWS", 12)
    assert learned.outlook(stored).trial == 0


def test_sampler_that_reads_its_own_trials_only_is_said(tmp_path, first):
    told = {
        name: later(tmp_path, search__sampler=name).settings.search.learns_from_others for name in ("tpe", "random")
    }
    assert told == {"tpe": True, "random": False}
    assert not SearchSection(sampler=Named(name="cmaes")).learns_from_others


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
        ({"search__learn_from": {"database": "two.db"}}, 'add study = "...", one of replay, second'),
        ({"study__direction": "maximize"}, "was to minimize 'val_loss', this one is to maximize 'val_loss'"),
    ],
)
def test_study_that_can_teach_nothing_is_refused(tmp_path, first, settings, said):
    for name in ("replay", "second") if "two.db" in str(settings) else ():
        replay(replay_file(tmp_path, study__name=name, run__storage="two.db", study__trials=1))
    with pytest.raises(UsageError, match=r"search\.learn_from") as refused:
        earlier.find(later(tmp_path, **settings))
    assert said in str(refused.value)


def test_address_is_refused_and_its_password_told_nobody(tmp_path):
    with pytest.raises(UsageError, match="received an address of 'postgresql'") as refused:
        later(tmp_path, search__learn_from={"database": "postgresql://me:secret@host/db"})
    assert "secret" not in str(refused.value)


def test_other_data_and_another_builder_are_told(tmp_path, first):
    full = declared(later(tmp_path))
    same = {**full, "data": first.identity["data"], "model": {**first.identity["model"], "files": {"a.py": "2"}}}
    assert known.carry_over(first, later(tmp_path), same).unlike == []  # a study of an earlier version has no files
    first = replace(first, identity=same)
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
        ("space.dropout.choices=[1]", "choices go without"),
    ],
)
def test_what_widens_nothing_is_refused(first, widening, said):
    with pytest.raises(UsageError) as refused:
        wider(first, widening)
    assert said in str(refused.value)


def test_show_advises_commands_for_the_study_that_it_shows(tmp_path):
    """The study file leads to the narrow one."""
    narrow = replay(replay_file(tmp_path, study__trials=2))
    wide = replay(wider(narrow, "space.dropout.high=0.8"))
    advised = [line for stored in (narrow, wide) for line in answers.answers(stored).next if "manyfit export" in line]
    assert [line.partition("manyfit export ")[2] for line in advised] == [
        f"{narrow.file.path} --model best.keras",
        f"{narrow.path} --name replay-dropout-high-0.8 --model best.keras",
    ]


def test_name_that_would_be_too_long_is_cut(first):
    (long, other) = (f"space.learning_rate.low=0.0000{'0' * 200}{digit}" for digit in (1, 2))
    names = {wider(first, widening).name for widening in (long, other)}
    assert len(names) == 2
    assert all(name.startswith("first-learning_rate-low-0.0000") for name in names)


def test_widened_study_of_another_space_is_not_gone_on_with(tmp_path):
    """Two widenings may read the same in a name: -1 and 1."""
    text = REPLAY.replace("[space]", "[space]\nx = { low = 2.0, high = 9.0 }")
    narrow = replay(replay_file(tmp_path, text, study__trials=2))
    replay(wider(narrow, "space.x.low=-1.0"))
    with pytest.raises(UsageError, match=r"has a study 'replay-x-low-1\.0' already, with another space"):
        wider(narrow, "space.x.low=1.0")
    named = wider(narrow, "space.x.low=1.0", overrides=["study.name=mine"])
    replay(named)
    assert replay(wider(narrow, "space.x.low=1.0", overrides=["study.name=mine"])).name == "mine"


def test_study_of_given_configs_has_no_ranges_to_widen(tmp_path):
    candidates = [{"learning_rate": 0.01, "dropout": dropout} for dropout in (0.1, 0.2)]
    narrow = replay(replay_file(tmp_path, search__candidates=candidates, study__trials=2))
    with pytest.raises(UsageError, match="chooses among given configs"):
        wider(narrow, "space.dropout.high=0.9")


def test_steps_are_kept(tmp_path):
    narrow = replay(replay_file(tmp_path, space__width={"low": 16, "high": 64, "step": 16}, study__trials=2))
    assert wider(narrow, "space.width.high=96").space["width"].high == 96
    with pytest.raises(UsageError, match="what width had must stay within what it gets"):
        wider(narrow, "space.width.low=8", "space.width.high=72")


def test_wider_lists_keep_what_they_had(tmp_path):
    narrow = replay(study(tmp_path, "first", space__units=[16, 32], study__trials=3))
    file = wider(narrow, "space.units=[16, 32, 64]", "space.dropout.high=0.6")
    assert (file.name, file.space["units"].choices) == ("first-units-16-32-64-dropout-high-0.6", (16, 32, 64))
    with pytest.raises(UsageError, match="what units had"):
        wider(narrow, "space.units=[32, 64]")
    with pytest.raises(UsageError, match="what units had"):
        wider(narrow, "space.units={ low = 1, high = 64 }")
