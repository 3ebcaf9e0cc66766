"""Delete the files that a study no longer needs, and count their bytes: while it is searched, and for `manyfit clean`."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from search import arrayfile
from search.arrayfile import ArrayFileError
from search.storage import records
from search.storage.holding import hold
from search.storage.paths import backup_of, partial_of, with_journals
from search.trials.events import Member
from search.trials.files import StudyFiles, size_of


@dataclass(frozen=True)
class Cleaned:
    """The deleted files and their `bytes`; the `kept` weight files of the best trials take `kept_bytes`."""

    gone: list[Path]
    bytes: int
    kept: int
    kept_bytes: int


def clean(path: Path, name: str, *, weights: bool) -> Cleaned:
    """Delete checkpoints that no trial resumes from, weights of trials that are not among the best, half-written files.

    With `weights`, also delete the best trials' weights. The database is unchanged. StoreError while it is in use.
    """
    with hold(path):
        stored = records.load(path, name)
        best = [] if weights else stored.complete[: stored.file.settings.run.keep]
        unfinished = [member for trial in stored.trials if not trial.is_ended for member in trial.members]
        # Weights of an unfinished trial wait for its other trainings.
        kept = [*(member for trial in best for member in trial.members), *unfinished]
        gone = delete_of_callbacks(stored.files, ["ModelCheckpoint"], kept) | tidy(stored.files, kept, unfinished)
        gone |= delete(stored.files.partial_bests())
        # Left by a killed restore or backup. Both need the lock, which is held here, so nobody writes these files now.
        for written in (path, backup_of(path)):
            gone |= delete(with_journals(partial_of(written)))
    sizes = [file.stat().st_size for file in stored.files.all_weights()]
    return Cleaned(list(gone), sum(gone.values()), len(sizes), sum(sizes))


def tidy(files: StudyFiles, kept: Iterable[Member], unfinished: Collection[Member]) -> dict[Path, int]:
    """Delete weights of members not in `kept`, checkpoints without an unfinished member, and partial files.

    Call this only while nothing is trained. Returns the deleted files with their bytes.
    """
    keys = {member.key for member in unfinished}

    def is_needed(path: Path) -> bool:
        with suppress(ArrayFileError):
            return not keys.isdisjoint(arrayfile.read_meta(path)["epochs"])
        return False

    deleted = delete_weights(files, kept)
    deleted |= delete(
        path for path in files.running.glob("*") if path.suffix != ".npz" or not keys or not is_needed(path)
    )
    deleted |= delete(files.folder.glob(".*.partial"))
    for empty in (files.running, files.folder):
        with suppress(OSError):
            empty.rmdir()
    return deleted


def delete_weights(files: StudyFiles, kept: Iterable[Member]) -> dict[Path, int]:
    """Delete the weights of all members but `kept`; return the deleted files with their bytes. Safe while workers write."""
    needed = {files.weights(member) for member in kept}
    return delete(path for path in files.all_weights() if path not in needed)


def delete_of_callbacks(files: StudyFiles, names: Iterable[str], kept: Iterable[Member] = ()) -> dict[Path, int]:
    """Delete what callbacks of these names wrote for members not in `kept`, and folders that are then empty.

    Returns the deleted files and folders with their bytes.
    """
    keys = {member.key for member in kept}
    deleted = {}
    for member, path in files.all_of_callbacks(names):
        if member not in keys:
            deleted[path] = size_of(path)
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
    for empty in (*files.callbacks.glob("*"), files.callbacks):
        with suppress(OSError):  # it holds files of others
            empty.rmdir()
    return deleted


def delete(paths: Iterable[Path]) -> dict[Path, int]:
    """Delete files; return the deleted ones with their bytes."""
    deleted = {}
    for path in list(paths):
        with suppress(OSError):
            size = path.stat().st_size
            path.unlink()
            deleted[path] = size
    return deleted
