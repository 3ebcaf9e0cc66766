"""`fit` computes many batches between two calls of its callbacks where that changes no number, and nowhere else."""

from __future__ import annotations

import pytest
from support import in_keras

pytestmark = pytest.mark.slow

# Builder, its rows, callbacks -> batches in one call.
CHOSEN = [
    ("layers", "", ["ReduceLROnPlateau", "CSVLogger", "ModelCheckpoint"], 32),
    ("own_step", "", [], 32),
    ("layers", "functions", [], 7),
    ("own_number", "", [], 3),
    ("own_number", "functions", [], 1),  # 3 would read past the seventh batch
    ("eager", "", [], 1),
    ("own_fit", "", [], 1),
    ("layers", "", ["ByBatch"], 1),
    ("layers", "", ["TerminateOnNaN"], 1),
]
TRAINED = {
    "layers": ("layers", "", ["ReduceLROnPlateau", "CSVLogger"]),
    "own step": ("own_step", "", []),
    "used before": ("used_before", "", []),
    "a function": ("layers", "functions", []),
}


def _trainer(build, source, callbacks):
    from pathlib import Path

    from brought import executions as brought

    from search import data
    from search.engines.training import Trainer
    from search.spec.settings import DataSection, ModelSection, Settings, TrainSection

    file = brought.__file__
    entries = tuple(f"{file}:{entry}" if entry == "ByBatch" else {"name": entry} for entry in callbacks)
    settings = Settings(
        data=DataSection(source=f"{file}:{source}" if source else "sklearn:digits", validation=0.4),
        model=ModelSection(build=f"{file}:{build}"),
        train=TrainSection(callbacks=entries, **({} if source else {"class_weight": "balanced"})),
    )
    return Trainer.load(settings, Path(), data.load(settings.data, Path(), 0))


CONFIG = {"optimizer": "adam", "learning_rate": 0.01, "batch_size": 16, "epochs": 3}


def chosen(cases, folder):
    """Return the batches in one call, by case."""
    from pathlib import Path

    from search.engines import executions
    from search.engines.named_callbacks import Maker
    from search.trials.events import Member
    from search.trials.files import StudyFiles

    found = []
    for case in cases:
        trainer = _trainer(*case[:3])
        model = trainer.model(CONFIG, 7)
        make = Maker(StudyFiles(Path(folder) / "s.db", "s"), Member(0), 0, ("val_loss", "minimize")).make
        executions.choose(model, trainer.callbacks(CONFIG, make), trainer.data.stream)
        found.append(model.steps_per_execution)
    return found


def trained(cases, folder):
    """Return, for each case: the curves of many batches in one call, of one, and of a training that was resumed."""
    from pathlib import Path

    from search.engines import executions
    from search.engines.checkpoints import Checkpoints
    from search.engines.fit import FitEngine
    from search.trials.events import Assignment, Member, Verdict
    from search.trials.files import StudyFiles

    def curve(trainer, files, begin=0, end=3):
        engine = FitEngine(trainer, Checkpoints(files))
        engine.start(Assignment(Member(0), CONFIG, 3, seed=7, done=begin))
        epochs = []
        while len(epochs) < end - begin:
            (event,) = engine.advance()
            epochs.append([event.epoch, dict(event.metrics)])
            if event.epoch == end < 3:
                engine.checkpoints._next = 0
                engine.save()
            engine.apply([Verdict(event.member, ends=event.epoch == end)])
        return epochs

    found = {}
    for name, case in cases.items():
        trainer = _trainer(*case)
        files = StudyFiles(Path(folder) / f"{name}.db", name)
        many, resumed = curve(trainer, files), None
        if name == "layers":
            curve(trainer, files, end=2)
            resumed = curve(trainer, files, begin=2)
        most, executions.MOST_BATCHES = executions.MOST_BATCHES, 1
        found[name] = [many, curve(trainer, files), resumed]
        executions.MOST_BATCHES = most
    return found


def test_many_batches_go_into_one_call_where_nothing_acts_by_the_batch(tmp_path):
    assert in_keras(chosen, CHOSEN, str(tmp_path)) == [case[3] for case in CHOSEN]


@pytest.mark.parametrize("backend", ["jax", pytest.param("tensorflow", marks=pytest.mark.gallery)])
def test_many_batches_in_one_call_change_no_number(backend, tmp_path):
    found = in_keras(trained, TRAINED, str(tmp_path), backend=backend)
    for name, (many, one, resumed) in found.items():
        # Bit for bit: the same compiled step, called in a row.
        assert many == one, name
        assert resumed is None or resumed == many[2:], name
        assert many[0][1]["loss"] != many[2][1]["loss"], name
