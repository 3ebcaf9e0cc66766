"""What `manyfit show --trial` prints: one trial, for people and for programs."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from search.errors import UsageError
from search.storage.studies import Stored
from search.trials.objective import Objective
from search.trials.trial import Trial
from search.views import curves
from search.views.text import duration, number, short


def show(stored: Stored, wanted: int, console: Console) -> None:
    """Print one trial: how it ended and why, its config, its curve. UsageError if there is no trial of that number."""
    trial, objective = _trial(stored, wanted), Objective.of(stored.file)
    why = f" ({trial.why})" if trial.why else ""
    console.print(
        Text.assemble((f"{stored.name}, trial {trial.number}", "bold"), f": {trial.ended or trial.state}{why}")
    )
    best = f"{objective.name} {number(trial.value)} at epoch {trial.best_epoch}; " if trial.value is not None else ""
    console.print(f"{best}{len(trial.curve)} of {trial.epochs} epochs, {duration(sum(trial.seconds))}")
    if (error := objective.standard_error(trial)) is not None:
        what = "folds" if stored.file.settings.study.folds > 1 else "trainings"
        repeats = ", ".join(number(value) for value in objective.repeats(trial))
        console.print(f"the mean of {len(trial.trainings)} {what} ({repeats}), standard error {number(error)}")
    table = Table.grid(padding=(0, 2))
    for name, value in trial.config.items():
        table.add_row(Text(name, style="" if name in trial.params else "dim"), Text(short(value)))
    console.print(table)
    if trial.curve:
        console.print(curves.drawn(stored, [trial], console))
    if trial.detail:
        console.print(Text(trial.detail.rstrip(), style="dim"))


def to_json(stored: Stored, wanted: int) -> dict[str, Any]:
    """Return one trial as plain JSON. UsageError if there is no trial of that number."""
    trial = _trial(stored, wanted)
    document = {
        "study": stored.name,
        "trial": trial.number,
        "state": trial.state,
        "ended": trial.ended,
        "why": trial.why,
        "detail": trial.detail,
        "config": trial.config,
        "value": trial.value,
        "best_epoch": trial.best_epoch,
        "curve": trial.curve,
        "seconds": sum(trial.seconds),
    }
    if len(trial.trainings) > 1:
        document["standard_error"] = Objective.of(stored.file).standard_error(trial)
        document["repeats"] = [{"seed": training.seed, "curve": training.curve} for training in trial.trainings]
    return document


def _trial(stored: Stored, wanted: int) -> Trial:
    if wanted >= len(stored.trials):
        raise UsageError(f"there is no trial {wanted}; {stored.name} has {len(stored.trials)}, from 0")
    return stored.trials[wanted]
