"""Pruners on curves: what is pruned when, alone, in step and one after another."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import replay, replay_file

from search.errors import OptionError
from search.policies import pruners
from search.policies.pruners import Halving, Hyperband, Median, Nothing, Patient, Percentile, Standings
from search.registry import PRUNERS

EPOCHS = 27


def race(pruner: pruners.Pruner, curves: list[list[float]], at_once: int | None = None) -> dict[int, tuple[int, str]]:
    """Run curves (higher is better), so many in step; return trial -> (the epoch it was pruned at, why)."""
    standings = Standings()
    waiting, running, pruned = list(range(len(curves))), {}, {}
    while waiting or running:
        while waiting and len(running) < (at_once or len(curves)):
            running[waiting.pop(0)] = 0
        running = {trial: epoch + 1 for trial, epoch in running.items()}
        for trial, epoch in running.items():
            standings.record(trial, epoch, max(curves[trial][:epoch]))
        for trial, epoch in list(running.items()):
            why = pruner.reason(standings, trial, epoch) if epoch < len(curves[trial]) else None
            if why:
                pruned[trial] = (epoch, why)
            if why or epoch == len(curves[trial]):
                standings.close(trial)
                del running[trial]
    return pruned


def level(scores: list[float], epochs: int = EPOCHS) -> list[list[float]]:
    """Curves that keep their distance: every trial's score is what it is from the first epoch on."""
    return [[score * epoch for epoch in range(1, epochs + 1)] for score in scores]


SIXTEEN = level([float(score) for score in np.random.default_rng(0).permutation(16) + 1])


# -- standings ---------------------------------------------------------------------------------------------------------


def test_standings_hold_as_many_trials_as_come():
    standings = Standings()
    for trial in range(200):
        standings.record(trial, 1, float(trial))
    assert [standings.score(trial, 1) for trial in (0, 63, 64, 199)] == [0.0, 63.0, 64.0, 199.0]
    assert math.isnan(standings.score(199, 2))


def test_closed_trial_stands_with_its_last_score_but_has_not_reached_later_epochs():
    standings = Standings()
    standings.record(0, 1, 0.5)
    standings.record(0, 2, 0.6)
    standings.close(0)
    standings.close(999)  # a trial that failed before its first epoch is no trouble
    assert standings.at(5, reached=False)[0] == 0.6
    assert math.isnan(standings.at(5, reached=True)[0])
    assert standings.at(2, reached=True)[0] == 0.6


class WholeTable:
    """Standings in plain Python with a cell for every epoch, whether a trial reaches it or not."""

    def __init__(self, epochs: int) -> None:
        self.epochs, self.rows, self.reached = epochs, {}, {}

    def record(self, trial: int, epoch: int, best: float) -> None:
        self.rows.setdefault(trial, [math.nan] * (self.epochs + 1))[epoch] = best
        self.reached[trial] = epoch

    def close(self, trial: int) -> None:
        if last := self.reached.get(trial, 0):
            self.rows[trial][last + 1 :] = [self.rows[trial][last]] * (self.epochs - last)

    def fail(self, trial: int) -> None:
        self.rows[trial] = [math.nan] + [-math.inf] * self.epochs

    def at(self, epoch: int, *, reached: bool) -> dict[int, float]:
        return {
            trial: row[epoch] if not reached or self.reached.get(trial, 0) >= epoch else math.nan
            for trial, row in self.rows.items()
        }


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["record", "record", "record", "close", "fail", "at"]), st.integers(0, 130), st.integers(1, 300)
    ),
    max_size=60,
)


@settings(max_examples=100, deadline=None)
@given(STEPS)
def test_standings_are_those_of_a_table_of_all_epochs(steps):
    standings, whole = Standings(), WholeTable(300)
    for number, (what, trial, epoch) in enumerate(steps):
        if what == "record":
            standings.record(trial, epoch, float(number))
            whole.record(trial, epoch, float(number))
        elif what == "at":
            standings.at(epoch, reached=bool(trial % 2))
        else:
            getattr(standings, what)(trial)
            getattr(whole, what)(trial)
    for reached in (False, True):
        for epoch in range(1, 301):
            expected = whole.at(epoch, reached=reached)
            received = standings.at(epoch, reached=reached)
            cells = [expected.get(trial, math.nan) for trial in range(len(received))]
            assert np.array_equal(received, cells, equal_nan=True)


