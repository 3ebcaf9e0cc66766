"""What an unknown key of a study file was probably meant to be, and where that stands."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence

from pydantic import BaseModel

from models.arguments import BUILDERS
from search.spec import synonyms
from search.spec.settings import EarlyStopping, Settings
from search.spec.vocabulary import TRAIN_NUMBERS, closest

_WORTH_SAYING = {
    "space": "parameters go under [space]",
    "search": "sampler, pruner and early_stopping go under [search]",
}


def unknown_key(location: Sequence[str]) -> str:
    """Return what to say behind "unknown key" of a key at `location` (section, key, ...), or nothing."""
    name = location[-1]
    if len(location) == 1:
        return _unknown_section(name)
    known = _keys(location[:-1])
    if not known:
        return ""
    return elsewhere_or_here(name, known, location[0])


def elsewhere_or_here(name: str, known: Sequence[str], section: str) -> str:
    """Say which of the `known` keys of a section, or of another one, is meant by `name`, or why there is none; or nothing."""
    return (
        (closest(name, known) if synonyms.ours(name, known) else "")
        or home_of(name, except_for=section)
        or _absent(name)
        or _home_of_synonym(name, except_for=section)
        or closest(name, known)
        or _likeness_elsewhere(name, except_for=section)
    )


def home_of(key: str, *, except_for: str = "") -> str:
    """Say under which section a misplaced key belongs, or nothing."""
    for section, names in sections():
        if key in names and section != except_for:
            return f"; {key} belongs under [{section}]"
    return ""


def _unknown_section(name: str) -> str:
    if meant := synonyms.ours(name, Settings.model_fields):
        why = _WORTH_SAYING.get(meant, f"[{meant}] is that section")
        return f"; did you mean {meant!r}? ({why})"
    return (
        home_of(name) or closest(name, Settings.model_fields) or _absent(name) or _home_of_synonym(name, except_for="")
    )


def _absent(name: str) -> str:
    return f"; {why}" if (why := synonyms.absent(name)) else ""


def _home_of_synonym(name: str, *, except_for: str) -> str:
    for section, names in sections():
        if section != except_for and (meant := synonyms.ours(name, names)):
            return f"; did you mean {meant!r}? That belongs under [{section}]"
    return ""


def _likeness_elsewhere(name: str, *, except_for: str) -> str:
    for section, names in sections():
        if section != except_for and (near := difflib.get_close_matches(name, names, n=1, cutoff=0.8)):
            return f"; did you mean {near[0]!r}? That belongs under [{section}]"
    return ""


def sections() -> Iterator[tuple[str, list[str]]]:
    """Yield every section with its keys: the arguments of built-in builders and the numbers of training are among them."""
    for name, field in Settings.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            extra = TRAIN_NUMBERS if name == "train" else {}
            yield name, [*kind.model_fields, *extra]
    yield "model", list(dict.fromkeys(name for arguments in BUILDERS.values() for name in arguments))


def _keys(path: Sequence[str]) -> list[str]:
    kind: type[BaseModel] = Settings
    for part in path:
        field = kind.model_fields.get(part)
        annotation = EarlyStopping if part == "early_stopping" else field.annotation if field else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        kind = annotation
    return list(kind.model_fields)


def misnamed(name: str, space: Mapping[str, object], known: Sequence[str]) -> str | None:
    """Return the parameter of `space` that is probably a misspelt `name`; None if `name` is not known or none is like it."""
    if name not in known:
        return None
    strangers = [parameter for parameter in space if parameter not in known]
    if meant := next((s for s in strangers if synonyms.ours(s, [name])), None):
        return meant
    near = difflib.get_close_matches(name, strangers, n=1)
    return near[0] if near else None
