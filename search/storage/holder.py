"""Which process works on a database now, told by its lock file without touching the lock."""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psutil

# A process can't have written its number before it began; clocks of files and processes differ by less than this.
_CLOCKS_S = 2.0


@dataclass(frozen=True)
class Holder:
    """A process that holds a database; `host` is "" on this machine, and `since` when it took it."""

    pid: int
    host: str
    since: datetime

    def __str__(self) -> str:
        today = datetime.now().astimezone().date() == self.since.date()
        when = self.since.strftime("%H:%M" if today else "%Y-%m-%d %H:%M")
        return f"process {self.pid} on {self.host or 'this machine'} since {when}"


def holder(path: Path) -> Holder | None:
    """Return the process that works on a database, or None; one on another machine may have ended unseen."""
    lock = path.with_name(f"{path.name}.lock")
    try:
        note = json.loads(lock.read_text(encoding="utf-8"))
        pid, host = int(note["pid"]), str(note["host"])
        found = lock.stat()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    since = datetime.fromtimestamp(found.st_mtime).astimezone()
    if host != socket.gethostname():
        return Holder(pid, host, since)
    if not _is_there(pid, found.st_mtime) or not _is_locked(found.st_ino):
        return None
    return Holder(pid, "", since)


def _is_there(pid: int, written: float) -> bool:
    try:
        process = psutil.Process(pid)
        # Numbers are given again: a younger process is another one.
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= written + _CLOCKS_S
    except (psutil.Error, ValueError, OverflowError):
        return False


def _is_locked(inode: int) -> bool:
    """Tell whether a file is locked, by Linux's table of locks; True where there is no such table."""
    with suppress(OSError):
        lines = Path("/proc/locks").read_text(encoding="ascii", errors="replace").splitlines()
        return any(f":{inode} " in f"{line} " for line in lines)
    return os.name == "posix"
