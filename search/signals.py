"""Signals that ask a command to stop: they are noted, and the command stops at its next look."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import TypeAlias

Interruptions: TypeAlias = Callable[[], AbstractContextManager[Callable[[], int]]]
"""Makes a context that yields a function, which returns the number of a signal that asks a command to stop, or 0."""

# A second signal within this time after the first counts as the same one: Ctrl-C pressed twice.
DOUBLE_PRESS_S = 1.0


@contextmanager
def signals(*, double_press_s: float = DOUBLE_PRESS_S) -> Iterator[Callable[[], int]]:
    """Yield a function that returns the number of the first SIGINT, SIGTERM or SIGHUP, or 0; a later one ends the process.

    A closed terminal sends SIGHUP; under `nohup`, which ignores it, the command continues. Ctrl-C pressed twice within
    `double_press_s` counts once, so that the command still prints its last line.

    The handler does not raise: the main thread may be in a `__del__`, where Python drops the exception.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: 0  # only the main thread may set signal handlers
        return
    received: list[int] = []
    first = 0.0

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        nonlocal first
        if not received:
            received.append(number)
            first = time.monotonic()
        elif time.monotonic() - first > double_press_s:
            # Repeat it with the default action: end at once, with the right exit status. Databases are always consistent.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield lambda: received[0] if received else 0
    finally:
        # Ignore a second press of Ctrl-C while the command prints its last line.
        is_ending = received and time.monotonic() - first < double_press_s
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if is_ending else handler)
