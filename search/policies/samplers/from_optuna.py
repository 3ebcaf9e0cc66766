"""Optuna's samplers, unaltered, on a copy of the study in Optuna's in-memory storage.

Every trial has a new sampler, seeded by the study's seed and the trial's number. So a draw depends only on the study
(docs/decisions/0002).
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Container, Mapping, Sequence
from copy import copy
from datetime import datetime
from typing import Any, ClassVar, TypeGuard

import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from search.errors import OptionError
from search.policies.samplers import SearchProblem, grid
from search.spec.vocabulary import Rule
from search.trials.distributions import distribution
from search.trials.objective import Objective
from search.trials.streams import stream
from search.trials.trial import REFUSED, Trial, Trials
from spaces import MAX_GRID_CONFIGS, Choice, Float, Parameter, Space


class OptunaSampler:
    """Draws by one of Optuna's samplers; each subclass names one.

    Attributes:
        OPTIONS: the arguments of Optuna's class that a study may set.
        kind: the name of Optuna's class.
        needs: the name of a package that Optuna's class imports; "" for none.
    """

    OPTIONS: ClassVar[Mapping[str, Rule]] = {}
    kind: ClassVar[str]
    needs: ClassVar[str] = ""

    def __init__(self, problem: SearchProblem, **options: Any) -> None:
        self._options, self._space, self._seed = options, problem.space, problem.seed
        self._objective = problem.objective
        self._storage = _Storage(problem.objective)
        with _quiet():
            self._study = optuna.create_study(
                storage=self._storage,
                direction=optuna.study.StudyDirection[problem.objective.direction.upper()],
                sampler=optuna.samplers.RandomSampler(seed=0),
            )
        for key, value in problem.study_attrs.items():
            self._storage.set_study_system_attr(self._study._study_id, key, value)
        # The position in the log of trials, and the number of trials in Optuna's storage.
        self._log_position = self._count = 0

    @classmethod
    def check(cls, options: Mapping[str, Any], space: Space) -> None:  # noqa: ARG003 (Grid checks it)
        """Raise OptionError if Optuna does not take the options, or its package is missing."""
        name = cls.__name__.lower()
        if cls.needs and importlib.util.find_spec(cls.needs) is None:
            raise OptionError(
                f"the sampler {name} needs the package {cls.needs}; run `pip install -e '.[{name}]'` in manyfit's folder"
            )
        try:
            cls.optunas(options, seed=0, path=(0,))
        except ValueError as error:
            raise OptionError(f"the sampler {name} does not take {dict(options)}: {error}") from None

    @classmethod
    def optunas(cls, options: Mapping[str, Any], *, seed: int, path: Sequence[int]) -> BaseSampler:
        """Make the Optuna sampler that draws one trial.

        `path` selects its random stream: the trial's number and, from the second attempt on, the number of the attempt.
        """
        with _quiet():
            arguments = cls.arguments(options, seed=seed, path=path)
            return getattr(optuna.samplers, cls.kind)(**arguments)  # type: ignore[no-any-return]

    @classmethod
    def arguments(cls, options: Mapping[str, Any], *, seed: int, path: Sequence[int]) -> dict[str, Any]:
        """Return the arguments for Optuna's class."""
        return {**options, "seed": stream(seed, 0, *path)}

    def draw(self, trials: Trials, attempt: int, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        self._update(trials)
        number = len(trials)
        given = _to_optuna(given, self._space)
        with _quiet():
            path = (number, attempt) if attempt else (number,)
            self._study.sampler = self.optunas(self._options, seed=self._seed, path=path)
            if number < self._count:
                self._storage.reset(self._id(number), given)
                return self._suggested(optuna.Trial(self._study, self._id(number)))
            if given:
                self._study.enqueue_trial(given)
            self._count = number + 1
            return self._suggested(self._study.ask())

    def _update(self, trials: Trials) -> None:
        """Copy the trials that changed since the last draw into Optuna's storage."""
        changed, self._log_position = trials.since(self._log_position)
        for trial in changed:
            if trial.number >= self._count:
                self._count = trial.number + 1
                self._storage.create_new_trial(self._study._study_id, self._frozen(trial))
            elif self._storage.get_trial(self._id(trial.number)).params != _to_optuna(trial.params, self._space):
                # The trial was drawn here more than once, and the study used an earlier draw.
                self._storage.replace(self._id(trial.number), self._frozen(trial))
            else:
                self._storage.update(self._id(trial.number), trial)
            if trial.is_ended:
                self._storage.end(trial)

    def _frozen(self, trial: Trial) -> FrozenTrial:
        """Return a trial that another process drew as an Optuna trial, which is running until it has ended."""
        # The times are invented: Optuna requires them, but no sampler reads them.
        now = datetime.now()  # noqa: DTZ005 (Optuna uses naive local time)
        return FrozenTrial(
            number=trial.number,
            state=TrialState[trial.state] if trial.is_ended else TrialState.RUNNING,
            value=trial.value if trial.is_ended else None,
            datetime_start=now,
            datetime_complete=now if trial.is_ended else None,
            params=_to_optuna(trial.params, self._space),
            distributions={name: _drawn_from(self._space[name]) for name in trial.params},
            user_attrs={},
            system_attrs=dict(trial.attrs),
            intermediate_values=self._objective.by_epoch(trial),
            trial_id=-1,
        )

    def _suggested(self, trial: optuna.Trial) -> tuple[dict[str, Any], dict[str, Any]]:
        params: dict[str, Any] = {}
        for name, parameter in self._space.items():
            if self._space.is_active(name, params):
                params[name] = _suggest(trial, name, parameter)
        return params, dict(self._storage.get_trial(trial._trial_id).system_attrs)

    @property
    def study_attrs(self) -> Mapping[str, Any]:
        return dict(self._storage.get_study_system_attrs(self._study._study_id))

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number)


