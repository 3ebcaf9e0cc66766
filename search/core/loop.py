"""The search loop. It decides and writes nothing itself: the study decides, the storage writes. Keras is not imported."""

from __future__ import annotations

import time
from collections.abc import Callable

from search.core.ports import Storage, Trainers
from search.core.study import Study
from search.errors import Interrupted, ManyfitError, StoreError
from search.spec.identity import Record
from search.spec.study import StudyFile
from search.trials.history import History

# Losing an epoch of a running trial is harmless: it is recomputed on resume. So epochs are buffered for up to GATHER_S
# seconds and written in one commit.
GATHER_S = 0.1


def search(
    study: Study,
    storage: Storage,
    trainers: Trainers,
    *,
    interruption: Callable[[], int] = lambda: 0,
    watch: Callable[[], None] = lambda: None,
) -> None:
    """Search until the study is done or a signal arrives. After a crash, load the study and call it again.

    `interruption` returns the number of a signal that has arrived, or 0. `watch` is called after every tick.

    Raises Interrupted, RepeatedFailureError or the fatal error of an engine after it has stored everything; no trial is left
    RUNNING. Raises StoreError if a write fails; earlier commits stay intact.
    """
    study.begin()
    stored_at = time.monotonic()
    try:
        while not study.is_done():
            if signal_number := interruption():
                raise Interrupted("stopped; the same command goes on", signal_number)
            while trainers.has_capacity and (assignment := study.next_assignment()):
                trainers.start(assignment)
            touched = study.record(trainers.advance())  # all events, before the first judgement
            verdicts = study.judge(touched)
            # Weights are on disk before the database says that their trial has ended.
            study.record(trainers.keep(study.worth_keeping(touched)))
            if any(verdict.ends for verdict in verdicts) or (
                study.has_changes and time.monotonic() - stored_at >= GATHER_S
            ):
                store(study, storage)
                stored_at = time.monotonic()
            trainers.apply(verdicts)  # after the commit: a place is freed only when its trial's end is stored
            watch()
            if study.gave_up is not None:
                raise study.gave_up
    except StoreError:
        raise
    except ManyfitError:
        study.put_back()
        store(study, storage)
        raise
    store(study, storage)


def run(
    file: StudyFile,
    record: Record,
    kind: type[Storage],
    trainers: Trainers,
    *,
    interruption: Callable[[], int] = lambda: 0,
    watch: Callable[[], None] = lambda: None,
) -> History:
    """For programs that bring their own storage: open or create a study, search, and return all that is stored.

    Raises as `search` does. The trainers stay open.
    """
    storage = (
        kind.of(file, interruption=interruption)
        if kind.exists(file)
        else kind.create(file, record, interruption=interruption)
    )
    with storage:
        storage.renew(file)
        study = Study.of(storage.load(), file)
        search(study, storage, trainers, interruption=interruption, watch=watch)
        return storage.load()


def store(study: Study, storage: Storage) -> None:
    """Store all pending changes. If this raises, as after a signal, they stay pending and the next call stores them."""
    commit = study.pending()
    noted = storage.append(commit)
    study.mark_stored(commit)
    study.record(noted)
