"""The names of the files beside a database: journals, backup, lock, and what a killed write leaves."""

from __future__ import annotations

from pathlib import Path

# Suffixes of the database itself and of the files that SQLite writes beside it.
JOURNALS = ("", "-journal", "-wal", "-shm")


def backup_of(path: Path) -> Path:
    """Return the path of a database's backup."""
    return path.with_name(f"{path.name}.backup")


def lock_of(path: Path) -> Path:
    """Return the path of the lock file that the writer of a database holds."""
    return path.with_name(f"{path.name}.lock")


def partial_of(path: Path) -> Path:
    """Return the path at which a database is written before it gets its name."""
    return path.with_name(f".{path.name}.new")


def with_journals(path: Path) -> list[Path]:
    """Return the paths of a database and of the files that SQLite writes beside it."""
    return [path.with_name(f"{path.name}{suffix}") for suffix in JOURNALS]


def remove(path: Path) -> None:
    """Remove a database that no study needs, and its journals: SQLite would replay them into the next one of that name."""
    for file in with_journals(path):
        file.unlink(missing_ok=True)
