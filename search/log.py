"""The log file of a study: what happened when, and what its workers printed."""

from __future__ import annotations

import threading
from contextlib import suppress
from datetime import datetime
from io import TextIOWrapper
from pathlib import Path


class StudyLog:
    """Keeps lines in memory until it is given a file: a study that is refused leaves nothing behind."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._file: TextIOWrapper | None = None
        self._lock = threading.Lock()

    def open(self, path: Path) -> None:
        """Append to `path` from now on, beginning with what was kept so far."""
        with self._lock:
            self._file = path.open("a", encoding="utf-8", errors="replace", buffering=1)
            self._file.writelines(self._lines)
            self._lines.clear()

    def write(self, line: str) -> None:
        """Add a line. Called from several threads."""
        text = f"{datetime.now().astimezone().isoformat(timespec='seconds')} {line}\n"
        with self._lock:
            if self._file is None:
                self._lines.append(text)
            else:
                with suppress(OSError):  # a full disk ends a study where its trials are stored, not for a line here
                    self._file.write(text)

    def close(self) -> None:
        """Close the file. Later lines are dropped."""
        with self._lock:
            if self._file is not None:
                with suppress(OSError):
                    self._file.close()
            self._file = None
