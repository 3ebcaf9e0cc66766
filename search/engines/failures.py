"""What an exception out of a user's code is called and shown as."""

from __future__ import annotations

import traceback

_OURS = tuple(
    f"engines/{name}.py" for name in ("fit", "memory", "training", "lanes/engine", "lanes/builder", "lanes/program")
)


def one_line(error: BaseException) -> str:
    """Name an exception in one line."""
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    if lines and lines[0].startswith("Graph execution error"):
        # TensorFlow puts the cause last, above the node that it came from.
        lines = [line for line in lines if not line.lstrip().startswith(("[[", "Stack trace"))][-1:]
    return f"{type(error).__name__}: {lines[0].strip()}"[:500] if lines else type(error).__name__


def trace(error: BaseException) -> str:
    """Return the traceback without the frames of ours above the user's code."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [i for i, frame in enumerate(frames) if not frame.filename.endswith(_OURS)]
    first = theirs[0] if theirs else 0
    shown = traceback.format_list(frames[first:]) + traceback.format_exception_only(error)
    return "Traceback (most recent call last):\n" + "".join(shown)
