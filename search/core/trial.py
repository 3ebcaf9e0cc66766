"""A trial: a config, its number, and all that became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from search.policies import samplers
from search.spec.studyfile import StudyFile

# Beside stream 0, which is the sampler's.
_TRAINING = 1


@dataclass(slots=True)
class Trial:
    """A config and its number, and all that became of it.

    Attributes:
        labels: the drawn parameters as Optuna and tables show them (a list as JSON).
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
    labels: dict[str, Any]
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


def make_trial(file: StudyFile, number: int, labels: Mapping[str, Any]) -> Trial:
    """Make trial `number` of a study from the labels of its parameters, with nothing trained yet."""
    config = {**file.fixed(), **file.space.config(labels)}
    return Trial(
        number=number,
        labels=dict(labels),
        config=config,
        epochs=int(config["epochs"]),
        seed=samplers.stream(file.settings.study.seed, _TRAINING, number, 0),
    )


def best_of(file: StudyFile, trial: Trial) -> tuple[float | None, int | None]:
    """Return the best objective in a trial's curve and its epoch, counted from 1; of equals the first."""
    objective, better = file.settings.study.objective, max if file.direction == "maximize" else min
    curve = [(value, epoch) for epoch, m in enumerate(trial.curve, 1) if (value := m.get(objective)) is not None]
    if not curve:
        return None, None
    best = better(value for value, _ in curve)
    return best, next(epoch for value, epoch in curve if value == best)