class _Storage(InMemoryStorage):
    """The study as Optuna's samplers read it: diverged and refused trials are complete there, with the worst value so far.

    Otherwise TPE would rank them by the number of their epochs, and a Gaussian process would ignore them.
    """

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self._objective = objective
        self._worst: float | None = None
        self._without_value: set[int] = set()

    def reset(self, trial_id: int, given: Mapping[str, Any]) -> None:
        """Make a trial empty again, with the `given` params fixed, so that it can be drawn again."""
        trial = self.get_trial(trial_id)
        trial.params, trial.distributions = {}, {}
        trial.system_attrs = {"fixed_params": dict(given)} if given else {}
        self._set_trial(trial_id, trial)

    def replace(self, trial_id: int, trial: FrozenTrial) -> None:
        """Replace a trial by another one."""
        trial._trial_id = trial_id
        self._set_trial(trial_id, trial)

    def update(self, trial_id: int, trial: Trial) -> None:
        """Add the new epochs and the end of `trial` to its copy."""
        copy = self.get_trial(trial_id)
        for epoch, value in self._objective.by_epoch(trial, max(copy.intermediate_values, default=0)).items():
            self.set_trial_intermediate_value(trial_id, epoch, value)
        if trial.is_ended and not copy.state.is_finished():
            values = None if trial.value is None else [trial.value]
            self.set_trial_state_values(trial_id, TrialState[trial.state], values)

    def end(self, trial: Trial) -> None:
        """Remember whether `trial` diverged or was refused, and the worst of all values."""
        if trial.ended in ("diverged", REFUSED):
            self._without_value.add(trial.number)
        if trial.value is not None and (self._worst is None or self._objective.is_better(self._worst, trial.value)):
            self._worst = trial.value

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        if not self._without_value or self._worst is None or states == (TrialState.WAITING,):
            return super().get_all_trials(study_id, deepcopy, states)
        trials = super().get_all_trials(study_id, deepcopy)
        changed = [self._completed(trial) if trial.number in self._without_value else trial for trial in trials]
        return [trial for trial in changed if states is None or trial.state in states]

    def _completed(self, trial: FrozenTrial) -> FrozenTrial:
        if not trial.state.is_finished():
            return trial
        completed = copy(trial)
        completed.state, completed.value = TrialState.COMPLETE, self._worst
        return completed


def _is_drawn_by_index(parameter: Parameter) -> TypeGuard[Float]:
    """Return whether Optuna draws the index of a value, because its floats can't have such a step."""
    return isinstance(parameter, Float) and not parameter.divides


def _drawn_from(parameter: Parameter) -> BaseDistribution:
    if _is_drawn_by_index(parameter):
        return IntDistribution(0, (parameter.count or 1) - 1)
    return distribution(parameter)


