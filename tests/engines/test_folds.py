"""Folds in lanes of one program train as each does alone by `model.fit`; folds that can't share a program are declined."""

from __future__ import annotations

import pytest
from support import in_jax

pytestmark = pytest.mark.slow


def curves_of_folds(names):
    """Return the curves of each case, by fold: in lanes, and by fit; the traces of the lanes' program; and what is declined."""
    from dataclasses import replace
    from pathlib import Path

    from brought import several
    from lanes_kit import EpochEnd, Member, Trainer, Verdict, assignment, data, engine_of, sizing

    from search.engines.fit import FitEngine
    from search.engines.lanes.lifting import NotLiftable
    from search.spec.settings import DataSection, ModelSection, Settings, TrainSection

    def trainer_of(source, folds, model=None, train=None, **section):
        settings = Settings(
            data=DataSection(source=source, **section),
            model=model or ModelSection(),
            train=TrainSection(**(train or {})),
        )
        return Trainer.load(settings, Path(), data.load(settings.data, Path(), 0, folds=folds))

    def trained(engine, members):
        found = {}
        for one in members:
            engine.start(one)
        while len(found.get(members[-1].member, ())) < 3:
            ended = []
            for event in engine.advance():
                if not isinstance(event, EpochEnd):
                    continue
                curve = found.setdefault(event.member, [])
                curve.append(dict(event.metrics))
                ended.append(Verdict(event.member, ends=len(curve) == 3))
            engine.apply(ended)
        return [found[one.member] for one in members]

    mine = ModelSection(build=f"{several.__file__}:by_name")
    losses = {"loss": {"price": "mse", "sold": "binary_crossentropy", "kind": "SparseCategoricalCrossentropy"}}
    weights = {"class_weight": {str(digit): 1.0 + digit % 2 for digit in range(10)}}
    cases = {
        "weights of classes": lambda: trainer_of("sklearn:digits", 3, None, weights, limit=200),
        "several inputs and outputs": lambda: trainer_of(f"{several.__file__}:named", 4, mine, losses),
        "weights of rows": lambda: trainer_of(f"{several.__file__}:weighted", 2),
    }
    found = {}
    for name in names:
        trainer = cases[name]()
        folds = len(trainer.data.folds)
        members = [
            replace(assignment(0, seed=fold + 5, batch_size=16), member=Member(0, fold)) for fold in range(folds)
        ]
        engine = engine_of(folds, folds, trainer)
        lanes = trained(engine, members)
        found[name] = [lanes, [trained(FitEngine(trainer), [one])[0] for one in members], engine.traces]

    declined = []
    for trainer in (
        trainer_of("sklearn:wine", 3, scale="standard"),
        trainer_of("sklearn:digits", 3, None, {"class_weight": "balanced"}, limit=200),
    ):
        try:
            sizing.rows_of(trainer)
        except NotLiftable as error:
            declined.append(str(error))
    return [found, declined]


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(["weights of rows"], id="one"),
        pytest.param(["weights of classes", "several inputs and outputs"], id="others", marks=pytest.mark.gallery),
    ],
)
def test_folds_in_lanes_train_as_by_fit_in_one_program(names):
    found, declined = in_jax(curves_of_folds, names)
    assert list(found) == names
    for name, (lanes, fit, traces) in found.items():
        for fold, (one, other) in enumerate(zip(lanes, fit, strict=True)):
            for epoch, (a, b) in enumerate(zip(one, other, strict=True)):
                assert a == pytest.approx(b, rel=2e-4, abs=1e-5), (name, fold, epoch)
        assert len({tuple(curve[-1].items()) for curve in lanes}) == len(lanes), name
        assert traces == 1, name
    assert "scaled or encoded by itself" in declined[0]
    assert 'class_weight = "balanced" gives each fold weights of its own' in declined[1]
