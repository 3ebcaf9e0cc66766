"""The page of `manyfit check`: its verdicts, and the pictures of data and training."""

from __future__ import annotations

import base64
import math
from typing import TYPE_CHECKING

from search.checking.exhibit import Bars, Exhibit, Grid, Images, Lines
from search.checking.report import Report
from search.spec.finding import Finding
from search.views.pages.page import Block, Figure, Page, Picture, Pictures, Section, Table, Text, Verdict
from search.views.pages.style import GREY, SCALE
from search.views.printable import label
from search.views.text import short

if TYPE_CHECKING:
    import plotly.graph_objects as go

_TITLES = {"data": "The data", "training": "The training"}


def page(report: Report) -> Page:
    """Return the page of a check."""
    counts = {level: sum(finding.level == level for finding in report.findings) for level in ("ok", "look", "stop")}
    params = ", ".join(f"{name} {short(value)}" for name, value in report.params.items())
    lead: list[Block] = [
        Text(", ".join(f"{count} {level}" for level, count in counts.items())),
        Text(f"config: {params}; on {report.backend}" if params else f"on {report.backend}", is_quiet=True),
    ]
    # What needs a look comes first.
    order = {"stop": 0, "look": 1, "ok": 2}
    verdicts: list[Block] = [_verdict(one) for one in sorted(report.findings, key=lambda one: order[one.level])]
    if report.left_out:
        why = "; ".join(f"{name} ({reason})" for name, reason in report.left_out.items())
        verdicts.append(Text(f"left out: {why}", is_quiet=True))
    sections = [Section("Verdicts", verdicts)]
    for part, title in _TITLES.items():
        if blocks := [block for exhibit in report.exhibits if exhibit.part == part for block in _blocks(exhibit)]:
            sections.append(Section(title, blocks))
    return Page(f"{report.study}: check", sections, lead)


def _verdict(finding: Finding) -> Verdict:
    return Verdict(finding.level, f"{finding.name}: {finding.text}", finding.advice)


def _blocks(exhibit: Exhibit) -> list[Block]:
    if isinstance(exhibit, Images):
        shown = [Picture(base64.b64decode(png), caption) for png, caption in exhibit.images]
        return [Pictures(exhibit.name, exhibit.title, shown, exhibit.note, exhibit.width)]
    if isinstance(exhibit, Lines):
        return [Figure(exhibit.name, exhibit.title, _lines(exhibit), exhibit.note)]
    if isinstance(exhibit, Bars):
        return [Figure(exhibit.name, exhibit.title, _bars(exhibit), exhibit.note)]
    if isinstance(exhibit, Grid):
        return [Figure(exhibit.name, exhibit.title, _grid(exhibit), exhibit.note)]
    table = Table([*exhibit.head], [[*row] for row in exhibit.rows])
    return [Text(exhibit.title), table, *([Text(exhibit.note, is_quiet=True)] if exhibit.note else [])]


def _lines(exhibit: Lines) -> go.Figure:
    import plotly.graph_objects as go

    figure = go.Figure()
    for name, (x, y) in exhibit.lines.items():
        figure.add_scatter(x=list(x), y=list(y), mode="lines", name=label(name))
    for number, (name, at) in enumerate(sorted(exhibit.marks.items(), key=lambda mark: mark[1])):
        figure.add_shape(
            type="line", x0=at, x1=at, y0=0, y1=1, yref="paper", line={"dash": "dash", "color": GREY, "width": 1}
        )
        figure.add_annotation(
            # Plotly takes the exponent here, and the value above.
            x=math.log10(at) if exhibit.is_log else at,
            y=1.0 - 0.07 * number,
            yref="paper",
            text=label(f"{name}: {short(at)}"),
            showarrow=False,
            xanchor="left",
            font={"color": GREY, "size": 11},
        )
    figure.update_layout(xaxis_title=label(exhibit.x_title), yaxis_title=label(exhibit.y_title))
    if exhibit.is_log:
        figure.update_xaxes(type="log", exponentformat="power", dtick=1)
    return figure


def _bars(exhibit: Bars) -> go.Figure:
    import plotly.graph_objects as go

    names = [label(name) for name in exhibit.categories]
    figure = go.Figure([go.Bar(x=names, y=list(y), name=label(name)) for name, y in exhibit.bars.items()])
    figure.update_layout(yaxis_title=label(exhibit.y_title), barmode="group")
    return figure.update_xaxes(type="category")


def _grid(exhibit: Grid) -> go.Figure:
    import plotly.graph_objects as go

    figure = go.Figure(go.Heatmap(z=[list(row) for row in exhibit.values], colorscale=SCALE))
    figure.update_layout(xaxis_title=label(exhibit.x_title), yaxis_title=label(exhibit.y_title))
    return figure.update_yaxes(autorange="reversed")
