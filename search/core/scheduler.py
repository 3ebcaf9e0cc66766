"""The loop. It imports no keras, jax or tensorflow, and decides nothing itself: the study judges, the store writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from search.core.study import Study
from search.engines.protocol import Engine
from search.errors import Interrupted, ManyfitError, StoreError


class Store(Protocol):
    """What the loop needs of the store."""

    def commit(self, study: Study, *, now: bool = False) -> None:
        """Write what has changed, in one transaction or none of it."""


def search(
    study: Study,
    store: Store,
    engine: Engine,
    *,
    interruption: Callable[[], int] = lambda: 0,
    watch: Callable[[], None],
) -> None:
    """Search until the study is done or a signal asks to stop; safe to call again after any crash.

    `interruption` returns the number of a signal that has come, or 0. `watch` is called after every tick. Raises
    Interrupted, LikeFailuresError or what an engine can't go on from, with everything stored and nothing left RUNNING;
    StoreError if the database can't be written, which then holds all that was written before.
    """
    study.begin()
    try:
        while not study.is_done():
            if signal_number := interruption():
                raise Interrupted("stopped; the same command goes on", signal_number)
            while engine.have_room and (trial := study.next_trial()):
                engine.start(study.assignment(trial))
            events = engine.advance()
            touched = study.record(events)  # all of them, before anything is judged
            verdicts = [study.judge(trial) for trial in touched]
            # On disk before the database says that they have ended.
            study.record(engine.keep(study.worth_keeping(touched)))
            store.commit(study, now=any(verdict.ends for verdict in verdicts))
            engine.apply(verdicts)  # places are freed only for what is stored
            watch()
            if study.gave_up is not None:
                raise study.gave_up
    except StoreError:
        raise
    except ManyfitError:
        study.put_back()
        store.commit(study, now=True)
        raise
    store.commit(study, now=True)
