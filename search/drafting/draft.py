"""Draft a study: look at its data, and choose what a first search tries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.drafting import baseline, builders, loading, opened, sizes, study_text, writing
from search.drafting.baseline import Goal
from search.drafting.loading import Loaded
from search.drafting.request import BUILDER, DATA_FUNCTION, Request
from search.spec.usercode import Reference

ORDER = (
    "source", "encoding", "target", "task", "columns", "text", "group", "order", "split", "window", "horizon", "stride",
    "validation", "test", "scale", "image_size", "exif", "lazy", "limit", "seed",
)  # fmt: skip


@dataclass(frozen=True)
class Draft:
    """What `manyfit init` writes, and what it found.

    Attributes:
        sections: the study file as a table.
        files: path -> text.
    """

    request: Request
    loaded: Loaded
    goal: Goal
    sections: Mapping[str, Mapping[str, Any]]
    files: Mapping[Path, str]


def draft(request: Request, *, force: bool = False) -> Draft:
    """Look at the data and draft the files; writes none.

    Raises UsageError: wrong options, files that are there already (unless `force`), files to write that the source is read
    from, data that no study can use.
    """
    request.check()
    always = [request.study_file, request.folder / BUILDER]
    if (reference := Reference.parse(request.source, request.folder)) is not None:
        writing.check_kept(request.source, [reference.path], always)
    writing.check(request.folder, always, force=force)
    with opened.recorded() as read:
        loaded = loading.load(request)
    goal = _goal_of(loaded)
    sections = _sections(loaded, goal)
    command = study_text.command_of(
        request.source,
        {"--target": request.target, "--model": request.model, "--name": request.name, "--set": request.overrides},
    )
    comments = {guess.key: guess.comment for guess in loaded.all_guesses if guess.key}
    files = {request.folder / DATA_FUNCTION: loaded.origin.code} if loaded.origin.code else {}
    files[request.folder / BUILDER] = builders.text_of(request.study, loaded.inputs, loaded.data, loaded.past)
    files[request.study_file] = study_text.text_of(
        request.study_file.name, command, sections, comment_of(goal, loaded), comments
    )
    writing.check_kept(request.source, read, files)
    writing.check(request.folder, files, force=force)
    writing.try_out(files, request.study_file, sections["data"]["source"])
    return Draft(request, loaded, goal, sections, files)


def comment_of(goal: Goal, loaded: Loaded) -> str:
    """Return what is to be beaten, in sentences: one a line."""
    rows = loaded.data.info.validation_rows
    lines = f"To beat: {goal.baseline:.4g} on the {rows} validation rows, by {goal.words}."
    return f"{lines}\n{goal.also}" if goal.also else lines


def _goal_of(loaded: Loaded) -> Goal:
    goal = baseline.goal_of(loaded.data)
    return goal if loaded.past is None else baseline.with_last_value(goal, loaded.data, loaded.past)


def _sections(loaded: Loaded, goal: Goal) -> dict[str, dict[str, Any]]:
    """Return the study file as a table."""
    kinds = {rows.kind for rows in loaded.inputs.values()}
    info, has_several = loaded.data.info, list(loaded.inputs) != [""]
    size = sizes.size_of(loaded.inputs, info.train_rows, is_streamed=loaded.data.stream is not None)
    space = sizes.space_of(loaded.inputs, size)
    model: dict[str, Any] = {"build": f"{BUILDER}:build"}
    if has_several or kinds == {"dense"}:
        model["depth"] = 2
    train: dict[str, Any] = {"optimizer": "adamw"}
    train |= {"loss": goal.loss} if goal.loss else {}
    train |= {"metrics": list(goal.metrics)} if goal.metrics else {}
    train |= {"loss_weights": goal.loss_weights} if goal.loss_weights else {}
    usual = {"learning_rate": 1e-3, "weight_decay": 1e-4, "dropout": 0.1, "filters": 16, "augment": 0.0}
    usual |= {name: space[name][-1 if name == "width" else 0] for name in ("width", "batch_size") if name in space}
    return {
        "study": {"objective": goal.objective, "trials": size.trials, "epochs": size.epochs, "seed": 0},
        "data": {name: loaded.section[name] for name in ORDER if name in loaded.section},
        "model": model,
        "train": train,
        "space": space,
        "search": {
            "early_stopping": {"patience": max(3, size.epochs // 5)},
            "start": [{name: value for name, value in usual.items() if name in space}],
        },
    }
