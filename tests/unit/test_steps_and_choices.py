"""Ranges of very many steps keep their step, and choices of very many values take no time."""

from __future__ import annotations

import json
import sqlite3
import time
import warnings
from contextlib import closing
from decimal import ROUND_DOWN, ROUND_UP, Context, Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution, distribution_to_json
from support import Drawing, query, replay, replay_file, toml

from search.errors import OptionError, StudyFileError
from search.policies.samplers import check, limit
from search.policies.samplers.encoding import Encoding
from search.reading import studyfile
from search.storage import verify
from search.trials.distributions import distribution, is_stored_as
from search.views import learned
from spaces import MAX_GRID_CONFIGS, Choice, Float, Int, Space, SpaceError

# Each with more than MAX_GRID_CONFIGS values but for those said.
RANGES = {
    "whole": {"low": 0, "high": 1_000_000, "step": 8},
    "low is no multiple of the step": {"low": 3, "high": 3 + 7 * 200_000, "step": 7},
    "negative": {"low": -1_000_001, "high": -1, "step": 5},
    "around zero": {"low": -900_000, "high": 900_000, "step": 6},
    "every whole number": {"low": -7, "high": 2_000_000},
    "to the last whole number": {"low": -(2**53), "high": 2**53, "step": 2**20},
    "decimals": {"low": 0.0, "high": 1000.0, "step": 0.001},
    "decimals from 0.1": {"low": 0.1, "high": 100_000.1, "step": 0.1},
    "negative decimals": {"low": -50.5, "high": -0.5, "step": 0.0001},
    "quarters": {"low": -1e6, "high": 1e6, "step": 0.25},
    "a billion": {"low": 0.0, "high": 1e6, "step": 0.001},
    "few": {"low": 5, "high": 50, "step": 9},
    "exactly as many as are listed": {"low": 0, "high": (MAX_GRID_CONFIGS - 1) * 3, "step": 3},
    "one more": {"low": 0, "high": MAX_GRID_CONFIGS * 3, "step": 3},
}
SAMPLERS = ["bayes", "random", "tpe", "qmc", "cmaes"]


def is_on_step(value: float, entry: dict) -> bool:
    """Tell by exact arithmetic on the decimals that were written, to a thousandth of a step."""
    low, step = (Fraction(str(entry.get(key, 1))) for key in ("low", "step"))
    steps = (Fraction(value) - low) / step
    return abs(steps - round(steps)) < Fraction(1, 1000) and entry["low"] <= value <= entry["high"]


def drawn(sampler: str, space: Space, count: int, seed: int = 0) -> list[dict]:
    """Draw configs as a study does, each trial with a score that grows with x."""
    drawing = Drawing(sampler, space, direction="maximize", seed=seed)
    configs = []
    for number in range(count):
        labels, _ = drawing.draw(number)
        x = labels["x"]
        assert not isinstance(x, str)
        for epoch in (1, 9):
            drawing.report(number, epoch, float(x))
        drawing.tell(number, "COMPLETE", float(x))
        configs.append(labels)
    return configs


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("kind", RANGES)
def test_every_draw_is_on_a_step_however_many_there_are(kind, sampler):
    space = Space.parse({"x": RANGES[kind], "y": {"low": 0.0, "high": 1.0}})
    # Beyond sixteen the process draws; the score drives it to the range's upper end.
    configs = drawn(sampler, space, 24)
    assert [c["x"] for c in configs if not is_on_step(c["x"], RANGES[kind])] == []
    for labels in configs:
        assert space.check(labels) == pytest.approx(labels, rel=1e-12)
        assert type(labels["x"]) is type(RANGES[kind]["low"])


@pytest.mark.parametrize("kind", RANGES)
def test_points_near_the_ends_are_values_near_the_ends(kind):
    encoding = Encoding(Space.parse({"x": RANGES[kind]}))
    low, high = RANGES[kind]["low"], RANGES[kind]["high"]
    for u, end in ((0.0, low), (1e-15, low), (1 - 1e-15, high), (1.0, high)):
        for point in (np.array([u]), encoding.snapped(np.array([[u]]))[0]):
            assert encoding.params(point) == {"x": pytest.approx(end, abs=64)}
            assert is_on_step(encoding.params(point)["x"], RANGES[kind])
    assert encoding.params([0.0])["x"] == low
    assert encoding.params([1.0])["x"] == high


