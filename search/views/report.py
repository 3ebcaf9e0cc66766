"""What `show` and `list` print: tables and curves for people, the same as JSON for programs."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from search.errors import UsageError
from search.records import Brief, Stored
from search.resolved import how, of
from search.study import Trial
from search.views import export
from search.views.beliefs import beliefs, panel
from search.views.console import duration, label, number

CURVES = 5
# The kind of event that a program's compilation is.
COMPILED = "program compiled"
# With fewer different values importance is an accident.
LEAST_VALUES = 4
_PLOT_HEIGHT = 14
# A pruner that judges every epoch ends trials at many.
_RUNGS = 6


def state(brief_or_stored: Brief | Stored, counts: Counter[str] | dict[str, int]) -> str:
    """Say in one or two words where a study stands."""
    if brief_or_stored.ended:
        return "done"
    return "running or cut off" if counts.get("RUNNING") else "unfinished"


def list_table(briefs: Sequence[Brief], base: Path) -> RenderableType:
    """Return the table of `manyfit list`."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("study", "state", "trials", "complete", "pruned", "failed", "best", "objective", "time", "database"):
        is_text = column in ("study", "state", "objective", "database")
        table.add_column(column, justify="left" if is_text else "right", overflow="fold")
    for brief in briefs:
        path = brief.path.relative_to(base) if brief.path.is_relative_to(base) else brief.path
        table.add_row(
            brief.name,
            state(brief, brief.counts),
            f"{brief.ended_trials}/{brief.wanted}",
            *(str(brief.counts.get(key, 0)) for key in ("COMPLETE", "PRUNED", "FAIL")),
            number(brief.best),
            brief.objective,
            duration(brief.seconds),
            str(path),
        )
    return table


def brief_json(brief: Brief) -> dict[str, Any]:
    """Return a study's line as plain JSON."""
    return {
        "study": brief.name,
        "database": str(brief.path),
        "state": state(brief, brief.counts),
        "trials": brief.trials,
        "ended": brief.ended_trials,
        "wanted": brief.wanted,
        "counts": brief.counts,
        "objective": brief.objective,
        "best": brief.best,
        "seconds": brief.seconds,
    }


def show_json(stored: Stored, top: int) -> dict[str, Any]:
    """Return all that `show` tells as plain JSON."""
    return {
        **export.best(stored, top).model_dump(mode="json"),
        "state": state(stored, _states(stored)),
        "ended_because": stored.ended,
        "ended": dict(endings(stored)),
        "importance": importance(stored),
        "beliefs": beliefs(stored),
        "seconds": stored.seconds,
        "spent": stored.spent,
        "compiled": _compiled(stored),
        "events": [{"at": at.isoformat(), "kind": kind, **detail} for at, kind, detail in stored.events],
    }


def show(stored: Stored, top: int, console: Console) -> None:
    """Print a study for people."""
    study = stored.file.settings.study
    counts = _states(stored)
    console.print(Text.assemble((stored.name, "bold"), f": {stored.file.direction} {study.objective}"))
    why = f" ({stored.ended})" if stored.ended else ""
    console.print(
        f"{state(stored, counts)}{why}: {sum(t.is_ended for t in stored.trials)} of {study.trials} trials, "
        f"{sum(len(t.curve) for t in stored.trials)} epochs, {duration(stored.seconds)}"
    )
    console.print(Text(f"{how(of(stored))}{_spent(stored)}", style="dim"))
    console.print()
    if stored.complete:
        console.print(_best_table(stored, top))
        console.print()
    console.print(_columns(_counts_table(stored), _importance_table(stored)))
    if stored.complete:
        console.print()
        console.print(Text.from_ansi(_plot(stored, stored.complete[:CURVES], console)))
    if believed := panel(stored):
        console.print(believed)
    _failures(stored, console)
    _history(stored, console)
    console.print(_settings_table(stored))


def importance(stored: Stored) -> dict[str, float]:
    """Return how much each parameter mattered, by PED-ANOVA as optuna-dashboard computes it; {} if that can't be told."""
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    from search.samplers import distribution

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction=optuna.study.StudyDirection[stored.file.direction.upper()])
    for trial in stored.complete:
        study.add_trial(
            optuna.trial.create_trial(
                params=trial.labels,
                distributions={name: distribution(stored.file.space[name]) for name in trial.labels},
                value=trial.value,
            )
        )
    if len({trial.value for trial in stored.complete}) < LEAST_VALUES:
        return {}
    try:
        with warnings.catch_warnings(action="ignore"):
            found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    except (ValueError, RuntimeError):
        return {}  # all of them alike
    return {name: float(share) for name, share in found.items()}


def _states(stored: Stored) -> Counter[str]:
    return Counter(trial.state for trial in stored.trials)


def endings(stored: Stored) -> Counter[str]:
    """Count the trials by what ended them."""
    return Counter(trial.ended or trial.state.lower() for trial in stored.trials)


def _best_table(stored: Stored, top: int) -> Table:
    """Return the best configs side by side: a space of any width then fits a terminal."""
    best = stored.complete[:top]
    table = Table(title="best configs", title_justify="left", box=None, header_style="bold", pad_edge=False)
    table.add_column("rank")
    for rank in range(1, len(best) + 1):
        table.add_column(str(rank), justify="right", overflow="fold", style="bold green" if rank == 1 else "")
    table.add_row(stored.file.settings.study.objective, *(number(trial.value) for trial in best))
    table.add_row("trial", *(str(trial.number) for trial in best))
    table.add_row("best epoch", *(f"{trial.best_epoch} of {len(trial.curve)}" for trial in best))
    table.add_row("ended", *(trial.ended for trial in best))
    for name in stored.file.space:
        table.add_row(name, *(label(trial.labels.get(name, "-")) for trial in best))
    return table


