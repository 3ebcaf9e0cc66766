"""Values as people write them in a study file, each checked: ValueError says what to write instead."""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic import (
    BaseModel,
    ByteSize,
    TypeAdapter,
)

from search.spec import synonyms
from spaces import is_number

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", re.ASCII)


def _is_whole(value: Any, low: int) -> bool:
    return type(value) is int and value >= low


def objective(value: Any) -> Any:
    if isinstance(value, list | tuple):
        several = "a study has one objective; to weigh several, name a metric of your own, or make a study of each"
        raise ValueError(several)  # noqa: TRY004 (pydantic takes a ValueError)
    if isinstance(value, dict):
        names = [value[key] for key in ("name", "metric", "monitor", "objective") if isinstance(value.get(key), str)]
        goals = [value[key] for key in ("direction", "goal", "mode") if isinstance(value.get(key), str)]
        direction = synonyms.known_name(goals[0], ("maximize", "minimize")) if goals else None
        line = f'objective = "{names[0] if names else "val_accuracy"}"'
        line += f', direction = "{direction}"' if direction else ""
        raise ValueError(f"must be a metric's name; write {line}")  # noqa: TRY004
    return value


def seconds(value: Any) -> Any:
    if isinstance(value, str) and (match := _DURATION.fullmatch(value.strip())) and any(match.groups()):
        hours, minutes, seconds = (float(part or 0) for part in match.groups())
        value = hours * 3600 + minutes * 60 + seconds
    if not is_number(value) or value <= 0:
        raise ValueError('must be a number of seconds above 0 or a text such as "90s", "10m", "1h30m"')
    return value


def named_table(value: Any) -> Any:
    """Accept `sampler = "tpe"` as short for `sampler = { name = "tpe" }`."""
    table = {"name": value} if isinstance(value, str) else value
    if isinstance(table, BaseModel) or (isinstance(table, dict) and isinstance(table.get("name"), str)):
        return table
    named = (
        [text for key in ("type", "kind", "class_name", "method") if isinstance(text := (table or {}).get(key), str)]
        if (isinstance(table, dict))
        else []
    )
    example = f'{{ name = "{named[0]}", ... }}' if named else '{ name = "...", ... }'
    raise ValueError(f"must be a name, or a table of a name and its options, such as {example}")


def stopping_table(value: Any) -> Any:
    if value is None or isinstance(value, dict | BaseModel):
        return value
    patience = value if _is_whole(value, 1) else 5
    hint = "leave it out" if value is False else f"write early_stopping = {{ patience = {patience} }}"
    raise ValueError(f"must be a table; {hint}")


def devices(value: Any) -> Any:
    if isinstance(value, list | tuple):
        if value and all(device == "cpu" or _is_whole(device, 0) for device in value):
            return tuple(value)
    elif value == "auto" or _is_whole(value, 1):
        return value
    raise ValueError('must be "auto", how many of them, or a list of GPUs\' numbers and "cpu", such as [0, 1]')


def lanes(value: Any) -> Any:
    if value == "auto" or _is_whole(value, 1):
        return value
    raise ValueError('must be "auto", or how many trials are to train at a time')


def engine(value: Any) -> Any:
    # Other packages may add engines, so `search.reading.studyfile` checks the name against the registry.
    if not isinstance(value, str):
        raise ValueError("must be 'auto', 'fit' or 'lanes'")  # noqa: TRY004 (pydantic takes a ValueError)
    return value


def image_size(value: Any) -> Any:
    if value is None or (isinstance(value, list | tuple) and len(value) == 2 and all(_is_whole(v, 1) for v in value)):
        return value
    raise ValueError("must be [height, width], two whole numbers of at least 1")


def _bytes(value: Any) -> int:
    try:
        size = 0 if isinstance(value, bool | float) else TypeAdapter(ByteSize).validate_python(value)
    except ValueError:
        size = 0
    return int(size)


def memory(value: Any) -> Any:
    if value == "auto":
        return value
    if (size := _bytes(value)) <= 0:
        raise ValueError('must be "auto", a number of bytes, or a text such as "6GB" or "512MiB"')
    return size


def disk(value: Any) -> int:
    if (size := _bytes(value)) <= 0:
        raise ValueError('must be a number of bytes, or a text such as "2GB" or "500MB"')
    return size


def class_weight(value: Any) -> Any:
    if value == "balanced" or value is None:
        return value
    if isinstance(value, dict) and value and all(is_number(weight) and weight >= 0 for weight in value.values()):
        return {name: float(weight) for name, weight in value.items()}
    raise ValueError('must be "balanced" or a table of classes and numbers of at least 0, such as { cat = 2.0 }')


def _is_keras_object(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, dict) and isinstance(value.get("name"), str))


def is_by_output(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and "name" not in value


def loss(value: Any) -> Any:
    each_output = is_by_output(value) and all(map(_is_keras_object, value.values()))
    if value is not None and not _is_keras_object(value) and not each_output:
        raise ValueError(
            'must be a name, "file.py:function", a table such as { name = "huber", delta = 0.5 }, or one of these for each '
            'output, such as { price = "mse", sold = "binary_crossentropy" }'
        )
    return value


def metrics(value: Any) -> Any:
    if (
        value is not None
        and not _is_metrics(value)
        and not (is_by_output(value) and all(map(_is_metrics, value.values())))
    ):
        raise ValueError(
            'must be a list of names, "file.py:function", or tables such as { name = "SparseTopKCategoricalAccuracy", '
            'k = 3 }; or such a list for each output: { price = ["mae"], sold = ["auc"] }'
        )
    return value


def callbacks(value: Any) -> Any:
    if not (isinstance(value, list | tuple) and all(map(_is_keras_object, value))):
        raise ValueError(
            'must be a list of "file.py:function", names of Keras\'s callbacks, or tables such as '
            '{ name = "ReduceLROnPlateau", patience = 3 }'
        )
    return value


def _is_metrics(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(map(_is_keras_object, value))


def loss_weights(value: Any) -> Any:
    if value is None or (is_by_output(value) and all(is_number(weight) and weight >= 0 for weight in value.values())):
        return value and {name: float(weight) for name, weight in value.items()}
    raise ValueError("must be a table of outputs and numbers of at least 0, such as { price = 0.5, sold = 1.0 }")


def plain(value: Any) -> Any:
    """Refuse values that JSON can't store and restore unchanged: dates, inf, nan."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        raise ValueError("must be a text, finite number, boolean, or a list or table of these") from None
    return value
