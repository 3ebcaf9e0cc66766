"""Builders in KerasTuner's form without Keras: their declarations, and the spaces that are found by running them."""

from __future__ import annotations

import pytest

from search.engines.hypermodels.exploring import Explorer, declared_space
from search.engines.hypermodels.hyperparameters import HyperParameters
from search.errors import UsageError
from search.spec.builderforms import takes_hp
from spaces import Space


def explored(build, most_builds=400, **fixed):
    explorer = Explorer(build, fixed, most_builds)
    explorer.explore()
    return declared_space(explorer)


def space_of(build, **fixed):
    return dict(explored(build, **fixed).space)


def test_ranges_of_whole_numbers_include_their_end_and_end_on_a_step():
    def build(hp):
        hp.Int("plain", 1, 4)
        hp.Int("stepped", 6, 13, step=3)
        hp.Int("log", 2, 100, sampling="log")
        hp.Int("multiplied", 2, 32, step=2, sampling="log")
        hp.Int("mirrored", 2, 32, step=2, sampling="reverse_log")

    assert space_of(build) == {
        "plain": {"low": 1, "high": 4},
        "stepped": {"low": 6, "high": 12, "step": 3},
        "log": {"low": 2, "high": 100, "log": True},
        "multiplied": {"choices": [2, 4, 8, 16, 32]},
        "mirrored": {"choices": [32, 30, 26, 18, 2]},
    }


def test_ranges_of_real_numbers_follow_kerastuners_arithmetic():
    def build(hp):
        hp.Float("plain", 0, 1)
        hp.Float("stepped", 0.1, 0.5, step=0.1)
        hp.Float("rounded_down", 0, 1, step=0.2)
        hp.Float("multiplied", 0.001, 10, step=10, sampling="log")

    assert space_of(build) == {
        "plain": {"low": 0.0, "high": 1.0},
        "stepped": {"low": 0.1, "high": 0.5, "step": 0.1},
        "rounded_down": {"low": 0.0, "high": 0.8, "step": 0.2},  # 1 // 0.2 is 4.0
        "multiplied": {"choices": [0.001, 0.01, 0.1, 1.0, 10.0]},
    }
    assert any("1.0 is never drawn" in remark for remark in explored(build).remarks)


def test_values_that_are_not_searched_are_no_parameters():
    def build(hp):
        assert (hp.Fixed("seed", 7), hp.Int("same", 5, 5), hp.Choice("only", ["x"])) == (7, 5, "x")
        assert hp.Float("narrow", 0.0, 0.3, step=0.5) == 0.0
        hp.Boolean("searched")

    assert list(space_of(build)) == ["searched"]


def test_a_loop_over_a_whole_number_makes_conditional_parameters():
    def build(hp):
        for i in range(hp.Int("layers", 1, 4)):
            hp.Int(f"units_{i}", 32, 512, step=32)
            if hp.Boolean(f"dropout_{i}"):
                hp.Float(f"rate_{i}", 0.1, 0.5)

    space = space_of(build)
    assert "when" not in space["units_0"]
    assert space["units_2"]["when"] == {"layers": [3, 4]}
    assert space["units_3"]["when"] == {"layers": [4]}
    assert space["rate_3"]["when"] == {"dropout_3": [True]}
    assert len(space) == 13


def test_a_parameter_of_two_conditions_has_both_even_if_the_defaults_fulfil_neither():
    def build(hp):
        a, b = hp.Choice("a", ["x", "y", "z"]), hp.Choice("b", [1, 2, 3])
        if a == "z" and b == 3:
            hp.Boolean("deep")

    assert space_of(build)["deep"]["when"] == {"a": ["z"], "b": [3]}


@pytest.mark.parametrize("seed", range(30))
def test_every_config_of_a_found_space_has_what_the_builder_asks_for(seed):
    """Whatever decides about a parameter, no trial may lack it."""
    import random

    shape = random.Random(seed)
    rules = [(shape.choice("abcd"), shape.choice("abcd"), shape.randrange(3), shape.randrange(3)) for _ in range(4)]

    def build(hp):
        values = {name: hp.Int(name, 0, 2) for name in "abcd"}
        values["f"] = hp.Float("f", 0, 1)
        for number, (one, other, equal, at_least) in enumerate(rules):
            by = (values[one] == equal) and (values[other] >= at_least or values["f"] > 0.7)
            if by or (number == 3 and values[one] != values[other]):
                inner = hp.Int(f"inner_{number}", 1, 3)
                for i in range(inner):
                    hp.Boolean(f"leaf_{number}_{i}")

    space = Space.parse(space_of(build))
    dice = random.Random(99)
    for _ in range(300):
        params = {}
        for name, parameter in space.items():
            if space.is_active(name, params):
                values = parameter.values() or [dice.random()]
                params[name] = dice.choice(values)
        hp = HyperParameters(lambda one, params=params: params[one.name])
        build(hp)  # a KeyError would be a trial that fails


