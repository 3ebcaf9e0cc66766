"""Training rows that come in batches are trained on as plain Keras does, resumed where that is the same, and checked."""

from __future__ import annotations

import pytest
from support import in_keras

pytestmark = pytest.mark.slow

SOURCES = (
    "pydataset",
    "shuffled",
    "tfdata",
    "reshuffled",
    "of_unknown_length",
    "functions",
    "by_epoch",
    "with_weights",
)


def curves_of(sources, folder):
    """Return, for each source: the curve of fit, of a training that resumes after its second epoch, and of plain Keras."""
    from pathlib import Path

    import keras
    from brought import streams

    from search import data
    from search.engines import feeding
    from search.engines.checkpoints import Checkpoints
    from search.engines.fit import FitEngine
    from search.engines.training import Trainer
    from search.spec.settings import DataSection, ModelSection, Settings
    from search.trials.events import Assignment, Member, Verdict
    from search.trials.files import StudyFiles

    config = {"optimizer": "adam", "learning_rate": 0.05, "batch_size": 32, "epochs": 4}

    def by_engine(engine, one, until):
        engine.start(one)
        curve = []
        while not curve or curve[-1][0] < until:
            (event,) = engine.advance()
            curve.append((event.epoch, dict(event.metrics)))
            ends = event.epoch == until
            if ends and until < one.epochs:
                engine.checkpoints._next = 0
                while not (engine._reporter and engine._reporter.is_waiting):
                    pass
                engine.save()
            engine.apply([Verdict(event.member, ends=ends)])
        return curve

    found = {}
    for name in sources:
        settings = Settings(
            data=DataSection(source=f"{streams.__file__}:{name}"),
            model=ModelSection(build=f"{streams.__file__}:build"),
        )
        trainer = Trainer.load(settings, Path(), data.load(settings.data, Path(), 0))
        files = StudyFiles(Path(folder) / f"{name}.db", name)
        whole = by_engine(FitEngine(trainer), Assignment(Member(0), config, 4, 7), 4)
        again = by_engine(FitEngine(trainer), Assignment(Member(0), config, 4, 7), 4)
        by_engine(FitEngine(trainer, Checkpoints(files)), Assignment(Member(0), config, 4, 7), 2)
        resumed = by_engine(FitEngine(trainer, Checkpoints(files)), Assignment(Member(0), config, 4, 7, done=2), 4)

        given = getattr(streams, name)()
        train = given["train"] if isinstance(given, dict) else given[0]
        keras.utils.clear_session()
        keras.utils.set_random_seed(7)
        model = streams.build({}, trainer.data.info)
        model.compile(keras.optimizers.Adam(0.05), keras.losses.BinaryCrossentropy(from_logits=True))
        how = {}
        if callable(train) and name in ("functions", "by_epoch", "with_weights"):
            epochs = [train(epoch=e) if name == "by_epoch" else train() for e in range(4)]
            train, how = (batch for epoch in epochs for batch in epoch), {"steps_per_epoch": 5}
        losses = model.fit(
            train, epochs=4, shuffle=False, verbose=0, validation_data=trainer.validation(), **how
        ).history
        found[name] = {
            "whole": whole,
            "again": again,
            "resumed": resumed,
            "plain": [[losses[key][epoch] for key in ("loss", "val_loss")] for epoch in range(4)],
            "may resume": feeding.can_resume(trainer),
            "warnings": list(trainer.data.warnings),
            "steps": trainer.steps(config),
            "validation": trainer.data.info.validation_rows,
        }
    return found


ONE = ("by_epoch",)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((ONE, "jax"), id="one"),
        *(pytest.param((SOURCES, each), id=each, marks=pytest.mark.gallery) for each in ("jax", "tensorflow")),
    ],
)
def curves(request, tmp_path_factory):
    sources, backend = request.param
    return in_keras(curves_of, sources, str(tmp_path_factory.mktemp("streams")), backend=backend)


def test_fit_trains_on_the_batches_as_plain_keras_and_resumes_where_epochs_repeat(curves):
    for name, found in curves.items():
        assert (found["steps"], found["validation"]) == (20, 26), name
        values = [[metrics["loss"], metrics["val_loss"]] for _, metrics in found["whole"]]
        for ours, theirs in zip(values, found["plain"], strict=True):
            assert ours == pytest.approx(theirs, abs=1e-5), name
        assert found["again"] == found["whole"], name
        assert values[0][0] > values[3][0], name
        # Where the batches of an epoch depend on the epochs before, a training begins anew.
        repeats = name not in ("shuffled", "reshuffled", "of_unknown_length")
        assert found["may resume"] == repeats, name
        assert [epoch for epoch, _ in found["resumed"]] == ([3, 4] if repeats else [1, 2, 3, 4]), name
        assert found["resumed"] == found["whole"][-len(found["resumed"]) :], name
        assert found["warnings"] == [], name


