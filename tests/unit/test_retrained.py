"""What is said of a config that was trained again: where its value was to be expected, and a card that anybody can read."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from support import replay, replay_file
from typer.testing import CliRunner

from search import cli
from search.errors import UsageError
from search.sessions.retraining import Recipe, _retrained
from search.storage import records
from search.trials.objective import Objective
from search.trials.retrained import Promise, Retrained
from search.views import export, retraining

DONE = Retrained(
    study="s", objective="val_accuracy", trial=3, rank=1, seed=7, mode="again", search=0.9, same_seed=0.9, value=0.9,
    within=0.9, epoch=2, epochs=3, curve=[{"val_accuracy": 0.8}, {"val_accuracy": 0.9}, {"val_accuracy": 0.85}],
)  # fmt: skip


def test_interval_is_that_of_one_more_value():
    values = [0.91, 0.9, 0.93, 0.92]
    promise = Promise.of(values)
    half = stats.t.ppf(0.975, 3) * np.std(values, ddof=1) * np.sqrt(1 + 1 / 4)
    assert (promise.low, promise.high) == pytest.approx((np.mean(values) - half, np.mean(values) + half))
    assert (promise.holds(0.92), promise.holds(0.5), Promise.of([0.9]).holds(0.9)) == (True, False, None)
    # As often as it says: of many configs, 95 percent of further trainings are within.
    drawn = np.random.default_rng(0).normal(size=(400, 6))
    inside = [Promise.of(row[:5].tolist()).holds(float(row[5])) for row in drawn]
    assert 0.92 < np.mean(inside) < 0.98


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "val_accuracy 0.9; as in the search, with the same seed (0.9)"),
        ({"within": 0.8}, "the search had 0.9 with the same seed: rounding grows"),
        ({"same_seed": None}, "the search had 0.9; how much other seeds differ is not known: `manyfit confirm` finds it"),
        ({"same_seed": None, "promise": Promise((0.1, 0.2), 0.85, 0.95)}, "0.9; within 0.85 to 0.95, where 95% of trainings"),
        ({"same_seed": None, "promise": Promise((0.1, 0.2), 0.91, 0.95)}, "0.9; OUTSIDE of 0.91 to 0.95"),
        ({"mode": "long", "value": 0.95, "epoch": 9}, "0.95 at epoch 9, past the 3 of the search"),
        ({"mode": "full", "value": None, "within": None}, "no rows are left that could judge it; the search had val_accuracy 0.9"),
    ],
)  # fmt: skip
def test_verdict_says_what_was_promised(changes, says):
    assert says in retraining.verdict(replace(DONE, **changes))


def test_training_of_a_study_with_repeats_is_compared_at_their_common_epoch(tmp_path):
    """Its repeats are best at other epochs than their mean, so each would look better at its own one."""

    def turning(assignment, epoch):
        return {"loss": 1.0, "val_loss": 1 + abs(epoch - 1 - assignment.seed % 3) + assignment.seed % 7 / 100}

    file = replay_file(tmp_path, study__repeats=3, study__trials=8, search__pruner="none")
    replay(file, turning)
    stored = records.load(file.storage, file.name)
    objective = Objective.of(file)
    compared = 0
    for rank, trial in enumerate(stored.complete[:5], 1):
        recipe, first = Recipe.of_study(stored, rank), trial.trainings[0]
        _, epoch = objective.best_of(first.curve)
        done = _retrained(recipe, list(first.curve), epoch, len(first.curve), "again", first.seed, ())
        assert done.within == done.same_seed
        assert done.promise.holds(done.within)
        assert "; as in the search, with the same seed" in retraining.verdict(done)
        if epoch != trial.best_epoch:
            compared += 1
            assert f"at epoch {epoch}, whose weights the model has" in retraining.verdict(done)
    assert compared


def test_config_comes_from_the_study_or_from_its_json_alone(tmp_path):
    file = replay_file(tmp_path)
    replay(file)
    stored = records.load(file.storage, file.name)
    path = tmp_path / "elsewhere.json"
    path.write_text(export.to_json(export.best(stored)))
    of_study, of_json = Recipe.of_study(stored, 2), Recipe.of_json(path, 2)
    assert of_study.config == of_json.config
    assert of_json.config.trial == stored.complete[1].number
    assert (of_json.stored.name, of_json.stored.identity) == (stored.name, json.loads(json.dumps(stored.identity)))
    assert of_json.stored.file.settings == stored.file.settings
    with pytest.raises(UsageError, match=r"--rank: .* has 5 configs that were trained fully here; received 9"):
        Recipe.of_json(path, 9)
    path.write_text('{"format": 1}')
    with pytest.raises(UsageError, match=r"no best\.json of manyfit: \d+ of its values are wrong"):
        Recipe.of_json(path, 1)
    path.write_text("nothing")
    with pytest.raises(UsageError, match=r"no best\.json of manyfit"):
        Recipe.of_json(path, 1)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("s.toml", "-o", "m.h5"), "a model is saved as a .keras file"),
        (("s.toml", "-o", "m.keras", "--full", "--long"), "leave one of them out"),
        (("b.json", "-o", "m.keras", "--name", "x"), "--name chooses a study of a database"),
        (("b.json", "-o", "m.keras"), "b.json: can't be read"),
        (("s.toml", "-o", "m.keras", "--rank", "0"), "--rank must be at least 1; received 0"),
    ],
)
def test_wrong_orders_are_refused(words, says):
    done = CliRunner().invoke(cli.app, ["retrain", *words])
    assert (done.exit_code, says in done.stderr) == (2, True), done.stderr