@st.composite
def stepped(draw):
    """A range with a step and how many steps it has, few or many, whole or in decimals, anywhere."""
    count = draw(st.one_of(st.integers(1, 50), st.integers(99_990, 100_010), st.integers(10**5, 10**9)))
    step, low = draw(st.integers(1, 999)), draw(st.integers(-(10**6), 10**6))
    digits = draw(st.integers(0, 6))
    if not digits:
        return {"low": low, "high": low + step * count, "step": step}, count
    # As a person writes decimals: 0.001, and not 1 / 1000 in binary.
    low, high, step = (float(Fraction(n, 10**digits)) for n in (low, low + step * count, step))
    return {"low": low, "high": high, "step": step}, count


@settings(max_examples=300, deadline=None)
@given(stepped(), st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_any_stepped_range_is_drawn_on_its_steps_and_comes_back(entry_and_count, points):
    entry, count = entry_and_count
    space = Space.parse({"x": entry})
    encoding, parameter = Encoding(space), space["x"]
    assert not isinstance(parameter, Choice)
    assert parameter.count == count + 1
    for u in points:
        value = encoding.params([u])["x"]
        assert is_on_step(value, entry)
        assert parameter.check(value) == value
        assert encoding.params(encoding.point({"x": value}))["x"] == value
        assert encoding.params(encoding.snapped(np.array([[u]]))[0])["x"] == value


def test_all_parts_of_a_range_of_many_steps_are_drawn():
    space = Space.parse({"x": RANGES["whole"], "y": {"low": 0.0, "high": 1.0}})
    encoding = Encoding(space)
    values = [encoding.params(point)["x"] for point in np.random.default_rng(0).random((4000, 2))]
    counts = np.histogram(values, 10, (0, 1_000_000))[0]
    assert counts.min() > 330
    assert counts.max() < 470


def test_log_range_of_whole_numbers_has_each_number_and_its_ends():
    encoding = Encoding(Space.parse({"x": {"low": 1, "high": 10**9, "log": True}}))
    values = [encoding.params([u])["x"] for u in np.linspace(0, 1, 5001)]
    assert values[0] == 1
    assert values[-1] == 10**9
    assert all(type(value) is int for value in values)
    assert {1, 2, 3, 4, 5} <= set(values)


@pytest.mark.parametrize("kind", ["whole", "decimals", "a billion", "one more"])
def test_value_between_two_steps_is_refused_however_many_there_are(kind):
    (parameter,) = Space.parse({"x": RANGES[kind]}).values()
    assert isinstance(parameter, Int | Float)
    value = parameter.at(123_457 if kind != "one more" else 7)
    between = value + (1 if isinstance(parameter, Int) else parameter.step / 2)
    assert parameter.check(value) == value
    with pytest.raises(SpaceError, match="in steps of"):
        parameter.check(between)


def test_step_that_does_not_divide_a_long_range_is_refused():
    with pytest.raises(SpaceError, match="must divide"):
        Float(0.0, 1e10 + 0.7, step=1.0)


def test_grid_refuses_too_many_steps_by_their_number():
    space = Space.parse({"x": RANGES["whole"]})
    with pytest.raises(OptionError, match="can't list the 125,001 values of 'x'; give it a wider step"):
        check("grid", {}, space)
    with pytest.raises(OptionError, match="500,001 values"):
        check("grid", {"points": 5}, Space.parse({"x": RANGES["negative decimals"]}))
    assert limit("bayes", {}, space) is None


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_study_of_many_steps_verifies_and_goes_on(tmp_path, sampler):
    space = toml({"x": RANGES["whole"], "z": RANGES["decimals from 0.1"], "w": RANGES["negative"]})
    text = f"""
[study]
trials = 20
epochs = 4
[data]
source = "sklearn:digits"
[search]
sampler = "{sampler}"
[space]
{space[2:-2].replace("}, ", "}" + chr(10))}
"""

    def curves(assignment, epoch):
        return {"loss": 1.0, "val_loss": (2e6 - assignment.config["x"] + assignment.config["z"]) / epoch}

    stored = replay(replay_file(tmp_path, text), curves, lanes=3)
    assert len(stored.trials) == 20
    assert verify.verify(stored.path).problems == []
    stored = replay(replay_file(tmp_path, text, study__trials=24), curves, lanes=3)
    assert len(stored.trials) == 24
    assert verify.verify(stored.path).problems == []


def test_step_that_an_earlier_version_ignored_is_reported_and_is_no_damage(tmp_path):
    text = """
[data]
source = "sklearn:digits"
[study]
trials = 3
epochs = 2
[space]
x = { low = 0, high = 1000000, step = 8 }
"""

    def curves(assignment, epoch):
        return {"loss": 1.0, "val_loss": assignment.config["x"] / epoch}

    file = replay_file(tmp_path, text)
    replay(file, curves)
    with closing(sqlite3.connect(file.storage)) as connection:
        connection.execute("UPDATE trial_params SET param_value = 754402 WHERE trial_id = 2")
        connection.commit()
    report = verify.verify(file.storage)
    assert [str(problem) for problem in report.problems] == [
        "replay: trial 1: its x is 754402, between steps of 8; it was drawn and trained so"
    ]
    assert not report.is_damaged
    # It goes on, with what was trained as it was.
    stored = replay(replay_file(tmp_path, text, study__trials=22), curves)
    assert stored.trials[1].params == {"x": 754402}
    assert len(stored.trials) == 22
    assert all(trial.params["x"] % 8 == 0 for trial in stored.trials if trial.number != 1)
    with closing(sqlite3.connect(file.storage)) as connection:
        connection.execute("UPDATE trial_params SET param_value = 1000008 WHERE trial_id = 2")
        connection.commit()
    assert verify.verify(file.storage).is_damaged


# -- steps that do not divide their range exactly ---------------------------------------------------------------------

# n-th parts as users write them: rounded up or down.
PARTS = {
    "third rounded up": {"low": 0.0, "high": 0.7, "step": 0.2333333334},
    "third rounded down": {"low": 0.0, "high": 0.7, "step": 0.2333333333},
    "third of one": {"low": 0.0, "high": 1.0, "step": 0.3333333333333333},
    "two thirds of one": {"low": -1.0, "high": 1.0, "step": 0.6666666666666667},
    "seventh rounded up": {"low": 0.0, "high": 1.0, "step": 0.1428571429},
    "seventh of nine digits": {"low": 0.0, "high": 1.0, "step": 0.142857143},
    "seventh rounded down": {"low": 2.5, "high": 3.5, "step": 0.1428571428},
    "exact": {"low": 0.1, "high": 0.7, "step": 0.1},
}


@st.composite
def parts(draw):
    """A range of decimals with an n-th part of it as step, rounded up or down to some digits."""
    low, width = (Decimal(draw(st.integers(*ends))).scaleb(-2) for ends in ((-10_000, 10_000), (1, 10_000)))
    rounding = Context(prec=draw(st.integers(3, 16)), rounding=draw(st.sampled_from([ROUND_UP, ROUND_DOWN])))
    step = rounding.divide(width, Decimal(draw(st.integers(1, 60))))
    return {"low": float(low), "high": float(low + width), "step": float(step)}


@settings(max_examples=500, deadline=None)
@given(parts())
def test_distribution_contains_all_values_of_a_rounded_step(entry):
    try:
        parameter = Float(**entry)
    except SpaceError:
        assume(False)
    with warnings.catch_warnings(action="error"):
        stored = distribution(parameter)
    values = parameter.values()
    assert [value for value in values if not stored._contains(value)] == []
    assert [parameter.nearest(value) for value in values] == values
    assert (stored.low, stored.high) == (parameter.low, parameter.high)
    encoding = Encoding(Space({"x": parameter}))
    points = np.array([encoding.point({"x": value}) for value in values])
    assert (encoding.snapped(points) == points).all() or parameter.divides
    with warnings.catch_warnings(action="ignore"):
        assert is_stored_as(parameter, distribution_to_json(FloatDistribution(**entry)))


@settings(max_examples=300, deadline=None)
@given(stepped())
def test_distribution_of_a_step_that_divides_keeps_the_step(entry_and_count):
    (parameter,) = Space.parse({"x": entry_and_count[0]}).values()
    assume(isinstance(parameter, Float))
    expected = FloatDistribution(parameter.low, parameter.high, step=parameter.step)
    assert distribution_to_json(distribution(parameter)) == distribution_to_json(expected)


@pytest.mark.parametrize("sampler", [*SAMPLERS, "grid"])
@pytest.mark.parametrize("kind", PARTS)
def test_rounded_steps_are_drawn_as_listed_and_the_top_one_too(kind, sampler):
    space = Space.parse({"x": PARTS[kind]})
    values = space["x"].values()
    draws = [config["x"] for config in drawn(sampler, space, len(values) if sampler == "grid" else 30, seed=2)]
    assert [value for value in draws if value not in values] == []
    assert values[-1] in draws


@pytest.mark.parametrize("sampler", [*SAMPLERS, "grid"])
@pytest.mark.parametrize("kind", PARTS)
def test_study_of_a_rounded_step_tries_each_value_once(tmp_path, kind, sampler):
    parameter = Float(**PARTS[kind])
    text = f"""
[data]
source = "sklearn:digits"
[study]
trials = 20
epochs = 1
[search]
sampler = "{sampler}"
start = [{{ x = {parameter.high} }}]
[space]
x = {toml(PARTS[kind])}
"""
    with warnings.catch_warnings(action="error", category=UserWarning):
        stored = replay(replay_file(tmp_path, text), lambda assignment, _: {"val_loss": assignment.config["x"]})
        assert verify.verify(stored.path).problems == []
        learned.importance(stored)
    assert stored.trials[0].params == {"x": parameter.values()[-1]}
    assert sorted(trial.params["x"] for trial in stored.trials) == parameter.values()


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        ("third rounded up", [0.7, 0.4666666668], {0.0, 0.2333333334}),
        ("third of one", [0.9999999999999999, 0.3333333333333333], {0.0, 0.6666666666666666}),
    ],
)
def test_study_of_an_earlier_version_with_a_rounded_step_goes_on(tmp_path, kind, before, after, sampler):
    text = f"""
[data]
source = "sklearn:digits"
[study]
trials = 2
epochs = 1
[search]
sampler = "{sampler}"
[space]
x = {toml(PARTS[kind])}
"""

    def curves(assignment, epoch):
        return {"loss": 1.0, "val_loss": assignment.config["x"] / epoch}

    file = replay_file(tmp_path, text)
    replay(file, curves)
    with warnings.catch_warnings(action="ignore"):
        lowered = distribution_to_json(FloatDistribution(**PARTS[kind]))
    assert json.loads(lowered)["attributes"]["high"] < PARTS[kind]["high"]
    with closing(sqlite3.connect(file.storage)) as connection:
        for trial, value in enumerate(before, 1):
            metrics = json.dumps({"loss": 1.0, "val_loss": value})
            for update, *values in (
                ("trial_params SET param_value = ?, distribution_json = ?", value, lowered),
                ("trial_values SET value = ?", value),
                ("trial_intermediate_values SET intermediate_value = ?", value),
                ("manyfit_epochs SET metrics = ?", metrics),
            ):
                connection.execute(f"UPDATE {update} WHERE trial_id = ?", (*values, trial))
        connection.commit()
    assert verify.verify(file.storage).problems == []
    with warnings.catch_warnings(action="error", category=UserWarning):
        stored = replay(replay_file(tmp_path, text, study__trials=9), curves)
        assert set(learned.importance(stored)) == {"x"}
    assert [trial.params["x"] for trial in stored.trials[:2]] == before
    # The values that were tried are not tried again.
    assert {trial.params["x"] for trial in stored.trials[2:]} == after
    assert len(stored.trials) == 4
    assert verify.verify(file.storage).problems == []


