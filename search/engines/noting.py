"""Says in an exported model file what rows the model takes and what it gives, for `manyfit predict` and `evaluate`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import keras
import numpy as np

from search import __version__
from search.data import Data
from search.data.table_encoding import Encoding
from search.data.texts import Vocabulary
from search.engines.heads import Head, compiled_loss
from search.engines.losses import keras_names
from search.engines.losses.keras_names import Named, name_of
from search.engines.losses.needs import LOSSES, PROPER, PROPER_OF_SEVERAL
from search.engines.losses.outputs import end_from_outputs, end_of, width_of
from search.engines.losses.rules import rule_for
from search.engines.packing import Packed
from search.engines.training import Trainer
from search.errors import UsageError
from search.spec.model_file import ColumnNotes, InputNotes, ModelNotes, OutputNotes, PreprocessingNotes

# Shares of probabilities may be off by this much: 16 bits round so.
_TOLERANCE = 1e-2


@dataclass(frozen=True)
class Given:
    """What an output gives, what makes probabilities of logits, and which scores of one output are the second class.

    Of several scores whose `threshold` is known, the largest is the class.
    """

    gives: str
    squash: str = ""
    threshold: float | None = None


def notes_of(
    trainer: Trainer,
    packed: Packed,
    heads: Sequence[tuple[Head, Any, Given]],
    forms: Mapping[str, str],
    origin: Mapping[str, Any],
) -> ModelNotes:
    """Return the notes of a packed model.

    Args:
        heads: each output, its values for the rows that judge, and what it gives.
        forms: of the labels that the file's `evaluate` takes, by output.
        origin: the fields of the notes that the study knows: its name, its trial ...
    """
    data, section = trainer.data, trainer.settings.data
    return ModelNotes.model_validate(
        {
            "version": __version__,
            "backend": keras.backend.backend(),
            "fingerprint": data.fingerprint,
            "fitted": fitted(data),
            "source": section.source,
            "build": trainer.settings.model.build,
            "encoding": section.encoding,
            "form": _form(data),
            "window": section.window or 0,
            "image_size": list(section.image_size or ()),
            "is_upright": section.exif,
            "inputs": list(_inputs(data)),
            "outputs": [_output(head, values, given, forms, data) for head, values, given in heads],
            "preprocessing": _preprocessing(packed, data),
            **origin,
        }
    )


def fitted(data: Data) -> str:
    """Return a fingerprint of what scaling and encodings were fitted to, as 32 hex digits.

    The fingerprint of the data is of scaled rows: it is the same for rows in metres and in feet.
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in _parts([data.scaling, *sorted(data.encodings.items())]):
        digest.update(part)
    return digest.hexdigest()


def _parts(value: Any) -> Iterator[bytes]:
    if is_dataclass(value):
        for field in fields(value):
            yield from _parts((field.name, getattr(value, field.name)))
    elif isinstance(value, Mapping):
        yield from _parts(list(value.items()))
    elif isinstance(value, list | tuple):
        yield b"["
        for item in value:
            yield from _parts(item)
    elif isinstance(value, np.ndarray):
        yield f"{value.dtype.str} {value.shape}".encode() + value.tobytes()
    else:
        yield repr(value).encode("utf-8", "surrogatepass") + b";"


def given_by(model: keras.Model, trainer: Trainer, head: Head, config: Mapping[str, Any], *, own: bool) -> Given:
    """Return what an output of a study's model gives. `own`: the builder has compiled the model."""
    if head.data.info.task == "regression":
        return Given("values")
    width = width_of(model, head.data, head.index)
    if not width:
        return Given("scores")
    loss = trainer.loss(config, width, head) if not own else ""
    name = _of_keras(compiled_loss(model, head.index)) if own else loss.name if isinstance(loss, Named) else ""
    given = _end(model, trainer, head, loss, width)
    if given.gives == "scores":
        return given
    # A loss such as mean_squared_error draws outputs to the labels 0 and 1 themselves: 0.3 is then class 0, not a logit.
    draws_to_labels = given.gives == "logits" and name and not _takes_logits(name)
    if not draws_to_labels and name in (PROPER if width == 1 else PROPER_OF_SEVERAL):
        return given
    if width == 1 and given.gives == "logits" and not name:
        return Given("scores")  # a loss of the user's own may draw a single output to any two numbers
    return Given("scores", threshold=0.5 if draws_to_labels or given.gives == "probabilities" else 0.0)


def _end(model: keras.Model, trainer: Trainer, head: Head, loss: Named | str, width: int) -> Given:
    """Return what the end of a model gives, whatever its loss makes of it. `loss`: "" if the builder has compiled it."""
    if loss:
        with suppress(UsageError):
            rule = rule_for(model, head.data, loss, width, head.index)
            if rule.squash or rule.is_bounded:
                return Given("logits", rule.squash) if rule.squash else Given("probabilities")
    end = end_of(model, head.index) or end_from_outputs(model, trainer.data.x_train, head.index)
    if end == "logits":
        is_binary = width == 1 or "binary" in name_of(compiled_loss(model, head.index)).lower()
        return Given("logits", "sigmoid" if is_binary else "softmax")
    return Given(end or "scores")


