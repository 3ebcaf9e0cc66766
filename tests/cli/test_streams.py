"""Showing never stops searching: streams that are closed, full, gone, stuck or of another encoding, and logs that can't be."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import MANYFIT, PROGRAMS, SMALL, query, replay, replay_file, wait_for, write_study

from search import log as logs
from search.log import StudyLog

# Where a machine has no such device, or something has put a plain file in its place.
needs_full = pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="/dev/full is no device here")

SHELL = {**os.environ, "MANYFIT": " ".join(f"'{word}'" for word in MANYFIT)}


def shell(command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line of shell in which manyfit is $MANYFIT; the exit code is that of manyfit."""
    line = f'set -o pipefail; m() {{ {SHELL["MANYFIT"]} "$@"; }}; {command}'
    env = {**os.environ, **environment}
    return subprocess.run(
        ["bash", "-c", line], cwd=folder, capture_output=True, timeout=200, env=env, encoding="utf-8", errors="replace"
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished study, with which `run` ends at once."""
    folder = tmp_path_factory.mktemp("finished")
    replay(replay_file(folder))
    return folder


@pytest.mark.gallery
@pytest.mark.slow
def test_search_whose_reader_goes_away_trains_all_its_trials(tmp_path):
    """F15: `manyfit run x.toml 2>&1 | head -1` ended with exit 1 and no word."""
    path = write_study(tmp_path, SMALL, trials=6, epochs=3)
    done = shell(f"m run {path} --set run.engine=lanes --set run.lanes=1 2>&1 | head -1", tmp_path)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 1
    states = query(path.with_suffix(".db"), "SELECT state FROM trials")
    assert len(states) == 6
    assert {state for (state,) in states} <= {"COMPLETE", "PRUNED"}
    assert json.loads(path.with_name("small.best.json").read_text())["configs"]


@pytest.mark.parametrize(
    "how",
    [
        ">&-",
        "2>&-",
        ">&- 2>&-",
        "<&- >&- 2>&-",
        pytest.param(">/dev/full", marks=needs_full),
        pytest.param("2>/dev/full", marks=needs_full),
        pytest.param(">/dev/full 2>&1", marks=needs_full),
        "2>&1 | true",
        "| true",
    ],
)
def test_run_ends_with_its_own_exit_code_wherever_its_words_go(finished, how):
    """F15."""
    done = shell(f"m run replay.toml {how}", finished)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
    if how in (">&-", ">/dev/full"):
        assert "stdout can't be written" in done.stderr
        assert "is in replay.best.json only" in done.stderr
    if how == "2>&-":
        assert json.loads(done.stdout)["trial"] >= 0, "progress went to stdout"


@needs_full
@pytest.mark.parametrize("command", ["show", "export", "export --csv", "list ."])
def test_what_was_asked_for_and_can_not_be_written_is_an_error(finished, command):
    """F15: an export to a full disk must not look like one."""
    target = "" if command.startswith("list") else "replay.toml"
    done = shell(f"m {command} {target} >/dev/full", finished)
    assert (done.returncode, "No space left on device" in done.stderr) == (1, True), done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert shell(f"m {command} {target} | head -1", finished).returncode == 0


@pytest.mark.parametrize(
    "encoding",
    ["ascii:strict", *(pytest.param(code, marks=pytest.mark.gallery) for code in ("ascii", "latin-1", "utf-8"))],
)
def test_letters_that_a_terminal_has_not_stop_nothing(finished, encoding):
    """F15."""
    for command in ("show", "run", "list ."):
        done = shell(f"m {command} {'' if 'list' in command else 'replay.toml'}", finished, PYTHONIOENCODING=encoding)
        assert done.returncode == 0, done.stderr
        assert "Encode" not in done.stderr


def test_nothing_of_a_command_lands_in_a_file_that_took_the_number_of_a_closed_stream(finished):
    """F15: the database would be opened as descriptor 2, and each line for people written into it."""
    before = query(finished / "replay.db", "SELECT count(*) FROM trials")
    for closed in ("2>&-", ">&- 2>&-", "<&- 2>&-"):
        assert shell(f"m run replay.toml --quiet {closed}", finished).returncode == 0
        assert shell(f"m run nowhere.toml {closed}", finished).returncode == 2
    assert query(finished / "replay.db", "SELECT count(*) FROM trials") == before
    assert shell("m verify replay.toml", finished).returncode == 0


WRITER = PROGRAMS / "write_progress.py"


@pytest.mark.parametrize("how", ["stands still", "reads later"])
def test_reader_that_stands_still_holds_up_no_progress(how):
    """F15: a pager that is not scrolled, a terminal after Ctrl-S."""
    process = subprocess.Popen([sys.executable, WRITER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "done\n", process.stderr.read()
    process.wait(timeout=30)
    shown = process.stderr.read()
    assert shown.startswith("progress that nobody reads, line 0\n")
    assert len(shown) < 200_000


def test_terminal_that_goes_away_ends_the_search_cleanly(driver_process, tmp_path):
    """F15: SIGHUP ends it as SIGTERM does, with all stored."""
    pid = driver_process.start(tmp_path, settings={"study__trials": 30, "study__epochs": 3}, epoch_s=0.1)
    wait_for(lambda: query(tmp_path / "replay.db", "SELECT 1 FROM trials WHERE state = 'COMPLETE'"), "a trial")
    os.kill(pid, signal.SIGHUP)
    done = driver_process.wait(pid)
    assert (done.code, "the same command goes on" in done.said) == (129, True), done.said
    assert query(tmp_path / "replay.db", "SELECT 1 FROM trials WHERE state = 'RUNNING'") == []


@pytest.fixture
def driver_process():
    from driving import Driver

    with Driver() as driver:
        yield driver


# -- the log ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [pytest.param("full", marks=needs_full), "folder", "no folder"])
def test_log_that_can_not_be_written_stops_nothing(tmp_path, kind):
    """F15."""
    path = tmp_path / ("nowhere/a.log" if kind == "no folder" else "a.log")
    if kind == "full":
        path.symlink_to("/dev/full")
    elif kind == "folder":
        path.mkdir()
    log = StudyLog()
    log.write("before")
    log.open(path, "begins")
    for _ in range(10):
        log.write("after")
    log.close()
    log.write("later")


def test_log_keeps_to_its_size_and_has_the_newest_lines(tmp_path, monkeypatch):
    """F15."""
    monkeypatch.setattr(logs, "MAX_BYTES", 100_000)
    monkeypatch.setattr(logs, "MAX_KEPT_BYTES", 10_000)
    log = StudyLog()
    for number in range(10_000):
        log.write(f"before {number}")
    path = tmp_path / "a.log"
    log.open(path, "begins")
    begins = path.read_text().splitlines()
    assert begins[0].endswith("earlier lines are left out")
    assert begins[-2].endswith("before 9999")
    assert begins[-1].endswith("begins")
    assert path.stat().st_size < 11_000
    for number in range(20_000):
        log.write(f"after {number}")
    log.close()
    assert sorted(found.name for found in tmp_path.iterdir()) == ["a.log", "a.log.1"]
    assert all(found.stat().st_size <= 100_000 for found in tmp_path.iterdir())
    numbers = [int(line.split()[-1]) for line in (tmp_path / "a.log.1").read_text().splitlines()]
    numbers += [int(line.split()[-1]) for line in path.read_text().splitlines()]
    assert numbers == list(range(numbers[0], 20_000))
