"""What `manyfit compare` says of several studies: their best values at equal cost, and what differs in their settings."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text as RichText

from search.storage.studies import Stored
from search.trials import baseline
from search.trials.trial import Trial
from search.views import listing
from search.views.figures import progress as figures
from search.views.insights import progress
from search.views.insights.progress import Progress
from search.views.pages.page import Block, Cell, Figure, Page, Section, Table, Text, Verdict
from search.views.text import duration, number, short

# Settings that name a study and its files, or do not affect the search.
_NAMES = frozenset(("study.name", "study.storage"))
_LONGEST = 60


@dataclass(frozen=True)
class Compared:
    """A study among others.

    Attributes:
        name: its name, with its database's where two have the same.
        at_equal_epochs: its best value when it had trained as many epochs as the one of all that has trained the fewest.
    """

    name: str
    stored: Stored
    progress: Progress
    at_equal_epochs: float | None

    @property
    def best(self) -> Trial | None:
        return next(iter(self.stored.complete), None)

    @property
    def objective(self) -> str:
        return self.stored.file.settings.study.objective


def compared(studies: Sequence[Stored]) -> list[Compared]:
    """Return the studies with what each has reached, in their order."""
    counts = Counter(stored.name for stored in studies)
    done = [progress.progress(stored) for stored in studies]
    epochs = min(one.epochs for one in done)
    comparisons = []
    for stored, one in zip(studies, done, strict=True):
        name = stored.name if counts[stored.name] == 1 else f"{stored.name} ({stored.path.name})"
        before = [step.value for step in one.steps if step.epochs <= epochs]
        comparisons.append(Compared(name, stored, one, before[-1] if before else None))
    return comparisons


def remarks(studies: Sequence[Compared]) -> list[str]:
    """Return in sentences what keeps the values of studies from being compared, and what the comparison can't say."""
    lines = []
    if len({(one.objective, one.stored.file.direction) for one in studies}) > 1:
        lines.append("their objectives differ, so their values don't compare")
    if len({one.stored.identity["data"].get("fingerprint") for one in studies}) > 1:
        lines.append("their data differ (rows, split or scaling), so their values may not compare")
    if len({one.progress.epochs for one in studies}) > 1:
        lines.append(
            "the best of more epochs is better by chance alone: compare the values at equal epochs, "
            f"{min(one.progress.epochs for one in studies):,}"
        )
    return lines


def differences(studies: Sequence[Compared]) -> list[tuple[str, list[str]]]:
    """Return the settings that are not the same in all studies: (dotted key, text of each study's value)."""
    settings = [dict(_flat(one.stored.file.settings.model_dump(mode="json", exclude_none=True))) for one in studies]
    for one, table in zip(studies, settings, strict=True):
        resolved = one.stored.resolved
        table |= {
            f"resolved {key}": resolved[key] for key in ("engine", "backend", "devices", "precision") if key in resolved
        }
    keys = dict.fromkeys(key for table in settings for key in table if key not in _NAMES)
    differing = []
    for key in keys:
        texts = [_text(table[key]) if key in table else "-" for table in settings]
        if len(set(texts)) > 1:
            differing.append((key, texts))
    return differing


def to_json(studies: Sequence[Compared]) -> dict[str, Any]:
    """Return the comparison as plain JSON."""
    return {
        "remarks": remarks(studies),
        "studies": [
            {
                "study": one.name,
                "database": str(one.stored.path),
                **listing.state_json(one.stored),
                "objective": one.objective,
                "direction": one.stored.file.direction,
                "trials": one.progress.ended,
                "complete": len(one.stored.complete),
                "epochs": one.progress.epochs,
                "training_seconds": one.progress.seconds,
                "seconds": one.stored.seconds,
                "is_improving": one.progress.is_improving,
                "best": None
                if one.best is None
                else {"trial": one.best.number, "value": one.best.value, **_config(one)},
                "at_equal_epochs": one.at_equal_epochs,
                "gain": (gain := baseline.gain(one.stored)) and gain.value,
                "steps": [asdict(step) for step in one.progress.steps],
            }
            for one in studies
        ],
        "differences": [{"key": key, "values": texts} for key, texts in differences(studies)],
    }


