"""From coarse to fine: what becomes of each parameter, by trials whose configs and values are given, and the file of it."""

from __future__ import annotations

import json
import math
import tomllib

import pytest
from support import REPLAY, replay, replay_file
from typer.testing import CliRunner

from search import cli
from search.errors import UsageError
from search.reading import studyfile
from search.reading.studytext import StudyText
from search.sessions import earlier, widening
from search.spec.given import Given
from search.storage.studies import Stored
from search.trials import known
from search.trials.history import History
from search.trials.trial import make_trial
from search.views import finer
from search.views.insights.edges import edges
from search.views.insights.importance import Matter
from search.views.insights.refining import refine, starts

X = {"low": 0.0, "high": 1.0}


def file_of(folder, space, **settings):
    folder.mkdir(exist_ok=True)
    text = REPLAY if "epochs" not in space else REPLAY.replace("epochs = 9\n", "")
    return replay_file(folder, text, space=space, search__pruner="none", **settings)


def searched(folder, space, configs, value, **settings):
    """Return a study whose trials have these configs, and a loss of `value(config)`."""
    file = file_of(folder, space, **settings)
    trials = []
    for number, config in enumerate(configs):
        trial = make_trial(file, number, file.space.check(config))
        trial.add_epoch(0, {"val_loss": float(value(trial.config))}, 1.0)
        trial.state, trial.ended, trial.value, trial.best_epoch = "COMPLETE", "finished", float(value(trial.config)), 1
        trials.append(trial)
    return History(file, {}, {}, 0.0, "", trials)


def changes(stored, without_effect=(), **options):
    matters = [Matter(name, "no effect seen" if name in without_effect else "matters") for name in stored.file.space]
    return {change.name: change for change in refine(stored, matters, **options)}


def test_range_closes_in_on_the_best_fifth_with_a_margin(tmp_path):
    """Of 0.0, 0.04 ... 0.96 the best five are 0.32 to 0.48; a tenth of the range on either side."""
    stored = searched(tmp_path, {"x": X}, [{"x": k / 25} for k in range(25)], lambda c: abs(c["x"] - 0.4))
    change = changes(stored)["x"]
    assert (change.kind, change.entry) == ("narrower", {"low": pytest.approx(0.22), "high": pytest.approx(0.58)})
    assert "the best 5 lie in 0.32..0.48 of 0" in change.why


def test_logarithmic_range_closes_in_by_powers(tmp_path):
    """Of 1e-6 ... 1e-1 the best five of 26 are 1e-4 to 1e-3.2: half a power of ten further, two digits, outwards."""
    configs = [{"x": 10 ** (-6 + k / 5)} for k in range(26)]
    space = {"x": {"low": 1e-6, "high": 1e-1, "log": True}}
    stored = searched(tmp_path, space, configs, lambda c: abs(math.log10(c["x"]) + 3.6))
    entry = changes(stored)["x"].entry
    # ceil(0.2 * 26) = 6 trials: one more on either side.
    best = sorted(trial.params["x"] for trial in stored.complete[:6])
    assert entry["log"] is True
    assert entry["low"] <= best[0] * 10**-0.5 < entry["low"] * 1.1
    assert entry["high"] / 1.1 < best[-1] * 10**0.5 <= entry["high"]


def test_best_that_lie_at_one_place_leave_a_quarter_of_the_range(tmp_path):
    configs = [{"x": 0.5 + k / 1000} for k in range(6)] + [{"x": k / 20} for k in range(20)]
    stored = searched(tmp_path, {"x": X}, configs, lambda c: abs(c["x"] - 0.5))
    entry = changes(stored)["x"].entry
    assert 0.24 <= entry["high"] - entry["low"] <= 0.30
    assert entry["low"] < 0.5 < entry["high"]


def test_range_whose_best_lie_everywhere_stays(tmp_path):
    stored = searched(tmp_path, {"x": X}, [{"x": k / 25} for k in range(25)], lambda c: (c["x"] * 25) * 7 % 25)
    assert changes(stored)["x"].kind == "as it was"


