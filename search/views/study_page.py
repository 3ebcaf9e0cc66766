"""The page of `manyfit report`: a study in pictures, tables and sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from search.errors import UsageError
from search.storage.studies import Stored
from search.trials.objective import Objective
from search.views import confirmed, evaluation, listing, standing
from search.views.figures import params, progress, thinning, training
from search.views.insights import gap, importance, spending
from search.views.insights.answers import Answers
from search.views.pages.page import Block, Cell, Figure, Page, Section, Table, Text, Verdict
from search.views.text import duration, short

if TYPE_CHECKING:
    import plotly.graph_objects as go

_TOP = 10
# Pixels that an axis of parallel coordinates needs.
_AXIS_PX = 95
# Pixels that three plots side by side need.
_PANELS_PX = 760
# Columns of a table of best configs; the other parameters are in best.json.
_MOST_COLUMNS = 12


def page(stored: Stored, answers: Answers, model: Sequence[Section] = ()) -> Page:
    """Return the report of a study; `model` are the sections on its best model."""
    sections = [
        Section("Best configs", list(_best(stored))),
        *_confirmation(stored),
        Section("Progress", list(_progress(stored))),
        Section("Curves", list(_curves(stored))),
        Section("Training and validation", list(_gap(stored))),
        Section("What matters", list(_matters(stored, answers))),
        Section("Parameters", list(_parameters(stored, answers))),
        *model,
        Section("Time", list(_time(stored))),
    ]
    return Page(f"{stored.name}: report", sections, list(_lead(stored, answers)))


def headline(stored: Stored) -> str:
    """Return a study's objective, state, and what it has trained."""
    study = stored.file.settings.study
    why = f" ({stored.ended})" if stored.ended else ""
    return (
        f"{stored.file.direction} {study.objective}; {listing.state(stored)}{why}: "
        f"{sum(trial.is_ended for trial in stored.trials)} of {study.trials} trials, "
        f"{sum(len(trial.curve) for trial in stored.trials):,} epochs, {duration(stored.seconds)}"
    )


def _lead(stored: Stored, answers: Answers) -> Iterator[Block]:
    yield Text(headline(stored))
    yield Verdict("note", answers.improving)
    yield Verdict("note", answers.gain)
    yield Verdict("note", answers.what_matters[0], " ".join(answers.what_matters[1:]))
    for text in answers.next:
        yield Verdict("note", f"next: {text}")


def _best(stored: Stored) -> Iterator[Block]:
    objective, best = Objective.of(stored.file), stored.complete[:_TOP]
    if best:
        names = list(stored.file.space)[:_MOST_COLUMNS]
        has_repeats = stored.file.settings.study.replicas > 1
        head = [
            "rank",
            "trial",
            objective.name,
            *(["standard error"] if has_repeats else []),
            "best epoch",
            "ended",
            *names,
        ]
        yield Table(
            head,
            [
                [
                    rank,
                    trial.number,
                    trial.value,
                    *([objective.standard_error(trial)] if has_repeats else []),
                    f"{trial.best_epoch} of {len(trial.curve)}",
                    trial.ended,
                    *(short(trial.params[name]) if name in trial.params else None for name in names),
                ]
                for rank, trial in enumerate(best, 1)
            ],
        )
    yield Text(standing.line(stored, _TOP), is_quiet=True)
    if stored.test_evaluations:
        yield Text(f"{evaluation.looks(stored.test_evaluations)}.", is_quiet=True)


def _confirmation(stored: Stored) -> Iterator[Section]:
    """Yield the section on fresh trainings of the best configs, if there are any."""
    confirmation, objective = confirmed.of(stored), stored.file.settings.study.objective
    if confirmation is None:
        return
    head = ["rank", "trial", objective, "mean again", "standard error", "luck", "trainings"]
    rows: list[list[Cell]] = [
        [rank, one.trial, one.value, one.mean, one.standard_error, one.luck, len(one.values)]
        for rank, one in enumerate(confirmation.configs, 1)
    ]
    blocks: list[Block] = [Verdict("note", line) for line in confirmed.lines(confirmation)]
    blocks.append(Table(head, rows))
    if any(one.values for one in confirmation.configs):
        blocks.append(
            Figure("confirmation", "The best configs, trained again", progress.again(confirmation, objective))
        )
    yield Section("Trained again", blocks)


def _progress(stored: Stored) -> Iterator[Block]:
    count = sum(trial.value is not None for trial in stored.trials)
    points = thinning.note(min(count, thinning.POINTS), count, "trials")
    yield from _figure("history", "Value of every trial, and the best so far", lambda: progress.history(stored), points)
    yield from _figure("best-over-epochs", "Best value over epochs trained", lambda: progress.best(stored, "epochs"))
    yield from _figure("best-over-time", "Best value over time of training", lambda: progress.best(stored, "seconds"))


