"""Failpoints: named steps of a write at which a test kills the process, to prove that the next start repairs the files.

MANYFIT_KILL_AT=7 kills the process, as `kill -9` does, at its seventh failpoint. With "before a commit+7" the count starts at
the first failpoint of that name. Child processes do not inherit the variable. Only tests set it.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys

_from, _, _count = os.environ.pop("MANYFIT_KILL_AT", "").rpartition("+")
_KILL_AT = int(_count or 0)
_awaited = {_from} - {""}
_passed = itertools.count(1)


def failpoint(name: str) -> None:
    """Kill the process here if a test chose this failpoint; otherwise do nothing, at the cost of one comparison."""
    if not _KILL_AT:
        return
    _awaited.discard(name)
    if not _awaited and next(_passed) == _KILL_AT:
        print(f"killed {name}", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
