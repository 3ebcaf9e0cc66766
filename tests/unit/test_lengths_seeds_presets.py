"""Searched epochs are compared at every length; qmc depends on the seed; --set goes below a preset's parameters."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from support import Drawing, replay, replay_file

from search.core.study import Study
from search.errors import StudyFileError
from search.policies import pruners
from search.policies.pruners import Halving, Hyperband, Standings
from search.reading import studyfile
from search.storage.records import load
from spaces import Space, load_preset

# -- searched epochs ---------------------------------------------------------------------------------------------------


def searched(epochs: str, *, pruner: str = '"halving"', sampler: str = "random", trials: int = 84) -> str:
    return f"""
[study]
objective = "val_accuracy"
trials = {trials}
[data]
source = "sklearn:digits"
[space]
epochs = {epochs}
dropout = {{ low = 0.0, high = 1.0 }}
momentum = {{ low = 0.0, high = 0.9 }}
optimizer = ["sgd", "adam"]
[search]
sampler = "{sampler}"
pruner = {pruner}
"""


def steady(assignment, epoch):
    return {"loss": 1.0, "val_accuracy": (1 - assignment.config["dropout"]) * (0.5 + epoch / 200)}


@pytest.mark.parametrize(
    ("epochs", "pruner"),
    [
        ("[5, 10, 90]", '"halving"'),
        ("[3, 10, 27]", '"halving"'),
        ("{ low = 2, high = 100 }", '"halving"'),
        ("[5, 10, 90]", '{ name = "halving", first_rung = 10 }'),
        ("[6, 20, 60]", '{ name = "hyperband", first_rung = 6, brackets = 2 }'),
    ],
)
@pytest.mark.parametrize("lanes", [1, 12])
def test_trials_of_every_length_are_compared(tmp_path, epochs, pruner, lanes):
    stored = replay(replay_file(tmp_path, searched(epochs, pruner=pruner)), steady, lanes=lanes)
    lengths = sorted({trial.epochs for trial in stored.trials})
    third = math.ceil(len(lengths) / 3)
    for some in (lengths[:third], lengths[third : -third or None], lengths[-third:]):
        ended = Counter(trial.ended for trial in stored.trials if trial.epochs in some)
        assert ended["pruned"] >= 0.3 * ended.total(), (some, ended)
    # The best at every epoch, so that no comparison with others ends it.
    assert min(stored.trials, key=lambda trial: trial.config["dropout"]).ended == "finished"


def test_rungs_of_a_shorter_trial_lie_at_its_share_of_the_epochs():
    halving = pruners.make("halving", {}, epochs=90)

    def rungs(epochs: int, pruner: Halving = halving) -> list[int]:
        return [epoch for epoch in range(1, epochs) if pruner.is_rung(epoch, epochs / 90)]

    assert {epochs: rungs(epochs) for epochs in (90, 45, 20, 10, 5, 2, 1)} == {
        90: [10, 40],
        45: [5, 20],
        20: [2, 8],
        10: [1, 4],
        5: [1, 4],
        2: [1],
        1: [],
    }
    assert rungs(30, Halving(30, 2)) == [10, 20]
    # A study in which all have the same epochs is what it was.
    assert all(halving.is_rung(epoch) == halving.is_rung(epoch, 1.0) for epoch in range(1, 91))


@pytest.mark.parametrize("pruner", [Halving(9, 4), Hyperband(9, 4, 1)])
def test_short_trial_is_compared_with_long_ones_at_equal_epochs(pruner):
    standings = Standings()
    for trial in range(8):  # long ones, of which half have come to epoch 1 only
        for epoch in range(1, 2 if trial < 4 else 30):
            standings.record(trial, epoch, trial + epoch / 100)
    for score, is_pruned in ((7.5, False), (6.5, False), (4.5, True), (-1.0, True)):
        standings.record(9, 1, score)
        assert bool(pruner.reason(standings, 9, 1, 10 / 90)) == is_pruned
        assert pruner.reason(standings, 9, 1, 1.0) is None


@pytest.mark.parametrize("lanes", [1, 4])
def test_epochs_under_a_condition_are_those_of_the_study_otherwise(tmp_path, lanes):
    text = searched('{ choices = [4, 6], when = { optimizer = "sgd" } }', sampler="bayes", trials=30)
    file = replay_file(tmp_path, text)
    assert file.epochs == 20
    stored = replay(file, steady, lanes=lanes)
    assert {trial.epochs for trial in stored.trials} == {4, 6, 20}
    assert all(trial.epochs == 20 for trial in stored.trials if trial.params["optimizer"] == "adam")


def test_process_weighs_the_epochs_that_a_trial_has_left_of_its_own():
    """Of two equal trials after 3 epochs, one has 2 left and one 87: the short one is the cheaper to go on with."""
    space = Space.parse({"epochs": [5, 90], "x": {"low": 0.0, "high": 1.0}})
    drawing = Drawing("bayes", space, direction="maximize", epochs=90)
    assert drawing._epochs_of(drawing.encoding.point({"epochs": 5, "x": 0.5})) == 5
    rng = np.random.default_rng(0)
    for number in range(20):
        labels = {"epochs": int(rng.choice([5, 90])), "x": float(rng.random())}
        drawing.put(number, labels)
        for epoch in range(1, labels["epochs"] + 1):
            drawing.report(number, epoch, 1 - (labels["x"] - 0.8) ** 2 - 0.3 / epoch)
        drawing.tell(number, "COMPLETE", 1.0)
    drawing.draw(20)
    points = [drawing.encoding.point({"epochs": epochs, "x": 0.8}) for epochs in (5, 90)]
    assert [drawing._epochs_of(point) - 3 for point in points] == [2, 87]


@pytest.mark.parametrize("sampler", ["bayes", "tpe"])
def test_study_with_searched_epochs_goes_on_as_it_began(tmp_path, sampler):
    text = searched("[5, 10, 30]", sampler=sampler, trials=40)
    file = replay_file(tmp_path, text)
    stored = replay(file, steady, lanes=3)
    again = Study(file, load(file.storage, file.name).trials)
    assert again.is_done()
    assert len(stored.trials) == 40


# -- qmc ---------------------------------------------------------------------------------------------------------------

BOX = {
    "a": {"low": 0.0, "high": 1.0},
    "b": {"low": 1e-4, "high": 1.0, "log": True},
    "c": {"low": 1, "high": 1000},
    "d": ["x", "y", "z"],
}


def configs(sampler: str, seed: int, options: dict, count: int = 40, table: dict | None = None) -> list[dict]:
    space = Space.parse(table or BOX)
    drawing = Drawing(sampler, space, options=options, direction="maximize", seed=seed)
    drawn = []
    for number in range(count):
        labels, _ = drawing.draw(number)
        drawing.report(number, 9, labels["a"])
        drawing.tell(number, "COMPLETE", labels["a"])
        drawn.append(labels)
    return drawn


@pytest.mark.parametrize("options", [{}, {"qmc_type": "halton"}, {"qmc_type": "sobol", "scramble": True}], ids=str)
def test_qmc_of_another_seed_draws_other_configs(options):
    drawn = [configs("qmc", seed, options) for seed in range(4)]
    assert drawn[0] == configs("qmc", 0, options)
    for one in range(4):
        for other in range(one):
            assert not [number for number in range(40) if drawn[one][number] == drawn[other][number]]
    corner = {"a": 0.0, "b": 1e-4, "c": 1}
    assert all(drawn[seed][1] | corner != drawn[seed][1] for seed in range(4))


@pytest.mark.parametrize("seed", range(4))
def test_qmc_covers_every_part_of_a_range_evenly(seed):
    """After its first draw, which Optuna makes at random, 32 of a Sobol sequence fill 32 parts, one each."""
    parts = [int(labels["a"] * 32) for labels in configs("qmc", seed, {}, 33)[1:]]
    assert sorted(parts) == list(range(32))


def test_qmc_is_not_scrambled_if_the_study_says_so():
    plain = [configs("qmc", seed, {"scramble": False}) for seed in range(2)]
    assert plain[0][1:] == plain[1][1:]
    assert plain[0][1] == {"a": 0.0, "b": pytest.approx(1e-4), "c": 1, "d": "x"}


@pytest.mark.parametrize("sampler", ["bayes", "random", "tpe", "cmaes", "qmc"])
def test_every_sampler_begins_elsewhere_with_another_seed(sampler):
    drawn = [configs(sampler, seed, {}, 16, {name: BOX[name] for name in "abc"}) for seed in range(4)]
    for one in range(4):
        for other in range(one):
            assert not [number for number in range(16) if drawn[one][number] == drawn[other][number]]


@pytest.mark.gallery
def test_qmc_study_draws_one_sequence_through_interruptions_and_old_ones_go_on(tmp_path):
    def curves(assignment, epoch):
        return {"loss": 1.0, "val_loss": assignment.config["dropout"] / epoch}

    whole, parts, old = (tmp_path / name for name in ("whole", "parts", "old"))
    for folder in (whole, parts, old):
        folder.mkdir()
    qmc = {"search__sampler": "qmc", "search__pruner": "none"}
    undisturbed = replay(replay_file(whole, study__trials=20, **qmc), curves, lanes=3)
    for trials in (5, 11, 20):
        in_parts = replay(replay_file(parts, study__trials=trials, **qmc), curves, lanes=3)
    assert [t.params for t in in_parts.trials] == [t.params for t in undisturbed.trials]
    # As an earlier version began it: not scrambled. What it has stays, and what follows is scrambled.
    unscrambled = {"search__sampler": {"name": "qmc", "scramble": False}, "search__pruner": "none"}
    began = replay(replay_file(old, study__trials=9, **unscrambled), curves)
    went_on = replay(replay_file(old, study__trials=20, **qmc), curves)
    assert [t.params for t in went_on.trials[:9]] == [t.params for t in began.trials]
    assert len({tuple(t.params.values()) for t in went_on.trials}) == 20


# -- presets and --set -------------------------------------------------------------------------------------------------


def dense(folder, *overrides: str, more: str = "", train: str = ""):
    path = folder / "dense.toml"
    path.write_text(f'[data]\nsource = "sklearn:digits"\n[train]\n{train}\n[space]\nuse = "dense"\n{more}\n')
    return studyfile.read(path, overrides).settings.space


PRESET = load_preset("dense")


@pytest.mark.parametrize(
    ("override", "name", "expected"),
    [
        ("space.dropout.high=0.7", "dropout", {"low": 0.0, "high": 0.7}),
        ("space.dropout.step=0.1", "dropout", {"low": 0.0, "high": 0.5, "step": 0.1}),
        ("space.weight_decay.low=1e-5", "weight_decay", {"low": 1e-5, "high": 1e-2, "log": True}),
        ("space.learning_rate.log=false", "learning_rate", {"low": 1e-4, "high": 1e-1, "log": False}),
        ("space.batch_size.choices=[16, 32]", "batch_size", {"choices": [16, 32]}),
        ("space.batch_size=[16, 32]", "batch_size", [16, 32]),
        ("space.dropout={ low = 0.1, high = 0.2 }", "dropout", {"low": 0.1, "high": 0.2}),
        (
            'space.dropout.when={ activation = "relu" }',
            "dropout",
            {"low": 0.0, "high": 0.5, "when": {"activation": "relu"}},
        ),
        (
            "space.dropout.when.activation=tanh",
            "dropout",
            {"low": 0.0, "high": 0.5, "when": {"activation": "tanh"}},
        ),
    ],
)
def test_set_changes_what_a_preset_says_of_a_parameter(tmp_path, override, name, expected):
    space = dense(tmp_path, override)
    assert space[name] == expected
    assert {other: entry for other, entry in space.items() if other != name} == {
        other: entry for other, entry in PRESET.items() if other != name
    }
    assert list(space) == list(PRESET)


def test_set_goes_below_what_stands_beside_the_preset_and_not_below_the_preset(tmp_path):
    space = dense(tmp_path, "space.dropout.high=0.4", more="dropout = { low = 0.3, high = 0.9 }")
    assert space["dropout"] == {"low": 0.3, "high": 0.4}


def test_sets_add_up_and_the_preset_may_be_set_too(tmp_path):
    path = tmp_path / "plain.toml"
    path.write_text('[data]\nsource = "sklearn:digits"\n[space]\nx = [1, 2]\n')
    sets = ["space.dropout.high=0.7", "space.dropout.low=0.2", 'space.use="dense"', "space.dropout.step=0.1"]
    space = studyfile.read(path, sets).settings.space
    assert space["dropout"] == {"low": 0.2, "high": 0.7, "step": 0.1}
    assert space["x"] == [1, 2]


@pytest.mark.parametrize(
    ("override", "train", "words"),
    [
        ("space.dropout.high=-1", "", "--set space.dropout.high, space.dropout.low: low must be below high"),
        ("space.dropout.hihg=0.7", "", "--set space.dropout.hihg: unknown key"),
        ("space.dropout.choices=[0.1]", "", "choices go without low"),
        ("space.learning_rate.high=0.5", "learning_rate = 0.1", "both searched here and fixed in [train]"),
        ("space.nothing.high=0.5", "", "low is missing"),
        ("space.units.low=3", "", "choices go without"),
    ],
)
def test_set_that_does_not_fit_the_preset_is_refused_in_a_line(tmp_path, override, train, words):
    with pytest.raises(StudyFileError) as caught:
        dense(tmp_path, override, train=train)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_preset_is_named_when_something_below_it_is_set(tmp_path):
    path = tmp_path / "plain.toml"
    path.write_text('[data]\nsource = "sklearn:digits"\n[space]\nuse = "denze"\n')
    with pytest.raises(StudyFileError, match="no such preset: 'denze'"):
        studyfile.read(path, ["space.dropout.high=0.5"])


def test_set_reaches_a_bare_list_of_choices_and_a_stored_study(tmp_path):
    path = tmp_path / "plain.toml"
    path.write_text('[data]\nsource = "sklearn:digits"\n[space]\nuse = "dense"\nx = [1, 2]\n')
    assert studyfile.read(path, ["space.x.choices=[3, 4]"]).settings.space["x"] == {"choices": [3, 4]}
    read = studyfile.read(path)
    stored = studyfile.stored_with(read, tmp_path / "plain.db", ["space.dropout.high=0.7", "space.x.choices=[5]"])
    assert stored.settings.space["dropout"] == {"low": 0.0, "high": 0.7}
    assert stored.settings.space["x"] == {"choices": [5]}
    assert stored.settings.space["units"] == PRESET["units"]
    assert math.isclose(stored.space["dropout"].high, 0.7)
