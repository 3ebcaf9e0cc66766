"""Files that a worker writes for a command: whole, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from search import durable
from search.errors import UsageError

MODEL = ".keras"


def check_model(argument: str, path: Path) -> None:
    """Raise UsageError unless a path has the suffix of a model; `argument` names what gave it."""
    if path.suffix != MODEL:
        raise UsageError(f"{argument}: a model is saved as a {MODEL} file; received {path}")


@contextmanager
def whole(path: Path, *, may_lack: bool = False) -> Iterator[Path]:
    """Yield where to write a file; what is there replaces `path` when the context ends without an error.

    With `may_lack`, there may be nothing. UsageError if `path` can't be written.
    """
    # Keras requires a suffix, and draws what it says.
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}").absolute()
    try:
        yield partial
        if not may_lack or partial.exists():
            durable.replace(partial, path)
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror or error}; name another file") from None
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
