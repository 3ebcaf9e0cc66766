"""What becomes of members whose workers die, hang, grow or refuse: workers in memory, and a clock that tests set."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from support import curve, record, replay_file, training

from search.core import loop
from search.engines.devices import Device
from search.errors import DataError, ManyfitError, UsageError
from search.log import StudyLog
from search.sessions.startup import start_ready
from search.spec.ready import Ready
from search.spec.settings import Settings
from search.storage.memory import MemoryStorage
from search.trials.events import Assignment, EpochEnd, Failed, Lost, Member, Noted, Overdue, Spent, Verdict
from search.workers.messages import Go, Inspecting, Keep, Refused, Saved, WorkerSpec
from search.workers.pool import (
    BUSY_RENEWAL,
    GROWTH_BYTES,
    KEEP_INTERRUPTED_S,
    KEEP_S,
    WorkerLimits,
    WorkerPool,
)
from search.workers.transport import Gone

READY = Ready({"train_rows": 3}, "data", "source")
SPEC = WorkerSpec(
    settings=Settings.model_validate({"data": {"source": "digits"}}),
    base="", fixed={}, engines=("fit",), why="", lanes={}, structures=(), database="a.db", name="a", number=0, workers=1, checks=False, use="study",
)  # fmt: skip


class Link:
    """A worker in memory: trains members by `curve`, unless its fate says otherwise.

    `fates` are asked for every tick: they may raise Gone, or return what is sent instead of epochs (None: nothing, ever).
    """

    def __init__(self, office: Office, spec: WorkerSpec) -> None:
        self.office, self.spec = office, spec
        self.told: list[Any] = []
        self.out: deque[Any] = deque()
        self.members: dict[Member, tuple[Assignment, int]] = {}
        self.is_running, self.is_ended, self.memory = True, False, 10**9
        self.death, self.last_words = "was ended by SIGKILL", "its last words"
        self.ticks = 0

    def send(self, messages: Any) -> None:
        self.told += messages
        for message in messages:
            if isinstance(message, Assignment):
                self.members[message.member] = (message, message.done)
            elif isinstance(message, Verdict) and message.ends:
                self.members.pop(message.member, None)
            elif isinstance(message, Keep):
                self.out.extend(self.office.kept(self))
            elif isinstance(message, Go):
                self.ticks += 1
                self.out.extend(self.office.tick(self))

    def epochs(self) -> list[Any]:
        events: list[Any] = []
        for member, (assignment, epoch) in sorted(self.members.items())[: self.office.ready.places]:
            self.members[member] = (assignment, epoch + 1)
            events.append(EpochEnd(member, epoch + 1, curve(assignment, epoch + 1), 1.0))
        return [[*events, Spent({"train": 1.0}), Saved(self.office.is_saved)]]

    def receive(self) -> Any:
        message = self.out.popleft()
        if message is Gone:
            raise Gone
        return message

    def has_sent(self, *, within_s: float = 0.0) -> bool:
        if not self.out:
            self.office.now += within_s
        return bool(self.out)

    def kill(self) -> None:
        self.out.append(Gone)

    def end(self) -> None:
        self.is_ended = True


class Office:
    """A transport of workers in memory, and the clock."""

    def __init__(self, ready: Ready = READY) -> None:
        self.now, self.ready, self.is_saved = 0.0, ready, True
        self.links: list[Link] = []
        self.pools: list[WorkerPool] = []
        self.begin: Callable[[Link], list[Any]] = lambda link: [[Inspecting()], [self.ready]]
        self.tick: Callable[[Link], list[Any]] = lambda link: link.epochs()
        self.kept: Callable[[Link], list[Any]] = lambda link: [[]]

    def start(self, number: int, device: Device, spec: WorkerSpec) -> Link:
        link = Link(self, spec)
        link.out.extend(self.begin(link))
        self.links.append(link)
        return link

    def wait(self, links: Any, *, for_s: float) -> list[Link]:
        heard = [link for link in links if link.out]
        self.now += 0.0 if heard else for_s
        return heard

    def pool(self, devices: int = 1, spec: WorkerSpec = SPEC, **more: Any) -> WorkerPool:
        pool = WorkerPool(spec, [Device()] * devices, self, StudyLog(), clock=lambda: self.now, **more)
        self.pools.append(pool)
        return pool

    def ready_pool(self, devices: int = 1, **more: Any) -> WorkerPool:
        pool = self.pool(devices, **more)
        pool.wait_until_ready()
        return pool


def given(number: int, **changed: Any) -> Assignment:
    return replace(training(number, learning_rate=0.01, dropout=0.1), **changed)


def until(pool: WorkerPool, kind: type, ticks: int = 10_000) -> list[Any]:
    """Advance until something of a kind happens."""
    for _ in range(ticks):
        if found := [event for event in pool.advance() if isinstance(event, kind)]:
            return found
    raise AssertionError(f"no {kind.__name__}")


IN_FOUR = replace(READY, engine="lanes", lanes={"places": 3, "ahead": 1, "programs": 1})


# -- studies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ready", [READY, IN_FOUR], ids=["fit", "lanes"])
@pytest.mark.parametrize("devices", [1, 3])
def test_study_is_trained_whatever_dies(tmp_path, devices, ready):
    """Every worker is gone at its seventh tick: no trial is lost, none fails, and curves are what they are undisturbed."""
    office = Office(ready)
    office.tick = lambda link: [Gone] if link.ticks == 7 else link.epochs()
    file = replay_file(tmp_path, study__trials=12, search__sampler="random", search__pruner="none")
    found = loop.run(file, record(file), MemoryStorage, office.ready_pool(devices))
    assert [trial.state for trial in found.trials] == ["COMPLETE"] * 12
    for trial in found.trials:
        expected = [
            curve(Assignment(Member(trial.number), trial.config, 9, trial.trainings[0].seed), e) for e in range(1, 10)
        ]
        assert trial.curve == expected
    assert len(office.links) > devices
    assert sum(not link.is_ended for link in office.links) == devices


# -- deaths ------------------------------------------------------------------------------------------------------------


def test_death_blames_nobody_and_tells_who_was_alone():
    office = Office()
    pool = office.ready_pool()
    pool.start(given(0))
    office.tick = lambda link: [Gone]
    assert until(pool, Lost) == [Lost(Member(0), "its worker was ended by SIGKILL", "its last words", alone=True)]
    assert not pool.has_capacity, "the new one is not ready yet"
    assert len(office.links) == 2
    assert office.links[0].is_ended


def test_death_of_several_tells_who_only_waited_for_a_place():
    office = Office(IN_FOUR)
    pool = office.ready_pool()
    for number in range(4):
        pool.start(given(number))
    office.tick = lambda link: [Gone]
    lost = until(pool, Lost)
    assert [(event.member.trial, event.alone, event.trained) for event in lost] == [
        (0, False, True), (1, False, True), (2, False, True), (3, False, False),
    ]  # fmt: skip


def test_worker_whose_channel_stays_open_is_missed_all_the_same():
    office = Office()
    pool = office.ready_pool()
    pool.start(given(0))
    office.tick = lambda link: []
    pool.advance()
    office.links[0].is_running = False
    assert until(pool, Lost, 2)


def test_worker_that_never_starts_ends_the_command_with_its_last_words():
    office = Office()
    office.begin = lambda link: [Gone]
    with pytest.raises(ManyfitError, match="can't start: it was ended by SIGKILL; its last words:\nits last words"):
        office.ready_pool()
    assert len(office.links) == 2


def test_one_failed_start_is_tried_again():
    office = Office()
    office.begin = lambda link: [[READY]] if office.links else [Gone]
    assert office.ready_pool().has_capacity


@pytest.mark.parametrize("devices", [1, 2])
def test_looks_that_kill_workers_come_to_fit(devices):
    office = Office()
    office.begin = lambda link: [[Inspecting()], [READY]] if link.spec.engines == ("fit",) else [Gone]
    start_ready(replace(SPEC, engines=("lanes", "fit")), lambda spec: office.pool(devices, spec=spec))
    assert [link.spec.engines for link in office.links[-devices:]] == [("fit",)] * devices
    assert "workers that looked at the model for them died" in office.links[-1].spec.why


def test_look_without_end_comes_to_fit_after_twice_a_trials_time_and_ten_seconds():
    office = Office()
    office.begin = lambda link: [[Inspecting()], [READY]] if link.spec.engines == ("fit",) else [[Inspecting()]]
    limits = WorkerLimits(trial_s=30.0)
    start_ready(replace(SPEC, engines=("lanes", "fit")), lambda spec: office.pool(spec=spec, limits=limits))
    assert office.now == pytest.approx(70.0, abs=0.3)
    assert "not done after 70 s" in office.links[-1].spec.why


# -- what workers say of themselves ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("is_data", "kind"), [(True, DataError), (False, UsageError)])
def test_refusal_is_the_persons_to_mend(is_data, kind):
    office = Office()
    office.begin = lambda link: [[Refused("no such column", is_data=is_data)]]
    with pytest.raises(kind, match="no such column"):
        office.ready_pool()


@pytest.mark.parametrize(
    ("other", "kind", "words"),
    [
        (replace(READY, fingerprint="others"), UsageError, "the data are not what this command began with"),
        (replace(READY, source="others"), UsageError, "the builder's source is not what this command began with"),
        (IN_FOUR, ManyfitError, "the workers came to different engines: fit and lanes"),
    ],
)
def test_workers_that_differ_train_nothing(other, kind, words):
    office = Office()
    office.begin = lambda link: [[other if office.links else READY]]
    with pytest.raises(kind, match=words):
        office.ready_pool(2)


# -- deadlines ---------------------------------------------------------------------------------------------------------


def test_trial_without_a_limit_is_waited_for():
    office = Office()
    pool = office.ready_pool()
    pool.start(given(0))
    office.tick = lambda link: []
    for _ in range(1000):
        assert list(pool.advance()) == []
    assert office.now > 99


def test_trial_that_hangs_alone_is_overdue_after_twice_its_time_and_ten_seconds():
    office = Office()
    pool = office.ready_pool()
    pool.start(given(0, limit_s=20.0))
    office.tick = lambda link: []
    (event,) = until(pool, Overdue)
    assert event.member == Member(0)
    assert event.seconds == pytest.approx(50.0, abs=0.3)
    assert office.links[0].is_ended


def test_one_of_several_that_hang_is_to_blame_and_none_is_overdue():
    office = Office(IN_FOUR)
    pool = office.ready_pool()
    for number in range(3):
        pool.start(given(number, limit_s=20.0))
    office.tick = lambda link: []
    lost = until(pool, Lost)
    assert [(event.member.trial, event.hung) for event in lost] == [(0, True), (1, True), (2, True)]
    assert office.now == pytest.approx(50.0, abs=0.3), "the longest of their limits, not the sum"


# -- weights -----------------------------------------------------------------------------------------------------------


def one_epoch(office: Office, **more: Any) -> WorkerPool:
    pool = office.ready_pool(**more)
    pool.start(given(0))
    until(pool, EpochEnd)
    return pool


def test_weights_are_asked_for_and_what_went_wrong_is_told():
    office = Office()
    pool = one_epoch(office)
    assert list(pool.keep([Member(0)])) == []
    assert office.links[0].told[-1] == Keep(Member(0), "a.files/trial-0.npz")
    trouble = Noted("weights not kept", {"trial": 0, "why": "the disk is full"})
    office.kept = lambda link: [[trouble]]
    assert list(pool.keep([Member(0)])) == [trouble]
    (unknown,) = pool.keep([Member(7)])
    assert unknown.detail == {"trial": 7, "why": "its worker was lost"}


@pytest.mark.parametrize("signal", [0, 2])
def test_weights_that_are_never_written_are_given_up(signal):
    office = Office()
    pool = one_epoch(office, interruption=lambda: signal)
    office.kept = lambda link: []
    began = office.now
    (event,) = pool.keep([Member(0)])
    waited = KEEP_INTERRUPTED_S if signal else KEEP_S
    assert office.now - began == pytest.approx(waited, abs=0.3)
    assert event.detail["why"] == f"they were not written after {office.now - began:.0f} s"
    assert until(pool, Lost)


def test_worker_that_dies_of_its_weights_keeps_none():
    office = Office()
    pool = one_epoch(office)
    office.kept = lambda link: [Gone]
    (event,) = pool.keep([Member(0)])
    assert event.detail["why"] == "its worker was lost"


# -- growth ------------------------------------------------------------------------------------------------------------


def grown(office: Office, *, ends: bool, by: int = GROWTH_BYTES + 1, after_s: float = 0.0, **more: Any) -> int:
    """Let a worker grow while it trains; return how many there have been."""
    office.begin = lambda link: [] if office.links else [[office.ready]]
    pool = one_epoch(office, **more)
    pool.apply([Verdict(Member(0), ends=False)])
    until(pool, EpochEnd)
    office.now += after_s
    office.links[0].memory += by
    pool.apply([Verdict(Member(0), ends)])
    return len(office.links)


def test_grown_worker_is_replaced_between_two_trials():
    assert grown(Office(), ends=True) == 2
    assert grown(Office(), ends=True, by=GROWTH_BYTES - 1) == 1
    assert grown(Office(), ends=True, by=1, limits=WorkerLimits(memory=10**9)) == 2


def test_grown_worker_is_replaced_amid_a_trial_if_that_goes_on_from_a_checkpoint():
    office = Office()
    assert grown(office, ends=False, after_s=BUSY_RENEWAL) == 2
    assert grown(Office(replace(READY, resumes=False)), ends=False, after_s=BUSY_RENEWAL) == 1
    unsaved = Office()
    unsaved.is_saved = False
    assert grown(unsaved, ends=False, after_s=BUSY_RENEWAL) == 1


def test_member_that_ends_before_its_new_worker_has_heard_of_it_is_never_started():
    """Another member has ended its trial; a worker that applied the verdict first would train it without end."""
    office = Office()
    assert grown(office, ends=False, after_s=BUSY_RENEWAL) == 2
    pool = office.pools[-1]
    pool.apply([Verdict(Member(0), ends=True)])
    office.links[1].out.append([READY])
    pool.advance()
    pool.start(given(1))
    until(pool, EpochEnd)
    told = [message for message in office.links[1].told if not isinstance(message, Go)]
    assert told == [given(1)]


# -- the end -----------------------------------------------------------------------------------------------------------


def test_last_verdict_reaches_the_worker_before_its_end():
    office = Office()
    pool = one_epoch(office)
    pool.apply([Verdict(Member(0), ends=True)])
    pool.close()
    assert office.links[0].told[-2:] == [Verdict(Member(0), ends=True), Go()]
    assert office.links[0].is_ended
    pool.close()


def test_failure_is_passed_on_and_its_place_is_free():
    office = Office()
    pool = office.ready_pool()
    pool.start(given(0))
    assert not pool.has_capacity
    office.tick = lambda link: [[Failed(Member(0), "ValueError: no")]]
    assert until(pool, Failed) == [Failed(Member(0), "ValueError: no")]
    pool.apply([Verdict(Member(0), ends=True)])
    assert pool.has_capacity
