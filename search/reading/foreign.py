"""Parameter ranges in the form of other tools: recognize them, and suggest the form to write instead."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from search.reading import tomltext
from search.spec import synonyms
from spaces import is_number

KEYS = ("low", "high", "log", "step", "choices", "when")
# Keys whose value is a list of both bounds.
_PAIR_KEYS = ("bounds", "range", "interval", "uniform", "loguniform", "log_uniform", "limits", "randint", "quniform")
_TYPE_KEYS = ("type", "distribution", "sampling", "prior", "scale", "dtype", "kind", "name", "_type")
# Parts of the names of functions that make ranges: loguniform, randint, interval ...
_CALLS = ("uniform", "randint", "range", "interval", "int", "float", "real")
_FIXED_KEYS = ("value", "fixed", "const", "constant", "default")


def first_unknown_key(entry: Mapping[str, Any]) -> str | None:
    """Return the first key of a parameter's table that is unknown here; None if all are known."""
    return next((key for key in entry if key not in KEYS), None)


def suggest_for_text(name: str, text: str) -> str:
    """Return what to write for a parameter given as a call, such as "loguniform(1e-4, 1e-1)", or as "0.1,0.01"; or ""."""
    call = re.fullmatch(r"\s*(?:\w+\.)*(\w+)\s*\((.*)\)\s*", text)
    kind, listed = (call[1], call[2]) if call else ("choice", text)
    if not call and "," not in text:
        return ""
    values = [_literal(part.strip()) for part in listed.strip().strip("[]").split(",")]
    return _suggest_call(name, kind, [value for value in values if value != ""])


def _literal(text: str) -> Any:
    """Return the number, boolean or text that a word of Python stands for."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text.strip("\"'")


def _suggest_call(name: str, kind: str, values: list[Any]) -> str:
    kind = synonyms.plain(kind)
    if "choice" in kind or kind in ("categorical", "gridsearch", "oneof"):
        return f"write {_line(name, values)}" if values else ""
    if len(values) not in (2, 3) or not all(map(is_number, values)):
        return ""
    fields = {"low": values[0], "high": values[1], **({"step": values[2]} if len(values) == 3 else {})}
    return _suggest_range(name, fields, kind) if any(word in kind for word in _CALLS) else ""


def suggest(name: str, entry: Mapping[str, Any]) -> str:
    """Return what to write for the parameter `name`; "" if its table can't be understood."""
    if fixed := _suggest_fixed(name, entry):
        return fixed
    if set(entry) == {"_type", "_value"} and isinstance(entry["_value"], list):
        return _suggest_call(name, str(entry["_type"]), entry["_value"])
    fields: dict[str, Any] = {}
    types: list[str] = []
    for key, value in entry.items():
        if key in KEYS:
            fields[key] = value
        elif key in _PAIR_KEYS and isinstance(value, list) and len(value) == 2:
            fields["low"], fields["high"] = value
            types.append(key)
        elif key in _TYPE_KEYS and isinstance(value, str):
            types.append(value)
        elif key in _FIXED_KEYS:
            continue
        elif (known := synonyms.known_name(key, KEYS)) and known not in fields:
            fields[known] = value
        else:
            return ""
    return _suggest_range(name, fields, " ".join(types).lower())


def _suggest_fixed(name: str, entry: Mapping[str, Any]) -> str:
    if set(entry) - {*_FIXED_KEYS, *_TYPE_KEYS, "distribution"} or not (used := [k for k in _FIXED_KEYS if k in entry]):
        return ""
    return f"a fixed value stands under [train] or [model]: {_line(name, entry[used[0]])}"


def _suggest_range(name: str, fields: dict[str, Any], types: str) -> str:
    when = {"when": fields["when"]} if isinstance(fields.get("when"), dict) else {}
    choices = fields.get("choices")
    if isinstance(choices, list) and not {"low", "high"} & set(fields):
        return f"write {_line(name, {'choices': choices, **when} if when else choices)}"
    low: Any = fields.get("low")
    high: Any = fields.get("high")
    if not (is_number(low) and is_number(high)):
        return ""
    if any(word in types for word in ("float", "real", "uniform", "double")) and not any(
        word in types for word in ("int", "q")
    ):
        low, high = float(low), float(high)
    log = "log" in types or fields.get("log") is True or (isinstance(fields.get("log"), str) and "log" in fields["log"])
    step = fields.get("step") if is_number(fields.get("step")) and not log else None
    entry = {"low": low, "high": high, "log": True if log else None, "step": step, **when}
    return f"write {_line(name, entry)}"


def _line(name: str, value: Any) -> str:
    try:
        return f"{tomltext.key(name)} = {tomltext.value(value)}"
    except ValueError:
        return ""
