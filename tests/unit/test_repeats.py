"""A trial of several trainings: its curve and value are their means, whatever the engine, and whatever interrupts it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from statistics import mean, stdev

import pytest
from support import curve, cut_off, manyfit, record, replay, replay_file, table

from search.core import loop
from search.core.study import Study
from search.spec.identity import IdentityError, check_unchanged, declared
from search.storage import records
from search.storage.memory import MemoryStorage
from search.trials.events import EpochEnd, Failed, Lost, Member, Stopped
from search.trials.objective import Objective
from search.views import export
from search.workers.inprocess import Replaying


def noisy(assignment, epoch):
    """A curve that depends on the member's seed."""
    shift = (assignment.seed % 1000) / 5000
    return {name: value + shift for name, value in curve(assignment, epoch).items()}


def epoch_end(trial, replica, epoch, value, seconds=0.1):
    return EpochEnd(Member(trial, replica), epoch, {"loss": 1.0, "val_loss": value}, seconds)


def begun(tmp_path, repeats=3, **settings):
    study = Study(replay_file(tmp_path, study__repeats=repeats, **settings))
    return study, [study.next_assignment() for _ in range(repeats)]


def test_every_training_has_a_seed_of_its_own_and_the_first_that_of_a_trial_without_repeats(tmp_path):
    _, assignments = begun(tmp_path)
    assert [one.member for one in assignments] == [Member(0, replica) for replica in range(3)]
    assert len({one.seed for one in assignments}) == 3
    assert {json.dumps(one.config) for one in assignments} == {json.dumps(assignments[0].config)}
    (alone,) = begun(tmp_path, 1)[1]
    assert alone.seed == assignments[0].seed


def test_value_is_the_best_epoch_of_the_mean_and_not_the_mean_of_the_best_epochs(tmp_path):
    study, _ = begun(tmp_path, 2, study__epochs=9)
    for epoch, values in enumerate([(0.1, 0.9), (0.6, 0.2), (0.5, 0.5)], 1):
        study.record([epoch_end(0, replica, epoch, value) for replica, value in enumerate(values)])
    (trial,) = study.trials
    assert [metrics["val_loss"] for metrics in trial.curve] == [0.5, 0.4, 0.5]
    assert (trial.value, trial.best_epoch) == (pytest.approx(0.4), 2)
    assert Objective.of(study.file).repeats(trial) == [0.6, 0.2]
    assert Objective.of(study.file).standard_error(trial) == pytest.approx(stdev([0.6, 0.2]) / math.sqrt(2))


def test_epoch_counts_when_the_last_training_has_reached_it(tmp_path):
    study, _ = begun(tmp_path, 2)
    study.record([epoch_end(0, 0, epoch, 0.5) for epoch in (1, 2)])
    assert (study.trials[0].curve, study.trials[0].value) == ([], None)
    assert [verdict.ends for verdict in study.judge([Member(0)])] == [False]
    study.record([epoch_end(0, 1, 1, 0.7)])
    assert (len(study.trials[0].curve), study.trials[0].value) == (1, pytest.approx(0.6))
    assert [epoch.value for epoch in study.pending().epochs] == [None, None, pytest.approx(0.6)]


def test_trial_that_was_cut_off_before_its_last_training_began_goes_on(tmp_path):
    """Its epochs are stored, and no value: another program's trial has no epochs of ours."""
    (tmp_path / "whole").mkdir()
    whole = replay(replay_file(tmp_path / "whole", study__repeats=4, study__trials=3), noisy, lanes=3)
    file = replay_file(tmp_path, study__repeats=4, study__trials=3)
    cut_off(file, 2, noisy)
    replay(file, noisy, lanes=3)
    assert table(file.storage, file.name) == table(whole.path, whole.name)


@pytest.mark.parametrize(
    "event",
    [
        Failed(Member(0, 1), "ValueError: no"),
        EpochEnd(Member(0, 1), 2, {"loss": math.nan, "val_loss": 1.0}, 0.1),
    ],
)
def test_trial_whose_training_fails_or_diverges_ends_with_all_its_members(tmp_path, event):
    study, _ = begun(tmp_path)
    touched = study.record([epoch_end(0, replica, 1, 0.5) for replica in range(3)])
    assert [verdict.ends for verdict in study.judge(touched)] == [False] * 3
    touched = study.record([event])
    assert [(verdict.member.replica, verdict.ends) for verdict in study.judge(touched)] == [
        (0, True),
        (1, True),
        (2, True),
    ]
    assert study.trials[0].is_ended
    assert study.judge(study.record([epoch_end(0, 2, 2, 0.4)]))[0].ends, "a late epoch is no error"
    assert study.next_assignment().member == Member(1)


