"""The loop, the study and the store together, with recorded curves instead of training."""

from __future__ import annotations

import math
import signal
import sqlite3
from contextlib import closing
from dataclasses import replace
from itertools import count

import pytest
from support import curve, cut_off, query, replay, replay_file, table

from search.core.ended import RepeatedFailureError
from search.core.study import Study
from search.errors import Interrupted
from search.sessions import run
from search.storage import records
from search.trials.events import EpochEnd, Lost, Member, Overdue, Stopped
from search.workers.inprocess import Replaying


@pytest.mark.parametrize("lanes", [1, 4, 16])
def test_every_trial_runs_once_and_ends(tmp_path, lanes):
    stored = replay(replay_file(tmp_path), lanes=lanes)
    assert [trial.number for trial in stored.trials] == list(range(20))
    assert all(trial.is_ended for trial in stored.trials)
    assert stored.ended == "all trials"


def test_value_is_the_best_epochs_and_not_the_last(tmp_path):
    def curves(assignment, epoch):
        return {"loss": 1.0, "val_loss": abs(epoch - 4) + 1.0 + assignment.seed % 5}

    stored = replay(replay_file(tmp_path, study__trials=3, search__pruner="none"), curves)
    assert [trial.best_epoch for trial in stored.trials] == [4, 4, 4]
    assert all(trial.value == min(m["val_loss"] for m in trial.curve) for trial in stored.trials)


def test_in_step_trials_are_pruned_before_any_is_complete(tmp_path):
    stored = replay(replay_file(tmp_path, study__trials=16), lanes=16)
    at_first_rung = [trial for trial in stored.trials if trial.ended == "pruned" and len(trial.curve) == 3]
    assert len(at_first_rung) == 10
    assert all(trial.why.startswith("rung 3: rank") for trial in at_first_rung)


def test_same_seed_gives_the_same_table_and_another_seed_another(tmp_path):
    tables = []
    for place, seed in (("a", 3), ("b", 3), ("c", 4)):
        (tmp_path / place).mkdir()
        file = replay_file(tmp_path / place, study__seed=seed)
        replay(file, lanes=4)
        tables.append(table(file.storage, file.name))
    assert tables[0] == tables[1]
    assert tables[0] != tables[2]


@pytest.mark.parametrize("sampler", ["random", "tpe", "qmc", {"name": "grid", "points": 4}, "bayes"])
@pytest.mark.parametrize("after", [1, 7, 40, 60])
def test_interrupted_study_goes_on_as_if_nothing_had_happened(tmp_path, sampler, after):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    undisturbed, disturbed = (replay_file(tmp_path / place, search__sampler=sampler) for place in "ab")
    replay(undisturbed)
    ticks = count()
    with pytest.raises(Interrupted):
        replay(disturbed, interruption=lambda: signal.SIGINT if next(ticks) == after else 0)
    assert query(disturbed.storage, "SELECT count(*) FROM trials WHERE state = 'RUNNING'") == [(0,)]
    stored = replay(disturbed)
    assert table(disturbed.storage, "replay") == table(undisturbed.storage, "replay")
    assert stored.events == []


def test_finished_study_trains_nothing_more_and_a_raised_budget_exactly_that(tmp_path):
    """B8."""
    trained = set()

    def counting(assignment, epoch):
        trained.add(assignment.member.trial)
        return curve(assignment, epoch)

    replay(replay_file(tmp_path), counting)
    trained.clear()
    replay(replay_file(tmp_path), counting)
    assert trained == set()
    replay(replay_file(tmp_path, study__trials=25), counting)
    assert trained == {20, 21, 22, 23, 24}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("metric", ["loss", "val_loss"])
def test_diverged_trial_ends_at_once_without_a_value_and_is_never_best(tmp_path, bad, metric):
    """B1."""

    def curves(assignment, epoch):
        diverges = assignment.member.trial % 3 == 1 and epoch == 2
        return curve(assignment, epoch) | ({metric: bad} if diverges else {})

    stored = replay(replay_file(tmp_path, search__pruner="none"), curves)
    diverged = [trial for trial in stored.trials if trial.ended == "diverged"]
    assert [trial.number for trial in diverged] == list(range(1, 20, 3))
    assert all((t.state, t.value, len(t.curve)) == ("PRUNED", None, 1) for t in diverged)
    others = [trial for trial in stored.trials if trial.ended != "diverged"]
    assert all(trial.state == "COMPLETE" for trial in others)
    assert stored.complete[0] in others


