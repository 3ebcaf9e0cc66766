"""Files of members: checkpoints of those under way, and the weights of those worth keeping. Whole or not there.

Nothing here imports keras: the coordinator tidies these files, too.
"""

from __future__ import annotations

import json
import os
import time
import zipfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.engines.protocol import Member

Arrays = Mapping[str, NDArray[Any]]

# A checkpoint is due again when training has gone on for so many times what the last one took: a twentieth of the time.
TIMES_ITS_COST = 20.0
LEAST_S, MOST_S = 1.0, 60.0
# Two of each member: what a crash leaves in the database may be an epoch behind the newest.
GENERATIONS = 2
_RUNNING = "running"
_META = "__meta__"


class CheckpointError(Exception):
    """A file of a member can't be read; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a member was after an epoch. `path` is the file it came from."""

    path: Path
    epoch: int
    arrays: Arrays


def write(path: Path, arrays: Arrays, meta: Mapping[str, Any]) -> None:
    """Write arrays, durably and whole: an older file stays until the new one is complete. OSError if that is impossible."""
    # npz knows only numpy's own types; bfloat16 travels as bytes of its size, and its name in the meta.
    types = {name: array.dtype.name for name, array in arrays.items()}
    plain = {name: array.view(f"u{array.dtype.itemsize}") if array.dtype.kind == "V" else array for name, array in arrays.items()}
    packed = np.frombuffer(json.dumps({**meta, "types": types}).encode(), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f"{path.name}.half")
    try:
        with half.open("wb") as file:
            np.savez(file, allow_pickle=False, **{_META: packed}, **plain)
            file.flush()
            os.fsync(file.fileno())
        half.replace(path)
    except OSError:
        half.unlink(missing_ok=True)
        raise


def read(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read what `write` wrote: arrays and meta. CheckpointError if it is not whole (every array has a checksum)."""
    try:
        with np.load(path, allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files}
        meta = json.loads(arrays.pop(_META).tobytes())
        for name, kind in meta["types"].items():
            if arrays[name].dtype.name != kind:
                import ml_dtypes  # which numpy's bfloat16 comes from, on any backend

                arrays[name] = arrays[name].view(getattr(ml_dtypes, kind))
    except (OSError, ValueError, KeyError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from None
    return arrays, meta


class Checkpoints:
    """The members of one study that are under way, as files in `folder`; says when it is time to write them again.

    Args:
        folder: of the study's files; None for none at all.
        disk: bytes that all files in it may take.
    """

    def __init__(self, folder: Path | None, disk: int) -> None:
        self._folder, self._disk = folder, disk
        self._next = time.monotonic() + LEAST_S
        self.trouble = ""

    def is_due(self) -> bool:
        """Tell whether members should be saved now."""
        return self._folder is not None and time.monotonic() >= self._next

    def save(self, members: Iterable[tuple[Member, int, Arrays]]) -> None:
        """Save members (member, whole epochs, state). What goes wrong is told in `trouble`: training goes on without."""
        began = time.monotonic()
        for member, epoch, arrays in members:
            try:
                if self._used() + sum(array.nbytes for array in arrays.values()) > self._disk:
                    self.trouble = f"no room for checkpoints in the {self._disk / 1e9:g} GB of run.disk"
                    break
                write(self._path(member, epoch), arrays, {"epoch": epoch})
            except OSError as error:
                self.trouble = f"no checkpoint could be written: {error.strerror or error}"
                break
            for old in self._of(member)[GENERATIONS:]:
                old.unlink(missing_ok=True)
        took = time.monotonic() - began
        self._next = time.monotonic() + max(min(max(LEAST_S, took * TIMES_ITS_COST), MOST_S), took * TIMES_ITS_COST)

    def load(self, member: Member, at_most: int) -> Checkpoint | None:
        """Return a member's newest whole checkpoint of at most so many epochs."""
        for path in self._of(member):
            if _epoch_of(path) <= at_most:
                with suppress(CheckpointError):
                    arrays, meta = read(path)
                    return Checkpoint(path, meta["epoch"], arrays)
        return None

    def forget(self, members: Iterable[Member]) -> None:
        """Delete the checkpoints of members that have ended."""
        for member in members:
            for path in self._of(member):
                path.unlink(missing_ok=True)

    def _path(self, member: Member, epoch: int) -> Path:
        assert self._folder is not None  # noqa: S101 (asked before)
        return self._folder / _RUNNING / f"{member.trial}.{member.replica}.{epoch}.npz"

    def _of(self, member: Member) -> list[Path]:
        """Return a member's checkpoints, the newest first."""
        if self._folder is None:
            return []
        return sorted((self._folder / _RUNNING).glob(f"{member.trial}.{member.replica}.*.npz"), key=_epoch_of, reverse=True)

    def _used(self) -> int:
        return used(self._folder) if self._folder is not None else 0


def used(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    sizes = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            sizes += path.stat().st_size
    return sizes


def _epoch_of(path: Path) -> int:
    return int(path.name.split(".")[2])