def _counts_table(stored: Stored) -> Table:
    table = Table(title="what ended the trials", title_justify="left", box=None, show_header=False, pad_edge=False)
    states = {trial.ended or trial.state.lower(): trial.state for trial in stored.trials}
    for ended, count in endings(stored).most_common():
        table.add_row(f"{count:>4}", ended, Text(states[ended], style="dim"))
        if ended == "pruned":
            rungs = Counter(len(trial.curve) for trial in stored.trials if trial.ended == "pruned")
            for epoch, there in sorted(rungs.items())[:_RUNGS]:
                table.add_row("", Text(f"{there} at epoch {epoch}", style="dim"))
    return table


def show_trial(stored: Stored, wanted: int, console: Console) -> None:
    """Print one trial: what became of it and why, its config, its curve. UsageError if there is none of that number."""
    trial, objective = _trial(stored, wanted), stored.file.settings.study.objective
    why = f" ({trial.why})" if trial.why else ""
    console.print(
        Text.assemble((f"{stored.name}, trial {trial.number}", "bold"), f": {trial.ended or trial.state}{why}")
    )
    best = f"{objective} {number(trial.value)} at epoch {trial.best_epoch}; " if trial.value is not None else ""
    console.print(f"{best}{len(trial.curve)} of {trial.epochs} epochs, {duration(sum(trial.seconds))}")
    table = Table.grid(padding=(0, 2))
    for name, value in trial.config.items():
        table.add_row(Text(name, style="" if name in trial.labels else "dim"), Text(label(value)))
    console.print(table)
    if trial.curve:
        console.print(Text.from_ansi(_plot(stored, [trial], console)))
    if trial.detail:
        console.print(Text(trial.detail.rstrip(), style="dim"))


def trial_json(stored: Stored, wanted: int) -> dict[str, Any]:
    """Return the same as plain JSON."""
    trial = _trial(stored, wanted)
    return {
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


def _trial(stored: Stored, wanted: int) -> Trial:
    if wanted >= len(stored.trials):
        raise UsageError(f"there is no trial {wanted}; {stored.name} has {len(stored.trials)}, from 0")
    return stored.trials[wanted]


def _importance_table(stored: Stored) -> Table | None:
    shares = importance(stored)
    if not shares:
        return None
    table = Table(title="importance", title_justify="left", box=None, show_header=False, pad_edge=False)
    for name, share in shares.items():
        table.add_row(name, Text("█" * round(share * 24) or "▏", style="cyan"), f"{share:.2f}")
    return table


def _columns(*tables: Table | None) -> RenderableType:
    grid = Table.grid(padding=(0, 6))
    grid.add_row(*(table for table in tables if table is not None))
    return grid


def _plot(stored: Stored, trials: Sequence[Trial], console: Console) -> str:
    import plotext

    objective = stored.file.settings.study.objective
    plotext.clear_figure()
    plotext.plot_size(min(console.width, 100), _PLOT_HEIGHT)
    plotext.theme("clear" if not console.is_terminal else "pro")
    plotext.canvas_color("default")
    plotext.axes_color("default")
    for trial in trials:
        points = [(epoch, m[objective]) for epoch, m in enumerate(trial.curve, 1) if m.get(objective) is not None]
        plotext.plot([epoch for epoch, _ in points], [value for _, value in points], label=f"trial {trial.number}")
    plotext.title(f"{objective} by epoch" + (f", the best {len(trials)}" if len(trials) > 1 else ""))
    return str(plotext.build())


def _compiled(stored: Stored) -> list[dict[str, Any]]:
    """Return the programs that were compiled, again ones after an interruption included."""
    return [detail for _, kind, detail in stored.events if kind == COMPILED]


def _spent(stored: Stored) -> str:
    """Say where the workers' time went."""
    compiled = _compiled(stored)
    names = {
        "train": "training",
        "compile": f"compiling {len(compiled)} program{'' if len(compiled) == 1 else 's'}",
        "build": "waiting for models to be built",
        "wait": "waiting for verdicts",
        "save": "writing checkpoints",
    }
    told = [f"{duration(stored.spent[part])} {name}" for part, name in names.items() if stored.spent.get(part)]
    return f"; {', '.join(told)}" if told else ""


def _failures(stored: Stored, console: Console) -> None:
    failed = [trial for trial in stored.trials if trial.state == "FAIL"]
    if failed:
        console.print(Text("\nfailed", style="bold red"))
        for why, count in Counter(trial.why for trial in failed).most_common(5):
            numbers = ", ".join(str(trial.number) for trial in failed if trial.why == why)
            console.print(Text.assemble(f"{count:>4}  {why} ", (f"(trial {numbers})", "dim")))


def _history(stored: Stored, console: Console) -> None:
    events = [event for event in stored.events if event[1] != COMPILED]
    if events:
        console.print(Text("\nhistory", style="bold"))
    for at, kind, detail in events[-10:]:
        shown = ", ".join(f"{key} {value}" for key, value in detail.items() if key != "detail" and value is not None)
        when = at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        console.print(Text.assemble((f"  {when}  ", "dim"), f"{kind}: {shown}"))


def _settings_table(stored: Stored) -> RenderableType:
    settings = stored.file.settings.model_dump(mode="json", exclude_none=True)
    table = Table.grid(padding=(0, 2))
    for section, entries in settings.items():
        for key, value in entries.items():
            table.add_row(Text(f"{section}.{key}", style="dim"), Text(str(value)))
    for key, value in stored.resolved.items():
        table.add_row(Text(f"resolved.{key}", style="dim"), Text(str(value)))
    return Group(Text("\nsettings", style="bold"), table)
