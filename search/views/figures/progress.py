"""Figures of a search as a whole: its best value over trials, epochs and time, and where its time went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from search.errors import UsageError
from search.storage.studies import Stored
from search.trials.confirmation import Confirmation
from search.trials.objective import Objective
from search.trials.trial import Trial
from search.views.figures import thinning
from search.views.figures.axes import params_text
from search.views.insights import spending
from search.views.insights.progress import Progress, progress
from search.views.pages.style import COLOURS, GREY
from search.views.printable import label
from search.views.text import duration

if TYPE_CHECKING:
    import plotly.graph_objects as go

OVER = {"epochs": "epochs trained", "seconds": "seconds of training", "trials": "trials ended"}


def history(stored: Stored) -> go.Figure:
    """Draw the value of every trial that has one, and the best of those trained fully so far."""
    import plotly.graph_objects as go

    _check(stored)
    objective = Objective.of(stored.file)
    with_value = [trial for trial in stored.trials if trial.value is not None and trial.ended != "diverged"]
    shown = thinning.thinned(with_value, objective, thinning.POINTS)
    figure = go.Figure()
    _points(figure, [trial for trial in shown if trial.state == "COMPLETE"], "trained fully", COLOURS[0])
    _points(figure, [trial for trial in shown if trial.state != "COMPLETE"], "pruned or running", GREY)
    x: list[int] = []
    y: list[float] = []
    for trial in sorted(stored.complete, key=lambda trial: trial.number):
        if objective.is_better(trial.value or 0.0, y[-1] if y else None):
            x.append(trial.number)
            y.append(trial.value or 0.0)
    last = stored.trials[-1].number
    figure.add_scatter(
        x=[*x, last], y=[*y, y[-1]], mode="lines", name="best so far", line={"shape": "hv", "color": COLOURS[1]}
    )
    return figure.update_layout(
        title=f"{label(stored.name)}: {label(objective.name)} by trial",
        xaxis_title="trial",
        yaxis_title=label(objective.name),
    )


def best_over(studies: Mapping[str, Progress], over: str, objective: str) -> go.Figure:
    """Draw the best value of those trained fully over "trials", "epochs" or "seconds" of training, one line a study."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for name, done in studies.items():
        if not done.steps:
            continue
        at = [{"trials": step.ended, "epochs": step.epochs, "seconds": step.seconds}[over] for step in done.steps]
        end = {"trials": done.ended, "epochs": done.epochs, "seconds": done.seconds}[over]
        values = [step.value for step in done.steps]
        figure.add_scatter(
            x=[*at, end],
            y=[*values, values[-1]],
            text=[*(f"trial {step.trial}" for step in done.steps), "now"],
            mode="lines+markers",
            name=label(name),
            line={"shape": "hv"},
            hovertemplate="%{text}: %{y:.5g} at %{x:,.5g}<extra></extra>",
        )
    return figure.update_layout(
        title=f"best {label(objective)} over {OVER[over]}",
        xaxis_title=OVER[over],
        yaxis_title=f"best {label(objective)}",
    )


def best(stored: Stored, over: str = "epochs") -> go.Figure:
    """Draw the best value of a study over "epochs" trained, "seconds" of training or "trials" ended."""
    if over not in OVER:
        raise UsageError(f"over: must be one of {', '.join(OVER)}; received {over!r}")
    _check(stored)
    figure = best_over({stored.name: progress(stored)}, over, stored.file.settings.study.objective)
    return figure.update_layout(showlegend=False)


def again(confirmation: Confirmation, objective: str) -> go.Figure:
    """Draw the values of the best configs in the search, and those of their fresh trainings with the mean's interval."""
    import plotly.graph_objects as go

    names = [f"trial {one.trial}" for one in confirmation.configs]
    figure = go.Figure()
    figure.add_scatter(
        x=[name for name, one in zip(names, confirmation.configs, strict=True) for _ in one.values],
        y=[value for one in confirmation.configs for value in one.values],
        mode="markers",
        name="fresh trainings",
        marker={"color": GREY, "size": 6, "opacity": 0.6},
    )
    known = [(name, one) for name, one in zip(names, confirmation.configs, strict=True) if one.mean is not None]
    figure.add_scatter(
        x=[name for name, _ in known],
        y=[one.mean for _, one in known],
        error_y={
            "type": "data",
            "array": [0.0 if one.high is None else one.high - (one.mean or 0.0) for _, one in known],
            "arrayminus": [0.0 if one.low is None else (one.mean or 0.0) - one.low for _, one in known],
        },
        mode="markers",
        name="their mean, with its interval",
        marker={"color": COLOURS[0], "size": 10},
    )
    figure.add_scatter(
        x=names,
        y=[one.value for one in confirmation.configs],
        mode="markers",
        name="in the search",
        marker={"color": COLOURS[1], "size": 11, "symbol": "diamond-open", "line": {"width": 2}},
    )
    return figure.update_layout(xaxis={"type": "category"}, yaxis={"title": label(objective)})


def time(stored: Stored) -> go.Figure:
    """Draw where the workers' time went; UsageError if the study has not trained yet."""
    import plotly.graph_objects as go

    parts = spending.parts(stored)
    if not parts:
        raise UsageError(f"{stored.name} has trained nothing yet, so there is nothing to draw")
    names = list(reversed(parts))
    figure = go.Figure(
        go.Bar(
            x=[parts[name] for name in names],
            y=names,
            orientation="h",
            text=[duration(parts[name]) for name in names],
            marker={"color": COLOURS[0]},
            hoverinfo="skip",
        )
    )
    return figure.update_layout(
        title=f"{label(stored.name)}: where the time went",
        xaxis_title="seconds of the workers",
        height=_height(len(names)),
    )


def _height(bars: int) -> int:
    return 110 + 34 * bars


def _points(figure: go.Figure, trials: Sequence[Trial], name: str, colour: str) -> None:
    if trials:
        figure.add_scatter(
            x=[trial.number for trial in trials],
            y=[trial.value for trial in trials],
            text=[f"{label(trial.ended or 'running')}<br>{params_text(trial.params)}" for trial in trials],
            mode="markers",
            name=name,
            marker={"color": colour, "size": 6, "opacity": 0.75},
            hovertemplate="trial %{x}: %{y:.5g}<br>%{text}<extra></extra>",
        )


def _check(stored: Stored) -> None:
    if not stored.complete:
        raise UsageError(f"{stored.name} has no complete trial yet, so there is nothing to draw")
