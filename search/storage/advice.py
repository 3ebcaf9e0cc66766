"""What to do about a database that is damaged or gone: the end of an error message, which says whether the backup helps.

The modules that open and read a database raise errors without it, because only a backup that they can open and read helps.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from search.errors import DamagedError, StoreError
from search.storage import backup
from search.storage.paths import backup_of


@contextmanager
def advising() -> Iterator[None]:
    """Complete an error about a database that is damaged or gone: every function that others call reads within this."""
    try:
        yield
    except StoreError as error:
        if error.advise_on is None:
            raise
        if not error.advise_on.exists():
            check_gone(error.advise_on)
            raise
        raise type(error)(f"{error}; {advice(error.advise_on)}") from None


def advice(path: Path) -> str:
    """Return what to do about a damaged database, for the end of an error message."""
    if _has_sound_backup(path):
        return f"it was left as it is: {_restoring(path)} brings back its backup"
    of_backup = ", and its backup is damaged, too" if backup_of(path).exists() else ""
    return f"it was left as it is{of_backup}: bring back a copy of it, or move it away"


def check_gone(path: Path) -> None:
    """Check that a missing database has left neither a journal nor a backup; DamagedError if it has.

    SQLite would replay an old journal into a new database of that name, and the new backup would replace the old one.
    """
    for suffix in ("-wal", "-journal"):
        journal = path.with_name(f"{path.name}{suffix}")
        if journal.exists() and journal.stat().st_size:
            of_backup = f" ({_restoring(path)} brings back its backup)" if _has_sound_backup(path) else ""
            raise DamagedError(
                f"{path} is gone, and {journal.name}, which belongs to it, is there; bring {path.name} back{of_backup}, or "
                f"move {journal.name} away, too"
            )
    if backup_of(path).exists():
        cure = (
            f"and its backup is there; {_restoring(path)} brings it back"
            if _has_sound_backup(path)
            else "and its backup is damaged; bring back a copy of yours"
        )
        raise DamagedError(f"{path} is gone, {cure}; to begin anew, move {backup_of(path).name} away, too")


def _restoring(path: Path) -> str:
    return f"`manyfit verify {shlex.quote(str(path))} --restore`"


def _has_sound_backup(path: Path) -> bool:
    """Return whether `verify --restore` would bring back the backup of a database."""
    with suppress(StoreError):
        return backup.find(path) is not None
    return False
