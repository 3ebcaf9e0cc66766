"""Spaces: parameters that check themselves, conditions, presets, and the way to JSON and back."""

from __future__ import annotations

import json
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spaces import Choice, Float, Int, Space, SpaceError, load_preset, preset_names

names = st.from_regex(r"[a-z][a-z0-9_]{0,6}", fullmatch=True)
texts = st.text(max_size=5)
plain = st.one_of(st.integers(-99, 99), texts)


@st.composite
def ranges(draw):
    """A range as a study file writes it: whole or real, plain, log or stepped."""
    kind = draw(st.sampled_from(["plain", "log", "step"]))
    if draw(st.booleans()):
        low, step = draw(st.integers(1, 1000)), draw(st.integers(1, 9)) if kind == "step" else 1
        table = {"low": low, "high": low + step * draw(st.integers(1, 50))}
    else:
        low, step = draw(st.floats(1e-6, 100)), draw(st.sampled_from([0.1, 0.25, 1.0])) if kind == "step" else 1.0
        table = {"low": low, "high": low + step * draw(st.integers(1, 50))}
    return table | {"plain": {}, "log": {"log": True}, "step": {"step": step}}[kind]


choices = st.one_of(
    st.lists(st.integers(-99, 99), min_size=1, max_size=4, unique=True),
    st.lists(texts, min_size=1, max_size=4, unique=True),
    st.lists(st.lists(plain, max_size=3), min_size=1, max_size=4, unique_by=json.dumps),
    st.lists(st.dictionaries(names, plain, max_size=2), min_size=1, max_size=4, unique_by=json.dumps),
    st.permutations([True, False]),
)


@st.composite
def spaces(draw):
    """A `[space]` table in any order; some parameters have a condition on a choice."""
    table = {}
    for name in draw(st.lists(names, max_size=6, unique=True)):
        entry = draw(st.one_of(ranges(), choices))
        parents = [other for other, of_other in table.items() if isinstance(of_other, list)]
        if parents and draw(st.booleans()):
            parent = draw(st.sampled_from(parents))
            values = draw(st.lists(st.sampled_from(table[parent]), min_size=1, max_size=2))
            entry = {**(entry if isinstance(entry, dict) else {"choices": entry}), "when": {parent: values}}
        table[name] = entry
    return {name: table[name] for name in draw(st.permutations(list(table)))}


def drawn(space: Space, seed: int) -> dict[str, object]:
    """Draw a config's labels by Python's own random numbers."""
    rng = random.Random(seed)
    labels: dict[str, object] = {}
    for name, parameter in space.items():
        if space.is_active(name, labels):
            labels[name] = rng.choice(parameter.values(5) or [parameter.middle()])
    return labels


@settings(max_examples=80, deadline=None)
@given(spaces(), st.integers(0, 99))
def test_space_survives_json_and_draws_go_to_configs_and_back(table, seed):
    space = Space.parse(table)
    again = Space.parse(json.loads(json.dumps(space.describe())))
    assert dict(again) == dict(space)
    assert list(again) == list(space)
    labels = drawn(space, seed)
    assert space.check(space.config(labels)) == labels
    assert json.loads(json.dumps(labels)) == labels


@settings(max_examples=80, deadline=None)
@given(spaces())
def test_parents_come_before_what_depends_on_them(table):
    order = list(Space.parse(table))
    for name, parameter in Space.parse(table).items():
        assert all(order.index(parent) < order.index(name) for parent in parameter.when)


@settings(max_examples=100, deadline=None)
@given(ranges(), st.integers(2, 9))
def test_every_listed_value_lies_in_its_range(entry, points):
    (parameter,) = Space.parse({"p": entry}).values()
    for value in (*(parameter.values(points) or ()), parameter.middle()):
        assert parameter.low <= value <= parameter.high
        assert parameter.check(value) == value
    assert type(parameter.middle()) is type(parameter.low)


def test_two_whole_bounds_make_a_whole_range_and_one_point_makes_it_real():
    space = Space.parse({"a": {"low": 1, "high": 4}, "b": {"low": 1, "high": 4.0}, "c": [1, 2]})
    assert [type(parameter) for parameter in space.values()] == [Int, Float, Choice]
    assert type(space["b"].low) is float


def test_space_without_conditions_keeps_the_order_of_the_file():
    assert list(Space.parse({name: [1, 2] for name in "zxyab"})) == list("zxyab")


def test_parameter_is_active_only_under_its_condition():
    when = {"optimizer": ["sgd", "rmsprop"], "layers": 2}
    space = Space.parse(
        {
            "momentum": {"low": 0.0, "high": 0.9, "when": when},
            "optimizer": ["sgd", "rmsprop", "adam"],
            "layers": {"low": 1, "high": 3},
        }
    )
    assert list(space) == ["optimizer", "layers", "momentum"]
    for optimizer, layers, active in [("sgd", 2, True), ("rmsprop", 2, True), ("adam", 2, False), ("sgd", 1, False)]:
        assert space.is_active("momentum", {"optimizer": optimizer, "layers": layers}) is active


