"""Files that are the old one or the new one at any moment, whatever ends the process or the machine."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from search.failpoints import reached


def replace(partial: Path, path: Path) -> None:
    """Put the finished file `partial` in the place of `path` and see that both survive a power cut; OSError if not.

    Only a regular file gives way: a rename over a device such as /dev/null would take it from the whole machine.
    """
    if is_special(path):
        raise FileExistsError(errno.EEXIST, "it is a device, a pipe or a socket, and no file", str(path))
    reached(f"before the fsync of {partial.name}")
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    move(partial, path)


def is_special(path: Path) -> bool:
    """Whether `path` is there and is neither a regular file nor a folder: a device, a pipe, a socket, or a link to one."""
    return path.exists() and not path.is_file() and not path.is_dir()


def move(old: Path, new: Path) -> None:
    """Rename a file within its folder, durably; OSError if that fails, and then nothing has changed."""
    reached(f"before the rename to {new.name}")
    old.replace(new)
    reached(f"after the rename to {new.name}")
    _sync_folder(new.parent)
    reached(f"after the fsync of the folder of {new.name}")


def _sync_folder(folder: Path) -> None:
    # Some network file systems can't do this; the file itself is synced and the rename done.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
