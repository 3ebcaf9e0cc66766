"""What models print and raise has bounds, and how long a worker may stand still follows from what its epochs take."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import psutil
import pytest
from support import PROGRAMS, wait_for

from search.engines import failures
from search.trials.events import Assignment, Member
from search.workers import descendants, output, pace
from search.workers.pace import OVERDUE_FACTOR, OVERDUE_SLACK_S, Pace

# -- what is printed ---------------------------------------------------------------------------------------------------------


def read(*parts: bytes) -> list[str]:
    ours, theirs = os.pipe()

    def write() -> None:
        for part in parts:
            with memoryview(part) as rest:
                sent = 0
                while sent < len(rest):
                    sent += os.write(theirs, rest[sent:])
        os.close(theirs)

    threading.Thread(target=write).start()
    try:
        return list(output.lines(ours))
    finally:
        os.close(ours)


def test_lines_are_kept_as_they_were_printed():
    assert read(b"one\ntwo \n\nthree") == ["one", "two", "", "three"]
    assert read("ein Stück\n".encode()[:6], "ein Stück\n".encode()[6:]) == ["ein Stück"]
    assert read(b"\xff\n") == ["\ufffd"]
    assert read(b"") == []
    assert read(*[b"a", b"b\nc", b"\n"] * 3) == ["ab", "c"] * 3


@pytest.mark.parametrize("parts", [[b"x" * 30_000_000], [b"x" * 7] * 10_000, [b"\r50 %" * 100_000, b"\nend\n"]])
def test_output_without_newlines_is_cut_and_the_rest_counted(parts):
    """F16: 12 x 20 MB took 1.47 GB of the coordinator's memory."""
    (first, *others) = read(*parts)
    assert len(first) < output.MAX_LINE_BYTES + 50
    assert f"({sum(map(len, parts)) - output.MAX_LINE_BYTES - (5 if others else 0):,} more bytes)" in first
    assert others == (["end"] if len(parts) == 2 else [])


# -- what is raised ----------------------------------------------------------------------------------------------------------


class Silent(BaseException):
    def __str__(self) -> str:
        raise SystemExit(3)


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x" * 30_000_000),
        ValueError("x\n" * 15_000_000),
        KeyError("x" * 1_000_000),
        type("E" * 100_000, (Exception,), {})("y" * 100_000),
        ExceptionGroup("g" * 100_000, [ValueError("x" * 100_000)] * 3),
        Silent(),
        SystemExit("x" * 1_000_000),
    ],
    ids=lambda error: type(error).__name__[:20],
)
def test_exception_of_any_size_is_kept_in_part(error):
    """F16: 30 MB were printed and stored."""
    if isinstance(error, ValueError):
        error.add_note("n" * 1_000_000)
    caught = raised(error)
    assert len(failures.one_line(caught)) <= failures.MOST_WORDS
    assert "\n" not in failures.one_line(caught)
    shown = failures.trace(caught)
    assert len(shown) <= failures.MOST_TRACE + 100
    assert "in raised" in shown


def test_short_texts_stay_as_they_are():
    for text in ("", "a\nb\n", "x" * failures.MOST_LINE, "x\n" * 5000):
        assert failures.shortened(text) == text
    assert failures.one_line(raised(ValueError("plain\nsecond"))) == "ValueError: plain"
    in_a_layer = "Exception encountered when calling LSTM.call().\n\n\x1b[1mplain\nsecond\x1b[0m\n\nArguments received by LSTM.call():\n"
    assert failures.one_line(raised(ValueError(in_a_layer))) == "ValueError: plain (in LSTM.call())"
    assert failures.trace(raised(ValueError("plain"))).endswith("ValueError: plain\n")
    long = failures.shortened("first " + "x" * 10_000 + " last\nnext")
    assert long.startswith("first ")
    assert long.endswith(" last\nnext")
    assert "characters left out" in long


# -- how long a tick may take --------------------------------------------------------------------------------------------------


