"""Figures of curves: a metric by epoch, with what ended each training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from search.errors import UsageError
from search.spec.vocabulary import closest
from search.storage.studies import Stored
from search.trials.objective import Objective
from search.trials.trial import Metrics, Trial
from search.views.figures import thinning
from search.views.figures.axes import params_text
from search.views.insights import gap
from search.views.pages.style import GREY
from search.views.printable import label

if TYPE_CHECKING:
    import plotly.graph_objects as go

# A figure names at most so many curves; the others have the colour of what ended them.
_NAMED = 10
# Up to so many epochs, each has its tick.
_FEW_EPOCHS = 12
_OF_ENDINGS = {"pruned": GREY, "stopped early": "#7f9c6b", "finished": "#6b8fb5", "diverged": "#c2574f", "": "#b59a5a"}


def curves(stored: Stored, metric: str | None = None, top: int | None = None) -> go.Figure:
    """Draw a metric by epoch, one line a trial; the best ones have colours and a legend.

    The others have the colour of what ended them. Of many trials only some are drawn, as the title says, and of many epochs.
    UsageError for a metric that no trial has reported, or a `top` below 1.
    """
    import plotly.graph_objects as go

    name = metric or stored.file.settings.study.objective
    if top is not None and (isinstance(top, bool) or not isinstance(top, int) or top < 1):
        raise UsageError(f"top: must be a whole number of at least 1; received {top!r}")
    known = dict.fromkeys(key for trial in stored.trials for metrics in trial.curve for key in metrics)
    if name not in known:
        there = ", ".join(known) or "none yet"
        raise UsageError(f"metric: no trial has reported {name!r}{closest(str(name), known)}; there are {there}")
    objective = Objective.of(stored.file)
    ranked = sorted((t for t in stored.trials if t.value is not None), key=objective.rank)
    unranked = [trial for trial in stored.trials if trial.value is None]
    drawn = [trial for trial in [*ranked, *unranked][:top] if any(m.get(name) is not None for m in trial.curve)]
    shown = thinning.thinned(drawn, objective, thinning.CURVES)
    named = [trial for trial in shown if trial.value is not None][:_NAMED]
    figure = go.Figure()
    _add_others(figure, [trial for trial in shown if trial not in named], name)
    # The best is drawn last, over the others.
    for rank, trial in reversed(list(enumerate(named))):
        hover = f"epoch %{{x}}: %{{y:.5g}}<br>{params_text(trial.params)}<extra>trial {trial.number}, {_ended(trial)}</extra>"
        epochs, values = _points(trial.curve, name)
        figure.add_scatter(
            x=epochs,
            y=values,
            mode="lines" if len(values) > 1 else "markers",
            name=f"trial {trial.number}",
            legendrank=rank,
            hovertemplate=hover,
        )
    figure.update_xaxes(_epochs_axis(max((len(trial.curve) for trial in shown), default=0)))
    more = thinning.note(len(shown), len(drawn), "curves")
    title = f"{label(stored.name)}: {label(name)} by epoch{f'<br><sub>{more}</sub>' if more else ''}"
    return figure.update_layout(title=title, xaxis_title="epoch", yaxis_title=label(name))


def curves_note(stored: Stored) -> str:
    """Return in a sentence that only some curves are shown; "" if all are."""
    there = sum(bool(trial.curve) for trial in stored.trials)
    return thinning.note(min(there, thinning.CURVES), there, "curves")


def best_gap(stored: Stored) -> go.Figure:
    """Draw training against validation of the best trial: its objective and its loss; UsageError if no trial is complete."""
    if not stored.complete:
        raise UsageError(f"{stored.name} has no complete trial yet, so there is nothing to draw")
    best, objective = stored.complete[0], stored.file.settings.study.objective
    title = f"{label(stored.name)}: training and validation of trial {best.number}"
    return training_and_validation(best.curve, objective, best.best_epoch or 1, title)


def training_and_validation(curve: Sequence[Metrics], objective: str, epoch: int, title: str) -> go.Figure:
    """Draw the objective and the loss of one training, on training and on validation rows; `epoch` is marked."""
    import plotly.graph_objects as go

    pairs = {name: gap.counterpart(name, curve) for name in dict.fromkeys((objective, "val_loss"))}
    names = [name for name in pairs if any(name in metrics for metrics in curve)]
    figure = go.Figure()
    for number, name in enumerate(names):
        axis = {"yaxis": "y2"} if number else {}
        for shown, dash in ((name, "solid"), (pairs[name], "dot")):
            if shown:
                epochs, values = _points(curve, shown)
                figure.add_scatter(x=epochs, y=values, name=label(shown), mode="lines", line={"dash": dash}, **axis)
    layout: dict[str, Any] = {"xaxis_title": "epoch", "yaxis_title": label(names[0])}
    if len(names) > 1:
        layout["yaxis2"] = {
            "title": label(names[1]),
            "overlaying": "y",
            "side": "right",
            "showgrid": False,
            "tickmode": "auto",
        }
        layout["legend"] = {"x": 1.1}
    figure.update_xaxes(_epochs_axis(len(curve)))
    figure.add_vline(x=epoch, line={"dash": "dash", "color": GREY, "width": 1})
    return figure.update_layout(title=title, **layout)


def _add_others(figure: go.Figure, trials: Sequence[Trial], name: str) -> None:
    """Add curves without names, as one line with gaps for each ending: a browser draws few long lines much faster."""
    for ended in dict.fromkeys(trial.ended for trial in trials):
        x: list[int | None] = []
        y: list[float | None] = []
        texts: list[str] = []
        members = [trial for trial in trials if trial.ended == ended]
        for trial in members:
            epochs, values = _points(trial.curve, name)
            x += [*epochs, None]
            y += [*values, None]
            texts += [f"trial {trial.number}"] * (len(epochs) + 1)
        is_short = all(len(trial.curve) < 2 for trial in members)
        figure.add_scatter(
            x=x,
            y=y,
            text=texts,
            mode="markers" if is_short else "lines",
            name=f"{_words(ended)} ({len(members)})",
            legendrank=_NAMED + 1,
            opacity=0.45,
            line={"color": _OF_ENDINGS.get(ended, GREY), "width": 1},
            hovertemplate=f"%{{text}}, epoch %{{x}}: %{{y:.5g}}<extra>{_words(ended)}</extra>",
        )


def _epochs_axis(epochs: int) -> dict[str, Any]:
    """Return the settings of an axis of epochs: only whole numbers are epochs."""
    return {"dtick": 1} if epochs <= _FEW_EPOCHS else {}


def _points(curve: Sequence[Metrics], name: str) -> tuple[list[int], list[float | None]]:
    """Return epochs, counted from 1, and values; of a long curve at even distances."""
    epochs = thinning.spread(range(1, len(curve) + 1), thinning.EPOCHS)
    return epochs, [curve[epoch - 1].get(name) for epoch in epochs]


def _ended(trial: Trial) -> str:
    return label(_words(trial.ended))


def _words(ended: str) -> str:
    return ended or "running"
