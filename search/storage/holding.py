"""The writer's lock on a database. It has two parts: a lock on the database's name, and a lock on the file itself.

The lock on the name is a lock file beside the database. The lock on the file is a range lock of the operating system, far
beyond the bytes that SQLite locks: it also holds under a hard link's name, and after somebody deleted the lock file.
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
from search.storage.paths import lock_of

# SQLite locks bytes from 2^30 on, and no database of ours is large enough to reach this byte.
_LOCKED_BYTE = 1 << 62
_FD_LOCK = getattr(fcntl, "F_OFD_SETLK", None)


class Hold:
    """The lock on a database, held by this process alone. A context manager; `release` may be called twice.

    The descriptor is opened before SQLite's connection and closed after it: closing a file drops all locks of SQLite that
    this process has on that file (sqlite.org/howtocorrupt.html, 2.2).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1
        self._lock = FileLock(lock_of(path))
        self._take_name()
        try:
            self.take_file()
            # On a full disk the lock still holds; other processes just can't read who holds it.
            with suppress(OSError):
                note = json.dumps({"pid": os.getpid(), "host": socket.gethostname()})
                Path(self._lock.lock_file).write_text(note, encoding="utf-8")
        except BaseException:
            self.release()
            raise

    def __enter__(self) -> Hold:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def take_file(self) -> None:
        """Lock the file itself if it exists; StoreError if another process holds it. Call again after creating the file."""
        if self._descriptor >= 0:
            return
        try:
            status = self.path.stat()
            if not stat.S_ISREG(status.st_mode):
                return
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return  # it does not exist yet, or can't be written: SQLite raises a clearer error
        if _FD_LOCK is None:
            return
        request = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, _LOCKED_BYTE, 1, 0)
        try:
            fcntl.fcntl(self._descriptor, _FD_LOCK, request)
        except BlockingIOError:
            raise StoreError(f"{self.path} is in use: {self._holder()}; wait for it to end, or stop it") from None
        except OSError:
            return  # a file system without range locks: only the lock on the name holds

    def release(self) -> None:
        """Release both locks; safe to call twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self._lock.release(force=True)

    @property
    def size(self) -> int:
        """The bytes of the locked file, even if its name leads to another file by now."""
        return os.fstat(self._descriptor).st_size if self._descriptor >= 0 else 0

    @property
    def is_at_its_name(self) -> bool:
        """Whether the name still leads to the locked file."""
        if self._descriptor < 0:
            return True
        try:
            return os.path.samestat(os.fstat(self._descriptor), self.path.stat())
        except OSError:
            return False

    @property
    def now_at(self) -> Path | None:
        """The current path of the locked file; None if the file was deleted or the path can't be known."""
        with suppress(OSError):
            name = Path(f"/proc/self/fd/{self._descriptor}").readlink()
            if os.path.samestat(os.fstat(self._descriptor), name.stat()):
                return name
        return None

    @property
    def is_deleted(self) -> bool:
        """Whether the locked file has no name left, so that its content is lost when it is closed."""
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
        """Describe the process of this user that has the file open, and the name under which it opened the file."""
        ours = os.fstat(self._descriptor)
        for pid, number in _open_files():
            with suppress(OSError):
                if os.path.samestat(ours, os.stat(f"/proc/{pid}/fd/{number}")):  # noqa: PTH116 (follows the link)
                    name = Path(f"/proc/{pid}/fd/{number}").readlink()
                    under = "" if name == self.path.resolve() else f", under the name {name}"
                    return f"process {pid} on {socket.gethostname()} works on it{under}"
        return "another process works on the same file, perhaps under another name"


def hold(path: Path) -> Hold:
    """Take the writer's lock on a database; the operating system releases it when the process ends."""
    return Hold(path)


def _open_files() -> Iterator[tuple[int, str]]:
    """Yield (pid, descriptor number) of the files that other processes have open, as far as this user may see them."""
    for pid in psutil.pids():
        if pid != os.getpid():
            with suppress(OSError):
                yield from ((pid, number) for number in os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208
