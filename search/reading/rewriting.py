"""The line to write instead of a value that a section refuses, if the value shows what is meant."""

from __future__ import annotations

import math
import re
from typing import Any

from search.reading import tomltext

_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_DURATION = re.compile(
    r"(?:\d+(?:\.\d+)?\s*(?:d(?:ays?)?|h(?:ours?|rs?)?|m(?:in(?:ute)?s?)?|s(?:ec(?:ond)?s?)?)[\s,]*)+"
)
_CLOCK = re.compile(r"(\d{1,3}):([0-5]\d):([0-5]\d)")
# A longer line would hide what is wrong.
_LONGEST = 120


def suggest(key: str, kind: str, received: Any) -> str:
    """Return "; write ..." for a value of the dotted `key`, refused with pydantic's `kind` of error; "" if unclear."""
    section, _, name = key.rpartition(".")
    try:
        line = _line(section, name, kind, received)
    except (ValueError, OverflowError):
        return ""
    return f"; write {line}" if line and len(line) <= _LONGEST else ""


def _line(section: str, name: str, kind: str, received: Any) -> str:
    if key_and_value := _OF_KEYS.get(f"{section}.{name}"):
        return key_and_value(name, received)
    if kind == "tuple_type" and isinstance(received, str | dict):
        return _assigned(name, [received])
    if kind in ("int_type", "float_type", "bool_type"):
        number = _number(received, is_whole=kind == "int_type")
        return (
            _assigned(name, number) if number is not None and (kind == "bool_type") == isinstance(number, bool) else ""
        )
    return ""


def _assigned(name: str, value: Any) -> str:
    return f"{tomltext.key(name)} = {tomltext.value(value)}"


def _number(received: Any, *, is_whole: bool) -> Any:
    """Return the number or boolean that a text holds, or the whole number of a float; None if there is none."""
    if isinstance(received, float) and is_whole and received.is_integer():
        return int(received)
    if not isinstance(received, str):
        return None
    text = received.strip()
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if is_whole:
        return int(text) if re.fullmatch(r"-?\d{1,18}", text) else None
    return float(text) if re.fullmatch(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d{1,3})?", text) else None


def _share(name: str, received: Any) -> str:
    if isinstance(received, str) and (percent := re.fullmatch(r"\s*(\d{1,2}(?:\.\d+)?)\s*%\s*", received)):
        return _assigned(name, float(f"{float(percent[1]) / 100:.10g}"))
    number = _number(received, is_whole=False)
    is_share = number is not None and not isinstance(number, bool) and 0 <= number < 1
    return _assigned(name, number) if is_share else ""


def _duration(name: str, received: Any) -> str:
    if not isinstance(received, str):
        return ""
    text = received.strip().lower()
    if clock := _CLOCK.fullmatch(text):
        seconds = float(int(clock[1]) * 3600 + int(clock[2]) * 60 + int(clock[3]))
    elif _DURATION.fullmatch(text):
        parts = re.findall(r"(\d+(?:\.\d+)?)\s*([dhms])", text)
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    elif re.fullmatch(r"\d+(?:\.\d+)?", text):
        seconds = float(text)
    else:
        return ""
    if not 0 < seconds < math.inf:
        return ""
    hours, rest = divmod(seconds, 3600)
    minutes, rest = divmod(rest, 60)
    parts_of_time = ((hours, "h"), (minutes, "m"), (rest, "s"))
    return _assigned(name, "".join(f"{number:.10g}{unit}" for number, unit in parts_of_time if number))


def _devices(name: str, received: Any) -> str:
    if isinstance(received, str) and re.fullmatch(r"\s*\d{1,4}(\s*,\s*\d{1,4})+\s*", received):
        return _assigned(name, [int(number) for number in received.split(",")])
    if isinstance(received, str) and re.fullmatch(r"[1-9]\d{0,3}", received):
        return _assigned(name, int(received))
    devices = received if isinstance(received, list | tuple) else [received]
    if not devices or not all(isinstance(device, str | int) and not isinstance(device, bool) for device in devices):
        return ""
    texts = [str(device).strip().lower() for device in devices]
    if len(texts) == 1 and texts[0] in ("gpu", "gpus", "cuda", "all", "any", "default", "tpu"):
        return _assigned(name, "auto")
    numbers = [re.fullmatch(r"(?:/?(?:device:)?(?:gpu|cuda):)?(\d{1,4})|cpu(?::0)?", text) for text in texts]
    if not all(numbers):
        return ""
    return _assigned(name, [int(match[1]) if match and match[1] else "cpu" for match in numbers])


def _optimizer(name: str, received: Any) -> str:
    """Return the lines for an optimizer with its numbers in one table, as in Keras's configs, or for a list to search."""
    if isinstance(received, list) and received and all(isinstance(entry, str) for entry in received):
        return f"{_assigned(name, received)} under [space]"
    if not isinstance(received, dict):
        return ""
    keys = [key for key in ("name", "class_name", "type") if isinstance(received.get(key), str)]
    config = received.get("config")
    options = {key: value for key, value in received.items() if key not in ("name", "class_name", "type", "config")}
    options |= {key: value for key, value in config.items() if key != "name"} if isinstance(config, dict) else {}
    if not keys:
        return ""
    lines = [_assigned(name, received[keys[0]]), *(_assigned(key, value) for key, value in options.items())]
    return f"{' and '.join([', '.join(lines[:-1]), lines[-1]] if len(lines) > 1 else lines)} under [train]"


def _listed(name: str, received: Any) -> str:
    is_entry = isinstance(received, str) or (isinstance(received, dict) and "name" in received)
    return _assigned(name, [received]) if is_entry else ""


_OF_KEYS = {
    "data.validation": _share,
    "data.test": _share,
    "study.time": _duration,
    "run.trial_time": _duration,
    "run.devices": _devices,
    "train.optimizer": _optimizer,
    "train.metrics": _listed,
    "train.callbacks": _listed,
}
