"""Where a session reports its progress."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from search.core.study import Study

_LOG = logging.getLogger("manyfit")


class Reporter(Protocol):
    """Receives what a session reports: lines of text, and the study itself after every tick."""

    def waiting(self, what: str) -> AbstractContextManager[object]:
        """Report what the session waits for while the context lasts."""

    def line(self, text: str) -> None:
        """Report a fact."""

    def note(self, text: str) -> None:
        """Report a setting that is allowed but probably not intended."""

    def warning(self, text: str) -> None:
        """Report a present or future problem that does not end the session."""

    def following(self, study: Study, *, programs: int) -> AbstractContextManager[Callable[[], None]]:
        """Follow a study while the context lasts. The session calls the yielded function after every tick.

        `programs` is the most programs that will be compiled; 0 if none, or if unknown.
        """


class Logging:
    """A reporter that writes to the standard logger `manyfit`: trials, but not single epochs."""

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
    def following(self, study: Study, *, programs: int) -> Iterator[Callable[[], None]]:  # noqa: ARG002 (of the protocol)
        ended = {trial.number for trial in study.trials if trial.is_ended}

        def log_ended() -> None:
            for trial in study.trials:
                if trial.is_ended and trial.number not in ended:
                    ended.add(trial.number)
                    _LOG.info("trial %d: %s %s", trial.number, trial.value, trial.ended)

        yield log_ended
        log_ended()


LOGGING = Logging()
