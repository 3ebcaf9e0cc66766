"""What the loop needs of others: something that trains, and something that keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from search.spec.identity import Record
from search.spec.study import StudyFile
from search.trials.events import Assignment, Event, Member, Noted, Verdict
from search.trials.history import Commit, History


class Trainers(Protocol):
    """Those who train members, in this process or in others: all of them together look like one."""

    @property
    def has_capacity(self) -> bool:
        """Whether `start` may be called now."""

    def start(self, assignment: Assignment) -> None:
        """Take a member in; its first epoch begins no later than the next `advance`."""

    def advance(self) -> Sequence[Event]:
        """Return what happened: every member in step one epoch further, or nothing yet (then call again)."""

    def keep(self, members: Sequence[Member]) -> Sequence[Event]:
        """See that the best weights of members that are about to end are stored; return what went wrong."""

    def apply(self, verdicts: Sequence[Verdict]) -> None:
        """Go on with the members that may, free the places of those that may not."""

    def close(self) -> None:
        """End everything, whatever is under way. Safe to call twice."""


class Storage(Protocol):
    """A study where it is kept, held by this process alone. A context manager. One contract test class holds for all.

    Where it has to wait for another program it asks `interruption` for the number of a signal, and raises Interrupted soon
    after one. What can't be written is a StoreError; what is stored then is whole.
    """

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""

    @classmethod
    def exists(cls, file: StudyFile) -> bool:
        """Tell whether the study that `file` describes is there."""

    @classmethod
    def create(cls, file: StudyFile, record: Record, *, interruption: Callable[[], int] = ...) -> Self:
        """Make a new study; no half of it is left behind if that fails."""

    @classmethod
    def of(cls, file: StudyFile, *, interruption: Callable[[], int] = ...) -> Self:
        """Open the study that `file` describes, to go on with it."""

    def load(self) -> History:
        """Return all that is stored."""

    def append(self, commit: Commit) -> Sequence[Noted]:
        """Store all of a commit or nothing; return what is worth a line in the study's history."""

    def renew(
        self,
        file: StudyFile,
        identity: Mapping[str, Any] | None = None,
        resolved: Mapping[str, Any] | None = None,
        *,
        anew: Mapping[str, Any] | None = None,
    ) -> None:
        """Store the settings that a study goes on with; with `anew`, what is noted of them, drop its untrained trials."""

    def back_up(self) -> str:
        """See that what is stored outlives a damaged disk; return why that could not be done, or ""."""

    def close(self) -> None:
        """Give the study back. Safe to call twice."""
