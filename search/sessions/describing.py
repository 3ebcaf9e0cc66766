"""Looks at the model of a trial whose weights were kept: its mistakes and its first weights. Writes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search.engines.protocol import DescribeModel
from search.errors import UsageError
from search.sessions import saving
from search.sessions.agreement import Evaluation
from search.sessions.reporter import Reporter
from search.sessions.startup import one_worker
from search.spec import identity
from search.storage.studies import Stored
from search.trials.events import Failed
from search.trials.objective import Objective
from search.trials.trial import Trial
from search.views.text import number


def describe(stored: Stored, trial: Trial, reporter: Reporter) -> Mapping[str, Any]:
    """Return the detail of the reply to `DescribeModel`, of the best training with kept weights; `training` says which one.

    Raises UsageError if its weights are missing, if data or builder have changed, or if the model is not the trial's now.
    """
    training = saving.kept_training(stored, trial)
    with one_worker(stored, reporter) as (pool, ready):
        identity.check_ready(stored.file, stored.full_identity, ready)
        weights = str(stored.files.weights(training.member))
        answer = pool.answer(DescribeModel(training.member, trial.config, training.seed, weights))
    if isinstance(answer, Failed):
        raise UsageError(answer.reason)
    _, epoch = Objective.of(stored.file).best_of(training.curve)
    before = training.curve[epoch - 1] if epoch else {}
    rows, targets = int(ready.data["validation_rows"]), ready.data.get("targets") or {"": ready.data}
    classes = max(int(target["classes"]) for target in targets.values())
    evaluation = Evaluation(answer.detail["evaluated"], rows, classes, is_half=answer.detail["is_half"])
    if different := evaluation.difference(training, before, stored.file.settings.study.objective):
        name, was, now = different
        raise UsageError(
            f"{name} of the model is {number(now)} now and was {number(was)} in the study: it is not the trial's"
        )
    count = len(trial.trainings)
    which = f"{stored.file.settings.study.replica} {training.member.replica + 1} of {count}" if count > 1 else ""
    return {**answer.detail, "training": which}
