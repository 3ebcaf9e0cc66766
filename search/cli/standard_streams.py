"""stdout and stderr that never end a command: output that can't be written is dropped.

A search continues without its reader, on a full disk behind a redirection, with a closed descriptor, without its terminal,
and with characters that the terminal's encoding lacks.
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

# A pipe that polls as ready accepts this many bytes without blocking.
_CHUNK_BYTES = 4096
# How long stderr waits for a reader that has stopped (a pager, Ctrl-S). After that it drops output until the reader is back.
PATIENCE_S = 2.0


class DroppingStream(io.RawIOBase):
    """Writes to a descriptor and drops output that can't be written. `failure` is the first error, or None.

    Args:
        descriptor: None if it was closed when the process began.
        patience_s: how long to wait for a reader; None waits without limit.
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
            return  # a reader that closed the pipe does not come back
        while content:
            if not self._is_ready():
                return
            with suppress(BlockingIOError):
                content = content[os.write(self._descriptor, content[:_CHUNK_BYTES]) :]

    def _is_ready(self) -> bool:
        assert self._descriptor is not None  # noqa: S101 (checked by `_write`)
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


class GuardedStreams:
    """The raw streams of this process, after `guard` was called."""

    stdout: DroppingStream | None = None


def guard() -> None:
    """Replace sys.stdout and sys.stderr by streams that drop what they can't write. Call it once, when the process begins."""
    closed = _fill_closed()
    out = DroppingStream(None if 1 in closed else 1, None)
    err = DroppingStream(None if 2 in closed else 2, PATIENCE_S)
    GuardedStreams.stdout = out
    sys.stdout = _text(out, sys.stdout, line_buffering=out.isatty())
    sys.stderr = _text(err, sys.stderr, line_buffering=True)


def stdout_error() -> OSError | None:
    """Flush stdout; return the first error in writing to it, or None."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    return GuardedStreams.stdout.failure if GuardedStreams.stdout is not None else None


def _fill_closed() -> set[int]:
    """Open /dev/null for closed standard streams: otherwise the database file would get their number, and their output."""
    closed = set()
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            closed.add(number)
            # `open` returns the lowest free number: this one, since all lower ones are open by now.
            os.open(os.devnull, os.O_RDWR)
    return closed


def _text(raw: DroppingStream, before: TextIO | None, *, line_buffering: bool) -> io.TextIOWrapper:
    encoding = getattr(before, "encoding", None) or "utf-8"
    # Characters that the encoding lacks are written as escapes.
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=encoding, errors="backslashreplace", line_buffering=line_buffering
    )
