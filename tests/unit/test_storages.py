"""What every storage holds to, whatever it is made of."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support import curve, record, replay_file

from search import registry
from search.core import loop
from search.core.study import ALL_TRIALS, Study
from search.errors import Interrupted, StoreError
from search.storage.memory import MemoryStorage
from search.storage.store import Store
from search.trials.events import Assignment, Member
from search.trials.history import Commit, Epoch, HistoryEvent, TrialStart, TrialState
from search.workers.inprocess import Replaying

sys.path.append(str(Path(__file__).parents[1] / "extending" / "toys"))
from toy_storage import Folder

AT = datetime(2026, 3, 1, 12, 30, 15, 250_000, tzinfo=UTC)
LABELS = {"learning_rate": 0.0123, "dropout": 0.25}


def ended(number: int, **changed) -> TrialState:
    state = TrialState(
        number=number,
        state="COMPLETE",
        ended="finished",
        why="all 9 epochs",
        detail="",
        value=0.25,
        best_epoch=2,
        epochs=2,
        seconds=3.0,
        ended_at=AT,
        attrs={"of the sampler": [1, 2.5, None]},
    )
    return replace(state, **changed)


@pytest.mark.parametrize("kind", [MemoryStorage, Store, Folder], ids=["memory", "sqlite", "an example"])
class TestEveryStorage:
    def test_a_new_study_is_empty_and_knows_itself(self, kind, tmp_path):
        file = replay_file(tmp_path)
        with kind.create(file, record(file)) as storage:
            history = storage.load()
        assert (history.file.settings, history.resolved) == (file.settings, record(file).resolved)
        assert history.identity == record(file).identity
        assert (history.trials, history.events, history.study_attrs) == ([], [], {})
        assert (history.seconds, history.spent, history.ended) == (0.0, {}, "")

    def test_a_commit_says_all_that_is_stored(self, kind, tmp_path):
        """A storage needs no study that lives: two values in, and what they say comes out."""
        file = replay_file(tmp_path)
        with kind.create(file, record(file)) as storage:
            metrics = {"loss": 0.5, "val_loss": 0.25, "nothing": None}
            noted = storage.append(
                Commit(
                    started=[TrialStart(0, LABELS, AT, {"drawn": "first"}), TrialStart(1, LABELS, AT, {})],
                    epochs=[
                        Epoch(Member(0), 1, 1.5, {**metrics, "val_loss": 0.75}, 0.75),
                        Epoch(Member(1), 1, 0.5, metrics, 0.25),
                        Epoch(Member(0), 2, 1.5, metrics, 0.25),
                    ],
                    study_attrs={"sampler": {"seen": 2}},
                    events=[HistoryEvent("worker lost", {"trial": 1, "reason": "killed"}, AT)],
                    seconds=12.5,
                    spent={"train": 3.5},
                )
            )
            assert list(noted) == []
            assert [trial.value for trial in storage.load().trials] == [0.25, 0.25], "the best so far"
            waiting = ended(1, state="WAITING", ended="", why="", value=None, best_epoch=None, ended_at=None, attrs={})
            storage.append(
                Commit(states=[ended(0), waiting], study_attrs={"sampler": {"seen": 3}}, seconds=20.0, ended=ALL_TRIALS)
            )
            history = storage.load()
        first, second = history.trials
        assert (first.number, first.params, first.state, first.started_at, first.ended_at) == (
            0, LABELS, "COMPLETE", AT, AT,
        )  # fmt: skip
        assert (first.ended, first.why, first.value, first.best_epoch) == ("finished", "all 9 epochs", 0.25, 2)
        assert first.curve == [{"loss": 0.5, "val_loss": 0.75, "nothing": None}, metrics]
        assert first.seconds == [1.5, 1.5]
        assert first.attrs == {"drawn": "first", "of the sampler": [1, 2.5, None]}
        assert (second.state, second.ended, second.ended_at, second.value) == ("WAITING", "", None, 0.25)
        assert first.config["learning_rate"] == 0.0123
        assert first.trainings[0].seed != second.trainings[0].seed
        assert history.events == [(AT, "worker lost", {"trial": 1, "reason": "killed"})]
        assert (history.study_attrs, history.seconds, history.ended) == ({"sampler": {"seen": 3}}, 20.0, ALL_TRIALS)
        assert [trial.number for trial in history.complete] == [0]

    def test_failures_have_a_detail_and_no_value(self, kind, tmp_path):
        file = replay_file(tmp_path)
        with kind.create(file, record(file)) as storage:
            failed = ended(
                0,
                state="FAIL",
                ended="failed",
                why="ValueError: no",
                detail="a\ntraceback",
                value=None,
                best_epoch=None,
            )
            storage.append(Commit(started=[TrialStart(0, LABELS, AT, {})], states=[failed]))
            (trial,) = storage.load().trials
        assert (trial.state, trial.ended, trial.why, trial.detail) == (
            "FAIL",
            "failed",
            "ValueError: no",
            "a\ntraceback",
        )
        assert (trial.value, trial.best_epoch) == (None, None)

    def test_a_commit_that_can_not_be_written_leaves_nothing(self, kind, tmp_path):
        file = replay_file(tmp_path)
        with kind.create(file, record(file)) as storage:
            start = TrialStart(0, LABELS, AT, {})
            with pytest.raises(TypeError):
                storage.append(Commit(started=[start], states=[ended(0, attrs={"no": {1, 2}})], seconds=3.0))
            assert (storage.load().trials, storage.load().seconds) == ([], 0.0)
            storage.append(Commit(started=[start]))
            assert len(storage.load().trials) == 1

    def test_what_is_read_is_the_readers_own(self, kind, tmp_path):
        file = replay_file(tmp_path)
        with kind.create(file, record(file)) as storage:
            storage.append(Commit(started=[TrialStart(0, LABELS, AT, {})]))
            history = storage.load()
            history.trials[0].params["dropout"] = 1.0
            history.trials.clear()
            assert storage.load().trials[0].params == LABELS

    def test_a_study_is_made_once_and_opened_only_if_it_is_there(self, kind, tmp_path):
        file = replay_file(tmp_path)
        with pytest.raises(StoreError):
            kind.of(file)
        with kind.create(file, record(file)) as storage:
            storage.close()
            with pytest.raises(StoreError, match="replay"):
                kind.create(file, record(file))
            with kind.of(file) as again:
                assert again.load().identity == record(file).identity

    def test_settings_change_and_untrained_trials_go(self, kind, tmp_path):
        file = replay_file(tmp_path)
        with kind.create(file, record(file)) as storage:
            failed = ended(0, state="FAIL", ended="failed", value=None, best_epoch=None)
            storage.append(Commit(started=[TrialStart(0, LABELS, AT, {})], states=[failed], study_attrs={"a": 1}))
            longer = replay_file(tmp_path, study__trials=77)
            storage.renew(longer, {"new": "identity"}, {"engine": "lanes"}, anew={"failed": 1})
            history = storage.load()
        assert (history.trials, history.study_attrs) == ([], {})
        assert (history.identity, history.resolved) == ({"new": "identity"}, {"engine": "lanes"})
        assert history.file.settings.study.trials == 77
        assert [event[1:] for event in history.events] == [("builder mended", {"failed": 1})]

    def test_a_search_cut_off_anywhere_goes_on_from_it(self, kind, tmp_path):
        """Both storages give back what the sampler, the pruner and the loop need, to the last bit."""
        whole = searched(kind, replay_file(tmp_path / "whole"))
        for after in (1, 4, 11):
            cut = searched(kind, replay_file(tmp_path / f"cut {after}"), cut_after=after)
            assert table(cut) == table(whole)
        assert table(whole) == table(searched(MemoryStorage, replay_file(tmp_path / "memory")))

    def test_a_backup_that_is_asked_for_is_no_trouble(self, kind, tmp_path):
        file = replay_file(tmp_path)
        with kind.create(file, record(file)) as storage:
            storage.append(Commit(started=[TrialStart(0, LABELS, AT, {})]))
            assert storage.back_up() == ""


def test_what_a_sampler_changes_in_place_is_stored(tmp_path, monkeypatch):
    class Counting:
        def __init__(self, searched):
            self.kept = dict(searched.study_attrs) or {"drawn": []}

        def draw(self, trials, attempt, given):
            self.kept["drawn"].append(len(trials))
            return {"learning_rate": 0.01, "dropout": 0.1 * self.kept["drawn"][-1] / 10}, {}

        @property
        def study_attrs(self):
            return self.kept

    monkeypatch.setattr(registry.SAMPLERS, "_added", {"counting": Counting})
    file = replay_file(tmp_path, search__sampler="counting", study__trials=4)
    found = loop.run(file, record(file), MemoryStorage, Replaying(curve))
    assert found.study_attrs == {"drawn": [0, 1, 2, 3]}


def test_settings_that_a_study_goes_on_with_are_stored(tmp_path):
    file = replay_file(tmp_path, study__trials=3)
    loop.run(file, record(file), Store, Replaying(curve))
    longer = replay_file(tmp_path, study__trials=5)
    found = loop.run(longer, record(longer), Store, Replaying(curve))
    assert (len(found.trials), found.file.settings.study.trials) == (5, 5)


@pytest.fixture(autouse=True)
def folders(tmp_path):
    for name in ("whole", "memory", "cut 1", "cut 4", "cut 11"):
        (tmp_path / name).mkdir()


def diverging(assignment: Assignment, epoch: int) -> dict[str, float]:
    return {"val_loss": math.nan} if assignment.member.trial % 7 == 5 and epoch > 2 else curve(assignment, epoch)


def searched(kind, file, cut_after: int = 0):
    """Search to the end, interrupted once or not; return the history."""
    with kind.create(file, record(file)) as storage:
        if cut_after:
            ticks = iter([*[0] * cut_after, 2])
            with pytest.raises(Interrupted):
                loop.search(Study(file), storage, Replaying(diverging, 3), interruption=ticks.__next__)
        loop.search(Study.of(storage.load(), file), storage, Replaying(diverging, 3))
        return storage.load()


def table(history):
    return [
        (t.number, t.params, t.state, t.ended, t.why, t.value, t.best_epoch, t.curve, t.attrs) for t in history.trials
    ]
