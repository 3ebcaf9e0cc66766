"""The commands that read: list, show, export, dashboard, plan, doctor, and help. Real processes on real databases."""

from __future__ import annotations

import csv
import io
import json
import re
import signal
import sqlite3
import subprocess
import sys
import urllib.request
from contextlib import closing
from pathlib import Path

import jsonschema
import pytest
from support import MANYFIT, ROOT, end, manyfit, replay, replay_file, start, wait_for, write_study

from search.cli import app
from search.cli.study_argument import words_for
from search.storage import records
from search.views import export

COMMANDS = tuple(command.name for command in app.registered_commands)


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    """A folder with a finished study of 20 trials, one of them failed and one diverged."""
    from support import curve

    def curves(assignment, epoch):
        if assignment.member.trial == 5 and epoch == 2:
            raise ValueError("boom")
        found = curve(assignment, epoch)
        return found | ({"loss": float("nan")} if assignment.member.trial == 6 else {})

    folder = tmp_path_factory.mktemp("studied")
    replay(replay_file(folder), curves)
    return folder


def with_imports(*words):
    """Run a command; stderr names the slow packages that it has imported."""
    code = (
        "import sys; from search.cli import app\n"
        "try: app(sys.argv[1:])\n"
        "finally: print(*{'keras', 'optuna', 'pydantic', 'numpy', 'pandas', 'scipy', 'sqlalchemy'} & {*sys.modules}, file=sys.stderr)"
    )
    return subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_has_an_example_and_imports_nothing_slow(command):
    done = with_imports(*command.split(), "--help")
    assert done.returncode == 0
    assert "Example: manyfit" in re.sub(r"\s+", " ", done.stdout)
    assert done.stderr.split() in ([], ["pydantic"] if command else [])  # Typer needs that for the options of a command


def test_every_command_is_in_the_readme():
    readme = (ROOT / "README.md").read_text()
    assert len(COMMANDS) > 12
    for name in COMMANDS:
        assert f"manyfit {name}" in readme


def test_list_shows_the_studies_and_imports_next_to_nothing_slow(studied):
    done = with_imports("list", studied)
    assert (done.returncode, done.stderr) == (0, "pydantic\n")
    assert re.search(r"replay +done +20/20", done.stdout)
    (found,) = json.loads(manyfit("list", studied, "--json").stdout)
    assert found["counts"]["FAIL"] == 1
    assert found["best"] == min(t.value for t in records.load(studied / "replay.db", "replay").complete)


def test_list_of_an_empty_folder_says_what_to_do(tmp_path):
    done = manyfit("list", tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert "`manyfit run`" in done.stderr


def test_list_goes_on_past_a_damaged_database(studied, tmp_path):
    (tmp_path / "bad.db").write_bytes(b"hello")
    (tmp_path / "good.db").write_bytes((studied / "replay.db").read_bytes())
    done = manyfit("list", tmp_path)
    assert done.returncode == 3
    assert "bad.db is no SQLite database" in done.stderr
    assert "good.db" in done.stdout


@pytest.mark.parametrize("by", ["file", "database"])
def test_show_tells_best_configs_endings_importance_curves_and_settings(studied, by):
    done = manyfit("show", studied / ("replay.toml" if by == "file" else "replay.db"))
    assert (done.returncode, done.stderr) == (0, "")
    for part in ("best configs", "what ended the trials", "importance", "val_loss by epoch", "settings", "pruned"):
        assert part in done.stdout
    assert "ValueError: boom" in done.stdout
    assert "diverged" in done.stdout


def test_show_json_is_strict_and_complete(studied):
    found = json.loads(manyfit("show", studied / "replay.toml", "--json").stdout, parse_constant=pytest.fail)
    assert found["ended"]["diverged"] == 1
    assert sum(found["ended"].values()) == 20
    assert set(found["importance"]) == {"learning_rate", "dropout"}
    assert found["settings"]["study"]["seed"] == 0


def test_show_tells_of_one_trial_why_it_ended(studied):
    trials = records.load(studied / "replay.db", "replay").trials
    pruned = next(trial for trial in trials if trial.ended == "pruned")
    done = manyfit("show", studied / "replay.toml", "--trial", pruned.number)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(rf"trial {pruned.number}: pruned \(rung 3: rank \d+ of \d+\)", done.stdout)
    assert f"{len(pruned.curve)} of 9 epochs" in done.stdout
    assert "learning_rate" in done.stdout
    found = json.loads(manyfit("show", studied / "replay.toml", "--trial", pruned.number, "--json").stdout)
    assert (found["why"], found["config"], found["curve"]) == (pruned.why, pruned.config, pruned.curve)
    failed = next(trial for trial in trials if trial.state == "FAIL")
    assert "boom" in manyfit("show", studied / "replay.toml", "--trial", failed.number).stdout


def test_show_tells_what_the_default_search_believes(tmp_path):
    replay(replay_file(tmp_path, search__sampler="bayes", study__trials=30))
    done = manyfit("show", tmp_path / "replay.toml")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"trial \d+'s config comes to val_loss [\d.e-]+ ± [\d.e-]+ after 9 epochs; noise ", done.stdout)
    assert re.search(r"learning_rate +█+ +length scale \S+, middle \S+\n", done.stdout)
    beliefs = json.loads(manyfit("show", tmp_path / "replay.toml", "--json").stdout, parse_constant=pytest.fail)[
        "beliefs"
    ]
    assert set(beliefs["length_scales"]) == set(beliefs["middles"]) == {"learning_rate", "dropout"}
    best = min(trial.value for trial in records.load(tmp_path / "replay.db", "replay").complete)
    assert beliefs["value"] == pytest.approx(best, abs=0.1)


