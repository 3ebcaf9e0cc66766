"""The study file of `manyfit refine`, with a comment on what has changed; and the table that the command prints."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from search.reading import tomltext
from search.spec.vocabulary import TRAIN_PARAMETERS
from search.storage.studies import Stored
from search.views.insights.refining import Change, starts
from search.views.printable import printable
from search.views.text import number

_ORDER = ("study", "data", "model", "train", "space", "search", "limits", "run")


def study_file(stored: Stored, changes: Sequence[Change], path: Path) -> str:
    """Return the text of a study file at `path` that searches the changed space and learns from the study."""
    settings = stored.file.settings.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    sections: dict[str, dict[str, Any]] = {name: dict(settings.get(name) or {}) for name in _ORDER}
    sections["study"].pop("name", None)
    if "prune_start" not in stored.identity.get("search", {}):
        # A study of an earlier version has it because that version did so, not because its user wanted it.
        sections["search"].pop("prune_start", None)
    sections["search"]["start"] = starts(stored, changes)
    sections["search"].pop("learn_from", None)
    if stored.file.settings.search.learns_from_others:
        database = os.path.relpath(stored.path, path.resolve().parent)
        sections["search"]["learn_from"] = {"database": database, "study": stored.name}
    sections["space"] = {}
    comments: dict[tuple[str, str], str] = {}
    for change in changes:
        section, entry = "space", change.entry
        if change.kind == "fixed":
            section = "train" if change.name in TRAIN_PARAMETERS else "model"
        elif set(entry) == {"choices"}:
            entry = entry["choices"]
        sections[section][change.name] = entry
        comments[section, change.name] = f"{change.kind}: {change.why}"
    comments["search", "start"] = "the best configs so far"
    comments["search", "learn_from"] = "the sampler knows the trials of that study which lie inside of this space"
    objective = stored.file.settings.study.objective
    best = stored.complete[0]
    head = (
        f"Refined from study {tomltext.value(stored.name)} after {len(stored.trials)} trials, whose best {objective} is "
        f"{number(best.value)} (trial {best.number})."
    )
    parts = [_section(name, sections[name], comments) for name in _ORDER if sections[name]]
    return "\n\n".join([_comment(head), *parts]) + "\n"


def _comment(text: str) -> str:
    """Return a comment of one line: TOML allows no control characters in it, and values of a study may have them."""
    return f"# {printable(' '.join(text.split()))}"


def _section(name: str, entries: Mapping[str, Any], comments: Mapping[tuple[str, str], str]) -> str:
    lines = [f"[{name}]"]
    for key, entry in entries.items():
        if comment := comments.get((name, key)):
            lines.append(_comment(comment))
        lines.append(f"{tomltext.key(key)} = {tomltext.value(entry)}")
    return "\n".join(lines)


def as_json(changes: Sequence[Change], stored: Stored) -> list[dict[str, Any]]:
    """Return the changes as plain JSON; `was` and `now` as a study file has them."""
    was = stored.file.space.describe()
    return [
        {"parameter": one.name, "change": one.kind, "was": was[one.name], "now": one.entry, "why": one.why}
        for one in changes
    ]


def table(changes: Sequence[Change], stored: Stored) -> Table:
    """Return the changes as a table."""
    was = stored.file.space.describe()
    rows = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("parameter", "was", "now", "why"):
        rows.add_column(heading, overflow="fold")
    for change in changes:
        now = "as it was" if change.kind == "as it was" else _shown(change.entry)
        if change.kind == "fixed":
            now = f"fixed at {now}"
        style = "dim" if change.kind == "as it was" else ""
        rows.add_row(*(Text(text, style=style) for text in (change.name, _shown(was[change.name]), now, change.why)))
    return rows


def _shown(entry: Any) -> str:
    if not isinstance(entry, Mapping):
        return tomltext.value(entry)
    if "choices" in entry:
        return tomltext.value(entry["choices"])
    log = " log" if entry.get("log") else ""
    step = f" step {entry['step']}" if "step" in entry else ""
    return f"{entry['low']}..{entry['high']}{log}{step}"
