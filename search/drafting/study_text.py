"""The text of the study file: each setting that a newcomer would change, with a comment in plain words."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from search.reading.tomltext import key, value

DOCS = "docs/study-file.md"

_OF_KEYS = {
    "study.objective": "what a trial is judged by, at its best epoch; see [train] for the metrics",
    "study.trials": "how many configs are tried in all; raise it and run again to go on",
    "study.epochs": "the most epochs of a trial; most trials end before",
    "study.seed": "another seed is another search: give it another --name",
    "data.target": "the column that is learnt",
    "data.task": '"classification", "binary" or "regression"',
    "data.columns": "drop has columns that are not features; category, number, text and date correct a wrong guess",
    "data.encoding": "of the text file, which is not UTF-8",
    "data.text": "how texts become numbers; the keys are those of keras.layers.TextVectorization",
    "data.scale": "numbers are standardised: mean 0, spread 1 on the training rows",
    "data.image_size": "height, width; larger images show more and train longer",
    "data.order": "rows in the order of time: the last ones are test, those before them validation",
    "data.window": "one example is this many consecutive rows",
    "data.horizon": "the target is in the row this many steps after the window",
    "data.validation": "share of the rows that trials are compared on",
    "data.test": "share of the rows that the search never sees; they are yours, for the end",
    "data.limit": "a first try on some of the rows, drawn by chance; remove it (and give another --name) to use all",
    "model.build": "your file and its function; change the model there",
    "model.depth": "dense layers; to search it, move it to [space]: depth = [1, 2, 3]",
    "train.optimizer": "adam with a weight decay",
    "train.metrics": "reported for every epoch; each may be an objective, as val_NAME",
    "train.loss": "any number of labels for each row",
    "train.loss_weights": "each output counts as much as any other",
    "space.learning_rate": "drawn by its exponent",
    "space.dropout": "the share of features that is left out by chance, in training only",
    "space.width": "features of each hidden layer",
    "space.filters": "of the first convolution; each further one has twice as many",
    "space.augment": "how far images are moved and zoomed by chance, as a share of their size; 0 is not at all",
    "space.batch_size": "rows in a step of training",
    "search.early_stopping": "a trial ends after this many epochs without a better value",
    "search.start": "a usual config, tried first",
}
_WIDTH = 40


def text_of(
    file: str, command: str, sections: Mapping[str, Mapping[str, Any]], goal: str, comments: Mapping[str, str]
) -> str:
    """Return the study file of this name; `command` wrote it, and `goal` are comment lines on the baseline.

    `comments`: key such as "data.scale" -> what its comment says instead of the usual one.
    """
    file = shlex.quote(file)
    lines = [
        f"# Written by: {_plain(command)}",
        f"# manyfit run {file}: searches, and resumes where it was stopped",
        f"# manyfit show {file}: shows the results; manyfit export {file} --model best.keras: the best model",
        f"# All keys: {DOCS} of manyfit",
        "",
    ]
    for section, entries in sections.items():
        lines.append(f"[{section}]")
        for name, entry in entries.items():
            dotted = f"{section}.{name}"
            lines += _assigned(f"{key(name)} = {value(entry)}", _plain(comments.get(dotted, _OF_KEYS.get(dotted, ""))))
            if dotted == "study.objective":
                lines += [f"# {_plain(line)}" for line in goal.splitlines()]
        lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n"


def _assigned(line: str, comment: str) -> list[str]:
    """Return a setting with its comment behind it, or above it if both are long."""
    if not comment:
        return [line]
    if len(line) <= _WIDTH:
        return [f"{line:<{_WIDTH}} # {comment}"]
    return [f"# {comment}", line]


def _plain(text: str) -> str:
    """Return a text as a comment of TOML may hold it."""
    return "".join(c if c.isprintable() else "?" for c in text)


def command_of(source: str, options: Mapping[str, str | tuple[str, ...]]) -> str:
    """Return the command line that drafts the study, as it can be pasted into a shell."""
    words = ["manyfit", "init", "--data", source]
    for option, given in options.items():
        for text in (given,) if isinstance(given, str) else given:
            words += [option, text] if text else []
    return shlex.join(words)
