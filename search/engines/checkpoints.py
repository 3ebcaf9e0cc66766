"""Files of members: checkpoints while they train, and the weights of the best. A file is complete or does not exist.

Nothing here imports keras: the coordinator deletes these files, too.
"""

from __future__ import annotations

import errno
import json
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search import durable
from search.trials.events import Assignment, Member

Arrays = Mapping[str, NDArray[Any]]

# Pause between checkpoints, in multiples of the last one's duration: they take a twentieth of the time. One that takes up
# to three seconds is thus written at least once a minute.
TIMES_ITS_COST = 20.0
LEAST_S = 1.0
# Checkpoints of each member: after a crash, the database may be one epoch behind the newest.
GENERATIONS = 2
RUNNING = "running"
_META = "__meta__"
# A prefix of no array's name: reads the meta only.
_NO_ARRAYS = "\0"


class CheckpointError(Exception):
    """A file of members can't be read; the message has the path and the fault."""


def write(path: Path, arrays: Arrays, meta: Mapping[str, Any]) -> None:
    """Write arrays durably and atomically. OSError if that fails."""
    # npz holds only numpy's own types, so another (bfloat16) is written as integers of its size. The meta lists the true
    # types and shapes; `read` also needs it to detect a zip directory with lost or exchanged entries.
    types = {name: [array.dtype.name, list(array.shape)] for name, array in arrays.items()}
    plain = {n: array.view(f"u{array.itemsize}") if array.dtype.kind == "V" else array for n, array in arrays.items()}
    packed = np.frombuffer(json.dumps({**meta, "kinds": types}).encode(), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            np.savez(file, allow_pickle=False, **{_META: packed}, **plain)
        durable.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def read(path: Path, prefix: str = "") -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read a file of `write`: the arrays whose names begin with `prefix`, and the meta.

    CheckpointError if the file is damaged; each array has a checksum.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            meta = json.loads(archive[_META].tobytes())
            wanted = {name: entry for name, entry in meta["kinds"].items() if name.startswith(prefix)}
            arrays = {name: _as(archive[name], *entry) for name, entry in wanted.items()}
    except Exception as error:  # noqa: BLE001 (a wrong bit can make zip, numpy and json raise nearly anything)
        raise CheckpointError(f"{path} is damaged: {error}") from None
    return arrays, meta


def _as(array: NDArray[Any], dtype: str, shape: list[int]) -> NDArray[Any]:
    if array.dtype.name != dtype:
        import ml_dtypes  # bfloat16 and similar types; every backend installs it

        array = array.view(getattr(ml_dtypes, dtype))
    if list(array.shape) != shape:
        raise ValueError(f"an array of shape {list(array.shape)} was written with {shape}")
    return array


class Checkpoints:
    """Checkpoints of the members that a worker trains: all members in one file, so that one fsync is enough.

    Args:
        folder: of the study's files; None to write nothing.
        worker: number of this worker; each worker writes its own files and reads those of all.
        disk: quota of bytes for all files in the folder.
        can_resume: whether training can resume from a checkpoint; if False, only kept weights are written.
    """

    def __init__(self, folder: Path | None, worker: int = 0, disk: int = 2 * 10**9, *, can_resume: bool = True) -> None:
        self._folder, self._worker, self._disk, self._can_resume = folder, worker, disk, can_resume
        self._next = time.monotonic() + LEAST_S
        self._error = self._reported_error = ""
        self._ended: set[str] = set()
        self._members_of: dict[Path, frozenset[str]] = {}

    @property
    def is_due(self) -> bool:
        """Whether members should be saved now."""
        return self._folder is not None and self._can_resume and time.monotonic() >= self._next

    def save(self, members: Iterable[tuple[Assignment, int, Arrays]]) -> None:
        """Save members: (assignment, complete epochs, state). If that fails, training continues: see `take_error`."""
        assert self._folder is not None  # noqa: S101 (`is_due` is False without a folder)
        began = time.monotonic()
        epochs, fingerprints, arrays = {}, {}, {}
        for assignment, epoch, state in members:
            name = _name(assignment.member)
            epochs[name], fingerprints[name] = epoch, assignment.fingerprint
            arrays.update({f"{name}/{key}": array for key, array in state.items()})
        before, generations = self._mine(), GENERATIONS
        try:
            self._check_quota(arrays)
            path = self._folder / RUNNING / f"{self._worker}.{_number(before[0]) + 1 if before else 1}.npz"
            write(path, arrays, {"epochs": epochs, "marks": fingerprints})
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
        self._ended.update(map(_name, members))

    def load(self, assignment: Assignment) -> tuple[int, dict[str, NDArray[Any]]] | None:
        """Return (epoch, state) of an assignment's newest undamaged checkpoint up to its epoch `done`; or None."""
        member, candidates = assignment.member, []
        name = _name(member)
        for path in self._all():
            with suppress(CheckpointError):
                _, meta = read(path, prefix=_NO_ARRAYS)
                # A checkpoint of an older manyfit has no fingerprints ("marks") and matches no assignment.
                is_match = meta.get("marks", {}).get(name) == assignment.fingerprint
                if is_match and 0 < (epoch := meta["epochs"][name]) <= assignment.done:
                    candidates.append((epoch, path))
        for epoch, path in sorted(candidates, reverse=True):
            with suppress(CheckpointError):
                prefix = f"{name}/"
                arrays, _ = read(path, prefix)
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
                write(path, arrays, meta)
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
            with suppress(CheckpointError):
                self._members_of[path] = frozenset(members_in(path))
        return self._members_of[path]

    def _check_quota(self, arrays: Arrays) -> None:
        wanted = sum(array.nbytes for array in arrays.values())
        if self._folder is not None and used(self._folder) + wanted > self._disk:
            raise OSError(errno.EDQUOT, f"run.disk allows {self._disk / 1e9:g} GB, and more is wanted")

    def _all(self) -> list[Path]:
        return [] if self._folder is None else sorted((self._folder / RUNNING).glob("[0-9]*.npz"))

    def _mine(self) -> list[Path]:
        mine = [path for path in self._all() if path.name.startswith(f"{self._worker}.")]
        return sorted(mine, key=_number, reverse=True)


def kept_path(folder: Path, member: Member) -> Path:
    """Return the path of a member's kept weights."""
    replica = f".{member.replica}" if member.replica else ""
    return folder / f"trial-{member.trial}{replica}.npz"


def tidy(folder: Path, kept: Iterable[Member], unfinished: Collection[Member]) -> dict[Path, int]:
    """Delete weights of members not in `kept`, checkpoints without an unfinished member, and partial files.

    Call this only while nothing is trained. Returns the deleted files with their bytes.
    """
    names = {_name(member) for member in unfinished}

    def is_needed(path: Path) -> bool:
        with suppress(CheckpointError):
            return not names.isdisjoint(members_in(path))
        return False

    deleted = drop(folder, kept)
    running = folder / RUNNING
    deleted |= delete(path for path in running.glob("*") if path.suffix != ".npz" or not names or not is_needed(path))
    deleted |= delete(folder.glob(".*.partial"))
    for empty in (running, folder):
        with suppress(OSError):
            empty.rmdir()
    return deleted


def drop(folder: Path, kept: Iterable[Member]) -> dict[Path, int]:
    """Delete the weights of all members but `kept`; return the deleted files with their bytes. Safe while workers write."""
    needed = {kept_path(folder, member) for member in kept}
    return delete(path for path in folder.glob("trial-*.npz") if path not in needed)


def delete(paths: Iterable[Path]) -> dict[Path, int]:
    """Delete files; return the deleted ones with their bytes."""
    deleted = {}
    for path in list(paths):
        with suppress(OSError):
            size = path.stat().st_size
            path.unlink()
            deleted[path] = size
    return deleted


def members_in(path: Path) -> dict[str, int]:
    """Return "trial.replica" -> complete epochs, for the members in a checkpoint; CheckpointError if it is damaged."""
    epochs: dict[str, int] = read(path, prefix=_NO_ARRAYS)[1]["epochs"]
    return epochs


def files(folder: Path) -> list[Path]:
    """Return all checkpoints and kept weights in the folder of a study's files."""
    return sorted([*folder.glob("trial-*.npz"), *(folder / RUNNING).glob("[0-9]*.npz")])


def used(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    sizes = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            sizes += path.stat().st_size if path.is_file() else 0
    return sizes


def _name(member: Member) -> str:
    return f"{member.trial}.{member.replica}"


def _number(path: Path) -> int:
    return int(path.name.split(".")[1])
