"""One training of a config that a search has found, in a worker of its own. The study is only read."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from search.data.uses import Use
from search.errors import Interrupted, UsageError
from search.sessions.reporter import Reporter
from search.sessions.startup import one_worker
from search.signals import Interruptions
from search.spec import identity
from search.spec.settings import LimitsSection
from search.storage.studies import Stored
from search.trials.events import Assignment, EpochEnd, Failed, Lost, Noted, Overdue, OverLimit, Stopped, Verdict
from search.trials.files import StudyFiles
from search.trials.objective import Objective
from search.trials.retrained import Mode
from search.trials.trial import Metrics
from search.views.text import number
from search.workers.pool import WorkerPool

# Without early stopping in the study, patience is this share of the epochs of the search, and at least so many epochs.
_PATIENCE_SHARE, _LEAST_PATIENCE = 3, 5
# A line of progress is printed at most this often.
_PROGRESS_S = 5.0


@contextmanager
def worker(
    stored: Stored, use: Use, reporter: Reporter, interruptions: Interruptions
) -> Iterator[tuple[WorkerPool, StudyFiles, Callable[[], int]]]:
    """Start a worker of a study, with files in a folder of its own; yield the pool, these files, and what asks for signals.

    Raises IdentityError if data or code have changed since the search.
    """
    with tempfile.TemporaryDirectory(prefix="manyfit-") as folder, interruptions() as interruption:
        # A latency that is measured again may be beyond a limit that the config has kept in the search.
        settings = stored.file.settings.model_copy(update={"limits": LimitsSection()})
        file = replace(stored.file, settings=settings, database=Path(folder) / "retrained.db")
        with one_worker(stored, reporter, file=file, interruption=interruption, use=use) as (pool, ready):
            identity.check_ready(stored.file, stored.full_identity, ready)
            yield pool, StudyFiles.of(file), interruption


class Training:
    """One training of a config, from its first epoch to its last.

    Args:
        epochs: how many the search trained it; the assignment may have more or fewer.

    Attributes:
        curve: the metrics of each epoch so far.
    """

    def __init__(self, stored: Stored, assignment: Assignment, mode: Mode, epochs: int, reporter: Reporter) -> None:
        self._stored, self._assignment, self._mode, self._epochs = stored, assignment, mode, epochs
        self._reporter, self._objective = reporter, Objective.of(stored.file)
        stopping = stored.file.settings.search.early_stopping
        self._patience = stopping.patience if stopping else max(_LEAST_PATIENCE, math.ceil(epochs / _PATIENCE_SHARE))
        self.curve: list[Metrics] = []

    @property
    def best_epoch(self) -> int:
        """The epoch with the best objective, counted from 1."""
        return self._objective.best_of(self.curve)[1] or len(self.curve)

    def run(self, pool: WorkerPool, interruption: Callable[[], int]) -> list[Metrics]:
        """Train until the end, and keep the weights; return the metrics of each epoch.

        Raises UsageError if the training fails or diverges, Interrupted for a signal.
        """
        member, shown = self._assignment.member, time.monotonic()
        pool.start(self._assignment)
        while True:
            if number_of_signal := interruption():
                raise Interrupted("stopped; nothing was written, and the study is as it was", number_of_signal)
            for event in pool.advance():
                if isinstance(event, Failed | OverLimit | Lost | Overdue):
                    raise UsageError(f"training failed at epoch {len(self.curve) + 1}: {_why(event)}")
                if isinstance(event, EpochEnd):
                    self.curve.append(self._finite(event))
                    if time.monotonic() - shown > _PROGRESS_S:
                        self._reporter.line(self._progress())
                        shown = time.monotonic()
                if not isinstance(event, EpochEnd | Stopped):
                    continue
                ends = isinstance(event, Stopped) or self._is_over()
                if ends and (errors := [each for each in pool.keep([member]) if isinstance(each, Noted)]):
                    raise UsageError(f"the weights could not be kept: {errors[0].detail['why']}")
                pool.apply([Verdict(member, ends)])
                if ends:
                    return self.curve

    def _finite(self, event: EpochEnd) -> Metrics:
        """Return the metrics of an epoch; UsageError if the loss or the objective is not finite."""
        for name in ("loss", self._objective.name):
            if not math.isfinite(event.metrics.get(name, 0.0)):
                raise UsageError(
                    f"training diverged at epoch {event.epoch}: {name} is {event.metrics[name]}; try another --seed"
                )
        return {name: value if math.isfinite(value) else None for name, value in event.metrics.items()}

    def _is_over(self) -> bool:
        epoch = len(self.curve)
        if self._mode != "long":
            return epoch >= self._assignment.epochs
        is_late = epoch >= self._epochs and epoch - self.best_epoch >= self._patience
        return is_late or epoch >= self._assignment.epochs

    def _progress(self) -> str:
        value = self.curve[-1].get(self._objective.name)
        return f"epoch {len(self.curve)} of {self._assignment.epochs}: {self._objective.name} {number(value)}"


def _why(event: Failed | OverLimit | Lost | Overdue) -> str:
    return f"an epoch took {event.seconds:.0f} s" if isinstance(event, Overdue) else event.reason
