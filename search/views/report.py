"""What `show` and `list` print: tables and curves for people, JSON for programs."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from search.errors import UsageError
from search.reading import tomltext
from search.spec.resolved import describe
from search.storage import records
from search.storage.holder import Holder, holder
from search.storage.records import Brief
from search.storage.studies import Stored
from search.trials.history import IMPORTED
from search.trials.objective import Objective
from search.trials.trial import Trial
from search.views import export, standing
from search.views.hyperparameters import hyperparameters, panel
from search.views.text import duration, number, short

CURVES = 5
# The kind of a compilation's event.
COMPILED = "program compiled"
# With fewer distinct values, importance scores are noise.
MIN_VALUES = 4
_PLOT_HEIGHT = 12
_LEGEND_WIDTH = 22
_COLOURS = ("green", "blue", "red", "yellow", "magenta")
# The width of a config's value; longer values are cut if they do not fit.
_VALUE_WIDTH = 10
# At most this many rungs are listed: a pruner that judges every epoch ends trials at many.
_MAX_RUNGS = 6


def state(brief_or_stored: Brief | Stored, counts: Counter[str] | dict[str, int]) -> str:
    """Return the state of a study, and the process that works on it."""
    word, process = _state_and_process(brief_or_stored, counts)
    return f"{word} ({process})" if process else word


def _state_and_process(study: Brief | Stored, counts: Counter[str] | dict[str, int]) -> tuple[str, Holder | None]:
    if study.ended:
        return "done", None
    process = holder(study.path)
    if process is not None and (counts.get("RUNNING") or not counts):
        # A process on another machine may have died; this machine can't see that.
        return "running" if not process.host else "running or cut off", process
    return "cut off" if counts.get("RUNNING") else "unfinished", None


def list_table(briefs: Sequence[Brief], base: Path) -> RenderableType:
    """Return the table of `manyfit list`."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    counted = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}
    if any("REFUSED" in brief.counts for brief in briefs):
        counted["refused"] = "REFUSED"
    for column in ("study", "state", "trials", *counted, "best", "objective", "time", "database"):
        is_text = column in ("study", "state", "objective", "database")
        table.add_column(column, justify="left" if is_text else "right", overflow="fold")
    for brief in briefs:
        path = brief.path.relative_to(base) if brief.path.is_relative_to(base) else brief.path
        table.add_row(
            brief.name,
            state(brief, brief.counts),
            f"{brief.ended_trials}/{brief.wanted}",
            *(str(brief.counts.get(key, 0)) for key in counted.values()),
            standing.best_of(brief),
            brief.objective,
            duration(brief.seconds),
            str(path),
        )
    return table


def brief_json(brief: Brief) -> dict[str, Any]:
    """Return a study's summary as plain JSON."""
    return {
        "study": brief.name,
        "database": str(brief.path),
        **_state_json(brief, brief.counts),
        "trials": brief.trials,
        "ended": brief.ended_trials,
        "wanted": brief.wanted,
        "counts": brief.counts,
        "objective": brief.objective,
        "best": brief.best,
        "ahead": brief.ahead and dict(zip(("value", "trial", "state"), brief.ahead, strict=True)),
        "seconds": brief.seconds,
    }


def _state_json(study: Brief | Stored, counts: Counter[str] | dict[str, int]) -> dict[str, Any]:
    word, process = _state_and_process(study, counts)
    details = process and {"pid": process.pid, "host": process.host, "since": process.since.isoformat()}
    return {"state": word, "process": details}


class Outcome(Protocol):
    """How a run ended, as far as it is printed; `search.sessions.run.Outcome` has these attributes."""

    @property
    def stored(self) -> Stored: ...
    @property
    def ended(self) -> tuple[int, ...]: ...
    @property
    def reason(self) -> str: ...
    @property
    def seconds(self) -> float: ...


def outcome_lines(outcome: Outcome) -> list[str]:
    """Return lines about what this `run` did, and about the whole study if that has more trials."""
    stored = outcome.stored
    ended = [trial for trial in stored.trials if trial.is_ended]
    reason = f" ({outcome.reason})" if outcome.reason else ""
    if not outcome.ended:
        wanted, done = stored.file.settings.study.trials, len(ended)
        of = f"{done} of {wanted} trials are done" if done <= wanted else f"{done} trials are done ({wanted} asked for)"
        return [f"{stored.name}: nothing left to do: {of}{reason}", f"trials: {_by_ending(ended)}"]
    now = [trial for trial in ended if trial.number in set(outcome.ended)]
    lines = [f"{stored.name}: {_trials(len(now))} in {duration(outcome.seconds)}{reason}", f"trials: {_by_ending(now)}"]
    if len(ended) > len(now):
        lines[0] = f"{stored.name}: {_trials(len(now))} in {duration(outcome.seconds)} by this command{reason}"
        lines.append(f"in all: {_trials(len(ended))} in {duration(stored.seconds)}: {_by_ending(ended)}")
    return lines