@pytest.mark.parametrize("pruner", ["median", "halving", "hyperband", "patient"])
def test_most_epochs_cost_no_memory_while_early_stopping_ends_every_trial(tmp_path, pruner):
    """The sample: epochs = 1_000_000 took half a gigabyte at once; 10_000_000_000 ended in a MemoryError."""
    file = replay_file(
        tmp_path, study__epochs=10**8, study__trials=12, search__pruner=pruner, search__early_stopping={"patience": 2}
    )
    tracemalloc.start()
    stored = replay(file, lambda assignment, epoch: {"val_loss": assignment.member.trial + 1 / min(epoch, 70)}, lanes=3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert {trial.ended for trial in stored.trials} <= {"stopped early", "pruned"}
    assert max(len(trial.curve) for trial in stored.trials) == 72
    assert peak < 50e6


# -- halving -----------------------------------------------------------------------------------------------------------


def test_rungs_grow_by_eta():
    assert [epoch for epoch in range(1, 100) if Halving(3, 3).is_rung(epoch)] == [3, 9, 27, 81]
    assert [epoch for epoch in range(1, 20) if Halving(1, 2).is_rung(epoch)] == [1, 2, 4, 8, 16]


def test_halving_of_sixteen_in_step_leaves_the_best_third_at_every_rung():
    pruned = race(Halving(3, 3), SIXTEEN)
    ranks = np.argsort(np.argsort([-curve[0] for curve in SIXTEEN])) + 1
    assert {trial for trial, (epoch, _) in pruned.items() if epoch == 3} == set(np.flatnonzero(ranks > 6))
    assert {trial for trial, (epoch, _) in pruned.items() if epoch == 9} == set(
        np.flatnonzero((ranks > 2) & (ranks <= 6))
    )
    assert len(pruned) == 14
    worst = int(np.argmax(ranks))
    assert pruned[worst] == (3, "rung 3: rank 16 of 16")


def test_halving_waits_with_fewer_than_eta():
    assert race(Halving(3, 3), level([2.0, 1.0])) == {}
    assert set(race(Halving(3, 3), level([3.0, 2.0, 1.0]))) == {1, 2}


def test_halving_one_after_another_spares_the_first_two_and_then_judges():
    # The third is the worst of three, the fourth the best of four, the fifth third of five: 2 of 5 go on.
    pruned = race(Halving(3, 3), level([3.0, 2.0, 1.0, 4.0, 2.5]), at_once=1)
    assert pruned[2] == (3, "rung 3: rank 3 of 3")
    assert 3 not in pruned
    assert pruned[4] == (3, "rung 3: rank 3 of 5")


def test_equal_scores_share_a_rank_so_that_none_is_pruned():
    assert race(Halving(3, 3), level([1.0] * 16)) == {}
    pruned = race(Halving(3, 3), level([1.0] * 15 + [0.5]))
    assert pruned == {15: (3, "rung 3: rank 16 of 16")}


def test_halving_compares_running_trials_with_those_that_ended_there():
    """The second batch of four is measured by the first as well."""
    pruned = race(Halving(2, 2), level([8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0], 8), at_once=4)
    assert {trial for trial in pruned if trial >= 4} == {4, 5, 6, 7}


def test_halving_judges_by_the_best_epoch_so_far():
    curves = level([1.0, 1.1, 1.2], 9)
    curves[0][1], curves[0][2] = 99.0, 0.0  # once the best of all, at its rung the worst
    assert 0 not in race(Halving(3, 3), curves)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0.1, 10), min_size=3, max_size=24),
    st.integers(1, 24),
    st.sampled_from(
        [Halving(3, 3), Halving(1, 2), Hyperband(1, 2, 2), Median(), Percentile(10.0, 2), Patient(Median(), 1)]
    ),
)
def test_best_trial_is_never_pruned(scores, at_once, pruner):
    best = scores.index(max(scores))
    assert best not in race(pruner, level(scores), at_once)


