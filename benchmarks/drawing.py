"""The picture of `quality.py`: mean regret by share of the budget, one line per search, one panel per number of lanes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import measuring
import numpy as np
from numpy.typing import NDArray
from playing import Played
from ranking import mean_regret

from search.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".svg", ".png", ".pdf")
POINTS = 240
# The picture starts at this share of the budget: before it, there are only first epochs of first trials.
FIRST_SHARE = 0.02
WIDTH, HEIGHT = 5.2, 4.4
LEGEND_WIDTH = 1.9

# The colour is the sampler (Okabe and Ito's colours, which colour-blind people can distinguish), the dashes are the pruner.
OURS = "bayes"
COLOURS = {
    "random": "#7f7f7f",
    "qmc": "#009e73",
    "cmaes": "#cc79a7",
    "tpe": "#0072b2",
    "gp": "#e69f00",
    "grid": "#56b4e9",
    OURS: "#d55e00",
}
DASHES = {
    "none": "solid",
    "halving": (0, (5, 1.5)),
    "median": (0, (1, 1.2)),
    "hyperband": (0, (5, 1.5, 1, 1.5)),
}
OTHER_DASHES = (0, (2, 2))


def check(path: Path) -> None:
    """Raise UsageError, with what to do, if no picture can be drawn into `path`."""
    if path.suffix not in SUFFIXES:
        raise UsageError(f"a picture is one of {', '.join(SUFFIXES)}; received {str(path)!r}")
    if install := measuring.to_install((("matplotlib", ".[bench]"),)):
        raise UsageError(f"a picture needs the package matplotlib; {install}")


def draw(played: Sequence[Played], path: Path, about: str) -> None:
    """Draw runs into a file, with the text `about` below."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    lanes = sorted({run.match.lanes for run in played})
    # A fixed salt, so that the same runs give the same file, bit for bit.
    mpl.rcParams.update({"svg.hashsalt": "manyfit", "svg.fonttype": "path", "font.size": 9, "axes.titlesize": 10})
    figure = Figure(figsize=(WIDTH * len(lanes) + LEGEND_WIDTH, HEIGHT), layout="constrained")
    panels = figure.subplots(1, len(lanes), squeeze=False, sharey=True)[0]
    lines: dict[str, Any] = {}
    for panel, count in zip(panels, lanes, strict=True):
        lines |= _fill(panel, [run for run in played if run.match.lanes == count])
        panel.set_title(f"{count} lanes" if count > 1 else "1 lane", loc="left")
    panels[0].set_ylim(top=_top(played))
    panels[0].set_ylabel("mean regret (lower is better)")
    titles = sorted(lines, key=lambda title: float(_mean_of(title, played, [1.0])[0]))
    figure.legend(
        [lines[title] for title in titles], titles, loc="outside right upper", frameon=False, handlelength=3.2
    )
    figure.supxlabel(about, fontsize=8, color="#555555", x=0.01, ha="left")
    figure.savefig(path, dpi=144, metadata={"Date": None} if path.suffix == ".svg" else None)


def _fill(panel: Axes, played: Sequence[Played]) -> dict[str, Any]:
    """Draw one line per search; return the lines by title."""
    shares = np.linspace(FIRST_SHARE, 1, POINTS)
    lines: dict[str, Any] = {}
    for title in dict.fromkeys(run.match.search for run in played):
        sampler, _, pruner = (part.strip() for part in title.partition("+"))
        is_ours = title == OURS
        (lines[title],) = panel.plot(
            shares,
            _mean_of(title, played, shares.tolist()),
            color=COLOURS.get(sampler.split()[0], "#000000"),
            linestyle="solid" if is_ours else DASHES.get(pruner.split()[0] if pruner else "none", OTHER_DASHES),
            linewidth=3.0 if is_ours else 1.4,
            zorder=3 if is_ours else 2,
        )
    panel.axhline(0, color="#999999", linewidth=0.8, zorder=1)
    text: dict[str, Any] = {"textcoords": "offset points", "ha": "right", "va": "top", "color": "#777777", "size": 7.5}
    panel.annotate("best of 1,500 random", (1, 0), xytext=(-2, -3), **text)
    panel.set_xlim(0, 1)
    panel.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "1/4", "1/2", "3/4", "all"])
    panel.set_xlabel("share of the epochs")
    panel.grid(axis="y", color="#e5e5e5", linewidth=0.6)
    panel.spines[["top", "right"]].set_visible(False)
    return lines


def _mean_of(search: str, played: Sequence[Played], shares: Sequence[float]) -> NDArray[np.float64]:
    return mean_regret([run for run in played if run.match.search == search], shares)


def _top(played: Sequence[Played]) -> float:
    """Return the highest regret to show: 1.8 times that of the worst search after a quarter of the budget."""
    quarters = [float(_mean_of(search, played, [0.25])[0]) for search in {run.match.search for run in played}]
    return 1.8 * max((regret for regret in quarters if 0 < regret < math.inf), default=1.0)
