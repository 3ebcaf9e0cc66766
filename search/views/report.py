"""What `manyfit show` prints of a study: tables and curves for people, JSON for programs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from search.reading import tomltext
from search.spec.resolved import describe
from search.storage import records
from search.storage.studies import Stored
from search.trials.history import IMPORTED
from search.trials.objective import Objective
from search.trials.trial import Trial
from search.views import confirmed, curves, evaluation, export, learned, listing, standing
from search.views.insights import answers, spending
from search.views.insights.answers import Answers
from search.views.text import duration, number, short

# The width of a config's value; longer values are cut if they do not fit.
_VALUE_WIDTH = 10
# At most this many rungs are listed: a pruner that judges every epoch ends trials at many.
_MAX_RUNGS = 6


def settings_toml(stored: Stored) -> str:
    """Return all settings of a study as TOML, defaults included; comments list what "auto" was resolved to."""
    settings = stored.file.settings.model_dump(mode="json", exclude_none=True)
    resolved = [
        f"# {key}: {json.dumps(value)}" for key, value in stored.resolved.items() if value not in ("", {}, None)
    ]
    return "\n".join(
        [f"# study {json.dumps(stored.name)}; what auto came to:", *resolved, "", tomltext.document(settings)]
    )


def to_json(stored: Stored, top: int) -> dict[str, Any]:
    """Return all that `show` prints as plain JSON."""
    answered, again = answers.answers(stored), confirmed.of(stored)
    return {
        **export.best(stored, top).model_dump(mode="json"),
        **listing.state_json(stored),
        "ended_because": stored.ended,
        "is_improving": answered.is_improving,
        "answers": [{"question": question, "answer": answer} for question, answer in answered.lines],
        "ended": dict(endings(stored)),
        "confirmation": again and confirmed.to_json(again),
        "importance": learned.importance(stored),
        "beliefs": answered.outlook and asdict(answered.outlook),
        "seconds": stored.seconds,
        "spent": stored.spent,
        "compiled": spending.compiled(stored),
        "events": [{"at": at.isoformat(), "kind": kind, **detail} for at, kind, detail in stored.events],
    }


def show(stored: Stored, top: int, console: Console) -> None:
    """Print a study for people: first what a tuner asks first. The last lines, which stay on the screen, are its state."""
    answered = answers.answers(stored)
    if not stored.file.settings.study.confirms:
        console.print(_answers(answered))
        console.print()
    _history(stored, console)
    _failures(stored, console)
    if stored.complete:
        console.print(curves.drawn(stored, stored.complete[: curves.MOST], console))
        console.print()
    if answered.outlook:
        console.print(learned.panel(stored, answered.outlook))
        console.print()
    console.print(_columns(_counts_table(stored), learned.importance_table(learned.importance(stored))))
    console.print()
    _best_tables(stored, top, console)
    console.print(Text(standing.line(stored, top)))
    if again := confirmed.of(stored):
        for line in confirmed.lines(again):
            console.print(Text(line))
    if stored.test_evaluations:
        console.print(Text(evaluation.looks(stored.test_evaluations)))
    _headline(stored, console)


def _answers(answered: Answers) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for question, answer in answered.lines:
        table.add_row(question, Text(answer))
    return table


def _headline(stored: Stored, console: Console) -> None:
    study, spent = stored.file.settings.study, spending.line(stored)
    why = f" ({stored.ended})" if stored.ended else ""
    why += "; trainings of `manyfit confirm`, so the best value is luck" if study.confirms else ""
    console.print(
        Text(
            f"{describe(records.resolved(stored))}{f'; {spent}' if spent else ''}; all settings: --settings",
            style="dim",
        )
    )
    console.print(
        Text.assemble(
            (stored.name, "bold"),
            f": {stored.file.direction} {study.objective}; {listing.state(stored)}{why}: "
            f"{sum(t.is_ended for t in stored.trials)} of {study.trials} trials, "
            f"{sum(len(t.curve) for t in stored.trials)} epochs, {duration(stored.seconds)}",
        )
    )


def endings(stored: Stored) -> Counter[str]:
    """Count the trials by what ended them."""
    return Counter(trial.ended or trial.state.lower() for trial in stored.trials)


def _best_tables(stored: Stored, top: int, console: Console) -> None:
    """Print the best configs side by side, as many in a row as fit: names whole, long values cut."""
    best = stored.complete[:top]
    names = ["rank", "best epoch", stored.file.settings.study.objective, *stored.file.space]
    available = console.width - max(map(len, names))
    # Two blanks separate two columns.
    per_row = max(1, available // (_VALUE_WIDTH + 2))
    for start in range(0, len(best), per_row):
        shown = best[start : start + per_row]
        console.print(_best_table(stored, shown, start + 1, max(available // len(shown) - 2, 4)))
        console.print()


def _best_table(stored: Stored, best: Sequence[Trial], first: int, width: int) -> Table:
    table = Table(
        title="best configs" if first == 1 else None,
        title_justify="left",
        box=None,
        header_style="bold",
        pad_edge=False,
    )
    table.add_column("rank", no_wrap=True)
    for rank in range(first, first + len(best)):
        style = "bold green" if rank == 1 else ""
        table.add_column(str(rank), justify="right", no_wrap=True, overflow="ellipsis", style=style, max_width=width)

    def add(name: str, values: Iterable[object]) -> None:
        table.add_row(Text(name), *(Text(str(value)) for value in values))

    add("trial", (trial.number for trial in best))
    add("best epoch", (f"{trial.best_epoch} of {len(trial.curve)}" for trial in best))
    add("ended", (trial.ended for trial in best))
    for name in stored.file.space:
        add(name, (short(trial.params.get(name, "-")) for trial in best))
    objective = Objective.of(stored.file)
    add(objective.name, (number(trial.value) for trial in best))
    if stored.file.settings.study.replicas > 1:
        add("standard error", (number(objective.standard_error(trial)) for trial in best))
    return table


def _counts_table(stored: Stored) -> Table:
    table = Table(title="what ended the trials", title_justify="left", box=None, show_header=False, pad_edge=False)
    states = {trial.ended or trial.state.lower(): trial.state for trial in stored.trials}
    for ended, count in endings(stored).most_common():
        table.add_row(f"{count:>4}", ended, Text(states[ended], style="dim"))
        if ended == "pruned":
            rungs = Counter(len(trial.curve) for trial in stored.trials if trial.ended == "pruned")
            for epoch, pruned in sorted(rungs.items())[:_MAX_RUNGS]:
                table.add_row("", Text(f"{pruned} at epoch {epoch}", style="dim"))
    return table


def _columns(*tables: Table | None) -> RenderableType:
    grid = Table.grid(padding=(0, 6))
    grid.add_row(*(table for table in tables if table is not None))
    return grid


def _failures(stored: Stored, console: Console) -> None:
    failed = [trial for trial in stored.trials if trial.state == "FAIL"]
    if failed:
        console.print(Text("failed", style="bold red"))
        for why, count in Counter(trial.why for trial in failed).most_common(5):
            numbers = ", ".join(str(trial.number) for trial in failed if trial.why == why)
            console.print(Text.assemble(f"{count:>4}  {why} ", (f"(trial {numbers})", "dim")))
        console.print()


def _history(stored: Stored, console: Console) -> None:
    events = [event for event in stored.events if event[1] not in (spending.COMPILED, spending.BESIDE, IMPORTED)]
    if not events:
        return
    console.print(Text("history", style="bold"))
    for at, kind, detail in events[-10:]:
        shown = ", ".join(f"{key} {value}" for key, value in detail.items() if key != "detail" and value is not None)
        when = at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        console.print(Text.assemble((f"  {when}  ", "dim"), f"{kind}: {shown}"))
    console.print()
