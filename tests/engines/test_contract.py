"""One contract, every engine: what the loop may rely on whoever trains."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest
from support import in_keras, manyfit, write_study

from search.checking.exhibit import Bars, Grid, Images, Lines, Listing
from search.checking.report import Checked
from search.engines.devices import Device
from search.engines.protocol import DescribeModel, EnsembleMember, EvaluateModel, SaveEnsemble, SaveModel
from search.log import StudyLog
from search.reading import studyfile
from search.sessions.startup import resolve, worker_spec
from search.spec.declared_space import DeclaredSpace
from search.spec.finding import Finding
from search.spec.ready import Ready
from search.spec.settings import Settings
from search.trials.events import (
    Assignment,
    EpochEnd,
    Failed,
    Lost,
    Member,
    Noted,
    Overdue,
    OverLimit,
    Spent,
    Stopped,
    Verdict,
)
from search.workers import messages as wire
from search.workers.inprocess import Replaying
from search.workers.local import Processes
from search.workers.messages import CheckStudy, FindSpace, Go, Inspecting, Keep, Refused, Saved, UseModel, WorkerSpec
from search.workers.pool import WorkerPool

BUILDER = """
import keras


def build(config, data):
    if config.get("raises"):
        raise ValueError("as asked")
    return keras.Sequential([keras.Input(data.input_shape), keras.layers.Dense(16, "relu"),
                             keras.layers.Dropout(0.3), keras.layers.Dense(data.outputs)])
