"""Wait for the reply of a process that does one order, such as to find a space or to predict rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from search.errors import DataError, Interrupted, UsageError
from search.workers.local import Process
from search.workers.messages import Refused
from search.workers.transport import Gone

_TICK_S = 0.1


def reply(process: Process, what: str, stopped: str = "", interruption: Callable[[], int] = lambda: 0) -> Any:
    """Return the next reply of a process; the caller ends the process.

    Raises UsageError or DataError if it refuses the order or dies, `what` being what it does, in the past tense; Interrupted
    with the message `stopped` if `interruption` returns the number of a signal.
    """
    try:
        while not process.has_sent(within_s=_TICK_S):
            if number := interruption():
                raise Interrupted(stopped, number)
        (answer,) = process.receive()
    except Gone:
        process.process.wait()
        words = f":\n{process.last_words}" if process.last_words else ""
        raise UsageError(f"the process that {what} {process.death}{words}") from None
    if isinstance(answer, Refused):
        raise DataError(answer.message) if answer.is_data else UsageError(answer.message)
    return answer
