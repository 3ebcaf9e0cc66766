"""Early stopping counts as Keras does; a study stops when nothing gets better."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import PROGRAMS

from search.policies.stopping import stagnates, stops_early
from search.spec.settings import EarlyStopping

# Few different values, so that ties and differences of exactly min_delta come up; all exact in binary.
SCORES = st.lists(st.sampled_from([-1.0, -0.25, 0.0, 0.125, 0.25, 0.375, 0.5, 1.0]), min_size=1, max_size=15)
RULES = st.builds(
    EarlyStopping,
    patience=st.integers(1, 5),
    min_delta=st.sampled_from([0.0, 0.125, 0.25]),
    start_from_epoch=st.integers(0, 5),
)


def stopped_at(rule: EarlyStopping, scores: list[float]) -> int | None:
    """Return the epoch, from 1, after which a training stops."""
    return next((epoch for epoch in range(1, len(scores) + 1) if stops_early(rule, scores[:epoch])), None)


def keras_stops_at(rule: EarlyStopping, values: list[float], mode: str) -> int | None:
    """Keras 3.15's `EarlyStopping.on_epoch_end`, line by line, without its baseline and weights."""
    sign = 1.0 if mode == "max" else -1.0
    best, wait = -np.inf * sign, 0
    for epoch, current in enumerate(values):
        if epoch < rule.start_from_epoch:
            continue
        wait += 1
        if sign * (current - sign * rule.min_delta) > sign * best:
            best, wait = current, 0
            continue
        if wait >= rule.patience and epoch > 0:
            return epoch + 1
    return None


@settings(max_examples=400, deadline=None)
@given(RULES, SCORES)
def test_training_stops_where_keras_would_stop_it(rule, scores):
    assert stopped_at(rule, scores) == keras_stops_at(rule, scores, "max")
    assert stopped_at(rule, scores) == keras_stops_at(rule, [-score for score in scores], "min")


@pytest.mark.parametrize(
    ("rule", "scores", "epoch"),
    [
        ({"patience": 1}, [1.0, 1.0], 2),
        ({"patience": 1}, [1.0, 0.0, 2.0], 2),
        ({"patience": 2}, [1.0, 0.0, 2.0, 1.0, 1.0], 5),
        ({"patience": 2}, [1.0, 0.0, 1.5, 1.6, 1.7], None),
        # Getting better by no more than min_delta is not getting better, and the best stays what it was.
        ({"patience": 2, "min_delta": 0.25}, [1.0, 1.25, 1.375, 9.0], None),
        ({"patience": 2, "min_delta": 0.5}, [1.0, 1.25, 1.5], 3),
        # The first epochs are not looked at: neither do they count nor can they be the best.
        ({"patience": 2, "start_from_epoch": 3}, [9.0, 9.0, 9.0, 1.0, 1.0, 1.0], 6),
        ({"patience": 1, "start_from_epoch": 9}, [1.0] * 9, None),
    ],
)
def test_patience_min_delta_and_start_from_epoch(rule, scores, epoch):
    assert stopped_at(EarlyStopping(**rule), scores) == epoch


@pytest.mark.slow
def test_training_stops_where_the_callback_of_the_installed_keras_stops_it():
    rng = np.random.default_rng(0)
    cases = [
        (
            int(rng.integers(1, 5)),
            float(rng.choice([0.0, 0.125, 0.25])),
            int(rng.integers(0, 5)),
            rng.choice([-0.25, 0.0, 0.125, 0.25, 0.5], 14).tolist(),
        )
        for _ in range(300)
    ]
    asked = [
        (patience, min_delta, start, mode, [sign * score for score in scores])
        for patience, min_delta, start, scores in cases
        for mode, sign in (("max", 1), ("min", -1))
    ]
    done = subprocess.run(
        [sys.executable, PROGRAMS / "stop_as_keras.py"],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        env={**os.environ, "KERAS_BACKEND": "jax"},
    )
    assert done.returncode == 0, done.stderr
    stops = json.loads(done.stdout.splitlines()[-1])
    assert len(stops) == 2 * len(cases)
    for number, (patience, min_delta, start, scores) in enumerate(cases):
        rule = EarlyStopping(patience=patience, min_delta=min_delta, start_from_epoch=start)
        assert [stopped_at(rule, scores)] * 2 == stops[2 * number : 2 * number + 2], (rule, scores)


@pytest.mark.parametrize(
    ("values", "stop_after", "expected"),
    [
        ([], 1, False),
        ([1.0], 1, False),
        ([1.0, 1.0], 1, True),
        ([1.0, 0.5, 0.7], 2, True),
        ([1.0, 0.5, 2.0], 2, False),
        ([1.0, None, None], 2, True),
        # Without any value yet, failures alone do not end a study: three alike in a row do, elsewhere.
        ([None, None, None], 2, False),
        ([None, 1.0, 0.0], 2, False),
    ],
)
def test_study_stagnates_when_so_many_trials_in_a_row_brought_nothing_better(values, stop_after, expected):
    assert stagnates(values, stop_after) is expected
