"""Samplers: what they draw is a function of the study and the trial's number, and of nothing else."""

from __future__ import annotations

import importlib.util
import inspect
import json
import math
from dataclasses import asdict

import numpy as np
import optuna
import pytest
from support import Drawing, curve, replay, replay_file

from search.errors import OptionError
from search.policies import samplers
from search.policies.samplers import from_optuna
from search.registry import SAMPLERS
from search.trials.events import Member
from search.trials.streams import stream
from search.trials.trial import Training, Trial, Trials
from spaces import Space

SPACE = Space.parse(
    {
        "rate": {"low": 1e-4, "high": 1e-1, "log": True},
        "dropout": {"low": 0.0, "high": 0.5},
        "layers": {"low": 1, "high": 4},
        "units": [[64], [128, 64], [32]],
        "optimizer": ["sgd", "adam"],
    }
)
CONDITIONAL = Space.parse(
    {
        "optimizer": ["sgd", "adam", "lion"],
        "momentum": {"low": 0.0, "high": 0.99, "when": {"optimizer": "sgd"}},
        "nesterov": {"choices": [True, False], "when": {"optimizer": "sgd"}},
        "dropout": {"low": 0.0, "high": 0.5},
    }
)
NUMBERS = Space.parse({"rate": {"low": 1e-4, "high": 1e-1, "log": True}, "dropout": {"low": 0.0, "high": 0.5}})
GRID = Space.parse({"dropout": {"low": 0.0, "high": 0.4, "step": 0.2}, "units": [[8], [16]], "norm": [True, False]})

KINDS = {
    "random": ("random", {}, SPACE),
    "tpe": ("tpe", {"n_startup_trials": 3}, SPACE),
    "multivariate tpe": ("tpe", {"n_startup_trials": 3, "multivariate": True, "group": True}, CONDITIONAL),
    "conditional tpe": ("tpe", {"n_startup_trials": 0}, CONDITIONAL),
    "qmc": ("qmc", {}, SPACE),
    "scrambled halton": ("qmc", {"qmc_type": "halton", "scramble": True}, NUMBERS),
    "cmaes": ("cmaes", {}, NUMBERS),
    "small cmaes": ("cmaes", {"popsize": 4, "consider_pruned_trials": True, "with_margin": True}, NUMBERS),
    "gp": ("gp", {"n_startup_trials": 3}, NUMBERS),
    "bayes": ("bayes", {}, SPACE),
    "conditional bayes": ("bayes", {}, CONDITIONAL),
    "grid": ("grid", {}, GRID),
    "grid of points": ("grid", {"points": 3}, NUMBERS),
}


PLAIN = [name for name in SAMPLERS if name not in ("grid", "bayes")]


def installed(kind: str) -> None:
    package = {"cmaes": "cmaes", "gp": "torch"}.get(KINDS[kind][0])
    if package and importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")


def value_of(labels: dict[str, object]) -> float:
    """Some smooth score of a config."""
    rate = abs(math.log10(labels["rate"]) + 2) if "rate" in labels else 0.0
    return rate + float(labels.get("dropout", 0.0)) + float(labels.get("momentum", 0.3))


class Told:
    """A study's trials, and a sampler that draws them; what is stored of both makes another."""

    def __init__(self, kind: str, **more: object) -> None:
        name, options, space = KINDS[kind]
        samplers.check(name, options, space)
        self.kind, self.more = kind, {"epochs": 1, **more}
        self.drawing = Drawing(name, space, options=options, **self.more)

    @property
    def trials(self) -> Trials:
        return self.drawing.trials

    def draw(self) -> dict[str, object]:
        return self.drawing.draw(len(self.trials))[0]

    def end(self, number: int, state: str = "COMPLETE", diverged: bool = False, value: float | None = None) -> None:
        value = value_of(self.trials[number].params) if value is None else value
        self.drawing.report(number, 1, value)
        self.drawing.tell(number, state, None if diverged or state == "FAIL" else value, diverged=diverged)

    def again(self) -> Told:
        """What a new process makes of the same study, by way of JSON."""
        stored = json.loads(json.dumps([asdict(trial) for trial in self.trials]))
        attrs = json.loads(json.dumps(dict(self.drawing.study_attrs)))
        name, options, space = KINDS[self.kind]
        other = Told(self.kind, **self.more)
        for trial in stored:
            parts = [{**one, "member": Member(**one["member"])} for one in trial["trainings"]]
            trial["trainings"] = [Training(**one) for one in parts]
        trials = [Trial(**trial) for trial in stored]
        other.drawing = Drawing(name, space, options=options, study_attrs=attrs, trials=trials, **self.more)
        return other


