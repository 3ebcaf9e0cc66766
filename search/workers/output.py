"""Lines that a worker prints, cut to a bounded length: a model may print endlessly and without a newline."""

from __future__ import annotations

import os
from collections.abc import Iterator

# The rest of a longer line is dropped, and its bytes are counted.
MAX_LINE_BYTES = 8_000
_READ_BYTES = 65_536


def lines(descriptor: int) -> Iterator[str]:
    """Yield the lines from a pipe until it is closed, each cut at MAX_LINE_BYTES."""
    kept, dropped = b"", 0

    def line() -> str:
        more = f" ... ({dropped:,} more bytes)" if dropped else ""
        return kept.decode("utf-8", "replace").rstrip() + more

    while content := _read(descriptor):
        first, *others = content.split(b"\n")
        capacity = MAX_LINE_BYTES - len(kept)
        kept, dropped = kept + first[:capacity], dropped + max(0, len(first) - capacity)
        for other in others:
            yield line()
            kept, dropped = other[:MAX_LINE_BYTES], max(0, len(other) - MAX_LINE_BYTES)
    if kept or dropped:
        yield line()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, _READ_BYTES)
    except OSError:
        return b""
