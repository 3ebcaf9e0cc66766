"""Figures of a trained model's outputs: the confusion matrix, and predicted over true numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from search.views.figures.axes import labels
from search.views.pages.style import COLOURS, GREY

if TYPE_CHECKING:
    import plotly.graph_objects as go

# More classes than this leave no room for the counts in the cells.
_COUNTED = 25
_RIGHT, _WRONG = "59, 130, 214", "224, 123, 40"


def confusion(classes: Sequence[str], counts: Sequence[Sequence[int]]) -> go.Figure:
    """Draw the counts of true and predicted classes: right ones blue, mistakes orange, by their share of the true class."""
    import plotly.graph_objects as go

    names, matrix = labels(classes), np.array(counts)
    # The root shows shares of few percent, too.
    shares = np.sqrt(matrix / np.maximum(matrix.sum(1, keepdims=True), 1))
    is_right = np.eye(len(names), dtype=bool)
    figure = go.Figure()
    for colour, cells in ((_RIGHT, is_right), (_WRONG, ~is_right)):
        figure.add_heatmap(
            x=names,
            y=names,
            z=np.where(cells, np.round(shares, 4), np.nan),
            zmin=0,
            zmax=1,
            colorscale=[[0, f"rgba({colour}, 0)"], [1, f"rgba({colour}, 1)"]],
            showscale=False,
            customdata=matrix,
            hovertemplate="%{y} taken for %{x}: %{customdata}<extra></extra>",
            xgap=1,
            ygap=1,
        )
    if len(names) <= _COUNTED:
        # Not the heatmap's own text, whose colour takes a transparent cell for a light one.
        there = np.argwhere(matrix > 0)
        figure.add_scatter(
            x=[names[column] for _, column in there],
            y=[names[row] for row, _ in there],
            text=[str(matrix[row, column]) for row, column in there],
            mode="text",
            hoverinfo="skip",
            showlegend=False,
        )
    axis = {"type": "category", "showgrid": False, "categoryorder": "array", "categoryarray": names}
    return figure.update_layout(
        xaxis={**axis, "title": "predicted class"},
        yaxis={**axis, "title": "true class", "autorange": "reversed"},
        height=min(180 + 30 * len(names), 900),
    )


def predicted(points: Sequence[Sequence[float]]) -> go.Figure:
    """Draw predicted over true numbers of a regression; points on the line are right."""
    import plotly.graph_objects as go

    true, given = [point[0] for point in points], [point[1] for point in points]
    ends = [min(true), max(true)]
    figure = go.Figure()
    figure.add_scatter(x=ends, y=ends, mode="lines", line={"color": GREY, "dash": "dash"}, hoverinfo="skip")
    figure.add_scatter(
        x=true,
        y=given,
        mode="markers",
        marker={"color": COLOURS[0], "size": 5, "opacity": 0.6},
        hovertemplate="%{x:.5g} predicted as %{y:.5g}<extra></extra>",
    )
    return figure.update_layout(xaxis_title="true value", yaxis_title="predicted value", showlegend=False)