@pytest.mark.parametrize(
    ("space", "between"),
    [
        ({"low": 0, "high": 1_000_000, "step": 8}, 754402),
        # Optuna finds one in a hundred of these values between the steps: it tolerates less rounding.
        ({"low": 0.0, "high": 1e6, "step": 0.001}, 999_999.999),
    ],
)
def test_importance_takes_values_that_optuna_finds_between_steps(tmp_path, space, between):
    text = f"""
[data]
source = "sklearn:digits"
[study]
trials = 5
epochs = 1
[space]
x = {toml(space)}
"""
    file = replay_file(tmp_path, text)
    replay(file, lambda assignment, _: {"val_loss": assignment.config["x"]})
    with closing(sqlite3.connect(file.storage)) as connection:
        connection.execute("UPDATE trial_params SET param_value = ? WHERE trial_id = 2", (between,))
        connection.commit()
    stored = replay(file)
    assert set(learned.importance(stored)) == {"x"}


# -- choices of very many values ---------------------------------------------------------------------------------------

MANY = 20_000
WORDS = [f"word {i}" for i in range(MANY)]


def seconds(function, *arguments) -> float:
    """Return the processor time of a call: that of the machine says nothing when others use it, too."""
    began = time.process_time()
    function(*arguments)
    return time.process_time() - began


