"""The part of a report on its best model: what it gets wrong, and what its first layer looks for."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from search.errors import UsageError
from search.trials.trial import Trial
from search.views.figures import model as figures
from search.views.pages.page import Block, Figure, Picture, Pictures, Section, Table, Text, Verdict
from search.views.pages.png import sheet
from search.views.printable import label
from search.views.text import number

if TYPE_CHECKING:
    import plotly.graph_objects as go

_TITLE = "The best model"


def sections(trial: Trial, detail: Mapping[str, Any]) -> list[Section]:
    """Return the sections on the model of a trial; `detail` is that of the reply to `DescribeModel`."""
    which = f" ({detail['training']})" if detail["training"] else ""
    blocks: list[Block] = [
        Text(f"Trial {trial.number}{which}, by the validation rows, with the weights of its best epoch.")
    ]
    for head in detail["heads"]:
        blocks += _head(head)
    return [Section(_TITLE, [*blocks, *_weights(detail["weights"])])]


def numbers(detail: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of a model without its pictures, for programs."""
    weights = {key: value for key, value in detail["weights"].items() if key != "pictures"}
    heads = [
        {
            **head,
            "mistakes": [
                {key: value for key, value in one.items() if key != "picture"} for one in head.get("mistakes", ())
            ],
        }
        for head in detail["heads"]
    ]
    return {"training": detail["training"], "evaluated": detail["evaluated"], "heads": heads, "weights": weights}


def figure(trial: Trial, detail: Mapping[str, Any], output: str | None, names: Sequence[str]) -> go.Figure:
    """Return the picture of an output that has one of these names, for a notebook; UsageError with the reason if none has.

    `output` "" is the first one; None is for a picture of the whole model.
    """
    outputs = [head["name"] for head in detail["heads"]]
    output = "" if output is None else output or outputs[0]
    if output and output not in outputs:
        raise UsageError(f"output: the model has no output {output!r}; there are {', '.join(outputs)}")
    wanted = {f"{name}{_suffix(output)}" for name in names}
    (section,) = sections(trial, detail)
    for block in section.blocks:
        if isinstance(block, Figure) and block.name in wanted:
            return block.figure.update_layout(title=label(block.title))
        if isinstance(block, Pictures) and block.name in wanted:
            return sheet(block).update_layout(title=label(block.title), template="plotly_white")
    remarks = [block.text.rstrip(".") for block in section.blocks if isinstance(block, Text) and block.is_quiet]
    raise UsageError(
        f"there is no such picture of trial {trial.number}'s model: {'; '.join(remarks) or 'its rows are no images'}"
    )


def left_out(why: str) -> list[Section]:
    """Return the section of a model that can't be looked at, with the reason."""
    return [Section(_TITLE, [Verdict("note", f"Its pictures are left out: {why}")])]


def _head(head: Mapping[str, Any]) -> Iterator[Block]:
    name = f" of {head['name']}" if head["name"] else ""
    suffix = _suffix(head["name"])
    if why := head.get("left_out"):
        yield Text(f"Mistakes{name} are left out: {why}.", is_quiet=True)
        return
    if "points" in head:
        yield Figure(f"predicted{suffix}", f"Predicted over true values{name}", figures.predicted(head["points"]))
        yield from _worst(head["mistakes"], f"largest-errors{suffix}", f"The largest errors{name}")
        return
    wrong, rows, classes = head["wrong"], head["rows"], head["classes"]
    some = (
        f" The {len(classes)} of {head['all_classes']} classes with the most mistakes."
        if head["all_classes"] > len(classes)
        else ""
    )
    note = (
        f"{wrong:,} of {rows:,} rows are wrong. Blue: right; orange: mistakes, by their share of the true class.{some}"
    )
    yield Figure(f"confusion{suffix}", f"Confusion matrix{name}", figures.confusion(classes, head["confusion"]), note)
    yield from _worst(head["mistakes"], f"worst-mistakes{suffix}", f"The worst mistakes{name}")


def _worst(mistakes: Sequence[Mapping[str, Any]], name: str, title: str) -> Iterator[Block]:
    """Yield the worst rows: as pictures, or as a table."""
    if not mistakes:
        yield Text("No validation row is wrong.", is_quiet=True)
    elif "picture" in mistakes[0]:
        pictures = [Picture(base64.b64decode(one["picture"]), _caption(one)) for one in mistakes]
        yield Pictures(
            name, title, pictures, "The rows whose own class is the least likely to the model, the worst first."
        )
    else:
        shares = [one.get("probability") is not None for one in mistakes]
        head = ["validation row", "true", "predicted", *(["probability"] if any(shares) else []), "the row"]
        yield Text(title)
        yield Table(
            head,
            [
                [one["row"], one["true"], one["predicted"], *([one["probability"]] if any(shares) else []), one["text"]]
                for one in mistakes
            ],
        )


def _caption(one: Mapping[str, Any]) -> str:
    true, predicted = (value if isinstance(value, str) else number(value) for value in (one["true"], one["predicted"]))
    share = one.get("probability")
    return f"{true} taken for {predicted}{f', {share:.0%}' if share is not None else ''} (row {one['row']})"


def _weights(weights: Mapping[str, Any]) -> Iterator[Block]:
    if why := weights.get("left_out"):
        yield Text(f"Its first weights are not shown as pictures: {why}.", is_quiet=True)
        return
    height, width, channels = weights["size"]
    pictures = [Picture(base64.b64decode(one["picture"]), str(one["unit"])) for one in weights["pictures"]]
    colours = "" if channels == 3 else " Blue is negative, orange positive."
    note = (
        f"{len(pictures)} of the {weights['units']} units of {weights['layer']}, the strongest first: the {height} x {width} "
        f"weights of each.{colours} Smooth pictures are learned; noise is what the weights began with."
    )
    yield Pictures("first-weights", "Weights of the first layer", pictures, note, width=64)


def _suffix(output: str) -> str:
    """Return the end of a picture's name for one of several outputs."""
    if not output:
        return ""
    return "-" + "".join(char if char.isascii() and char.isalnum() else "-" for char in output.lower())
