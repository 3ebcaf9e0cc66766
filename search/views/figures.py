"""Figures of a study, of Plotly. What Optuna draws of studies is Optuna's."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from search.errors import UsageError
from search.spec.vocabulary import closest
from search.storage.studies import Stored
from search.trials.objective import Objective
from search.views import learned
from search.views.text import number, short

if TYPE_CHECKING:
    import plotly.graph_objects as go

# A figure names at most so many curves; the others are grey.
_NAMED = 10


def curves(stored: Stored, metric: str | None = None, top: int | None = None) -> go.Figure:
    """Draw a metric by epoch, one line a trial; the best ones have colours and a legend.

    UsageError for a metric that no trial has reported, or a `top` below 1.
    """
    import plotly.graph_objects as go

    objective = stored.file.settings.study.objective
    name = metric or objective
    if top is not None and (isinstance(top, bool) or not isinstance(top, int) or top < 1):
        raise UsageError(f"top: must be a whole number of at least 1; received {top!r}")
    known = dict.fromkeys(key for trial in stored.trials for metrics in trial.curve for key in metrics)
    if name not in known:
        there = ", ".join(known) or "none yet"
        raise UsageError(f"metric: no trial has reported {name!r}{closest(str(name), known)}; there are {there}")
    ranked = sorted((t for t in stored.trials if t.value is not None), key=Objective.of(stored.file).rank)
    unranked = [trial for trial in stored.trials if trial.value is None]
    figure = go.Figure()
    # The best is drawn last, over the others.
    for rank, trial in reversed(list(enumerate([*ranked, *unranked][:top]))):
        values = [metrics.get(name) for metrics in trial.curve]
        if all(value is None for value in values):
            continue
        params = "<br>".join(f"{key} {short(value)}" for key, value in trial.params.items())
        is_named = rank < _NAMED and trial.value is not None
        figure.add_scatter(
            x=list(range(1, len(values) + 1)),
            y=values,
            mode="lines" if len(values) > 1 else "markers",
            name=f"trial {trial.number}",
            legendrank=rank,
            showlegend=is_named,
            opacity=1.0 if is_named else 0.4,
            line={} if is_named else {"color": "grey", "width": 1},
            hovertemplate=f"trial {trial.number}, epoch %{{x}}: %{{y:.5g}}<br>{params}<extra>{trial.ended}</extra>",
        )
    return figure.update_layout(title=f"{stored.name}: {name} by epoch", xaxis_title="epoch", yaxis_title=name)


def history(stored: Stored) -> go.Figure:
    """Draw the value of every complete trial, and the best so far."""
    import optuna

    return _of_optuna(stored, optuna.visualization.plot_optimization_history, "value by trial")


def parallel(stored: Stored) -> go.Figure:
    """Draw every complete trial as a line through its parameters and its value."""
    import optuna

    return _of_optuna(stored, optuna.visualization.plot_parallel_coordinate, "parameters and value")


def slices(stored: Stored) -> go.Figure:
    """Draw the values of the complete trials over each parameter."""
    import optuna

    return _of_optuna(stored, optuna.visualization.plot_slice, "value by parameter")


def importance(stored: Stored) -> go.Figure:
    """Draw each parameter's importance, by PED-ANOVA; UsageError where too few trials differ."""
    import plotly.graph_objects as go

    shares = learned.importance(stored)
    if not shares:
        raise UsageError(
            f"importance can't be computed: {stored.name} has {len(stored.complete)} complete trials; it takes at least "
            f"{learned.MIN_VALUES} of different values"
        )
    names = list(reversed(shares))
    figure = go.Figure(
        go.Bar(x=[shares[name] for name in names], y=names, orientation="h", text=[number(shares[n]) for n in names])
    )
    return figure.update_layout(title=f"{stored.name}: importance of the parameters", xaxis_title="share")


def _of_optuna(stored: Stored, draw: Callable[..., Any], what: str) -> go.Figure:
    from search.views.optuna_study import study_of

    if not stored.complete:
        raise UsageError(f"{stored.name} has no complete trial yet, so there is nothing to draw")
    trials = sorted(stored.complete, key=lambda trial: trial.number)
    name = stored.file.settings.study.objective
    with warnings.catch_warnings(action="ignore"):
        figure = draw(study_of(stored, trials), target_name=name)
    return figure.update_layout(title=f"{stored.name}: {what}")