@pytest.mark.parametrize(
    "values", [WORDS, list(range(MANY)), [i / 7 for i in range(MANY)], [[i, 1] for i in range(MANY)]], ids=type
)
def test_choice_of_twenty_thousand_values_is_made_and_checked_at_once(values):
    choice: list[Choice] = []
    assert seconds(lambda: choice.append(Choice(tuple(values)))) < 0.7
    (made,) = choice
    labels = made.values()

    def look_up() -> None:
        for index in range(0, MANY, 10):
            assert made.check(values[index]) == labels[index]
            assert made.value_of(labels[index]) == values[index]

    assert seconds(look_up) < 0.5
    with pytest.raises(SpaceError, match="each value may stand once"):
        Choice((*values, values[17]))
    with pytest.raises(SpaceError, match=r"20,000 values\); received 'none of them'") as caught:
        made.check("none of them")
    assert len(str(caught.value)) < 700


def test_study_of_twenty_thousand_choices_is_read_at_once(tmp_path):
    path = tmp_path / "many.toml"
    condition = json.dumps(WORDS[::2])
    path.write_text(
        f'[data]\nsource = "sklearn:digits"\n[space]\nword = {json.dumps(WORDS)}\nnumber = {list(range(MANY))}\n'
        f"x = {{ low = 0.0, high = 1.0, when = {{ word = {condition} }} }}\n"
    )
    assert seconds(studyfile.read, path) < 3  # 0.7 of it TOML's own
    with pytest.raises(StudyFileError) as caught:
        studyfile.read(path, ['search.start=[{ word = "nothing of the kind" }]'])
    assert len(str(caught.value)) < 1000


