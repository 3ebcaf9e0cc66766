"""What `manyfit evaluate` prints: a model's metrics on a split, with their intervals, beside those of the search."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from search.views.text import number

if TYPE_CHECKING:
    from rich.console import Console

    from search.trials.measured import Measured

_CHOSEN = "the search has chosen the model by these rows, so that its values are better than on new rows"
_TRAINED = "the model was trained on these rows, so that its values are better than on new rows"


def looks(count: int) -> str:
    """Return a line on how often test rows were evaluated."""
    times = "once" if count == 1 else f"{count} times"
    return f"the test rows were evaluated {times}"


def to_json(measured: Measured) -> dict[str, Any]:
    """Return an evaluation as plain JSON; null for a number that is not finite."""
    return {
        "study": measured.study,
        "trials": list(measured.trials),
        "model": None if measured.model is None else str(measured.model),
        "split": measured.split,
        "rows": measured.rows,
        "was_trained_on": measured.was_trained_on,
        "metrics": {name: _metric(measured, name) for name in measured.values},
        "test_evaluations": measured.looks,
        "lines": list(measured.lines),
    }


def _metric(measured: Measured, name: str) -> dict[str, Any]:
    interval = measured.intervals.get(name)
    return {
        "value": _finite(measured.values[name]),
        "low": interval and interval[0],
        "high": interval and interval[1],
        "interval": interval and interval[2],
        "in_the_search": _finite(measured.before.get(name)),
    }


def show(measured: Measured, console: Console) -> None:
    """Print an evaluation for people."""
    of_trials = f"trial{'' if len(measured.trials) == 1 else 's'} {', '.join(map(str, measured.trials))}"
    what = of_trials if measured.model is None else f"{measured.model} ({of_trials})"
    console.print(Text.assemble((measured.study, "bold"), f", {what}: {measured.rows} {measured.split} rows"))
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("metric", measured.split, "95 % interval", "by", "in the search (validation)"):
        table.add_column(column, justify="left" if column in ("metric", "by") else "right")
    for name, value in measured.values.items():
        low, high, how = measured.intervals.get(name, (None, None, ""))
        between = f"{number(low)} to {number(high)}" if how else ""
        table.add_row(Text(name), number(value), between, how, number(measured.before.get(name)))
    console.print(table)
    for line in measured.lines:
        console.print(Text(line))
    if measured.split == "test":
        more = "" if measured.looks == 1 else "; a model that is chosen by them looks better than it is"
        console.print(Text(f"{looks(measured.looks)} in this study, this time included{more}"))
    else:
        console.print(Text(_TRAINED if measured.was_trained_on else _CHOSEN))


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
