"""Everything that a worker has started, ended with it: in sessions of their own, and with parents that are gone.

A worker carries a mark in its environment, which all its descendants inherit unless they are given another one; those that
are still below the worker are found by that.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import psutil

MARK = "MANYFIT_WORKER"
# What ends a descendant may meet one that is just starting another.
_ROUNDS = 5


def below(pid: int) -> list[psutil.Process]:
    """Return what a process and its children have started, as long as it lives."""
    with suppress(psutil.Error):
        return psutil.Process(pid).children(recursive=True)
    return []


def end(mark: str, known: list[psutil.Process], *, spare: int = 0) -> None:
    """End processes `known`, and all that carry a mark, with SIGKILL; but not the process `spare`."""
    for process in known:
        with suppress(psutil.Error):
            process.kill()  # psutil makes sure that the number is not another's by now
    for _ in range(_ROUNDS):
        marked = [pid for pid in psutil.pids() if pid != spare and _carries(pid, mark)]
        for pid in marked:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        if not marked:
            return


def _carries(pid: int, mark: str) -> bool:
    try:
        process = psutil.Process(pid)
        return process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, OSError):
        return False