@pytest.mark.parametrize(
    ("entry", "towards", "side", "least", "most"),
    [
        ({"low": 1e-4, "high": 1e-2, "log": True}, 1, "high", 2e-2, 1e-1),
        ({"low": 1e-4, "high": 1e-2, "log": True}, -1, "low", 1e-5, 5e-5),
        ({"low": 0.1, "high": 0.5}, 1, "high", 0.55, 0.99),  # a share stays below 1
        ({"low": 0.1, "high": 0.5}, -1, "low", 1e-6, 0.05),  # and above 0
        ({"low": 1, "high": 9}, 1, "high", 11, 13),
        ({"low": 3, "high": 9}, -1, "low", 1, 2),
        ({"low": 16, "high": 112, "step": 16}, 1, "high", 128, 160),
        ({"low": 0.1, "high": 0.7, "step": 0.1}, 1, "high", 0.8, 0.9),
        ({"low": 0.1, "high": 0.9, "step": 0.1}, -1, "low", None, None),
        ({"low": 0.2, "high": 0.8, "step": 0.1}, 1, "high", 0.9, 0.9),
        ({"low": 0.9, "high": 0.999}, 1, "high", 0.9991, 0.9999),  # two digits of it are 1.0
        ({"low": 1000.0, "high": 1010.0}, 1, "high", 1011, 1013),
        ({"low": 1, "high": 64, "log": True}, -1, "low", None, None),
        ({"low": 1, "high": 64}, -1, "low", None, None),
    ],
)
def test_range_opens_where_the_best_sit_at_its_end(tmp_path, entry, towards, side, least, most):
    space = {"x": entry}
    values = values_of(entry)
    stored = searched(tmp_path, space, [{"x": x} for x in values], lambda c: -towards * c["x"])
    change = changes(stored)["x"]
    (edge,) = edges(stored)
    if least is None:
        assert (change.kind, change.entry[side]) == ("narrower", entry[side])
        assert edge.advice.startswith("fix it at")
        return
    assert change.kind == "wider", change
    assert least <= change.entry[side] <= most
    assert "sit at the" in change.why
    # What show says may be typed.
    _, _, typed = edge.advice.partition("--widen ")
    stored = Stored(**vars(stored), path=tmp_path / "replay.db", name="replay")
    assert widening.widened(stored, None, [typed], []).space["x"] != stored.file.space["x"]


def values_of(entry):
    """40 values of a range, most of them at its ends."""
    from spaces import Space

    parameter = Space.parse({"x": entry})["x"]
    values = parameter.values() or parameter.values(30)
    if len(values) > 30:
        values = [values[round(k * (len(values) - 1) / 29)] for k in range(30)]
    return [*[values[0]] * 5, *values, *[values[-1]] * 5]


def test_points_of_a_grid_lie_at_an_end_by_chance(tmp_path):
    """Three of the best four at one of a grid's four points are chance, and of a whole range they are not; four are no chance."""
    last = [0.75, 1.0, 1.0, 1.0]
    configs = [{"x": x} for x in (*[k / 72 for k in range(36)], *last)]
    for sampler, best, expected in (
        ({"name": "grid", "points": 4}, last, []),
        ({"name": "random"}, last, ["high"]),
        ({"name": "grid", "points": 4}, [1.0] * 4, ["high"]),
    ):
        stored = searched(
            tmp_path, {"x": X}, configs[:36] + [{"x": x} for x in best], lambda c: -c["x"], search__sampler=sampler
        )
        assert [edge.side for edge in edges(stored)] == expected, (sampler, best)


def test_bound_that_training_knows_is_not_passed(tmp_path):
    """Momentum ends at 1, and a range up to 1 stays."""
    configs = [{"momentum": x} for x in (*[1.0] * 8, *[k / 20 for k in range(20)])]
    space = {"momentum": {"low": 0.0, "high": 1.0}}
    stored = searched(tmp_path, space, configs, lambda c: -c["momentum"], train__optimizer="sgd")
    assert changes(stored)["momentum"].entry["high"] == 1.0


def test_narrow_range_far_from_0_closes_in(tmp_path):
    configs = [{"x": 1000 + k / 3} for k in range(30)]
    stored = searched(tmp_path, {"x": {"low": 1000.0, "high": 1010.0}}, configs, lambda c: abs(c["x"] - 1005))
    entry = changes(stored)["x"].entry
    assert 1002 < entry["low"] < 1004
    assert 1006 < entry["high"] < 1008


def test_choices_that_chance_does_not_leave_out_are_dropped(tmp_path):
    """None of the best 6 of 30 has "b", of which there are 15: 1 of 119 by chance. Of "c" there are 3: half by chance."""
    kinds = ["b"] * 15 + ["c"] * 3 + ["a"] * 12
    configs = [{"kind": kind, "x": k / 30} for k, kind in enumerate(kinds)]
    stored = searched(
        tmp_path, {"kind": ["a", "b", "c"], "x": X}, configs, lambda c: {"a": 0.0, "b": 1.0, "c": 0.9}[c["kind"]]
    )
    change = changes(stored)["kind"]
    assert (change.kind, change.entry) == ("narrower", {"choices": ["a", "c"]})
    assert "b" in change.why


