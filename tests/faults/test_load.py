"""Many trials: L1 and L2 of what manyfit holds. The replay engine trains them in no time, so that what is left is manyfit's."""

from __future__ import annotations

import time

import psutil
import pytest
from support import manyfit, query, replay, replay_file

from search.core.study import Study
from search.storage import backup, records
from search.storage.store import Store
from search.storage.verify import verify

pytestmark = pytest.mark.faults


def test_thousand_trials_run_once_each_in_bounded_time_and_memory(tmp_path):
    """L1: <= 120 s, and the coordinator grows by <= 50 MB. Sampler and pruner are the defaults."""
    (tmp_path / "warm").mkdir()
    defaults = {"search__sampler": "bayes", "search__pruner": "halving"}
    replay(replay_file(tmp_path / "warm", **defaults))  # imports are not growth
    file = replay_file(tmp_path, study__trials=1000, **defaults)
    process = psutil.Process()
    before, began = process.memory_info().rss, time.monotonic()
    stored = replay(file)
    assert time.monotonic() - began <= 120
    assert process.memory_info().rss - before <= 50 * 2**20
    assert [trial.number for trial in stored.trials] == list(range(1000))
    assert all(trial.is_ended for trial in stored.trials)
    assert query(file.storage, "PRAGMA integrity_check") == [("ok",)]
    assert verify(file.storage).problems == []


@pytest.fixture(scope="module")
def ten_thousand(tmp_path_factory):
    file = replay_file(
        tmp_path_factory.mktemp("big"),
        study__trials=10_000,
        study__epochs=20,
        search__sampler="random",
        search__pruner="none",
    )
    replay(file, lanes=8)
    return file


@pytest.mark.parametrize(
    ("command", "seconds"),
    [(["show"], 10), (["export"], 10), (["export", "--csv"], 10), (["list"], 5), (["verify"], 10)],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_study_of_ten_thousand_trials_is_read_in_seconds(ten_thousand, command, seconds):
    """L2."""
    manyfit("--version")  # the first command waits for the server that forks it
    began = time.monotonic()
    done = manyfit(command[0], ten_thousand.storage, *command[1:])
    assert (done.returncode, time.monotonic() - began <= seconds) == (0, True), done.stderr


@pytest.mark.parametrize("sampler", ["random", "tpe", "qmc", "bayes"])
def test_next_trial_of_ten_thousand_is_drawn_within_a_second(ten_thousand, sampler):
    """L2."""
    more = replay_file(ten_thousand.base, study__trials=10_002, study__epochs=20, search__sampler=sampler)
    study = Study(more, records.load(ten_thousand.storage, "replay").trials)
    study.next_assignment()  # the first one imports
    began = time.monotonic()
    assert study.next_assignment().member.trial == 10_001
    assert time.monotonic() - began <= 1


def test_study_of_ten_thousand_trials_is_opened_and_backed_up_in_seconds(ten_thousand):
    """What the search waits for: the check at the start, and a backup (at most once a minute, a hundredth of the time)."""
    began = time.monotonic()
    with Store.open(ten_thousand.storage, "replay") as store:
        opened = time.monotonic() - began
        assert store.back_up() == ""
        backed_up = time.monotonic() - began - opened
    assert (opened <= 6, backed_up <= 6) == (True, True), (opened, backed_up)
    print(f"opened in {opened:.3f} s, backed up in {backed_up:.3f} s")
    assert len(backup.find(ten_thousand.storage).ended) == 10_000
