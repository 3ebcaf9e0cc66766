"""Format numbers for people."""

from __future__ import annotations

_BARS = "▁▂▃▄▅▆▇█"


def duration(seconds: float) -> str:
    """Return a duration in seconds as text."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, hours = seconds / 60, seconds / 3600
    return f"{minutes:.0f} min" if hours < 1 else f"{int(hours)} h {int(minutes % 60):02d} min"


def size(count: int) -> str:
    """Return a number of bytes as text."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def number(value: float | None) -> str:
    """Return a metric as text, with enough digits to compare two trials."""
    return "-" if value is None else f"{value:.5g}"


def short(value: object) -> str:
    """Return a parameter's value as short text."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def sparkline(values: list[float | None], width: int = 24) -> str:
    """Draw the last `width` epochs of a curve as one line of bars."""
    known = [value for value in values if value is not None][-width:]
    if not known:
        return ""
    low, high = min(known), max(known)
    span = high - low or 1.0
    return "".join(_BARS[round((value - low) / span * (len(_BARS) - 1))] for value in known)