def test_constant_objective_completes(tmp_path):
    """B1."""
    stored = replay(replay_file(tmp_path), lambda a, e: {"loss": 0.5, "val_loss": 0.5})
    assert {trial.state for trial in stored.trials} == {"COMPLETE"}
    assert stored.complete[0].number == 0


def test_failed_trial_counts_and_the_others_are_unchanged(tmp_path):
    def curves(assignment, epoch):
        if assignment.member.trial == 4 and epoch == 2:
            raise ValueError("boom")
        return curve(assignment, epoch)

    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    file = replay_file(tmp_path / "a", search__sampler="random", search__pruner="none")
    stored = replay(file, curves)
    assert (stored.trials[4].state, stored.trials[4].why) == ("FAIL", "ValueError: boom")
    assert len(stored.trials) == 20
    whole = replay(replay_file(tmp_path / "b", search__sampler="random", search__pruner="none"))
    for ours, theirs in zip(stored.trials, whole.trials, strict=True):
        assert ours.number == 4 or ours.curve == theirs.curve


def test_three_like_failures_in_a_row_end_the_study_with_the_cause_once(tmp_path):
    """F8."""

    def curves(assignment, epoch):
        if assignment.member.trial >= 2:
            raise ValueError("no such layer")
        return curve(assignment, epoch)

    with pytest.raises(RepeatedFailureError) as raised:
        replay(replay_file(tmp_path), curves)
    assert str(raised.value).count("no such layer") == 1
    assert query(tmp_path / "replay.db", "SELECT state, count(*) FROM trials GROUP BY state ORDER BY 1") == [
        ("COMPLETE", 2),
        ("FAIL", 3),
    ]


def test_objective_that_training_does_not_report_is_said_with_what_it_reports(tmp_path):
    with pytest.raises(RepeatedFailureError, match="reports no 'val_loss'; it reports loss, val_accuracy"):
        replay(replay_file(tmp_path), lambda a, e: {"loss": 1.0, "val_accuracy": 0.5})


def test_early_stopping_and_pruning_are_told_apart(tmp_path):
    def curves(assignment, epoch):
        return {"loss": 1.0, "val_loss": 1.0 / min(epoch, 4) + assignment.seed % 1000}

    file = replay_file(tmp_path, study__epochs=20, search__early_stopping={"patience": 3})
    stored = replay(file, curves)
    endings = {trial.ended for trial in stored.trials}
    assert endings == {"pruned", "stopped early"}
    assert {trial.state for trial in stored.trials if trial.ended == "stopped early"} == {"COMPLETE"}
    assert all(len(t.curve) == 7 for t in stored.trials if t.ended == "stopped early")


def test_stop_after_ends_a_study_that_gets_no_better(tmp_path):
    file = replay_file(tmp_path, study__stop_after=5, search__pruner="none")
    stored = replay(file, lambda a, e: {"loss": 1.0, "val_loss": 1.0 + a.member.trial})
    assert len(stored.trials) == 6
    assert "no better value in the last 5 trials" in stored.ended


def test_grid_is_used_up_before_the_budget(tmp_path):
    """B8."""
    stored = replay(replay_file(tmp_path, search__sampler={"name": "grid", "points": 3}))
    assert len({tuple(trial.params.values()) for trial in stored.trials}) == len(stored.trials) == 9
    assert stored.ended == "all 9 configs of the grid have been tried"


def test_start_config_on_the_grid_is_not_trained_twice(tmp_path):
    file = replay_file(
        tmp_path, search__sampler={"name": "grid", "points": 2}, search__start=[{"learning_rate": 0.1, "dropout": 0.5}]
    )
    stored = replay(file)
    assert len({tuple(trial.params.values()) for trial in stored.trials}) == len(stored.trials) == 4
    assert stored.trials[0].params == {"learning_rate": 0.1, "dropout": 0.5}