def test_show_does_without_a_trial_that_another_program_took_out(tmp_path):
    replay(replay_file(tmp_path, search__sampler="bayes", study__trials=30))
    with closing(sqlite3.connect(tmp_path / "replay.db")) as connection, connection:
        connection.execute("UPDATE trials SET study_id = NULL WHERE number = 3")
    for how in ([], ["--json"]):
        done = manyfit("show", tmp_path / "replay.toml", *how)
        assert (done.returncode, done.stderr) == (0, "")


def test_show_has_no_beliefs_of_a_sampler_that_has_none(studied):
    assert "believes" not in manyfit("show", studied / "replay.toml").stdout
    assert json.loads(manyfit("show", studied / "replay.toml", "--json").stdout)["beliefs"] is None


def test_export_writes_what_the_schema_says(studied, tmp_path):
    done = manyfit("export", studied / "replay.toml", "--top", 3, "-o", tmp_path / "best.json")
    assert (done.returncode, done.stdout) == (0, "")
    document = json.loads((tmp_path / "best.json").read_text(), parse_constant=pytest.fail)
    jsonschema.validate(document, json.loads((ROOT / "search" / "views" / "best.schema.json").read_text()))
    assert [config["rank"] for config in document["configs"]] == [1, 2, 3]


def test_schema_in_the_project_is_the_one_of_the_code():
    assert (ROOT / "search" / "views" / "best.schema.json").read_text() == export.schema(), (
        "python -c 'from search.views import export; print(export.schema(), end=\"\")' > search/views/best.schema.json"
    )


def test_export_csv_has_a_row_a_trial(studied):
    rows = list(csv.DictReader(io.StringIO(manyfit("export", studied / "replay.toml", "--csv").stdout)))
    assert [int(row["trial"]) for row in rows] == list(range(20))
    assert rows[5]["state"] == "FAIL"
    assert float(rows[0]["params.learning_rate"]) > 0


def test_export_that_can_not_be_written_leaves_nothing(studied, tmp_path):
    done = manyfit("export", studied / "replay.toml", "-o", tmp_path / "no" / "best.json")
    assert done.returncode == 2
    assert "can't be written" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["show", "nothing.db"], 3, "no such study"),
        (["show", "replay.db", "--trial", "99"], 2, "there is no trial 99; replay has 20, from 0"),
        (["show", "nothing.toml"], 2, "no such study file"),
        (["show", "replay.db", "--name", "other"], 3, "has no study 'other'; it has replay"),
        (["show", "fresh.toml"], 3, "has not been run yet; `manyfit run"),
        (["dashboard", "fresh.toml"], 3, "has not been run yet"),
        (["run", "."], 2, "this is a folder"),
        (["run", "replay.toml", "--set", "space"], 2, "--set takes key.path=value"),
        (["run", "replay.toml", "--set", "serch.sampler=tpe"], 2, "did you mean 'search'"),
        (["run", "replay.toml", "--trials", "many"], 2, "trials"),
        (["rum"], 2, "rum"),
    ],
)
def test_wrong_turns_end_with_one_clear_error(studied, arguments, code, says):
    (studied / "fresh.toml").write_text((studied / "replay.toml").read_text())
    before = sorted(path.name for path in studied.iterdir())
    done = manyfit(*arguments, cwd=studied)
    assert done.returncode == code
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in studied.iterdir()) == before


