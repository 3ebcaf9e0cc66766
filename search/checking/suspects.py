"""Rows that may be wrong: far from all others of their class, or with another label than all rows like them.

Nothing here imports keras.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import threadpoolctl
from numpy.typing import NDArray

from search.checking import rows
from search.checking.baselines import check_single, labels_of
from search.checking.examples import class_names
from search.checking.exhibit import Exhibit, Images, Listing, image_shape, png_of
from search.checking.report import NotApplicable
from search.data import Data
from search.spec.finding import Finding

# Distances beyond the median, in units of the usual spread of distances. Tables with heavy tails have many beyond 5.
_FAR = 15.0
# A label is suspect if all neighbours of its row have the same other one. Surer classifiers are wrong more often: on MNIST
# and Fashion-MNIST, logistic regression doubts 3 and 6% of the labels so, neighbours fewer than 1%.
_NEIGHBOURS, _FOLDS = 10, 5
# So many suspects are more than the neighbours' own mistakes.
_MANY = 0.01
_SHOWN, _COLUMNS = 12, 8


def outliers(data: Data) -> Iterator[Finding | Exhibit]:
    """Yield how far the farthest training rows are from the others of their class (of all rows, for a regression)."""
    check_single(data)
    x = _standardized(data)
    labels = (
        labels_of(data.y_train, data)[rows.chosen(len(data.x_train))] if data.info.classes else np.zeros(len(x), int)
    )
    far = np.zeros(len(x))
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        distances = np.sqrt(((x[of_class] - np.median(x[of_class], axis=0)) ** 2).mean(axis=1))
        spread = 1.4826 * float(np.median(np.abs(distances - np.median(distances))))
        # Rows of a class that are nearly all equal have no usual spread.
        spread = max(spread, 0.05 * float(np.median(distances)), 1e-6)
        far[of_class] = (distances - np.median(distances)) / spread
    order = np.argsort(-far)[:_SHOWN]
    count = int((far > _FAR).sum())
    most = float(far[order[0]])
    text = (
        f"{count:,} of {len(x):,} rows are beyond {_FAR:.0f} usual spreads from their class; the farthest at {most:.1f}"
    )
    names = class_names(data) if data.info.classes else []
    captions = [
        f"{_place(data, row)}{f', {names[labels[row]]}' if names else ''}: {far[row]:.1f} spreads away" for row in order
    ]
    numbers = {"rows": count, "farthest": most}
    if count:
        yield Finding("outliers", "look", f"{text} ({_place(data, order[0])})", "see whether they are errors", numbers)
    else:
        yield Finding("outliers", "ok", text, numbers=numbers)
    yield _shown("outliers", "The rows farthest from their class", data, order, captions)


def wrong_labels(data: Data) -> Iterator[Finding | Exhibit]:
    """Yield the training rows whose nearest neighbours, in cross-validation, all have one other label."""
    check_single(data)
    if not data.info.classes:
        raise NotApplicable("the targets are not classes")
    labels = labels_of(data.y_train, data)[rows.chosen(len(data.x_train))]
    counts = np.bincount(labels, minlength=data.info.classes)
    if counts.min() < 2 * _NEIGHBOURS:
        raise NotApplicable("there are too few rows of some class")
    probabilities = _out_of_fold(rows.matrix(data.x_train), labels)
    guess = probabilities.argmax(axis=1)
    suspects = np.flatnonzero((guess != labels) & (probabilities.max(axis=1) == 1))
    accuracy = float((guess == labels).mean())
    text = (
        f"all {_NEIGHBOURS} nearest neighbours of {len(suspects):,} of {len(labels):,} rows have one other label (in "
        f"{_FOLDS} folds; by most neighbours, {accuracy:.1%} of the rows would be classified right)"
    )
    numbers = {"rows": len(suspects), "accuracy": accuracy}
    if len(suspects) > _MANY * len(labels):
        advice = "see them on the page: some labels are wrong, some rows are like those of another class"
        yield Finding("likely wrong labels", "look", text, advice, numbers)
    else:
        yield Finding("likely wrong labels", "ok", text, numbers=numbers)
    names = class_names(data)
    captions = [
        f"{_place(data, row)}: {names[labels[row]]}, its neighbours are {names[guess[row]]}"
        for row in suspects[:_SHOWN]
    ]
    if len(suspects):
        yield _shown("wrong-labels", "Likely wrong labels", data, suspects[:_SHOWN], captions)


def _out_of_fold(x: NDArray[Any], labels: NDArray[Any]) -> NDArray[Any]:
    """Return the share of each class among the nearest neighbours of each row in the other folds."""
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), KNeighborsClassifier(_NEIGHBOURS))
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=0)
    with threadpoolctl.threadpool_limits(1):
        return np.asarray(cross_val_predict(model, x, labels, cv=folds, method="predict_proba"))


def _standardized(data: Data) -> NDArray[Any]:
    x = rows.matrix(data.x_train).astype(np.float64)
    spread = x.std(axis=0)
    # Features that are nearly always 0, such as the borders of images, would decide alone.
    spread = np.where(spread > 0, np.maximum(spread, 0.2 * spread.mean()), 0.0)
    return np.asarray((x - x.mean(axis=0))[:, spread > 0] / spread[spread > 0])


def _place(data: Data, row: int) -> str:
    """Return where the source has a sampled row."""
    number = int(rows.chosen(len(data.x_train))[row])
    if data.place is None:
        return f"training row {number}"
    return data.place(number).rpartition("/")[2]


def _shown(name: str, title: str, data: Data, chosen: NDArray[Any], captions: list[str]) -> Exhibit:
    """Return rows as images, where they are, else as a table of their first features."""
    values = rows.sample(data.x_train)
    if (shape := image_shape(values)) is not None:
        images = values[chosen].reshape(-1, *shape)
        low, high = float(values.min()), float(values.max())
        pngs = tuple((png_of(image, low, high), text) for image, text in zip(images, captions, strict=True))
        return Images("data", name, title, pngs, width=110)
    flat = values.reshape(len(values), -1)
    names = [str(column["name"]) for column in data.columns]
    if len(names) != flat.shape[1]:  # a category is several features
        names = [f"feature {number}" for number in range(flat.shape[1])]
    table: list[tuple[str | float, ...]] = [
        (text, *flat[row, :_COLUMNS].tolist()) for row, text in zip(chosen, captions, strict=True)
    ]
    note = "Values are as the model gets them."
    note += f" The first {_COLUMNS} of {flat.shape[1]} features." if flat.shape[1] > _COLUMNS else ""
    return Listing("data", name, title, ("row", *names[:_COLUMNS]), tuple(table), note)
