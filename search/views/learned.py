"""What a study has learned about its parameters: their importance, and what the default sampler believes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from search.storage.studies import Stored
from search.trials import known
from search.trials.objective import Objective
from search.trials.trial import Trial, Trials
from search.views.text import number, short

if TYPE_CHECKING:
    from search.policies.samplers.bayes import Outlook

_BAR = 24
# With fewer distinct values, importance scores are noise.
MIN_VALUES = 4


def outlook(stored: Stored) -> Outlook | None:
    """Return what the default sampler has learned; None for other samplers, and before anything is learned."""
    search, study = stored.file.settings.search, stored.file.settings.study
    if search.sampler.name != "bayes":
        return None
    from search.policies.samplers import SearchProblem
    from search.policies.samplers.bayes import BayesSampler
    from search.policies.samplers.informed import InformedSampler

    file, objective = stored.file, Objective.of(stored.file)
    sampler = BayesSampler(SearchProblem(file.space, objective, study.seed, file.epochs))
    earlier = known.read(stored.study_attrs, objective)
    trials = InformedSampler(sampler, earlier).after_known(Trials(stored.trials))
    return sampler.outlook(trials, first=len(earlier))


def panel(stored: Stored, outlook: Outlook) -> RenderableType:
    """Return what the sampler expects: the best trial, and the parameters by length scale, the shortest first."""
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


def importance(stored: Stored) -> dict[str, float]:
    """Return each parameter's importance, by PED-ANOVA as optuna-dashboard computes it; {} if it can't be computed."""
    return importance_of(stored, stored.complete)


def importance_of(stored: Stored, trials: Sequence[Trial]) -> dict[str, float]:
    """Return the same of some complete trials."""
    if len({trial.value for trial in trials}) < MIN_VALUES:
        return {}
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    from search.views.optuna_study import study_of

    study = study_of(stored, trials)
    try:
        with warnings.catch_warnings(action="ignore"):
            shares = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    except (ValueError, RuntimeError):
        return {}  # all values are alike
    return {name: float(share) for name, share in shares.items()}


def importance_table(shares: Mapping[str, float]) -> Table | None:
    """Return importance scores as a table; None if there are none."""
    if not shares:
        return None
    table = Table(title="importance", title_justify="left", box=None, show_header=False, pad_edge=False)
    for name, share in shares.items():
        table.add_row(Text(name), Text("█" * round(share * _BAR) or "▏", style="cyan"), f"{share:.2f}")
    return table