def test_study_is_shown_when_its_data_are_gone(studied, tmp_path):
    import numpy as np

    np.savez(tmp_path / "rows.npz", x=np.zeros((40, 2)), y=np.arange(40) % 2)
    path = tmp_path / "gone.toml"
    path.write_text((studied / "replay.toml").read_text().replace("sklearn:digits", "rows.npz"))
    (tmp_path / "gone.db").write_bytes((studied / "replay.db").read_bytes())
    (tmp_path / "rows.npz").unlink()
    done = manyfit("show", path, "--name", "replay")
    assert (done.returncode, done.stderr) == (0, "")


def test_traceback_is_for_debug_only(studied):
    done = manyfit("--debug", "show", studied / "nothing.db")
    assert "Traceback" in done.stderr


def test_output_that_is_read_in_part_is_no_error(studied):
    done = subprocess.run(
        ["bash", "-c", f"'{MANYFIT[0]}' -P -c '{MANYFIT[3]}' export '{studied / 'replay.toml'}' | head -1"],
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("{\n", "")


def test_dashboard_serves_until_it_is_interrupted(studied):
    process = start("dashboard", studied / "replay.toml", "--port", 0)
    url = re.search(r"http://127\.0\.0\.1:\d+\S*", process.stderr.readline()).group()
    with urllib.request.urlopen(url) as answer:
        assert answer.status == 200
    code, out, _ = end(process, signal.SIGINT)
    assert (code, out) == (0, "")


@pytest.mark.slow
def test_plan_says_what_would_run_and_writes_nothing(tmp_path):
    path = write_study(tmp_path)
    done = manyfit("plan", path, "--json", "--set", "run.engine=fit", "--set", "run.backend=jax")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["data"]["input_shape"] == [64]
    assert found["model"]["parameters"] == 64 * 16 + 16 + 16 * 10 + 10
    assert found["backend"] == "jax"
    assert list(tmp_path.iterdir()) == [path]
    assert (
        "one trial at a time; no lanes: run.backend is tensorflow"
        in manyfit("plan", path, "--set", "run.backend=tensorflow").stdout
    )


@pytest.mark.slow
def test_plan_says_what_run_would_refuse(tmp_path):
    path = write_study(tmp_path)
    line = (path, "--set", "model.widht=3", "--set", "run.engine=fit", "--set", "run.backend=jax")
    found = json.loads(manyfit("plan", *line, "--json").stdout)
    (refused,) = found["refused"]
    assert refused.startswith("model.widht: nothing reads it")
    assert refused in found["warnings"]
    done = manyfit("plan", *line)
    assert done.returncode == 0
    assert "`manyfit run` would stop here with exit code 2" in " ".join(done.stdout.split())
    assert manyfit("run", *line).returncode == 2


@pytest.mark.gallery
@pytest.mark.slow
def test_doctor_tries_every_installed_backend():
    done = manyfit("doctor", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found["backends"]) == {"tensorflow", "jax"}
    assert all(backend["devices"] for backend in found["backends"].values())
    assert found["versions"]["keras"]


@pytest.mark.slow
@pytest.mark.gallery
def test_dashboard_shows_a_study_while_it_runs(tmp_path):
    path = write_study(tmp_path, trials=50, epochs=5)
    run = start("run", path, "--set", "run.engine=fit", "--backend", "jax")
    database = path.with_suffix(".db")
    wait_for(lambda: len(records.load(database, "small").trials) >= 2, "two trials")
    process = start("dashboard", path, "--port", 0)
    url = re.search(r"http://127\.0\.0\.1:\d+", process.stderr.readline()).group()

    def trials():
        with urllib.request.urlopen(f"{url}/api/studies/1") as answer:
            return len(json.load(answer)["trials"])

    first = trials()
    wait_for(lambda: trials() > first, "another trial")
    end(process, signal.SIGINT)
    assert end(run, signal.SIGINT)[0] == 130


def test_words_that_name_a_study_lead_to_it(tmp_path, monkeypatch):
    """Also where --set has put it into another database than its file says."""
    monkeypatch.chdir(tmp_path)
    own, named, elsewhere = (
        replay(replay_file(tmp_path, study__trials=1, **settings))
        for settings in ({}, {"study__name": "other"}, {"run__storage": "else where.db"})
    )
    path = Path("replay.toml")
    assert [words_for(stored, path) for stored in (own, named, elsewhere)] == [
        "replay.toml", "replay.toml --name other", "'else where.db'",
    ]  # fmt: skip
    replay(replay_file(tmp_path, study__trials=1, study__name="other", run__storage="else where.db"))
    assert words_for(elsewhere, path) == "'else where.db' --name replay"
