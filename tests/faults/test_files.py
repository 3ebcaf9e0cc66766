"""Files that are locked, full, damaged, held by another, or not of this manyfit: F9, F10, F11, F12, and released formats."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from support import end, manyfit, query, replay, replay_file, start, table, wait_for
from typer.testing import CliRunner

from search import cli

ASSETS = Path(__file__).resolve().parents[1] / "assets"
SHORT = {"study__trials": 6, "study__epochs": 3}


@pytest.fixture(scope="module")
def undisturbed(driver, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    assert driver.run(folder, settings=SHORT).code == 0
    return table(folder / "replay.db", "replay")


@contextmanager
def held(database: Path, how: str = "IMMEDIATE"):
    """Hold a database locked from another process, as a careless program would."""
    code = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)\n"
        "c.execute(f'BEGIN {sys.argv[2]}'); print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(database), how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "held\n"
        yield
    finally:
        process.communicate("")


def begun(driver, folder: Path) -> int:
    """Start a slow search, wait until a trial has ended and return its pid."""
    pid = driver.start(folder, settings=SHORT, epoch_s=0.5)
    wait_for(lambda: query(folder / "replay.db", "SELECT 1 FROM trials WHERE state = 'COMPLETE'"), "a trial")
    return pid


# -- F9: locked ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [3, pytest.param(30, marks=pytest.mark.faults)])
def test_search_waits_for_a_program_that_holds_the_database_locked(driver, undisturbed, tmp_path, seconds):
    """F9."""
    pid = driver.start(tmp_path, settings=SHORT, epoch_s=0.1)
    wait_for(lambda: query(tmp_path / "replay.db", "SELECT 1 FROM manyfit_epochs"), "an epoch")
    with held(tmp_path / "replay.db"):
        time.sleep(seconds)
    done = driver.wait(pid)
    assert done.code == 0, done.said
    assert table(tmp_path / "replay.db", "replay") == undisturbed


def test_search_ends_with_exit_3_if_the_database_stays_locked(driver, undisturbed, tmp_path):
    """F9: for ever, here 2 s instead of a minute."""
    pid = driver.start(tmp_path, settings=SHORT, epoch_s=0.1, busy_for_s=2)
    wait_for(lambda: query(tmp_path / "replay.db", "SELECT 1 FROM trials WHERE state = 'COMPLETE'"), "a trial")
    with held(tmp_path / "replay.db"):
        done = driver.wait(pid)
        assert done.code == 3
        assert "can't be written: another program has held it locked for 2 s" in done.said
        assert "all earlier trials are in it" in done.said
    assert driver.run(tmp_path, settings=SHORT).code == 0
    assert table(tmp_path / "replay.db", "replay") == undisturbed


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.faults)]
)
def test_signal_ends_the_wait_for_a_locked_database(driver, undisturbed, tmp_path, number, code):
    """F9 and F4: within 10 s, and nothing is lost by it."""
    pid = driver.start(tmp_path, settings=SHORT, epoch_s=0.1)
    wait_for(lambda: query(tmp_path / "replay.db", "SELECT 1 FROM trials WHERE state = 'COMPLETE'"), "a trial")
    with held(tmp_path / "replay.db"):
        time.sleep(1)
        os.kill(pid, number)
        began = time.monotonic()
        assert driver.wait(pid).code == code
        assert time.monotonic() - began < 10
    assert driver.run(tmp_path, settings=SHORT).code == 0
    assert table(tmp_path / "replay.db", "replay") == undisturbed


@pytest.mark.parametrize("how", ["EXCLUSIVE", pytest.param("IMMEDIATE", marks=pytest.mark.faults)])
def test_signal_ends_the_wait_of_a_command_that_has_only_begun(tmp_path, how):
    """F9 and F4: a finished study, locked by another program before the command reads it (EXCLUSIVE) or writes it."""
    replay(replay_file(tmp_path, **SHORT))
    with held(tmp_path / "replay.db", how):
        process = start("run", tmp_path / "replay.toml", "--set", "study.trials=6", "--set", "study.epochs=3")
        time.sleep(2)
        assert process.poll() is None
        code, out, err = end(process, signal.SIGINT)
    assert (code, out) == (130, "")
    assert "Traceback" not in err


# -- F10: full -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [250_000, *(pytest.param(n, marks=pytest.mark.faults) for n in (150_000, 400_000))])
def test_full_disk_ends_the_search_with_exit_3_and_loses_nothing_of_before(driver, tmp_path, limit):
    """F10: RLIMIT_FSIZE, at which a write fails as on a full disk."""
    settings = {"study__trials": 60, "search__sampler": "random"}
    full, whole = tmp_path / "full", tmp_path / "whole"
    full.mkdir()
    whole.mkdir()
    done = driver.run(full, settings=settings, file_size=limit)
    assert done.code == 3, done.said
    assert "can't be written" in done.said
    assert "full" in done.said
    kept = table(full / "replay.db", "replay")
    assert 0 < len(kept) < 60
    # As long as nothing is freed the same answer comes again, and nothing more is lost.
    assert driver.run(full, settings=settings, file_size=limit).code == 3
    assert driver.run(whole, settings=settings).code == 0
    expected = table(whole / "replay.db", "replay")
    ended = [row for row in kept if row[1] in ("COMPLETE", "PRUNED")]
    assert ended == expected[: len(ended)]
    assert driver.run(full, settings=settings).code == 0
    assert table(full / "replay.db", "replay") == expected


def test_database_that_can_not_be_made_for_want_of_space_leaves_nothing(driver, tmp_path):
    """F10."""
    done = driver.run(tmp_path, settings=SHORT, file_size=50_000)
    assert done.code == 3
    assert "can't be made" in done.said
    assert {path.name for path in tmp_path.iterdir()} == {"replay.toml", "replay.db.lock"}


# -- F11: damaged --------------------------------------------------------------------------------------------------------


def _header(whole: bytes) -> bytes:
    return b"\0" * 100 + whole[100:]


def _pages(whole: bytes) -> bytes:
    # What lies behind the schema: found by reading all of it only.
    return whole[: len(whole) * 3 // 4] + b"\xff" * (len(whole) // 4)


DAMAGES = {
    "header overwritten": _header,
    "cut in half": lambda whole: whole[: len(whole) // 2],
    "cut in a page": lambda whole: whole[: len(whole) // 2 + 1000],
    "one byte short": lambda whole: whole[:-1],
    "only a header": lambda whole: whole[:100],
    "zero bytes": lambda whole: b"",
    "zeros": lambda whole: b"\0" * len(whole),
    "text": lambda whole: b"trials: 20\n",
    "pages overwritten": _pages,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_database_is_refused_by_every_command_and_stays_as_it_is(tmp_path, damage):
    """F11: exit 3, and never a new study in its place."""
    file = replay_file(tmp_path)
    replay(file)
    content = DAMAGES[damage](file.storage.read_bytes())
    file.storage.write_bytes(content)
    before = sorted(path.name for path in tmp_path.iterdir())
    commands = [
        ["run", file.path],
        ["run", file.path, "--name", "new"],
        ["verify", file.path],
        ["verify", file.storage],
        ["dashboard", file.path, "--port", 0],
        ["dashboard", file.storage, "--port", 0, "--name", "replay"],
    ]
    if damage != "pages overwritten":  # what only reads may not meet the damaged page
        commands += [["show", file.path], ["export", file.path], ["show", file.storage], ["list", file.storage]]
        commands += [["clean", file.path], ["export", file.path, "--model", tmp_path / "best.keras"]]
    for command in commands:
        done = CliRunner().invoke(cli.app, list(map(str, command)))
        assert done.exit_code == 3, (command, done.output)
        assert "it was left as it is" in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert file.storage.read_bytes() == content
        assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_damaged_database_with_a_journal_beside_it_stays_as_it_is(tmp_path, driver):
    """F11: closing it must not copy the -wal into the damaged file."""
    pid = driver.start(tmp_path, settings=SHORT, epoch_s=0.05)
    wait_for(lambda: query(tmp_path / "replay.db", "SELECT 1 FROM trials WHERE state = 'COMPLETE'"), "a trial")
    os.kill(pid, signal.SIGKILL)
    driver.wait(pid)
    database, journal = tmp_path / "replay.db", tmp_path / "replay.db-wal"
    assert journal.stat().st_size
    content = _pages(database.read_bytes())
    database.write_bytes(content)
    written = journal.read_bytes()
    done = driver.run(tmp_path, settings=SHORT)
    assert (done.code, "it was left as it is" in done.said) == (3, True), done.said
    assert (database.read_bytes(), journal.read_bytes()) == (content, written)


def test_folder_in_the_place_of_a_database_is_refused(tmp_path):
    """F11: by the study file's name it is a bad file (2), by its own a database that can't be read (3)."""
    file = replay_file(tmp_path)
    file.storage.mkdir()
    for command, code in ((["run", file.path], 2), (["verify", file.storage], 3), (["show", file.storage], 3)):
        done = CliRunner().invoke(cli.app, list(map(str, command)))
        assert done.exit_code == code, done.output
    assert list(file.storage.iterdir()) == []


def test_database_that_may_not_be_read_is_refused(driver):
    """F11: by a user who is not root, whom nothing is forbidden."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        assert driver.run(folder, settings=SHORT).code == 0
        for path in folder.iterdir():
            path.chmod(0o666)
        content = (folder / "replay.db").read_bytes()
        (folder / "replay.db").chmod(0)
        done = driver.run(folder, settings=SHORT, is_nobody=True)
        assert (done.code, "can't be read: Permission denied" in done.said) == (3, True), done.said
        (folder / "replay.db").chmod(0o644)
        assert (folder / "replay.db").read_bytes() == content
        if os.getuid() == 0:  # readable, and not to be written
            done = driver.run(folder, settings=SHORT, is_nobody=True)
            assert (done.code, "readonly" in done.said) == (3, True), done.said
            assert (folder / "replay.db").read_bytes() == content