def _curves(stored: Stored) -> Iterator[Block]:
    objective = stored.file.settings.study.objective
    note = training.curves_note(stored)
    yield from _figure(
        "curves", f"{objective} by epoch, and what ended each trial", lambda: training.curves(stored), note
    )
    if other := gap.counterpart(objective, [metrics for trial in stored.trials for metrics in trial.curve[:1]]):
        draw = lambda: training.curves(stored, other)  # noqa: E731
        yield from _figure("curves-training", f"{other} by epoch (training)", draw, note)
    yield _endings(stored)


def _gap(stored: Stored) -> Iterator[Block]:
    if not stored.complete:
        yield Text("No trial was trained fully yet.")
        return
    best = stored.complete[0]
    if line := gap.line(stored):
        yield Verdict("note", f"Trial {best.number}, the best: {line}.")
    rows: list[list[Cell]] = [
        [one.metric, one.training, one.validation, one.validation - one.training] for one in gap.gaps(best)
    ]
    if rows:
        yield Table([f"epoch {best.best_epoch}", "training", "validation", "difference"], rows)
        yield Text(
            "Training metrics are means over an epoch in which the weights change, with dropout and the like at work: "
            "they may be worse than those of validation.",
            is_quiet=True,
        )
    yield from _figure("gap", f"Training and validation of trial {best.number}", lambda: training.best_gap(stored))


def _matters(stored: Stored, answers: Answers) -> Iterator[Block]:
    for text in answers.what_matters:
        yield Text(f"{text}.")
    has_process = answers.outlook is not None
    head = [
        "parameter",
        "verdict",
        "importance (90 % interval)",
        "by chance",
        *(["length scale"] if has_process else []),
    ]
    yield Table(
        head,
        [
            [
                one.name,
                one.verdict,
                importance.text_of(one),
                None if one.chance is None else f"{one.chance:.0%}",
                *([one.length_scale] if has_process else []),
            ]
            for one in answers.matters
        ],
    )
    process = (
        " The length scale is that of the search's process, in ranges: scores change fast along a short one, and hardly "
        "along one above 2."
        if has_process
        else ""
    )
    yield Text(
        f"Importance compares the best tenth of the {len(stored.complete)} complete trials with all of them (PED-ANOVA); its "
        f"interval is that of resampled trials; “by chance” is how often shuffled values give as much.{process}",
        is_quiet=True,
    )
    yield from _figure("importance", "Importance of the parameters", lambda: params.importance(stored, answers.matters))
    if answers.edges:
        for edge in answers.edges:
            yield Verdict("look", edge.text, edge.advice)
    elif stored.complete:
        yield Verdict("ok", "The best values sit at no bound of a range.")
    if names := [one.name for one in answers.matters if one.verdict == "no effect seen"]:
        yield Verdict(
            "note", f"No effect seen of {', '.join(names)}: fix {'it' if len(names) == 1 else 'them'} next time."
        )


def _parameters(stored: Stored, answers: Answers) -> Iterator[Block]:
    count = len(stored.complete)
    more = thinning.note(min(count, thinning.POINTS), count, "trials")
    note = f"The colour is the trial's number: late trials are where the search went. {more}"
    if any(trial.ended == "pruned" for trial in stored.trials):
        note += " A click on “pruned trials” adds those."
    yield from _figure("slices", "Value over each parameter", lambda: params.slices(stored), note, _PANELS_PX)
    note = f"Means of the complete trials near each place, not a model's; empty where no trial is near. {more}"
    draw = lambda: params.contours(stored, [one.name for one in answers.matters])  # noqa: E731
    yield from _figure("contours", "Value over pairs of parameters", draw, note, _PANELS_PX)
    lines = thinning.note(min(count, thinning.LINES), count, "trials")
    width = _AXIS_PX * (len(stored.file.space) + 2)
    yield from _figure("parallel", "Parallel coordinates", lambda: params.parallel(stored), lines, width)


def _time(stored: Stored) -> Iterator[Block]:
    total = sum(spending.parts(stored).values())
    if lanes := spending.lanes_line(stored):
        yield Text(f"{lanes}.")
    yield from _figure("time", "Where the workers' time went", lambda: progress.time(stored))
    if total and stored.seconds:
        yield Text(f"{duration(stored.seconds)} in all, from start to end of each command.", is_quiet=True)
    if programs := spending.compiled(stored):
        heads = list(dict.fromkeys(key for detail in programs for key in detail))[:6]
        yield Table(
            ["program", *heads],
            [[k, *(_cell(detail.get(key)) for key in heads)] for k, detail in enumerate(programs, 1)],
        )


def _endings(stored: Stored) -> Block:
    rows: list[list[Cell]] = [
        [one.ended, one.trials, one.epochs, one.wanted - one.epochs, duration(one.seconds)]
        for one in spending.endings(stored)
    ]
    return Table(["what ended the trials", "trials", "epochs", "epochs saved", "training"], rows)


def _figure(
    name: str, title: str, draw: Callable[[], go.Figure], note: str = "", min_width: int = 0
) -> Iterator[Figure | Text]:
    try:
        yield Figure(name, title, draw(), note, min_width)
    except UsageError as error:
        yield Text(f"{title}: {error}.", is_quiet=True)


def _cell(value: Any) -> Cell:
    return value if isinstance(value, int | float) or value is None else short(value)
