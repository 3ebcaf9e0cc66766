"""Name -> sampler: Optuna's samplers, fed from a study in memory. Nothing here touches a database.

A sampler is made anew for every trial, seeded by the study's seed and the trial's number. So what it draws depends on what
the study holds and not on what this process did before, which is what lets a study go on after a crash as if nothing had
happened (docs/decisions/0002).
"""

from __future__ import annotations

import importlib.util
import itertools
import math
import warnings
from collections.abc import Container, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
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

from search.errors import OptionError
from search.vocabulary import Rule, closest
from spaces import MAX_GRID_POINTS, Choice, Float, Parameter, Space

_SAMPLERS: dict[str, str] = {
    "random": "RandomSampler",
    "tpe": "TPESampler",
    "gp": "GPSampler",
    "cmaes": "CmaEsSampler",
    "qmc": "QMCSampler",
    "grid": "RandomSampler",  # never asked: all of a grid is known from the start
}
_NEEDS = {"cmaes": "cmaes", "gp": "torch"}

_FLAG = Rule(bool)
_OPTIONS: dict[str, dict[str, Rule]] = {
    "random": {},
    "tpe": {
        "n_startup_trials": Rule(int, 0),
        "n_ei_candidates": Rule(int, 1),
        "multivariate": _FLAG,
        "group": _FLAG,
        "constant_liar": _FLAG,
    },
    "gp": {"n_startup_trials": Rule(int, 1), "deterministic_objective": _FLAG},
    "cmaes": {
        "n_startup_trials": Rule(int, 1),
        "popsize": Rule(int, 4),
        "consider_pruned_trials": _FLAG,
        "use_separable_cma": _FLAG,
        "with_margin": _FLAG,
        "lr_adapt": _FLAG,
    },
    "qmc": {"qmc_type": Rule(str, choices=("sobol", "halton")), "scramble": _FLAG},
    "grid": {"points": Rule(int, 2, MAX_GRID_POINTS)},
}


def stream(seed: int, *path: int) -> int:
    """Return the 32-bit seed of an independent random stream of the study: `path` says which."""
    return int(np.random.SeedSequence([seed, *path]).generate_state(1)[0])


def check(name: str, options: Mapping[str, Any], space: Space) -> None:
    """Raise OptionError for an unknown sampler or option, one whose package is missing, or one that can't search `space`."""
    if name not in _SAMPLERS:
        raise OptionError(f"no such sampler: {name!r}{closest(name, _SAMPLERS)}; there are {', '.join(_SAMPLERS)}")
    known = _OPTIONS[name]
    for key, value in options.items():
        if key not in known:
            has = f"it has {', '.join(known) or 'none'}"
            raise OptionError(f"the sampler {name} has no option {key!r}{closest(key, known)}; {has}", key)
        try:
            known[key].check(key, value)
        except ValueError as error:
            raise OptionError(str(error), key) from None
    package = _NEEDS.get(name)
    if package and importlib.util.find_spec(package) is None:
        raise OptionError(f"the sampler {name} needs the package {package}; pip install 'manyfit[{name}]'")
    if name == "grid":
        _check_grid(options, space)
        return
    try:
        _make(name, options, seed=0, number=0)
    except ValueError as error:
        raise OptionError(f"the sampler {name} does not take {dict(options)}: {error}") from None


def _check_grid(options: Mapping[str, Any], space: Space) -> None:
    for key, parameter in space.items():
        if parameter.when:
            raise OptionError(
                f"grid can't search the conditional parameter {key!r}; use another sampler, or drop its when"
            )
        if parameter.values(options.get("points")) is None:
            raise OptionError(
                f"grid needs a finite list of values for {key!r}; give it a step, or write "
                'sampler = { name = "grid", points = 5 }'
            )
    if (size := _size(options, space)) > MAX_GRID_POINTS:
        raise OptionError(
            f"the grid must have at most {MAX_GRID_POINTS:,} configs; received {size:,}; use fewer values, or random"
        )


def _size(options: Mapping[str, Any], space: Space) -> int:
    return math.prod(len(parameter.values(options.get("points")) or ()) for parameter in space.values())


def limit(name: str, options: Mapping[str, Any], space: Space, start: Sequence[Mapping[str, Any]] = ()) -> int | None:
    """Return how many different configs the sampler can draw, `start` among them; None if there is no end of them."""
    if name != "grid":
        return None
    if not start:
        return _size(options, space)
    return len(_grid(options, space, [space.check(values) for values in start], seed=0))


def _grid(
    options: Mapping[str, Any], space: Space, start: Sequence[Mapping[str, Any]], *, seed: int
) -> list[dict[str, Any]]:
    """List all configs of a grid in an order that the seed decides, the start configs first.

    A start config on the grid takes its point's place; a partial one, that of the first point that agrees with it.
    """
    values = [parameter.values(options.get("points")) or [] for parameter in space.values()]
    points = [dict(zip(space, chosen, strict=True)) for chosen in itertools.product(*values)]
    order = np.random.default_rng(stream(seed, 0)).permutation(len(points))
    points = [points[i] for i in order]
    first = []
    for given in start:
        found = next((p for p in points if all(_same(p[key], value) for key, value in given.items())), None)
        if found is not None:
            points.remove(found)
        first.append(found or {**space.middle(), **given})
    return first + points


def _same(a: Any, b: Any) -> bool:
    # The third of five points between 0 and 1 may differ from the 0.5 that a person writes in its last digit.
    return math.isclose(a, b) if isinstance(a, float) else bool(a == b)


class Sampler:
    """Draws configs for a study from the trials it has been told of."""

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
            self._start = _grid(self._options, space, self._start, seed=seed)
        self._view = _View(direction)
        with _quiet():
            self._study = optuna.create_study(
                storage=self._view,
                direction=optuna.study.StudyDirection[direction.upper()],
                sampler=optuna.samplers.RandomSampler(seed=0),
            )
        self._reported_attrs: dict[str, Any] = {}

    def draw(self, number: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Draw the params of trial `number`; return their labels and the attributes the sampler keeps with the trial."""
        with _quiet():
            self._study.sampler = _make(self._name, self._options, seed=self._seed, number=number)
            if number < len(self._start):
                self._study.enqueue_trial(self._start[number])
            trial = self._study.ask()
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

    def study_attrs(self) -> dict[str, Any]:
        """Return the attributes that the sampler keeps with the study and that changed since the last call."""
        attrs = self._view.get_study_system_attrs(self._study._study_id)
        changed = {key: value for key, value in attrs.items() if self._reported_attrs.get(key) != value}
        self._reported_attrs = dict(attrs)
        return changed

    def restore_study_attrs(self, attrs: Mapping[str, Any]) -> None:
        """Put back what `study_attrs` returned."""
        for key, value in attrs.items():
            self._view.set_study_system_attr(self._study._study_id, key, value)
        self._reported_attrs = dict(attrs)

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


def _make(name: str, options: Mapping[str, Any], *, seed: int, number: int) -> BaseSampler:
    kind = getattr(optuna.samplers, _SAMPLERS[name])
    given = dict(options, seed=stream(seed, 0, number))
    if name == "grid":
        given = {"seed": given["seed"]}
    elif name == "qmc":
        # One sequence for the whole study; what it does not cover is drawn by the trial's own stream.
        independent = optuna.samplers.RandomSampler(seed=given["seed"])
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
