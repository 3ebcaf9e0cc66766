"""Trials that diverge or fail rule nobody: whatever they scored before, they count as the worst once that is known."""

from __future__ import annotations

import math
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import record, replay, replay_file

from search.core.ended import RepeatedFailureError
from search.core.loop import search
from search.core.study import Study
from search.errors import Interrupted
from search.policies.pruners import Median, Percentile, Standings
from search.storage.records import load
from search.storage.store import Store
from search.trials.events import EpochEnd, Failed, Lost, Member, Overdue, Stopped, Verdict
from search.workers.inprocess import Replaying

PRUNERS = {
    "halving": {"name": "halving", "first_rung": 2},
    "hyperband": {"name": "hyperband", "first_rung": 2, "brackets": 1},
    "median": {"name": "median", "startup_trials": 3},
    "percentile": {"name": "percentile", "startup_trials": 3},
    "patient": {"name": "patient", "patience": 0, "wrapped": {"name": "median", "startup_trials": 3}},
}
HONEST = [0.5, 0.62, 0.55, 0.7, 0.52, 0.68, 0.6, 0.58, 0.66, 0.64]


def curves_of(blow_up):
    """Four trials at 0.9 that blow up at epoch 3, ten honest ones after them."""

    def curves(assignment, epoch):
        number = assignment.member.trial
        if number < 4:
            return blow_up(number) if epoch == 3 else {"loss": 1.0, "val_accuracy": 0.9}
        return {"loss": 1.0, "val_accuracy": HONEST[number - 4]}

    return curves


def diverge(number: int):
    return {"loss": math.nan, "val_accuracy": 0.9}


def diverge_in_the_objective(number: int):
    return {"loss": 1.0, "val_accuracy": math.inf}


def fail(number: int):
    raise RuntimeError(f"trial {number} can't go on")


def study(folder, pruner, trials=14, **more):
    return replay_file(
        folder,
        study__trials=trials,
        study__epochs=6,
        study__objective="val_accuracy",
        search__sampler="random",
        search__pruner=pruner,
        **more,
    )


@pytest.mark.parametrize("blow_up", [diverge, diverge_in_the_objective, fail])
def test_four_that_blow_up_do_not_rule_ten_honest_ones(tmp_path, blow_up):
    stored = replay(study(tmp_path, PRUNERS["halving"]), curves_of(blow_up))
    assert [t.ended for t in stored.trials[:4]] == ["failed" if blow_up is fail else "diverged"] * 4
    # By hand: with the four as the worst, a trial goes on that is among the best quarter, rounded up, of those there.
    expected = []
    for there, score in enumerate(HONEST, 1):
        rank = 1 + sum(other > score for other in HONEST[:there])
        expected.append("finished" if rank <= math.ceil((4 + there) / 4) else "pruned")
    assert [t.ended for t in stored.trials[4:]] == expected
    assert stored.complete[0].value == 0.7


@pytest.mark.parametrize("name", PRUNERS)
@pytest.mark.parametrize("lanes", [1, 3])
def test_every_pruner_lets_an_honest_trial_come_to_its_end(tmp_path, name, lanes):
    stored = replay(study(tmp_path, PRUNERS[name]), curves_of(diverge), lanes=lanes)
    assert stored.complete
    assert stored.complete[0].value == max(HONEST)


@pytest.mark.parametrize("others", [0, 1, 2, 5])
def test_percentile_between_what_blew_up_and_an_honest_trial_prunes_nobody(others):
    """numpy's percentile of -inf and a number is nan, which no score is at least."""
    standings = Standings()
    for trial in range(6):
        standings.record(trial, 1, 0.9)
        standings.fail(trial)
    for trial in range(6, 6 + others):
        standings.record(trial, 1, 0.6)
    mine = 6 + others
    standings.record(mine, 1, 0.1)
    for pruner in (Median(), Percentile(50.0), Percentile(60.0)):
        assert pruner.reason(standings, mine, 1) is None
    assert (Percentile(10.0).reason(standings, mine, 1) is None) == (others < 2)


def test_trial_that_blew_up_before_its_first_score_is_the_worst_of_all_too():
    standings = Standings()
    for trial in range(5):
        standings.fail(trial)
    standings.record(200, 3, 0.1)
    assert Median().reason(standings, 200, 3) is None
    assert Median(startup_trials=6).reason(standings, 200, 3) is None


