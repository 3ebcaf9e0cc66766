"""Evaluates a trained model on rows that its search did not judge it by, with intervals. Runs in a worker process.

An accuracy of independent rows has Wilson's interval. Other metrics and the loss have a bootstrap interval: they are computed
again on rows drawn with replacement. Neither says what another training of the config would give.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from scipy import stats

from search import arrayfile
from search.data import Data
from search.engines import exporting, noting, raw_rows
from search.engines.heads import Head, heads_of
from search.engines.logs import numbers
from search.engines.portable import Labels
from search.engines.protocol import EvaluateModel
from search.engines.training import Trainer, validation_batch
from search.errors import UsageError
from search.spec import model_file
from search.spec.model_file import ModelNotes
from search.trials.events import Noted

LEVEL = 0.95
RESAMPLES = 500
# A metric of all rows at once is the one that `evaluate` gives batch by batch, within rounding.
_SAME = 1e-4
# Of rows that have several labels each, these are shares of labels.
_OF_LABELS = (keras.metrics.Accuracy, keras.metrics.BinaryAccuracy)
_ACCURACIES = (
    keras.metrics.CategoricalAccuracy,
    keras.metrics.SparseCategoricalAccuracy,
    keras.metrics.TopKCategoricalAccuracy,
    keras.metrics.SparseTopKCategoricalAccuracy,
)

Interval = tuple[float, float, str]


@dataclass(frozen=True)
class _Rows:
    """A compiled model with the rows to evaluate it on, as it takes them."""

    model: keras.Model
    x: Any
    y: Any
    weights: Any
    batch_size: int
    lines: tuple[str, ...] = ()


def evaluate(trainer: Trainer, order: EvaluateModel) -> Noted:
    """Evaluate a member's model, or that of a file, on the rows that the worker judges by.

    Errors of the user's layers pass through; UsageError for a file that can't be evaluated.
    """
    rows = _of_file(trainer, order) if order.path else _of_member(trainer.of_fold(order.member.replica), order)
    model = rows.model
    values = numbers(
        model.evaluate(
            rows.x, rows.y, batch_size=rows.batch_size, sample_weight=rows.weights, verbose=0, return_dict=True
        )
    )
    outputs = model.predict(rows.x, batch_size=rows.batch_size, verbose=0)
    count = len(keras.tree.flatten(rows.y)[0])
    return Noted(
        "model evaluated",
        {
            "values": values,
            "intervals": {name: list(interval) for name, interval in intervals(rows, outputs, values).items()},
            "rows": count,
            "lines": list(rows.lines),
        },
    )


def _of_member(trainer: Trainer, order: EvaluateModel) -> _Rows:
    weights, _ = arrayfile.read(Path(order.weights))
    data, model = trainer.data, trainer.model(order.config, order.seed)
    exporting.assign(model, weights)
    batch_size = validation_batch(int(order.config["batch_size"]))
    return _Rows(model, data.x_validation, data.y_validation, data.w_validation, batch_size)


def _of_file(trainer: Trainer, order: EvaluateModel) -> _Rows:
    path = Path(order.path)
    notes = model_file.read(path)
    for fold in range(max(1, len(trainer.data.folds))):
        of_fold = trainer.of_fold(fold)
        if (notes.fingerprint, notes.fitted) == (of_fold.data.fingerprint, noting.fitted(of_fold.data)):
            break
    else:
        raise UsageError(f"the data of study {notes.study!r} have changed since {path} was saved")
    trainer, data = of_fold, of_fold.data
    if notes.has_texts:  # a worker on JAX leaves TensorFlow out, which the file's layers for texts need
        raw_rows.find_tensorflow()
    # Its layers may be the user's: those of the study's own model are known by their names.
    study_model = trainer.model(order.config, order.seed)
    loaded, lines = exporting.load(str(path), study_model)
    if loaded is None:
        raise UsageError(f"{path}: {'; '.join(lines)}")
    if not loaded.compiled:
        trial = ["--name", notes.study, "--trial", str(notes.trials[0])]
        raise UsageError(
            f"{path}: the model is not compiled, as its loss is code of yours or has no equal in Keras; "
            f"`{shlex.join(['manyfit', 'evaluate', notes.database, *trial])}` evaluates the trial with your code"
        )
    heads = heads_of(study_model, data)
    x = data.raw.x_validation if notes.preprocessing.is_inside else data.x_validation
    model, x = raw_rows.staged(loaded, x)
    batch_size = validation_batch(int(order.config["batch_size"]))
    return _Rows(model, x, _labels(notes, heads, data), data.w_validation, batch_size, lines)


def _labels(notes: ModelNotes, heads: list[Head], data: Data) -> Any:
    """Return the labels in the forms that a file's `evaluate` takes, in the structure of the study's."""
    forms = {output.name: output.labels for output in notes.outputs}
    made = {}
    for head in heads:
        info, one_hot = head.data.info, head.data.raw.is_one_hot
        labels = Labels.of(head.data.y_validation, task=info.task, classes=info.classes, is_one_hot=one_hot)
        made[head.name] = labels.forms[forms[head.name]]
    if "" in made:
        return made[""]
    return made if isinstance(data.y_validation, dict) else tuple(made[str(number)] for number in range(len(made)))


def intervals(rows: _Rows, outputs: Any, values: Mapping[str, float]) -> dict[str, Interval]:
    """Return the interval of each metric that has one: (low, high, how).

    A metric has none if the model computes it in another way than from its outputs and the labels of rows.
    """
    count = len(keras.tree.flatten(rows.y)[0])
    if count < 2:
        return {}
    whole = _measured(rows, outputs, np.arange(count))
    # The loss of `evaluate` has penalties of weights, too, which are the same for any rows.
    offsets = {"loss": values["loss"] - whole["loss"]} if rows.model.losses and "loss" in whole else {}
    known = {
        name
        for name, value in whole.items()
        if name in values and np.isclose(value + offsets.get(name, 0.0), values[name], rtol=_SAME, atol=_SAME)
    }
    accuracies = _accuracies(rows) & known if all(array.ndim <= 2 for array in keras.tree.flatten(outputs)) else set()
    by_metric = {name: wilson(values[name], count) for name in accuracies if _is_count(values[name] * count)}
    if others := sorted(known - by_metric.keys()):
        generator = np.random.default_rng(0)
        drawn = [_measured(rows, outputs, generator.integers(count, size=count)) for _ in range(RESAMPLES)]
        tail = (1 - LEVEL) / 2
        for name in others:
            sample: NDArray[np.float64] = np.array([one[name] for one in drawn]) + offsets.get(name, 0.0)
            if np.isfinite(sample).all():
                low, high = np.quantile(sample, [tail, 1 - tail])
                by_metric[name] = (float(low), float(high), "bootstrap")
    return by_metric


def wilson(share: float, count: int) -> Interval:
    """Return Wilson's interval of a share of rows."""
    interval = stats.binomtest(round(share * count), count).proportion_ci(LEVEL, method="wilson")
    return float(interval.low), float(interval.high), "Wilson"


