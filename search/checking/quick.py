"""The checks that `run` makes before the first trial of a new study, in its worker process: they take a fraction of a second.

What they stop for is certain: a model that has no output for a label, or a loss that is not finite before any training.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import keras
import numpy as np

from search.checking import data_checks, rows
from search.checking.labels import labels
from search.checking.report import NotApplicable
from search.data import Data
from search.engines.losses.outputs import outputs_with_a_loss, spread_rows
from search.engines.training import Trainer, has_call
from search.spec.finding import Finding

_ROWS = 32
# Digests of more rows or bytes than these take too long here.
_MOST_COMPARED, _MOST_BYTES = 100_000, 2**27


def of_data(data: Data) -> Iterator[Finding]:
    """Yield what needs a look in the rows of a study; never a "stop", which a model may know better."""
    arrays = [x for tree in (data.x_train, data.x_validation) for _, x in rows.inputs_of(tree)]
    checks = [data_checks.targets]
    if all(isinstance(x, np.ndarray) for x in arrays):  # else rows are read as they are needed
        checks.append(data_checks.inputs)
        if sum(map(len, arrays)) <= _MOST_COMPARED and sum(x.nbytes for x in arrays) <= _MOST_BYTES:
            checks.append(data_checks.shared_rows)
    for check in checks:
        with suppress(NotApplicable):
            yield from (replace(finding, level="look") for finding in check(data) if finding.level != "ok")


def of_model(model: keras.Model, trainer: Trainer) -> Iterator[Finding]:
    """Yield what would waste a search with a model that is built and compiled, and not trained."""
    if trainer.has_own_fit or not has_call(model):
        return
    faults = [finding for finding in labels(model, trainer) if finding.level != "ok"]
    yield from faults
    # Preflight computes outputs of 4 rows, too, so these compile little. A loss that compares rows may need more of them.
    if faults or _is_finite(model, trainer, 4) or _is_finite(model, trainer, _ROWS):
        return
    text = f"the loss of {_ROWS} training rows is not finite before any training, in the middle of the space"
    yield Finding("loss at start", "stop", text, "look at the loss, and at the outputs that it takes")


def _is_finite(model: keras.Model, trainer: Trainer, count: int) -> bool:
    """Whether the loss of some training rows is finite, or not the fault: preflight names outputs that are not."""
    # Rows from everywhere: the first ones of sorted data are of one class, and a loss that compares rows may divide by 0.
    x, y = spread_rows(trainer.data.x_train, count), spread_rows(trainer.data.y_train, count)
    predicted = outputs_with_a_loss(model, x, y)
    if predicted is None:
        return True
    outputs = [np.asarray(keras.ops.convert_to_numpy(output)) for output in keras.tree.flatten(predicted)]
    loss = model.compute_loss(x, y, predicted)
    is_finite = loss is None or bool(np.isfinite(keras.ops.convert_to_numpy(loss)).all())
    return is_finite or not all(np.isfinite(output).all() for output in outputs)
