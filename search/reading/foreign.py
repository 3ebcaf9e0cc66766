"""Ranges as other tools write them -> the same as this one reads them: what an error says to write instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search.reading import tomltext
from search.spec import synonyms
from spaces import is_number

KEYS = ("low", "high", "log", "step", "choices", "when")
# Both bounds in one list.
_PAIRS = ("bounds", "range", "interval", "uniform", "loguniform", "log_uniform", "limits", "randint", "quniform")
_KINDS = ("type", "distribution", "sampling", "prior", "scale", "dtype", "kind", "name", "_type")
_VALUE = ("value", "fixed", "const", "constant", "default")


def foreign_key(entry: Mapping[str, Any]) -> str | None:
    """Return the first key of a parameter's table that is none of ours; None if all are."""
    return next((key for key in entry if key not in KEYS), None)


def rewritten(name: str, entry: Mapping[str, Any]) -> str:
    """Return how to write the parameter `name`, or nothing where its table can't be understood."""
    if fixed := _fixed(name, entry):
        return fixed
    found: dict[str, Any] = {}
    kinds: list[str] = []
    for key, value in entry.items():
        if key in KEYS:
            found[key] = value
        elif key in _PAIRS and isinstance(value, list) and len(value) == 2:
            found["low"], found["high"] = value
            kinds.append(key)
        elif key in _KINDS and isinstance(value, str):
            kinds.append(value)
        elif key in _VALUE:
            continue
        elif (ours := synonyms.ours(key, KEYS)) and ours not in found:
            found[ours] = value
        else:
            return ""
    return _written(name, found, " ".join(kinds).lower())


def _fixed(name: str, entry: Mapping[str, Any]) -> str:
    if set(entry) - {*_VALUE, *_KINDS, "distribution"} or not (given := [key for key in _VALUE if key in entry]):
        return ""
    return f"a fixed value stands under [train] or [model]: {_line(name, entry[given[0]])}"


def _written(name: str, found: dict[str, Any], kinds: str) -> str:
    when = {"when": found["when"]} if isinstance(found.get("when"), dict) else {}
    choices = found.get("choices")
    if isinstance(choices, list) and not {"low", "high"} & set(found):
        return f"write {_line(name, {'choices': choices, **when} if when else choices)}"
    low: Any = found.get("low")
    high: Any = found.get("high")
    if not (is_number(low) and is_number(high)):
        return ""
    if any(word in kinds for word in ("float", "real", "uniform", "double")) and not any(
        w in kinds for w in ("int", "q")
    ):
        low, high = float(low), float(high)
    log = "log" in kinds or found.get("log") is True or (isinstance(found.get("log"), str) and "log" in found["log"])
    step = found.get("step") if is_number(found.get("step")) and not log else None
    form = {"low": low, "high": high, "log": True if log else None, "step": step, **when}
    return f"write {_line(name, form)}"


def _line(name: str, value: Any) -> str:
    try:
        return f"{tomltext.key(name)} = {tomltext.value(value)}"
    except ValueError:
        return ""