def test_last_choice_left_is_fixed_where_the_builder_takes_it(tmp_path):
    configs = [{"kind": kind, "x": k / 30} for k, kind in enumerate(["b"] * 15 + ["a"] * 15)]
    stored = searched(tmp_path, {"kind": ["a", "b"], "x": X}, configs, lambda c: float(c["kind"] == "b"))
    assert (changes(stored)["kind"].kind, changes(stored)["kind"].entry) == ("fixed", "a")
    assert changes(stored, may_fix=False)["kind"].kind == "as it was"


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        ([16, 32, 64], 128),
        ([1, 2, 3], 4),
        ([0.1, 0.2, 0.3], 0.4),
        ([16, 32, 50], None),
        (["16", "32"], None),
        ([64, 32, 16], None),
        ([0.3, 0.6], 0.9),  # twice as much is no share
        ([0.4, 0.8], None),
    ],
)
def test_numbers_go_on_where_the_best_have_the_last(tmp_path, choices, expected):
    configs = [{"size": value, "x": k / 30} for k, value in enumerate(choices * 10)]
    stored = searched(tmp_path, {"size": choices, "x": X}, configs, lambda c: -choices.index(c["size"]))
    change = changes(stored)["size"]
    values = change.entry["choices"] if isinstance(change.entry, dict) else [change.entry]
    if expected is None:
        assert set(values) <= set(choices)
    else:
        assert (change.kind, values[-1]) == ("wider", pytest.approx(expected))
        assert type(values[-1]) is type(choices[0])


def test_parameter_without_effect_is_fixed_at_the_best_value_but_not_the_last_one(tmp_path):
    configs = [{"x": k / 25, "y": (k * 7 % 25) / 25} for k in range(25)]
    stored = searched(tmp_path, {"x": X, "y": X}, configs, lambda c: abs(c["x"] - 0.4))
    change = changes(stored, ["y"])["y"]
    assert (change.kind, change.entry) == ("fixed", stored.complete[0].params["y"])
    assert [one.kind for one in changes(stored, ["x", "y"]).values()].count("fixed") == 1
    assert changes(stored, ["y"], may_fix=False)["y"].kind != "fixed"


def test_rounded_value_stays_in_its_range(tmp_path):
    space = {"momentum": {"low": 0.9, "high": 0.99999}, "x": X}
    configs = [{"momentum": 0.99996, "x": k / 25} for k in range(25)]
    stored = searched(tmp_path, space, configs, lambda c: c["x"], train__optimizer="sgd")
    assert changes(stored, ["momentum"])["momentum"].entry == 0.99996


def test_something_is_left_to_search(tmp_path):
    configs = [{"kind": kind, "x": k / 30} for k, kind in enumerate(["b"] * 15 + ["a"] * 15)]
    stored = searched(tmp_path, {"kind": ["a", "b"], "x": X}, configs, lambda c: float(c["kind"] == "b"))
    assert [change.kind for change in changes(stored, ["x"]).values()].count("fixed") == 1


def test_parents_and_epochs_stay_and_rare_parameters_too(tmp_path):
    space = {
        "kind": ["a", "b"],
        "x": {**X, "when": {"kind": "a"}},
        "epochs": {"low": 1, "high": 2},
    }
    configs = [{"kind": "b", "epochs": 2} for _ in range(20)] + [
        {"kind": "a", "x": k / 10, "epochs": 1} for k in range(3)
    ]
    stored = searched(tmp_path, space, configs, lambda c: float(c["kind"] == "a"))
    found = changes(stored, ["kind", "epochs", "x"])
    assert {change.kind for change in found.values()} == {"as it was"}
    assert "only 0 of the best 5" in found["x"].why


def test_few_trials_are_refused(tmp_path):
    stored = searched(tmp_path, {"x": X}, [{"x": k / 9} for k in range(9)], lambda c: c["x"])
    with pytest.raises(UsageError, match="has 9 trials that were trained fully"):
        changes(stored)


def test_study_of_given_configs_is_refused(tmp_path):
    configs = [{"x": k / 20} for k in range(20)]
    stored = searched(tmp_path, {"x": X}, configs, lambda c: c["x"], search__candidates=configs)
    with pytest.raises(UsageError, match="chooses among given configs"):
        changes(stored)


# -- the command -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def coarse(tmp_path_factory):
    """A study of which the learning rate opens, dropout closes in and width has no effect."""
    folder = tmp_path_factory.mktemp("coarse")
    drawn = [((k * 37 % 60) / 60, (k * 23 % 60) / 60, k * 11 % 60) for k in range(60)]
    configs = [{"learning_rate": 10 ** (-4 + 2 * a), "dropout": 0.5 * b, "width": 8 + w} for a, b, w in drawn]
    space = {
        "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
        "dropout": {"low": 0.0, "high": 0.5},
        "width": {"low": 8, "high": 80},
    }

    def loss(config):
        return -2 * math.log10(config["learning_rate"]) + abs(config["dropout"] - 0.1)

    settings = {"search__start": configs, "study__trials": 60, "study__name": "coarse", "run__storage": "coarse.db"}
    file = file_of(folder, space, search__sampler="tpe", **settings)
    return replay(file, lambda assignment, epoch: {"loss": 1.0, "val_loss": loss(assignment.config)})


