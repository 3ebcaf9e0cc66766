"""How an exception from a user's code is named and printed."""

from __future__ import annotations

import re
import traceback

# The modules through which an exception of the user's code passes.
_MODULES = (
    "fit", "model_memory", "training", "lanes/engine", "lanes/builder", "lanes/program", "lanes/programs",
    "hypermodels/adapter", "hypermodels/own_fit",
)  # fmt: skip
_OURS = tuple(f"engines/{name}.py" for name in _MODULES)
# The most characters to keep of an exception: a message may contain an array or a whole file.
MOST_WORDS = 500
MOST_LINE = 2_000
MOST_TRACE = 20_000
_IN_A_LAYER = re.compile(r"Exception encountered when calling (.+?)\.\s+\x1b\[1m(.+?)\x1b\[0m\s", re.DOTALL)


def one_line(error: BaseException) -> str:
    """Name an exception in one line."""
    lines = [line for line in cause(error).strip().splitlines() if line.strip()]
    if lines and lines[0].startswith("Graph execution error"):
        # TensorFlow puts the cause last, before the lines of its node.
        lines = [line for line in lines if not line.lstrip().startswith(("[[", "Stack trace"))][-1:]
    name = type(error).__name__
    return f"{name}: {lines[0].strip()}"[:MOST_WORDS] if lines else name[:MOST_WORDS]


def trace(error: BaseException) -> str:
    """Return the traceback without our own frames above the user's code."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [i for i, frame in enumerate(frames) if not frame.filename.endswith(_OURS)]
    first = theirs[0] if theirs else 0
    shown = [*traceback.format_list(frames[first:]), *traceback.format_exception_only(error)]
    return "Traceback (most recent call last):\n" + shortened("".join(shown))


def shortened(text: str, most: int = MOST_TRACE) -> str:
    """Return a text without the middle of long lines and, if it is still too long, without its own middle."""
    if len(text) <= min(MOST_LINE, most):
        return text
    # Cut the text first, so that only lines that may be shown are processed.
    if len(text) > 2 * most:
        text = _cut(text, 2 * most)
    lines = [line if len(line) <= MOST_LINE else _cut(line, MOST_LINE) for line in text.split("\n")]
    text = "\n".join(lines)
    return text if len(text) <= most else _cut(text, most)


def _cut(text: str, most: int) -> str:
    half = most // 2
    return f"{text[:half]} ... ({len(text) - 2 * half:,} characters left out) ... {text[-half:]}"


def cause(error: BaseException) -> str:
    """Return an exception's message without what Keras writes around that of a layer's call."""
    text = message(error)
    if (wrapped := _IN_A_LAYER.match(text)) is None:
        return text
    first, *others = wrapped[2].strip().splitlines() or [""]
    return "\n".join([f"{first} (in {wrapped[1]})", *others])


def message(error: BaseException) -> str:
    """Return an exception's message, without the middle if it is very long; a fixed text if `str` fails."""
    try:
        text = str(error)
        # Keep both ends: the cause may be first or last.
        return text if len(text) <= 10 * MOST_TRACE else f"{text[: 5 * MOST_TRACE]}\n{text[-5 * MOST_TRACE :]}"
    except BaseException:  # noqa: BLE001 (the user's class of exceptions)
        return "its message can't be made"