def _is_count(number: float) -> bool:
    """Return whether a share of rows times their number is a number of rows: each has one label, right or wrong."""
    return abs(number - round(number)) < 1e-2


def _measured(rows: _Rows, outputs: Any, index: NDArray[Any]) -> dict[str, float]:
    """Return the loss and the metrics of some rows, from their outputs."""
    model: Any = rows.model
    y, predicted, weights = (
        keras.tree.map_structure(lambda array: np.asarray(array)[index], tree) if tree is not None else None
        for tree in (rows.y, outputs, rows.weights)
    )
    measured: dict[str, float] = {}
    if model._compile_loss is not None:
        measured["loss"] = float(keras.ops.convert_to_numpy(model._compile_loss(y, predicted, sample_weight=weights)))
    if model._compile_metrics is not None:
        model._compile_metrics.reset_state()
        model._compile_metrics.update_state(y, predicted, sample_weight=weights)
        measured |= numbers(model._compile_metrics.result())
    return measured


def _accuracies(rows: _Rows) -> set[str]:
    """Return the names of metrics that are shares of rows; none where rows have weights."""
    compiled: Any = rows.model._compile_metrics
    if rows.weights is not None or compiled is None:
        return set()
    has_one_label = all(array.size == len(array) for array in map(np.asarray, keras.tree.flatten(rows.y)))
    kinds = (*_ACCURACIES, *_OF_LABELS) if has_one_label else _ACCURACIES
    named = zip(compiled.result(), compiled.metrics, strict=False)
    return {name for name, metric in named if isinstance(getattr(metric, "metric", metric), kinds)}
