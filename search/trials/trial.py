"""A trial: a config, its number, and its results; and all trials of a study."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import zip_longest
from typing import Any, TypeAlias

from search.spec.study import StudyFile
from search.trials.events import Member
from search.trials.streams import stream

REFUSED = "refused"
"""The ending of a trial whose model is beyond a limit of the study."""

Metrics: TypeAlias = dict[str, float | None]

# The random stream of trainings; stream 0 is the sampler's.
_TRAINING_STREAM = 1


@dataclass(slots=True)
class Training:
    """The results of a member: one training of a trial's config.

    Attributes:
        seed: of its initial weights, shuffles and dropout.
        curve: the metrics of each epoch, from the first on; all values are finite numbers or None.
        seconds: of each epoch.
        deaths: how many workers in a row ended while they trained it; `judged`: how many of its epochs were judged.
    """

    member: Member
    seed: int
    curve: list[Metrics] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    deaths: int = 0
    judged: int = 0


@dataclass(slots=True)
class Trial:
    """A config, its number, and its results.

    `curve` and `value` are means over its trainings, at the epochs that all of them have finished.

    Attributes:
        params: the drawn params as Optuna and tables show them (lists and tables as JSON).
        config: all values that the builder reads.
        epochs: how many it may have.
        state: Optuna's word: WAITING (interrupted, goes on), RUNNING, COMPLETE, PRUNED or FAIL.
        ended: finished, stopped early, callback, pruned, diverged, timeout (the trial's limit), time (the study's), refused
            (beyond a limit of the study, so not trained), failed or crashed; "" while it runs.
        why: the reason for `ended`, for people; `detail` is a traceback or a worker's last output.
        trainings: one for each repeat or fold, in order.
        value: the objective of the best epoch; `best_epoch` counts from 1.
        attrs: what the sampler stores with the trial.
        means: the curve, if there are several trainings.
        early: (epochs, ended, why) if a training has ended before its last epoch: the others end there, too.
    """

    number: int
    params: dict[str, Any]
    config: dict[str, Any]
    epochs: int
    trainings: Sequence[Training]
    state: str = "RUNNING"
    ended: str = ""
    why: str = ""
    detail: str = ""
    value: float | None = None
    best_epoch: int | None = None
    attrs: dict[str, Any] = field(default_factory=dict)
    started_at: datetime | None = None
    ended_at: datetime | None = None
    means: list[Metrics] = field(default_factory=list)
    early: tuple[int, str, str] | None = None

    @property
    def is_ended(self) -> bool:
        return self.state in ("COMPLETE", "PRUNED", "FAIL")

    @property
    def has_no_value(self) -> bool:
        """Whether it has ended so that none of its epochs counts."""
        return self.state == "FAIL" or self.ended in ("diverged", REFUSED)

    @property
    def counted_as(self) -> str:
        """Its state where trials are counted: Optuna's word, which is PRUNED for a refused trial, or REFUSED."""
        return REFUSED.upper() if self.ended == REFUSED else self.state

    @property
    def members(self) -> list[Member]:
        return [training.member for training in self.trainings]

    @property
    def curve(self) -> list[Metrics]:
        """The metrics of each epoch that all trainings have finished: means over them, None if one of them has none."""
        return self.trainings[0].curve if len(self.trainings) == 1 else self.means

    @property
    def goal(self) -> int:
        """The epochs that each training is to reach."""
        return self.epochs if self.early is None else self.early[0]

    def add_epoch(self, replica: int, metrics: Metrics, seconds: float) -> bool:
        """Add the next epoch of a training; return whether all trainings have reached it, so that the curve has it."""
        training = self.trainings[replica]
        training.curve.append(metrics)
        training.seconds.append(seconds)
        epoch = len(training.curve)
        is_last = all(len(one.curve) >= epoch for one in self.trainings)
        if is_last and len(self.trainings) > 1:
            self.means.append(_means([one.curve[epoch - 1] for one in self.trainings]))
        return is_last

    @property
    def seconds(self) -> list[float]:
        """The seconds of each epoch, summed over all trainings."""
        if len(self.trainings) == 1:
            return self.trainings[0].seconds
        return [sum(epoch) for epoch in zip_longest(*(one.seconds for one in self.trainings), fillvalue=0.0)]


def _means(epochs: Sequence[Metrics]) -> Metrics:
    return {name: _mean([epoch.get(name) for epoch in epochs]) for name in epochs[0]}


def _mean(values: Sequence[float | None]) -> float | None:
    numbers = [value / len(values) for value in values if value is not None]  # the sum of large values may overflow
    return math.fsum(numbers) if len(numbers) == len(values) else None


def make_trial(file: StudyFile, number: int, params: Mapping[str, Any]) -> Trial:
    """Make trial `number` of a study from its params, with nothing trained yet."""
    seed = file.settings.study.seed
    config = {**file.fixed(), **file.space.config(params)}
    return Trial(
        number=number,
        params=dict(params),
        config=config,
        epochs=int(config["epochs"]),
        trainings=[
            Training(Member(number, replica), stream(seed, _TRAINING_STREAM, number, replica))
            for replica in range(file.settings.study.replicas)
        ],
    )


class Trials:
    """All trials of a study by number, and a log of their changes: drawn, an epoch further, ended.

    Code that caches data of trials reads the changes with `since`.
    """

    def __init__(self, trials: Iterable[Trial] = ()) -> None:
        self._trials: dict[int, Trial] = {}
        self._log: list[int] = []
        for trial in trials:
            self.append(trial)

    def __len__(self) -> int:
        return len(self._trials)

    def __iter__(self) -> Iterator[Trial]:
        return iter(self._trials.values())

    def __getitem__(self, number: int) -> Trial:
        return self._trials[number]

    def append(self, trial: Trial) -> None:
        """Add the next trial."""
        self._trials[trial.number] = trial
        self._log.append(trial.number)

    def touch(self, trial: Trial) -> None:
        """Append a changed trial to the log."""
        self._log.append(trial.number)

    def since(self, seen: int) -> tuple[list[Trial], int]:
        """Return the trials that changed after position `seen` of the log, and the position to pass next (at first 0)."""
        return [self._trials[number] for number in dict.fromkeys(self._log[seen:])], len(self._log)