def test_default_sampler_draws_from_twenty_thousand_choices_at_once():
    table = {"word": WORDS, "n": list(range(MANY)), "x": {"low": 0.0, "high": 1.0}}
    table["only"] = {"choices": WORDS, "when": {"word": WORDS[::2]}}
    space = Space.parse(table)
    drawn("bayes", Space.parse({"x": {"low": 0.0, "high": 1.0}}), 18)  # what is imported late
    assert seconds(drawn, "bayes", space, 30) < 6  # 0.2 s a draw at most
    assert seconds(drawn, "random", space, 3) < 3


def test_study_of_very_many_choices_comes_to_its_end_and_verifies(tmp_path):
    text = f"""
[data]
source = "sklearn:digits"
[study]
trials = 20
epochs = 2
[space]
word = {json.dumps(WORDS)}
"""
    file = replay_file(tmp_path, text)

    def curves(assignment, epoch):
        return {"loss": 1.0, "val_loss": len(assignment.config["word"]) / epoch}

    stored = replay(file, curves, lanes=4)
    assert len({trial.params["word"] for trial in stored.trials}) == 20
    assert verify.verify(file.storage).problems == []
    ((count,),) = query(file.storage, "SELECT count(*) FROM trial_params")
    assert count == 20


def test_true_and_one_stay_different_among_choices():
    assert Choice((1, 2)).check(1.0) == 1
    for wrong in (True, "1", None, [1]):
        with pytest.raises(SpaceError):
            Choice((1, 2)).check(wrong)
    with pytest.raises(SpaceError):
        Choice((True, False)).check(1)
    assert Choice((False, True)).check(False) is False
    assert Choice((0, 1)).check(0) == 0