def test_what_a_real_number_decides_is_always_drawn_and_said_so():
    def build(hp):
        if hp.Float("rate", 0, 1) > 0.5:
            hp.Boolean("where")

    result = explored(build)
    assert result.space["where"] == {"choices": [False, True]}
    assert any(remark.startswith("where is drawn for every config") for remark in result.remarks)


def test_scopes_are_conditions_although_their_code_runs_either_way():
    def build(hp):
        kind = hp.Choice("model", ["mlp", "cnn"])
        with hp.conditional_scope("model", ["cnn"]):
            filters = hp.Int("filters", 8, 16)
            assert (filters is None) == (kind == "mlp")
            kernel = hp.Choice("kernel", [3, 5, 7])
            with hp.conditional_scope("kernel", [5, 7]):
                hp.Boolean("pad")
            assert ("kernel" in hp) == (kernel is not None)
        hp.Float("rate", 0, 1, parent_name="model", parent_values="mlp")

    space = space_of(build)
    assert space["filters"]["when"] == space["kernel"]["when"] == {"model": ["cnn"]}
    assert space["pad"]["when"] == {"kernel": [5, 7]}
    assert space["rate"]["when"] == {"model": ["mlp"]}


def test_a_name_in_two_scopes_is_a_parameter_for_each():
    def build(hp):
        hp.Choice("model", ["a", "b"])
        for model, low in (("a", 1), ("b", 100)):
            with hp.conditional_scope("model", [model]):
                hp.Int("units", low, low + 9)

    assert space_of(build) == {
        "model": {"choices": ["a", "b"]},
        "units": {"low": 1, "high": 10, "when": {"model": ["a"]}},
        "units__2": {"low": 100, "high": 109, "when": {"model": ["b"]}},
    }


def test_a_name_that_is_declared_twice_keeps_its_first_values():
    def build(hp):
        assert hp.Int("units", 1, 4) == hp.Int("units", 100, 200)

    result = explored(build)
    assert result.space == {"units": {"low": 1, "high": 4}}
    assert any("units is declared twice" in remark for remark in result.remarks)


def test_defaults_are_the_start_config_and_others_are_left_to_the_sampler():
    def build(hp):
        hp.Int("units", 32, 512, step=32, default=128)
        hp.Float("rate", 1e-4, 1e-1, sampling="log", default=1e-3)
        hp.Choice("act", ["relu", "tanh"], default="tanh")
        hp.Boolean("norm", default=True)
        hp.Int("odd", 32, 512, step=32, default=100)

    result = explored(build)
    assert result.start == {"units": 128, "rate": 1e-3, "act": "tanh", "norm": True}
    assert any("odd: its default 100 is none of its values" in remark for remark in result.remarks)


def test_names_that_a_space_cannot_have_get_others():
    def build(hp):
        with hp.name_scope("conv"):
            hp.Int("filters", 1, 2)
        hp.Choice("loss", ["mse", "mae"])  # [train] has a loss
        hp.Choice("use", [1, 2])  # [space] has a preset of this name
        hp.Float("momentum", 0.5, 1.5)  # no optimizer takes 1.5
        hp.Choice("optimizer", ["adam", "my own"])
        hp.Float("learning_rate", 1e-4, 1e-1)
        hp.Int("epochs", 0, 3)

    assert list(space_of(build)) == [
        "conv_filters", "loss_", "use_", "momentum_", "optimizer_", "learning_rate", "epochs_"
    ]  # fmt: skip


def test_names_that_would_become_one_are_refused():
    def build(hp):
        hp.Int("a/b", 1, 2)
        hp.Int("a b", 1, 2)

    with pytest.raises(UsageError, match="'a/b' and 'a b' would both be the parameter 'a_b'; rename one"):
        explored(build)


