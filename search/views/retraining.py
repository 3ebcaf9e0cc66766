"""What `manyfit retrain` says and writes beside the model: its learning curves and its card, as Markdown."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search import durable
from search.errors import UsageError
from search.spec import model_file
from search.spec.identity import versions
from search.storage.studies import Stored
from search.trials.retrained import LEVEL, Retrained
from search.views import evaluation
from search.views.export import write as write_text
from search.views.pages import page, png
from search.views.pages.page import Figure, Page, Section, Text
from search.views.text import number

if TYPE_CHECKING:
    from search.spec.model_file import ModelNotes

_MODES = {
    "again": "on the training rows, for as many epochs as the search trained it",
    "long": "on the training rows, past the end of the search",
    "full": "on the training and the validation rows, for the epochs of the search's best one",
}
# Values of one training may differ by this much between engines and machines.
_SAME = 2e-3


def verdict(done: Retrained) -> str:
    """Return a sentence on whether the model is as good as the search promises."""
    name, promise = done.objective, done.promise
    if done.value is None or done.within is None:
        return (
            f"no rows are left that could judge it; the search had {name} {number(done.search)} with fewer rows to train on; "
            "`manyfit evaluate` has the test rows"
        )
    parts = [
        f"{name} {number(done.within)}" + (f" at epoch {done.at}, the best of the search's repeats" if done.at else "")
    ]
    if done.same_seed is not None:
        is_same = math.isclose(done.within, done.same_seed, rel_tol=_SAME, abs_tol=_SAME)
        parts.append(
            f"as in the search, with the same seed ({number(done.same_seed)})"
            if is_same
            else f"the search had {number(done.same_seed)} with the same seed: rounding grows, or its code draws otherwise"
        )
    if (holds := promise.holds(done.within)) is not None:
        where = "within" if holds else "OUTSIDE of"
        interval = f"{number(promise.low)} to {number(promise.high)}"
        parts.append(f"{where} {interval}, where {LEVEL:.0%} of trainings with other seeds are expected")
    elif done.same_seed is None:
        parts.append(
            f"the search had {number(done.search)}; how much other seeds differ is not known: `manyfit confirm` finds it"
        )
    if done.mode == "long" and done.value != done.within and done.epoch > done.epochs:
        parts.append(f"{number(done.value)} at epoch {done.epoch}, past the {done.epochs} of the search")
    elif done.at and done.epoch != done.at:
        parts.append(f"{number(done.value)} at epoch {done.epoch}, whose weights the model has")
    return "; ".join(parts)


def lines(done: Retrained, written: list[Path]) -> Iterator[str]:
    """Yield what the command says."""
    yield f"written: {', '.join(map(str, written))}"
    yield f"  trial {done.trial}, rank {done.rank}, trained again {_MODES[done.mode]}: {len(done.curve)} epochs"
    yield f"  {verdict(done)}"
    yield from (f"  {line}" for line in done.lines)


def to_json(done: Retrained, written: list[Path]) -> dict[str, Any]:
    """Return a training as plain JSON."""
    table = asdict(done)
    promise = {**table.pop("promise"), "holds": None if done.within is None else done.promise.holds(done.within)}
    return {**table, "promise": promise, "verdict": verdict(done), "files": [str(path) for path in written]}


def write(done: Retrained, stored: Stored, model: Path, looks: int) -> tuple[list[Path], str]:
    """Write the learning curves and the card beside a model; return the paths of all three and why there is no PNG, if so.

    `looks`: how often the study's test rows were evaluated.
    """
    curves, why = draw(done, model)
    return [model, curves, write_card(done, stored, model, curves, looks)], why


def draw(done: Retrained, model: Path) -> tuple[Path, str]:
    """Write the learning curves beside a model, as PNG, or as HTML where nothing draws a PNG; return the path and why."""
    from search.views.figures import training

    title = f"{done.study}, trial {done.trial}: learning curves"
    note = f"Dashed: epoch {done.epoch}, whose weights the model has." + (
        " The validation rows are among the training rows." if done.mode == "full" else ""
    )
    figure = training.training_and_validation(done.curve, done.objective, done.epoch, "")
    drawn = Page(title, [Section("Curves", [Figure("curves", title, figure, note), Text(note)])])
    path = model.with_name(f"{model.stem}.curves.png")
    try:
        with tempfile.TemporaryDirectory(dir=model.absolute().parent, prefix=".curves-") as folder:
            (made,) = png.write(drawn, Path(folder))
            durable.replace(made, path)
    except UsageError as error:
        path = path.with_suffix(".html")
        page.write(drawn, path)
        return path, str(error).removeprefix("--png: ")
    return path, ""


def write_card(done: Retrained, stored: Stored, model: Path, curves: Path, looks: int) -> Path:
    """Write the card of a model beside it; return its path. `looks`: how often the study's test rows were evaluated."""
    path = model.with_suffix(".md")
    write_text(path, "\n".join(_card(done, stored, model, curves, looks)) + "\n")
    return path


