"""`manyfit run --widen`: a stored study with wider ranges, which learns from the trials of the narrow one."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from search.errors import UsageError
from search.reading import studyfile, tomltext
from search.spec.names import checked_name
from search.spec.study import StudyFile
from search.spec.vocabulary import closest
from search.storage import records
from search.storage.studies import Stored
from spaces import Choice, Parameter, SpaceError, shown

_FORM = "space.dropout.high=0.7, or space.units=[64, 128, 256]"


def widened(stored: Stored, base: Path | None, widenings: Sequence[str], overrides: Sequence[str]) -> StudyFile:
    """Return the study with wider ranges, as it is stored if it has begun; it is in the database of the narrow one.

    Its name is that of the narrow one and what is widened, so that the same command goes on with it.

    Args:
        base: the study file, where it is at hand: paths are relative to it.
        widenings: `space.NAME.low=VALUE`, `space.NAME.high=VALUE`, or `space.NAME=[...]`.
        overrides: the `key.path=value` of `--set`.

    Raises UsageError for a change that does not widen a range.
    """
    if stored.file.settings.search.candidates:
        raise UsageError(
            f"--widen: {stored.name!r} chooses among given configs (search.candidates); list others in a new study, which "
            "may learn from it (search.learn_from)"
        )
    for parameter, _, _ in map(_parts, widenings):
        if parameter not in stored.file.space:
            known = ", ".join(stored.file.space)
            hint = closest(parameter, stored.file.space)
            raise UsageError(f"--widen: no parameter {parameter!r}{hint}; the study searches {known}")
    narrow = stored.file if base is None else replace(stored.file, path=base.resolve())
    named = [f"study.name={tomltext.value(_name(stored.name, widenings))}", *widenings, *overrides]
    wide = studyfile.stored_with(narrow, stored.path, named)
    begun = records.find(stored.path, wide.name, with_trials=False)
    if begun is not None:
        if begun.file.space.describe() != wide.space.describe():
            raise UsageError(
                f"--widen: {stored.path} has a study {wide.name!r} already, with another space; give this one a name: "
                "--set study.name=NEW"
            )
        return studyfile.stored_with(begun.file, stored.path, overrides)
    _check(narrow, wide, [_parts(widening)[0] for widening in widenings])
    knowledge = {
        "learn_from": {"database": os.path.relpath(stored.path, narrow.base), "study": stored.name},
        "start": [narrow.space.config(trial.params) for trial in stored.complete[:1]],
    }
    lines = [f"search.{key}={tomltext.value(value)}" for key, value in knowledge.items()]
    return studyfile.stored_with(narrow, stored.path, [*lines, *named])


def _check(narrow: StudyFile, wide: StudyFile, parameters: Sequence[str]) -> None:
    for name in parameters:
        if not _is_wider(narrow.space[name], wide.space[name]):
            had, gets = (shown(file.space.describe()[name]) for file in (narrow, wide))
            raise UsageError(
                f"--widen: what {name} had must stay within what it gets; it had {had}, and gets {gets}; to search another "
                "space, write --set and another --name"
            )


def _parts(widening: str) -> tuple[str, str, str]:
    """Return (parameter, key or "", value) of `space.NAME.KEY=VALUE`."""
    key, _, value = widening.partition("=")
    section, _, rest = key.strip().partition(".")
    parameter, _, bound = rest.partition(".")
    if section.strip() != "space" or not parameter or bound not in ("", "low", "high", "choices") or not value.strip():
        raise UsageError(f"--widen takes {_FORM}; received {widening}")
    return parameter, bound, value.strip()


def _name(narrow: str, widenings: Sequence[str]) -> str:
    words = "-".join(_word(widening) for widening in widenings)
    name = f"{narrow}-{words}"
    try:
        return checked_name(name)
    except ValueError:  # of long lists the name would be too long
        digest = hashlib.sha256(words.encode()).hexdigest()[:8]
        return f"{name.encode()[:100].decode(errors='ignore')}-{digest}"


def _word(widening: str) -> str:
    parameter, bound, value = _parts(widening)
    words = [parameter, bound, re.sub(r"[^\w.+]+", "-", value).strip("-")]
    return "-".join(word for word in words if word)


def _is_wider(before: Parameter, after: Parameter) -> bool:
    if isinstance(before, Choice) and isinstance(after, Choice):
        return before.when == after.when and set(before.values()) < set(after.values())
    if isinstance(before, Choice) or isinstance(after, Choice):
        return False
    same = (before.log, before.step, before.when) == (after.log, after.step, after.when) and type(before) is type(after)
    return same and _holds(after, before.low, before.high) and (before.low, before.high) != (after.low, after.high)


def _holds(parameter: Parameter, *values: float) -> bool:
    """Return whether a range has the values, on its steps if it has steps."""
    try:
        for value in values:
            parameter.check(value)
    except SpaceError:
        return False
    return True
