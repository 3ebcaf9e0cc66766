"""What a worker prints, as lines of bounded length: a model may print without end and without a newline."""

from __future__ import annotations

import os
from collections.abc import Iterator

# More of a line than this is counted, not kept.
MOST_BYTES = 8_000
_READ_BYTES = 65_536


def lines(descriptor: int) -> Iterator[str]:
    """Yield the lines that come out of a pipe until it is closed, each cut at MOST_BYTES."""
    kept, left_out = b"", 0

    def line() -> str:
        more = f" ... ({left_out:,} more bytes)" if left_out else ""
        return kept.decode("utf-8", "replace").rstrip() + more

    while content := _read(descriptor):
        first, *others = content.split(b"\n")
        room = MOST_BYTES - len(kept)
        kept, left_out = kept + first[:room], left_out + max(0, len(first) - room)
        for other in others:
            yield line()
            kept, left_out = other[:MOST_BYTES], max(0, len(other) - MOST_BYTES)
    if kept or left_out:
        yield line()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, _READ_BYTES)
    except OSError:
        return b""