def members(count: int, limit_s: float | None = 60.0, done: int = 0) -> list[Assignment]:
    return [Assignment(Member(n), {}, 10, n, limit_s=limit_s, done=done) for n in range(count)]


@pytest.mark.parametrize("count", [1, 2, 8, 32])
def test_deadline_of_a_tick_does_not_grow_with_the_number_of_lanes(count):
    """F5: of 32 lanes with a limit of 60 s, one that hung was noticed after 64 minutes."""
    worker = Pace(programs=1)
    worker.begin_tick(members(count))
    assert worker.deadline_s(members(count), start_s=10, programs=1) == OVERDUE_FACTOR * 60 + OVERDUE_SLACK_S + 10
    worker.end_tick(0.5)
    worker.begin_tick(members(count))
    assert worker.deadline_s(members(count), start_s=10, programs=1) <= 2 * 60.5 + 20
    worker.seconds = {Member(n): 55.0 for n in range(count)}
    assert worker.deadline_s(members(count), start_s=10, programs=1) == 2 * 5.5 + 10 + 10


def test_deadline_follows_from_what_epochs_take_and_from_the_largest_limit_left():
    worker = Pace()
    worker.begin_tick(members(32))
    worker.end_tick(300)
    worker.begin_tick(members(32))
    # An epoch of this worker is known to take minutes, and is no hang.
    assert worker.deadline_s(members(32), start_s=10, programs=1) > 2 * 300
    worker.seconds = {Member(n): 60.0 for n in range(31)}
    assert worker.deadline_s(members(32), start_s=0, programs=0) == 2 * (60 + 300) + 10
    assert worker.deadline_s(members(3, None), start_s=10, programs=1) is None
    # More members than were in it before take more.
    worker = Pace()
    worker.begin_tick(members(2))
    worker.end_tick(10)
    worker.begin_tick(members(8))
    assert worker.deadline_s(members(8), start_s=0, programs=0) == 2 * (60 + 40) + 10
    # Old ticks are forgotten.
    for _ in range(16):
        worker.end_tick(1)
    assert worker.deadline_s(members(8), start_s=0, programs=0) == 2 * (60 + 1) + 10


def test_deadline_leaves_time_to_compile_and_to_compute_again():
    worker = Pace()
    worker.begin_tick(members(8))
    assert worker.deadline_s(members(8), start_s=10, programs=5) == 2 * 60 + 10 + 10 * (1 + 5)
    worker.programs = 5
    assert worker.deadline_s(members(8), start_s=10, programs=5) == 2 * 60 + 10 + 10
    again = Pace()
    again.begin_tick(members(8, done=100))
    assert again.deadline_s(members(8), start_s=0, programs=0) == 2 * 8 * 60 + 10
    again.ticks.append((0.5, 8))
    assert again.deadline_s(members(8), start_s=0, programs=0) == 2 * (60 + 0.5 * 101) + 10
    again.end_tick(200)  # a tick that computed 100 epochs again says nothing of one
    assert list(again.for_successor().ticks) == [(0.5, 8)]
    assert pace.OVERDUE_SLACK_S == 10


# -- what a worker starts ------------------------------------------------------------------------------------------------------

WORKER = PROGRAMS / "start_processes.py"


def test_all_that_a_worker_has_started_ends_with_it():
    """F2: what has a session of its own outlived it; daemons and those without their environment are its, too."""
    process = subprocess.Popen(
        [sys.executable, WORKER],
        env={**os.environ, descendants.TAG: "this one"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    other = subprocess.Popen(["sleep", "600"], env={**os.environ, descendants.TAG: "another"})
    pids = [int(pid) for pid in (process.stdout.readline() + process.stdout.readline()).split()]
    assert len(pids) == 4
    try:
        known = descendants.find(process.pid)
        process.kill()
        process.wait()
        descendants.kill("this one", known)
        wait_for(lambda: not any(map(is_running, pids)), "their end", timeout=5)
        assert other.poll() is None
    finally:
        for pid in filter(is_running, pids):
            os.kill(pid, 9)
        other.kill()
        other.wait()
        process.communicate()


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
