"""A storage that lasts as long as its process: for experiments, and for benchmarks without a database."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakValueDictionary

from search.errors import StoreError
from search.spec.identity import Record
from search.spec.study import StudyFile
from search.trials.events import Noted
from search.trials.history import Commit, History
from search.trials.objective import Objective
from search.trials.trial import make_trial


class MemoryStorage:
    """A study as a history in memory. It can be reopened as long as an object refers to it. A context manager."""

    _open: ClassVar[WeakValueDictionary[tuple[Path, str], MemoryStorage]] = WeakValueDictionary()

    def __init__(self, file: StudyFile, record: Record) -> None:
        self._history = History(file, dict(record.resolved), dict(record.identity), seconds=0.0, ended="")

    @classmethod
    def exists(cls, file: StudyFile) -> bool:
        """Return whether the study that `file` describes exists."""
        return _key(file) in cls._open

    @classmethod
    def create(cls, file: StudyFile, record: Record, *, interruption: Callable[[], int] = lambda: 0) -> MemoryStorage:  # noqa: ARG003
        """Create a study; StoreError if its name is taken."""
        if _key(file) in cls._open:
            raise StoreError(f"there is a study {file.name!r} already; give another --name")
        cls._open[_key(file)] = storage = cls(file, record)
        return storage

    @classmethod
    def of(cls, file: StudyFile, *, interruption: Callable[[], int] = lambda: 0) -> MemoryStorage:  # noqa: ARG003
        """Open the study that `file` describes; StoreError if there is none."""
        storage = cls._open.get(_key(file))
        if storage is None:
            raise StoreError(f"no study {file.name!r} is in memory")
        return storage

    def __enter__(self) -> MemoryStorage:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Do nothing: the study stays in memory."""

    def load(self) -> History:
        """Return a copy of the history."""
        copied = {part: deepcopy(getattr(self._history, part)) for part in ("trials", "events", "study_attrs", "spent")}
        return replace(self._history, **copied)

    def append(self, commit: Commit) -> Sequence[Noted]:
        """Add a commit to the history."""
        history = self._history
        trials, file = history.trials, history.file
        # Convert to JSON first, because that may raise: a commit is stored whole or not at all.
        start_attrs, state_attrs = ([_plain(one.attrs) for one in part] for part in (commit.started, commit.states))
        study_attrs, details = _plain(commit.study_attrs), [_plain(event.detail) for event in commit.events]
        for start, attrs in zip(commit.started, start_attrs, strict=True):
            trial = make_trial(file, start.number, start.params)
            trial.started_at, trial.attrs = start.at, attrs
            trials.append(trial)
        for epoch in commit.epochs:
            trial = trials[epoch.member.trial]
            trial.add_epoch(epoch.member.replica, dict(epoch.metrics), epoch.seconds)
            trial.value, trial.best_epoch = Objective.of(file).best_of(trial.curve)
        for state, attrs in zip(commit.states, state_attrs, strict=True):
            trial = trials[state.number]
            trial.state, trial.ended_at = state.state, state.ended_at
            if state.is_ended:
                trial.ended, trial.why, trial.detail = state.ended, state.why, state.detail
                trial.value, trial.best_epoch = state.value, state.best_epoch
                trial.attrs |= attrs
        history.study_attrs.update(study_attrs)
        history.events.extend((e.at, e.kind, detail) for e, detail in zip(commit.events, details, strict=True))
        self._history = replace(history, seconds=commit.seconds, spent=dict(commit.spent), ended=commit.ended)
        return []

    def renew(
        self,
        file: StudyFile,
        identity: Mapping[str, Any] | None = None,
        resolved: Mapping[str, Any] | None = None,
        *,
        anew: Mapping[str, Any] | None = None,
    ) -> None:
        """Store the settings to resume with. `anew`, an event's detail, also drops all trials, none of which was trained."""
        history = self._history
        if anew is not None:
            history.trials.clear()
            history.study_attrs.clear()
            history.events.append((datetime.now(UTC), "builder mended", _plain(anew)))
        self._history = replace(
            history, file=file, identity=dict(identity or history.identity), resolved=dict(resolved or history.resolved)
        )

    def back_up(self) -> str:
        """Do nothing: a backup in memory would end with the process, too."""
        return ""


def _key(file: StudyFile) -> tuple[Path, str]:
    return file.storage, file.name


def _plain(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table as it comes back from JSON, in which other storages keep it."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(table)))
    return plain
