"""Databases that change under a command: renamed, deleted, replaced, overwritten, linked, unlocked (F11, F12)."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from support import query, table, wait_for

from search.storage import records
from search.storage.verify import verify

LONG = {"study__trials": 16, "study__epochs": 3}


@pytest.fixture(scope="module")
def undisturbed(driver, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    assert driver.run(folder, settings=LONG).code == 0
    return folder


def begun(driver, folder: Path, **options) -> int:
    """Start a slow search, wait until three trials have ended and return its pid."""
    pid = driver.start(folder, settings=LONG, epoch_s=0.1, **options)
    ended = "SELECT count(*) FROM trials WHERE state IN ('COMPLETE', 'PRUNED')"
    wait_for(lambda: query(folder / "replay.db", ended)[0][0] >= 3, "three trials")
    return pid


def check_goes_on(driver, folder: Path, undisturbed: Path) -> None:
    """The same command ends the study, which comes out as if nothing had happened."""
    assert driver.run(folder, settings=LONG).code == 0
    assert table(folder / "replay.db", "replay") == table(undisturbed / "replay.db", "replay")
    assert verify(folder / "replay.db").problems == []


def rescued(folder: Path, said: str) -> Path:
    name = re.search(r"all trials so far are saved in (\S+);", said)[1]
    assert f"move that to {folder.name}" in said or "move that to replay.db" in said
    return folder / name


def ended_in(database: Path) -> int:
    return sum(trial.is_ended for trial in records.load(database, "replay").trials)


def test_renamed_database_ends_the_search_with_its_new_name(driver, undisturbed, tmp_path):
    """F11."""
    pid = begun(driver, tmp_path)
    (tmp_path / "replay.db").rename(tmp_path / "elsewhere.db")
    done = driver.wait(pid)
    assert done.code == 3, done.said
    assert f"was renamed to {tmp_path / 'elsewhere.db'} while" in done.said
    assert "move it back and repeat the command" in done.said
    assert len(done.said.splitlines()) == 1
    assert verify(tmp_path / "elsewhere.db").problems == []
    (tmp_path / "elsewhere.db").rename(tmp_path / "replay.db")
    assert ended_in(tmp_path / "replay.db") >= 3
    check_goes_on(driver, tmp_path, undisturbed)


def test_renamed_folder_ends_the_search_with_its_new_name(driver, undisturbed, tmp_path):
    """F11."""
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    pid = begun(driver, before)
    before.rename(after)
    done = driver.wait(pid)
    assert (done.code, f"was renamed to {after / 'replay.db'}" in done.said) == (3, True), done.said
    after.rename(before)
    check_goes_on(driver, before, undisturbed)


@pytest.mark.parametrize(
    "what",
    [
        "replaced",
        *(pytest.param(what, marks=pytest.mark.faults) for what in ("the database", "all of it", "replaced by a link")),
    ],
)
def test_deleted_or_replaced_database_is_saved_and_goes_on_when_it_is_moved_back(driver, undisturbed, tmp_path, what):
    """F11: its file has no name any more, and would be gone with the process."""
    pid = begun(driver, tmp_path)
    stored = ended_in(tmp_path / "replay.db")
    other = tmp_path / "other.db"
    shutil.copy(undisturbed / "replay.db", other)
    content = other.read_bytes()
    if what == "replaced":
        other.rename(tmp_path / "replay.db")
    elif what == "replaced by a link":
        (tmp_path / "link").symlink_to(other)
        (tmp_path / "link").rename(tmp_path / "replay.db")
    else:
        for path in tmp_path.glob("replay.db*" if what == "all of it" else "replay.db"):
            path.unlink()
    done = driver.wait(pid)
    assert done.code == 3, done.said
    assert ("was replaced by another file" if "replaced" in what else "was deleted") in done.said
    if "replaced" in what:
        assert (tmp_path / "replay.db").read_bytes() == content
    saved = rescued(tmp_path, done.said)
    assert ended_in(saved) >= stored
    (tmp_path / "replay.db").unlink(missing_ok=True)
    saved.rename(tmp_path / "replay.db")
    check_goes_on(driver, tmp_path, undisturbed)


def _cut(path: Path, undisturbed: Path) -> None:
    os.truncate(path, 0)


def _halve(path: Path, undisturbed: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _copy_another(path: Path, undisturbed: Path) -> None:
    with path.open("r+b") as file:  # as `cp` does, which keeps the file and changes what is in it
        file.truncate()
        file.write(undisturbed.joinpath("replay.db").read_bytes())


def _copy_text(path: Path, undisturbed: Path) -> None:
    path.write_text("trials: 20\n" * 5000)


def _copy_backup(path: Path, undisturbed: Path) -> None:
    with path.open("r+b") as file:
        file.truncate()
        file.write(path.with_name("replay.db.before").read_bytes())


@pytest.mark.parametrize(
    "how",
    [_cut, *(pytest.param(how, marks=pytest.mark.faults) for how in (_halve, _copy_another, _copy_text, _copy_backup))],
)
def test_database_that_is_overwritten_ends_the_search_and_the_backup_comes_back(driver, undisturbed, tmp_path, how):
    """F11: the file is the same one, and its content is not."""
    folder = tmp_path / "study"
    folder.mkdir()
    assert driver.run(folder, settings={**LONG, "study__trials": 2}).code == 0
    shutil.copy(folder / "replay.db", folder / "replay.db.before")
    pid = begun(driver, folder, backup_every_s=1000)
    how(folder / "replay.db", undisturbed)
    done = driver.wait(pid)
    assert "Traceback" not in done.said
    if how is _copy_backup and done.code == 0:
        # What was copied is what was there: all that is newer is in the journal.
        check_goes_on(driver, folder, undisturbed)
        return
    assert done.code == 3, done.said
    assert "--restore" in done.said or "begins the study anew" in done.said
    left = verify(folder / "replay.db")
    if left.problems:
        assert driver.run(folder, "restore").code == 0
    check_goes_on(driver, folder, undisturbed)


def test_permissions_that_are_taken_away_end_nothing_and_lose_nothing(driver, undisturbed, tmp_path):
    """F11: the file is open."""
    pid = begun(driver, tmp_path)
    (tmp_path / "replay.db").chmod(0)
    done = driver.wait(pid)
    (tmp_path / "replay.db").chmod(0o644)
    assert done.code in (0, 3), done.said
    check_goes_on(driver, tmp_path, undisturbed)


# -- F12: one writer, whatever the name ------------------------------------------------------------------------------------

OPEN = (
    "import sys; from pathlib import Path; from search.storage.store import Store\n"
    "try: Store.open(Path(sys.argv[1]), 'replay').close()\n"
    "except Exception as error: print(error); sys.exit(getattr(error, 'exit_code', 1))"
)


def second(database: Path) -> tuple[int, str]:
    done = subprocess.run([sys.executable, "-c", OPEN, str(database)], capture_output=True, text=True)
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    "how",
    [
        "hard link",
        *(
            pytest.param(how, marks=pytest.mark.faults)
            for how in ("link to the folder", "hard link elsewhere", "lock deleted", "lock replaced")
        ),
    ],
)
def test_second_writer_of_the_same_file_is_refused_under_any_name(driver, undisturbed, tmp_path, how):
    """F12: by another name of the file, or without the lock's file, two searches went on and one was lost."""
    folder = tmp_path / "study"
    folder.mkdir()
    pid = begun(driver, folder)
    database = folder / "replay.db"
    if how == "hard link":
        (folder / "other.db").hardlink_to(database)
        database = folder / "other.db"
    elif how == "hard link elsewhere":
        (tmp_path / "replay.db").hardlink_to(database)
        database = tmp_path / "replay.db"
    elif how == "link to the folder":
        (tmp_path / "linked").symlink_to(folder)
        database = tmp_path / "linked" / "replay.db"
        (folder / "replay.db.lock").unlink()
    else:
        (folder / "replay.db.lock").unlink()
        if how == "lock replaced":
            (folder / "replay.db.lock").write_text("{}")
    before = {path.name for path in folder.iterdir()}
    # Backups come and go meanwhile.
    code, said = second(database)
    assert code == 3
    if how in ("lock deleted", "lock replaced"):
        assert f"process {pid} on" in said
    elif "hard link" in how:
        assert f"under the name {folder / 'replay.db'}" in said or "holds the newest trials" in said
    made = {path.name for path in folder.glob("[!.]*")} - before
    assert made <= {f"{database.name}.lock", "replay.db.backup"}
    assert driver.wait(pid).code == 0
    assert table(folder / "replay.db", "replay") == table(undisturbed / "replay.db", "replay")
    assert second(database)[0] == 0, "the lock has not ended with its holder"


