"""Trials of an earlier study that a new one learns from. They are not trials of the new one: only its sampler reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search.spec.study import StudyFile
from search.trials.events import Member
from search.trials.history import History
from search.trials.objective import Objective
from search.trials.trial import REFUSED, Training, Trial
from spaces import SpaceError

KEY = "manyfit:known"
"""The attribute of a study that has them."""

# At most this many are carried over: half of them the best, the others spread evenly. A sampler reads fewer.
MOST = 1000


@dataclass(frozen=True, slots=True)
class Carried:
    """What a new study knows of an earlier one.

    Attributes:
        trials: plain JSON of each trial that is carried over.
        outside: how many trials lie outside of the new space.
        unlike: what differs between the studies, "data" or "builder"; their values may not be comparable then.
    """

    study: str
    trials: Sequence[Mapping[str, Any]]
    outside: int
    unlike: Sequence[str]

    def __str__(self) -> str:
        beside = f"; {self.outside} others lie outside of this space" if self.outside else ""
        return f"learns from {len(self.trials)} trials of study {self.study!r}{beside}"

    @property
    def attrs(self) -> dict[str, Any]:
        """The attributes of a study with this knowledge."""
        return {KEY: {"study": self.study, "trials": list(self.trials)}} if self.trials else {}


def carry_over(history: History, file: StudyFile, identity: Mapping[str, Any]) -> Carried:
    """Return what the study of `file`, whose identity is `identity`, may learn from an earlier study.

    A trial counts if it has ended by itself or was pruned, and if the values that the new study searches lie inside of its
    space. Where the new study fixes what the earlier one searched, the trial may have had another value.
    """
    objective, number = Objective.of(history.file), history.file.name
    ended = [trial for trial in history.trials if trial.state in ("COMPLETE", "PRUNED")]
    if history.file.settings.limits != file.settings.limits:
        # What was beyond a limit there may be within the limits here.
        ended = [trial for trial in ended if trial.ended != REFUSED]
    inside = {trial.number: params for trial in ended if (params := _params(trial, file)) is not None}
    kept = _chosen([trial for trial in ended if trial.number in inside], objective)
    trials = [_plain(trial, inside[trial.number], objective, file) for trial in kept]
    return Carried(number, trials, len(ended) - len(inside), _differences(history.full_identity, identity))


def read(study_attrs: Mapping[str, Any], objective: Objective) -> list[Trial]:
    """Return the trials that a study knows of an earlier one, numbered from 0."""
    return [
        Trial(
            number=number,
            params=dict(known["params"]),
            config={},
            epochs=known["epochs"],
            trainings=[Training(Member(number), seed=0, curve=[{objective.name: value} for value in known["values"]])],
            state=known["state"],
            ended=known["ended"],
            value=known["value"],
            best_epoch=known["best_epoch"],
        )
        for number, known in enumerate(study_attrs.get(KEY, {}).get("trials", ()))
    ]


def _params(trial: Trial, file: StudyFile) -> dict[str, Any] | None:
    """Return a trial's config as params of the space of `file`; None if it lies outside."""
    space = file.space
    params: dict[str, Any] = {}
    for name in space:
        if not space.is_active(name, params):
            continue
        if name not in trial.config:
            return None
        try:
            params |= space.check({name: trial.config[name]})
        except SpaceError:
            return None
    return params


def _plain(trial: Trial, params: Mapping[str, Any], objective: Objective, file: StudyFile) -> dict[str, Any]:
    """Return a trial as it would have been with the epochs that its config has in the study of `file`."""
    epochs = int({**file.fixed(), **file.space.config(params)}["epochs"])
    curve, state, ended, value, best_epoch = trial.curve, trial.state, trial.ended, trial.value, trial.best_epoch
    if len(curve) >= epochs:
        curve, state, ended = curve[:epochs], "COMPLETE", "finished"
        value, best_epoch = objective.best_of(curve)
    elif (state, ended) == ("COMPLETE", "finished"):
        state = "PRUNED"  # it goes on here
    return {
        "number": trial.number,
        "params": dict(params),
        "epochs": epochs,
        "state": state,
        "ended": ended,
        "value": value,
        "best_epoch": best_epoch,
        "values": [metrics.get(objective.name) for metrics in curve],
    }


def _chosen(trials: Sequence[Trial], objective: Objective) -> list[Trial]:
    if len(trials) <= MOST:
        return list(trials)
    with_value = sorted((trial for trial in trials if trial.value is not None), key=objective.rank)
    best = {trial.number for trial in with_value[: MOST // 2]}
    others = [trial.number for trial in trials if trial.number not in best]
    left = MOST - len(best)
    spread = {others[place * len(others) // left] for place in range(left)}
    return [trial for trial in trials if trial.number in best | spread]


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    different = []
    if before["data"].get("fingerprint") != now["data"].get("fingerprint"):
        different.append("data")
    files = [identity["model"].get("files") for identity in (before, now)]
    # A study of manyfit 0.1.0 has no list of files.
    has_other_files = None not in files and files[0] != files[1]
    if has_other_files or before["model"]["build"] != now["model"]["build"]:
        different.append("builder")
    return different
