"""Checkpoints of members while they train, and the weights of the best: when they are written, and within which quota.

Nothing here imports keras.
"""

from __future__ import annotations

import errno
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from search import arrayfile
from search.arrayfile import ArrayFileError, Arrays
from search.trials.events import Assignment, Member
from search.trials.files import StudyFiles, checkpoint_number, size_of

# Pause between checkpoints, in multiples of the last one's duration: they take a twentieth of the time. One that takes up
# to three seconds is thus written at least once a minute.
TIMES_ITS_COST = 20.0
LEAST_S = 1.0
# Checkpoints of each member: after a crash, the database may be one epoch behind the newest.
GENERATIONS = 2


class Checkpoints:
    """Checkpoints of the members that a worker trains: all members in one file, so that one fsync is enough.

    Args:
        files: those of the study; None to write nothing.
        worker: number of this worker; each worker writes its own files and reads those of all.
        disk: quota of bytes for all checkpoints and weights of the study.
        can_resume: whether training can resume from a checkpoint; if False, only kept weights are written.
    """

    def __init__(
        self, files: StudyFiles | None, worker: int = 0, disk: int = 2 * 10**9, *, can_resume: bool = True
    ) -> None:
        self._files, self._worker, self._disk, self._can_resume = files, worker, disk, can_resume
        self._next = time.monotonic() + LEAST_S
        self._error = self._reported_error = ""
        self._ended: set[str] = set()
        self._members_of: dict[Path, frozenset[str]] = {}

    @property
    def files(self) -> StudyFiles | None:
        """The files of the study; None if nothing is written."""
        return self._files

    @property
    def is_due(self) -> bool:
        """Whether members should be saved now."""
        return self._files is not None and self._can_resume and time.monotonic() >= self._next

    def save(self, members: Iterable[tuple[Assignment, int, Arrays]]) -> None:
        """Save members: (assignment, complete epochs, state). If that fails, training continues: see `take_error`."""
        assert self._files is not None  # noqa: S101 (`is_due` is False without files)
        began = time.monotonic()
        epochs, fingerprints, arrays = {}, {}, {}
        for assignment, epoch, state in members:
            name = assignment.member.key
            epochs[name], fingerprints[name] = epoch, assignment.fingerprint
            arrays.update({f"{name}/{key}": array for key, array in state.items()})
        before, generations = self._mine(), GENERATIONS
        try:
            self._check_quota(arrays)
            path = self._files.checkpoint(self._worker, checkpoint_number(before[0]) + 1 if before else 1)
            arrayfile.write(path, arrays, {"epochs": epochs, "marks": fingerprints})
            self._error = ""
        except OSError as error:
            self._error = f"{error.strerror or error}"
            # Delete the oldest, so that the next one fits into the quota.
            generations = GENERATIONS - 1
        self._delete_old(generations)
        ended = time.monotonic()
        self._next = ended + max(LEAST_S, TIMES_ITS_COST * (ended - began))

    def mark_ended(self, members: Iterable[Member]) -> None:
        """Note that members have ended, so that their checkpoints can be deleted."""
        self._ended.update(member.key for member in members)

    def load(self, assignment: Assignment) -> tuple[int, dict[str, NDArray[Any]]] | None:
        """Return (epoch, state) of an assignment's newest undamaged checkpoint up to its epoch `done`; or None."""
        member, candidates = assignment.member, []
        name = member.key
        for path in self._files.all_checkpoints() if self._files is not None else []:
            with suppress(ArrayFileError):
                meta = arrayfile.read_meta(path)
                # A checkpoint of an older manyfit has no fingerprints ("marks") and matches no assignment.
                is_match = meta.get("marks", {}).get(name) == assignment.fingerprint
                if is_match and 0 < (epoch := meta["epochs"][name]) <= assignment.done:
                    candidates.append((epoch, path))
        for epoch, path in sorted(candidates, reverse=True):
            with suppress(ArrayFileError):
                prefix = f"{name}/"
                arrays, _ = arrayfile.read(path, prefix)
                # The study's log keeps the output of workers.
                print(f"trial {member.trial} goes on from its checkpoint of epoch {epoch}", file=sys.stderr, flush=True)
                return epoch, {name.removeprefix(prefix): array for name, array in arrays.items()}
        return None

    def keep(self, path: Path, arrays: Arrays, meta: Mapping[str, Any]) -> str:
        """Write the weights of a member that has ended; return the error text, or "".

        If the disk or the quota is full, delete checkpoints, oldest first: they are needed for a short time only.
        """
        mine = self._mine()
        while True:
            try:
                self._check_quota(arrays)
                arrayfile.write(path, arrays, meta)
            except OSError as error:
                if not mine or error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    return f"{error.strerror or error}"
                self._drop(mine.pop())
            else:
                return ""

    @property
    def is_saved(self) -> bool:
        """Whether the last checkpoint that was due was written."""
        return not self._error

    def take_error(self) -> str:
        """Return why the last checkpoint was not written, or ""; the same error is returned only once in a row."""
        if not self._error or self._error == self._reported_error:
            return ""
        self._reported_error = self._error
        return self._reported_error

    def _delete_old(self, generations: int) -> None:
        """Delete a file, also of an earlier process, once each member has ended or has this many newer checkpoints."""
        newer: Counter[str] = Counter()
        for path in self._mine():
            members = self._members(path)
            if all(newer[name] >= generations for name in members - self._ended):
                self._drop(path)
            newer.update(members)

    def _drop(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        # A later file may get the same name.
        self._members_of.pop(path, None)

    def _members(self, path: Path) -> frozenset[str]:
        if path not in self._members_of:
            # A damaged file counts as empty.
            self._members_of[path] = frozenset()
            with suppress(ArrayFileError):
                self._members_of[path] = frozenset(arrayfile.read_meta(path)["epochs"])
        return self._members_of[path]

    def _check_quota(self, arrays: Arrays) -> None:
        wanted = sum(array.nbytes for array in arrays.values())
        # What callbacks write is not ours to limit.
        if (
            self._files is not None
            and size_of(self._files.folder) - size_of(self._files.callbacks) + wanted > self._disk
        ):
            raise OSError(errno.EDQUOT, f"run.disk allows {self._disk / 1e9:g} GB, and more is wanted")

    def _mine(self) -> list[Path]:
        return [] if self._files is None else self._files.checkpoints_of(self._worker)
