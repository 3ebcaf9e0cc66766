"""`manyfit verify`: every kind of wrong is told, and nothing that is right."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing

import pytest
from support import curve, cut_off, query, replay, replay_file
from typer.testing import CliRunner

from search import cli
from search.storage.verify import verify
from search.trials.distributions import is_stored_as

FAULTS = {
    "DELETE FROM manyfit_epochs WHERE trial_id = 1 AND epoch = 2": "replay: trial 0: its curve lacks epoch 2",
    "DELETE FROM manyfit_epochs WHERE trial_id = 1 AND epoch IN (1, 2)": "trial 0: its curve lacks epochs 1, 2",
    "DELETE FROM trial_intermediate_values WHERE trial_id = 1 AND step = 3": "intermediate values are not its curve's val_loss at epoch 3",
    "UPDATE trial_intermediate_values SET intermediate_value = 9 WHERE trial_id = 2 AND step = 1": "trial 1: its intermediate values",
    "UPDATE manyfit_epochs SET metrics = '{}' WHERE trial_id = 1 AND epoch = 1": "trial 0: its curve has no val_loss at epoch 1",
    "UPDATE manyfit_epochs SET epoch = 99 WHERE trial_id = 1 AND epoch = 9": "trial 0: its curve has epoch 99, of at most 9",
    "UPDATE trial_values SET value = 7 WHERE trial_id = 1": "trial 0: its value is 7.0, and its best epoch's is 0.0",
    "DELETE FROM trial_values WHERE trial_id = 1": "trial 0: its value is None, and its best epoch's",
    "UPDATE trials SET state = 'FAIL' WHERE trial_id = 1": "it should have none, being FAIL",
    "UPDATE trials SET state = 'RUNNING' WHERE trial_id = 1": "trial 0: is RUNNING, and was ended by 'finished'",
    "UPDATE trials SET state = 'LOST' WHERE trial_id = 1": "trial 0: is LOST, and was ended by 'finished'",
    "UPDATE trials SET datetime_complete = NULL WHERE trial_id = 1": "trial 0: is COMPLETE, and the moment of its end is None",
    "UPDATE trial_user_attributes SET value_json = '3' WHERE trial_id = 1 AND key = 'best_epoch'": "best epoch is said to be 3, and is 9",
    "UPDATE trials SET number = 5 WHERE number = 3": "trial 5: is there 2 times",
    "UPDATE trials SET number = 99 WHERE number = 19": "trial 19: is missing, and later ones are there",
    "UPDATE trial_params SET param_value = 3 WHERE trial_id = 1 AND param_name = 'dropout'": "trial 0: its dropout is 3.0, outside of the space",
    "DELETE FROM trial_params WHERE trial_id = 1 AND param_name = 'dropout'": "trial 0: has no dropout",
    "UPDATE trial_params SET param_name = 'drop' WHERE trial_id = 1 AND param_name = 'dropout'": "replay: can't be read: ",
    "UPDATE study_directions SET direction = 'MAXIMIZE'": "replay: its direction in Optuna's table is MAXIMIZE (0), and should be MINIMIZE (0)",
    "UPDATE study_directions SET direction = 'NOT_SET'": "its direction in Optuna's table is NOT_SET (0)",
    "DELETE FROM study_directions": "its direction in Optuna's table is none",
    "INSERT INTO study_directions (direction, study_id, objective) VALUES ('MINIMIZE', 1, 1)": "is MINIMIZE (0), MINIMIZE (1), and",
    """UPDATE trial_params SET distribution_json = '{"name":"X"}' WHERE param_name = 'dropout'""": "trial 0: its dropout has the distribution",
    "UPDATE trial_params SET distribution_json = '{' WHERE trial_id = 3": "trial 2: its learning_rate has the distribution '{' in Optuna's",
    "UPDATE trial_params SET distribution_json = replace(distribution_json, '0.5', '0.9') WHERE trial_id = 3": "trial 2: its dropout has the",
    "UPDATE trial_params SET distribution_json = replace(distribution_json, 'Float', 'Int') WHERE trial_id = 3": "trial 2: its learning_rate has",
    "UPDATE trial_params SET distribution_json = replace(distribution_json, ', ', ',')": None,
    "UPDATE trial_values SET value_type = 'INF_NEG' WHERE trial_id = 1": "trial 0: Optuna's table has its value with a type, or",
    "UPDATE trial_values SET objective = 1 WHERE trial_id = 1": "trial 0: Optuna's table has its value with a type, or for an objective",
    "UPDATE trial_intermediate_values SET intermediate_value_type = 'NAN' WHERE trial_id = 1 AND step = 2": "its intermediate value of epoch 2 with",
    "UPDATE study_system_attributes SET value_json = 'val_loss'": "its attribute study:metric_names is 'val_loss' in Optuna's table, which is not JSON",
    "INSERT INTO study_user_attributes (study_id, key, value_json) VALUES (1, 'mine', 'NaN')": None,
    "UPDATE manyfit_studies SET settings = '{'": "replay: can't be read: JSONDecodeError",
    "UPDATE manyfit_epochs SET metrics = '{' WHERE trial_id = 1": "replay: can't be read: JSONDecodeError",
    "DELETE FROM trials WHERE trial_id = 20": "belongs to nothing in trials",
    "DROP TABLE manyfit_events": "no such table: manyfit_events",
    "UPDATE manyfit_studies SET format = 9": "was written by a newer manyfit, in format 9",
    "UPDATE alembic_version SET version_num = 'v9.9.9.a'": "Optuna's schema 12 (v9.9.9.a)",
    "DROP INDEX ix_trials_study_id": None,
}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    file = replay_file(tmp_path_factory.mktemp("study"), search__early_stopping={"patience": 3})

    def curves(assignment, epoch):
        number = assignment.member.trial
        if number == 4 and epoch == 2:
            raise ValueError("boom")
        return curve(assignment, epoch) | ({"loss": float("nan")} if number == 6 and epoch == 3 else {})

    stored = replay(file, curves)
    assert {trial.ended for trial in stored.trials} >= {"finished", "pruned", "failed", "diverged"}
    return file.storage


@pytest.mark.parametrize("change", FAULTS)
def test_what_is_wrong_is_told_in_a_line_and_left_as_it_is(study, tmp_path, change):
    database = tmp_path / "replay.db"
    database.write_bytes(study.read_bytes())
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(change)
    content = database.read_bytes()
    done = CliRunner().invoke(cli.app, ["verify", str(database)])
    says = FAULTS[change]
    if says is None:
        assert done.exit_code == 0
    else:
        assert done.exit_code == 3
        assert any(says in line for line in done.stdout.splitlines()), done.output
        assert "it was left as it is" in done.stderr
    assert database.read_bytes() == content


def test_distributions_are_compared_once_each(tmp_path):
    path = replay(replay_file(tmp_path, study__trials=30)).path
    compared = []

    def profile(frame, event, _):
        if event == "call" and frame.f_code is is_stored_as.__code__:
            compared.append(frame.f_locals["text"])

    sys.setprofile(profile)
    try:
        assert verify(path).problems == []
    finally:
        sys.setprofile(None)
    stored = query(path, "SELECT DISTINCT param_name, distribution_json FROM trial_params")
    assert sorted(compared) == sorted(text for _, text in stored)


def test_sound_study_is_called_so_with_its_numbers(study):
    done = CliRunner().invoke(cli.app, ["verify", str(study)])
    assert (done.exit_code, done.stderr) == (0, "")
    assert "is sound: 1 study, 20 trials, " in done.stdout


def test_study_that_was_cut_off_is_sound(tmp_path):
    """Trials that wait or run, with any number of epochs, are no fault: the same command goes on with them."""
    file = replay_file(tmp_path)
    cut_off(file, after=7)
    assert verify(file.storage).problems == []
