"""A written model knows a loss or a metric by every name that the study file may give it."""

from __future__ import annotations

import pytest
from support import in_jax

pytestmark = pytest.mark.slow


def objects_of_every_spelling():
    import keras
    import numpy as np

    from search.engines import portable
    from search.engines.losses import keras_names
    from search.engines.portable import Labels, Yardstick

    rng = np.random.default_rng(0)
    classes = Labels.of(rng.integers(0, 3, 200).astype("int32"), task="classification", classes=3, is_one_hot=False)
    numbers = Labels.of(rng.normal(size=(200, 1)).astype("float32"), task="regression", classes=0, is_one_hot=False)
    bits = Labels.of(rng.integers(0, 2, (200, 1)).astype("int32"), task="binary", classes=2, is_one_hot=False)
    rows = Labels.of(np.eye(2, dtype="float32")[rng.integers(0, 2, 200)], task="binary", classes=2, is_one_hot=True)
    shares = Yardstick(classes, rng.dirichlet([1, 1, 1], 200).astype("float32"))
    values = Yardstick(numbers, rng.normal(size=(200, 1)).astype("float32"))
    chances = rng.uniform(size=(200, 1)).astype("float32")

    missing = []
    sparse = keras.losses.SparseCategoricalCrossentropy()
    crossentropies = (
        "scce",
        "sparse-categorical-crossentropy",
        "Sparse Categorical Crossentropy",
        "cce",
    )
    for entry in crossentropies:
        named = keras_names.find("train.loss", entry)
        missing += [entry] * (portable.loss(sparse, named, shares) is None)
    for entry in ("mse", "MSE", "mean-squared-error", {"name": "huber", "delta": 0.5}, "mae", "logcosh", "log_cosh"):
        named = keras_names.find("train.loss", entry)
        missing += [entry] * (portable.loss(named.make(), named, values) is None)
    for entry in ("r2", "r2_score", "rmse", "RMSE", "cosine", "mae", "mean squared error"):
        made = keras_names.find("train.metrics", entry).make()
        missing += [entry] * (portable.metric(made, entry, values, "labels") is None)
    for entry in ("auroc", "roc_auc", "AUC", "precision", "recall", "f1", "f1_score", "fbeta-score"):
        known = keras_names.find("train.metrics", entry)
        if known.kind.__name__ in ("F1Score", "FBetaScore"):
            known = known.with_options(threshold=0.5, average="macro")
        if portable.metric(known.make(), entry, Yardstick(bits, chances), "labels") is None:
            missing.append(entry)
    from search.engines.losses.forms import Form, FormedLoss

    formed = FormedLoss(keras.losses.BinaryCrossentropy(), Form("one_hot", "column", 1))
    if portable.loss(formed, keras_names.find("train.loss", "bce"), Yardstick(rows, chances)) is None:
        missing.append("one-hot rows of two classes")
    return missing


@pytest.mark.gallery
def test_losses_and_metrics_of_every_spelling_have_an_object_of_keras_in_the_file():
    found = in_jax(objects_of_every_spelling)
    assert found == []