def test_start_configs_are_tried_first_and_completed(tmp_path):
    start = [{"learning_rate": 0.01}, {"learning_rate": 0.02, "dropout": 0.1}]
    stored = replay(replay_file(tmp_path, search__start=start))
    assert stored.trials[0].params["learning_rate"] == 0.01
    assert 0 <= stored.trials[0].params["dropout"] <= 0.5
    assert stored.trials[1].params == {"learning_rate": 0.02, "dropout": 0.1}


def test_epochs_may_be_a_parameter(tmp_path):
    text = '[data]\nsource = "sklearn:digits"\n[space]\nepochs = { low = 2, high = 6 }\nlearning_rate = { low = 1e-3, high = 1.0 }\ndropout = { low = 0.0, high = 0.5 }\n'
    stored = replay(replay_file(tmp_path, text, search__pruner="none"))
    assert len({trial.epochs for trial in stored.trials}) > 1
    assert all(len(trial.curve) == trial.params["epochs"] == trial.epochs for trial in stored.trials)


def started(study):
    return study.trials[study.next_assignment().member.trial]


def test_late_result_of_a_trial_given_up_changes_nothing(tmp_path):
    study = Study(replay_file(tmp_path))
    trial = started(study)
    study.record([EpochEnd(Member(0), 1, {"loss": math.nan, "val_loss": 1.0}, 0.0)])
    assert trial.ended == "diverged"
    study.record([EpochEnd(Member(0), 1, {"loss": 0.1, "val_loss": 0.1}, 0.0)])
    assert (trial.state, trial.value, trial.curve) == ("PRUNED", None, [])


def test_trial_that_only_waited_for_a_place_is_not_under_suspicion(tmp_path):
    study = Study(replay_file(tmp_path))
    for _ in range(2):
        trials = [started(study) for _ in range(3)]
        study.record([Lost(Member(n), "gone", alone=False, trained=n < 2) for n in range(3)])
    assert [trial.number for trial in trials] == [0, 1, 2]
    assert [trial.trainings[0].deaths for trial in trials] == [2, 2, 0]
    assert started(study) is trials[0]
    assert study.next_assignment() is None, "it goes on alone"


def test_lost_worker_blames_nobody_until_it_dies_twice_with_the_same_trial_alone(tmp_path):
    study = Study(replay_file(tmp_path))
    trial = started(study)
    study.record([EpochEnd(Member(0), 1, {"loss": 1.0, "val_loss": 1.0}, 0.0)])
    study.record([Lost(Member(0), "its worker was ended by SIGKILL")])
    assert started(study) is trial
    assert trial.trainings[0].deaths == 1
    # The first epoch comes again and is swallowed; a death after it is the second in a row.
    study.record([EpochEnd(Member(0), 1, {"loss": 1.0, "val_loss": 1.0}, 0.0)])
    assert len(trial.curve) == 1
    study.record([Lost(Member(0), "its worker was ended by SIGKILL", "last words")])
    assert (trial.state, trial.ended, trial.detail) == ("FAIL", "crashed", "last words")


def test_epoch_computed_again_differently_is_noted_and_the_stored_one_stays(tmp_path):
    study = Study(replay_file(tmp_path))
    trial = started(study)
    study.record([EpochEnd(Member(0), 1, {"loss": 1.0, "val_loss": 1.0}, 0.0)])
    study.record([Lost(Member(0), "gone")])
    study.next_assignment()
    study.record([EpochEnd(Member(0), 1, {"loss": 1.0, "val_loss": 1.1}, 0.0)])
    assert trial.curve[0]["val_loss"] == 1.0
    assert [event.kind for event in study.pending().events] == ["worker lost", "recomputed epoch differs"]
    (warning,) = run._recomputed(study, [trial])
    assert "trial 0 was interrupted, and epoch 1 gave 1.1 when it was trained again, not 1: its curve" in warning


