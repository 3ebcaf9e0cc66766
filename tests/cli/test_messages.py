"""What commands say to people who took a wrong turn, came back, or look on from elsewhere."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import tomllib
from contextlib import closing
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from support import REPLAY, cut_off, end, manyfit, replay, replay_file, start, wait_for, write_study
from typer.testing import CliRunner

from search import cli
from search.core.study import Study
from search.errors import StudyFileError
from search.reading import studyfile, tomlfaults, tomltext
from search.sessions import outcomes
from search.sessions import run as sessions
from search.storage import records
from search.storage.holder import holder
from search.storage.store import hold
from search.trials.files import StudyFiles
from search.views import report
from search.views.console import Progress


def invoke(*line: object):
    return CliRunner().invoke(cli.app, [str(word) for word in line])


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    """A folder with a finished study of 20 trials."""
    folder = tmp_path_factory.mktemp("studied")
    replay(replay_file(folder))
    return folder


# -- command lines -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (["run", "s.toml", "--resume"], "run has no option --resume: run goes on by itself with a study that is there"),
        (["run", "--continue", "s.toml"], "run goes on by itself"),
        (["resume", "s.toml"], "no command 'resume': run goes on by itself"),
        (["run", "s.toml", "--epochs", "5"], "run has no option --epochs; write --set study.epochs=5"),
        (["run", "s.toml", "--epochs=5"], "write --set study.epochs=5"),
        (["plan", "s.toml", "--batch-size", "64"], "write --set train.batch_size=64"),
        (["run", "s.toml", "--lr", "0.1"], "write --set train.learning_rate=0.1"),
        (["run", "s.toml", "--units", "[64, 32]"], "write --set 'model.units=[64, 32]'"),
        (["run", "s.toml", "--gpus", "2"], "write --set run.devices=2"),
        (["run", "s.toml", "--n-trials", "5"], "run has no option --n-trials; did you mean --trials?"),
        (["run", "s.toml", "--timeout", "5m"], "did you mean --time?"),
        (["run", "s.toml", "--random-state", "1"], "did you mean --seed?"),
        (["run", "s.toml", "--trails", "5"], "did you mean --trials?"),
        (["run", "s.toml", "--debug"], "it stands before the command: manyfit --debug run ..."),
        (["run", "s.toml", "--zz"], "run has no option --zz; there are --name, --build"),
        (["run", "s.toml", "--trials"], "option '--trials' requires an argument"),
        (["run", "s.toml", "--seed", "x"], "--seed must be a whole number; received x"),
        (["show", "s.toml", "--top", "0"], "--top must be at least 1; received 0"),
        (["show", "s.toml", "--best", "3"], "show has no option --best; did you mean --top?"),
        (["dashboard", "s.toml", "--port", "70000"], "--port must be at most 65535; received 70000"),
        (["train", "s.toml"], "no command 'train'; did you mean 'run'?"),
        (["best", "s.toml"], "no command 'best'; did you mean 'show'?"),
        (["ls"], "no command 'ls'; did you mean 'list'?"),
        (["shwo", "s.toml"], "no command 'shwo'; did you mean 'show'?"),
        (["my study.toml"], "my study.toml is no command; write: manyfit run 'my study.toml'"),
        (["--seed", "1", "run", "s.toml"], "no option --seed before the command; it belongs behind one: manyfit run ... --seed"),
        (["run"], "a study file is missing; write `manyfit run STUDY`"),
        (["run", "s.toml", "t.toml"], "got unexpected extra argument"),
        (["run", "s.toml", "--passwrod=x://me:hunter2@db/y"], "run has no option --passwrod"),
    ],
)  # fmt: skip
def test_wrong_command_line_is_told_in_one_line_what_to_write(line, says):
    done = invoke(*line)
    assert (done.exit_code, done.stdout) == (2, "")
    (said,) = done.stderr.splitlines()
    assert said.startswith("manyfit: ")
    assert says in said
    assert "hunter2" not in said


def test_command_without_arguments_still_shows_its_help():
    done = invoke()
    assert done.exit_code == 2
    assert "Commands" in done.output


def test_plus_trials_is_told_the_total(studied):
    done = invoke("run", studied / "replay.toml", "--trials", "+20")
    assert done.exit_code == 2
    assert "--trials is the study's total; received +20; --trials 40 adds 20 to its 20" in done.stderr


def test_plus_trials_of_a_new_study_is_told_the_number(tmp_path):
    done = invoke("run", write_study(tmp_path), "--trials", "+5")
    assert done.exit_code == 2
    assert "--trials is the study's total; received +5; write --trials 5" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["small.toml"]


def test_wrong_folder_is_told_which_study_files_are_there(tmp_path):
    (tmp_path / "digits.toml").write_text(REPLAY)
    (tmp_path / "wine.toml").write_text(REPLAY)
    done = invoke("run", tmp_path / "digit.toml")
    assert done.exit_code == 2
    assert f"no such study file; did you mean 'digits.toml'?; {tmp_path} holds digits.toml, wine.toml" in done.stderr
    empty = tmp_path / "empty"
    empty.mkdir()
    assert f"{empty} holds no .toml file" in invoke("run", empty / "digits.toml").stderr
    assert f"the folder {tmp_path / 'none'} is not there" in invoke("run", tmp_path / "none" / "digits.toml").stderr


def test_suggested_commands_are_quoted_for_the_shell(tmp_path):
    path = write_study(tmp_path, REPLAY, name="a study")
    done = invoke("show", path)
    assert f"`manyfit run '{path}'` does" in done.stderr
    assert f"manyfit list '{tmp_path / 'a folder'}'" not in done.stderr
    folder = tmp_path / "a folder"
    folder.mkdir()
    assert f"manyfit list '{folder}'" in invoke("run", folder).stderr


def test_command_that_run_suggests_can_be_pasted(studied, tmp_path):
    shutil.copy(studied / "replay.db", tmp_path / "my study.db")
    text = (studied / "replay.toml").read_text().replace("[study]", '[study]\nname = "replay"')
    path = tmp_path / "my study.toml"
    path.write_text(text)
    done = invoke("run", path)
    assert done.exit_code == 0, done.stderr
    assert f"manyfit show '{path}', manyfit dashboard '{path}'" in done.stderr


# -- a study that ended, goes on, or runs ------------------------------------------------------------------------------


def test_more_trials_than_asked_for_are_said_to_be_done(studied, tmp_path):
    for name in ("replay.db", "replay.toml"):
        shutil.copy(studied / name, tmp_path / name)
    done = invoke("run", tmp_path / "replay.toml", "--trials", "8")
    assert done.exit_code == 0, done.stderr
    assert "replay: nothing left to do: 20 trials are done (8 asked for)" in done.stderr
    assert "nothing left to do: 20 of 20 trials are done" in invoke("run", tmp_path / "replay.toml").stderr


def test_this_run_is_told_apart_from_the_total(studied):
    stored = records.load(studied / "replay.db", "replay")
    part = sessions.Outcome(stored, studied / "x", (17, 18, 19), "", 42.0)
    first, now, total = outcomes.lines(part)
    assert first == "replay: 3 trials in 42 s by this command"
    assert sum(int(word.split()[0]) for word in now.removeprefix("trials: ").split(", ")) == 3
    assert total.startswith("in all: 20 trials in ")
    assert sum(int(word.split()[0]) for word in total.split(": ")[2].split(", ")) == 20
    whole = sessions.Outcome(stored, studied / "x", tuple(range(20)), "", 42.0)
    assert len(outcomes.lines(whole)) == 2


def test_study_that_goes_on_says_where_it_stands(tmp_path):
    file = replay_file(tmp_path, study__trials=12)
    cut_off(file, after=12)
    stored = records.load(file.storage, "replay")
    done = sum(trial.is_ended for trial in stored.trials)
    study = Study(file, stored.trials)
    best = study.best
    assert 0 < done < 12
    assert best is not None
    assert sessions._progress(study) == f"going on: {done} of 12 done, best {best.value:.5g} (trial {best.number})"
    assert sessions._progress(Study(file)) == "going on: 0 of 12 done"


def test_running_study_is_seen_from_elsewhere_with_its_process(tmp_path):
    file = replay_file(tmp_path)
    cut_off(file, after=30)
    assert invoke("list", tmp_path).stdout.count("cut off") == 1
    code = (
        "import sys, time; from pathlib import Path; from search.storage.store import hold\n"
        "lock = hold(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(file.storage)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        at_work = holder(file.storage)
        assert at_work is not None
        assert (at_work.pid, at_work.host) == (other.pid, "")
        since = at_work.since.strftime("%H:%M")
        shown = invoke("show", tmp_path / "replay.toml").stdout
        assert f"running (process {other.pid} on this machine since {since})" in shown
        (found,) = json.loads(invoke("list", tmp_path, "--json").stdout)
        assert (found["state"], found["process"]["pid"]) == ("running", other.pid)
    finally:
        other.kill()
        other.wait()
    assert holder(file.storage) is None
    assert json.loads(invoke("show", tmp_path / "replay.toml", "--json").stdout)["state"] == "cut off"


def test_number_of_a_process_that_is_another_by_now_is_not_taken_for_it(tmp_path):
    database = tmp_path / "x.db"
    lock = database.with_name("x.db.lock")
    lock.write_text(json.dumps({"pid": os.getpid(), "host": __import__("socket").gethostname()}))
    assert holder(database) is None  # nobody has locked it
    with hold(database):
        assert holder(database) is not None
        os.utime(lock, (0, 0))  # written before this process began
        assert holder(database) is None
    lock.write_text(json.dumps({"pid": 1, "host": "elsewhere"}))
    found = holder(database)
    assert found is not None
    assert str(found).startswith("process 1 on elsewhere since ")
    for damaged in ("", "[]", "{}", '{"pid": "x", "host": ""}', "\0"):
        lock.write_text(damaged)
        assert holder(database) is None


def test_database_without_tables_beside_a_backup_is_told_what_that_holds(studied, tmp_path):
    database = tmp_path / "replay.db"
    shutil.copy(studied / "replay.toml", tmp_path / "replay.toml")
    shutil.copy(studied / "replay.db", tmp_path / "replay.db.backup")
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.execute("DROP TABLE t")
    for line in (["verify", database], ["run", tmp_path / "replay.toml"], ["show", tmp_path / "replay.toml"]):
        done = invoke(*line)
        assert done.exit_code == 3
        assert f"`manyfit verify {database} --restore` brings back its backup" in done.stderr + done.stdout
    assert "its backup: 20 ended trials of 2" in invoke("verify", database).stderr
    assert invoke("verify", database, "--restore").exit_code == 0
    assert len(records.load(database, "replay").trials) == 20


@pytest.mark.gallery
@pytest.mark.slow
def test_ctrl_c_twice_in_a_moment_ends_as_once_does(tmp_path):
    path = write_study(tmp_path, trials=30, epochs=50)
    process = start("run", path, "--set", "run.engine=fit", "--set", "run.backend=jax")
    wait_for(lambda: len(records.load(path.with_suffix(".db"), "small").trials) >= 1, "a trial")
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    code, out, err = end(process, signal.SIGINT)
    assert (code, out) == (130, "")
    assert "the same command goes on" in err.splitlines()[-1]
    with closing(sqlite3.connect(path.with_suffix(".db"))) as connection, connection:
        # Nothing is left to train but one epoch, so that going on takes a moment.
        connection.execute("UPDATE manyfit_studies SET seconds = seconds")
    again = start("run", path, "--set", "run.engine=fit", "--set", "run.backend=jax")
    said = ""
    while "going on: " not in said and (line := again.stderr.readline()):
        said += line
    end(again, signal.SIGINT)
    assert "going on: 0 of 30 done" in said


# -- names of any script -----------------------------------------------------------------------------------------------

COMPOSED, DECOMPOSED = "\u00e9tude", "e\u0301tude"


@pytest.mark.parametrize(
    "name", [COMPOSED, "исследование", "研究 1", "μ-study", "İstanbul.v2", "हिन्दी", "דו״ח".replace("״", ""), "٣٤"]
)
def test_study_file_may_be_named_in_any_script(studied, tmp_path, name):
    path = tmp_path / f"{name}.toml"
    path.write_text(REPLAY)
    replay(studyfile.read(path))
    assert json.loads(invoke("list", tmp_path, "--json").stdout)[0]["study"] == name
    for line in (
        ["show", path],
        ["show", path, "--json"],
        ["export", path],
        ["export", path, "--csv"],
        ["verify", path],
        ["clean", path],
    ):
        done = invoke(*line)
        assert done.exit_code == 0, (line, done.output)
    assert name in invoke("show", path).stdout
    done = invoke("run", path)
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / f"{name}.best.json").is_file()
    assert json.loads((tmp_path / f"{name}.best.json").read_text())["study"] == name
    assert invoke("show", tmp_path / f"{name}.db", "--name", name).exit_code == 0


def test_letters_with_accents_are_one_name_however_they_are_written(tmp_path):
    for form in (COMPOSED, DECOMPOSED):
        path = tmp_path / f"{form}.toml"
        path.write_text(REPLAY)
        file = studyfile.read(path)
        assert file.name == COMPOSED
    # But two files, of two databases: what is kept beside them is kept apart.
    kept = [StudyFiles.of(studyfile.read(tmp_path / f"{form}.toml")).best for form in (COMPOSED, DECOMPOSED)]
    assert kept == [tmp_path / f"{COMPOSED}.best.json", tmp_path / f"{DECOMPOSED}.best.json"]
    replay(studyfile.read(tmp_path / f"{COMPOSED}.toml"))
    assert invoke("show", tmp_path / f"{COMPOSED}.db", "--name", DECOMPOSED).exit_code == 0


@pytest.mark.parametrize(
    "name",
    ["\u0301a", "a\u200bb", "a\u2028b", "a\u00a0b", "é/b", "a\u202eb", "²", "a\ufffeb", "☃", "é" * 101, "研" * 67, "a\u0000"],
)  # fmt: skip
def test_name_that_is_no_name_in_any_script_is_refused(tmp_path, name):
    path = tmp_path / "good.toml"
    path.write_text(REPLAY)
    with pytest.raises(StudyFileError, match=r"study\.name: must start with a letter or digit"):
        studyfile.read(path, [f"study.name={json.dumps(name)}"])


# -- TOML --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("d = { low = 0.0 high = 0.5 }", "a comma is missing after 0.0"),
        ("d = { low = 1 high = 5, log = true }", "a comma is missing after 1"),
        ("d = [1 2]", "a comma is missing after 1"),
        ("d = ['a' 'b']", "a comma is missing after 'a'"),
        ("d = {\n  low = 0.0,\n  high = 0.5\n}", "a table in braces stands on one line; join the lines, or write [space.d]"),
        ("d = { low = 0.0,\n  high = 0.5 }", "a table in braces stands on one line"),
        ("d = { low = 0.0, high = 0.5, }", "a comma before }; remove it"),
        ("d = .1", "a number begins with a digit; write 0.1"),
        ("d = -.5", "a number begins with a digit; write -0.5"),
        ("d = { low = .001, high = 1 }", "a number begins with a digit; write 0.001"),
        ("d = 5.", "a number ends with a digit; write 5.0"),
        ("d = { low = 1.e-4, high = 0.1 }", "a point stands between two digits; write 1.0e-4"),
        ("d = [2.E3, 1.0]", "a point stands between two digits; write 2.0E3"),
        ("d = { low = 5e-, high = 0.1 }", "the digits of the exponent are missing; write 5e-4, say"),
        ("d = 5e", "the digits of the exponent are missing"),
        ("d = [1e-3, 5e+]", "the digits of the exponent are missing"),
        ("d = { low = 10**-4, high = 0.1 }", "TOML computes nothing; write 1e-4"),
        ("d = { low = 1/10, high = 0.5 }", "TOML computes nothing; write the result"),
        ("d = [2**3, 16]", "TOML computes nothing; write the result"),
        ("d = { low = 10^-2, high = 0.1 }", "TOML computes nothing; write 1e-2"),
        ("d = 2 * 10", "TOML computes nothing; write the result"),
        ("d = 10^2", "TOML computes nothing; write the result"),
        ("d = 1 - 0.5", "TOML computes nothing; write the result"),
        ("d = 1/2/3", "TOML computes nothing; write the result"),
        ("d = [1 -2]", "a comma is missing after 1"),
        ("d = { low = 0,1, high = 0.5 }", "decimals follow a point, not a comma; write 0.1"),
        ("d = { low = 0.1, high = 0,5 }", "decimals follow a point, not a comma; write 0.5"),
        ("d = 0,001", "decimals follow a point, not a comma; write 0.001"),
        ("d = 1,5", "decimals follow a point, not a comma; write 1.5, or [1, 5] for a list"),
        ("d = { low = 1, high = 1,000 }", "digits are parted by _; write 1_000"),
        ("trials = 4%", "TOML has no %; write a whole number, or a share such as 0.1 for 10%"),
        ("d = { low = 5%, high = 0.5 }", "TOML has no %; write a whole number, or a share"),
        ("d = [20%, 30%]", "TOML has no %; write a whole number, or a share"),
        ("d = { percentile = 40% }", "percentile counts in percent; write 40"),
        ("units = {8}", "a list stands in square brackets; write [8]"),
        ("units = { 8, 16 }", "a list stands in square brackets; write [8, 16]"),
        ("d = {'a', 'b'}", "a list stands in square brackets; write ['a', 'b']"),
        ("d = True", "write true"),
        ("d = [true, False]", "write false"),
        ("d = None", "TOML has no such value; remove the line"),
        ("d = null", "TOML has no such value"),
        ("d: 5", "a colon; a line is `key = value`"),
        ("d = { low: 0.0, high: 0.5 }", "a colon;"),
        ("d == 5", "two =; write one"),
        ("d = low = 0.0, high = 0.5", "braces are missing; write { low = 0.0, high = 0.5 }"),
        ("d =", "a value is missing after ="),
        ("d = (1, 2)", "a list stands in square brackets, [1, 2]"),
        ("d = 1, 2", "a list stands in square brackets, [1, 2]"),
        ("d = adam", 'put strings in quotes: "adam"'),
        ("d = “adam”", "curly quotes"),
        ('d = "C:\\Users"', "a backslash in a text; write a path with /"),
        ("d = 1,000", "digits are parted by _; write 1_000"),
        ("d = 10%", "TOML has no %; write a whole number, or a share"),
        ("d = 007", "a number begins with no 0; write 7"),
        ("d = 10m", 'a value with a unit is a text: "10m"'),
        ("d = 1;", "a semicolon; remove it"),
        ("d = loguniform(1e-4, 1e-1)", "a range is { low = ..., high = ..., log = true }"),
        ("d = 1e-4..1e-1", "a range is { low = ..., high = ... }"),
        ("// remark", "remarks begin with #"),
        ("my param = 1", 'a key with blanks or other letters stands in quotes: "my param"'),
        ("d = [1, 2]]", "] closes what is not open; remove it"),
    ],
)  # fmt: skip
def test_what_is_no_toml_is_told_in_plain_words_with_the_fix(tmp_path, line, says):
    path = tmp_path / "bad.toml"
    path.write_text(f'[data]\nsource = "sklearn:digits"\n[space]\n{line}\n')
    with pytest.raises(StudyFileError) as raised:
        studyfile.read(path)
    assert f"bad.toml, line 4: not valid TOML: {says}" in str(raised.value).replace("invalid value; ", "")


def test_no_message_of_tomllib_is_passed_on_in_its_words():
    for message in (
        "Unclosed inline table",
        "Invalid initial character for a key part",
        "Expected newline or end of document",
    ):
        assert tomlfaults.explain(message, "", 0) != message


# -- show --------------------------------------------------------------------------------------------------------------


def test_show_keeps_to_80_columns_and_ends_with_the_best(studied, tmp_path):
    text = REPLAY.replace(
        "[search]",
        "a_parameter_of_a_long_name_indeed = [1, 2, 3]\nkinds = [['some', 'long', 'list'], ['another', 'long', 'list']]\n[search]",
    )
    stored = replay(
        replay_file(
            tmp_path, text.replace("[data]", "[model]\nbuild = 'mine.py:build'\n[data]") if _mine(tmp_path) else text
        )
    )
    out = StringIO()
    report.show(stored, 5, Console(file=out, width=80, highlight=False))
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    assert max(map(len, lines)) <= 80
    # Nothing but the headline stands below the best configs.
    best = lines.index("best configs")
    table = lines[best:]
    assert not any("by epoch" in line or "what ended" in line for line in table)
    assert any(line.startswith("a_parameter_of_a_long_name_indeed ") for line in table)
    assert any("…" in line for line in table if line.startswith("kinds "))
    assert any(line.startswith("replay: minimize val_loss; done") for line in lines[-2:])
    # The legend is beside the curves, not in them.
    assert sum("┐ 1 trial " in line for line in lines) == 1


def _mine(folder: Path) -> bool:
    (folder / "mine.py").write_text("def build(config, data): ...\n")
    return True


def test_settings_are_shown_as_toml_that_can_be_searched_again(studied, tmp_path):
    done = invoke("show", studied / "replay.toml", "--settings")
    assert done.exit_code == 0
    assert tomllib.loads(done.stdout)["space"]["dropout"] == {"low": 0.0, "high": 0.5}
    again = tmp_path / "again.toml"
    again.write_text(done.stdout)
    stored = records.load(studied / "replay.db", "replay").file
    assert studyfile.read(again).settings == stored.settings


@pytest.mark.parametrize(
    "value",
    [1, -2, 0.1, 1e-7, 1e300, True, "a", 'a"b\\c\n\x7f\x00é', [], [1, [2.5, "x"]], {}, {"a b": {"c": [False]}, "é": 1}],
)
def test_toml_that_is_written_is_read_back(value):
    assert tomllib.loads(f"x = {tomltext.value(value)}") == {"x": value}


def test_pace_says_what_is_waited_for_until_epochs_come(tmp_path):
    study = Study(replay_file(tmp_path))
    progress = Progress(study, Console(file=StringIO(), width=80), programs=3)
    assert progress.pace() == "compiling program 1 of 3"
    study.compiled = 1
    assert progress.pace() == "compiling program 2 of 3"
    study.compiled = 3
    assert progress.pace() == "first epochs under way"
    assert Progress(study, Console(file=StringIO(), width=80)).pace() == "first epochs under way"


# -- what must not be reached ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def odd(studied, tmp_path_factory):
    """A folder of things that are no studies, or damaged ones."""
    folder = tmp_path_factory.mktemp("odd")
    for name in ("replay.db", "replay.toml"):
        shutil.copy(studied / name, folder / name)
    for name in ("loop.toml", "loop.db", "linked.db"):
        (folder / name).symlink_to(name)
    (folder / "linked.toml").write_text(REPLAY)
    for name in ("dir.toml", "dir.db"):
        (folder / name).mkdir()
    (folder / "empty.db").write_bytes(b"")
    for name, change in {
        "resolved": "UPDATE manyfit_studies SET resolved = '[]'",
        "epochs": "UPDATE manyfit_epochs SET metrics = '[1]'",
        "seconds": "UPDATE manyfit_studies SET seconds = 'x'",
        "events": "INSERT INTO manyfit_events (study_id, at, kind, detail) SELECT study_id, '2020-01-01', 'k', '[1]' FROM manyfit_studies",
        "params": "UPDATE trial_params SET param_value = NULL",
        "values": "UPDATE trial_values SET value = 'x'",
    }.items():
        shutil.copy(studied / "replay.db", folder / f"{name}.db")
        with closing(sqlite3.connect(folder / f"{name}.db")) as connection, connection:
            connection.execute(change)
    return folder


@pytest.mark.parametrize(
    "target",
    [
        *("loop.toml", "loop.db", "linked.toml", "linked.db", "dir.toml", "dir.db", "empty.db", "/dev/null", "x" * 300, "x" * 300 + ".db"),
        *("resolved.db", "epochs.db", "seconds.db", "events.db", "params.db", "values.db", "replay.toml/x", "\udcff.toml", ""),
    ],
)  # fmt: skip
def test_odd_things_in_the_place_of_a_study_have_errors_of_their_own(odd, target, monkeypatch):
    monkeypatch.chdir(odd)
    for line in (
        ["show"],
        ["show", "--json"],
        ["show", "--trial", "0"],
        ["show", "--settings"],
        ["export"],
        ["verify"],
        ["clean"],
        ["list"],
    ):
        done = invoke(line[0], target, *line[1:])
        assert done.exit_code in (0, 2, 3), (line, done.output, done.exception)
        assert "should not have happened" not in done.output
        assert done.exit_code == 0 or done.stderr


@pytest.mark.parametrize("output", [".", "/", "replay.toml/x", "", "x" * 300, "no/where.json", "/proc/x"])
def test_odd_places_for_an_export_have_errors_of_their_own(odd, output, monkeypatch):
    monkeypatch.chdir(odd)
    done = invoke("export", "replay.toml", "-o", output)
    assert done.exit_code == 2, done.output
    assert "should not have happened" not in done.output


@pytest.mark.parametrize(
    "override",
    [
        "study.time=1979-05-27", "study.time=\"9e999h\"", "study.epochs=99999999999999999999", "space.x=1979-05-27", "space={}",
        "search.start=[1]", "search.start=[{learning_rate={}}]", "search.pruner={name=\"hyperband\",eta=99999999999999999999}",
        "run.disk=1e400", "run.storage=\"loop.db\"", "run.storage=\"/dev/null\"", "train.loss={}", "train.metrics=[{}]",
        "data.image_size=[1e9, 1]", "model.build=\":\"", "model.units=" + "[" * 200 + "]" * 200, "study.objective=\"\\u0000\"",
    ],
)  # fmt: skip
def test_odd_settings_have_errors_of_their_own_or_are_taken(odd, override, monkeypatch):
    monkeypatch.chdir(odd)
    (odd / "fresh.toml").write_text(REPLAY)
    with pytest.raises(StudyFileError):
        studyfile.read(Path("fresh.toml"), [override, "study.nothing=1"])
    done = invoke("run", "fresh.toml", "--set", override, "--set", "study.nothing=1")
    assert done.exit_code == 2
    assert "should not have happened" not in done.output


def test_finished_study_says_so_by_the_real_command(studied, tmp_path):
    for name in ("replay.db", "replay.toml"):
        shutil.copy(studied / name, tmp_path / name)
    done = manyfit("run", "replay.toml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["trial"] >= 0
    assert "nothing left to do: 20 of 20 trials are done" in done.stderr
