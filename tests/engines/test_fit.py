"""`model.fit` in our hands trains on the batches that (seed, epoch) say, and on nothing else."""

from __future__ import annotations

import pytest
from support import in_keras


def reported_and_by_hand():
    from pathlib import Path

    from search import data
    from search.engines.batches import shuffled
    from search.engines.fit import FitEngine
    from search.engines.training import Trainer
    from search.spec.settings import DataSection, Settings
    from search.trials.events import Assignment, Member, Verdict

    settings = Settings(data=DataSection(source="sklearn:digits", limit=300))
    loaded = data.load(settings.data, Path(), 0)
    trainer = Trainer.load(settings, Path(), loaded)
    config = {"optimizer": "sgd", "learning_rate": 0.05, "batch_size": 64, "epochs": 2, "units": [8]}

    engine = FitEngine(trainer)
    engine.start(Assignment(Member(0), config, 2, seed=5))
    reported = []
    for epoch in (1, 2):
        (event,) = engine.advance()
        reported.append(event.metrics["val_loss"])
        engine.apply([Verdict(Member(0), ends=epoch == 2)])

    model = trainer.model(config, seed=5)
    by_hand = []
    for epoch in (1, 2):
        order = shuffled(loaded.info.train_rows, 5, epoch)
        for start in range(0, len(order), 64):
            rows = order[start : start + 64]
            model.train_on_batch(loaded.x_train[rows], loaded.y_train[rows])
        by_hand.append(model.evaluate(loaded.x_validation, loaded.y_validation, verbose=0, return_dict=True)["loss"])
    return [reported, by_hand]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_fit_trains_on_the_batches_of_seed_and_epoch_in_their_order(backend):
    reported, by_hand = in_keras(reported_and_by_hand, backend=backend)
    assert reported == pytest.approx(by_hand, rel=1e-5)