def test_command_writes_a_file_that_searches_the_finer_space_and_learns_from_the_coarse_one(coarse):
    stored, path = coarse, coarse.path.parent / "finer.toml"
    done = CliRunner().invoke(cli.app, ["refine", str(stored.path), "-o", str(path), "--json"])
    assert done.exit_code == 0, done.output
    told = {one["parameter"]: one for one in json.loads(done.stdout)["changes"]}
    assert {name: one["change"] for name, one in told.items()} == {
        "learning_rate": "wider",
        "dropout": "narrower",
        "width": "fixed",
    }
    text = path.read_text()
    table = tomllib.loads(text)
    assert "# wider: " in text
    assert "# fixed: no effect was seen" in text
    assert table["space"]["learning_rate"]["high"] > 1e-2
    assert table["model"]["width"] == stored.complete[0].params["width"]
    file = studyfile.read(path, allow_unused=True)
    assert (file.name, file.storage) == ("finer", stored.path)
    assert file.settings.search.start[0].items() <= stored.complete[0].params.items()
    carried = known.carry_over(earlier.find(file), file, stored.identity)
    assert 0 < len(carried.trials) < 60
    assert len(carried.trials) + carried.outside == 60


def test_command_says_what_it_does_in_a_table_and_replaces_no_file(coarse):
    stored, path = coarse, coarse.path.with_name("coarse-finer.toml")
    replay(replay_file(stored.path.parent, study__name="coarse-finer", run__storage="coarse.db", study__trials=1))
    done = CliRunner().invoke(cli.app, ["refine", str(stored.path), "--name", "coarse"])
    assert done.exit_code == 0, done.output
    assert "fixed at" in done.stdout
    assert f"written: {path}" in done.stderr
    assert "has a study 'coarse-finer' already" in done.stderr
    before = path.read_bytes()
    for output, said in (
        (path, "is there already"),
        (path.with_suffix(".json"), "ends in .toml"),
        (path.parent.parent / "x.toml", "relative to its folder"),
    ):
        done = CliRunner().invoke(cli.app, ["refine", str(stored.path), "--name", "coarse", "-o", str(output)])
        assert (done.exit_code, said in done.stderr) == (2, True), done.output
    assert path.read_bytes() == before


def test_starts_are_the_best_configs_once_each(tmp_path):
    stored = searched(tmp_path, {"x": X, "y": X}, [{"x": 0.5, "y": k / 25} for k in range(25)], lambda c: c["y"])
    found = refine(stored, [Matter("x", "matters"), Matter("y", "no effect seen")])
    assert starts(stored, found) == [{"x": 0.5}]


def test_starts_lie_in_the_new_space(tmp_path):
    """The best trials have two kinds only, and the third is dropped."""
    configs = [{"kind": kind, "x": k / 30} for k, kind in enumerate(["b"] * 15 + ["c"] * 3 + ["a"] * 12)]
    space = {"kind": ["a", "b", "c"], "x": X}
    stored = searched(tmp_path, space, configs, lambda c: {"a": 0.0, "b": 1.0, "c": 0.9}[c["kind"]])
    found = refine(stored, [Matter("kind", "matters"), Matter("x", "no effect seen")])
    assert starts(stored, found) == [{"kind": "a"}, {"kind": "c"}]


def test_file_is_toml_whatever_the_values_are(tmp_path):
    configs = [{"kind": kind, "x": k / 30} for k, kind in enumerate(["b\nb = 1"] * 12 + ["c\x00"] * 3 + ["a\x7f"] * 15)]
    space = {"kind": ["a\x7f", "b\nb = 1", "c\x00"], "x": X}
    stored = searched(tmp_path, space, configs, lambda c: "a" not in c["kind"])
    stored = Stored(**vars(stored), path=tmp_path / "replay.db", name="replay")
    text = finer.study_file(
        stored, refine(stored, [Matter(name, "matters") for name in space]), tmp_path / "finer.toml"
    )
    assert "none of the best 6 trials has b b = 1" in text
    studyfile.check_text(tmp_path / "finer.toml", text)


def test_study_of_a_program_is_refused(tmp_path):
    text = REPLAY.replace("sklearn:digits", "python:data")
    path = tmp_path / "replay.toml"
    path.write_text(text, encoding="utf-8")
    objects = Given(frozenset({"python:data"}))
    file = studyfile.build(path, StudyText(path, text, tomllib.loads(text)), allow_unused=True, objects=objects)
    stored = replay(file)
    done = CliRunner().invoke(cli.app, ["refine", str(stored.path)])
    assert (done.exit_code, "was made by a Python program" in done.stderr) == (2, True), done.output