def test_lost_member_starts_again_while_the_others_go_on(tmp_path):
    study, _ = begun(tmp_path, 2)
    study.record([Lost(Member(0, 1), "gone", alone=False)])
    assert study.trials[0].state == "RUNNING"
    assert study.next_assignment().member == Member(0, 1)
    study.record([Lost(Member(0, replica), "gone", alone=False) for replica in range(2)])
    assert study.trials[0].state == "WAITING"
    assert study.unfinished == [Member(0), Member(0, 1)]


def test_training_that_is_done_frees_its_place_and_its_weights_wait_for_the_others(tmp_path):
    study, _ = begun(tmp_path, 2, study__epochs=2)
    touched = study.record([epoch_end(0, 0, epoch, 0.5) for epoch in (1, 2)])
    assert [verdict.ends for verdict in study.judge(touched)] == [True]
    assert (study.kept, study.worth_keeping(touched), study.unfinished) == ([Member(0)], [Member(0)], [Member(0, 1)])
    for epoch in (1, 2):
        touched = study.record([epoch_end(0, 1, epoch, 0.7)])
        verdicts = study.judge(touched)
    assert (study.trials[0].ended, verdicts[0].ends) == ("finished", True)
    assert study.kept == [Member(0), Member(0, 1)]


@pytest.mark.parametrize("in_step", [False, True])
@pytest.mark.parametrize(("setting", "ended"), [({"run__trial_time": "3s"}, "timeout"), ({}, "callback")])
def test_training_that_ends_early_ends_its_trial_where_it_has_ended(tmp_path, setting, ended, in_step):
    """The others come as far, whether they train beside it or after it."""
    study, _ = begun(tmp_path, **setting)
    for epoch in (1, 2, 3):
        seconds = 1.0 if ended == "timeout" else 0.1
        touched = study.record([epoch_end(0, 0, epoch, 0.5, seconds)])
        first = study.judge(touched)
        if in_step:
            study.judge(study.record([epoch_end(0, replica, epoch, 0.8) for replica in (1, 2)]))
    if ended == "callback":
        first = study.judge(study.record([Stopped(Member(0))]))
    assert [v.ends for v in first if v.member == Member(0)] == [True]
    for epoch in () if in_step else (1, 2, 3):
        assert not study.trials[0].is_ended
        study.judge(study.record([epoch_end(0, replica, epoch, 0.8) for replica in (1, 2)]))
    (trial,) = study.trials
    assert (trial.state, trial.ended, len(trial.curve)) == ("COMPLETE", ended, 3)
    assert trial.value == pytest.approx(0.7)
    assert study.gave_up is None


def test_others_train_until_the_trial_has_a_value_when_the_studys_time_is_over(tmp_path):
    study, _ = begun(tmp_path, 2, study__time=60)
    study.judge(study.record([epoch_end(0, 0, epoch, 0.5 / epoch) for epoch in (1, 2)]))
    study.seconds_before = 61
    assert [v.ends for v in study.judge(study.record([epoch_end(0, 0, 3, 0.1)]))] == [True]
    assert not study.trials[0].is_ended
    assert [v.ends for v in study.judge(study.record([epoch_end(0, 1, 1, 0.7)]))] == [True]
    (trial,) = study.trials
    assert (trial.state, trial.ended, trial.value) == ("COMPLETE", "time", pytest.approx(0.6))
    assert study.is_done()


def test_studies_whose_trainings_are_stopped_one_after_the_other_keep_their_values(tmp_path):
    """The sample: three such trials ended the study as like failures."""

    class Stopping(Replaying):
        def advance(self):
            events = []
            for event in super().advance():
                events.append(event)
                if event.epoch == 2 + event.member.replica:
                    events.append(Stopped(event.member))
            return events

    file = replay_file(tmp_path, study__repeats=3, study__trials=4, search__pruner="none")
    stored = loop.run(file, record(file), MemoryStorage, Stopping(noisy))
    assert [(t.state, t.ended, len(t.curve)) for t in stored.trials] == [("COMPLETE", "callback", 2)] * 4


def test_weights_that_waited_go_with_a_trial_that_is_not_among_the_best(tmp_path):
    study, _ = begun(tmp_path, 2, study__epochs=2, run__keep=1)
    for trial, value in ((0, 0.5), (1, 0.9)):
        for replica in (0, 1):
            for epoch in (1, 2):
                study.judge(study.record([epoch_end(trial, replica, epoch, value)]))
        for _ in range(2):
            study.next_assignment()
    assert study.kept == [Member(0), Member(0, 1)]
    (tmp_path / "none").mkdir()
    nothing, _ = begun(tmp_path / "none", 2, study__epochs=1, run__keep=0)
    nothing.judge(nothing.record([epoch_end(0, 0, 1, 0.5)]))
    assert nothing.kept == []


def test_no_trial_is_left_running_between_two_of_its_trainings(tmp_path):
    study = Study(replay_file(tmp_path, study__repeats=2, study__epochs=1))
    study.next_assignment()
    study.judge(study.record([epoch_end(0, 0, 1, 0.5)]))
    study.put_back()
    assert (study.trials[0].state, study.unfinished) == ("WAITING", [Member(0, 1)])