# -- the percentile rules ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pruner", "least"), [(Median(), 8), (Percentile(25.0), 4), (Percentile(50.0, 3), 8)])
def test_trials_in_step_do_not_collapse_to_one(pruner, least):
    """Pruned ones keep counting; else each epoch's survivors would be halved among themselves, to one in four epochs."""
    survivors = set(range(16)) - set(race(pruner, SIXTEEN))
    assert least - 1 <= len(survivors) <= least + 1
    assert int(np.argmax([curve[0] for curve in SIXTEEN])) in survivors


def test_median_judges_a_trial_alone_by_those_that_ended():
    curves = level([5.0, 6.0, 7.0, 8.0, 9.0, 6.5, 7.5])
    pruned = race(Median(), curves, at_once=1)
    assert pruned == {5: (1, "epoch 1: rank 4 of 6")}


def test_startup_trials_and_warmup_epochs_are_waited_for():
    curves = level([float(score) for score in range(6, 0, -1)])
    assert race(Median(startup_trials=6), curves) == {}
    assert {epoch for epoch, _ in race(Median(warmup_epochs=4), curves).values()} == {5}


def test_trial_at_the_median_itself_goes_on():
    assert 2 not in race(Median(startup_trials=2), level([1.0, 3.0, 2.0]))


# -- hyperband and patient ---------------------------------------------------------------------------------------------


def test_hyperband_deals_most_trials_to_the_first_bracket():
    brackets = Hyperband().bracket(np.arange(26))
    assert [int(np.count_nonzero(brackets == s)) for s in range(3)] == [18, 6, 2]
    assert list(brackets[:13]) == [0] * 9 + [1] * 3 + [2]


def test_hyperband_prunes_within_a_bracket_at_its_own_rungs():
    pruned = race(Hyperband(), level([float(score) for score in range(26, 0, -1)]))
    brackets = Hyperband().bracket(np.arange(26))
    assert {epoch for trial, (epoch, _) in pruned.items() if brackets[trial] == 0} == {1, 3}
    assert {epoch for trial, (epoch, _) in pruned.items() if brackets[trial] == 1} <= {3, 9}
    # Two are fewer than eta, and run to their end: what is left of bracket 0 after epoch 3, and the last bracket,
    # though its trials are among the worst.
    assert not [trial for trial in pruned if brackets[trial] == 2]
    assert pruned[8][1] == "bracket 0, rung 1: rank 9 of 18"


def test_hyperband_of_one_bracket_is_halving():
    expected = {trial: epoch for trial, (epoch, _) in race(Halving(1, 3), SIXTEEN).items()}
    assert {trial: epoch for trial, (epoch, _) in race(Hyperband(1, 3, 1), SIXTEEN).items()} == expected


def test_patient_prunes_what_the_wrapped_one_would_once_it_stands_still():
    curves = level([5.0, 6.0, 7.0, 8.0, 9.0, 1.0, 2.0])
    curves[6] = [2.0, 2.1, 2.2, 2.2, 2.2, 2.2, 2.2, 2.3] + [2.3] * 19
    pruned = race(Patient(patience=3), curves)
    assert pruned == {6: (7, "epoch 7: rank 7 of 7, no better for 4 epochs")}


def test_patience_0_acts_at_the_first_epoch_that_is_no_better():
    curves = [*level([5.0, 6.0, 7.0, 8.0, 9.0]), [1.0, 1.1, 1.1] + [1.1] * 24]
    assert race(Patient(patience=0), curves)[5][0] == 3


def test_nothing_prunes_nothing():
    assert race(Nothing(), SIXTEEN) == {}


# -- by name -----------------------------------------------------------------------------------------------------------