def test_reading_takes_no_lock_away(driver, undisturbed, tmp_path):
    """F12: closing a file gives up this process's locks on it, so that the store's own reads could unlock it."""
    folder = tmp_path / "study"
    folder.mkdir()
    code = (
        "import sys, time; from pathlib import Path; from search.storage import records; from search.storage.store import Store\n"
        "path = Path(sys.argv[1]); store = Store.open(path, 'replay'); records.load(path, 'replay'); store.check()\n"
        "path.with_name('replay.db.lock').unlink(); print('held', flush=True); sys.stdin.read()"
    )
    shutil.copy(undisturbed / "replay.db", folder / "replay.db")
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(folder / "replay.db")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout.readline() == "held\n"
    assert second(folder / "replay.db")[0] == 3
    with closing(sqlite3.connect(folder / "replay.db", timeout=0)) as other:
        other.execute("SELECT * FROM trials").fetchall()
    assert (folder / "replay.db-wal").exists()
    holder.communicate("")
    assert second(folder / "replay.db")[0] == 0


def test_journal_under_another_name_of_the_file_is_not_left_out(driver, undisturbed, tmp_path):
    """F12: after a kill the newest trials are in the journal, which SQLite looks for under the name that it is given."""
    pid = begun(driver, tmp_path)
    os.kill(pid, 9)
    driver.wait(pid)
    (tmp_path / "other.db").hardlink_to(tmp_path / "replay.db")
    code, said = second(tmp_path / "other.db")
    assert (code, "use the name replay.db" in said) == (3, True)
    check_goes_on(driver, tmp_path, undisturbed)
