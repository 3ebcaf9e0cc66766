"""What every call of the Python interface does first and last: our packages' names, short errors, and SIGINT."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from manyfit.start import own_packages
from search.errors import Interrupted, ManyfitError
from search.python.arguments import in_python
from search.signals import DOUBLE_PRESS_S

# How long a study that has seen a signal may take to end before another signal interrupts it there.
ENDING_S = 10.0


@contextmanager
def edge() -> Iterator[None]:
    """Run a call with our packages under their names, and raise its errors in Python's words, without our frames.

    A study that SIGINT has stopped raises KeyboardInterrupt, as any interrupted call does: the next cell must not run.
    """
    with own_packages():
        try:
            yield
        except Interrupted as error:
            raise KeyboardInterrupt(in_python(str(error))) from None
        except ManyfitError as error:
            raise _shortened(error) from None


def _shortened(error: ManyfitError) -> ManyfitError:
    """Return an equal error that carries none of our frames."""
    copy = type(error).__new__(type(error))
    copy.args = (in_python(str(error)), *error.args[1:])
    vars(copy).update(vars(error))
    return copy


@contextmanager
def interrupts() -> Iterator[Callable[[], int]]:
    """Yield a function that returns SIGINT once the signal has come, else 0; a later one raises KeyboardInterrupt.

    Once the function has returned SIGINT, the study stores what there is and ends its workers. An exception in the middle of
    that could leave the database locked in this process, so that later signals wait for it, `ENDING_S` at most.

    The command line ends its process at a second signal and ignores signals at its end. The kernel of a notebook must survive
    both. Other signals are the program's own affair.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: 0  # only the main thread may set signal handlers
        return
    received: list[float] = []
    seen: list[float] = []

    def look() -> int:
        if not received:
            return 0
        if not seen:
            seen.append(time.monotonic())
        return int(signal.SIGINT)

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        now = time.monotonic()
        if not received:
            received.append(now)
        elif now - (seen or received)[0] > (ENDING_S if seen else DOUBLE_PRESS_S):
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield look
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler if before is None else before)
