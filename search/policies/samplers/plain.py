"""Optuna's samplers, unaltered, fed from a study in memory.

A sampler is made anew for every trial, seeded by the study's seed and the trial's number, so that it has no memory but the
study (docs/decisions/0002).
"""

from __future__ import annotations

import warnings
from collections.abc import Container, Mapping, Sequence
from datetime import datetime
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from search.policies.samplers import grid
from search.policies.samplers.streams import stream
from spaces import Choice, Float, Parameter, Space

_CLASSES: dict[str, str] = {
    "random": "RandomSampler",
    "tpe": "TPESampler",
    "gp": "GPSampler",
    "cmaes": "CmaEsSampler",
    "qmc": "QMCSampler",
    "grid": "RandomSampler",  # never asked: all of a grid is known from the start
}


class OptunaSampler:
    """Draws what the sampler of Optuna's that goes by `name` here would draw."""

    def __init__(
        self,
        name: str,
        options: Mapping[str, Any],
        *,
        space: Space,
        direction: str,
        seed: int,
        start: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self._name, self._options, self._space, self._seed = name, dict(options), space, seed
        self._start = [space.check(values) for values in start]
        if name == "grid":
            self._start = grid.points(self._options, space, self._start, seed=seed)
        self._view = _View(direction)
        with _quiet():
            self._study = optuna.create_study(
                storage=self._view,
                direction=optuna.study.StudyDirection[direction.upper()],
                sampler=optuna.samplers.RandomSampler(seed=0),
            )

    def draw(self, number: int, attempt: int = 0) -> tuple[dict[str, Any], dict[str, Any]]:
        """Draw the params of trial `number`; return their labels and the attributes the sampler keeps with the trial.

        A higher `attempt` draws another config for the same trial.
        """
        with _quiet():
            path = (number, attempt) if attempt else (number,)
            self._study.sampler = make(self._name, self._options, seed=self._seed, path=path)
            if number < len(self._start) and not attempt:
                self._study.enqueue_trial(self._start[number])
            if attempt:
                self._view.empty(self._id(number), self._start[number] if number < len(self._start) else {})
                trial = optuna.Trial(self._study, self._id(number))
            else:
                trial = self._study.ask()
            return self._suggested(trial)

    def put(self, number: int, labels: Mapping[str, Any]) -> dict[str, Any]:
        """Let trial `number`, drawn already, have these params; return the attributes the sampler keeps with it."""
        with _quiet():
            self._view.empty(self._id(number), labels)
            return self._suggested(optuna.Trial(self._study, self._id(number)))[1]

    def _suggested(self, trial: optuna.Trial) -> tuple[dict[str, Any], dict[str, Any]]:
        labels: dict[str, Any] = {}
        for name, parameter in self._space.items():
            if self._space.is_active(name, labels):
                labels[name] = _suggest(trial, name, parameter)
        return labels, dict(self._view.get_trial(trial._trial_id).system_attrs)

    def report(self, number: int, epoch: int, value: float) -> None:
        """Tell the objective of one epoch."""
        self._view.set_trial_intermediate_value(self._id(number), epoch, value)

    def tell(self, number: int, state: str, value: float | None, *, diverged: bool = False) -> dict[str, Any]:
        """Tell how a trial ended; return the attributes that the sampler keeps with it now."""
        trial_id = self._id(number)
        if diverged:
            self._view.diverged.add(number)
        trial_state = TrialState[state]
        values = None if value is None else [value]
        with _quiet():
            trial = self._view.get_trial(trial_id)
            self._study.sampler.after_trial(self._study, trial, trial_state, values)
        self._view.set_trial_state_values(trial_id, trial_state, values)
        self._view.see(value)
        return dict(self._view.get_trial(trial_id).system_attrs)

    def restore(
        self,
        number: int,
        state: str,
        labels: Mapping[str, Any],
        curve: Mapping[int, float],
        value: float | None,
        attrs: Mapping[str, Any],
        *,
        diverged: bool,
    ) -> None:
        """Put a stored trial back, in order of numbers; an unfinished one is told later."""
        finished = TrialState[state].is_finished()
        # Moments are not stored in memory: no sampler reads them, and Optuna only wants them present.
        now = datetime.now()  # noqa: DTZ005 (Optuna's moments are naive local time)
        trial = FrozenTrial(
            number=number,
            state=TrialState[state] if finished else TrialState.RUNNING,
            value=value,
            datetime_start=now,
            datetime_complete=now if finished else None,
            params=dict(labels),
            distributions={name: distribution(self._space[name]) for name in labels},
            user_attrs={},
            system_attrs=dict(attrs),
            intermediate_values=dict(curve),
            trial_id=-1,
        )
        self._view.create_new_trial(self._study._study_id, trial)
        if diverged:
            self._view.diverged.add(number)
        if finished:
            self._view.see(value)

    def spares(self, number: int, epoch: int) -> bool:  # noqa: ARG002 (Optuna's leave that to the pruner)
        """Spare nothing."""
        return False

    def study_attrs(self) -> dict[str, Any]:
        """Return the attributes that the sampler keeps with the study."""
        return dict(self._view.get_study_system_attrs(self._study._study_id))

    def restore_study_attrs(self, attrs: Mapping[str, Any]) -> None:
        """Put back what `study_attrs` returned."""
        for key, value in attrs.items():
            self._view.set_study_system_attr(self._study._study_id, key, value)

    def _id(self, number: int) -> int:
        return self._view.get_trial_id_from_study_id_trial_number(self._study._study_id, number)


class _View(InMemoryStorage):
    """The study as samplers see it: a diverged trial stands there as complete, with the worst value seen so far.

    Otherwise TPE would rank it by how long it lived, and a Gaussian process would not see it at all.
    """

    def __init__(self, direction: str) -> None:
        super().__init__()
        self._sign = 1.0 if direction == "maximize" else -1.0
        self._worst: float | None = None
        self.diverged: set[int] = set()

    def empty(self, trial_id: int, given: Mapping[str, Any]) -> None:
        """Make a trial as it was when it was asked for, with these params fixed, so that it can be drawn again."""
        trial = self.get_trial(trial_id)
        trial.params, trial.distributions = {}, {}
        trial.system_attrs = {"fixed_params": dict(given)} if given else {}
        self._set_trial(trial_id, trial)

    def see(self, value: float | None) -> None:
        """Remember the worst of all values."""
        if value is not None and (self._worst is None or self._sign * value < self._sign * self._worst):
            self._worst = value

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        if not self.diverged or self._worst is None or states == (TrialState.WAITING,):
            return super().get_all_trials(study_id, deepcopy, states)
        trials = super().get_all_trials(study_id, deepcopy)
        shown = [self._shown(trial) if trial.number in self.diverged else trial for trial in trials]
        return [trial for trial in shown if states is None or trial.state in states]

    def _shown(self, trial: FrozenTrial) -> FrozenTrial:
        if not trial.state.is_finished():
            return trial
        return FrozenTrial(
            number=trial.number,
            state=TrialState.COMPLETE,
            value=self._worst,
            datetime_start=trial.datetime_start,
            datetime_complete=trial.datetime_complete,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs=trial.user_attrs,
            system_attrs=trial.system_attrs,
            intermediate_values=trial.intermediate_values,
            trial_id=trial._trial_id,
        )


def distribution(parameter: Parameter) -> BaseDistribution:
    """Return the Optuna distribution of a parameter."""
    if isinstance(parameter, Choice):
        return CategoricalDistribution(parameter.values())
    if isinstance(parameter, Float):
        return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)
    return IntDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)