def test_grandchild_of_an_inactive_parameter_is_inactive():
    space = Space.parse(
        {
            "a": [1, 2],
            "b": {"choices": ["x", "y"], "when": {"a": 1}},
            "c": {"low": 0.0, "high": 1.0, "when": {"b": "x"}},
        }
    )
    assert not space.is_active("c", {"a": 2})
    assert list(space.middle()) == ["a", "b", "c"]


def test_condition_may_name_a_list_among_the_choices():
    space = Space.parse({"units": [[64], [64, 32]], "rate": {"low": 0.0, "high": 1.0, "when": {"units": [[64, 32]]}}})
    assert space.is_active("rate", {"units": "[64, 32]"})
    assert not space.is_active("rate", {"units": "[64]"})


def test_lists_and_tables_as_choices_are_labels_outside_and_values_inside():
    space = Space.parse({"units": [[64], [128, 64]], "norm": [{"kind": "batch"}, {"kind": "layer"}]})
    labels = {"units": "[128, 64]", "norm": '{"kind": "batch"}'}
    assert space.config(labels) == {"units": [128, 64], "norm": {"kind": "batch"}}
    assert space.check({"units": [128, 64]}) == {"units": "[128, 64]"}


@pytest.mark.parametrize("step", [0.1, 1.0, 0.25])
def test_step_of_a_real_range_is_described_whatever_it_is(step):
    entry = {"low": 0.0, "high": 2.0, "step": step}
    assert Space.parse({"p": entry}).describe() == {"p": entry}


def test_last_step_does_not_pass_the_end():
    values = Float(0.0, 0.3, step=0.1).values()
    assert values == [0.0, 0.1, 0.2, 0.3]  # 3 * 0.1 is 0.30000000000000004


def test_points_of_a_log_range_begin_and_end_with_it():
    values = Float(1e-4, 1e-1, log=True).values(4)
    assert values[0] == 1e-4
    assert values[-1] == 1e-1
    assert values[1:3] == pytest.approx([1e-3, 1e-2])


def test_range_without_end_lists_nothing():
    assert Float(0.0, 1.0).values() is None
    assert Float(0.0, 1.0, step=1e-9).values() is None
    assert Int(0, 10**9).values() is None


def test_middle_is_on_the_scale_of_the_range():
    assert Float(1e-4, 1e-2, log=True).middle() == pytest.approx(1e-3)
    assert Float(1e-300, 1e300, log=True).middle() == pytest.approx(1.0)
    assert Int(1, 100, log=True).middle() == 10
    assert Int(0, 10, step=5).middle() == 5
    assert Float(0.0, 0.6, step=0.2).middle() in (0.2, 0.4)
    assert Choice(("b", "a")).middle() == "b"


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        (Float(0.0, 1.0), 1.5),
        (Float(0.0, 1.0), True),
        (Float(0.0, 1.0), math.nan),
        (Float(0.0, 1.0), "0.5"),
        (Float(0.0, 1.0), 10**400),
        (Float(0.0, 1.0, step=0.25), 0.3),
        (Int(1, 9), 2.5),
        (Int(1, 9), math.inf),
        (Int(1, 9), math.nan),
        (Int(1, 9), 10),
        (Int(1, 9, step=2), 4),
        (Choice((1, 2)), True),
        (Choice((True, False)), 1),
        (Choice(("a", "b")), "c"),
        (Choice(([1],)), [2]),
    ],
)
def test_value_that_does_not_fit_is_refused_with_what_was_received(parameter, value):
    with pytest.raises(SpaceError, match="received"):
        parameter.check(value)


def test_whole_number_of_a_real_range_becomes_real():
    assert type(Float(0.0, 2.0).check(1)) is float
    assert type(Int(0, 2).check(1.0)) is int


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ({"a": {"low": 2, "high": 1}}, "a.low"),
        ({"a": {"low": 0, "high": math.inf}}, "a.high"),
        ({"a": {"low": 0.0, "high": 1.0, "step": math.nan}}, "a.step"),
        ({"a": {"low": 1, "high": 2, "when": {"b": 1}}}, "a.when"),
        ({"a": [1, 1]}, "a"),
        ({"a": {"choices": [1, 1]}}, "a.choices"),
        ({"a b": [1, 2]}, "a b"),
    ],
)
def test_error_names_the_key(table, key):
    with pytest.raises(SpaceError) as caught:
        Space.parse(table)
    assert caught.value.key == key


@pytest.mark.parametrize("name", preset_names())
def test_preset_is_a_space_that_can_be_searched(name):
    space = Space.parse(load_preset(name))
    assert len(space) >= 5
    assert space.check(space.config(space.middle())) == space.middle()


def test_range_of_one_step_is_fine_although_its_ends_are_rounded():
    assert Float(64.0, 64.1, step=0.1).values() == [64.0, 64.1]
