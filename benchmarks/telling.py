"""The output of `lanes.py`: tables of speeds and of manyfit's time by part, notes, and which aims are met."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from statistics import median
from typing import TYPE_CHECKING

import contestants
import measuring
from lineup import LANES, PEAK, Outcome, Row
from measuring import Run, seconds_a_trial
from rich.table import Table
from works import Work, multiply_adds

if TYPE_CHECKING:
    from search.data import DataInfo

SPENT = {"compile": "compile", "build": "initialise", "train": "train, evaluate", "wait": "wait"}
"""Parts of the worker's seconds: key in `manyfit show --json` -> heading in the table."""


def sectioned(shown: Table, rows: Sequence[Row], cells: Callable[[Row], Sequence[str]]) -> Table:
    """Fill a table with rows, under a heading for each work."""
    title = ""
    for row in rows:
        if row.work.title != title:
            title = row.work.title
            shown.add_section()
            shown.add_row(f"[bold]{title}[/]")
        shown.add_row(row.name, *cells(row))
    return shown


# -- speeds ------------------------------------------------------------------------------------------------


def speeds(outcome: Outcome, about: str) -> Table:
    """Make the table of all contestants' trials."""
    shown = Table(title=about, title_justify="left")
    shown.add_column("")
    for column in ("trials", "a trial", "trials an hour", "against manyfit", "whole command"):
        shown.add_column(column, justify="right")
    shown.add_column("start and end, or parts")
    return sectioned(shown, outcome.rows, lambda row: speed(row, outcome))


def speed(row: Row, outcome: Outcome) -> Sequence[str]:
    """Return the cells of a row after its name."""
    runs, ours = outcome.runs.get(row.title), outcome.runs.get(row.beside)
    done = min(run.figures.trials for run in runs) if runs else row.trials
    count = f"{done:,}" if done == row.of else f"{done:,} of {row.of:,}"
    if not runs:
        return count, "not measured", "", "", "", outcome.reasons[row.title]
    if not row.trains:
        return count, measuring.spread(runs, unit="ms"), "", "", "", f"ms: {measuring.parts(runs)}"
    an_hour = f"{3600 / seconds_a_trial(runs):,.0f}"
    ratios = ("no row to compare with", "")
    if ours:
        ratios = (f"{times(runs, ours):.2f} x", f"{whole_s(runs, row.of) / whole_s(ours, row.of):.2f} x")
    start = f"{median(run.start_s for run in runs):.1f} s"
    return count, measuring.spread(runs, digits=3), an_hour, *ratios, start


def times(runs: Sequence[Run], ours: Sequence[Run]) -> float:
    """Return the seconds per trial of runs, divided by those of manyfit's runs."""
    return seconds_a_trial(runs) / seconds_a_trial(ours)


def whole_s(runs: Sequence[Run], trials: int | None = None) -> float:
    """Return the seconds of a whole process: its start and end, and its trials (or `trials` of them)."""
    return median(run.start_s + run.seconds_a_trial * (trials or run.figures.trials) for run in runs)


# -- time by part ------------------------------------------------------------------------------------------


def spending(outcome: Outcome) -> Table:
    """Make the table of manyfit's rows: their seconds by part, and the share of the machine's peak that training reaches."""
    shown = Table(title="where the seconds of manyfit's whole command go, medians", title_justify="left")
    shown.add_column("")
    for column in ("whole", "start and end", *SPENT.values(), "of peak: search", "of peak: training"):
        shown.add_column(column, justify="right")
    rows = [row for row in outcome.rows if row.measure == LANES and row.title in outcome.runs]
    return sectioned(shown, rows, lambda row: spend(row, outcome))


def spend(row: Row, outcome: Outcome) -> Sequence[str]:
    """Return the cells of a row after its name."""
    runs = outcome.runs[row.title]
    parts = {name: median(run.figures.parts[name] for run in runs) for name in SPENT if has_part(runs, name)}
    return (
        f"{whole_s(runs):.1f}",
        f"{median(start_s(run) for run in runs):.1f}",
        *(f"{parts[name]:.2f}" if name in parts else "not told" for name in SPENT),
        share_of_peak(row, outcome, median(run.figures.seconds for run in runs)),
        share_of_peak(row, outcome, parts["train"]) if "train" in parts else "not told",
    )


def start_s(run: Run) -> float:
    """Return the seconds of manyfit's command that no part covers; without parts, those before and after the search."""
    if not run.figures.parts:
        return run.start_s
    return run.start_s + run.figures.seconds - sum(run.figures.parts.values())