def _to_optuna(params: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """Return params as Optuna's samplers read and draw them: some as indices."""
    return {
        name: round(parameter.index(value)) if _is_drawn_by_index(parameter := space[name]) else value
        for name, value in params.items()
    }


def _suggest(trial: optuna.Trial, name: str, parameter: Parameter) -> Any:
    if isinstance(parameter, Choice):
        return trial.suggest_categorical(name, parameter.values())
    if _is_drawn_by_index(parameter):
        return parameter.at(trial.suggest_int(name, 0, (parameter.count or 1) - 1))
    if isinstance(parameter, Float):
        value = trial.suggest_float(name, parameter.low, parameter.high, log=parameter.log, step=parameter.step)
        return parameter.nearest(value)
    return trial.suggest_int(name, parameter.low, parameter.high, log=parameter.log, step=parameter.step)


class Random(OptunaSampler):
    """Draws every config independently, from the whole space."""

    kind = "RandomSampler"


class Tpe(OptunaSampler):
    """Tree-structured Parzen estimator."""

    kind = "TPESampler"
    OPTIONS: ClassVar[Mapping[str, Rule]] = {
        "n_startup_trials": Rule(int, 0),
        "n_ei_candidates": Rule(int, 1),
        "multivariate": Rule(bool),
        "group": Rule(bool),
        "constant_liar": Rule(bool),
    }


class Gp(OptunaSampler):
    """A Gaussian process over configs."""

    kind, needs = "GPSampler", "torch"
    OPTIONS: ClassVar[Mapping[str, Rule]] = {"n_startup_trials": Rule(int, 1), "deterministic_objective": Rule(bool)}


class CmaEs(OptunaSampler):
    """Evolution of a normal distribution over configs."""

    kind, needs = "CmaEsSampler", "cmaes"
    OPTIONS: ClassVar[Mapping[str, Rule]] = {
        "n_startup_trials": Rule(int, 1),
        "popsize": Rule(int, 4),
        "consider_pruned_trials": Rule(bool),
        "use_separable_cma": Rule(bool),
        "with_margin": Rule(bool),
        "lr_adapt": Rule(bool),
    }

    @classmethod
    def arguments(cls, options: Mapping[str, Any], *, seed: int, path: Sequence[int]) -> dict[str, Any]:
        return {**super().arguments(options, seed=seed, path=path), "warn_independent_sampling": False}


class Qmc(OptunaSampler):
    """A sequence that covers the space evenly."""

    kind = "QMCSampler"
    OPTIONS: ClassVar[Mapping[str, Rule]] = {
        "qmc_type": Rule(str, choices=("sobol", "halton")),
        "scramble": Rule(bool),
    }

    @classmethod
    def arguments(cls, options: Mapping[str, Any], *, seed: int, path: Sequence[int]) -> dict[str, Any]:
        # The study has one sequence, which its seed scrambles unless an option turns that off: Optuna's default sequence is
        # the same for all seeds and starts with all lows. Conditional parameters are drawn from the trial's own stream.
        independent = optuna.samplers.RandomSampler(seed=stream(seed, 0, *path))
        fixed = {"seed": stream(seed, 0), "independent_sampler": independent, "warn_independent_sampling": False}
        return {"scramble": True, **options, **fixed}


class Grid(OptunaSampler):
    """Every config of the grid once. `Draws` passes each of them as `given`, so that Optuna never draws one."""

    kind = "RandomSampler"
    OPTIONS: ClassVar[Mapping[str, Rule]] = {"points": Rule(int, 2, MAX_GRID_CONFIGS)}

    @classmethod
    def check(cls, options: Mapping[str, Any], space: Space) -> None:
        """Raise OptionError if the space has no grid."""
        grid.check(options, space)

    @classmethod
    def arguments(cls, options: Mapping[str, Any], *, seed: int, path: Sequence[int]) -> dict[str, Any]:  # noqa: ARG003
        return {"seed": stream(seed, 0, *path)}


class _quiet(warnings.catch_warnings):  # noqa: N801 (reads as the statement it is)
    """Hide Optuna's warnings about experimental arguments, and its log, from the user's terminal."""

    def __init__(self) -> None:
        super().__init__(record=False, action="ignore")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
