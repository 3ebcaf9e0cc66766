"""Whether a model has an output for every class, in a worker process."""

from __future__ import annotations

from collections.abc import Iterator

import keras

from search.engines import heads
from search.engines.losses.keras_names import name_of
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
        classes, loss = head.data.info.classes, heads.compiled_loss(model, head.index)
        if head.data.info.task != "classification" or name_of(loss) not in _OF_CLASSES:
            continue
        if getattr(loss, "ignore_class", None) is not None:  # this label needs no output
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
