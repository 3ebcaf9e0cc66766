"""Write values as TOML, for suggestions in errors and for printed settings. The standard library only reads TOML."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def value(given: Any) -> str:
    """Return a value as one line of TOML, as it follows `key = `; ValueError for a type that TOML lacks."""
    if isinstance(given, bool):
        return str(given).lower()
    if isinstance(given, str):
        return json.dumps(given, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(given, int):
        return str(given)
    if isinstance(given, float):
        return repr(given)  # 1e-05, inf and nan are valid TOML
    if isinstance(given, list | tuple):
        return f"[{', '.join(map(value, given))}]"
    if isinstance(given, Mapping):
        entries = ", ".join(f"{key(name)} = {value(entry)}" for name, entry in given.items() if entry is not None)
        return f"{{ {entries} }}" if entries else "{}"
    raise ValueError(f"TOML has no {type(given).__name__}; received {given!r}")


def key(name: str) -> str:
    """Return a key as TOML writes it, in quotes if necessary."""
    return name if _BARE.fullmatch(name) else value(name)


def document(table: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a table of sections as TOML, one line for each key with a value."""
    sections = []
    for name, entries in table.items():
        lines = [f"{key(inner)} = {value(entry)}" for inner, entry in entries.items() if entry is not None]
        if lines:
            sections.append("\n".join([f"[{key(name)}]", *lines]))
    return "\n\n".join(sections)
