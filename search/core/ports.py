"""The two interfaces that the loop uses: `Trainers` train members, and a `Storage` stores the study."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from search.spec.identity import Record
from search.spec.study import StudyFile
from search.trials.events import Assignment, Event, Member, Noted, Verdict
from search.trials.history import Commit, History


class Trainers(Protocol):
    """Trains members, in this process or in workers; the loop uses all workers as one object."""

    @property
    def has_capacity(self) -> bool:
        """Whether `start` may be called now."""

    def start(self, assignment: Assignment) -> None:
        """Accept a member; its first epoch begins no later than the next `advance`."""

    def advance(self) -> Sequence[Event]:
        """Return new events: each member in step has finished one more epoch. If there are none yet, call again."""

    def keep(self, members: Sequence[Member]) -> Sequence[Event]:
        """Store the best weights of members that are about to end; return an event for each failure."""

    def apply(self, verdicts: Sequence[Verdict]) -> None:
        """Continue the members that go on, and free the places of those that end."""

    def close(self) -> None:
        """End everything, even in the middle of an epoch. Safe to call twice."""


class Storage(Protocol):
    """The storage of a study, locked by this process. A context manager. One contract test class covers all storages.

    While a storage waits for another program, it calls `interruption` for the number of a signal, and raises Interrupted soon
    after one. If a write fails, it raises StoreError; what was stored before stays intact.
    """

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""

    @classmethod
    def exists(cls, file: StudyFile) -> bool:
        """Return whether the study that `file` describes is stored."""

    @classmethod
    def create(cls, file: StudyFile, record: Record, *, interruption: Callable[[], int] = ...) -> Self:
        """Create a new study; if that fails, nothing of it is stored."""

    @classmethod
    def of(cls, file: StudyFile, *, interruption: Callable[[], int] = ...) -> Self:
        """Open the study that `file` describes, to continue it."""

    def load(self) -> History:
        """Return all that is stored."""

    def append(self, commit: Commit) -> Sequence[Noted]:
        """Store all of a commit or nothing; return events for the study's history."""

    def renew(
        self,
        file: StudyFile,
        identity: Mapping[str, Any] | None = None,
        resolved: Mapping[str, Any] | None = None,
        *,
        anew: Mapping[str, Any] | None = None,
    ) -> None:
        """Store the settings to continue with; with `anew`, the detail of a history event, drop untrained trials."""

    def back_up(self) -> str:
        """Back up the study in case the disk is damaged; return why that failed, or ""."""

    def close(self) -> None:
        """Unlock and close the study. Safe to call twice."""