def test_late_epoch_of_a_member_whose_trial_has_ended_keeps_no_weights(tmp_path):
    study, _ = begun(tmp_path, 2, study__epochs=9)
    study.judge(study.record([epoch_end(0, replica, 1, 0.5) for replica in (0, 1)]))
    touched = study.record([Stopped(Member(0))])
    study.judge(touched)
    assert study.worth_keeping(touched) == [Member(0)]
    late = study.record([epoch_end(0, 1, 2, 0.4)])
    study.judge(late)
    assert study.worth_keeping(late) == []


def test_mean_of_very_large_values_is_finite(tmp_path):
    study, _ = begun(tmp_path, 2)
    study.record([epoch_end(0, replica, 1, 1.7e308) for replica in (0, 1)])
    assert study.trials[0].value == pytest.approx(1.7e308)


@pytest.mark.parametrize("lanes", [1, 2, 7])
def test_study_with_repeats_is_the_same_however_often_it_is_interrupted(tmp_path, lanes):
    settings = {"study__repeats": 3, "study__trials": 8, "search__pruner": "none"}
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    whole = replay(replay_file(tmp_path / "whole", **settings), noisy, lanes=lanes)
    assert all(len(trial.trainings) == 3 for trial in whole.trials)
    cut = replay_file(tmp_path / "cut", **settings)
    cut_off(cut, 7, noisy)
    cut_off(cut, 9, noisy)
    found = replay(cut, noisy, lanes=lanes)
    assert [trial.ended for trial in found.trials] == ["finished"] * 8
    for trial in found.trials:
        values = [[metrics["val_loss"] for metrics in training.curve] for training in trial.trainings]
        assert [m["val_loss"] for m in trial.curve] == pytest.approx(
            [mean(epoch) for epoch in zip(*values, strict=True)]
        )
    assert {t.number: t.params for t in found.trials}.keys() == {t.number: t.params for t in whole.trials}.keys()
    assert manyfit("verify", cut.path).returncode == 0
    before = table(cut.storage, cut.name)
    replay(cut, noisy, lanes=lanes)
    assert table(cut.storage, cut.name) == before, "nothing is left to do"


def test_pruning_and_the_sampler_see_the_mean(tmp_path):
    file = replay_file(tmp_path, study__repeats=2, study__trials=12, search__sampler="random")
    stored = replay(file, noisy, lanes=4)
    assert {trial.state for trial in stored.trials} == {"COMPLETE", "PRUNED"}
    pruned = [trial for trial in stored.trials if trial.state == "PRUNED"]
    assert all(len({len(training.curve) for training in trial.trainings}) == 1 for trial in pruned)


def test_exports_and_reports_tell_of_each_training(tmp_path):
    file = replay_file(tmp_path, study__repeats=3, study__trials=4, search__pruner="none")
    stored = replay(file, noisy, lanes=6)
    best = export.best(stored).configs[0]
    assert [repeat.seed for repeat in best.repeats] == [one.seed for one in stored.trials[best.trial].trainings]
    assert best.value == pytest.approx(mean(repeat.value for repeat in best.repeats))
    assert best.standard_error == pytest.approx(stdev(repeat.value for repeat in best.repeats) / math.sqrt(3))
    assert "standard error" in manyfit("show", file.path).stdout
    shown = manyfit("show", file.path, "--trial", best.trial).stdout
    assert "the mean of 3 trainings (" in shown
    document = json.loads(manyfit("show", file.path, "--trial", best.trial, "--json").stdout)
    assert [len(repeat["curve"]) for repeat in document["repeats"]] == [stored.trials[best.trial].epochs] * 3


def test_repeats_belong_to_a_studys_identity_and_studies_without_them_keep_theirs(tmp_path):
    once = replay_file(tmp_path)
    assert "repeats" not in declared(once)
    section = once.settings.study.model_copy(update={"repeats": 2})
    twice = replace(once, settings=once.settings.model_copy(update={"study": section}))
    with pytest.raises(IdentityError, match="repeats: was absent, now 2"):
        check_unchanged("study", declared(once), declared(twice))


def test_damage_of_one_training_is_found(tmp_path):
    import sqlite3
    from contextlib import closing

    file = replay_file(tmp_path, study__repeats=2, study__trials=3, search__pruner="none")
    replay(file, noisy, lanes=4)
    with closing(sqlite3.connect(file.storage)) as connection, connection:
        connection.execute("DELETE FROM manyfit_epochs WHERE replica = 1 AND epoch = 2 AND trial_id = 1")
    shown = manyfit("verify", file.path)
    assert shown.returncode != 0
    assert "its curve lacks epoch 2" in shown.stdout + shown.stderr
    assert records.exists(file.storage, file.name)
