"""Figures of the parameters: the values over each of them, over pairs, all at once, and how much each matters."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from search.errors import UsageError
from search.storage.studies import Stored
from search.trials.objective import Objective
from search.trials.trial import Trial
from search.views import learned
from search.views.figures import thinning
from search.views.figures.axes import axis, labels, values
from search.views.insights.edges import position
from search.views.insights.importance import Matter, matters
from search.views.pages.style import COLOURS, GREY, SCALE
from search.views.printable import label
from search.views.text import number
from spaces import Choice, Parameter, Space

if TYPE_CHECKING:
    import plotly.graph_objects as go

Array: TypeAlias = NDArray[np.float64]

# Plots in a row, and pixels of a row.
_PER_ROW, _ROW_HEIGHT = 3, 260
# At most so many parameters have their pairs drawn, and so many ticks stand on an axis of parallel coordinates.
_PAIRED, _TICKS = 4, 12
# A contour's grid, and the width of its smoothing, both in shares of a range.
_GRID, _SMOOTH = 40, 0.08
# Where so little weight of trials is near, a contour is left empty.
_EMPTY = 0.15
# More points than this are drawn small.
_MANY = 300


def slices(stored: Stored) -> go.Figure:
    """Draw the values of the complete trials over each parameter; a click on the legend adds those of the pruned ones."""
    from plotly.subplots import make_subplots

    trials, space, objective = _complete(stored), stored.file.space, Objective.of(stored.file)
    pruned = [trial for trial in stored.trials if trial.ended == "pruned" and trial.value is not None]
    rows, columns = math.ceil(len(space) / _PER_ROW), min(len(space), _PER_ROW)
    figure = make_subplots(rows, columns, shared_yaxes=True, vertical_spacing=0.24 / rows, horizontal_spacing=0.04)
    for k, (name, parameter) in enumerate(space.items()):
        at = {"row": k // _PER_ROW + 1, "col": k % _PER_ROW + 1}
        marker = _marker(trials, name, stored, shows_scale=k == 0)
        _add_slice(figure, trials, name, parameter, at, marker=marker, showlegend=False)
        if pruned:
            some, marker = thinning.thinned(pruned, objective, thinning.POINTS), {"color": GREY, "size": 5}
            _add_slice(figure, some, name, parameter, at, marker=marker, visible="legendonly", showlegend=k == 0)
        figure.update_xaxes(title=label(name), **axis(parameter), **at)
    figure.update_yaxes(title=label(objective.name), col=1)
    return figure.update_layout(
        title=f"{label(stored.name)}: value by parameter",
        height=110 + rows * _ROW_HEIGHT,
        legend={"x": 0, "y": 1.02, "yanchor": "bottom", "orientation": "h"},
        margin={"t": 60},
    )


def contours(stored: Stored, params: Sequence[str] | None = None) -> go.Figure:
    """Draw the smoothed values of the complete trials over pairs of parameters; by default of the four that matter most.

    UsageError if there are less than two such parameters, or a name is not a parameter.
    """
    from plotly.subplots import make_subplots

    trials, space = _complete(stored), stored.file.space
    for name in params or ():
        if name not in space:
            raise UsageError(f"params: {stored.name} has no parameter {name!r}; there are {', '.join(space)}")
    names = list(params or _leading(stored))[:_PAIRED]
    pairs = list(combinations(names, 2))
    if not pairs:
        raise UsageError(f"{stored.name} has one parameter, and a contour needs two")
    rows, columns = math.ceil(len(pairs) / _PER_ROW), min(len(pairs), _PER_ROW)
    figure = make_subplots(rows, columns, vertical_spacing=0.26 / rows, horizontal_spacing=0.1)
    for k, (first, second) in enumerate(pairs):
        at = {"row": k // _PER_ROW + 1, "col": k % _PER_ROW + 1}
        with_both = [trial for trial in trials if first in trial.params and second in trial.params]
        if with_both:
            _add_contour(figure, space, with_both, (first, second), at)
    colours = {"colorscale": _scale(stored), "colorbar": _bar(stored)}
    return figure.update_layout(
        title=f"{label(stored.name)}: smoothed value by pairs of parameters",
        coloraxis=colours,
        height=110 + rows * (_ROW_HEIGHT + 20),
    )


def parallel(stored: Stored) -> go.Figure:
    """Draw every complete trial as a line through its value and its parameters."""
    import plotly.graph_objects as go

    trials, objective = _complete(stored, thinning.LINES), Objective.of(stored.file)
    # The last line lies on top: let it be the best.
    trials = sorted(trials, key=objective.rank, reverse=True)
    scores = [trial.value or 0.0 for trial in trials]
    dimensions: list[dict[str, Any]] = [{"label": label(objective.name), "values": scores}]
    for name, parameter in stored.file.space.items():
        if any(name in trial.params for trial in trials):
            dimensions.append(_dimension(name, parameter, [trial.params.get(name) for trial in trials]))
    hidden = {"color": "rgba(0,0,0,0)"}  # the ends of a range would stand below the slanted names
    line = {"color": scores, "colorscale": _scale(stored), "showscale": True, "colorbar": _bar(stored)}
    figure = go.Figure(go.Parcoords(line=line, dimensions=dimensions, labelangle=-20, rangefont=hidden))
    return figure.update_layout(
        title=f"{label(stored.name)}: parameters and value", height=460, margin={"t": 90, "l": 70, "r": 40, "b": 40}
    )


def importance(stored: Stored, known: Sequence[Matter] | None = None) -> go.Figure:
    """Draw each parameter's importance, by PED-ANOVA, and the interval of nine tenths of its resamples.

    `known` is what `matters` returns, if that was computed already. UsageError where too few trials differ.
    """
    import plotly.graph_objects as go

    known = [one for one in known or matters(stored, learned.outlook(stored)) if one.share is not None]
    if not known:
        raise UsageError(
            f"importance can't be computed: {stored.name} has {len(stored.complete)} complete trials; it takes at least "
            f"{learned.MIN_VALUES} of different values"
        )
    known = sorted(known, key=lambda one: one.share or 0.0)
    shares = [one.share or 0.0 for one in known]
    figure = go.Figure(
        go.Bar(
            x=shares,
            y=[label(one.name) for one in known],
            orientation="h",
            marker={"color": COLOURS[0]},
            error_x={
                "type": "data",
                "array": [(one.high or 0.0) - share for one, share in zip(known, shares, strict=True)],
                "arrayminus": [share - (one.low or 0.0) for one, share in zip(known, shares, strict=True)],
                "color": COLOURS[1],
                "thickness": 2,
            },
            text=[f"{number(one.share)}: {one.verdict}" for one in known],
            hovertemplate="%{y}: %{text}<extra></extra>",
            textposition="none",
        )
    )
    return figure.update_layout(
        title=f"{label(stored.name)}: importance of the parameters",
        xaxis={"title": "share of importance, with the interval of 90 % of resamples", "range": [0, 1.02]},
        yaxis={"type": "category"},
        height=110 + 40 * len(known),
    )


def _complete(stored: Stored, most: int | None = None) -> list[Trial]:
    if not stored.complete:
        raise UsageError(f"{stored.name} has no complete trial yet, so there is nothing to draw")
    trials = sorted(stored.complete, key=lambda trial: trial.number)
    return thinning.thinned(trials, Objective.of(stored.file), most or thinning.POINTS)


def _leading(stored: Stored) -> list[str]:
    return [one.name for one in matters(stored, learned.outlook(stored))]


def _scale(stored: Stored) -> list[tuple[float, str]]:
    """Return the colours of values, so that the best are orange."""
    if stored.file.direction == "maximize":
        return SCALE
    return [(1 - at, colour) for at, colour in reversed(SCALE)]


def _bar(stored: Stored) -> dict[str, Any]:
    return {"title": {"text": label(stored.file.settings.study.objective), "side": "right"}}


def _add_slice(
    figure: go.Figure, trials: Sequence[Trial], name: str, parameter: Parameter, at: Mapping[str, int], **options: Any
) -> None:
    with_it = [trial for trial in trials if name in trial.params]
    figure.add_scatter(
        x=values(parameter, [trial.params[name] for trial in with_it]),
        y=[trial.value for trial in with_it],
        text=[f"trial {trial.number}" for trial in with_it],
        mode="markers",
        name="pruned trials",
        legendgroup="pruned",
        hovertemplate="%{text}: %{y:.5g} at %{x}<extra></extra>",
        **at,
        **options,
    )


def _marker(trials: Sequence[Trial], name: str, stored: Stored, *, shows_scale: bool) -> dict[str, Any]:
    return {
        "color": [trial.number for trial in trials if name in trial.params],
        "cmin": 0,
        "cmax": max(trial.number for trial in stored.trials),
        "colorscale": SCALE,
        "size": 7,
        "opacity": 0.8,
        "showscale": shows_scale,
        "colorbar": {"title": {"text": "trial", "side": "right"}},
    }


def _dimension(name: str, parameter: Parameter, params: Sequence[Any]) -> dict[str, Any]:
    """Return an axis of parallel coordinates; a trial without the parameter is drawn below its lowest value."""
    places: list[float | None]
    if isinstance(parameter, Choice):
        listed = parameter.values()
        places = [None if param is None else listed.index(param) for param in params]
    elif parameter.log:
        places = [None if param is None else math.log10(param) for param in params]
        low, high = math.floor(math.log10(parameter.low)), math.ceil(math.log10(parameter.high))
    else:
        places = list(params)
    known = [place for place in places if place is not None]
    is_missing, lowest, highest = len(known) < len(places), min(known), max(known)
    outside = lowest - 0.15 * ((highest - lowest) or 1.0)
    dimension: dict[str, Any] = {
        "label": label(name),
        "values": [outside if place is None else place for place in places],
    }
    if isinstance(parameter, Choice):
        # These ticks are the only labels that Plotly doesn't read as HTML.
        dimension |= {"tickvals": list(range(len(listed))), "ticktext": list(map(html.unescape, labels(listed)))}
    elif parameter.log:
        powers = range(low, high + 1, max(1, (high - low) // _TICKS + 1))
        dimension |= {"tickvals": list(powers), "ticktext": [f"1e{power}" for power in powers]}
    ends = (0, len(listed) - 1) if isinstance(parameter, Choice) else (parameter.low, parameter.high)
    is_log = not isinstance(parameter, Choice) and parameter.log
    bottom, top = (math.log10(end) for end in ends) if is_log else ends
    if bottom < top:
        dimension["range"] = [min(bottom, outside) if is_missing else bottom, top]
    if is_missing and "tickvals" in dimension:
        dimension["tickvals"], dimension["ticktext"] = (
            [outside, *dimension["tickvals"]],
            ["none", *dimension["ticktext"]],
        )
    return dimension


def _add_contour(
    figure: go.Figure, space: Space, trials: Sequence[Trial], names: Sequence[str], at: Mapping[str, int]
) -> None:
    """Add the values smoothed over two parameters, and the trials as points."""
    grids = [_grid(space[name]) for name in names]
    weights = [
        _weights(space[name], places, np.array([_place(space[name], trial.params[name]) for trial in trials]))
        for name, (_, places) in zip(names, grids, strict=True)
    ]
    # (places of the second, places of the first, trials)
    near = weights[1][:, None, :] * weights[0][None, :, :]
    total, scores = near.sum(-1), np.array([trial.value for trial in trials])
    smooth = np.where(total > _EMPTY, near @ scores / np.maximum(total, _EMPTY), np.nan)
    figure.add_heatmap(
        x=grids[0][0],
        y=grids[1][0],
        z=[[None if math.isnan(cell) else float(f"{cell:.5g}") for cell in row] for row in smooth],
        coloraxis="coloraxis",
        hovertemplate="%{x}, %{y}: about %{z:.4g}<extra></extra>",
        **at,
    )
    figure.add_scatter(
        x=values(space[names[0]], [trial.params[names[0]] for trial in trials]),
        y=values(space[names[1]], [trial.params[names[1]] for trial in trials]),
        text=[f"trial {trial.number}: {number(trial.value)}" for trial in trials],
        mode="markers",
        marker={"color": scores.tolist(), "coloraxis": "coloraxis", **_points_style(len(trials))},
        showlegend=False,
        hovertemplate="%{text}<extra></extra>",
        **at,
    )
    figure.update_xaxes(title=label(names[0]), **axis(space[names[0]]), **at)
    figure.update_yaxes(title=label(names[1]), **axis(space[names[1]]), **at)


def _points_style(count: int) -> dict[str, Any]:
    """Return the style of points above a contour: many small ones would hide it with a line around each."""
    return (
        {"size": 6, "line": {"width": 1, "color": "#5c6370"}} if count <= _MANY else {"size": 2, "line": {"width": 0}}
    )


def _place(parameter: Parameter, param: Any) -> float:
    """Return where a param lies: the index of a choice, else its place in the range, from 0 to 1."""
    return parameter.values().index(param) if isinstance(parameter, Choice) else position(parameter, param)


def _grid(parameter: Parameter) -> tuple[list[Any], Array]:
    """Return the values of a contour's grid along a parameter, and their places as `_place` counts."""
    if isinstance(parameter, Choice):
        return labels(parameter.values()), np.arange(len(parameter.values()), dtype=float)
    places = (np.arange(_GRID) + 0.5) / _GRID
    low, high = float(parameter.low), float(parameter.high)
    grid = low * (high / low) ** places if parameter.log else low + (high - low) * places
    return [float(f"{cell:.6g}") for cell in grid], places


def _weights(parameter: Parameter, grid: Array, points: Array) -> Array:
    """Return how near each trial is to each place of the grid, from 0 to 1, of shape (grid, trials)."""
    apart = np.abs(grid[:, None] - points[None, :])
    if isinstance(parameter, Choice):
        return (apart < 0.5).astype(float)
    weights: Array = np.exp(-0.5 * (apart / _SMOOTH) ** 2)
    return weights