@pytest.mark.parametrize("left", ["-wal", "-journal"])
def test_journal_of_a_database_that_is_gone_is_not_played_into_a_new_one(tmp_path, left):
    """F11: SQLite would do just that."""
    file = replay_file(tmp_path)
    journal = file.storage.with_name(f"replay.db{left}")
    journal.write_bytes(b"what it wrote last")
    done = CliRunner().invoke(cli.app, ["run", str(file.path)])
    assert (done.exit_code, f"replay.db{left}, which belongs to it, is there" in done.stderr) == (3, True)
    assert sorted(tmp_path.iterdir()) == [journal, file.path]


def test_transaction_that_a_kill_cut_in_half_is_undone_at_the_next_start(driver, undisturbed, tmp_path):
    """F3: a hot journal, which a connection that can't write refuses."""
    assert driver.run(tmp_path, settings=SHORT).code == 0
    database = tmp_path / "replay.db"
    code = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute('PRAGMA cache_size = 1'); c.execute('BEGIN'); c.execute(\"UPDATE manyfit_epochs SET metrics = metrics || ' '\")\n"
        "c.execute(\"UPDATE trial_params SET distribution_json = ''\"); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(database)])
    assert (tmp_path / "replay.db-journal").stat().st_size
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection, pytest.raises(sqlite3.Error):
        connection.execute("SELECT * FROM trials")
    assert CliRunner().invoke(cli.app, ["verify", str(database)]).exit_code == 0
    assert driver.run(tmp_path, settings=SHORT).code == 0
    assert table(database, "replay") == undisturbed


# -- F12: held by another coordinator ------------------------------------------------------------------------------------


def test_second_coordinator_is_refused_at_once_and_told_who_is_there(driver, undisturbed, tmp_path):
    """F12."""
    pid = begun(driver, tmp_path)
    manyfit("--version")  # the first command waits for the server that forks it
    arguments = ["--set", "study.trials=6", "--set", "study.epochs=3"]
    for command in (["run", tmp_path / "replay.toml", *arguments], ["verify", tmp_path / "replay.toml", "--restore"]):
        began = time.monotonic()
        second = manyfit(*command)
        assert time.monotonic() - began < 2 * (os.getloadavg()[0] / os.cpu_count() + 1)
        assert second.returncode == 3
        assert f"process {pid} on {socket.gethostname()} works on it" in second.stderr
    assert manyfit("verify", tmp_path / "replay.toml").returncode == 0  # reading is allowed meanwhile
    os.kill(pid, signal.SIGKILL)
    assert driver.wait(pid).code == -9
    assert driver.run(tmp_path, settings=SHORT).code == 0
    assert table(tmp_path / "replay.db", "replay") == undisturbed


# -- released formats ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("database", sorted(ASSETS.glob("format-*.db")), ids=lambda path: path.stem)
def test_database_of_a_released_format_is_shown_exported_verified_and_continued(tmp_path, database):
    """A study of 4 of 6 trials as a release wrote it. Made, for a new format, in the root of the project by

    PYTHONPATH=.:tests python tests/assets/make_format.py
    """
    shutil.copy(database, tmp_path / "replay.db")
    before = table(tmp_path / "replay.db", "replay")
    assert len(before) == 4
    for command in (["show"], ["show", "--json"], ["export"], ["export", "--csv"], ["verify"], ["list"]):
        done = CliRunner().invoke(cli.app, [command[0], str(tmp_path / "replay.db"), *command[1:]])
        assert done.exit_code == 0, done.output
        assert "replay" in done.stdout or "--csv" in command
    best = json.loads(CliRunner().invoke(cli.app, ["export", str(tmp_path / "replay.db"), "--top", "1"]).stdout)
    assert best["configs"][0]["value"] == min(value for *_, value, _, _ in before if value is not None)
    stored = replay(replay_file(tmp_path, **SHORT))
    assert table(tmp_path / "replay.db", "replay")[:4] == before
    assert [trial.number for trial in stored.trials] == list(range(6))


def test_newest_format_has_its_asset():
    from search.storage.schema import FORMAT

    assert (ASSETS / f"format-{FORMAT}.db").exists()
    assert query(ASSETS / f"format-{FORMAT}.db", "SELECT format FROM manyfit_studies") == [(FORMAT,)]
