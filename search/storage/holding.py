"""The writer's lock on a database: of its name, and of the file itself, whatever names that has.

The lock of the name is a file beside the database. The lock of the file is a range lock of the operating system far behind
the bytes that SQLite locks: it holds under a hard link's name, too, and where somebody has deleted the lock file.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import psutil
from filelock import FileLock, Timeout

from search.errors import StoreError

# SQLite locks bytes from 2^30 on and no database of ours comes near this one.
_LOCKED_BYTE = 1 << 62
_FD_LOCK = getattr(fcntl, "F_OFD_SETLK", None)


class Hold:
    """The lock on a database, held by this process alone. A context manager; `release` may be called twice.

    The descriptor stays open as long as the lock is held: closing a file gives up all of SQLite's locks that this process
    has on it (sqlite.org/howtocorrupt.html, 2.2), so it is opened before SQLite's connection and closed after it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1
        self._lock = FileLock(path.with_name(f"{path.name}.lock"))
        self._take_name()
        try:
            self.take_file()
            # On a full disk the lock holds, and only who holds it can't be told.
            with suppress(OSError):
                note = json.dumps({"pid": os.getpid(), "host": socket.gethostname()})
                Path(self._lock.lock_file).write_text(note, encoding="utf-8")
        except BaseException:
            self.release()
            raise

    def __enter__(self) -> Hold:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def take_file(self) -> None:
        """Lock the file itself if it is there; StoreError if another process holds it. Called again once it is made."""
        if self._descriptor >= 0:
            return
        try:
            found = self.path.stat()
            if not stat.S_ISREG(found.st_mode):
                return
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return  # it is not there yet, or can't be written: SQLite tells better
        if _FD_LOCK is None:
            return
        wanted = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, _LOCKED_BYTE, 1, 0)
        try:
            fcntl.fcntl(self._descriptor, _FD_LOCK, wanted)
        except BlockingIOError:
            raise StoreError(f"{self.path} is in use: {self._holder()}; wait for it to end, or stop it") from None
        except OSError:
            return  # a file system without such locks has the one of the name

    def release(self) -> None:
        """Give the lock back."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self._lock.release(force=True)

    @property
    def size(self) -> int:
        """The bytes of the locked file, whatever is at its name."""
        return os.fstat(self._descriptor).st_size if self._descriptor >= 0 else 0

    @property
    def is_at_its_name(self) -> bool:
        """Whether the locked file is still the one that its name leads to."""
        if self._descriptor < 0:
            return True
        try:
            return os.path.samestat(os.fstat(self._descriptor), self.path.stat())
        except OSError:
            return False

    @property
    def now_at(self) -> Path | None:
        """Where the locked file is now; None if it has been deleted, or if that can't be known."""
        with suppress(OSError):
            name = Path(f"/proc/self/fd/{self._descriptor}").readlink()
            if os.path.samestat(os.fstat(self._descriptor), name.stat()):
                return name
        return None

    @property
    def is_deleted(self) -> bool:
        """Whether the locked file has no name left, so that it is gone as soon as it is closed."""
        return self._descriptor >= 0 and os.fstat(self._descriptor).st_nlink == 0

    def _take_name(self) -> None:
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise StoreError(f"{self.path} is in use: {self._named_holder()}; wait for it to end, or stop it") from None
        except OSError as error:
            raise StoreError(
                f"{self._lock.lock_file} can't be made: {error.strerror}; the folder must be writable"
            ) from None

    def _named_holder(self) -> str:
        try:
            holder = json.loads(Path(self._lock.lock_file).read_text(encoding="utf-8"))
            return f"process {holder['pid']} on {holder['host']} works on it"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process works on it"

    def _holder(self) -> str:
        """Say which process of this user's has the file open, and by which name."""
        wanted = os.fstat(self._descriptor)
        for pid, name in _open_files():
            with suppress(OSError):
                if os.path.samestat(wanted, os.stat(f"/proc/{pid}/fd/{name}")):  # noqa: PTH116 (follows the link)
                    where = Path(f"/proc/{pid}/fd/{name}").readlink()
                    under = "" if where == self.path.resolve() else f", under the name {where}"
                    return f"process {pid} on {socket.gethostname()} works on it{under}"
        return "another process works on the same file, perhaps under another name"


def hold(path: Path) -> Hold:
    """Take the one writer's lock on a database: the operating system's, so that it ends with the process."""
    return Hold(path)


def _open_files() -> Iterator[tuple[int, str]]:
    """Give the files that other processes have open, as far as this user may know: (pid, number of a descriptor)."""
    for pid in psutil.pids():
        if pid != os.getpid():
            with suppress(OSError):
                yield from ((pid, name) for name in os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208
