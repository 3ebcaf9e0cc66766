"""Parameter ranges in the form of other tools: recognize them, and suggest the form to write instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search.reading import tomltext
from search.spec import synonyms
from spaces import is_number

KEYS = ("low", "high", "log", "step", "choices", "when")
# Keys whose value is a list of both bounds.
_PAIR_KEYS = ("bounds", "range", "interval", "uniform", "loguniform", "log_uniform", "limits", "randint", "quniform")
_TYPE_KEYS = ("type", "distribution", "sampling", "prior", "scale", "dtype", "kind", "name", "_type")
_FIXED_KEYS = ("value", "fixed", "const", "constant", "default")


def first_unknown_key(entry: Mapping[str, Any]) -> str | None:
    """Return the first key of a parameter's table that is unknown here; None if all are known."""
    return next((key for key in entry if key not in KEYS), None)


def suggest(name: str, entry: Mapping[str, Any]) -> str:
    """Return what to write for the parameter `name`; "" if its table can't be understood."""
    if fixed := _suggest_fixed(name, entry):
        return fixed
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