def refusals():
    from pathlib import Path

    import numpy as np
    from brought import streams

    from search import data
    from search.data import returned
    from search.data import row_streams as reading
    from search.engines import feeding
    from search.engines.lanes import sizing
    from search.engines.lanes.lifting import NotLiftable
    from search.engines.training import Trainer
    from search.errors import ManyfitError
    from search.spec.settings import DataSection, ModelSection, Settings, TrainSection

    x, y = streams.X, streams.Y

    def said(make, **section):
        try:
            returned.bundle_of(reading.read(make(), "mine", make), "mine").validated()
            settings = DataSection(source="x", **section)
            returned.bundle_of(reading.read(make(), "mine", make), "mine").check(settings)
        except ManyfitError as error:
            return str(error)
        return ""

    def of(train, validation=None, **how):
        return lambda: {
            "train": train,
            "validation": (lambda: streams.batches_of(streams.REST)) if validation is None else validation,
            "steps": 2,
            "validation_steps": 2,
            **how,
        }

    def good():
        return streams.batches_of(streams.TRAIN)

    def trainer_of(name, **train):
        settings = Settings(
            data=DataSection(source=f"{streams.__file__}:{name}"),
            model=ModelSection(build=f"{streams.__file__}:build"),
            train=TrainSection(**train),
        )
        return Trainer.load(settings, Path(), data.load(settings.data, Path(), 0))

    def of_trainer(name, use, **train):
        try:
            use(trainer_of(name, **train))
        except (ManyfitError, NotLiftable) as error:
            return str(error)
        return ""

    def labels(high):
        stream = trainer_of("functions").data.stream
        try:
            stream.check_labels((x, np.array([0, high])))
        except ManyfitError as error:
            return str(error)
        return ""

    return {
        "alone": said(lambda: streams.Rows(streams.TRAIN)),
        "no steps": said(lambda: {"train": good, "validation": streams.Rows(streams.REST)}),
        "no validation steps": said(lambda: {"train": good, "validation": good, "steps": 2}),
        "steps of a PyDataset": said(lambda: {"train": streams.Rows(streams.TRAIN), "validation": streams.Rows(streams.REST), "steps": 2}),
        "steps 0": said(of(good, steps=0)),
        "test": said(of(good, test=good)),
        "unknown": said(of(good, training=good)),
        "array": said(of(good, np.zeros(3))),
        "no iterator": said(of(lambda: 3)),
        "nothing": said(of(lambda: iter(()))),
        "no pair": said(of(lambda: iter([x]))),
        "single rows": said(of(lambda: iter([(x[0], y[0])]))),
        "rows": said(of(lambda: iter([(x[:5], y[:4])]))),
        "shapes": said(of(lambda: iter([(x[:5], y[:5]), (x[:5, :2], y[:5])]))),
        "nan": said(of(lambda: iter([(x * np.nan, y)]))),
        "scale": said(of(good), scale="standard"),
        "limit": said(of(good), limit=5),
        "lanes": of_trainer("functions", sizing.rows_of),
        "class_weight": of_trainer("functions", lambda trainer: trainer.arrays(), class_weight="balanced"),
        "unseeded": trainer_of("unseeded").data.warnings[0],
        "unseeded goes on": feeding.can_resume(trainer_of("unseeded")),
        "high": labels(2),
        "low": labels(-1),
        "fine": labels(1),
        "fingerprints": [trainer_of("unseeded").data.fingerprint == trainer_of("unseeded").data.fingerprint,
                         trainer_of("functions").data.fingerprint == trainer_of("functions").data.fingerprint,
                         trainer_of("functions").data.fingerprint == trainer_of("unseeded").data.fingerprint],
    }  # fmt: skip


def test_what_can_not_be_read_is_refused():
    said = in_keras(refusals, backend="jax")
    assert said.pop("fingerprints") == [True, True, False]
    assert said.pop("fine") == ""
    assert said.pop("unseeded goes on") is True
    for case, words in {
        "alone": ("can't be split", "train", "validation"),
        "no steps": ('add "steps"',),
        "no validation steps": ('"validation_steps"',),
        "steps of a PyDataset": ("has its own length", "remove it"),
        "steps 0": ("at least 1", "received 0"),
        "test": ("never looks at test rows", "leave them out"),
        "unknown": ("unknown key 'training'",),
        "array": ("received ndarray for validation",),
        "no iterator": ("returned int", "iterator of batches"),
        "nothing": ("no training batch",),
        "no pair": ("a batch is a ndarray", "(x, y, weights)"),
        "single rows": ("single rows", "batch"),
        "rows": ("5, 4 rows",),
        "shapes": ("don't go together", "one shape"),
        "nan": ("must be finite",),
        "scale": ("scale is for rows in memory",),
        "limit": ("limit is for rows in memory",),
        "lanes": ("read in batches",),
        "class_weight": ("come in batches", "weights of rows"),
        "unseeded": ("differ each time", "goes on with other batches"),
        "high": ("a label is 2", "classes 0 to 1"),
        "low": ("a label is -1",),
    }.items():
        assert all(word in said[case] for word in words), (case, said[case])
