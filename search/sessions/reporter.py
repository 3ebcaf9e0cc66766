"""Who is told what a session does."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from search.core.study import Study

_LOG = logging.getLogger("manyfit")


class Reporter(Protocol):
    """What a session tells: lines for people, and a study that can be looked at after every tick."""

    def waiting(self, what: str) -> AbstractContextManager[object]:
        """Say what is waited for, until the context ends."""

    def line(self, text: str) -> None:
        """Tell what is done."""

    def note(self, text: str) -> None:
        """Tell what is allowed and probably not meant."""

    def warning(self, text: str) -> None:
        """Tell what went wrong, or will, without ending anything."""

    def following(self, study: Study, *, programs: int) -> AbstractContextManager[Callable[[], None]]:
        """Follow a study while the context lasts: what it gives is called after every tick.

        `programs` are compiled at most; 0 where none is, or where that can't be told.
        """


class Logging:
    """A reporter that writes to the standard logger `manyfit`, and says nothing of single epochs."""

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        _LOG.info("%s", what)
        yield

    def line(self, text: str) -> None:
        _LOG.info("%s", text)

    note = line

    def warning(self, text: str) -> None:
        _LOG.warning("%s", text)

    @contextmanager
    def following(self, study: Study, *, programs: int) -> Iterator[Callable[[], None]]:  # noqa: ARG002 (a reporter's)
        ended = {trial.number for trial in study.trials if trial.is_ended}

        def look() -> None:
            for trial in study.trials:
                if trial.is_ended and trial.number not in ended:
                    ended.add(trial.number)
                    _LOG.info("trial %d: %s %s", trial.number, trial.value, trial.ended)

        yield look
        look()


LOGGING = Logging()
