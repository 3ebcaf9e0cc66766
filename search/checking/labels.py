"""Whether a model has an output for every class, in a worker process."""

from __future__ import annotations

from collections.abc import Iterator

import keras

from search.engines import heads
from search.engines.losses.outputs import width_of
from search.engines.training import Trainer, has_call
from search.spec.finding import Finding

_OF_CLASSES = ("sparse_categorical_crossentropy", "categorical_crossentropy")


def labels(model: keras.Model, trainer: Trainer) -> Iterator[Finding]:
    """Yield the outputs of a model beside the classes of each of its targets; nothing where they need not be equal.

    A label without an output raises on TensorFlow's CPU only: elsewhere its rows train nothing, or give losses that are not
    finite.
    """
    if not has_call(model):
        return
    for head in heads.heads_of(model, trainer.data):
        classes = head.data.info.classes
        if head.data.info.task != "classification" or _name_of_loss(model, head.index) not in _OF_CLASSES:
            continue
        width = width_of(model, head.data, head.index)
        if not width:
            continue
        of = f"{head.name}: " if head.name else ""
        text = f"{of}{width} outputs for the labels 0 to {classes - 1} of {classes} classes"
        numbers = {"outputs": width, "classes": classes}
        if width < classes:
            advice = "labels are out of range: end the model with data.outputs units"
            yield Finding("labels", "stop", text, advice, numbers)
        elif width > classes:
            advice = "some outputs have no label: labels count from 0; end the model with data.outputs units"
            yield Finding("labels", "look", text, advice, numbers)
        else:
            yield Finding("labels", "ok", text, numbers=numbers)


def _name_of_loss(model: keras.Model, index: int | None) -> str:
    losses = keras.tree.flatten(model.loss) if isinstance(model.loss, list | tuple | dict) else [model.loss]
    loss = losses[index or 0] if len(losses) > (index or 0) else None
    return str(getattr(loss, "name", None) or getattr(loss, "__name__", None) or loss)
