"""The moments of a write at which a test ends the process, to show that the next start repairs what it finds.

MANYFIT_KILL_AT=7 ends the process as `kill -9` would at the seventh write point that it reaches, "before a commit+7" at the
seventh from the first of that name on. What it starts does not hear of it. Only tests set it.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys

_from, _, _count = os.environ.pop("MANYFIT_KILL_AT", "").rpartition("+")
_KILL_AT = int(_count or 0)
_not_before = {_from} - {""}
_reached = itertools.count(1)


def reached(name: str) -> None:
    """Tell that a write has come to the point `name`. Costs one comparison and does nothing unless a test asked."""
    if not _KILL_AT:
        return
    _not_before.discard(name)
    if not _not_before and next(_reached) == _KILL_AT:
        print(f"killed {name}", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
