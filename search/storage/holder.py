"""Which process holds a database now. This module only reads the lock file and never touches the lock."""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psutil

from search.storage.paths import lock_of

# A process writes its pid after its start; the clocks of files and of processes differ by less than this.
_CLOCKS_S = 2.0


@dataclass(frozen=True)
class Holder:
    """A process that holds a database; `host` is "" for this machine, `since` is when the process took the lock."""

    pid: int
    host: str
    since: datetime

    def __str__(self) -> str:
        today = datetime.now().astimezone().date() == self.since.date()
        when = self.since.strftime("%H:%M" if today else "%Y-%m-%d %H:%M")
        return f"process {self.pid} on {self.host or 'this machine'} since {when}"


def holder(path: Path) -> Holder | None:
    """Return the process that holds a database, or None. A process on another machine may have ended: nothing shows that."""
    lock = lock_of(path)
    try:
        note = json.loads(lock.read_text(encoding="utf-8"))
        pid, host = int(note["pid"]), str(note["host"])
        status = lock.stat()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    since = datetime.fromtimestamp(status.st_mtime).astimezone()
    if host != socket.gethostname():
        return Holder(pid, host, since)
    if not _is_alive(pid, status.st_mtime) or not _is_locked(status.st_ino):
        return None
    return Holder(pid, "", since)


def _is_alive(pid: int, written_at: float) -> bool:
    try:
        process = psutil.Process(pid)
        # The system reuses pids: a process younger than the lock file is another one.
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= written_at + _CLOCKS_S
    except (psutil.Error, ValueError, OverflowError):
        return False


def _is_locked(inode: int) -> bool:
    """Return whether a file is locked, by Linux's table of locks; True on a POSIX system without that table."""
    with suppress(OSError):
        lines = Path("/proc/locks").read_text(encoding="ascii", errors="replace").splitlines()
        return any(f":{inode} " in f"{line} " for line in lines)
    return os.name == "posix"