def _trials(count: int) -> str:
    return f"{count} trial{'' if count == 1 else 's'}"


def _by_ending(trials: Sequence[Trial]) -> str:
    return (
        ", ".join(f"{count} {ended}" for ended, count in Counter(trial.ended for trial in trials).most_common())
        or "none"
    )


def settings_toml(stored: Stored) -> str:
    """Return all settings of a study as TOML, defaults included; comments list what "auto" was resolved to."""
    settings = stored.file.settings.model_dump(mode="json", exclude_none=True)
    resolved = [
        f"# {key}: {json.dumps(value)}" for key, value in stored.resolved.items() if value not in ("", {}, None)
    ]
    return "\n".join(
        [f"# study {json.dumps(stored.name)}; what auto came to:", *resolved, "", tomltext.document(settings)]
    )


def show_json(stored: Stored, top: int) -> dict[str, Any]:
    """Return all that `show` prints as plain JSON."""
    return {
        **export.best(stored, top).model_dump(mode="json"),
        **_state_json(stored, _states(stored)),
        "ended_because": stored.ended,
        "ended": dict(endings(stored)),
        "importance": importance(stored),
        "beliefs": hyperparameters(stored),
        "seconds": stored.seconds,
        "spent": stored.spent,
        "compiled": _compiled(stored),
        "events": [{"at": at.isoformat(), "kind": kind, **detail} for at, kind, detail in stored.events],
    }


def show(stored: Stored, top: int, console: Console) -> None:
    """Print a study for people: the most important lines come last, and so stay on the screen."""
    _history(stored, console)
    _failures(stored, console)
    if stored.complete:
        console.print(_curves(stored, stored.complete[:CURVES], console))
        console.print()
    shares = importance(stored)
    if summary := panel(stored):
        console.print(summary)
        if note := _differ(stored, shares):
            console.print(Text(note, style="dim"))
        console.print()
    console.print(_columns(_counts_table(stored), _importance_table(shares)))
    console.print()
    _best_tables(stored, top, console)
    console.print(Text(standing.line(stored, top)))
    _headline(stored, console)


def _headline(stored: Stored, console: Console) -> None:
    study = stored.file.settings.study
    why = f" ({stored.ended})" if stored.ended else ""
    console.print(Text(f"{describe(records.resolved(stored))}{_spent(stored)}; all settings: --settings", style="dim"))
    console.print(
        Text.assemble(
            (stored.name, "bold"),
            f": {stored.file.direction} {study.objective}; {state(stored, _states(stored))}{why}: "
            f"{sum(t.is_ended for t in stored.trials)} of {study.trials} trials, "
            f"{sum(len(t.curve) for t in stored.trials)} epochs, {duration(stored.seconds)}",
        )
    )


def _differ(stored: Stored, shares: Mapping[str, float]) -> str:
    """Return why importance and the length scales order the parameters differently; "" if they do not."""
    learned = hyperparameters(stored)
    if not learned or not shares:
        return ""
    first = min(learned["length_scales"], key=learned["length_scales"].__getitem__)
    if first == next(iter(shares)):
        return ""
    return (
        f"{first} comes first here, {next(iter(shares))} under importance: importance compares the best complete trials with "
        "the others, the search learns from all epochs of all trials"
    )


def importance(stored: Stored) -> dict[str, float]:
    """Return each parameter's importance, by PED-ANOVA as optuna-dashboard computes it; {} if it can't be computed."""
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    from search.views.optuna_study import study_of

    study = study_of(stored, stored.complete)
    if len({trial.value for trial in stored.complete}) < MIN_VALUES:
        return {}
    try:
        with warnings.catch_warnings(action="ignore"):
            shares = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    except (ValueError, RuntimeError):
        return {}  # all values are alike
    return {name: float(share) for name, share in shares.items()}


def _states(stored: Stored) -> Counter[str]:
    return Counter(trial.state for trial in stored.trials)


