"""Files of members: checkpoints of those under way, and the weights of those worth keeping. Whole or not there.

Nothing here imports keras: the coordinator tidies these files, too.
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

# A checkpoint is due when training has gone on for so many times what the last one took: a twentieth of the time ...
TIMES_ITS_COST = 20.0
# ... but not all the time. One that takes up to three seconds is so written at least once a minute.
LEAST_S = 1.0
# So many of every member: what a crash leaves in the database may be an epoch behind the newest.
GENERATIONS = 2
RUNNING = "running"
_META = "__meta__"
# No array's name begins so.
_NOTHING = "\0"


class CheckpointError(Exception):
    """A file of members can't be read; the message says what is wrong with it."""


def write(path: Path, arrays: Arrays, meta: Mapping[str, Any]) -> None:
    """Write arrays, durably: the file is whole at any moment or not there. OSError if that is impossible."""
    # npz knows numpy's own types; another (bfloat16) travels as whole numbers of its size. What each is stands in the meta,
    # which also tells a file whose directory has lost an entry, or has taken one for another.
    kinds = {name: [array.dtype.name, list(array.shape)] for name, array in arrays.items()}
    plain = {n: array.view(f"u{array.itemsize}") if array.dtype.kind == "V" else array for n, array in arrays.items()}
    packed = np.frombuffer(json.dumps({**meta, "kinds": kinds}).encode(), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            np.savez(file, allow_pickle=False, **{_META: packed}, **plain)
        durable.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def read(path: Path, beginning: str = "") -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read what `write` wrote: its meta, and those of its arrays whose names have this beginning.

    CheckpointError if they are not whole; each array has a checksum.
    """
    try:
        with np.load(path, allow_pickle=False) as found:
            meta = json.loads(found[_META].tobytes())
            wanted = {name: kind for name, kind in meta["kinds"].items() if name.startswith(beginning)}
            arrays = {name: _as(found[name], *kind) for name, kind in wanted.items()}
    except Exception as error:  # noqa: BLE001 (a wrong bit can make zip, numpy and json raise nearly anything)
        raise CheckpointError(f"{path} is damaged: {error}") from None
    return arrays, meta


def _as(array: NDArray[Any], kind: str, shape: list[int]) -> NDArray[Any]:
    if array.dtype.name != kind:
        import ml_dtypes  # bfloat16 and its kin, wherever a backend is installed

        array = array.view(getattr(ml_dtypes, kind))
    if list(array.shape) != shape:
        raise ValueError(f"an array of shape {list(array.shape)} was written with {shape}")
    return array


class Checkpoints:
    """The members that a worker has under way, as files: all of them in one, so that one fsync serves them.

    Args:
        folder: of the study's files; None to write nothing.
        worker: number of this worker; several write side by side, and all read all.
        disk: bytes that all files in the folder may take.
        can_go_on: whether a training can be gone on with; if not, weights are kept, and nothing is saved in between.
    """

    def __init__(self, folder: Path | None, worker: int = 0, disk: int = 2 * 10**9, *, can_go_on: bool = True) -> None:
        self._folder, self._worker, self._disk, self._can_go_on = folder, worker, disk, can_go_on
        self._next = time.monotonic() + LEAST_S
        self._trouble = self._told = ""
        self._ended: set[str] = set()
        self._held: dict[Path, frozenset[str]] = {}

    @property
    def is_due(self) -> bool:
        """Whether members should be saved now."""
        return self._folder is not None and self._can_go_on and time.monotonic() >= self._next

    def save(self, members: Iterable[tuple[Assignment, int, Arrays]]) -> None:
        """Save members: (what was assigned, its whole epochs, its state). If that fails, training goes on: `take_trouble`."""
        assert self._folder is not None  # noqa: S101 (nothing is due without)
        began = time.monotonic()
        epochs, marks, arrays = {}, {}, {}
        for assignment, epoch, state in members:
            name = _name(assignment.member)
            epochs[name], marks[name] = epoch, assignment.fingerprint
            arrays.update({f"{name}/{key}": array for key, array in state.items()})
        before, generations = self._mine(), GENERATIONS
        try:
            self._check_room(arrays)
            number = _number(before[0]) + 1 if before else 1
            write(self._folder / RUNNING / f"{self._worker}.{number}.npz", arrays, {"epochs": epochs, "marks": marks})
            self._trouble = ""
        except OSError as error:
            self._trouble = f"{error.strerror or error}"
            # When the quota is full, the next one replaces the oldest.
            generations = GENERATIONS - 1
        self._roll(generations)
        ended = time.monotonic()
        self._next = ended + max(LEAST_S, TIMES_ITS_COST * (ended - began))

    def end(self, members: Iterable[Member]) -> None:
        """Take note that members have ended: nothing of theirs is gone on from."""
        self._ended.update(map(_name, members))

    def load(self, assignment: Assignment) -> tuple[int, dict[str, NDArray[Any]]] | None:
        """Return the newest whole checkpoint of what is assigned, of at most the epochs `done`: its epochs, and the state."""
        member, found = assignment.member, []
        name = _name(member)
        for path in self._all():
            with suppress(CheckpointError):
                _, meta = read(path, beginning=_NOTHING)
                # One of an older manyfit has no marks, and is nobody's.
                is_its = meta.get("marks", {}).get(name) == assignment.fingerprint
                if is_its and 0 < (epoch := meta["epochs"][name]) <= assignment.done:
                    found.append((epoch, path))
        for epoch, path in sorted(found, reverse=True):
            with suppress(CheckpointError):
                beginning = f"{name}/"
                arrays, _ = read(path, beginning)
                # For the study's log, which keeps what a worker says.
                print(f"trial {member.trial} goes on from its checkpoint of epoch {epoch}", file=sys.stderr, flush=True)
                return epoch, {name.removeprefix(beginning): array for name, array in arrays.items()}
        return None

    def keep(self, path: Path, arrays: Arrays, meta: Mapping[str, Any]) -> str:
        """Write the weights of a member that has ended; return why that could not be done, or "".

        Checkpoints, which serve for a while only, give way to them where disk is short.
        """
        mine = self._mine()
        while True:
            try:
                self._check_room(arrays)
                write(path, arrays, meta)
            except OSError as error:
                if not mine or error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    return f"{error.strerror or error}"
                self._drop(mine.pop())
            else:
                return ""

    @property
    def are_whole(self) -> bool:
        """Whether the last checkpoint that was due could be written."""
        return not self._trouble

    def take_trouble(self) -> str:
        """Return, once for all that are alike, why a checkpoint could not be written; "" if there is nothing new to tell."""
        if not self._trouble or self._trouble == self._told:
            return ""
        self._told = self._trouble
        return self._told

    def _roll(self, generations: int) -> None:
        """Delete files of which every member has ended or has so many newer ones, whichever process wrote them."""
        newer: Counter[str] = Counter()
        for path in self._mine():
            members = self._members(path)
            if all(newer[name] >= generations for name in members - self._ended):
                self._drop(path)
            newer.update(members)

    def _drop(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        # Its name may be another file's some time.
        self._held.pop(path, None)

    def _members(self, path: Path) -> frozenset[str]:
        if path not in self._held:
            # One that is damaged serves nobody.
            self._held[path] = frozenset()
            with suppress(CheckpointError):
                self._held[path] = frozenset(members_in(path))
        return self._held[path]

    def _check_room(self, arrays: Arrays) -> None:
        wanted = sum(array.nbytes for array in arrays.values())
        if self._folder is not None and used(self._folder) + wanted > self._disk:
            raise OSError(errno.EDQUOT, f"run.disk allows {self._disk / 1e9:g} GB, and more is wanted")

    def _all(self) -> list[Path]:
        return [] if self._folder is None else sorted((self._folder / RUNNING).glob("[0-9]*.npz"))

    def _mine(self) -> list[Path]:
        mine = [path for path in self._all() if path.name.startswith(f"{self._worker}.")]
        return sorted(mine, key=_number, reverse=True)


def kept_path(folder: Path, member: Member) -> Path:
    """Return the file of the weights of a member that is worth keeping."""
    return folder / f"trial-{member.trial}.npz"


def tidy(folder: Path, kept: Iterable[Member], unfinished: Collection[Member]) -> dict[Path, int]:
    """Delete what no longer serves while nothing is trained: weights but those `kept`, checkpoints of no unfinished member.

    Half-written files go, too. Returns what went, in bytes.
    """
    names = {_name(member) for member in unfinished}

    def serves(path: Path) -> bool:
        with suppress(CheckpointError):
            return not names.isdisjoint(members_in(path))
        return False

    gone = drop(folder, kept)
    running = folder / RUNNING
    gone |= delete(path for path in running.glob("*") if path.suffix != ".npz" or not names or not serves(path))
    gone |= delete(folder.glob(".*.partial"))
    for empty in (running, folder):
        with suppress(OSError):
            empty.rmdir()
    return gone


def drop(folder: Path, kept: Iterable[Member]) -> dict[Path, int]:
    """Delete the weights of all members but those `kept`; return what went, in bytes. Workers may write meanwhile."""
    worth = {kept_path(folder, member) for member in kept}
    return delete(path for path in folder.glob("trial-*.npz") if path not in worth)


def delete(paths: Iterable[Path]) -> dict[Path, int]:
    """Delete files; return those that went, with their bytes."""
    gone = {}
    for path in list(paths):
        with suppress(OSError):
            size = path.stat().st_size
            path.unlink()
            gone[path] = size
    return gone


def members_in(path: Path) -> dict[str, int]:
    """Return how many whole epochs each member has in a checkpoint, by "trial.replica"; CheckpointError if it is damaged."""
    epochs: dict[str, int] = read(path, beginning=_NOTHING)[1]["epochs"]
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
