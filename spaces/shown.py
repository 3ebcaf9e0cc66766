"""Write a received value for an error message, as a TOML file has it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime, time
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def shown(value: Any) -> str:
    """Return a value as text: `true`, not True; `1979-05-27`, not datetime.date(1979, 5, 27)."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime | date | time):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(shown, value))}]"
    if isinstance(value, Mapping):
        entries = [
            f"{key if _BARE.fullmatch(str(key)) else repr(key)} = {shown(inner)}" for key, inner in value.items()
        ]
        return f"{{ {', '.join(entries)} }}" if entries else "{}"
    return repr(value)  # a text in single quotes, inf and nan are TOML
