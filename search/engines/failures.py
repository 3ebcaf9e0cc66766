"""What an exception out of a user's code is called and shown as."""

from __future__ import annotations

import traceback

_OURS = tuple(
    f"engines/{name}.py" for name in ("fit", "memory", "training", "lanes/engine", "lanes/builder", "lanes/program")
)


# What is kept of an exception: a message may hold an array, or the whole of a file.
MOST_WORDS = 500
MOST_LINE = 2_000
MOST_TRACE = 20_000


def one_line(error: BaseException) -> str:
    """Name an exception in one line."""
    lines = [line for line in message(error).strip().splitlines() if line.strip()]
    if lines and lines[0].startswith("Graph execution error"):
        # TensorFlow puts the cause last, above the node that it came from.
        lines = [line for line in lines if not line.lstrip().startswith(("[[", "Stack trace"))][-1:]
    name = type(error).__name__
    return f"{name}: {lines[0].strip()}"[:MOST_WORDS] if lines else name[:MOST_WORDS]


def trace(error: BaseException) -> str:
    """Return the traceback without the frames of ours above the user's code."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [i for i, frame in enumerate(frames) if not frame.filename.endswith(_OURS)]
    first = theirs[0] if theirs else 0
    shown = [*traceback.format_list(frames[first:]), *traceback.format_exception_only(error)]
    return "Traceback (most recent call last):\n" + shortened("".join(shown))


def shortened(text: str, most: int = MOST_TRACE) -> str:
    """Return a text of many lines with the middle of long lines, and of all of it, left out; short ones as they are."""
    if len(text) <= min(MOST_LINE, most):
        return text
    # Lines are looked at only where they can be shown.
    if len(text) > 2 * most:
        text = _cut(text, 2 * most)
    lines = [line if len(line) <= MOST_LINE else _cut(line, MOST_LINE) for line in text.split("\n")]
    text = "\n".join(lines)
    return text if len(text) <= most else _cut(text, most)


def _cut(text: str, most: int) -> str:
    half = most // 2
    return f"{text[:half]} ... ({len(text) - 2 * half:,} characters left out) ... {text[-half:]}"


def message(error: BaseException) -> str:
    """Return what an exception says, the middle of a very long message left out; some can't say anything."""
    try:
        text = str(error)
        # The cause may stand first or last.
        return text if len(text) <= 10 * MOST_TRACE else f"{text[: 5 * MOST_TRACE]}\n{text[-5 * MOST_TRACE :]}"
    except BaseException:  # noqa: BLE001 (the user's class of exceptions)
        return "its message can't be made"
