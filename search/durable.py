"""Replace and rename files atomically: whatever ends the process or the machine, a file is the old one or the new one."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from search.failpoints import failpoint


def replace(partial: Path, path: Path) -> None:
    """Replace `path` by the finished file `partial` so that a power cut can't undo it; OSError if that fails.

    Only a regular file is replaced: a rename over a device such as /dev/null would remove that device from the machine.
    """
    if is_special(path):
        raise FileExistsError(errno.EEXIST, "it is a device, a pipe or a socket, and no file", str(path))
    failpoint(f"before the fsync of {partial.name}")
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    move(partial, path)


def is_special(path: Path) -> bool:
    """Return whether `path` exists and is a device, a pipe, a socket or a link to one: no regular file and no folder."""
    return path.exists() and not path.is_file() and not path.is_dir()


def move(old: Path, new: Path) -> None:
    """Rename a file within its folder so that a power cut can't undo it; after an OSError nothing has changed."""
    failpoint(f"before the rename to {new.name}")
    old.replace(new)
    failpoint(f"after the rename to {new.name}")
    _sync_folder(new.parent)
    failpoint(f"after the fsync of the folder of {new.name}")


def _sync_folder(folder: Path) -> None:
    # Some network file systems can't sync a folder; the file itself is already synced and renamed.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