"""


def replayed(assignment: Assignment, epoch: int) -> dict[str, float]:
    if assignment.config.get("raises"):
        raise ValueError("as asked")
    return {"loss": assignment.seed / epoch, "val_accuracy": epoch / assignment.seed}


@pytest.fixture(
    scope="module",
    params=[
        "replay",
        pytest.param("lanes", marks=pytest.mark.slow),
        *(pytest.param(name, marks=[pytest.mark.slow, pytest.mark.gallery]) for name in ("jax", "tensorflow")),
    ],
)
def engine(request, tmp_path_factory):
    """An engine with nothing in it."""
    if request.param == "replay":
        yield Replaying(replayed)
        return
    folder: Path = tmp_path_factory.mktemp(request.param)
    (folder / "mine.py").write_text(BUILDER)
    how = ["run.engine=lanes", "run.lanes=2"] if request.param == "lanes" else [f"run.backend={request.param}"]
    file = studyfile.read(write_study(folder), ['model={ build = "mine.py:build" }', *how])
    resolved, _ = resolve(file)
    pool = WorkerPool(worker_spec(file, resolved), [Device()], Processes(resolved.backend, StudyLog(), 1), StudyLog())
    try:
        pool.wait_until_ready()
        yield pool
    finally:
        pool.close()


def assignment(number: int, *, seed: int = 7, epochs: int = 3, **config) -> Assignment:
    fixed = {"optimizer": "adam", "learning_rate": 0.01, "batch_size": 32, "epochs": epochs}
    return Assignment(Member(number), {**fixed, **config}, epochs, seed)


def advance(engine):
    """Advance until something has happened to a member."""
    while not (events := [event for event in engine.advance() if hasattr(event, "member")]):
        pass
    return events


def train(engine, given: Assignment) -> list[EpochEnd]:
    """Train a member to its end."""
    assert engine.has_capacity
    engine.start(given)
    ended = []
    for epoch in range(1, given.epochs + 1):
        (event,) = advance(engine)
        assert isinstance(event, EpochEnd)
        assert (event.member, event.epoch) == (given.member, epoch)
        ended.append(event)
        engine.apply([Verdict(given.member, ends=epoch == given.epochs)])
    assert engine.has_capacity
    return ended


class TestEngine:
    def test_reports_epochs_one_by_one_with_all_metrics(self, engine):
        events = train(engine, assignment(0))
        assert all("val_accuracy" in event.metrics and event.seconds >= 0 for event in events)

    def test_same_seed_trains_the_same_whatever_ran_before(self, engine):
        first = train(engine, assignment(1, seed=11))
        train(engine, assignment(2, seed=12, batch_size=64))
        again = train(engine, assignment(3, seed=11))
        other = train(engine, assignment(4, seed=13))
        assert [event.metrics for event in first] == [event.metrics for event in again]
        assert [event.metrics for event in first] != [event.metrics for event in other]

    def test_place_of_a_member_that_is_ended_early_is_free(self, engine):
        engine.start(assignment(5, epochs=50))
        advance(engine)
        engine.apply([Verdict(Member(5), ends=True)])
        train(engine, assignment(6))

    def test_failure_is_the_members_and_the_next_one_trains(self, engine):
        engine.start(assignment(7, raises=True))
        (event,) = advance(engine)
        assert isinstance(event, Failed)
        assert event.reason == "ValueError: as asked"
        engine.apply([Verdict(Member(7), ends=True)])
        train(engine, assignment(8))

    def test_verdict_on_a_member_that_is_gone_changes_nothing(self, engine):
        engine.apply([Verdict(Member(99), ends=True)])
        train(engine, assignment(9))


SPEC = WorkerSpec(
    settings=Settings.model_validate(
        {
            "data": {"source": "rows.csv", "image_size": [4, 4]},
            "train": {"momentum": 0.9, "callbacks": ["mine.py:make"], "metrics": ["mae", {"name": "auc"}]},
            "space": {"units": {"choices": [[1, 2], [3]]}},
            "search": {"sampler": {"name": "tpe", "n_startup_trials": 3}},
            "run": {"devices": ["cpu", 0]},
        }
    ),
    base="/studies/\udcff",
    fixed={"units": [3], "epochs": 2},
    engines=("lanes", "fit"),
    why="no jax",
    lanes={"places": 2},
    structures=("c3",),
    database="/studies/\udcff.db",
    name="a",
    number=1,
    workers=2,
    checks=True,
    use="test",
)


def test_messages_come_out_as_they_went_in():
    messages = [
        SPEC,
        assignment(3, units=[1, 2]),
        EpochEnd(Member(1, 2), 3, {"loss": 0.5, "val_loss": float("inf")}, 1.5),
        Failed(Member(1), "why", "detail"),
        Lost(Member(1), "why", alone=False),
        Overdue(Member(0), 3.0),
        Stopped(Member(0)),
        OverLimit(Member(2), "why"),
        Verdict(Member(4), ends=True),
        Noted("program compiled", {"lanes": 8}),
        Spent({"train": 0.5}),
        Go(),
        Keep(Member(0), "weights.npz"),
        SaveModel(Member(0), {"units": [3]}, 1, "weights.npz", "model.keras", {"study": "s", "trials": [0]}, 0.1),
        EvaluateModel(Member(0), {"units": [3]}, 1, "weights.npz"),
        DescribeModel(Member(0), {"units": [3]}, 1, "weights.npz"),
        SaveEnsemble(Member(3), (EnsembleMember(3, {"units": [3]}, 1, "weights.npz"),), "model.keras", {"study": "s"}),
        Inspecting(),
        Refused("no such column", is_data=True),
        Saved(is_whole=False),
        FindSpace(SPEC.settings, SPEC.base),
        CheckStudy(SPEC.settings, SPEC.base, {"units": [3]}, has_data=True, may_move=False),
        Finding("loss at the start", "look", "why", "advice", {"loss": 2.3}),
        Images("data", "a", "A", (("cG5n", "one"),)),
        Lines("data", "a", "A", "x", "y", {"loss": ((0.0, 1.0), (2.0, 3.0))}, {"here": 0.5}),
        Bars("data", "a", "A", "y", ("cat", "dog"), {"train": (1.0, 2.0)}),
        Grid("training", "a", "A", "x", "y", ((1.0, 2.0), (3.0, 4.0))),
        Listing("training", "a", "A", ("row", "loss"), (("1", 2.0),)),
        Checked({"classes": "no classes"}),
        UseModel("predict", "model.keras", {"source": "new.csv"}),
        DeclaredSpace({"units": [1, 2]}, {"units": 1}, 3, ("one builder",), 4),
        Ready(
            {"train_rows": 3}, "a1", "b2", findings=(Finding("labels", "stop", "text"),), lanes={"places": 2, "ahead": 1}, memory=(1, 2), warnings=("look",), read=("units",),
            undrawn=("depth",), steps=7, structures=("c3",), counted={"draws": 3, "most_used": [{"share": 0.5}]},
        ),
    ]  # fmt: skip
    assert {type(message) for message in messages} == set(get_args(wire.Message))
    assert wire.decode(wire.encode(messages)) == messages
    (back,) = wire.decode(wire.encode([EpochEnd(Member(0), 1, {"loss": float("nan")}, 0.0)]))
    assert math.isnan(back.metrics["loss"])


def test_spec_of_a_worker_with_a_missing_or_an_unknown_field_is_refused():
    (table,) = json.loads(wire.encode([SPEC]))
    for field in fields(WorkerSpec):
        less = {name: value for name, value in table.items() if name != field.name}
        with pytest.raises(ValueError, match=rf"{field.name}\n +Field required"):
            wire.decode(json.dumps([less]).encode())
    with pytest.raises(ValueError, match=r"unheard\n +Unexpected keyword argument"):
        wire.decode(json.dumps([{**table, "unheard": 1}]).encode())
    with pytest.raises(ValueError, match=r"settings\.run\.unheard\n +Extra inputs"):
        wire.decode(json.dumps([{**table, "settings": {**table["settings"], "run": {"unheard": 1}}}]).encode())


@pytest.mark.parametrize(
    "raw",
    [
        b'[{"type": "EpochEnd", "member": {"trial": 0}, "epoch": "first", "metrics": {}, "seconds": 1}]',
        b'[{"type": "EpochEnd", "epoch": 1, "metrics": {}, "seconds": 1}]',
        b'[{"type": "Verdict", "member": {"trial": 0, "replica": 0}, "ends": 7}]',
        b'[{"type": "Unheard"}]',
        b"[1]",
    ],
)
def test_message_that_is_none_is_refused(raw):
    with pytest.raises(ValueError, match=r"validation error|no such message"):
        wire.decode(raw)


def batches_by_epoch():
    import numpy as np

    from search.engines.batches import Batches

    rows = np.arange(10)
    batches = Batches((rows, rows * 2), 4, seed=5)
    seen = []
    for epoch in (1, 2, 1):
        batches.epoch = epoch
        data = batches.for_backend()
        source = (data[i] for i in range(len(data))) if data is batches else iter(data)
        seen.append([np.asarray(x).tolist() for x, y in source])
    return seen


@pytest.mark.slow
def test_every_row_is_drawn_once_an_epoch_in_an_order_of_its_own_on_each_backend():
    """The batches that TensorFlow and JAX see are the same, epoch by epoch."""

    seen = [in_keras(batches_by_epoch, backend=backend) for backend in ("tensorflow", "jax")]
    assert seen[0] == seen[1]
    first, second, again = seen[0]
    assert first == again != second
    assert [len(batch) for batch in first] == [4, 4, 2]
    assert sorted(row for batch in first for row in batch) == list(range(10))


@pytest.mark.gallery
@pytest.mark.slow
def test_worker_that_cannot_start_is_said_with_its_last_words(tmp_path):
    path = write_study(tmp_path, trials=1)
    done = manyfit("run", path, "--backend", "jax", env={"XLA_FLAGS": "--no_such_flag_of_xla=1"})
    assert done.returncode == 1
    assert "the worker on cpu can't start" in done.stderr
    assert "no_such_flag_of_xla" in done.stderr
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
def test_worker_that_can_not_read_what_it_is_told_ends_with_its_last_words(tmp_path):
    """It would wait for ever, and whoever waits for it."""
    (tmp_path / "mine.py").write_text(BUILDER)
    how = ['model={ build = "mine.py:build" }', "run.engine=fit", "run.backend=jax"]
    file = studyfile.read(write_study(tmp_path), how)
    resolved, _ = resolve(file)
    pool = WorkerPool(worker_spec(file, resolved), [Device()], Processes(resolved.backend, StudyLog(), 1), StudyLog())
    try:
        pool.wait_until_ready()
        (worker,) = pool._workers
        worker.link.channel.send_bytes(b'[{"type": "Unheard"}]')
        assert worker.link.process.wait(timeout=20) == 1
        worker.link._reader.join(timeout=10)
        assert "no such message: 'Unheard'" in worker.link.last_words
    finally:
        pool.close()