def _suggest(trial: optuna.Trial, name: str, parameter: Parameter) -> Any:
    if isinstance(parameter, Choice):
        return trial.suggest_categorical(name, parameter.values())
    if isinstance(parameter, Float):
        return trial.suggest_float(name, parameter.low, parameter.high, log=parameter.log, step=parameter.step)
    return trial.suggest_int(name, parameter.low, parameter.high, log=parameter.log, step=parameter.step)


def make(name: str, options: Mapping[str, Any], *, seed: int, path: Sequence[int]) -> BaseSampler:
    """Make the sampler that draws one trial: `path` is its number and, if another config is wanted, which attempt this is."""
    kind = getattr(optuna.samplers, _CLASSES[name])
    given = dict(options, seed=stream(seed, 0, *path))
    if name == "grid":
        given = {"seed": given["seed"]}
    elif name == "qmc":
        # One sequence for the whole study, which the seed scrambles unless the study says otherwise: Optuna's default is the
        # same for all seeds and begins with all lows. What it does not cover is drawn by the trial's own stream.
        independent = optuna.samplers.RandomSampler(seed=given["seed"])
        given = {"scramble": True} | given
        given |= {"seed": stream(seed, 0), "independent_sampler": independent, "warn_independent_sampling": False}
    elif name == "cmaes":
        given["warn_independent_sampling"] = False
    with _quiet():
        return kind(**given)  # type: ignore[no-any-return]


class _quiet(warnings.catch_warnings):  # noqa: N801 (reads as the statement it is)
    """Keep Optuna's notes about experimental arguments, and its log, out of the user's terminal."""

    def __init__(self) -> None:
        super().__init__(record=False, action="ignore")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
