"""The log file of a study: what happened when, and what its workers printed. Its size is limited."""

from __future__ import annotations

import os
import threading
from collections import deque
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from search.failpoints import failpoint

# A log of this size becomes NAME.log.1 and replaces the previous one: a builder may print without end.
MAX_BYTES = 10_000_000
# Up to this size, lines before the first trial are kept in memory: a study that is refused must leave no log.
MAX_KEPT_BYTES = 1_000_000


class StudyLog:
    """Keeps lines in memory until `open`, then writes a file. Drops a line that can't be written: a log ends no search."""

    def __init__(self) -> None:
        self._kept: deque[bytes] = deque()
        self._kept_bytes = self._dropped = 0
        self._path: Path | None = None
        self._descriptor = -1
        self._size = 0
        self._lock = threading.Lock()

    def open(self, path: Path, line: str) -> None:
        """Append to `path` from now on, beginning with the lines kept so far and `line`."""
        with self._lock:
            self._path = path
            self._open()
            if self._dropped:
                self._append(_line(f"{self._dropped} earlier lines are left out"))
            for content in self._kept:
                self._append(content)
            self._kept.clear()
            self._append(_line(line))

    def write(self, line: str) -> None:
        """Add a line; safe to call from several threads."""
        content = _line(line)
        with self._lock:
            if self._path is not None:
                self._append(content)
                return
            self._kept.append(content)
            self._kept_bytes += len(content)
            while self._kept_bytes > MAX_KEPT_BYTES:
                self._kept_bytes -= len(self._kept.popleft())
                self._dropped += 1

    def close(self) -> None:
        """Close the file. Later lines are dropped."""
        with self._lock:
            self._close()

    def _open(self) -> None:
        assert self._path is not None  # noqa: S101 (its callers have set it)
        with suppress(OSError):
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
            self._size = os.fstat(self._descriptor).st_size

    def _close(self) -> None:
        if self._descriptor >= 0:
            with suppress(OSError):
                os.close(self._descriptor)
        self._descriptor = -1

    def _append(self, content: bytes) -> None:
        if self._descriptor < 0:
            return
        if self._size + len(content) > MAX_BYTES and self._size:
            self._roll()
        with suppress(OSError):  # on a full disk the store raises the error, not the log
            self._size += os.write(self._descriptor, content)

    def _roll(self) -> None:
        assert self._path is not None  # noqa: S101 (it has been opened)
        self._close()
        failpoint("before the log is rolled")
        with suppress(OSError):
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
        self._open()
        if self._size >= MAX_BYTES:  # the rename failed: write no more lines
            self._close()


def _line(text: str) -> bytes:
    return f"{datetime.now().astimezone().isoformat(timespec='seconds')} {text}\n".encode("utf-8", "replace")
