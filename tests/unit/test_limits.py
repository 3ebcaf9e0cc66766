"""Trials that a limit refuses: what they count for, and what samplers learn from them."""

from __future__ import annotations

import math

import pytest
from support import Drawing, replay_file

from search.core.study import Study
from search.spec.identity import declared
from search.trials.events import EpochEnd, Failed, OverLimit
from search.trials.trial import REFUSED
from spaces import Space

WHY = "it has 3,910 parameters; limits.parameters allows 3,000"


def study(folder, **settings):
    return Study(replay_file(folder, search__sampler="random", search__pruner="none", **settings))


def ended(made, *events):
    """Draw a trial for each event, and let it end so."""
    for kind, *rest in events:
        assignment = made.next_assignment()
        assert assignment is not None
        if kind is EpochEnd:
            told = [EpochEnd(assignment.member, epoch, {"val_loss": rest[0]}, 0.1) for epoch in range(1, 10)]
        else:
            told = [kind(assignment.member, *rest)]
        for event in told:
            made.judge(made.record([event]))
    return made


def test_refused_trial_counts_as_a_trial_and_has_no_value(tmp_path):
    made = ended(study(tmp_path, study__trials=3), (OverLimit, WHY), (EpochEnd, 0.5), (OverLimit, WHY))
    assert next((t.state, t.ended, t.why, t.value) for t in made.trials) == ("PRUNED", REFUSED, WHY, None)
    assert [t.counted_as for t in made.trials] == ["REFUSED", "COMPLETE", "REFUSED"]
    assert made.ending == "all trials"
    assert made.best is made.trials[1]


def test_refusal_of_one_training_ends_its_trial_with_all_trainings(tmp_path):
    made = study(tmp_path, study__repeats=2, study__trials=2)
    first, second = made.next_assignment(), made.next_assignment()
    verdicts = made.judge(made.record([OverLimit(first.member, WHY)]))
    assert [(verdict.member, verdict.ends) for verdict in verdicts] == [(first.member, True), (second.member, True)]
    assert made.next_assignment().member.trial == 1


@pytest.mark.parametrize("count", [3, 6])
def test_like_refusals_do_not_end_a_study(tmp_path, count):
    made = ended(study(tmp_path, study__trials=7), *[(OverLimit, WHY)] * count)
    assert made.gave_up is None


def test_refused_trial_between_like_failures_does_not_hide_them(tmp_path):
    made = ended(study(tmp_path), *[(Failed, "no such layer"), (OverLimit, WHY)] * 2, (Failed, "no such layer"))
    assert made.gave_up is not None


def test_refused_trials_do_not_count_as_trials_without_a_better_value(tmp_path):
    made = study(tmp_path, study__stop_after=2, study__trials=9)
    ended(made, (EpochEnd, 0.5), *[(OverLimit, WHY)] * 4, (EpochEnd, 0.6))
    assert made.ending == ""
    assert ended(made, (EpochEnd, 0.7)).ending == "no better value in the last 2 trials"


def test_study_without_limits_has_the_identity_that_it_had_before_there_were_any(tmp_path):
    assert "limits" not in declared(replay_file(tmp_path))
    limited = declared(replay_file(tmp_path, limits__parameters=3000))
    assert limited["limits"] == {"parameters": 3000, "model_mb": None, "latency_ms": None}


@pytest.mark.parametrize("sampler", ["tpe", "bayes"])
def test_samplers_keep_away_from_what_a_limit_refuses(sampler):
    """Of random configs about 7 in 10 are refused, and the best are next to the limit."""
    space = Space.parse(
        {"a": {"low": 8, "high": 96}, "b": {"low": 8, "high": 96}, "rate": {"low": 1e-3, "high": 0.1, "log": True}}
    )
    refused = []
    drawing = Drawing(sampler, space, seed=1)
    for number in range(60):
        params, _ = drawing.draw(number)
        refused.append(params["a"] * params["b"] > 1200)
        if refused[-1]:
            trial = drawing.trials[number]
            trial.state, trial.ended = "PRUNED", REFUSED
            drawing.trials.touch(trial)
            continue
        value = 1 / (params["a"] + params["b"]) + 0.1 * abs(math.log10(params["rate"]) + 2)
        drawing.report(number, 9, value)
        drawing.tell(number, "COMPLETE", value)
    assert sum(refused[:10]) >= 4
    assert sum(refused[-20:]) <= 8