def _card(done: Retrained, stored: Stored, model: Path, curves: Path, looks: int) -> Iterator[str]:
    notes = model_file.read(model)
    data, identity = stored.file.settings.data, stored.identity["data"]
    yield from (f"# {_md(model.name)}", "")
    yield from (
        f"Trial {done.trial} of the study {_md(stored.name)} (rank {done.rank}), trained {_MODES[done.mode]}.",
        "",
    )
    yield from ("## Scores", "")
    yield from ("| | value |", "| --- | --- |")
    yield f"| {_md(done.objective)} of this training | {number(done.value)} |"
    yield f"| the same in the search | {number(done.search)} |"
    if done.promise.low is not None:
        interval = f"{number(done.promise.low)} to {number(done.promise.high)}"
        yield f"| where {LEVEL:.0%} of trainings are expected, by {len(done.promise.values)} with other seeds | {interval} |"
    yield from ("", f"In words: {verdict(done)}.", "")
    if done.mode != "full":
        yield from (
            "These values are of the validation rows, by which the search has chosen the config: expect worse ones.",
            "",
        )
    yield from (
        f"Of the study, {evaluation.looks(looks)} so far." if looks else "The study's test rows were not used yet.",
        "",
    )
    yield from (
        f"![learning curves]({curves.name})" if curves.suffix == ".png" else f"[learning curves]({curves.name})",
        "",
    )
    yield from ("## Data", "", "| | |", "| --- | --- |")
    yield f"| source | {_md(data.source)} |"
    yield f"| fingerprint | `{identity.get('fingerprint', '')}` |"
    yield f"| validation, test | {data.validation}, {data.test} of the rows, unless the source has its own |"
    yield from ("", "## Config", "", "| | |", "| --- | --- |")
    yield f"| builder | {_md(stored.file.settings.model.build)} |"
    yield from (f"| {_md(name)} | {_md(value)} |" for name, value in notes.config.items())
    yield f"| epochs trained, epoch of the weights | {len(done.curve)}, {done.epoch} |"
    yield f"| seed | {done.seed} |"
    yield from ("", "## What it takes and gives", "")
    yield from (f"- takes {text}" for text in _taken(notes))
    yield from (f"- gives {text}" for text in _given(notes))
    yield from (f"- {_md(line)}" for line in done.lines)
    yield from ("", "## Limits", "")
    yield "- It is as good as its scores on rows like those of the data above; on others it may be wrong without a sign."
    yield "- A score is of these rows and this seed: `manyfit confirm` measures others, `manyfit evaluate` the test rows."
    if done.mode == "full":
        yield "- No rows were left to judge it. Its score is that of the same config with fewer training rows, at best."
    if done.promise.low is None:
        yield "- How much its score changes with the seed was not measured."
    yield from ("", "Versions: " + ", ".join(f"{name} {version}" for name, version in versions().items()) + ".")


def _taken(notes: ModelNotes) -> Iterator[str]:
    for each in notes.inputs:
        name = f"{_md(each.name)}: " if each.name else ""
        if each.kind == "table":
            yield f"{name}columns " + ", ".join(f"{_md(column.name)} ({column.kind})" for column in each.columns)
        elif each.kind == "texts":
            yield f"{name}texts, one a row"
        else:
            yield f"{name}rows of the shape {_md(tuple(each.shape))}, {each.dtype}"


def _given(notes: ModelNotes) -> Iterator[str]:
    for each in notes.outputs:
        name = f"{_md(each.name)}: " if each.name else ""
        names = f", of the classes {', '.join(map(_md, each.class_names))}" if each.class_names else ""
        squash = f" ({each.squash} makes probabilities of them)" if each.squash else ""
        yield f"{name}{each.gives}{squash}{names}"


def _md(value: object) -> str:
    """Return a value as text of a Markdown table, with nothing in it that is markup."""
    text = str(value).replace("\n", " ").replace("`", "'")
    return f"`{text}`".replace("|", "\\|")
