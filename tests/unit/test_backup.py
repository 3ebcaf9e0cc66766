"""The backup: when it is written, what it never replaces, and how it comes back."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime

import pytest
from support import curve, cut_off, query, record, replay, replay_file, table
from typer.testing import CliRunner

from search import cli
from search.core.loop import search
from search.core.study import Study
from search.errors import StoreError
from search.storage import backup, checks, connecting, records
from search.storage import store as stores
from search.storage.backup import Backup, Restored
from search.storage.store import Store
from search.storage.verify import Report, verify
from search.views import soundness
from search.workers.inprocess import Replaying


def backed_up(file):
    """Search, and write the backup as a command does at its end."""
    replay(file)
    with Store.open(file.storage, file.name) as store:
        assert store.back_up() == ""
    return file


def run(*arguments):
    return CliRunner().invoke(cli.app, list(map(str, arguments)))


def overwrite(path, at, content):
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)


def test_backup_is_a_database_like_the_one_it_is_of(tmp_path):
    file = backed_up(replay_file(tmp_path))
    copy = tmp_path / "replay.db.backup"
    assert table(copy, "replay") == table(file.storage, "replay")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "replay.db",
        "replay.db.backup",
        "replay.db.lock",
        "replay.toml",
    ]


def test_backup_is_written_while_the_search_goes_on_and_not_more_often_than_it_should(tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "BACKUP_SHARE", 1e9)
    file = replay_file(tmp_path, study__trials=30)
    for every_s, written in ((1000.0, False), (0.0, True)):
        monkeypatch.setattr(stores, "BACKUP_EVERY_S", every_s)
        replay(replay_file(tmp_path, study__trials=15 if every_s else 30))
        assert (tmp_path / "replay.db.backup").exists() == written
    found = backup.find(file.storage)
    assert found is not None
    assert len(found.ended) == 30


@pytest.mark.parametrize(("share", "several"), [(1e-9, False), (1e-6, False), (1e9, True)])
def test_next_backup_waits_for_as_long_as_the_last_one_took(tmp_path, monkeypatch, share, several):
    """The sample: a busy machine took ten times as long as the size of the file says, and backups a tenth of the time."""
    monkeypatch.setattr(stores, "BACKUP_EVERY_S", 0.0)
    monkeypatch.setattr(stores, "BACKUP_BYTES_PER_S", 1e30)
    monkeypatch.setattr(stores, "BACKUP_SHARE", share)
    file, copy, written = replay_file(tmp_path, study__trials=12), tmp_path / "replay.db.backup", set()

    def curves(assignment, epoch):
        if copy.exists():
            written.add(copy.stat().st_mtime_ns)
        return curve(assignment, epoch)

    with Store.create(file, record(file)) as store:
        search(Study(file), store, Replaying(curves), watch=lambda: None)
        assert (len(written) > 1) == several
        assert written
        monkeypatch.setattr(stores, "LAST_BACKUP_S", 0.0)
        before = copy.stat().st_mtime_ns
        store._not_backed_up += 1
        assert store.back_up() == ""
        assert (copy.stat().st_mtime_ns > before) == several


def test_nothing_new_is_not_backed_up_again(tmp_path):
    file = backed_up(replay_file(tmp_path))
    copy = tmp_path / "replay.db.backup"
    os.utime(copy, ns=(copy.stat().st_atime_ns, copy.stat().st_mtime_ns + 1))
    before = copy.stat().st_mtime_ns
    with Store.open(file.storage, "replay") as store:
        assert store.back_up() == ""
    assert copy.stat().st_mtime_ns == before


def test_backup_that_can_not_be_written_is_told_and_the_search_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "BACKUP_EVERY_S", 0.0)
    monkeypatch.setattr(stores, "BACKUP_SHARE", 1e9)
    (tmp_path / ".replay.db.backup.new").mkdir()
    stored = replay(replay_file(tmp_path))
    assert all(trial.is_ended for trial in stored.trials)
    (event,) = [detail for _, kind, detail in stored.events if kind == "backup failed"]
    assert "replay.db.backup can't be written" in event["why"]


def test_damage_that_is_found_by_the_backup_ends_the_search_and_spares_the_backup_before(tmp_path):
    backed_up(replay_file(tmp_path, study__trials=60, search__sampler="random"))
    whole = (tmp_path / "replay.db.backup").read_bytes()
    more = replay_file(tmp_path, study__trials=61, search__sampler="random")
    # By a process of its own: it opens the file beside SQLite.
    code = (
        "import sys; from pathlib import Path; from search.storage.store import Store\n"
        "store = Store.open(Path(sys.argv[1]), 'replay'); store._not_backed_up = 1\n"
        "file = open(sys.argv[1], 'r+b'); file.seek(Path(sys.argv[1]).stat().st_size // 2); file.write(b'\\xff' * 20000); file.flush()\n"
        "store._connection.execute('PRAGMA shrink_memory')\n"
        "try: store.back_up()\n"
        "except Exception as error: print(type(error).__name__, error)\n"
        "print(*(sum(Path(sys.argv[1] + end).read_bytes()) for end in ('', '-wal'))); store.close()"
    )
    done = subprocess.run([sys.executable, "-c", code, str(more.storage)], capture_output=True, text=True)
    assert "DamagedError" in done.stdout, done
    assert "is damaged" in done.stdout
    assert "--restore` brings back its backup" in done.stdout
    assert (tmp_path / "replay.db.backup").read_bytes() == whole
    left = [sum((tmp_path / f"replay.db{end}").read_bytes()) for end in ("", "-wal")]
    assert done.stdout.splitlines()[-1].split() == list(map(str, left)), "closing has written to it"


def test_backup_has_the_epochs_of_trials_under_way(tmp_path):
    """A trial may take hours."""
    file = replay_file(tmp_path, search__pruner="none")
    cut_off(file, after=5)
    with Store.open(file.storage, file.name) as store:
        assert store.back_up() == ""
    held = records.load(tmp_path / "replay.db.backup", "replay").trials
    assert [len(trial.curve) for trial in held] == [5, 5, 5]


def test_damaged_database_is_restored_and_the_study_goes_on_to_the_same_table(tmp_path):
    file = backed_up(replay_file(tmp_path, study__trials=12))
    replay(replay_file(tmp_path))
    expected = table(file.storage, "replay")
    overwrite(file.storage, 0, b"\0" * 100)
    damaged = file.storage.read_bytes()
    refused = run("run", file.path)
    assert refused.exit_code == 3
    assert f"`manyfit verify {file.storage} --restore` brings back its backup" in refused.stderr
    assert run("verify", file.path).exit_code == 3
    done = run("verify", file.path, "--restore")
    assert done.exit_code == 0, done.output
    first, second, third = done.stdout.splitlines()
    assert "is restored: 12 ended trials of 20" in first
    (kept,) = tmp_path.glob("replay.db.damaged-*")
    assert second == f"kept: {kept.name}, as it was"
    assert third == "lost: what had ended since can't be read; `manyfit run` trains it again"
    assert kept.read_bytes() == damaged
    assert table(file.storage, "replay") == expected[:12]
    replay(replay_file(tmp_path))
    assert table(file.storage, "replay") == expected


def test_what_is_lost_is_told_where_the_damaged_database_can_be_read(tmp_path):
    file = backed_up(replay_file(tmp_path, study__trials=12))
    replay(replay_file(tmp_path, study__trials=15))
    with closing(sqlite3.connect(file.storage)) as connection, connection:
        connection.execute("UPDATE trial_values SET value = 7 WHERE trial_id = 1")
    found = json.loads(run("verify", file.path, "--restore", "--json").stdout)
    assert found["restored"]["lost"] == {"replay": [12, 13, 14]}
    assert found["restored"]["trials"] == 12
    assert run("verify", file.path).exit_code == 0


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ([12], "1 trial (replay 12)"),
        ([12, 13, 14], "3 trials (replay 12 to 14)"),
        ([12, 15, 19], "3 trials (replay 12, 15, 19)"),
        ([3, 4, 9, 11, 12], "5 trials (replay 3 to 4, 9, 11 to 12)"),
    ],
)
def test_numbers_of_lost_trials_are_told_as_they_are(tmp_path, lost, said):
    held = Backup(tmp_path / "replay.db.backup", datetime.now(UTC), set())
    restored = Restored(held, None, {("replay", number) for number in lost})
    assert f"lost: {said}; " in soundness.restored_lines(Report(tmp_path / "replay.db"), restored)[-1]


def test_sound_database_is_not_replaced_by_its_backup(tmp_path):
    file = backed_up(replay_file(tmp_path, study__trials=12))
    replay(replay_file(tmp_path))
    done = run("verify", file.path, "--restore")
    assert (done.exit_code, done.stderr) == (0, "nothing to restore\n")
    assert len(records.load(file.storage, "replay").trials) == 20


def test_what_no_backup_mends_leaves_a_sound_database_alone(tmp_path):
    """Damaged weights beside it: 12 trials of the backup are no gain where 20 are there."""
    file = backed_up(replay_file(tmp_path, study__trials=12))
    replay(replay_file(tmp_path))
    weights = tmp_path / "replay.files" / "trial-3.npz"
    weights.parent.mkdir()
    weights.write_bytes(b"no weights")
    done = run("verify", file.path, "--restore")
    assert done.exit_code == 3
    assert "trial-3.npz is damaged" in done.stdout
    assert "its trial's weights are lost" in done.stdout
    assert "nothing that a backup would mend" in done.stderr
    assert "--restore" not in done.output
    assert len(records.load(file.storage, "replay").trials) == 20


def test_locked_database_and_one_of_another_schema_are_not_replaced_by_their_backup(tmp_path, monkeypatch):
    monkeypatch.setattr(connecting, "BUSY_FOR_S", 0.5)
    file = backed_up(replay_file(tmp_path, study__trials=12))
    with closing(sqlite3.connect(file.storage, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        done = run("verify", file.storage, "--restore")
        assert (done.exit_code, "locked" in done.stdout) == (3, True)
        other.execute("ROLLBACK")
        other.execute("UPDATE alembic_version SET version_num = 'v9.9.9.a'")
    done = run("verify", file.storage, "--restore")
    assert (done.exit_code, "run `git pull` in manyfit's folder" in " ".join(done.stdout.split())) == (3, True)
    assert "--restore" not in done.output
    assert not list(tmp_path.glob("*.damaged*"))


DAMAGE = [
    "UPDATE trial_values SET value = 7 WHERE trial_id = 1",
    "DELETE FROM trial_params",
    "DELETE FROM manyfit_epochs WHERE trial_id = 3 AND epoch = 1",
    "UPDATE study_directions SET direction = 'MAXIMIZE'",
]


def change(path, *statements):
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def interrupt_at(connection, words):
    """Let SQLite interrupt the statement that contains `words`."""
    statements = []
    connection.set_trace_callback(statements.append)
    connection.set_progress_handler(lambda: bool(statements) and words in statements[-1], 1)


@pytest.mark.parametrize(
    "words", ["manyfit_studies WHERE study_id", "FROM manyfit_epochs", "FROM trial_values v", "json"]
)
def test_check_of_a_backup_that_can_not_be_completed_is_no_damage(tmp_path, words):
    """The sample: a disk that was full while a copy was checked ended the search, its database being called damaged."""
    file = backed_up(replay_file(tmp_path, study__trials=6))
    before = (tmp_path / "replay.db.backup").read_bytes()
    with closing(connecting.connect(file.storage, readonly=True)) as connection:
        why = backup.make(connection, file.storage, check=lambda copy: interrupt_at(copy, words))
        assert why == f"{tmp_path / 'replay.db.backup'} can't be written: interrupted"
        assert (tmp_path / "replay.db.backup").read_bytes() == before
        assert backup.make(connection, file.storage) == ""


def test_database_that_is_locked_while_its_studies_are_checked_is_not_damaged(tmp_path):
    file = backed_up(replay_file(tmp_path, study__trials=6))
    with closing(connecting.connect(file.storage, readonly=True)) as connection:
        with closing(sqlite3.connect(file.storage, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            for check in (checks.check_study, lambda connection, path, _: checks.check_rows(connection, path)):
                with pytest.raises(sqlite3.OperationalError, match="locked"):
                    check(connection, file.storage, "replay")
        checks.check_rows(connection, file.storage)


def test_little_memory_while_studies_are_checked_is_no_damage(tmp_path):
    file = backed_up(replay_file(tmp_path, study__trials=6))
    # By a process of its own: SQLite's limit is never raised again.
    code = (
        "import sys; from pathlib import Path; from search.storage import backup, checks, connecting\n"
        "path = Path(sys.argv[1]); connection = connecting.connect(path, readonly=True)\n"
        "print(backup.make(connection, path, check=lambda copy: copy.execute('PRAGMA hard_heap_limit = 1')))\n"
        "try: checks.check_study(connection, path, 'replay')\n"
        "except MemoryError: print('MemoryError')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(file.storage)], capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        f"{tmp_path / 'replay.db.backup'} can't be written: there is not enough memory",
        "MemoryError",
    ], done.stderr


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_study_is_refused_and_never_replaces_its_sound_backup(tmp_path, damage):
    file = backed_up(replay_file(tmp_path, study__trials=12))
    expected, copy = table(file.storage, "replay"), (tmp_path / "replay.db.backup").read_bytes()
    change(file.storage, damage)
    damaged = file.storage.read_bytes()
    what = run("verify", file.path).stdout.splitlines()[0]
    for trials in (12, 16):
        done = run("run", file.path, "--trials", trials)
        assert done.exit_code == 3
        assert f"replay.db is damaged: {what}; it was left as it is: `manyfit verify" in done.stderr
    with pytest.raises(StoreError, match="is damaged"):
        Store.create(replay_file(tmp_path, study__name="other"), record(file))
    assert (tmp_path / "replay.db.backup").read_bytes() == copy
    assert file.storage.read_bytes() == damaged
    assert "--restore` brings back its backup: 12 ended trials" in run("verify", file.path).stderr
    assert run("verify", file.path, "--restore").exit_code == 0
    assert verify(file.storage).problems == []
    assert table(file.storage, "replay") == expected


@pytest.mark.parametrize(
    "damage",
    [
        *DAMAGE,
        "CREATE TRIGGER t AFTER INSERT ON manyfit_epochs BEGIN DELETE FROM manyfit_epochs WHERE trial_id = new.trial_id; END",
        "CREATE TRIGGER t AFTER INSERT ON trial_values BEGIN UPDATE trial_values SET value = 7; END",
        "CREATE TRIGGER t AFTER INSERT ON trial_params BEGIN DELETE FROM trial_params WHERE param_name = 'dropout'; END",
    ],
)
def test_damage_while_the_search_goes_on_spares_the_backup_before(tmp_path, damage):
    file = backed_up(replay_file(tmp_path, study__trials=6))
    copy = (tmp_path / "replay.db.backup").read_bytes()

    def curves(assignment, epoch):
        if assignment.member.trial == 8 and epoch == 1:
            change(file.storage, damage)
        return curve(assignment, epoch)

    more = replay_file(tmp_path, study__trials=12)
    with Store.open(file.storage, "replay") as store:
        search(Study.of(store.load(), more), store, Replaying(curves), watch=lambda: None)
        for _ in range(2):
            with pytest.raises(StoreError, match=r"--restore` brings back its backup"):
                store.back_up()
    assert (tmp_path / "replay.db.backup").read_bytes() == copy
    assert run("verify", file.path, "--restore").exit_code == 0
    assert verify(file.storage).problems == []
    assert len(records.load(file.storage, "replay").trials) == 6


@pytest.mark.parametrize("damage", DAMAGE)
def test_backup_that_is_as_wrong_as_its_database_is_not_offered_and_not_brought_back(tmp_path, damage):
    file = backed_up(replay_file(tmp_path, study__trials=12))
    for path in (file.storage, tmp_path / "replay.db.backup"):
        change(path, damage)
    contents = {path: path.read_bytes() for path in tmp_path.glob("replay.db*")}
    what = next(line for line in run("verify", file.path).stdout.splitlines() if line.startswith("replay: "))
    done = run("verify", file.path)
    assert (done.exit_code, "its backup is damaged, too" in done.stderr) == (3, True)
    assert f"its backup: {tmp_path / 'replay.db.backup'} is damaged: {what}" in done.stdout
    refused = run("run", file.path, "--trials", 14)
    assert (refused.exit_code, ", and its backup is damaged, too: bring back" in refused.stderr) == (3, True)
    restored = run("verify", file.path, "--restore")
    assert (restored.exit_code, f"replay.db.backup is damaged: {what}" in restored.stderr) == (3, True)
    for said in (done, refused, restored):
        assert "--restore" not in said.output
    assert {path: path.read_bytes() for path in tmp_path.glob("replay.db*")} == contents
    file.storage.unlink()
    gone = run("show", file.path)
    assert (gone.exit_code, "is gone, and its backup is damaged" in gone.stderr) == (3, True)
    assert "--restore" not in gone.output


def test_sound_backup_is_brought_back_although_weights_beside_it_are_damaged(tmp_path):
    file = backed_up(replay_file(tmp_path, study__trials=12))
    weights = tmp_path / "replay.files" / "trial-3.npz"
    weights.parent.mkdir()
    weights.write_bytes(b"no weights")
    change(file.storage, DAMAGE[0])
    assert "--restore` brings back its backup" in run("verify", file.path).stderr
    assert run("verify", file.path, "--restore").exit_code == 0
    assert [problem.is_damage for problem in verify(file.storage).problems] == [False]


def test_damaged_backup_is_not_brought_back(tmp_path):
    file = backed_up(replay_file(tmp_path))
    copy = tmp_path / "replay.db.backup"
    for path in (file.storage, copy):
        overwrite(path, path.stat().st_size // 2, b"\xff" * (path.stat().st_size // 3))
    contents = {path: path.read_bytes() for path in (file.storage, copy)}
    done = run("verify", file.path, "--restore")
    assert done.exit_code == 3
    assert "replay.db.backup is damaged" in done.stderr
    assert {path: path.read_bytes() for path in (file.storage, copy)} == contents


def test_damaged_backup_of_a_sound_database_is_told(tmp_path):
    file = backed_up(replay_file(tmp_path))
    overwrite(tmp_path / "replay.db.backup", 0, b"\0" * 100)
    done = run("verify", file.path)
    assert done.exit_code == 3
    assert done.stdout.startswith("its backup: ")
    assert "delete replay.db.backup; the next `manyfit run` writes another" in done.stderr
    (tmp_path / "replay.db.backup").unlink()
    assert run("run", file.path).exit_code == 0
    assert run("verify", file.path).exit_code == 0
    found = backup.find(file.storage)
    assert found is not None
    assert len(found.ended) == 20


def test_damaged_backup_of_a_damaged_database_is_no_way_out_and_not_to_be_deleted(tmp_path):
    file = backed_up(replay_file(tmp_path))
    for path in (file.storage, tmp_path / "replay.db.backup"):
        overwrite(path, 0, b"\0" * 100)
    done = run("verify", file.path)
    assert done.exit_code == 3
    assert "its backup is damaged, too" in done.stderr
    assert "delete" not in done.output


def test_restoring_without_a_backup_says_so(tmp_path):
    file = replay_file(tmp_path)
    replay(file)
    overwrite(file.storage, 0, b"\0" * 100)
    done = run("verify", file.path, "--restore")
    assert (done.exit_code, "has no backup" in done.stderr) == (3, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["replay.db", "replay.db.lock", "replay.toml"]


def test_database_that_is_gone_is_not_begun_anew_beside_its_backup(tmp_path):
    file = backed_up(replay_file(tmp_path))
    expected = table(file.storage, "replay")
    file.storage.unlink()
    for command in (["run", file.path], ["show", file.path], ["show", file.storage], ["verify", file.path]):
        done = run(*command)
        assert (done.exit_code, "its backup is there" in done.output) == (3, True), done.output
    with pytest.raises(StoreError, match="its backup is there"):
        replay(file)
    assert not file.storage.exists()
    assert run("verify", file.path, "--restore").exit_code == 0
    assert table(file.storage, "replay") == expected


def test_search_that_is_restored_while_another_runs_is_refused(tmp_path):
    file = backed_up(replay_file(tmp_path))
    overwrite(file.storage, 0, b"\0" * 100)
    code = (
        "import sys, time; from pathlib import Path; from search.storage.store import hold\n"
        "lock = hold(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(file.storage)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    done = run("verify", file.path, "--restore")
    holder.communicate("")
    assert (done.exit_code, f"process {holder.pid} on" in done.stderr) == (3, True)
    assert not list(tmp_path.glob("replay.db.damaged-*"))


def test_search_keeps_its_trials_in_the_backup_of_a_second_study_too(tmp_path):
    file = backed_up(replay_file(tmp_path))
    other = replay_file(tmp_path, study__name="other", study__trials=3)
    with Store.create(other, record(other)) as store:
        search(Study(other), store, Replaying(curve), watch=lambda: None)
        assert store.back_up() == ""
    found = backup.find(file.storage)
    assert found is not None
    assert len(found.ended) == 23
    assert query(found.path, "SELECT count(*) FROM studies") == [(2,)]
