"""Trains the best configs of a study again, with fresh seeds, as a study of its own in the same database."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Any

from search.errors import ManyfitError, UsageError
from search.sessions import run as sessions
from search.sessions.reporter import LOGGING, Reporter
from search.signals import Interruptions
from search.spec.identity import versions
from search.spec.names import checked_name
from search.spec.settings import StudySection
from search.spec.study import StudyFile
from search.storage import records
from search.storage.studies import Stored
from search.trials.confirmation import SUFFIX, Confirmation, best_configs, confirmation
from search.trials.streams import stream
from search.trials.trial import make_trial
from search.views import export

TOP, REPEATS = 5, 10
# The random stream of the seeds of confirmations; streams 0 to 4 are those of the search.
_STREAM = 5


def confirm(
    stored: Stored,
    top: int | None = None,
    repeats: int | None = None,
    reporter: Reporter = LOGGING,
    *,
    interruptions: Interruptions | None = None,
) -> Confirmation:
    """Train the best `top` configs `repeats` times each, or go on with that; write the numbers to best.json, too.

    Raises UsageError for a study that is not done, that has too few trials that were trained fully, or that is confirmed
    with other numbers; IdentityError if its data or its code have changed.
    """
    again = records.confirming(stored)
    if again is None:
        file = confirming_file(stored, top, repeats)
        if records.exists(stored.path, file.name):
            raise UsageError(
                f"{stored.path} has a study {file.name!r} that does not confirm {stored.name!r} as it is; "
                f"delete it first: {_deletion(stored, file.name)}"
            )
    else:
        _check_same(stored, again, top, repeats)
        file = replace(again.file, database=stored.path, given=stored.file.given)
    if again is None or not confirmation(stored, again).is_done:
        study = file.settings.study
        if versions() != stored.resolved["versions"]:
            reporter.warning(
                "versions have changed since the search; `manyfit show --settings` names those of the search"
            )
        reporter.line(f"confirming {stored.name}: {_trainings(study)}")
        again = sessions.run(file, reporter, allow_unused=True, interruptions=interruptions, same_as=stored).stored
    try:
        export.write(stored.files.best, export.to_json(export.best(stored)))
    except UsageError as error:  # all results are in the database
        reporter.warning(str(error))
    fresh = confirmation(stored, again)
    if fresh.best is None:
        raise ManyfitError(
            f"every fresh training failed, the last one by: {again.trials[-1].why}; mend the cause, then "
            f"{_deletion(stored, again.name)}, and repeat the command"
        )
    return fresh


def confirming_file(stored: Stored, top: int | None = None, repeats: int | None = None) -> StudyFile:
    """Return the study that confirms the best configs of another one; raises as `confirm` does."""
    _check(stored)
    best = best_configs(stored, top or TOP)
    if not best or len(best) < (top or 1):
        raise UsageError(
            f"{stored.name} has {len(best)} different configs that were trained fully; "
            + (f"received --top {top}; use --top {len(best)}" if best else "there is nothing to confirm")
        )
    repeats = repeats or REPEATS
    settings = stored.file.settings
    try:
        name = checked_name(stored.name + SUFFIX)
    except ValueError:
        raise UsageError(
            f"{stored.name} can't be confirmed: its name is too long to have {SUFFIX!r} at its end; give it a shorter one "
            "with `manyfit rename`"
        ) from None
    tables = {
        **settings.model_dump(mode="json"),
        "study": {
            **settings.study.model_dump(mode="json"),
            "name": name,
            "trials": len(best) * repeats,
            "confirms": [trial.number for trial in best],
            "time": None,
            "stop_after": None,
        },
        "search": {
            **settings.search.model_dump(mode="json"),
            "sampler": "random",
            "pruner": "none",
            "duplicates": True,
            "learn_from": None,
            "candidates": (),
            # The configs take turns, so that an interrupted confirmation has as many trials of each.
            "start": [stored.file.space.config(trial.params) for trial in best] * repeats,
        },
        # The models are within the limits; a latency that is measured again may not be.
        "limits": {},
    }
    file = StudyFile.stored(stored.file.path, tables)
    as_searched: dict[str, Any] = {
        key: stored.resolved[key] for key in ("engine", "backend", "precision") if key in stored.resolved
    }
    run = settings.run.model_copy(update={**as_searched, "keep": 0})
    settings = file.settings.model_copy(update={"run": run})
    file = replace(file, settings=settings, database=stored.path, given=stored.file.given)
    return _with_fresh_seeds(file, stored)


def _with_fresh_seeds(file: StudyFile, stored: Stored) -> StudyFile:
    """Return the study with a seed that gives none of its trainings the seed of one of the search."""
    used = {training.seed for trial in stored.trials for training in trial.trainings}
    params = stored.complete[0].params
    attempt = 0
    while True:
        seed = stream(stored.file.settings.study.seed, _STREAM, attempt)
        section = file.settings.study.model_copy(update={"seed": seed})
        file = replace(file, settings=file.settings.model_copy(update={"study": section}))
        numbers = range(file.settings.study.trials)
        seeds = {training.seed for number in numbers for training in make_trial(file, number, params).trainings}
        if seeds.isdisjoint(used):
            return file
        attempt += 1


def _check(stored: Stored) -> None:
    if stored.file.settings.study.confirms:
        raise UsageError(f"{stored.name} is itself a confirmation; name the study that it confirms")
    if not stored.ended:
        ended = sum(trial.is_ended for trial in stored.trials)
        raise UsageError(
            f"{stored.name} is not done: {ended} of {stored.file.settings.study.trials} trials; its best configs may change. "
            f"Go on with `manyfit run` first, or end it there with `manyfit run ... --trials {max(1, ended)}`"
        )


def _check_same(stored: Stored, again: Stored, top: int | None, repeats: int | None) -> None:
    study = again.file.settings.study
    has = {"--top": len(study.confirms), "--repeats": study.trials // len(study.confirms)}
    for option, wanted in (("--top", top), ("--repeats", repeats)):
        if wanted is not None and wanted != has[option]:
            raise UsageError(
                f"{stored.name} was confirmed with {option} {has[option]}; received {option} {wanted}; leave it out, or "
                f"delete {again.name} first: {_deletion(stored, again.name)}"
            )
    fresh = confirmation(stored, again)
    if not fresh.is_current:
        numbers = ", ".join(str(trial.number) for trial in best_configs(stored, len(study.confirms)))
        was = ", ".join(map(str, study.confirms))
        raise UsageError(
            f"{stored.name} has gone on since it was confirmed: the best trials were {was} and now are {numbers}; "
            f"`manyfit show` has the numbers of the former. To confirm anew, delete {again.name} first: "
            f"{_deletion(stored, again.name)}"
        )


def _deletion(stored: Stored, name: str) -> str:
    return shlex.join(["manyfit", "delete", str(stored.path), "--name", name])


def _trainings(study: StudySection) -> str:
    count = len(study.confirms)
    configs = f"{count} config{'' if count == 1 else 's'}, each"
    what = "" if study.replicas == 1 else " on the folds" if study.folds > 1 else f" with {study.repeats} repeats"
    return f"{configs} trained {study.trials // count} times{what}"
