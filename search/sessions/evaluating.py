"""Evaluates a model of a stored study on its training, validation or test rows. The study counts evaluations on test rows.

No other module gives test rows to a model. The study records the evaluation before anyone sees its result.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from search.data.uses import Use
from search.engines.protocol import EvaluateModel
from search.errors import StoreError, UsageError
from search.sessions import saving
from search.sessions.reporter import Reporter
from search.sessions.startup import one_worker
from search.spec import identity, model_file
from search.spec.model_file import ModelNotes
from search.storage import records
from search.storage.store import Store
from search.storage.studies import Stored
from search.trials.events import Failed, Member
from search.trials.history import TEST_EVALUATED, Commit, HistoryEvent
from search.trials.measured import Measured, Split
from search.trials.objective import Objective
from search.trials.trial import Trial

_USES: dict[str, Use] = {"test": "test", "validation": "study", "train": "train"}


def of_study(stored: Stored, trial: Trial, split: Split, reporter: Reporter) -> Measured:
    """Evaluate a trial's kept weights, with the study's own loss and metrics.

    Raises UsageError if its weights are missing, if data or builder have changed, or if there are no such rows; StoreError
    for test rows while another command works on the study.
    """
    training = saving.kept_training(stored, trial)
    _, epoch = Objective.of(stored.file).best_of(training.curve)
    before = training.curve[epoch - 1] if epoch else {}
    order = EvaluateModel(training.member, trial.config, training.seed, str(stored.files.weights(training.member)))
    return _measured(stored, order, split, reporter, trials=(trial.number,), before=before)


def of_file(path: Path, split: Split, reporter: Reporter, stored: Stored | None = None) -> Measured:
    """Evaluate a model file on the rows of the study that it is from; the errors are those of `of_study`.

    `stored`: the study, if it is known; UsageError if the file is from another one.
    """
    notes = model_file.read(path)
    if stored is None:
        stored = study_of(path, notes)
    elif (notes.study, notes.fingerprint) != (stored.name, stored.identity["data"].get("fingerprint")):
        raise UsageError(f"{path}: is from the study {notes.study!r}, or of other data than those of {stored.name!r}")
    if stored.file.settings.study.folds > 1 and split != "test":
        raise UsageError(
            f"{path}: each of the {stored.file.settings.study.folds} folds of study {notes.study!r} has {split} rows of its "
            "own, and the file does not say which fold its model is of; use --split test, or evaluate the study: "
            f"`{shlex.join(['manyfit', 'evaluate', str(stored.path), '--name', stored.name, '--split', split])}`"
        )
    order = EvaluateModel(Member(notes.trials[0]), notes.config, 0, "", str(path.absolute()))
    before: Mapping[str, float | None] = {notes.objective: notes.value}
    if notes.kind == "trial" and notes.epoch is not None and notes.trials[0] < len(stored.trials):
        trial = stored.trials[notes.trials[0]]
        if len(trial.trainings) == 1 and notes.epoch <= len(trial.curve):
            before = trial.curve[notes.epoch - 1]
    measured = _measured(stored, order, split, reporter, trials=tuple(notes.trials), path=path, before=before)
    return replace(measured, was_trained_on=measured.was_trained_on or (notes.is_full and split == "validation"))


def study_of(path: Path, notes: ModelNotes) -> Stored:
    """Return the study that a model file is from; UsageError if it is not where it was, or has other data."""
    database = Path(notes.database)
    # A model file may come from anywhere, and the study that it names runs code.
    if database.exists() and database.stat().st_uid != os.getuid():
        raise UsageError(
            f"{path}: its study is in {database}, which belongs to another user; if you trust it, evaluate the study: "
            f"{shlex.join(['manyfit', 'evaluate', str(database), '--name', notes.study])}"
        )
    try:
        stored = records.load(database, notes.study)
    except StoreError as error:
        raise UsageError(
            f"{path}: its study {notes.study!r} can't be read, which has its data and counts looks at the test rows: {error}"
        ) from None
    if stored.identity["data"].get("fingerprint") != notes.fingerprint:
        raise UsageError(
            f"{path}: the study {notes.study!r} in {database} has other data than the model was trained on; it is another "
            "study of the same name"
        )
    return stored


def _measured(
    stored: Stored,
    order: EvaluateModel,
    split: Split,
    reporter: Reporter,
    *,
    trials: tuple[int, ...],
    before: Mapping[str, float | None],
    path: Path | None = None,
) -> Measured:
    is_test, study = split == "test", stored.file.settings.study
    which = f"the weights are those of {study.replica} {order.member.replica + 1} of {study.replicas}"
    # Take the lock first: an evaluation that can't be recorded is not made.
    with Store.open(stored.path, stored.name) if is_test else nullcontext() as store:
        detail = _answered(stored, order, split, reporter)
        looks = stored.test_evaluations
        if store is not None:
            looks = _record(store, trials, detail["values"])
    return Measured(
        study=stored.name,
        trials=trials,
        model=path,
        split=split,
        rows=detail["rows"],
        values=detail["values"],
        intervals={name: tuple(interval) for name, interval in detail["intervals"].items()},
        before={name.removeprefix("val_"): value for name, value in before.items() if name.startswith("val_")},
        looks=looks,
        was_trained_on=split == "train",
        lines=(*([which] if study.replicas > 1 and not path else []), *detail["lines"]),
    )


def _answered(stored: Stored, order: EvaluateModel, split: Split, reporter: Reporter) -> Mapping[str, Any]:
    with one_worker(stored, reporter, use=_USES[split]) as (pool, ready):
        if not order.path:
            identity.check_ready(stored.file, stored.full_identity, ready)
        with reporter.waiting(f"evaluating on the {split} rows"):
            answer = pool.answer(order)
    if isinstance(answer, Failed):
        raise UsageError(answer.reason)
    return answer.detail


def _record(store: Store, trials: tuple[int, ...], values: Mapping[str, float]) -> int:
    """Record an evaluation on the test rows; return how many there have been."""
    # Reload under the lock: another command may have evaluated meanwhile.
    now = store.load()
    event = HistoryEvent(TEST_EVALUATED, {"trials": list(trials), "values": dict(values)}, datetime.now(UTC))
    store.append(Commit(events=[event], seconds=now.seconds, spent=now.spent, ended=now.ended))
    return now.test_evaluations + 1