def has_part(runs: Sequence[Run], part: str) -> bool:
    """Return whether all runs have this part of their seconds."""
    return all(part in run.figures.parts for run in runs)


def share_of_peak(row: Row, outcome: Outcome, seconds: float) -> str:
    """Format the operations per second of a row's training as a share of the machine's peak."""
    if not (products := outcome.runs.get(PEAK.title)):
        return "not measured"
    trials = median(run.figures.trials for run in outcome.runs[row.title])
    return f"{operations(row.work) * trials / seconds / peak(products):.1%}"


def peak(products: Sequence[Run]) -> float:
    """Return the floating point operations per second of the quickest matrix product."""
    return 2 * contestants.MATRIX**3 / min(run.figures.parts["best"] for run in products)


def operations(work: Work) -> int:
    """Return the floating point operations of training one trial: the forward pass, and twice that for the backward pass."""
    facts = data_of(work)
    return 6 * multiply_adds(work, facts) * facts.train_rows * work.epochs


@cache
def _info(source: str, limit: int | None) -> DataInfo:
    return contestants.load_data(Work("", source=source, limit=limit)).info


def data_of(work: Work) -> DataInfo:
    """Return the shapes and row counts of a work's data."""
    return _info(work.source, work.limit)


# -- notes and aims ----------------------------------------------------------------------------------------


def notes(outcome: Outcome) -> Iterator[str]:
    """Yield lines that explain the figures of the tables, and their limits."""
    ours = [row for row in outcome.rows if row.title in outcome.runs and row.title == row.beside]
    for row in ours:
        facts = data_of(row.work)
        yield (
            f"{row.work.title}: {row.work.description}; {facts.train_rows:,} rows to train on, "
            f"{facts.validation_rows:,} to validate, {operations(row.work) / 1e9:.2f} GFLOP a trial"
        )
    if any(row.trials < row.of for row in outcome.rows if row.title in outcome.runs):
        yield (
            "rows with fewer trials than manyfit's: a process's first trial is its slowest, and weighs more there (--whole "
            'runs all); "whole command" is reckoned for as many trials as manyfit ran'
        )
    if not ours:
        return
    shares = ", ".join(f"{evaluating(row.work):.0%} ({row.work.title})" for row in ours)
    yield f'"train, evaluate": evaluating is not told apart; of the operations it is {shares}'
    yield (
        '"start and end" beside the trials is all that is not in them. manyfit\'s has two processes in it and a look at the '
        "model, which takes some warming up out of its first trial"
    )
    if all(has_part(outcome.runs[row.title], "compile") for row in ours):
        yield (
            '"start and end" beside the parts is all that the worker does not tell of; "wait": it is ready and has nothing '
            "to do until the coordinator answers"
        )
    else:
        yield "manyfit does not tell where its seconds went: what it compiled before its first config is in start and end"
    if products := outcome.runs.get(PEAK.title):
        size = contestants.MATRIX
        yield (
            f"the peak is {peak(products) / 1e9:,.0f} GFLOP/s: a product of {size} x {size} matrices of float32 in JAX, the "
            f"quickest of {contestants.PRODUCTS}. Training is counted as 6 operations for every multiply-add of the dense "
            "and convolutional layers and every training row, and nothing else is counted"
        )
    else:
        yield f"the peak is not known: {outcome.reasons[PEAK.title]}"


def evaluating(work: Work) -> float:
    """Return the evaluation's share of the operations of training and evaluating."""
    facts = data_of(work)
    return facts.validation_rows / (3 * facts.train_rows + facts.validation_rows)


def aims(outcome: Outcome, *, is_quick: bool) -> Iterator[str]:
    """Yield a line for each aim: whether it is met, or why it was not judged."""
    if is_quick:
        yield "a quick look judges no aim"
        return
    for row in outcome.rows:
        if not row.trains and row.title in outcome.runs:
            yield measuring.overhead_aim(f"{row.name}, {row.trials:,} trials", outcome.runs[row.title])
        elif row.at_least or not row.trains:
            yield aim(row, outcome)


def aim(row: Row, outcome: Outcome) -> str:
    """Return a line: whether manyfit is faster by the factor of the aim."""
    for title in (row.title, row.beside):
        if title in outcome.reasons:
            return f"aim not judged: {row.title}: {title} was not measured: {outcome.reasons[title]}"
    factor = times(outcome.runs[row.title], outcome.runs[row.beside])
    verdict = "met" if factor >= row.at_least else "MISSED"
    return f"aim {verdict}: {row.title}: manyfit is {factor:.2f} times as fast (at least {row.at_least:g})"