def test_values_of_the_study_file_are_not_searched():
    def build(hp):
        for i in range(hp.Int("layers", 1, 4)):
            hp.Int(f"units_{i}", 1, 9)

    assert space_of(build, layers=2) == {"units_0": {"low": 1, "high": 9}, "units_1": {"low": 1, "high": 9}}


def test_a_builder_that_fails_for_some_values_is_searched_all_the_same():
    def build(hp):
        if hp.Int("units", 1, 3) == 1:
            raise ValueError("too small")
        hp.Boolean("bias")

    result = explored(build)
    assert result.space == {"units": {"low": 1, "high": 3}, "bias": {"choices": [False, True]}}
    assert result.start == {}
    assert any("fails with its default values" in remark for remark in result.remarks)


def test_a_builder_that_always_fails_is_refused_with_its_error():
    def build(hp):
        hp.Int("units", 1, 3)
        raise ValueError("no such layer")

    with pytest.raises(
        UsageError, match="fails with its default values and with all others: ValueError: no such layer"
    ):
        explored(build)


def test_a_builder_that_asks_for_nothing_is_refused():
    with pytest.raises(UsageError, match="asks its hp for nothing that has two values"):
        explored(lambda hp: hp.Fixed("units", 3))


def test_the_search_for_parameters_ends_and_says_so():
    def build(hp):
        for i in range(40):
            hp.Choice(f"c_{i}", list(range(10)))

    result = explored(build, most_builds=20)
    assert result.builds == 20
    assert any(remark.startswith("after 20 builds") for remark in result.remarks)


def test_equal_paths_are_built_once():
    seen = []

    def build(hp):
        seen.append((hp.Choice("a", [1, 2, 3]), hp.Boolean("b")))

    explored(build)
    assert len(seen) == len(set(seen)) <= 6


@pytest.mark.parametrize(
    ("declare", "words"),
    [
        (lambda hp: hp.Int("n", 4, 1), "min_value 4 is greater than max_value 1 for 'n'"),
        (lambda hp: hp.Int("n", 1, 4.5), "max_value must be an int; received 4.5"),
        (lambda hp: hp.Int("n", 1, 4, step=0), "`step` must be above 0; received 0"),
        (lambda hp: hp.Int("n", 0, 4, sampling="log"), "needs min_value above 0; received 0"),
        (lambda hp: hp.Float("n", 1, 4, step=0.5, sampling="log"), "needs a step above 1; received 0.5"),
        (
            lambda hp: hp.Float("n", 1, 4, sampling="sqrt"),
            "sampling must be one of linear, log, reverse_log; received 'sqrt'",
        ),
        (lambda hp: hp.Choice("n", []), "`values` must be provided for `Choice`"),
        (lambda hp: hp.Choice("n", [1, "a"]), "can contain only one type of value"),
        (lambda hp: hp.Choice("n", [None]), "can contain only int, float, str or bool"),
        (lambda hp: hp.Choice("n", [1, 2], default=3), "the default should be one of the choices; received 3"),
        (lambda hp: hp.Choice("n", ["a"], ordered=True), "`ordered` must be False"),
        (lambda hp: hp.Boolean("n", default="yes"), "`default` must be True or False; received 'yes'"),
        (lambda hp: hp.Int("n", 1, 2, parent_name="m", parent_values=[1]), "the parent 'm' of a conditional scope"),
        (lambda hp: hp.get("n"), "n does not exist"),
    ],
)
def test_wrong_declarations_are_errors_as_in_kerastuner(declare, words):
    with pytest.raises((ValueError, TypeError, KeyError)) as error:
        declare(HyperParameters())
    assert words in str(error.value)


def test_an_inactive_value_is_none_and_cannot_be_read():
    hp = HyperParameters()
    hp.Choice("a", ["x", "y"])
    with hp.conditional_scope("a", ["y"]):
        assert hp.Int("b", 1, 3) is None
    assert "b" not in hp
    assert hp.values == {"a": "x"}
    with pytest.raises(ValueError, match="b is currently inactive"):
        hp.get("b")


@pytest.mark.parametrize(
    ("positional", "required", "is_hp"),
    [
        (["hp"], 1, True),
        (["x"], 1, True),
        (["hp", "classes"], 1, True),
        (["config", "data"], 2, False),
        (["config", "data"], 1, False),
        (["hp", "data"], 2, False),
        ([], 0, False),
    ],
)
def test_builders_of_hp_are_told_from_those_of_config_and_data(positional, required, is_hp):
    assert takes_hp(positional, required) is is_hp
