"""When trials and studies end: early stopping as Keras's own callback has it, stop_after in the order of endings."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from support import PROGRAMS, replay, replay_file

from search.core import study as study_module
from search.core.study import Study
from search.policies.stopping import stops_early
from search.spec.settings import EarlyStopping
from search.storage.records import load

# -- early stopping ----------------------------------------------------------------------------------------------------

KERAS = PROGRAMS / "stop_as_keras.py"


def shortest(values: np.ndarray) -> list[float]:
    """Return float32 values as the engines report them."""
    return [float(str(value)) for value in values.astype(np.float32)]


def random_cases(count: int) -> list[tuple[int, float, int, str, list[float]]]:
    rng = np.random.default_rng(0)
    cases = []
    for _ in range(count):
        rows = int(rng.choice([10, 36, 97, 100, 180, 360, 1000, 10_000]))
        kind = rng.choice(["accuracy", "loss", "tiny", "large"])
        steps = rng.integers(-3, 5, 25).cumsum() + rows // 2
        if kind == "accuracy":  # right rows of all, and min_delta so many rows
            curve, min_delta = np.clip(steps, 0, rows) / rows, float(rng.integers(0, 5)) / rows
        elif kind == "loss":
            curve, min_delta = rng.random(25).cumsum()[::-1] / 9, float(rng.choice([0.0, 0.001, 0.01, 0.1]))
        elif kind == "tiny":
            curve, min_delta = steps * 1e-7, float(rng.integers(0, 5)) * 1e-7
        else:
            curve, min_delta = steps * 1e5 + 0.5, float(rng.integers(0, 5)) * 1e5
        mode = str(rng.choice(["min", "max"]))
        sign = 1.0 if rng.random() < 0.8 else -1.0
        patience, start = int(rng.integers(1, 5)), int(rng.choice([0, 0, 0, 1, 3, 30]))
        cases.append((patience, min_delta, start, mode, shortest(sign * curve)))
    return cases


def stopped_at(patience: int, min_delta: float, start: int, mode: str, curve: list[float]) -> int | None:
    rule = EarlyStopping(patience=patience, min_delta=min_delta, start_from_epoch=start)
    scores = [value if mode == "max" else -value for value in curve]
    return next((epoch for epoch in range(1, len(curve) + 1) if stops_early(rule, scores[:epoch])), None)


@pytest.mark.slow
def test_two_thousand_curves_end_where_the_installed_keras_ends_them():
    """`min_delta` is a whole number of rows for accuracies: there 64 and 32 bits part ways."""
    cases = random_cases(2000)
    done = subprocess.run(
        [sys.executable, KERAS],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        env={**os.environ, "KERAS_BACKEND": "jax"},
    )
    assert done.returncode == 0, done.stderr
    keras = json.loads(done.stdout.splitlines()[-1])
    ours = [stopped_at(*case) for case in cases]
    assert [(case, stop, mine) for case, stop, mine in zip(cases, keras, ours, strict=True) if stop != mine] == []
    assert len({stop for stop in keras if stop}) > 10


@pytest.mark.parametrize(
    ("rows", "rights", "min_delta", "expected"),
    [
        # Less 1/100, the float32 of 14/100 is above that of 13/100 in 64 bits; in 32 bits they are equal.
        (100, (13, 14, 14), 0.01, 2),
        (100, (45, 47, 47), 0.02, 2),
        (1000, (801, 803, 803), 0.002, 2),
        (36, (30, 31, 31), 1 / 36, 2),
        (36, (30, 32, 32), 1 / 36, 3),
    ],
)
def test_better_by_just_min_delta_is_no_better(rows, rights, min_delta, expected):
    curve = shortest(np.array(rights) / rows)
    assert stopped_at(1, min_delta, 0, "max", curve) == expected
    assert stopped_at(1, min_delta, 0, "min", [-value for value in curve]) == expected


# -- stop_after --------------------------------------------------------------------------------------------------------


def lengths(folder, trials=30, **more):
    return replay_file(
        folder,
        study__trials=trials,
        study__epochs=8,
        study__objective="val_accuracy",
        search__sampler="random",
        search__pruner="none",
        **more,
    )


def bloom(of: int, at: int):
    """Trial `of` is the best of all, at epoch `at` and not before; others end after epoch 2 by their own callback's word."""

    def curves(assignment, epoch):
        number = assignment.member.trial
        value = 0.9 if number == of and epoch >= at else 0.5 - number / 1000 if number != of else 0.1
        return {"loss": 1.0, "val_accuracy": value}

    return curves


