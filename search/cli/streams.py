"""stdout and stderr of a command that must not end because nobody reads it: what can't be shown is dropped.

A reader that has gone away, a full disk behind a redirection, a closed descriptor, a terminal that is gone, letters that the
terminal's encoding has not: none of these is a reason to stop a search.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
import time
from contextlib import suppress
from typing import Any, TextIO

# A pipe that is ready takes so many bytes without waiting for its reader.
_AT_ONCE = 4096
# How long progress waits for a reader that stands still (a pager, Ctrl-S), before it is dropped until that reads on.
PATIENCE_S = 2.0


class Dropping(io.RawIOBase):
    """Writes to a descriptor; what can't be written is dropped. `failure` is the first reason, or None.

    Args:
        descriptor: None if it was closed when the process began.
        patience_s: how long to wait for a reader; None for as long as that takes.
    """

    def __init__(self, descriptor: int | None, patience_s: float | None) -> None:
        self._descriptor, self._patience_s = descriptor, patience_s
        self._is_stuck = False
        self.failure: OSError | None = None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        if self._descriptor is None:
            raise io.UnsupportedOperation("this stream was closed when the process began")
        return self._descriptor

    def isatty(self) -> bool:
        return self._descriptor is not None and os.isatty(self._descriptor)

    def write(self, data: Any, /) -> int:
        content = memoryview(data).cast("B")
        try:
            self._write(content)
        except OSError as error:
            self.failure = self.failure or error
        return len(content)

    def _write(self, content: memoryview) -> None:
        if self._descriptor is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        if self.failure is not None and self.failure.errno == errno.EPIPE:
            return  # it does not come back
        while content:
            if not self._is_ready():
                return
            with suppress(BlockingIOError):
                content = content[os.write(self._descriptor, content[:_AT_ONCE]) :]

    def _is_ready(self) -> bool:
        assert self._descriptor is not None  # noqa: S101 (its caller has looked)
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        wait_s = 0.0 if self._is_stuck else self._patience_s
        until = None if wait_s is None else time.monotonic() + wait_s
        while True:
            left_ms = None if until is None else max(0.0, until - time.monotonic()) * 1000
            if poll.poll(left_ms):
                self._is_stuck = False
                return True
            if until is not None and time.monotonic() >= until:
                self._is_stuck = True
                return False


class Guards:
    """The raw streams of this process, once `guard` was called."""

    stdout: Dropping | None = None


def guard() -> None:
    """Put streams in the place of sys.stdout and sys.stderr that drop what they can't write; once, as a process begins."""
    closed = _fill_closed()
    out = Dropping(None if 1 in closed else 1, None)
    err = Dropping(None if 2 in closed else 2, PATIENCE_S)
    Guards.stdout = out
    sys.stdout = _text(out, sys.stdout, line_buffering=out.isatty())
    sys.stderr = _text(err, sys.stderr, line_buffering=True)


def trouble_of_stdout() -> OSError | None:
    """Return why something of stdout could not be written, or None."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    return Guards.stdout.failure if Guards.stdout is not None else None


def _fill_closed() -> set[int]:
    """Open /dev/null in the place of closed standard streams: else the database would get their number, and their output."""
    closed = set()
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            closed.add(number)
            # The lowest free number is taken, and all below are open by now.
            os.open(os.devnull, os.O_RDWR)
    return closed


def _text(raw: Dropping, before: TextIO | None, *, line_buffering: bool) -> io.TextIOWrapper:
    encoding = getattr(before, "encoding", None) or "utf-8"
    # Letters that the encoding has not are shown as their numbers.
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=encoding, errors="backslashreplace", line_buffering=line_buffering
    )