def endings(stored: Stored) -> Counter[str]:
    """Count the trials by what ended them."""
    return Counter(trial.ended or trial.state.lower() for trial in stored.trials)


def _best_tables(stored: Stored, top: int, console: Console) -> None:
    """Print the best configs side by side, as many in a row as fit: names whole, long values cut."""
    best = stored.complete[:top]
    names = ["rank", "best epoch", stored.file.settings.study.objective, *stored.file.space]
    available = console.width - max(map(len, names))
    # Two blanks separate two columns.
    per_row = max(1, available // (_VALUE_WIDTH + 2))
    for start in range(0, len(best), per_row):
        shown = best[start : start + per_row]
        console.print(_best_table(stored, shown, start + 1, max(available // len(shown) - 2, 4)))
        console.print()


def _best_table(stored: Stored, best: Sequence[Trial], first: int, width: int) -> Table:
    table = Table(
        title="best configs" if first == 1 else None,
        title_justify="left",
        box=None,
        header_style="bold",
        pad_edge=False,
    )
    table.add_column("rank", no_wrap=True)
    for rank in range(first, first + len(best)):
        style = "bold green" if rank == 1 else ""
        table.add_column(str(rank), justify="right", no_wrap=True, overflow="ellipsis", style=style, max_width=width)

    def add(name: str, values: Iterable[object]) -> None:
        table.add_row(Text(name), *(Text(str(value)) for value in values))

    add("trial", (trial.number for trial in best))
    add("best epoch", (f"{trial.best_epoch} of {len(trial.curve)}" for trial in best))
    add("ended", (trial.ended for trial in best))
    for name in stored.file.space:
        add(name, (short(trial.params.get(name, "-")) for trial in best))
    objective = Objective.of(stored.file)
    add(objective.name, (number(trial.value) for trial in best))
    if stored.file.settings.study.repeats > 1:
        add("standard error", (number(objective.standard_error(trial)) for trial in best))
    return table


def _counts_table(stored: Stored) -> Table:
    table = Table(title="what ended the trials", title_justify="left", box=None, show_header=False, pad_edge=False)
    states = {trial.ended or trial.state.lower(): trial.state for trial in stored.trials}
    for ended, count in endings(stored).most_common():
        table.add_row(f"{count:>4}", ended, Text(states[ended], style="dim"))
        if ended == "pruned":
            rungs = Counter(len(trial.curve) for trial in stored.trials if trial.ended == "pruned")
            for epoch, pruned in sorted(rungs.items())[:_MAX_RUNGS]:
                table.add_row("", Text(f"{pruned} at epoch {epoch}", style="dim"))
    return table


def show_trial(stored: Stored, wanted: int, console: Console) -> None:
    """Print one trial: how it ended and why, its config, its curve. UsageError if there is no trial of that number."""
    trial, objective = _trial(stored, wanted), stored.file.settings.study.objective
    why = f" ({trial.why})" if trial.why else ""
    console.print(
        Text.assemble((f"{stored.name}, trial {trial.number}", "bold"), f": {trial.ended or trial.state}{why}")
    )
    best = f"{objective} {number(trial.value)} at epoch {trial.best_epoch}; " if trial.value is not None else ""
    console.print(f"{best}{len(trial.curve)} of {trial.epochs} epochs, {duration(sum(trial.seconds))}")
    of = Objective.of(stored.file)
    if (error := of.standard_error(trial)) is not None:
        repeats = ", ".join(number(value) for value in of.repeats(trial))
        console.print(f"the mean of {len(trial.trainings)} trainings ({repeats}), standard error {number(error)}")
    table = Table.grid(padding=(0, 2))
    for name, value in trial.config.items():
        table.add_row(Text(name, style="" if name in trial.params else "dim"), Text(short(value)))
    console.print(table)
    if trial.curve:
        console.print(_curves(stored, [trial], console))
    if trial.detail:
        console.print(Text(trial.detail.rstrip(), style="dim"))


def trial_json(stored: Stored, wanted: int) -> dict[str, Any]:
    """Return one trial as plain JSON."""
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
        **_repeats(stored, trial),
    }


def _repeats(stored: Stored, trial: Trial) -> dict[str, Any]:
    if len(trial.trainings) == 1:
        return {}
    repeats = [{"seed": training.seed, "curve": training.curve} for training in trial.trainings]
    return {"standard_error": Objective.of(stored.file).standard_error(trial), "repeats": repeats}


def _trial(stored: Stored, wanted: int) -> Trial:
    if wanted >= len(stored.trials):
        raise UsageError(f"there is no trial {wanted}; {stored.name} has {len(stored.trials)}, from 0")
    return stored.trials[wanted]


def _importance_table(shares: Mapping[str, float]) -> Table | None:
    if not shares:
        return None
    table = Table(title="importance", title_justify="left", box=None, show_header=False, pad_edge=False)
    for name, share in shares.items():
        table.add_row(Text(name), Text("█" * round(share * 24) or "▏", style="cyan"), f"{share:.2f}")
    return table


def _columns(*tables: Table | None) -> RenderableType:
    grid = Table.grid(padding=(0, 6))
    grid.add_row(*(table for table in tables if table is not None))
    return grid


def _curves(stored: Stored, trials: Sequence[Trial], console: Console) -> RenderableType:
    """Draw the trials' curves of the objective; a legend stands beside several curves."""
    objective = stored.file.settings.study.objective
    legend = Table.grid(padding=(0, 1))
    for index, trial in enumerate(trials):
        marker = _markers(console)[index]
        legend.add_row(
            Text(marker or "█", style=_COLOURS[index]), Text(f"trial {trial.number}"), Text(number(trial.value))
        )
    width = min(console.width, 100) - (_LEGEND_WIDTH if len(trials) > 1 else 0)
    plot = Text.from_ansi(_plot(stored, trials, console, width))
    title = Text(f"{objective} by epoch" + (f", the best {len(trials)}" if len(trials) > 1 else ""), style="bold")
    if len(trials) == 1:
        return Group(title, plot)
    grid = Table.grid(padding=(0, 1))
    grid.add_row(plot, legend)
    return Group(title, grid)


def _markers(console: Console) -> list[str | None]:
    """Return the marker of each curve: its rank if the console has no colours, else None for dots."""
    return [None] * CURVES if console.is_terminal else [str(rank) for rank in range(1, CURVES + 1)]


def _plot(stored: Stored, trials: Sequence[Trial], console: Console, width: int) -> str:
    import plotext

    objective = stored.file.settings.study.objective
    plotext.clear_figure()
    plotext.plot_size(max(width, 20), _PLOT_HEIGHT)
    plotext.theme("clear" if not console.is_terminal else "pro")
    plotext.canvas_color("default")
    plotext.axes_color("default")
    # The best is drawn last, over the others.
    for index, trial in reversed(list(enumerate(trials))):
        points = [(epoch, m[objective]) for epoch, m in enumerate(trial.curve, 1) if m.get(objective) is not None]
        colour = _COLOURS[index] if console.is_terminal else None
        marker = _markers(console)[index] if len(trials) > 1 else None
        plotext.plot([epoch for epoch, _ in points], [value for _, value in points], color=colour, marker=marker)
    return str(plotext.build())


def _compiled(stored: Stored) -> list[dict[str, Any]]:
    """Return the compiled programs; one that was compiled again after an interruption appears again."""
    return [detail for _, kind, detail in stored.events if kind == COMPILED]


def _spent(stored: Stored) -> str:
    """Return the text of where the workers' time went."""
    compiled = _compiled(stored)
    names = {
        "train": "training",
        "compile": f"compiling {len(compiled)} program{'' if len(compiled) == 1 else 's'}",
        "build": "waiting for models to be built",
        "wait": "waiting for verdicts",
        "save": "writing checkpoints",
    }
    parts = [f"{duration(stored.spent[part])} {name}" for part, name in names.items() if stored.spent.get(part)]
    return f"; {', '.join(parts)}" if parts else ""


def _failures(stored: Stored, console: Console) -> None:
    failed = [trial for trial in stored.trials if trial.state == "FAIL"]
    if failed:
        console.print(Text("failed", style="bold red"))
        for why, count in Counter(trial.why for trial in failed).most_common(5):
            numbers = ", ".join(str(trial.number) for trial in failed if trial.why == why)
            console.print(Text.assemble(f"{count:>4}  {why} ", (f"(trial {numbers})", "dim")))
        console.print()


def _history(stored: Stored, console: Console) -> None:
    events = [event for event in stored.events if event[1] not in (COMPILED, IMPORTED)]
    if not events:
        return
    console.print(Text("history", style="bold"))
    for at, kind, detail in events[-10:]:
        shown = ", ".join(f"{key} {value}" for key, value in detail.items() if key != "detail" and value is not None)
        when = at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        console.print(Text.assemble((f"  {when}  ", "dim"), f"{kind}: {shown}"))
    console.print()
