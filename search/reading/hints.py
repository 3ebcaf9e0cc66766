"""Hints for an unknown key of a study file: the key that was probably meant, and its section."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from models.arguments import BUILDERS
from search.spec import synonyms
from search.spec.settings import Columns, EarlyStopping, Settings, Text
from search.spec.vocabulary import TRAIN_NUMBERS, closest

_SECTION_HINTS = {
    "space": "parameters go under [space]",
    "search": "sampler, pruner and early_stopping go under [search]",
}


_OF_EARLY_STOPPING = {
    "monitor": "early stopping watches the study's objective: remove it",
    "metric": "early stopping watches the study's objective: remove it",
    "mode": "early stopping follows the direction of the study's objective: remove it",
    "baseline": "there is no such setting; start_from_epoch says when to begin to watch",
}


def unknown_key_hint(location: Sequence[str]) -> str:
    """Return the hint that follows "unknown key" in the error for `location` (section, key, ...); "" if there is none."""
    name = location[-1]
    if location[-2:-1] == ["early_stopping"] and name in _OF_EARLY_STOPPING:
        return f"; {_OF_EARLY_STOPPING[name]}"
    if len(location) == 1:
        return _unknown_section_hint(name)
    known = _keys(location[:-1])
    if not known:
        return ""
    return key_hint(name, known, location[0])


def key_hint(name: str, known: Sequence[str], section: str) -> str:
    """Return which key `name` means, in this section (`known`) or another, or why none exists; "" if that is unclear."""
    return (
        (closest(name, known) if synonyms.known_name(name, known) else "")
        or section_hint(name, except_for=section)
        or _absence_hint(name)
        or _synonym_hint(name, except_for=section)
        or closest(name, known)
        or _similar_key_hint(name, except_for=section)
    )


def section_hint(key: str, *, except_for: str = "") -> str:
    """Return which section a misplaced key belongs to; "" if no other section has it."""
    if key == "parameters":
        return "; ranges belong under [space], each as name = ..., and the most weights of a model under [limits]"
    for section, names in sections():
        if key in names and section != except_for:
            return f"; {key} belongs under [{section}]"
    return ""


def _unknown_section_hint(name: str) -> str:
    if meant := synonyms.known_name(name, Settings.model_fields):
        why = _SECTION_HINTS.get(meant, f"[{meant}] is that section")
        return f"; did you mean {meant!r}? ({why})"
    return section_hint(name) or closest(name, Settings.model_fields) or _absence_hint(name) or _synonym_hint(name)


def _absence_hint(name: str) -> str:
    return f"; {why}" if (why := synonyms.absence_reason(name)) else ""


def _synonym_hint(name: str, *, except_for: str = "") -> str:
    for section, names in sections():
        if section != except_for and (meant := synonyms.known_name(name, names)):
            return f"; did you mean {meant!r}? That belongs under [{section}]"
    return ""


def _similar_key_hint(name: str, *, except_for: str) -> str:
    for section, names in sections():
        if section != except_for and (near := difflib.get_close_matches(name, names, n=1, cutoff=0.8)):
            return f"; did you mean {near[0]!r}? That belongs under [{section}]"
    return ""


def sections() -> Iterator[tuple[str, list[str]]]:
    """Yield every section with its keys, including arguments of built-in builders and numbers of training."""
    for name, field in Settings.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            extra = TRAIN_NUMBERS if name == "train" else {}
            yield name, [*section.model_fields, *extra]
    yield "model", list(dict.fromkeys(name for arguments in BUILDERS.values() for name in arguments))


def _keys(path: Sequence[str]) -> list[str]:
    section: type[BaseModel] = Settings
    for part in path:
        field = section.model_fields.get(part)
        # The annotations of these name None, too.
        optional: dict[str, type[BaseModel]] = {"early_stopping": EarlyStopping, "columns": Columns, "text": Text}
        annotation: Any = optional.get(part) or (field.annotation if field else None)
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        section = annotation
    return list(section.model_fields)


def misspelling_of(name: str, space: Mapping[str, object], known: Sequence[str]) -> str | None:
    """Return the parameter of `space` that is probably a misspelling of the known name `name`; None if there is none."""
    if name not in known:
        return None
    unknown = [parameter for parameter in space if parameter not in known]
    if meant := next((s for s in unknown if synonyms.known_name(s, [name])), None):
        return meant
    near = difflib.get_close_matches(name, unknown, n=1)
    return near[0] if near else None
