"""Kills every process that a worker started, including daemons and processes in sessions of their own.

A worker has a tag in its environment. Its descendants inherit the tag, unless they get a new environment: those are known
only as children of the worker, while it runs.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import psutil

TAG = "MANYFIT_WORKER"
# A process that is killed may just have started another one, so search for the tag several times.
_ROUNDS = 5


def find(pid: int) -> list[psutil.Process]:
    """Return the descendants of a running process; none if it has ended."""
    with suppress(psutil.Error):
        return psutil.Process(pid).children(recursive=True)
    return []


def kill(tag: str, known: list[psutil.Process], *, spare: int = 0) -> None:
    """Kill the processes `known` and all processes with a tag by SIGKILL, except the process `spare`."""
    for process in known:
        with suppress(psutil.Error):
            process.kill()  # psutil checks that the pid was not reused
    for _ in range(_ROUNDS):
        tagged = [pid for pid in psutil.pids() if pid != spare and _has_tag(pid, tag)]
        for pid in tagged:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        if not tagged:
            return


def _has_tag(pid: int, tag: str) -> bool:
    try:
        process = psutil.Process(pid)
        return process.environ().get(TAG) == tag and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, OSError):
        return False
