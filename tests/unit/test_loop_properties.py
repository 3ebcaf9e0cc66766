"""Whatever happens to a search, and however often it is killed, its study keeps its promises (hypothesis)."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import curve, record, replay_file

from search.core.ended import RepeatedFailureError
from search.core.loop import search
from search.core.study import Study
from search.errors import Interrupted
from search.storage import records, schema
from search.storage.store import Store
from search.storage.studies import Stored
from search.storage.verify import verify
from search.trials.events import EpochEnd, Event, Failed, Lost, Overdue, Stopped, Verdict
from search.workers.inprocess import Replaying

TRIALS, EPOCHS = 5, 4

# What befalls a trial at an epoch. A trial's own faults come again when it is trained again; the world's come once.
OWN = ("nan", "inf", "failed", "failed alike", "stopped", "no objective")
WORLD = ("lost", "lost with company", "overdue")


class Killed(BaseException):
    """The process is gone: nothing below this line of the stack runs any more, the store's closing included."""


class Engine(Replaying):
    """A replay engine to which things happen: `own` and `world` by (trial, epoch), kills before the ticks counted in `kills`."""

    def __init__(self, lanes: int, own: dict, world: dict, kills: set[int], ticks: list[int]) -> None:
        super().__init__(curve, lanes)
        self._own, self._world, self._kills, self._ticks = own, world, kills, ticks

    def advance(self) -> Sequence[Event]:
        self._ticks[0] += 1
        if self._ticks[0] in self._kills:
            raise Killed
        return [self._befall(event) for event in super().advance()]

    def _befall(self, event: Event) -> Event:
        assert isinstance(event, EpochEnd)
        place = (event.member.trial, event.epoch)
        what = self._world.pop(place, None) or self._own.get(place)
        if what in ("lost", "lost with company", "failed", "failed alike", "overdue", "stopped"):
            # As in the real pool: whose worker or training is gone has no place any more.
            self.apply([Verdict(event.member, ends=True)])
        member, epoch = event.member, event.epoch
        befalls: dict[str, Event] = {
            "nan": EpochEnd(member, epoch, {**event.metrics, "val_loss": math.nan}, 0.0),
            "inf": EpochEnd(member, epoch, {**event.metrics, "val_loss": math.inf}, 0.0),
            "no objective": EpochEnd(member, epoch, {"loss": 1.0}, 0.0),
            "failed": Failed(member, f"boom {place}"),
            "failed alike": Failed(member, "boom"),
            "stopped": Stopped(member),
            "overdue": Overdue(member, 9.0),
            "lost": Lost(member, "gone", alone=True),
            "lost with company": Lost(member, "gone", alone=False),
        }
        return befalls.get(what or "", event)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """An empty database: Optuna takes a tenth of a second to make one."""
    path = tmp_path_factory.mktemp("template") / "replay.db"
    schema.create(path)
    return path


def places(kinds: Sequence[str]) -> st.SearchStrategy[dict]:
    return st.dictionaries(
        st.tuples(st.integers(0, TRIALS - 1), st.integers(1, EPOCHS)), st.sampled_from(kinds), max_size=6
    )


def finished(stored: Stored) -> dict:
    return {
        t.number: (t.state, t.ended, t.why, t.params, t.value, t.best_epoch, t.curve)
        for t in stored.trials
        if t.is_ended
    }


def attempt(folder, file, engine: Engine, interruption) -> Stored | None:
    """Do what one command does; None if it was killed. The study in memory is gone after it in any case."""
    if records.exists(file.storage, file.name):
        store = Store.open(file.storage, file.name)
    else:
        store = Store.create(file, record(file))
    stored = records.load(file.storage, file.name)
    study = Study(file, stored.trials, study_attrs=stored.study_attrs, seconds=stored.seconds)
    try:
        with suppress(RepeatedFailureError, Interrupted):
            search(study, store, engine, interruption=interruption, watch=lambda: None)
        store.close()
    except Killed:
        # What the operating system does: an open transaction is undone, the lock is free, nothing else is written.
        store._connection.close()
        store._lock.release()
        return None
    return records.load(file.storage, file.name)


def go_on_until_done(folder, template, *, lanes, own, world, kills, stops, **study_settings) -> Stored:
    """Repeat the command until the study is done, and hold its invariants after every attempt."""
    for path in folder.iterdir():
        path.unlink()
    file = replay_file(folder, study__trials=TRIALS, study__epochs=EPOCHS, **study_settings)
    shutil.copy(template, file.storage)
    before: dict = {}
    ticks, asked, world = [0], [0], dict(world)

    def interruption() -> int:
        asked[0] += 1
        return 2 if asked[0] in stops else 0

    for _ in range(60):
        done = attempt(folder, file, Engine(lanes, own, world, kills, ticks), interruption)
        stored = records.load(file.storage, file.name)
        states = Counter(trial.state for trial in stored.trials)
        assert [trial.number for trial in stored.trials] == list(range(len(stored.trials)))  # each id once
        assert len(stored.trials) <= TRIALS  # the budget is never exceeded
        assert all(len(trial.curve) <= EPOCHS for trial in stored.trials)
        now = finished(stored)
        assert before.items() <= now.items()  # a finished trial never changes
        before = now
        if done is not None:
            assert states["RUNNING"] == 0  # nothing is left running after a clean end
        assert verify(file.storage).problems == []
        if done is not None and done.ended:
            assert len(now) == TRIALS
            assert sum(states.values()) == TRIALS  # the counts add up
            assert all(t.value is None or math.isfinite(t.value) for t in stored.trials)
            assert all(t.state == "COMPLETE" for t in stored.complete)
            return stored
    raise AssertionError("the study does not come to its end")


KILLS = st.sets(st.integers(1, 40), max_size=6)
STOPS = st.sets(st.integers(1, 60), max_size=4)
WHAT = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@WHAT
@given(
    lanes=st.integers(1, 4),
    own=places(OWN),
    world=places(WORLD),
    kills=KILLS,
    stops=STOPS,
    choices=st.fixed_dictionaries(
        {
            "search__sampler": st.sampled_from(["random", "tpe", "qmc", "bayes"]),
            "search__pruner": st.sampled_from(["none", "halving", "median"]),
        }
    ),
)
def test_study_keeps_its_promises_whatever_happens(tmp_path, template, lanes, own, world, kills, stops, choices):
    go_on_until_done(
        tmp_path,
        template,
        lanes=lanes,
        own=own,
        world=world,
        kills=kills,
        stops=stops,
        **choices,
    )


@WHAT
@given(
    lanes=st.integers(1, 4),
    own=places(OWN),
    kills=KILLS,
    stops=STOPS,
    sampler=st.sampled_from(["random", "tpe", "qmc", "bayes"]),
)
def test_killed_and_stopped_study_comes_to_the_table_of_an_undisturbed_one(
    tmp_path, template, lanes, own, kills, stops, sampler
):
    """What the clock or a worker's death decides is not the study's own."""
    tables = [
        finished(
            go_on_until_done(
                tmp_path,
                template,
                lanes=lanes,
                own=own,
                world={},
                kills=where,
                stops=when,
                search__sampler=sampler,
            )
        )
        for where, when in (((), ()), (kills, stops))
    ]
    assert tables[0] == tables[1]