def test_study_time_ends_trials_with_what_they_have(tmp_path):
    file = replay_file(tmp_path, study__time=0.3, study__trials=100000, search__sampler="random")
    stored = replay(file, lanes=4)
    assert 4 < len(stored.trials) < 100000
    assert "time of 0.3 s" in stored.ended
    assert all(trial.is_ended for trial in stored.trials)
    assert [kind for _, kind, _ in stored.events if kind != "time"] == []


def test_interrupted_trials_have_one_more_epoch_and_a_value_when_the_studys_time_is_over(tmp_path):
    """As they would have had without the interruption; nothing is drawn any more."""
    file = replay_file(tmp_path, study__time=60)
    cut_off(file, after=4)
    with closing(sqlite3.connect(file.storage)) as connection, connection:
        connection.execute("UPDATE manyfit_studies SET seconds = 61")
    before = {
        trial.number: len(trial.curve) for trial in records.load(file.storage, "replay").trials if not trial.is_ended
    }
    assert before
    stored = replay(file, lanes=3)
    assert len(stored.trials) == max(before) + 1
    for number, epochs in before.items():
        trial = stored.trials[number]
        assert (trial.state, trial.ended, len(trial.curve)) in {
            ("COMPLETE", "time", epochs + 1),
            ("PRUNED", "pruned", epochs + 1),
            ("COMPLETE", "finished", epochs + 1),
        }
    assert "time of 60 s" in stored.ended
    again = replay(file, lanes=3)
    assert [len(trial.curve) for trial in again.trials] == [len(trial.curve) for trial in stored.trials]


@pytest.mark.parametrize("event", [Overdue(Member(0), 12.5), Stopped(Member(0))])
def test_trials_that_never_come_to_an_epoch_end_the_study_like_any_failure(tmp_path, event):
    study = Study(replay_file(tmp_path))
    for number in range(3):
        assert study.gave_up is None
        assert study.next_assignment().member.trial == number
        study.record([replace(event, member=Member(number))])
    assert [(trial.state, trial.value) for trial in study.trials] == [("FAIL", None)] * 3
    assert study.gave_up is not None


def test_trial_time_ends_a_slow_trial_with_its_best_epoch(tmp_path):
    class Slow(Replaying):
        def advance(self):
            return [EpochEnd(e.member, e.epoch, e.metrics, seconds=1.0) for e in super().advance()]

    study = Study(replay_file(tmp_path, run__trial_time="3s", study__trials=2, search__pruner="none"))
    engine = Slow(curve)
    while not study.is_done():
        while engine.has_capacity and (assignment := study.next_assignment()):
            engine.start(assignment)
        engine.apply(study.judge(study.record(engine.advance())))
    assert [(t.state, t.ended, len(t.curve)) for t in study.trials] == [("COMPLETE", "timeout", 3)] * 2


def test_like_failures_leave_no_epoch_unjudged(tmp_path):
    """Other trials' epochs of the tick in which the study gives up are judged before they are stored."""

    def curves(assignment, epoch):
        if assignment.member.trial >= 1 and epoch == 2:
            raise ValueError("boom")
        return curve(assignment, epoch)

    file = replay_file(tmp_path, study__epochs=2, search__pruner="none")
    with pytest.raises(RepeatedFailureError):
        replay(file, curves, lanes=4)
    stored = replay(replay_file(tmp_path, study__epochs=2, search__pruner="none"), lanes=4)
    assert len(stored.trials) == 20
    assert stored.trials[0].ended == "finished"
    assert all(trial.is_ended and len(trial.curve) <= 2 for trial in stored.trials)


def test_trial_of_a_process_that_died_is_stored_as_waiting_before_its_turn_comes(tmp_path):
    file = replay_file(tmp_path)
    cut_off(file, after=3)
    with pytest.raises(Interrupted):
        replay(file, interruption=lambda: 2)
    assert query(file.storage, "SELECT count(*) FROM trials WHERE state = 'RUNNING'") == [(0,)]


def test_study_that_gets_better_after_all_forgets_why_it_would_have_stopped(tmp_path):
    file = replay_file(tmp_path, study__stop_after=2, study__trials=6, search__pruner="none")
    stored = replay(file, lambda a, e: {"loss": 1.0, "val_loss": 10.0 - a.member.trial})
    assert (len(stored.trials), stored.ended) == (6, "all trials")
