"""The earlier study that a new one learns from: found before anything starts, carried over once the data are known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search.errors import StoreError, UsageError
from search.sessions.reporter import Reporter
from search.spec.study import StudyFile
from search.storage import records
from search.storage.studies import Stored
from search.trials import known


def find(file: StudyFile) -> Stored | None:
    """Return the study that a new one is to learn from; UsageError if there is none, or none of the same objective."""
    learn_from = file.settings.search.learn_from
    if learn_from is None:
        return None
    database = (file.base / learn_from.database).resolve()
    try:
        names = [learn_from.study] if learn_from.study else records.main_names(database)
        if len(names) > 1:
            raise UsageError(
                f'search.learn_from: {database} holds several studies; add study = "...", one of {", ".join(names)}'
            )
        stored = records.load(database, names[0] if names else records.only_name(database))
    except StoreError as error:
        raise UsageError(
            f"search.learn_from: {error}; name another study, or remove learn_from to start from nothing"
        ) from None
    was, now = ((of.settings.study.objective, of.direction) for of in (stored.file, file))
    if was != now:
        raise UsageError(
            f"search.learn_from: study {stored.name!r} was to {was[1]} {was[0]!r}, this one is to {now[1]} {now[0]!r}: its "
            "values say nothing here; remove learn_from"
        )
    return stored


def carry_over(
    stored: Stored | None, file: StudyFile, identity: Mapping[str, Any], reporter: Reporter
) -> dict[str, Any]:
    """Return the attributes of a new study with what it knows of `stored`, and tell the user how much that is."""
    if stored is None:
        return {}
    carried = known.carry_over(stored, file, identity)
    reporter.line(str(carried))
    if carried.unlike and carried.trials:
        reporter.warning(
            f"study {stored.name!r} had another {' and another '.join(carried.unlike)}: its values may mislead the search"
        )
    return carried.attrs