def _of_keras(loss: Any) -> str:
    """Return the name of Keras's class of a loss as `compile` got it; "" for the user's own, and for none."""
    if not isinstance(loss, str):
        kind = loss if hasattr(loss, "__name__") else type(loss)
        if not kind.__module__.startswith("keras."):
            return ""
        loss = kind.__name__
    try:
        return keras_names.find("train.loss", loss).name
    except UsageError:
        return ""


def _takes_logits(loss: str) -> bool:
    """Return whether logits may be what a loss of Keras's gets."""
    needs = LOSSES.get(loss)
    return needs is None or needs.outputs in ("probabilities", "margins")


def _form(data: Data) -> str:
    if not data.info.inputs:
        return "dict" if isinstance(data.encodings.get(""), Encoding) else "one"
    return "dict" if data.encodings or isinstance(data.x_validation, dict) else "tuple"


def _inputs(data: Data) -> Iterator[InputNotes]:
    raw: Any = data.raw.x_validation
    for name in data.info.inputs or ("",):
        encoding = data.encodings.get(name)
        if isinstance(encoding, Encoding):
            yield InputNotes(name=name, kind="table", columns=list(_columns(encoding)))
        elif isinstance(encoding, Vocabulary):
            yield InputNotes(name=name, kind="texts")
        else:
            array, x = (_of_input(tree, name, data) for tree in (raw, data.x_validation))
            names = [column["name"] for column in data.columns] if not data.info.inputs else []
            yield InputNotes(
                name=name,
                shape=list(array.shape[1:]),
                dtype=str(array.dtype),
                enters=str(x.dtype),
                columns=[ColumnNotes(name=column, kind="number") for column in names],
            )


def _of_input(tree: Any, name: str, data: Data) -> Any:
    if not data.info.inputs:
        return tree
    return tree[name] if isinstance(tree, dict) else tree[int(name)]


def _columns(encoding: Encoding) -> Iterator[ColumnNotes]:
    quantities = encoding.quantities
    flagged = {quantities[index].partition(": days")[0] for index in encoding.flagged}
    dates = {date.name: str(date.order) for date in encoding.dates}
    categories = {column.name: column for column in encoding.categories}
    for name, kind in encoding.columns.items():
        category = categories.get(name)
        yield ColumnNotes(
            name=name,
            kind=kind,
            are_texts=category.are_texts if category is not None else kind in ("text", "date"),
            order=dates.get(name, ""),
            has_missing=category.has_missing if category is not None else name in flagged or kind == "text",
        )


def _output(head: Head, values: Any, given: Given, forms: Mapping[str, str], data: Data) -> OutputNotes:
    info = head.data.info
    gives = given.gives
    if gives == "probabilities" and not (values.min() >= -_TOLERANCE and values.max() <= 1 + _TOLERANCE):
        gives = "scores"
    mean, spread = _scaling_of_targets(head, data)
    return OutputNotes.model_validate(
        {
            "name": head.name,
            "task": info.task,
            "class_names": list(info.class_names),
            "shape": list(values.shape[1:]),
            "gives": gives,
            "squash": given.squash if gives == "logits" else "",
            "threshold": given.threshold,
            "labels": forms.get(head.name, "labels"),
            "mean": mean,
            "spread": spread,
        }
    )


def _scaling_of_targets(head: Head, data: Data) -> tuple[list[float], list[float]]:
    """Return what turns targets that are the scaled features, an autoencoder's, into numbers as the source has them."""
    scaling, x, y = data.scaling, data.x_validation, head.data.y_validation
    is_scaled = scaling.kind != "none" or scaling.divisor != 1
    if not is_scaled or head.data.info.task != "regression" or not hasattr(x, "shape") or x.size != y.size:
        return [], []
    if not np.array_equal(x.reshape(y.shape), y):
        return [], []
    if scaling.mean is None or scaling.spread is None:
        return [0.0], [float(scaling.divisor)]
    return scaling.mean.tolist(), scaling.spread.tolist()


def _preprocessing(packed: Packed, data: Data) -> PreprocessingNotes:
    how = next((line for line in packed.lines if "inside" in line), "")
    scaling = data.scaling
    if packed.is_inside or data.encodings:
        return PreprocessingNotes(is_inside=packed.is_inside, how=how)
    if scaling.mean is None or scaling.spread is None:
        return PreprocessingNotes(is_inside=False, how=how, mean=[0.0], spread=[float(scaling.divisor)])
    return PreprocessingNotes(is_inside=False, how=how, mean=scaling.mean.tolist(), spread=scaling.spread.tolist())