def in_step(told: Told, trials: int, at_once: int) -> list[dict[str, object]]:
    """Draw and end trials, so many at once, with every kind of ending among them."""
    for number in range(trials):
        told.draw()
        if number >= at_once - 1:
            end_one(told, number - at_once + 1)
    return [trial.params for trial in told.trials]


def end_one(told: Told, number: int) -> None:
    told.end(number, {4: "PRUNED", 5: "FAIL", 6: "PRUNED"}.get(number, "COMPLETE"), diverged=number == 6)


@pytest.mark.parametrize("at_once", [1, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_new_process_draws_what_the_old_one_would_have(kind, at_once):
    installed(kind)
    trials = 16 if "bayes" in kind else 9  # it learns from its ninth on
    undisturbed = in_step(Told(kind), trials, at_once)
    told = Told(kind)
    for number in range(trials):
        told = told.again()
        assert told.draw() == undisturbed[number], number
        if number >= at_once - 1:
            end_one(told, number - at_once + 1)


@pytest.mark.parametrize("kind", ["random", "tpe", "qmc", "grid", "bayes"])
def test_draw_does_not_depend_on_the_random_state_of_the_process(kind):
    import random

    first = in_step(Told(kind), 6, 1)
    random.seed(5)
    np.random.seed(5)
    Told(kind, seed=9).draw()
    assert in_step(Told(kind), 6, 1) == first


@pytest.mark.parametrize("kind", [kind for kind, (name, _, _) in KINDS.items() if name in PLAIN])
@pytest.mark.filterwarnings("ignore")  # of Optuna's, that some of its options are experimental
def test_plain_samplers_draw_what_optuna_draws(kind):
    """Optuna itself, with a sampler of the same seed for each trial, draws the same: nothing is altered on the way."""
    installed(kind)
    name, options, space = KINDS[kind]
    told = Told(kind)
    study = optuna.create_study()
    for number in range(12):
        seed = stream(0, 0, number)
        if name == "qmc":
            given = {
                "scramble": True,
                **options,
                "seed": stream(0, 0),
                "independent_sampler": optuna.samplers.RandomSampler(seed=seed),
            }
        else:
            given = {**options, "seed": seed}
        study.sampler = getattr(optuna.samplers, SAMPLERS.get(name).kind)(**given)
        trial = study.ask()
        labels = {}
        for key, parameter in space.items():
            if space.is_active(key, labels):
                labels[key] = from_optuna._suggest(trial, key, parameter)
        assert told.draw() == labels
        trial.report(value_of(labels), 1)
        study.tell(trial, value_of(labels))
        told.end(number)


@pytest.mark.parametrize("kind", KINDS)
def test_drawing_once_more_gives_another_config_for_the_same_trial(kind):
    installed(kind)
    if KINDS[kind][0] == "grid":
        pytest.skip("a grid lists each config once")
    told = Told(kind)
    for number in range(12):
        told.draw()
        told.end(number)
    first = told.draw()
    others = [told.drawing.redraw(attempt) for attempt in range(1, 6)]
    assert any(other != first for other in others)
    assert others == [told.drawing.redraw(attempt) for attempt in range(1, 6)] or KINDS[kind][0] == "qmc"
    told.end(12)
    other = told.again()
    assert told.draw() == other.draw()


@pytest.mark.parametrize("kind", ["random", "tpe", "scrambled halton", "grid", "cmaes", "bayes"])
def test_another_seed_draws_something_else(kind):
    installed(kind)
    assert in_step(Told(kind, seed=1), 8, 1) != in_step(Told(kind, seed=2), 8, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_draws_lie_in_the_space_and_differ(kind):
    installed(kind)
    drawn = in_step(Told(kind), 8, 2)
    space = KINDS[kind][2]
    for labels in drawn:
        assert space.check(space.config(labels)) == labels
    assert len({json.dumps(labels) for labels in drawn}) >= 7


@pytest.mark.parametrize("kind", ["conditional tpe", "multivariate tpe", "conditional bayes"])
def test_parameter_is_drawn_only_under_its_condition(kind):
    drawn = in_step(Told(kind), 25, 1)
    for labels in drawn:
        assert ("momentum" in labels) == ("nesterov" in labels) == (labels["optimizer"] == "sgd")
    assert {labels["optimizer"] for labels in drawn} > {"sgd"}


def test_drawing_goes_in_the_direction_of_the_objective():
    """TPE, told a score to be maximized, ends up elsewhere than when it is to be minimized."""
    ends = {}
    for direction in ("minimize", "maximize"):
        told = Told("tpe", direction=direction)
        ends[direction] = np.mean([labels["dropout"] for labels in in_step(told, 40, 1)[-15:]])
    assert ends["minimize"] < 0.2
    assert ends["maximize"] > 0.3


# -- start configs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["random", "tpe", "qmc", "cmaes", "bayes"])
def test_partial_start_config_is_completed_by_the_sampler(kind):
    installed(kind)
    start = [{"rate": 0.001}, {"dropout": 0.25, "rate": 0.002}]
    drawn = in_step(Told(kind, start=start), 4, 1)
    space = KINDS[kind][2]
    assert drawn[0]["rate"] == 0.001
    assert (drawn[1]["rate"], drawn[1]["dropout"]) == (0.002, 0.25)
    assert all(set(labels) == set(space) for labels in drawn)
    assert drawn[2]["rate"] not in (0.001, 0.002)


def test_start_config_may_choose_a_list():
    told = Told("random", start=[{"units": [128, 64]}])
    assert told.draw()["units"] == "[128, 64]"


@pytest.mark.parametrize("kind", ["conditional tpe", "conditional bayes"])
def test_start_config_of_an_inactive_parameter_is_left_out(kind):
    told = Told(kind, start=[{"optimizer": "adam", "momentum": 0.5}])
    assert set(told.draw()) == {"optimizer", "dropout"}


# -- grids -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [1, 5, 12])
def test_grid_covers_every_point_exactly_once(at_once):
    assert samplers.limit("grid", {}, GRID) == 12
    drawn = in_step(Told("grid"), 12, at_once)
    assert len({json.dumps(labels) for labels in drawn}) == 12
    assert {labels["dropout"] for labels in drawn} == {0.0, 0.2, 0.4}
    assert {labels["units"] for labels in drawn} == {"[8]", "[16]"}


def test_start_config_on_the_grid_takes_the_place_of_its_point():
    start = [{"dropout": 0.2, "units": [16], "norm": False}, {"units": [8]}]
    assert samplers.limit("grid", {}, GRID, start) == 12
    drawn = in_step(Told("grid", start=start), 12, 3)
    assert drawn[0] == {"dropout": 0.2, "units": "[16]", "norm": False}
    assert drawn[1]["units"] == "[8]"
    assert len({json.dumps(labels) for labels in drawn}) == 12


def test_start_config_beside_the_grid_is_one_more():
    start = [{"rate": 0.05, "dropout": 0.1}, {"rate": 0.06}]
    assert samplers.limit("grid", {"points": 3}, NUMBERS, start) == 11
    drawn = in_step(Told("grid of points", start=start), 11, 1)
    assert drawn[0] == {"rate": 0.05, "dropout": 0.1}
    assert drawn[1]["rate"] == 0.06
    assert len({json.dumps(labels) for labels in drawn[2:]}) == 9


def test_start_config_finds_its_point_up_to_rounding():
    start = [{"rate": 0.0031622776601683795, "dropout": 0.25}]
    assert samplers.limit("grid", {"points": 3}, NUMBERS, start) == 9


def test_twelve_point_grid_with_thirty_trials_trains_twelve(tmp_path):
    file = replay_file(
        tmp_path,
        study__trials=30,
        search__sampler={"name": "grid"},
        space__learning_rate=[1e-3, 1e-2, 1e-1],
        space__dropout=[0.0, 0.1, 0.2, 0.3],
    )
    stored = replay(file, curve, lanes=5)
    assert len(stored.trials) == 12
    assert len({json.dumps(trial.params) for trial in stored.trials}) == 12


# -- diverged ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_diverged_trial_stands_before_the_sampler_with_the_worst_value_seen(direction):
    told = Told("random", direction=direction)
    for number in range(3):
        told.draw()
        told.end(number, "PRUNED" if number == 1 else "COMPLETE", diverged=number == 1)
    told.draw()
    values = [told.trials[0].value, told.trials[2].value]
    again = told.again()
    again.draw()
    for view in (told.drawing.sampler, again.drawing.sampler):
        complete = view._study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
        assert [trial.number for trial in complete] == [0, 1, 2]
        assert complete[1].value == (max if direction == "minimize" else min)(values)
        assert view._study.get_trials(states=(optuna.trial.TrialState.PRUNED,)) == []


@pytest.mark.parametrize("kind", ["tpe", "bayes"])
def test_sampler_keeps_away_from_where_trials_diverge(kind):
    def share_of_high_rates(diverging: bool) -> float:
        told, highs = Told(kind), []
        for number in range(40):
            high = told.draw()["rate"] > 1e-3
            # Without the divergence, high rates would be the best of all.
            value = value_of({**told.trials[number].params, "rate": 0.01 if high else 1e-4})
            told.end(number, "PRUNED" if high and diverging else "COMPLETE", diverged=high and diverging, value=value)
            highs.append(high)
        return float(np.mean(highs[10:30]))

    assert share_of_high_rates(diverging=True) < 0.4
    assert share_of_high_rates(diverging=False) > 0.7


@pytest.mark.parametrize("kind", ["tpe", "bayes"])
def test_diverged_before_any_value_is_no_trouble(kind):
    told = Told(kind)
    for number in range(12):
        told.draw()
        told.end(number, "PRUNED", diverged=True)
    told.draw()


# -- options -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PLAIN)
def test_options_are_those_of_optuna(name):
    parameters = inspect.signature(getattr(optuna.samplers, SAMPLERS.get(name).kind).__init__).parameters
    assert set(SAMPLERS.get(name).OPTIONS) <= set(parameters)


@pytest.mark.parametrize(
    ("name", "options", "option", "words"),
    [
        ("tpee", {}, "", "did you mean 'tpe'?"),
        ("bayes", {"n_startup_trials": 1}, "n_startup_trials", "it has none"),
        ("random", {"n_startup_trials": 1}, "n_startup_trials", "it has none"),
        ("tpe", {"n_startup_trials": 1.5}, "n_startup_trials", "must be a whole number; received 1.5"),
        ("tpe", {"n_startup_trials": True}, "n_startup_trials", "must be a number; received true"),
        ("tpe", {"multivariate": 1}, "multivariate", "true or false; received 1"),
        ("qmc", {"qmc_type": "niederreiter"}, "qmc_type", "one of sobol, halton; received 'niederreiter'"),
        ("grid", {"points": 1}, "points", "in 2..100000; received 1"),
        ("grid", {}, "", "a finite list of values for 'rate'"),
        ("grid", {"points": 400}, "", "at most 100,000 configs; received 160,000"),
    ],
)
def test_wrong_option_is_named(name, options, option, words):
    with pytest.raises(OptionError) as caught:
        samplers.check(name, options, NUMBERS)
    assert caught.value.option == option
    assert words in str(caught.value)


def test_sampler_whose_package_is_missing_says_what_to_install():
    for name, package in {"cmaes": "cmaes", "gp": "torch"}.items():
        assert SAMPLERS.get(name).needs == package
        if importlib.util.find_spec(package) is None:
            with pytest.raises(OptionError, match=rf"needs the package {package}; run `pip install -e"):
                samplers.check(name, {}, NUMBERS)


def test_no_two_trials_share_a_stream_and_drawing_shares_none_with_training():
    streams = [stream(3, *path) for number in range(500) for path in [(0, number), (1, number, 0)]]
    assert len(set(streams)) == 1000
    assert all(0 <= stream < 2**32 for stream in streams)
