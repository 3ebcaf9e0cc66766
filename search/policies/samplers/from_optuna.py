"""Optuna's samplers, unaltered, fed from a study in memory.

A sampler is made anew for every trial, seeded by the study's seed and the trial's number, so that it has no memory but the
study (docs/decisions/0002).
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Container, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from search.errors import OptionError
from search.policies.samplers import Searched, grid
from search.spec.vocabulary import Rule
from search.trials.distributions import distribution
from search.trials.objective import Objective
from search.trials.streams import stream
from search.trials.trial import Trial, Trials
from spaces import MAX_GRID_POINTS, Choice, Float, Parameter, Space


class OptunaSampler:
    """Draws what one of Optuna's samplers would draw: each subclass says which.

    Attributes:
        OPTIONS: those of Optuna's arguments that a study may set.
        kind: the name of Optuna's class; `needs`, of a package that it imports.
    """

    OPTIONS: ClassVar[Mapping[str, Rule]] = {}
    kind: ClassVar[str]
    needs: ClassVar[str] = ""

    def __init__(self, searched: Searched, **options: Any) -> None:
        self._options, self._space, self._seed = options, searched.space, searched.seed
        self._objective = searched.objective
        self._view = _View(searched.objective)
        with _quiet():
            self._study = optuna.create_study(
                storage=self._view,
                direction=optuna.study.StudyDirection[searched.objective.direction.upper()],
                sampler=optuna.samplers.RandomSampler(seed=0),
            )
        for key, value in searched.study_attrs.items():
            self._view.set_study_system_attr(self._study._study_id, key, value)
        # Of the log of trials, and of the trials themselves.
        self._seen = self._asked = 0

    @classmethod
    def check(cls, options: Mapping[str, Any], space: Space) -> None:  # noqa: ARG003 (grid's looks at it)
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
        """Make Optuna's sampler that draws one trial.

        `path` is the trial's number and, if another config is wanted for it, which attempt this is.
        """
        with _quiet():
            given = cls.arguments(options, seed=seed, path=path)
            return getattr(optuna.samplers, cls.kind)(**given)  # type: ignore[no-any-return]

    @classmethod
    def arguments(cls, options: Mapping[str, Any], *, seed: int, path: Sequence[int]) -> dict[str, Any]:
        """Return the arguments of Optuna's class."""
        return {**options, "seed": stream(seed, 0, *path)}

    def draw(self, trials: Trials, attempt: int, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        self._look(trials)
        number = len(trials)
        with _quiet():
            path = (number, attempt) if attempt else (number,)
            self._study.sampler = self.optunas(self._options, seed=self._seed, path=path)
            if number < self._asked:
                self._view.empty(self._id(number), given)
                return self._suggested(optuna.Trial(self._study, self._id(number)))
            if given:
                self._study.enqueue_trial(dict(given))
            self._asked = number + 1
            return self._suggested(self._study.ask())

    def _look(self, trials: Trials) -> None:
        """Take in what has become of trials since the last draw."""
        changed, self._seen = trials.since(self._seen)
        for trial in changed:
            if trial.number >= self._asked:
                self._asked = trial.number + 1
                self._view.create_new_trial(self._study._study_id, self._frozen(trial))
            elif self._view.get_trial(self._id(trial.number)).params != trial.params:
                # It was drawn here more than once, and the study took an earlier draw.
                self._view.replace(self._id(trial.number), self._frozen(trial))
            else:
                self._view.update(self._id(trial.number), trial)
            if trial.is_ended:
                self._view.end(trial)

    def _frozen(self, trial: Trial) -> FrozenTrial:
        """Return a trial that another process has drawn, as Optuna has it: running until it has ended."""
        # Moments are not kept: no sampler reads them, and Optuna only wants them present.
        now = datetime.now()  # noqa: DTZ005 (Optuna's moments are naive local time)
        return FrozenTrial(
            number=trial.number,
            state=TrialState[trial.state] if trial.is_ended else TrialState.RUNNING,
            value=trial.value if trial.is_ended else None,
            datetime_start=now,
            datetime_complete=now if trial.is_ended else None,
            params=dict(trial.params),
            distributions={name: distribution(self._space[name]) for name in trial.params},
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
        return params, dict(self._view.get_trial(trial._trial_id).system_attrs)

    @property
    def study_attrs(self) -> Mapping[str, Any]:
        return dict(self._view.get_study_system_attrs(self._study._study_id))

    def _id(self, number: int) -> int:
        return self._view.get_trial_id_from_study_id_trial_number(self._study._study_id, number)


class _View(InMemoryStorage):
    """The study as samplers see it: a diverged trial stands there as complete, with the worst value seen so far.

    Otherwise TPE would rank it by how long it lived, and a Gaussian process would not see it at all.
    """

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self._objective = objective
        self._worst: float | None = None
        self._diverged: set[int] = set()

    def empty(self, trial_id: int, given: Mapping[str, Any]) -> None:
        """Make a trial as it was when it was asked for, with these params fixed, so that it can be drawn again."""
        trial = self.get_trial(trial_id)
        trial.params, trial.distributions = {}, {}
        trial.system_attrs = {"fixed_params": dict(given)} if given else {}
        self._set_trial(trial_id, trial)

    def replace(self, trial_id: int, trial: FrozenTrial) -> None:
        """Let another trial stand in the place of one."""
        trial._trial_id = trial_id
        self._set_trial(trial_id, trial)

    def update(self, trial_id: int, trial: Trial) -> None:
        """Bring a trial that was asked for here up to date."""
        known = self.get_trial(trial_id)
        for epoch, value in self._objective.by_epoch(trial, max(known.intermediate_values, default=0)).items():
            self.set_trial_intermediate_value(trial_id, epoch, value)
        if trial.is_ended and not known.state.is_finished():
            values = None if trial.value is None else [trial.value]
            self.set_trial_state_values(trial_id, TrialState[trial.state], values)

    def end(self, trial: Trial) -> None:
        """Remember which trials have diverged, and the worst of all values."""
        if trial.ended == "diverged":
            self._diverged.add(trial.number)
        if trial.value is not None and (self._worst is None or self._objective.is_better(self._worst, trial.value)):
            self._worst = trial.value

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        if not self._diverged or self._worst is None or states == (TrialState.WAITING,):
            return super().get_all_trials(study_id, deepcopy, states)
        trials = super().get_all_trials(study_id, deepcopy)
        shown = [self._shown(trial) if trial.number in self._diverged else trial for trial in trials]
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


def _suggest(trial: optuna.Trial, name: str, parameter: Parameter) -> Any:
    if isinstance(parameter, Choice):
        return trial.suggest_categorical(name, parameter.values())
    if isinstance(parameter, Float):
        return trial.suggest_float(name, parameter.low, parameter.high, log=parameter.log, step=parameter.step)
    return trial.suggest_int(name, parameter.low, parameter.high, log=parameter.log, step=parameter.step)


class Random(OptunaSampler):
    """Every config anew, from the whole space."""

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
        # One sequence for the whole study, which the seed scrambles unless the study says otherwise: Optuna's default is the
        # same for all seeds and begins with all lows. What it does not cover is drawn by the trial's own stream.
        independent = optuna.samplers.RandomSampler(seed=stream(seed, 0, *path))
        fixed = {"seed": stream(seed, 0), "independent_sampler": independent, "warn_independent_sampling": False}
        return {"scramble": True, **options, **fixed}


class Grid(OptunaSampler):
    """Every config once. All of them are known from the start, so that Optuna is never asked for one."""

    kind = "RandomSampler"
    OPTIONS: ClassVar[Mapping[str, Rule]] = {"points": Rule(int, 2, MAX_GRID_POINTS)}

    @classmethod
    def check(cls, options: Mapping[str, Any], space: Space) -> None:
        """Raise OptionError if the space has no grid."""
        grid.check(options, space)

    @classmethod
    def arguments(cls, options: Mapping[str, Any], *, seed: int, path: Sequence[int]) -> dict[str, Any]:  # noqa: ARG003
        return {"seed": stream(seed, 0, *path)}


class _quiet(warnings.catch_warnings):  # noqa: N801 (reads as the statement it is)
    """Keep Optuna's notes about experimental arguments, and its log, out of the user's terminal."""

    def __init__(self) -> None:
        super().__init__(record=False, action="ignore")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
