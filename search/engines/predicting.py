"""Predicts new rows by a model file, and writes a table of the predictions. Runs in a worker process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from numpy.typing import NDArray

from search.data import new_rows
from search.engines import loading, raw_rows
from search.errors import DataError
from search.spec import model_file
from search.trials.events import Noted

if TYPE_CHECKING:
    import pandas as pd

    from search.spec.model_file import ModelNotes, OutputNotes

_BATCH = 256
# Nobody reads a table of more columns than this.
_MOST_COLUMNS = 10_000


@dataclass(frozen=True)
class _Column:
    """A column of the table of predictions."""

    name: str
    values: NDArray[Any]


def predict(path: Path, options: Mapping[str, Any]) -> Noted:
    """Predict the rows of `options["source"]`, relative to `options["base"]`, and write `options["output"]`, a CSV.

    Raises UsageError for a model that can't be loaded, DataError for rows that it does not take. The detail of Noted:
    `rows`, `columns`, `outputs` (what was predicted, by output) and `lines`. `options["code"]`: files of the user's layers.
    """
    notes = model_file.read(path)
    rows = new_rows.read(options["source"], Path(options["base"]), notes)
    if notes.has_texts:
        raw_rows.find_tensorflow()
    model = loading.load(path, notes, [Path(file) for file in options["code"]])
    predicted = of_rows(model, rows, notes, f"{path}", options["source"])
    predicted.frame.to_csv(options["output"], index=False)
    return Noted(
        "rows predicted",
        {
            "rows": rows.count,
            "columns": list(predicted.frame.columns),
            "outputs": predicted.outputs,
            "lines": predicted.lines,
        },
    )


@dataclass(frozen=True)
class Table:
    """Predictions of rows, a line for each.

    Attributes:
        outputs: what was predicted, by output.
        lines: remarks on the rows and on the model.
    """

    frame: pd.DataFrame
    outputs: Mapping[str, Any]
    lines: list[str]


def of_rows(model: keras.Model, rows: new_rows.NewRows, notes: ModelNotes, path: str, source: str) -> Table:
    """Predict rows by a loaded model file; DataError names `path` or `source` for predictions that do not form a table."""
    model_of_file, x = raw_rows.staged(model, rows.x)
    outputs = keras.tree.flatten(model_of_file.predict(x, batch_size=_BATCH, verbose=0))
    values = [np.asarray(output, np.float32) for output in outputs]
    if len(values) != len(notes.outputs):
        raise DataError(f"{path}: the model gives {len(values)} outputs, and its notes say {len(notes.outputs)}")
    columns = [_Column("file", np.array(rows.files, dtype=object))] if rows.files else []
    summaries: dict[str, Any] = {}
    for output, given in zip(notes.outputs, values, strict=True):
        _check(given, rows.count, source)
        made = list(_columns(output, given))
        columns += made
        summaries[output.name] = _summary(output, made)
    if len(columns) > _MOST_COLUMNS:
        raise DataError(
            f"{path}: the model gives {len(columns)} numbers a row, which is no table; call model.predict in Python"
        )
    return Table(_frame(columns), summaries, [*rows.warnings, *_lines(notes)])


def probabilities(output: OutputNotes, given: NDArray[Any]) -> NDArray[Any] | None:
    """Return the probability of each class, (rows, classes); None if the outputs may be something else."""
    if output.gives not in ("logits", "probabilities") or given.ndim != 2:
        return None
    if output.squash:
        squash = keras.ops.softmax if output.squash == "softmax" else keras.ops.sigmoid
        given = keras.ops.convert_to_numpy(squash(given))
    return np.concatenate([1 - given, given], axis=1) if given.shape[1] == 1 else given


def _columns(output: OutputNotes, given: NDArray[Any]) -> Iterator[_Column]:
    """Yield the columns of an output: the class and the probability of each, or the numbers."""
    before, names = f"{output.name} " if output.name else "", output.class_names
    chances = probabilities(output, given) if names else None
    if chances is not None and chances.shape[1] == len(names):
        # Keras counts a probability of exactly one half as the first class, and so does `argmax`.
        yield _Column(f"{before}prediction", np.array(names, dtype=object)[chances.argmax(axis=1)])
        yield from (_Column(f"{before}probability of {name}", chances[:, label]) for label, name in enumerate(names))
        return
    if names and given.ndim == 2 and given.shape[1] == len(names) > 1:
        yield _Column(f"{before}prediction", np.array(names, dtype=object)[given.argmax(axis=1)])
        yield from (_Column(f"{before}score of {name}", given[:, label]) for label, name in enumerate(names))
        return
    if output.threshold is not None and given.shape[1:] == (1,) and len(names) == 2:
        is_second = (given[:, 0] > output.threshold).astype(int)
        yield _Column(f"{before}prediction", np.array(names, dtype=object)[is_second])
    what = "score" if names else "prediction"
    numbers = _in_units(output, given).reshape(len(given), -1)
    for index in range(numbers.shape[1]):
        yield _Column(f"{before}{what}{f' {index}' if numbers.shape[1] > 1 else ''}", numbers[:, index])


def _in_units(output: OutputNotes, given: NDArray[Any]) -> NDArray[Any]:
    """Return predictions as the source has the targets."""
    if not output.spread:
        return given
    flat = given.reshape(len(given), -1)
    made: NDArray[Any] = (flat * np.array(output.spread) + np.array(output.mean)).astype(np.float32)
    return made


def _check(given: NDArray[Any], count: int, source: str) -> None:
    if len(given) != count:
        raise DataError(
            f"{source}: the model gives {len(given)} predictions for {count} rows; predict in Python instead"
        )
    finite = np.isfinite(given).reshape(count, -1).all(axis=1)
    if not finite.all():
        row = int((~finite).argmax())
        raise DataError(
            f"{source}, row {row} (counted from 0): the model gives no finite number for {int((~finite).sum())} rows, of "
            "which this is the first; look at its values"
        )


def _summary(output: OutputNotes, columns: list[_Column]) -> dict[str, Any]:
    first = columns[0]
    if first.values.dtype.kind == "O":
        counts = Counter(first.values.tolist())
        return {"classes": {name: counts[name] for name in output.class_names}}
    values = np.concatenate([column.values for column in columns])
    return {"lowest": float(values.min()), "mean": float(values.mean()), "highest": float(values.max())}


def _lines(notes: ModelNotes) -> Iterator[str]:
    for output in notes.outputs:
        if not output.class_names or output.gives != "scores":
            continue
        of_output = f" of {output.name}" if output.name else ""
        if output.threshold is None:
            yield (
                f"the outputs{of_output} are not known to be probabilities or logits, so they are given as scores; "
                "keras.layers.Softmax or a sigmoid at the end of the model makes probabilities of them"
            )
            continue
        above = ""
        if len(output.class_names) == 2 and output.shape == [1]:
            above = f", of which those above {output.threshold:g} are {output.class_names[1]}"
        yield (
            f"the outputs{of_output} are given as scores{above}: the loss does not make probabilities of them; a "
            "cross-entropy does"
        )


def _frame(columns: list[_Column]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame({column.name: column.values for column in columns})