EARLY = {"search__early_stopping": {"patience": 1, "min_delta": 0.05}}


@pytest.mark.parametrize(("of", "lanes"), [(0, 2), (1, 3), (2, 4), (3, 4)])
def test_late_bloomer_of_a_low_number_counts_when_it_ends(tmp_path, of, lanes):
    """Trials end after epoch 2, but for the bloomer, which gets better all the time and the best at its last epoch."""

    def curves(assignment, epoch):
        number = assignment.member.trial
        if number == of:
            return {"loss": 1.0, "val_accuracy": epoch / 10}
        return {"loss": 1.0, "val_accuracy": 0.6 - number / 1000}

    stored = replay(lengths(tmp_path, study__stop_after=8, **EARLY), curves, lanes=lanes)
    endings = sorted(stored.trials, key=lambda trial: trial.ended_at)
    place = endings.index(stored.trials[of])
    assert 0 < place < len(endings) - 1  # others of higher numbers ended before it
    # What was under way when the eighth ended goes on to its end.
    assert 8 <= len(endings) - 1 - place <= 8 + lanes - 1
    assert stored.complete[0].number == of


def test_times_of_endings_grow_when_the_clock_is_put_back(tmp_path, monkeypatch):
    hours = iter(range(10_000, 0, -1))

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(2026, 1, 1, tzinfo=tz) + timedelta(hours=next(hours))

    monkeypatch.setattr(study_module, "datetime", Clock)
    stored = replay(lengths(tmp_path, trials=12, **EARLY), bloom(0, 99), lanes=3)
    times = [trial.ended_at for trial in stored.trials]
    assert len(set(times)) == 12
    assert sorted(times) == times  # all take two epochs, so that they end in order of their numbers


@pytest.mark.parametrize("stop_after", [1, 3, 5])
@pytest.mark.parametrize("lanes", [1, 3])
def test_study_read_back_decides_as_the_one_that_was_searched(tmp_path, stop_after, lanes):
    file = lengths(tmp_path, study__stop_after=stop_after, **EARLY)
    stored = replay(file, bloom(2, 1), lanes=lanes)
    assert len(stored.trials) < 30
    again = Study(file, load(file.storage, file.name).trials)
    assert again.is_done()
    assert again.ending == stored.ended == f"no better value in the last {stop_after} trials"
    assert replay(file, bloom(2, 1), lanes=lanes).trials[-1].number == stored.trials[-1].number


def test_equal_times_are_counted_by_number(tmp_path):
    """As in databases of an earlier version, or of a clock that stands still."""
    file = lengths(tmp_path, trials=8, **EARLY)
    replay(file, bloom(5, 1), lanes=2)
    with closing(sqlite3.connect(file.storage)) as connection:
        connection.execute("UPDATE trials SET datetime_complete = '2026-01-01 00:00:00.000000'")
        connection.commit()
    for stop_after, is_over in ((2, True), (3, False)):
        limited = lengths(tmp_path, study__stop_after=stop_after, **EARLY)
        study = Study(limited, load(file.storage, file.name).trials)
        assert study.is_done() == is_over
    assert study._ended.trials == list(study.trials)
    assert study._ended.now() > datetime(2026, 1, 1, tzinfo=UTC)


def test_value_of_a_pruned_trial_is_no_bar_to_those_that_can_be_the_best(tmp_path):
    """Four at 0.9 end a fifth at 0.8 and blow up; later ones get better and better, and none of them comes to 0.8."""

    def curves(assignment, epoch):
        number = assignment.member.trial
        blown_up = 0.9 if epoch < 3 else float("nan")
        return {"loss": 1.0, "val_accuracy": blown_up if number < 4 else 0.8 if number == 4 else number / 100}

    file = replay_file(
        tmp_path,
        study__trials=24,
        study__epochs=6,
        study__objective="val_accuracy",
        study__stop_after=6,
        search__sampler="random",
        search__pruner={"name": "halving", "first_rung": 2},
    )
    stored = replay(file, curves, lanes=5)
    assert (stored.trials[4].ended, stored.trials[4].value) == ("pruned", 0.8)
    assert stored.ended == "all trials"
    assert stored.complete[0].value == 0.23