def test_trials_that_ended_well_keep_their_scores(tmp_path):
    """A callback, a time limit or early stopping ends a trial with a value, and it goes on counting."""

    class Ending(Replaying):
        def advance(self):
            events = super().advance()
            return [Stopped(event.member) if event.member.trial < 4 and event.epoch == 3 else event for event in events]

    file = study(tmp_path, PRUNERS["halving"])
    made = Study(file)
    with Store.create(file, record(file)) as store:
        search(made, store, Ending(curves_of(diverge), 1), watch=lambda: None)
    assert [t.ended for t in made.trials] == ["callback"] * 4 + ["pruned"] * 10


# -- the default search ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.gallery) for seed in range(2, 8))])
def test_default_search_finds_a_complete_trial_where_a_third_blows_up_late(tmp_path, seed):
    """16 lanes; 25 to 40 % of all configs, those with the highest rates, are the best ones until they blow up at epoch 8."""
    share = (0.25, 0.3, 0.35, 0.4)[seed % 4]
    file = replay_file(
        tmp_path,
        study__trials=64,
        study__epochs=20,
        study__seed=seed,
        study__objective="val_accuracy",
        search__sampler="bayes",
        search__pruner="halving",
    )

    def curves(assignment, epoch):
        rate = (math.log10(assignment.config["learning_rate"]) + 4) / 3
        if rate > 1 - share and epoch >= 8:
            return {"loss": math.nan, "val_accuracy": math.nan}
        noise = assignment.seed % 1000 / 20_000
        return {"loss": 1.0, "val_accuracy": 0.3 + 0.5 * rate * (1 - math.exp(-epoch / 6)) + noise}

    stored = replay(file, curves, lanes=16)
    assert sum(t.ended == "diverged" for t in stored.trials) >= 4
    assert stored.complete


# -- a function of the history -----------------------------------------------------------------------------------------

FATES = ("nan", "failed", "stopped", "overdue", "lost", "crashed")


class Fateful(Replaying):
    """A replay engine in which things happen to trials, by (trial, epoch)."""

    def __init__(self, fates, lanes):
        super().__init__(lambda assignment, epoch: {"loss": 1.0, "val_accuracy": level(assignment, epoch)}, lanes)
        self._fates, self._crashes = fates, set()

    def advance(self):
        return [self._befall(event) for event in super().advance()]

    def _befall(self, event):
        member: Member = event.member
        fate = self._fates.get((member.trial, event.epoch))
        if fate == "lost" and (member, event.epoch) in self._crashes:
            fate = None
        if fate in ("failed", "stopped", "overdue", "lost", "crashed"):
            self.apply([Verdict(member, ends=True)])
        self._crashes.add((member, event.epoch))
        return {
            "nan": EpochEnd(member, event.epoch, {"loss": 1.0, "val_accuracy": math.nan}, 0.0),
            "failed": Failed(member, f"{member}"),
            "stopped": Stopped(member),
            "overdue": Overdue(member, 1.0),
            "lost": Lost(member, "gone", alone=False),
            "crashed": Lost(member, "gone", alone=True),
        }.get(fate, event)


def level(assignment, epoch: int) -> float:
    return assignment.seed % 100 / 100 + epoch / 1000


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fates=st.dictionaries(st.tuples(st.integers(0, 11), st.integers(1, 6)), st.sampled_from(FATES), max_size=12),
    lanes=st.integers(1, 4),
    pruner=st.sampled_from(sorted(PRUNERS)),
    after=st.integers(1, 40),
)
def test_study_read_back_has_the_standings_of_the_one_that_was_searched(tmp_path, fates, lanes, pruner, after):
    for path in tmp_path.iterdir():
        path.unlink()
    file = study(tmp_path, PRUNERS[pruner], trials=12)
    made = Study(file)
    ticks = iter([*[0] * after, *[2] * 99])
    with Store.create(file, record(file)) as store, suppress(Interrupted, RepeatedFailureError):
        search(made, store, Fateful(fates, lanes), watch=lambda: None, interruption=lambda: next(ticks, 2))
    again = Study(file, load(file.storage, file.name).trials)
    rows = len(made.trials)
    np.testing.assert_array_equal(again.standings._scores[:rows], made.standings._scores[:rows])
    # What a trial that goes on has reached counts; of those that blew up, what they had reached.
    np.testing.assert_array_equal(again.standings._reached[:rows], made.standings._reached[:rows])
    for trial in made.trials:
        if trial.state == "FAIL" or trial.ended == "diverged":
            assert np.all(made.standings._scores[trial.number, 1:] == -np.inf)
        elif trial.is_ended:
            assert made.standings.score(trial.number, 6) == trial.value
