"""Processes killed at random moments and at every single write: F2, F3, F13 of what manyfit survives.

The searches are the replay engine's, in processes of their own (tests/driving.py), but for one: `manyfit run` itself does more
than they do. MANYFIT_TEST_SEED repeats a test of random moments with the seed that it printed.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import tempfile
import time
from contextlib import closing
from pathlib import Path

import pytest
from driving import Driver
from support import MANYFIT, manyfit, query, replay, replay_file, start, table, write_study

from search.storage import connecting, records
from search.storage.verify import verify

SHORT = {"study__trials": 3, "study__epochs": 3}
LONG = {"study__trials": 40}
FIT = ["--set", "run.engine=fit", "--backend", "jax"]


@pytest.fixture
def tmp_path(tmp_path):
    """In memory, where the system has such a place: a kill takes nothing that was written, and waiting for disks is most of it."""
    memory = Path("/dev/shm")  # noqa: S108 (a folder of our own in it)
    if not os.access(memory, os.W_OK) or shutil.disk_usage(memory).free < 2**30:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory, prefix="manyfit-") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def undisturbed(driver, tmp_path_factory):
    """Return the table of a study that nothing disturbs, by its settings."""

    def table_of(settings):
        folder = tmp_path_factory.mktemp("undisturbed")
        assert driver.run(folder, settings=settings).code == 0
        return table(folder / "replay.db", "replay")

    return {"short": table_of(SHORT), "long": table_of(LONG)}


def check_whole(folder: Path, expected: list) -> None:
    """The study is complete and sound, and so is all that stands beside it."""
    assert table(folder / "replay.db", "replay") == expected
    report = verify(folder / "replay.db")
    assert report.problems == []
    assert query(folder / "replay.db", "SELECT count(*) FROM trials WHERE state NOT IN ('COMPLETE', 'PRUNED')") == [
        (0,)
    ]
    assert len(json.loads((folder / "replay.best.json").read_text())["configs"]) > 0
    left = {path.name for path in folder.iterdir() if not path.name.endswith(".partial")}
    assert left == {"replay.toml", "replay.db", "replay.db.backup", "replay.db.lock", "replay.best.json"}


def killed_everywhere(driver: Driver, made: Path, *, until: str = "", **options) -> list[tuple[Path, str]]:
    """Kill a process at each of its write points in turn, each time in a copy of the folder `made`; return where and what it said.

    With `until`, no further than the first point of which it says that.
    """
    places = []
    for point in range(1, 1000):
        folder = made.with_name(f"{made.name}-{point}")
        shutil.copytree(made, folder)
        ended = driver.run(folder, kill_at=point, **options)
        if ended.code == 0:
            return places
        assert (ended.code, ended.said.split()[0]) == (-9, "killed"), ended
        places.append((folder, ended.said))
        if until and until in ended.said:
            return places
    raise AssertionError("no end of write points")


def random_moments(count: int, low: float, high: float) -> list[float]:
    seed = int(os.environ.get("MANYFIT_TEST_SEED", time.time_ns() % 10**9))
    print(f"MANYFIT_TEST_SEED={seed}")
    drawn = random.Random(seed)
    return [drawn.uniform(low, high) for _ in range(count)]


@pytest.mark.faults
def test_search_killed_at_any_write_is_repaired_by_the_next_start(driver, undisturbed, tmp_path):
    """F3: creation, every commit, backup and export, the change of journals at start and end."""
    made = tmp_path / "study"
    made.mkdir()
    places = killed_everywhere(driver, made, settings=SHORT)
    for what in ("own tables", "rename to replay.db\n", "commit", "replay.db.backup", "best.json", "given up"):
        assert any(what in said for _, said in places), what
    for folder, said in places:
        assert driver.run(folder, settings=SHORT).code == 0, said
        check_whole(folder, undisturbed["short"])


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_recovery_killed_at_any_write_is_repaired_by_the_next_start(driver, undisturbed, tmp_path):
    """F3: after a kill at each write of the search, a kill at each write of the same command again."""
    made = tmp_path / "study"
    made.mkdir()
    pairs = 0
    # Of the many commits one is enough, and of each other write its own.
    places = {said: folder for folder, said in killed_everywhere(driver, made, settings=SHORT)}
    for first, folder in places.items():
        # Where no database was left, the study is begun anew: its creation is what is killed again, the rest as ever.
        until = "" if (folder / "replay.db").exists() else "after a commit"
        for again, second in killed_everywhere(driver, folder, until=until, settings=SHORT):
            assert driver.run(again, settings=SHORT).code == 0, (first, second)
            check_whole(again, undisturbed["short"])
            shutil.rmtree(again)
            pairs += 1
    assert pairs > 200


def killed_again_and_again(path: Path, at: str = "", trials: int = 0) -> list[str]:
    """Kill `manyfit run` at its first write from the point `at` on, the next start at its second, and so on; return what they said.

    Each goes on from what the kill before has left. With `trials` each has one more than the one before, so that it trains.
    """
    said = []
    for point in itertools.count(1):
        budget = ["--trials", trials + point] if trials else []
        done = manyfit("run", path, *FIT, *budget, env={"MANYFIT_KILL_AT": f"{at}+{point}"})
        if done.returncode == 0:
            break
        said.append(done.stderr.splitlines()[-1])
        assert (done.returncode, said[-1].split()[0]) == (-signal.SIGKILL, "killed"), done.stderr
    return said


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_command_that_recovers_is_killed_at_any_write_and_the_next_goes_on(tmp_path, request):
    """F3: real commands and real training: first the writes of a start that recovers and searches, then those of its end."""
    for folder in ("disturbed", "undisturbed"):
        (tmp_path / folder).mkdir()
    # More trials than will be wanted: of a search one at a time the table begins like that of a shorter one.
    whole = write_study(tmp_path / "undisturbed", trials=18, epochs=3)
    undisturbed = start("run", whole, *FIT)
    request.addfinalizer(undisturbed.kill)
    path = write_study(tmp_path / "disturbed", trials=3, epochs=3)
    database = path.with_suffix(".db")
    # After the second commit, which is the first of the search and leaves a trial RUNNING.
    assert manyfit("run", path, *FIT, env={"MANYFIT_KILL_AT": "before a commit+4"}).returncode == -signal.SIGKILL
    assert query(database, "SELECT number, state FROM trials") == [(0, "RUNNING")]

    said = killed_again_and_again(path)
    assert sum("commit" in line for line in said) >= 8
    said += killed_again_and_again(path, "before the backup is copied", trials=3)
    for what in ("before the journal is", "after the journal is", "before a commit", "after a commit", "is copied"):
        assert any(what in line for line in said), what
    for name in ("small.db.backup", "small.best.json"):
        for what in (
            "before the fsync of .",
            "before the rename to ",
            "after the rename to ",
            "after the fsync of the folder of ",
        ):
            assert any(f"{what}{name}" in line for line in said), (what, name)
    assert [line for line in said if "given up" in line][-2:] == said[-2:]

    undisturbed.communicate(timeout=200)
    assert undisturbed.returncode == 0
    found = table(database, "small")
    assert 14 <= len(found) <= 18
    assert found == table(whole.with_suffix(".db"), "small")[: len(found)]
    assert verify(database).problems == []
    best = records.load(database, "small").complete[:5]
    assert [config["trial"] for config in json.loads(path.with_name("small.best.json").read_text())["configs"]] == [
        trial.number for trial in best
    ]
    left = {str(file.relative_to(path.parent)) for file in path.parent.rglob("*") if file.suffix != ".partial"}
    kept = {f"small.files/trial-{trial.number}.npz" for trial in best}
    beside = {
        "small.toml",
        "small.db",
        "small.db.backup",
        "small.db.lock",
        "small.best.json",
        "small.log",
        "small.files",
    }
    assert left == beside | kept


def test_restoration_killed_at_any_write_goes_on_when_repeated(driver, undisturbed, tmp_path):
    """F3: --restore over a damaged database with a journal beside it, which must not be played into the restored one."""
    made = tmp_path / "study"
    made.mkdir()
    assert driver.run(made, settings=SHORT).code == 0
    with closing(connecting.connect(made / "replay.db", readonly=False)) as connection:
        connection.execute("UPDATE trials SET state = 'FAIL'")
        damaged = tmp_path / "damaged"
        shutil.copytree(made, damaged)  # with its -wal, as a kill would have left it
    assert (damaged / "replay.db-wal").stat().st_size
    with (damaged / "replay.db").open("r+b") as file:
        file.write(b"no header at all")
    places = killed_everywhere(driver, damaged, action="restore")
    assert len(places) >= 8
    for folder, said in places:
        is_there = (folder / "replay.db").exists() and (folder / "replay.db").read_bytes()[:6] == b"SQLite"
        assert driver.run(folder, settings=SHORT).code == (0 if is_there else 3), said  # and never a new study
        assert driver.run(folder, "restore").code == 0, said
        assert driver.run(folder, settings=SHORT).code == 0, said
        (kept,) = folder.glob("replay.db.damaged-*Z")
        assert kept.read_bytes()[:16] == b"no header at all"
        assert kept.with_name(f"{kept.name}-wal").stat().st_size
        for path in folder.glob("replay.db.damaged-*"):
            path.unlink()
        check_whole(folder, undisturbed["short"])


@pytest.mark.faults
def test_twenty_random_kills_of_the_coordinator_lose_and_repeat_nothing(driver, undisturbed, tmp_path):
    """F2."""
    ended, kills = 0, 0
    for seconds in random_moments(200, 0.05, 0.4):
        done = driver.kill_after(seconds, tmp_path, settings=LONG, epoch_s=0.02)
        kills += done.code == -9
        if (tmp_path / "replay.db").exists():
            trials = query(tmp_path / "replay.db", "SELECT number, state FROM trials ORDER BY number")
            assert [number for number, _ in trials] == list(range(len(trials)))
            now = sum(state in ("COMPLETE", "PRUNED") for _, state in trials)
            assert now >= ended
            ended = now
        if kills == 20 or done.code == 0:
            break
    assert kills == 20
    assert driver.run(tmp_path, settings=LONG).code == 0
    check_whole(tmp_path, undisturbed["long"])


@pytest.mark.faults
def test_export_killed_at_random_moments_leaves_the_old_file_or_the_new(driver, tmp_path):
    """F13: 50 kills of a process that writes the file over and over, which is where a random moment hits a write."""
    file = replay_file(tmp_path)
    replay(file)
    for seconds in random_moments(50, 0.05, 0.2):
        assert driver.kill_after(seconds, tmp_path, "export").code == -9
        if (tmp_path / "best.json").exists():
            assert json.loads((tmp_path / "best.json").read_text())["configs"]
    assert (tmp_path / "best.json").exists()


@pytest.mark.faults
def test_export_command_killed_at_random_moments_leaves_the_old_file_or_the_new(tmp_path):
    """F13: the real command, 20 times."""
    replay(replay_file(tmp_path))
    for seconds in random_moments(20, 0.2, 1.5):
        process = start("export", tmp_path / "replay.toml", "-o", tmp_path / "best.json")
        time.sleep(seconds)
        process.kill()
        process.communicate()
        if (tmp_path / "best.json").exists():
            assert json.loads((tmp_path / "best.json").read_text())["configs"]


def test_nothing_is_killed_without_the_variable(tmp_path):
    """F3: the write points do nothing for anybody but tests."""
    assert "MANYFIT_KILL_AT" not in os.environ
    assert MANYFIT
    stored = replay(replay_file(tmp_path, **SHORT))
    assert len(stored.trials) == 3


def test_opening_again_and_again_changes_nothing(driver, tmp_path):
    """F3: recovery is idempotent: a finished study comes out the same however often the command is repeated."""
    assert driver.run(tmp_path, settings=SHORT).code == 0
    before = records.load(tmp_path / "replay.db", "replay")
    for _ in range(3):
        assert driver.run(tmp_path, settings=SHORT).code == 0
    after = records.load(tmp_path / "replay.db", "replay")
    assert (after.trials, after.events, after.ended) == (before.trials, before.events, before.ended)
