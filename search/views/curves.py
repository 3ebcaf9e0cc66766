"""Draws the curves of trials in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from search.storage.studies import Stored
from search.trials.trial import Trial
from search.views.text import number

# At most this many curves are drawn at once.
MOST = 5
_COLOURS = ("green", "blue", "red", "yellow", "magenta")
_PLOT_HEIGHT = 12
_LEGEND_WIDTH = 22


def drawn(stored: Stored, trials: Sequence[Trial], console: Console) -> RenderableType:
    """Draw the trials' curves of the objective; a legend stands beside several curves."""
    title = f"{stored.file.settings.study.objective} by epoch"
    width = min(console.width, 100)
    if len(trials) == 1:
        return Group(Text(title, style="bold"), _plot(stored, trials, console, width))
    legend = Table.grid(padding=(0, 1))
    for index, trial in enumerate(trials):
        marker = Text(_marker(index, console) or "█", style=_COLOURS[index])
        legend.add_row(marker, Text(f"trial {trial.number}"), Text(number(trial.value)))
    grid = Table.grid(padding=(0, 1))
    grid.add_row(_plot(stored, trials, console, width - _LEGEND_WIDTH), legend)
    return Group(Text(f"{title}, the best {len(trials)}", style="bold"), grid)


def _marker(index: int, console: Console) -> str | None:
    """Return the marker of a curve: its rank if the console has no colours, else None for dots."""
    return None if console.is_terminal else str(index + 1)


def _plot(stored: Stored, trials: Sequence[Trial], console: Console, width: int) -> Text:
    import plotext

    objective = stored.file.settings.study.objective
    plotext.clear_figure()
    plotext.plot_size(max(width, 20), _PLOT_HEIGHT)
    plotext.theme("clear" if not console.is_terminal else "pro")
    plotext.canvas_color("default")
    plotext.axes_color("default")
    # The best is drawn last, over the others.
    for index, trial in reversed(list(enumerate(trials))):
        points = [(epoch, m[objective]) for epoch, m in enumerate(trial.curve, 1) if m.get(objective) is not None]
        colour = _COLOURS[index] if console.is_terminal else None
        marker = _marker(index, console) if len(trials) > 1 else None
        plotext.plot([epoch for epoch, _ in points], [value for _, value in points], color=colour, marker=marker)
    return Text.from_ansi(str(plotext.build()))