def show(studies: Sequence[Compared], console: Console) -> None:
    """Print the comparison for people."""
    for title, head, rows in _tables(studies):
        table = RichTable(box=None, header_style="bold", pad_edge=False, title=title, title_justify="left")
        for k, name in enumerate(head):
            are_numbers = k > 0 and all(isinstance(row[k], int | float | None) for row in rows)
            table.add_column(RichText(name), justify="right" if are_numbers else "left", overflow="fold")
        for row in rows:
            table.add_row(*(RichText(_cell(cell)) for cell in row))
        console.print(table)
        console.print()
    for line in remarks(studies):
        console.print(RichText.assemble(("note: ", "cyan"), line))


def page(studies: Sequence[Compared]) -> Page:
    """Return the comparison as a page."""
    lead: list[Block] = [Verdict("look", f"{line}.") for line in remarks(studies)]
    tables: list[list[Block]] = [[Text(title), Table(head, rows)] for title, head, rows in _tables(studies)]
    sections = [
        Section("Studies", tables[0]),
        Section("Progress", list(_figures(studies))),
        Section("Settings and configs", [block for table in tables[1:] for block in table]),
    ]
    return Page(f"{', '.join(one.name for one in studies)}: comparison", sections, lead)


def _figures(studies: Sequence[Compared]) -> Iterator[Block]:
    for k, objective in enumerate(dict.fromkeys(one.objective for one in studies)):
        of_objective = {one.name: one.progress for one in studies if one.objective == objective and one.progress.steps}
        if not of_objective:
            yield Text(f"No trial was trained fully yet for {objective}.", is_quiet=True)
            continue
        for over, words in figures.OVER.items():
            figure = figures.best_over(of_objective, over, objective)
            yield Figure(f"best-over-{over}{f'-{k}' if k else ''}", f"Best {objective} over {words}", figure)


def _tables(studies: Sequence[Compared]) -> Iterator[tuple[str, list[str], list[list[Cell]]]]:
    """Yield title, head and rows of each table."""
    head = [
        "study",
        "state",
        "trials",
        "complete",
        "epochs",
        "time",
        "objective",
        "best",
        "trial",
        "at equal epochs",
        "gain over start",
    ]
    rows: list[list[Cell]] = []
    for one in studies:
        gain = baseline.gain(one.stored)
        rows.append(
            [
                one.name,
                listing.state(one.stored),
                one.progress.ended,
                len(one.stored.complete),
                one.progress.epochs,
                duration(one.stored.seconds),
                f"{one.stored.file.direction} {one.objective}",
                None if one.best is None else one.best.value,
                None if one.best is None else one.best.number,
                one.at_equal_epochs,
                None if gain is None else gain.value,
            ]
        )
    yield "studies", head, rows
    names = [one.name for one in studies]
    yield "settings that differ", ["setting", *names], [[key, *texts] for key, texts in differences(studies)]
    params = dict.fromkeys(key for one in studies for key in one.stored.file.space)
    configs = [one.best.config if one.best else {} for one in studies]
    yield (
        "best configs",
        ["parameter", *names],
        [[key, *(short(config[key]) if key in config else "-" for config in configs)] for key in params],
    )


def _config(one: Compared) -> dict[str, Any]:
    assert one.best is not None  # noqa: S101 (asked for by callers only where there is one)
    return {
        "epoch": one.best.best_epoch,
        "params": one.stored.file.space.config(one.best.params),
        "config": one.best.config,
    }


def _flat(table: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted keys and values; the range of a parameter is one value."""
    for key, value in table.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping) and not above.startswith("space."):
            yield from _flat(value, f"{name}.")
        else:
            yield name, value


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _cell(cell: Cell) -> str:
    if cell is None:
        return "-"
    return number(cell) if isinstance(cell, float) else str(cell)
