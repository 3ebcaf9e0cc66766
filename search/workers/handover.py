"""Hands the objects of a Python program to its workers, in memory that only these processes can open.

The program pickles its objects (`search.python.handing`), the coordinator writes them into memory without a name, and each
worker inherits the descriptor. The parcels are, in this order: a pickle of the folders of the program's modules and of the
source of notebook cells; a pickle of the objects, of what the worker's main module gets, and of the hashes; the buffers of
the second pickle (PEP 574). Nothing pickled is ever in a file that another process can
write, nor in a database: docs/decisions/0021.
"""

from __future__ import annotations

import fcntl
import linecache
import mmap
import os
import pickle
import struct
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from search.errors import UsageError
from search.spec import usercode
from search.spec.given import Given

# Arrays begin at multiples of this many bytes: vector instructions want that.
_ALIGNMENT = 64
_NUMBER = struct.Struct("<Q")


@contextmanager
def shared(given: Given | None) -> Iterator[int | None]:
    """Yield a descriptor of memory with the pickled objects of a program, for workers to inherit; None without objects."""
    if given is None or not given.parcels:
        yield None
        return
    descriptor = _memory()
    try:
        _write(descriptor, given.parcels)
        _seal(descriptor)
        yield descriptor
    finally:
        os.close(descriptor)


def take(descriptor: int) -> dict[str, str]:
    """Unpickle what `shared` wrote and make it known to this process; return the hashes of the code among it.

    Raises UsageError if that can't be done, such as for a module that the program has and this process can't import.
    """
    # A private map: a function that writes into an array of its closure changes its own copy.
    whole = memoryview(mmap.mmap(descriptor, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE))
    os.close(descriptor)
    # The folders and the source come first: unpickling imports modules, and an error in one needs its lines.
    around, body, *buffers = _parts(whole)
    folders, lines = pickle.loads(around)  # noqa: S301 (written by the program that started this process)
    usercode.prefer_folders(map(Path, folders))
    for name, text in lines.items():
        linecache.cache[name] = (sum(map(len, text)), None, list(text), name)
    try:
        objects, main, hashes = pickle.loads(body, buffers=buffers)  # noqa: S301 (as above)
    except (Exception, SystemExit) as error:  # the user's modules may raise anything when they are imported
        raise UsageError(
            f"the objects of the program can't be taken over by a worker: {type(error).__name__}: {error}; what they need "
            "must be importable in a fresh process, or be made inside the function"
        ) from error
    usercode.give(objects)
    for name, value in main.items():
        vars(sys.modules["__main__"]).setdefault(name, value)
    return dict(hashes)


def _memory() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("manyfit", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with tempfile.TemporaryFile() as file:  # without a name, too
        return os.dup(file.fileno())


def _seal(descriptor: int) -> None:
    """Make the memory unchangeable where the system can: not even a process of the same user changes it then."""
    if hasattr(os, "memfd_create"):
        fcntl.fcntl(
            descriptor,
            fcntl.F_ADD_SEALS,
            fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL,
        )


def _write(descriptor: int, parcels: Sequence[Any]) -> None:
    views = [memoryview(parcel).cast("B") for parcel in parcels]
    header = b"".join(_NUMBER.pack(number) for number in (len(views), *(len(view) for view in views)))
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(header)
            for view in views:
                file.write(bytes(-file.tell() % _ALIGNMENT))
                file.write(view)
            file.flush()
    except OSError as error:
        size = sum(map(len, views))
        raise UsageError(
            f"the data can't be handed to the workers: {error.strerror or error} ({size:,} bytes); give a file or a data "
            "function instead"
        ) from None


def _parts(whole: memoryview) -> Iterator[memoryview]:
    (count,) = _NUMBER.unpack_from(whole)
    lengths = [_NUMBER.unpack_from(whole, _NUMBER.size * (1 + index))[0] for index in range(count)]
    at = _NUMBER.size * (1 + count)
    for length in lengths:
        at += -at % _ALIGNMENT
        yield whole[at : at + length]
        at += length
