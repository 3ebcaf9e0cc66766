"""Pictures of the data: the shares of the classes, and examples of each. Nothing here imports keras."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from search.checking import rows
from search.checking.baselines import labels_of
from search.checking.exhibit import Bars, Exhibit, Images, image_shape, png_of
from search.data import Data

_MOST_CLASSES, _EXAMPLES, _STRIP_WIDTH = 20, 6, 340
_MOST_BARS = 40


def examples(data: Data, test: Data | None = None) -> Iterator[Exhibit]:
    """Yield the shares of the classes in the splits, and examples of each class as pictures where rows are images."""
    yield from _shares(data, test)
    yield from _images(data)


def _shares(data: Data, test: Data | None) -> Iterator[Exhibit]:
    for output in data.info.targets or ("",):
        one = data.output(output)
        if not one.info.classes:
            continue
        names = class_names(one)[:_MOST_BARS]
        bars = {}
        splits = [("training", one.y_train), ("validation", one.y_validation)]
        splits += [] if test is None else [("test", test.output(output).y_validation)]
        for split, y in splits:
            counts = np.bincount(labels_of(y, one), minlength=one.info.classes)[:_MOST_BARS]
            bars[split] = tuple((counts / max(counts.sum(), 1)).tolist())
        of = f" of {output}" if output else ""
        hidden = one.info.classes - len(names)
        note = f"{hidden} more classes are not drawn." if hidden else ""
        name = f"classes-{list(data.info.targets).index(output)}" if output else "classes"
        title = f"Share of each class{of} in the splits"
        yield Bars(
            "data",
            name,
            title,
            "share of rows",
            tuple(names),
            bars,
            note=note,
        )


def _images(data: Data) -> Iterator[Exhibit]:
    if data.info.inputs or data.info.targets or not data.info.classes or data.info.vocabulary_size:
        return
    values, labels = rows.sample(data.x_train), labels_of(data.y_train, data)[rows.chosen(len(data.x_train))]
    shape = image_shape(values)
    if shape is not None:
        shown = []
        low, high = float(values.min()), float(values.max())
        for label, name in enumerate(class_names(data)[:_MOST_CLASSES]):
            of_class = values[labels == label][:_EXAMPLES].reshape(-1, *shape)
            if len(of_class):
                shown.append((png_of(np.concatenate([*of_class], axis=1), low, high), name))
        note = "Flat rows, drawn as lines of pixels." if values.ndim == 2 else ""
        yield Images("data", "examples", "Examples of each class", tuple(shown), note, _STRIP_WIDTH)


def class_names(data: Data) -> list[str]:
    """Return the name of each class of a single output."""
    return [*(data.info.class_names or map(str, range(data.info.classes)))]
