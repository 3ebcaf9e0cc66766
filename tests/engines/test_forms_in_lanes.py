"""Losses and metrics that see labels or outputs in another form compute in lanes what they compute by fit."""

from __future__ import annotations

import pytest
from support import in_keras

pytestmark = pytest.mark.slow


def forms_beside_fit(few):
    from lanes_kit import apart, assignment, trainer_of

    from search.spec.settings import TrainSection

    metrics = TrainSection(
        metrics=("accuracy", "AUC", "F1Score", "categorical_accuracy", "mse", {"name": "MeanIoU", "num_classes": 10})
    )
    one_loss = TrainSection(loss={"name": "categorical_focal_crossentropy", "gamma": 1.5}, metrics=("f1_score",))
    no_logits = TrainSection(loss="kl_divergence", metrics=("kl_divergence",))
    binary = TrainSection(metrics=("accuracy", "auc", "f1_score", "hinge", "poisson"))
    sgd = {"optimizer": "sgd", "learning_rate": 0.05, "seed": 7}
    together = TrainSection(loss=one_loss.loss, metrics=metrics.metrics)
    found = {
        "together": apart(assignment(0, **sgd), trainer_of(train=together)),
        "smoothed beside another": apart(
            assignment(0, label_smoothing=0.2, **sgd), beside=assignment(1, label_smoothing=0.0, **sgd)
        ),
    }
    if few:
        return found
    return found | {
        "metrics": apart(assignment(0, **sgd), trainer_of(train=metrics)),
        "a categorical loss": apart(assignment(0, **sgd), trainer_of(train=one_loss)),
        "a loss of probabilities": apart(assignment(0, **sgd), trainer_of(train=no_logits)),
        "binary": apart(assignment(0, **sgd), trainer_of("sklearn:breast_cancer", train=binary)),
    }


@pytest.mark.parametrize(
    "few", [pytest.param(True, id="a few"), pytest.param(False, id="all", marks=pytest.mark.gallery)]
)
def test_lane_agrees_with_fit_where_labels_or_outputs_are_put_into_another_form(few):
    found = in_keras(forms_beside_fit, few)
    assert {name: size for name, size in found.items() if not size < 1e-5} == {}
