"""The log file of a study: what happened when, and what its workers printed. It has a size that it does not pass."""

from __future__ import annotations

import os
import threading
from collections import deque
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from search.failpoints import reached

# A file of this size becomes NAME.log.1, in the place of the one before; a builder may print without end.
MOST_BYTES = 10_000_000
# A study that is refused leaves no log, so that what comes before its first trial is kept in memory.
MOST_BYTES_BEFORE = 1_000_000


class StudyLog:
    """Keeps lines in memory until it is given a file. A line that can't be written is dropped: no search ends for its log."""

    def __init__(self) -> None:
        self._kept: deque[bytes] = deque()
        self._kept_bytes = self._dropped = 0
        self._path: Path | None = None
        self._descriptor = -1
        self._size = 0
        self._lock = threading.Lock()

    def open(self, path: Path) -> None:
        """Append to `path` from now on, beginning with what was kept so far."""
        with self._lock:
            self._path = path
            self._open()
            if self._dropped:
                self._append(_line(f"{self._dropped} earlier lines are left out"))
            for content in self._kept:
                self._append(content)
            self._kept.clear()

    def write(self, line: str) -> None:
        """Add a line. Called from several threads."""
        content = _line(line)
        with self._lock:
            if self._path is not None:
                self._append(content)
                return
            self._kept.append(content)
            self._kept_bytes += len(content)
            while self._kept_bytes > MOST_BYTES_BEFORE:
                self._kept_bytes -= len(self._kept.popleft())
                self._dropped += 1

    def close(self) -> None:
        """Close the file. Later lines are dropped."""
        with self._lock:
            self._close()

    def _open(self) -> None:
        assert self._path is not None  # noqa: S101 (its callers have one)
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
        if self._size + len(content) > MOST_BYTES and self._size:
            self._roll()
        with suppress(OSError):  # a full disk ends a study where its trials are stored, not for a line here
            self._size += os.write(self._descriptor, content)

    def _roll(self) -> None:
        assert self._path is not None  # noqa: S101 (it has been opened)
        self._close()
        reached("before the log is rolled")
        with suppress(OSError):
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
        self._open()
        if self._size >= MOST_BYTES:  # it can't be moved: no line more
            self._close()


def _line(text: str) -> bytes:
    return f"{datetime.now().astimezone().isoformat(timespec='seconds')} {text}\n".encode("utf-8", "replace")
