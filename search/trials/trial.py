"""A trial: a config, its number, and all that became of it; and all trials of a study."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from search.spec.study import StudyFile
from search.trials.streams import stream

# Beside stream 0, which is the sampler's.
_TRAINING = 1


@dataclass(slots=True)
class Trial:
    """A config and its number, and all that became of it.

    Attributes:
        params: the drawn parameters as Optuna and tables show them (a list as JSON).
        config: everything a builder reads.
        epochs: how many it may have.
        state: Optuna's word: WAITING (interrupted, goes on), RUNNING, COMPLETE, PRUNED or FAIL.
        ended: finished, stopped early, callback, pruned, diverged, timeout, time, failed or crashed; "" while it runs.
        why: more of that for people.
        curve: all metrics by epoch, the first epoch first; nothing but finite numbers and None.
        seconds: of each epoch.
        value: the best epoch's objective; `best_epoch` counts from 1.
        attrs: what the sampler keeps with the trial.
    """

    number: int
    params: dict[str, Any]
    config: dict[str, Any]
    epochs: int
    seed: int
    state: str = "RUNNING"
    ended: str = ""
    why: str = ""
    detail: str = ""
    curve: list[dict[str, float | None]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    value: float | None = None
    best_epoch: int | None = None
    attrs: dict[str, Any] = field(default_factory=dict)
    deaths: int = 0
    judged: int = 0
    started_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def is_ended(self) -> bool:
        return self.state in ("COMPLETE", "PRUNED", "FAIL")


def make_trial(file: StudyFile, number: int, params: Mapping[str, Any]) -> Trial:
    """Make trial `number` of a study from its params, with nothing trained yet."""
    config = {**file.fixed(), **file.space.config(params)}
    return Trial(
        number=number,
        params=dict(params),
        config=config,
        epochs=int(config["epochs"]),
        seed=stream(file.settings.study.seed, _TRAINING, number, 0),
    )


class Trials:
    """All trials of a study, by their numbers, and a log of which are new, an epoch further, or ended.

    What is made of trials can follow the log.
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
        """Note that a trial has changed."""
        self._log.append(trial.number)

    def since(self, seen: int) -> tuple[list[Trial], int]:
        """Return the trials that are new, further or ended since a look that returned `seen`, and what to ask by next."""
        return [self._trials[number] for number in dict.fromkeys(self._log[seen:])], len(self._log)
