"""A start config is trained to the end, so that the gain over it is known; studies that began before go on as they were."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest
from support import cut_off, record, replay, replay_file, table

from search.spec import identity
from search.spec.identity import IdentityError
from search.spec.ready import Ready
from search.storage import records
from search.trials import baseline
from search.views import export

POOR = {"learning_rate": 1e-4, "dropout": 0.5}


def study(folder, **settings):
    folder.mkdir(exist_ok=True)
    return replay_file(
        folder, **{"search__start": [POOR], "search__sampler": "random", "study__trials": 12, **settings}
    )


def test_start_config_is_never_pruned_and_the_gain_over_it_is_known(tmp_path):
    stored = replay(study(tmp_path), lanes=4)
    first, *others = stored.trials
    assert (first.params, first.state, first.ended) == (POOR, "COMPLETE", "finished")
    assert "PRUNED" in {trial.state for trial in others}
    gain = baseline.gain(stored)
    assert (gain.start, gain.best) == (first, stored.complete[0])
    assert gain.value == pytest.approx(first.value - stored.complete[0].value)
    assert gain.value > 0
    start = json.loads(export.to_json(export.best(stored)))["start"]
    assert start == {"trial": 0, "value": first.value, "gain": gain.value}


def test_gain_is_positive_where_higher_values_are_better(tmp_path):
    def accuracy(assignment, epoch):
        return {"loss": 1.0, "val_accuracy": 0.5 + assignment.member.trial / 100}

    stored = replay(study(tmp_path, study__objective="val_accuracy", search__pruner="none"), accuracy)
    assert baseline.gain(stored).value == pytest.approx(0.11)


def test_prune_start_lets_it_be_pruned_and_there_is_no_gain_then(tmp_path):
    stored = replay(study(tmp_path, search__prune_start=True), lanes=4)
    assert stored.trials[0].state == "PRUNED"
    assert baseline.gain(stored) is None
    assert "start" not in json.loads(export.to_json(export.best(stored)))


def test_early_stopping_still_ends_it(tmp_path):
    file = study(tmp_path, search__early_stopping={"patience": 2}, study__trials=1)
    stored = replay(file, lambda assignment, epoch: {"loss": 1.0, "val_loss": 1.0})
    assert stored.trials[0].ended == "stopped early"


def test_study_that_began_before_goes_on_as_it_was(tmp_path):
    """Its stored settings and identity lack the key, so its start config may be pruned."""
    expected = study(tmp_path / "whole", search__prune_start=True)
    replay(expected, lanes=3)
    file = study(tmp_path / "cut")
    cut_off(file, 2)
    with closing(sqlite3.connect(file.storage)) as connection, connection:
        for column in ("settings", "identity"):
            connection.execute(
                f"UPDATE manyfit_studies SET {column} = json_remove({column}, '$.search.prune_start')"  # noqa: S608
            )
    stored = records.load(file.storage, file.name)
    assert stored.file.settings.search.prune_start
    same = identity.resumed(file, stored.identity)
    identity.check_unchanged(file.name, stored.identity, identity.declared(same))
    assert replay(same, lanes=3).trials[0].state == "PRUNED"
    assert table(file.storage, file.name) == table(expected.storage, expected.name)


def test_identity_of_an_old_study_stays_without_the_key(tmp_path):
    file, ready = study(tmp_path), Ready({}, "rows", "source")
    stored = json.loads(json.dumps(identity.full(file, ready)))
    del stored["search"]["prune_start"]
    now = identity.check_ready(identity.resumed(file, stored), stored, ready)
    assert "prune_start" not in now["search"]


def test_another_setting_is_another_study(tmp_path):
    stored = record(study(tmp_path)).identity
    other = identity.declared(study(tmp_path, search__prune_start=True))
    with pytest.raises(IdentityError, match=r"search\.prune_start: was false, now true"):
        identity.check_unchanged("replay", stored, other)
