"""Starts or resumes a study, from its settings to its best.json. All packages meet in this module."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from search.core import loop
from search.core.study import ALL_TRIALS, Study
from search.errors import Interrupted, ManyfitError, StoreError, UsageError
from search.log import StudyLog
from search.policies import samplers
from search.reading import studychecks, unused
from search.sessions import earlier
from search.sessions.reporter import LOGGING, Reporter
from search.sessions.startup import resolve, workers
from search.signals import Interruptions, signals
from search.spec import identity
from search.spec.finding import Finding
from search.spec.identity import Record
from search.spec.ready import Ready
from search.spec.resolved import describe
from search.spec.study import StudyFile
from search.storage import records, schema, upkeep
from search.storage.store import Store
from search.storage.studies import Stored
from search.trials import known
from search.trials.events import Member
from search.trials.files import StudyFiles
from search.trials.history import RECOMPUTED, HistoryEvent
from search.trials.trial import Trial
from search.views import export
from search.views.text import number
from search.workers.pool import WorkerPool


@dataclass(frozen=True)
class Outcome:
    """How a `run` ended. `stored` is the study after it, `ended` the numbers of the trials that this command ended."""

    stored: Stored
    best_path: Path
    ended: tuple[int, ...]
    reason: str
    seconds: float


def run(
    file: StudyFile,
    reporter: Reporter = LOGGING,
    *,
    allow_unused: bool = False,
    interruptions: Interruptions | None = None,
    same_as: Stored | None = None,
    checks: bool = True,
) -> Outcome:
    """Start or resume a study. Writes its best.json at the end, when interrupted and when the study fails.

    `interruptions` is entered while the study runs; by default that is `signals`. `same_as` is the study that a new one
    confirms. A new study is checked first, unless `checks` is false.

    Raises UsageError for a new study with a setting that nothing reads, unless `allow_unused`, or with a fault that would
    waste it; IdentityError if the data or the code are not those of `same_as`.
    """
    stored = records.find(file.storage, file.name)
    if stored is not None:
        return _resume(file, stored, reporter, interruptions or signals)
    is_checked = checks and same_as is None
    return _start(
        file, reporter, interruptions or signals, allow_unused=allow_unused, same_as=same_as, is_checked=is_checked
    )


def _start(
    file: StudyFile,
    reporter: Reporter,
    interruptions: Interruptions,
    *,
    allow_unused: bool,
    same_as: Stored | None,
    is_checked: bool,
) -> Outcome:
    best = StudyFiles.of(file).best
    if best.is_file() and not export.is_ours(best):
        raise UsageError(f"{best} is there already and is none of manyfit's; move it away, or give another --name")
    known_study = earlier.find(file)
    resolved, chosen = resolve(file)
    log = StudyLog()
    with (
        interruptions() as interruption,
        workers(
            file,
            resolved,
            chosen,
            log,
            reporter=reporter,
            interruption=interruption,
            checks=is_checked,
            meanwhile=partial(_prepare, file),
        ) as (
            pool,
            ready,
            resolved,
        ),
    ):
        if same_as is not None:
            identity.check_ready(same_as.file, same_as.full_identity, ready)
        unread = unused.find(file, ready)
        if not allow_unused:
            unused.refuse(file, unread)
        _warn(reporter, [*map(str, unread), *ready.warnings])
        _check_findings(ready.findings)
        for text in [*(finding.line for finding in ready.findings), *studychecks.notes(file)]:
            reporter.note(text)
        reporter.line(describe(resolved))
        note = identity.note(file, asdict(resolved), ready.data)
        full = identity.full(file, ready)
        record = Record(asdict(resolved), full, note, earlier.carry_over(known_study, file, full, reporter))
        with Store.create(file, record, interruption=interruption) as store:
            log.open(StudyFiles.shown(file).log, f"study {file.name!r} begins: {describe(resolved)}")
            study = Study(file, study_attrs=record.known)
            return _search(study, store, pool, ready, reporter, interruption)


def _prepare(file: StudyFile) -> None:
    """Import and make what the search needs first, on a core that waits for the workers otherwise."""
    samplers.prepare(file.settings.search.sampler.name)
    if not file.storage.exists():
        schema.optunas()
    import optuna.distributions  # noqa: F401


def _check_findings(findings: Iterable[Finding]) -> None:
    """Raise UsageError for findings that would waste a study."""
    for finding in findings:
        if finding.level == "stop":
            raise UsageError(f"{finding.line}; nothing was started; --no-check starts the study anyway")


def _resume(file: StudyFile, stored: Stored, reporter: Reporter, interruptions: Interruptions) -> Outcome:
    file = identity.resumed(file, stored.identity)
    identity.check_unchanged(file.name, stored.identity, identity.declared(file))
    with interruptions() as interruption, Store.of(file, interruption=interruption) as store:
        # Reload under the lock: another command may have changed the study since it was first read.
        stored = store.load()
        # A builder whose trials all failed may be changed: no result depends on it.
        may_change_builder = not any(trial.curve or trial.state in ("COMPLETE", "PRUNED") for trial in stored.trials)
        if file.given is not None and not may_change_builder:
            # The program has compared its functions already: refuse a changed one before a worker starts.
            identity.check_files(file, stored.full_identity)
        has_failed = any(trial.state == "FAIL" for trial in stored.trials)
        is_changed = may_change_builder and not identity.has_same_files(file, stored.full_identity)
        is_rebuilt = is_changed and has_failed
        # If nothing was trained yet, "auto" is resolved again, unless memory ran out: then keep to fewer lanes.
        is_new = may_change_builder and not any(kind == "out of memory" for _, kind, _ in stored.events)
        resolved, chosen = resolve(file, None if is_new else stored)
        study = Study.of(stored, file)
        if study.has_changes:  # a process died: store that now, as this command may stop before its first trial
            loop.store(study, store)
        if is_rebuilt:
            # Draw all trials again. The failed ones are deleted once the workers are ready.
            attrs = {key: value for key, value in stored.study_attrs.items() if key == known.KEY}
            study = Study(file, study_attrs=attrs, seconds=stored.seconds, spent=stored.spent)
        if study.is_done():
            identity.check_files(file, stored.full_identity)
            store.renew(file)
            loop.store(study, store)
            return _outcome(study, store, reporter, ended=(), seconds=0.0)
        log = StudyLog()
        has_trials = len(study.trials) > 0
        with workers(
            file,
            resolved,
            chosen,
            log,
            reporter=reporter,
            interruption=interruption,
            has_trials=has_trials,
            meanwhile=partial(_prepare, file),
        ) as (pool, ready, resolved):
            now = identity.check_ready(file, stored.full_identity, ready, may_mend_builder=may_change_builder)
            _warn(reporter, [*map(str, unused.find(file, ready)), *ready.warnings])
            reporter.line(describe(resolved))
            reporter.line(_progress(study))
            store.renew(file, now, asdict(resolved) if is_new else None, anew=_failures(stored) if is_rebuilt else None)
            if is_changed and not is_rebuilt:
                study.note("builder changed", before="the first epoch")
            log.open(StudyFiles.shown(file).log, f"study {file.name!r} goes on with {len(study.trials)} trials")
            if not is_new and identity.versions() != stored.resolved["versions"]:
                store.back_up()
                study.note("versions changed", was=stored.resolved["versions"], now=identity.versions())
                _warn(reporter, ["versions have changed since this study began; `manyfit show` prints which"])
            if not is_new and resolved.devices != stored.resolved["devices"]:
                study.note("devices changed", was=stored.resolved["devices"], now=resolved.devices)
            return _search(study, store, pool, ready, reporter, interruption)


def _warn(reporter: Reporter, warnings: Iterable[str]) -> None:
    for text in warnings:
        reporter.warning(text)


def _failures(stored: Stored) -> dict[str, Any]:
    """Return the record that remains of failed trials when they are deleted."""
    failed = [trial for trial in stored.trials if trial.state == "FAIL"]
    return {"failed": len(failed), "by": failed[-1].why}


def _progress(study: Study) -> str:
    """Return a line on the progress of a study that is resumed."""
    done = sum(trial.is_ended for trial in study.trials)
    best = "" if study.best is None else f", best {number(study.best.value)} (trial {study.best.number})"
    return f"going on: {done} of {study.budget} done{best}"


def _search(
    study: Study,
    store: Store,
    pool: WorkerPool,
    ready: Ready,
    reporter: Reporter,
    interruption: Callable[[], int],
) -> Outcome:
    ended_before = {trial.number for trial in study.trials if trial.is_ended}
    seconds_before = study.seconds_before
    kept: list[Member] = []

    def watch() -> None:
        nonlocal kept
        report()
        if (now := study.kept) != kept:
            kept = now
            upkeep.delete_weights(StudyFiles.of(study.file), kept)

    _tidy(study)
    try:
        try:
            with reporter.following(study, programs=ready.lanes.get("programs", 0)) as report:
                loop.search(study, store, pool, interruption=interruption, watch=watch)
        finally:
            pool.close()  # before `_tidy`: a worker may be writing a checkpoint
    except Interrupted as interrupted:
        outcome = _outcome(study, store, reporter, ended=(), seconds=0.0)
        done = sum(trial.is_ended for trial in outcome.stored.trials)
        has_best = outcome.stored.complete and not study.file.settings.study.confirms
        best = f"the best so far is in {outcome.best_path.name}, and " if has_best else ""
        raise Interrupted(
            f"stopped with {done} of {study.budget} trials done, all of it stored; {best}the same command goes on",
            interrupted.exit_code - 128,
        ) from None
    except StoreError:
        raise
    except ManyfitError:
        _outcome(study, store, reporter, ended=(), seconds=0.0)
        raise
    ended = [trial for trial in study.trials if trial.is_ended and trial.number not in ended_before]
    _warn(reporter, (*_not_kept(study, ended), *_recomputed(study, ended)))
    numbers = tuple(trial.number for trial in ended)
    outcome = _outcome(study, store, reporter, ended=numbers, seconds=study.seconds - seconds_before)
    if changed := identity.changed_files(study.file, {**outcome.stored.imported, **ready.files}):
        advice = "its trials are of the source that it began with: change it back, or go on under another --name"
        reporter.warning(f"changed while this command ran: {', '.join(changed)}; {advice}")
    return outcome


def _not_kept(study: Study, ended: list[Trial]) -> list[str]:
    files, best = StudyFiles.of(study.file), study.best_trials
    missing = [
        trial.number
        for trial in ended
        if trial in best and not any(files.weights(member).exists() for member in trial.members)
    ]
    if not missing:
        return []
    which = f"trials {', '.join(map(str, missing))}" if len(missing) > 1 else f"trial {missing[0]}"
    return [f"the weights of {which} could not be kept, so that there is no model to export; `manyfit show` prints why"]


def _recomputed(study: Study, ended: list[Trial]) -> list[str]:
    """Return warnings on trials whose epochs came out otherwise when they were trained again after an interruption."""
    first: dict[int, HistoryEvent] = {}
    for event in study.noted:
        if event.kind == RECOMPUTED:
            first.setdefault(event.detail["trial"], event)
    numbers = {trial.number for trial in ended}
    return [
        f"trial {trial} was interrupted, and epoch {event.detail['epoch']} gave {number(event.detail['now'])} when it was "
        f"trained again, not {number(event.detail['stored'])}: its curve is of two trainings, and its weights may not give "
        "its value; let data functions and layers draw from seeds"
        for trial, event in first.items()
        if trial in numbers
    ]


def _tidy(study: Study) -> None:
    upkeep.tidy(StudyFiles.of(study.file), study.kept, study.unfinished)


def _outcome(study: Study, store: Store, reporter: Reporter, *, ended: tuple[int, ...], seconds: float) -> Outcome:
    if problem := store.back_up():
        _warn(reporter, [f"{problem}; the study itself is stored"])
    _tidy(study)
    stored = store.load()
    best_path = StudyFiles.shown(study.file).best
    try:
        if not study.file.settings.study.confirms:
            export.write(best_path, export.to_json(export.best(stored)))
    except UsageError as error:
        # Nothing is lost: all results are in the database.
        _warn(reporter, [f"{error}"])
    reason = "" if stored.ended == ALL_TRIALS else stored.ended
    return Outcome(stored, best_path, ended, reason, seconds)
