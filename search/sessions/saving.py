"""Models of a stored study: a trained trial as a file, and what the file says of where it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search import durable
from search.engines.protocol import SaveModel
from search.errors import UsageError
from search.sessions.agreement import Evaluation
from search.sessions.output import whole
from search.sessions.reporter import Reporter
from search.sessions.startup import one_worker
from search.spec import identity
from search.storage.studies import Stored
from search.trials.events import Failed
from search.trials.objective import Objective
from search.trials.trial import Metrics, Training, Trial


@dataclass(frozen=True)
class SavedModel:
    """A written model file.

    Attributes:
        value: the objective, evaluated again; None if it is not a metric of the validation rows.
        stored: the objective of the training that the model is of, in the study.
        training: words for that training, if its trial has several; else "".
        is_from_file: whether the value was evaluated with the written file, loaded back.
        lines: notes about the file for its user.
    """

    value: float | None
    stored: float | None
    training: str
    is_from_file: bool
    lines: Sequence[str]


def save_model(stored: Stored, trial: Trial, path: Path, reporter: Reporter) -> SavedModel:
    """Save the model of a trial whose weights were kept, and evaluate it again.

    Raises UsageError if its weights are missing, if data or builder have changed, or if Keras can't save it.
    """
    if durable.is_special(path):
        raise UsageError(f"{path} is a device or a pipe; a model is saved as a file: name another with --model")
    training = kept_training(stored, trial)
    weights = stored.files.weights(training.member)
    _, best_epoch = Objective.of(stored.file).best_of(training.curve)
    metrics = training.curve[best_epoch - 1] if best_epoch else {}
    with one_worker(stored, reporter) as (pool, ready):
        identity.check_ready(stored.file, stored.full_identity, ready)
        # A metric may be named learning_rate.
        rate = None if "val_learning_rate" in metrics else metrics.get("learning_rate")
        origin = origin_of(stored, trial, metrics, best_epoch)
        with whole(path) as partial:
            order = SaveModel(training.member, trial.config, training.seed, str(weights), str(partial), origin, rate)
            answer = pool.answer(order)
            if isinstance(answer, Failed):
                raise UsageError(f"{path} could not be made: {answer.reason}")
    objective, detail = stored.file.settings.study.objective, answer.detail
    rows, targets = int(ready.data["validation_rows"]), ready.data.get("targets") or {"": ready.data}
    classes = max(int(target["classes"]) for target in targets.values())
    evaluation = Evaluation(detail["evaluated"], rows, classes, is_half=detail["is_half"])
    if warning := evaluation.warning(training, metrics, objective, path):
        reporter.warning(warning)
    of = stored.file.settings.study.replica
    which = f"{of} {training.member.replica + 1} of {len(trial.trainings)}, the best one whose weights were kept"
    return SavedModel(
        detail["values"].get(objective),
        metrics.get(objective),
        which if len(trial.trainings) > 1 else "",
        objective in detail["of_file"],
        detail["lines"],
    )


def origin_of(stored: Stored, trial: Trial, metrics: Metrics, epoch: int | None) -> dict[str, Any]:
    """Return the fields of `ModelNotes` that the study knows, for a model of a trial at an epoch."""
    objective = stored.file.settings.study.objective
    return {
        "study": stored.name,
        "database": str(stored.path),
        "trials": [trial.number],
        "config": trial.config,
        "objective": objective,
        "value": metrics.get(objective),
        "epoch": epoch,
    }


def kept_training(stored: Stored, trial: Trial) -> Training:
    """Return the best training of a trial whose weights are there; UsageError if there are none."""
    training = best_kept(stored, trial)
    if training is None:
        raise UsageError(f"the weights of trial {trial.number} were not kept: {_why_not_kept(stored, trial)}")
    return training


def best_kept(stored: Stored, trial: Trial) -> Training | None:
    """Return the best training of a trial whose weights are there."""
    kept = [one for one in trial.trainings if stored.files.weights(one.member).exists()]
    return Objective.of(stored.file).best_training(kept) if kept else None


def _why_not_kept(stored: Stored, trial: Trial) -> str:
    for _, kind, detail in reversed(stored.events):
        if kind == "weights not kept" and detail["trial"] == trial.number:
            return str(detail["why"])
    return (
        f"{stored.files.weights(trial.members[0])} is not there; those of the best "
        f"{stored.file.settings.run.keep} trials are (run.keep), until `manyfit clean --weights`"
    )