def make(name, options, epochs=52):
    return pruners.make(name, options, epochs=epochs)


@pytest.mark.parametrize(("epochs", "rungs"), [(3, [1]), (5, [1, 4]), (20, [2, 8]), (52, [6, 24]), (200, [22, 88])])
def test_halvings_rungs_follow_from_the_epochs(epochs, rungs):
    halving = make("halving", {}, epochs)
    assert [epoch for epoch in range(1, epochs) if halving.is_rung(epoch)] == rungs


def test_make_takes_names_options_and_pruners_in_pruners():
    assert make("none", {}) == Nothing()
    assert make("halving", {"first_rung": 2}) == Halving(2, 4)
    assert make("percentile", {"percentile": 40}) == Percentile(40.0)
    assert make("patient", {}) == Patient(Median(), 3)
    assert make("patient", {"wrapped": "halving"}) == Patient(Halving(6, 4), 3)
    inner = {"name": "percentile", "percentile": 10, "warmup_epochs": 2}
    assert make("patient", {"wrapped": inner, "patience": 1}) == Patient(Percentile(10, 5, 2), 1)
    assert set(PRUNERS) == {"none", "halving", "hyperband", "median", "percentile", "patient"}


@pytest.mark.parametrize(
    ("name", "options", "option", "words"),
    [
        ("medain", {}, "", "did you mean 'median'?"),
        ("none", {"eta": 2}, "eta", "it has none"),
        ("halving", {"etta": 2}, "etta", "did you mean 'eta'?"),
        ("halving", {"eta": 1}, "eta", "at least 2; received 1"),
        ("halving", {"first_rung": 0}, "first_rung", "at least 1; received 0"),
        ("halving", {"eta": True}, "eta", "a whole number; received true"),
        ("halving", {"eta": 2.0}, "eta", "a whole number; received 2.0"),
        ("hyperband", {"brackets": 11}, "brackets", "in 1..10; received 11"),
        ("median", {"percentile": 10}, "percentile", "has no option 'percentile'"),
        ("median", {"startup_trials": 0}, "startup_trials", "at least 1; received 0"),
        ("percentile", {"percentile": 100}, "percentile", "between 0 and 100; received 100"),
        ("percentile", {"percentile": math.nan}, "percentile", "must be a number; received nan"),
        ("percentile", {"warmup_epochs": -1}, "warmup_epochs", "at least 0; received -1"),
        ("patient", {"patience": -1}, "patience", "at least 0; received -1"),
        ("patient", {"wrapped": 5}, "wrapped", "received 5"),
        ("patient", {"wrapped": "mediann"}, "wrapped", "did you mean 'median'?"),
        ("patient", {"wrapped": {"name": "halving", "eta": 1}}, "wrapped.eta", "received 1"),
        ("patient", {"wrapped": {"eta": 1}}, "wrapped", "a table with one"),
    ],
)
def test_wrong_option_is_named(name, options, option, words):
    with pytest.raises(OptionError) as caught:
        make(name, options)
    assert caught.value.option == option
    assert words in str(caught.value)


# -- in a study --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["halving", "hyperband", "median", "percentile", "patient"])
def test_sixteen_trials_in_step_are_pruned_in_a_real_search(tmp_path, name):
    """Optuna's own pruners would prune none of them: nothing is complete yet when the rungs are reached."""
    file = replay_file(tmp_path, study__trials=16, study__epochs=27, search__pruner=name, search__sampler="random")

    def curves(assignment, epoch):
        # Every trial stands still at its own level, so that the patient pruner acts as well.
        return {"loss": 1.0, "val_loss": abs(math.log10(assignment.config["learning_rate"]) + 2)}

    stored = replay(file, curves, lanes=16)
    pruned = [trial for trial in stored.trials if trial.ended == "pruned"]
    assert 4 <= len(pruned) <= 15
    assert all(trial.why for trial in pruned)
    best = min(stored.trials, key=lambda trial: trial.curve[0]["val_loss"])
    assert best.ended == "finished"
