"""What the default sampler has learned from a study, for people and programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from search.storage.studies import Stored
from search.trials.objective import Objective
from search.trials.trial import Trials
from search.views.text import number, short

if TYPE_CHECKING:
    from search.policies.samplers.bayes import Outlook

_BAR = 24


def hyperparameters(stored: Stored) -> dict[str, Any] | None:
    """Return the learned hyperparameters as plain JSON; None for other samplers, and before anything is learned."""
    outlook = _outlook(stored)
    return None if outlook is None else asdict(outlook)


def panel(stored: Stored) -> RenderableType | None:
    """Return the same for people: the best expected trial, and the parameters by length scale, the shortest first."""
    outlook = _outlook(stored)
    if outlook is None:
        return None
    objective, epochs = stored.file.settings.study.objective, stored.file.epochs
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, scale in sorted(outlook.length_scales.items(), key=lambda item: item[1]):
        bar = "█" * round(_BAR / (1 + scale)) or "▏"
        middle = f", middle {short(outlook.middles[name])}" if name in outlook.middles else ""
        table.add_row(name, Text(bar, style="cyan"), Text(f"length scale {number(scale)}{middle}", style="dim"))
    return Group(
        Text("what the search believes", style="bold"),
        Text(
            f"trial {outlook.trial}'s config comes to {objective} {number(outlook.value)} ± {number(outlook.deviation)} "
            f"after {epochs} epochs; noise {number(outlook.noise)}"
        ),
        table,
    )


def _outlook(stored: Stored) -> Outlook | None:
    search, study = stored.file.settings.search, stored.file.settings.study
    if search.sampler.name != "bayes":
        return None
    from search.policies.samplers import SearchProblem
    from search.policies.samplers.bayes import BayesSampler

    file = stored.file
    sampler = BayesSampler(SearchProblem(file.space, Objective.of(file), study.seed, file.epochs))
    return sampler.outlook(Trials(stored.trials))
