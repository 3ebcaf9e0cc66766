"""What `manyfit init` prints: what it found, what it guessed, what is to be beaten, what it wrote."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from rich.console import RenderableType
from rich.table import Table

from search.data.targets import label_numbers
from search.drafting.baseline import are_several_labels
from search.drafting.draft import Draft, comment_of
from search.drafting.loading import Loaded
from search.drafting.request import MODELS

_SHOWN = 8
# A regression of more distinct whole numbers than this was hardly meant as a classification.
_MOST_CLASSES = 100
_MODEL = {
    "dense": "features, for a dense network",
    "image": "images, for convolutions",
    "sequence": "sequences, for a recurrent network",
    "ids": "ids of words or the like, for embeddings",
}


def table(draft: Draft) -> RenderableType:
    """Return a draft as a table for people."""
    loaded = draft.loaded
    rows = Table.grid(padding=(0, 2))
    for what, text in _lines(draft, loaded):
        rows.add_row(what, text)
    return rows


def next_command(draft: Draft) -> str:
    """Return the command that starts the search."""
    return f"manyfit run {shlex.quote(draft.request.study_file.name)}"


def _lines(draft: Draft, loaded: Loaded) -> Iterator[tuple[str, str]]:
    yield "data", f"{draft.request.source}: {_counts(loaded)}"
    yield from _columns(loaded)
    for guess in loaded.all_guesses:
        yield guess.what, f"{guess.value} (guessed: {guess.why}; {guess.otherwise})"
    yield "task", _task(loaded)
    yield "model", ", ".join(_inputs(draft))
    yield (
        "objective",
        f"{draft.goal.objective}, the {'higher' if draft.goal.direction == 'maximize' else 'lower'} the better",
    )
    beat, *others = comment_of(draft.goal, loaded).split("\n")
    yield "to beat", " ".join([beat.removeprefix("To beat: "), *others])
    for warning in loaded.data.warnings:
        yield "warning", warning
    for note in (*loaded.origin.notes, *_notes(draft)):
        yield "note", note
    why = f" (it reads the data: {loaded.origin.why})" if loaded.origin.code else ""
    yield "wrote", ", ".join(path.name for path in reversed(list(draft.files))) + why


def _counts(loaded: Loaded) -> str:
    info = loaded.data.info
    if loaded.data.stream is not None:
        return f"{info.train_batches} batches an epoch for training, {info.validation_rows} rows for validation"
    limit = f", as limit = {loaded.section['limit']} leaves them" if "limit" in loaded.section else ""
    unit = "windows" if "window" in loaded.section else "rows"
    return (
        f"{info.train_rows} {unit} for training, {info.validation_rows} for validation, {info.test_rows} held out for a test"
        + limit
    )


def _columns(loaded: Loaded) -> Iterator[tuple[str, str]]:
    by_kind: dict[str, list[str]] = {}
    for column in loaded.data.columns:
        by_kind.setdefault(column["kind"], []).append(column["name"])
    for kind, names in by_kind.items():
        plural = {"category": "categories", "boolean": "true or false"}.get(kind, f"{kind}s")
        yield "columns", f"{len(names)} {plural if len(names) > 1 else kind}: {_some(names)}"
    by_reason: dict[str, list[str]] = {}
    for name, why in loaded.origin.dropped.items():
        by_reason.setdefault(why, []).append(name)
    for why, names in by_reason.items():
        yield "left out", f"{_some(names)}: {why} (data.columns in the file says so; change it there)"


def _some(names: Sequence[Any]) -> str:
    more = f", ... and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(str, names[:_SHOWN])) + more


def _task(loaded: Loaded) -> str:
    if loaded.data.has_several_outputs:
        return ", ".join(f"{name}: {info.task}" for name, info in loaded.data.info.targets.items())
    info, y = loaded.data.info, loaded.data.y_train
    given = "as data.task says" if "task" in loaded.section else ""
    if are_several_labels(loaded.data):
        return f"{info.outputs} labels, any number of them for each row"
    if info.task == "regression":
        values = np.asarray(y, np.float64)
        spread = f"{values.min():.4g} to {values.max():.4g}, {values.mean():.4g} on average"
        many = f"{info.outputs} numbers a row, " if info.outputs > 1 else ""
        is_whole = bool((values == np.floor(values)).all()) and len(np.unique(values)) <= _MOST_CLASSES
        return f"regression: {many}{spread}" + _or(given, "classification" if is_whole and info.outputs == 1 else "")
    counts = np.bincount(label_numbers(np.asarray(y)), minlength=info.classes)
    classes = _some([f"{name} ({count})" for name, count in zip(info.class_names, counts, strict=True)])
    are_numbers = all(name.lstrip("-").isdecimal() for name in info.class_names)
    other = "regression" if are_numbers and info.classes > 2 else ""
    return f"{info.classes} classes, with training rows: {classes}" + _or(given, other)


def _or(given: str, other: str) -> str:
    """Return how the task is chosen: given, or guessed with the option for the other one."""
    if given:
        return f" ({given})"
    return f" (guessed from its values; --set data.task={other} says otherwise)" if other else ""


def _inputs(draft: Draft) -> Iterator[str]:
    for name, rows in draft.loaded.inputs.items():
        if name:
            yield f"{name} {rows.shape} as {_MODEL[rows.kind]}"
            continue
        others = " or ".join(f"--model {model}" for model in MODELS if model != rows.kind)
        is_guess = not (draft.request.model or rows.is_text or rows.kind == "dense")
        yield f"rows of shape {rows.shape} as {_MODEL[rows.kind]}" + (
            f" (guessed; {others} says otherwise)" if is_guess else ""
        )


def _notes(draft: Draft) -> Iterator[str]:
    """Yield what may be meant otherwise."""
    yield from _uneven(draft.loaded)
    only = draft.loaded.inputs.get("")
    if only is None or draft.request.model:
        return
    if only.may_be_image:
        side = only.image[0]
        yield f"{only.shape[0]} features may be the pixels of images of {side} x {side}; if so: --model image"
    if only.may_be_ids:
        yield "all features are small whole numbers alike; if they are ids of letters, say: --model ids"


def _uneven(loaded: Loaded) -> Iterator[str]:
    """Yield a note on targets of very different spread, of which the loss sees the largest only."""
    if loaded.data.has_several_outputs or loaded.data.info.task != "regression" or loaded.data.y_train.ndim != 2:
        return
    spreads = np.asarray(loaded.data.y_train, np.float64).std(axis=0)
    low, high = spreads.min(), spreads.max()
    if low * 10 < high:
        yield (
            f"the targets have spreads of {low:.4g} to {high:.4g}, and the loss is mostly that of the largest; "
            "bring them to one scale, or give them as several outputs (y_NAME, y_OTHER), each of which counts alike"
        )
