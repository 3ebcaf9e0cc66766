# ruff: noqa: F401 (what is imported here is for the code of the tests)
"""What tests of losses and metrics run in a process of their own: studies through the real fit engine, and right values.

The right values come from scikit-learn, from arithmetic, or from plain Keras on labels and outputs that are put into their form
here, by hand.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
from sklearn import metrics as sk

from search import data
from search.engines.fit import FitEngine
from search.engines.losses import keras_names, needs
from search.engines.training import Trainer, leave_tensorflow_out
from search.errors import UsageError
from search.spec.settings import DataSection, ModelSection, Settings, TrainSection
from search.trials.events import Assignment, EpochEnd, Member, Verdict

leave_tensorflow_out()
FOLDER = Path(tempfile.mkdtemp())
rng = np.random.default_rng(7)
X = rng.normal(size=(160, 6)).astype("float32")
NUMBERS = np.abs(X[:, :3] * [2, 1, 0.5]) + 0.5
BINARY = (X[:, 0] + 0.5 * X[:, 1] + 0.3 * rng.normal(size=160) > 0).astype("int64")
CLASSES = np.argmax(X[:, :4] + 0.5 * rng.normal(size=(160, 4)), axis=1)
BITS = (X[:, :3] + 0.3 * rng.normal(size=(160, 3)) > 0).astype("float64")
SOURCES = {
    "binary": BINARY, "binary column": BINARY[:, None], "binary floats": BINARY.astype("float32"), "binary one-hot": np.eye(2)[BINARY],
    "classes": CLASSES, "classes column": CLASSES[:, None], "classes one-hot": np.eye(4, dtype=int)[CLASSES],
    "classes one-hot floats": np.eye(4)[CLASSES], "bits": BITS,
    "number": NUMBERS[:, 0], "number column": NUMBERS[:, :1], "numbers": NUMBERS,
}  # fmt: skip
MODEL = """
import keras
from keras import layers as L, ops


def build(config, data):
    ends = {"logits": [], "probabilities": [L.Activation("sigmoid" if data.task != "classification" else "softmax")]}
    return keras.Sequential([keras.Input(data.input_shape), L.Dense(8, "tanh"), L.Dense(config.get("outputs", data.outputs)),
                             *ends[config.get("end", "logits")]])
"""
(FOLDER / "model.py").write_text(MODEL)
for name, y in SOURCES.items():
    np.savez(FOLDER / f"{name}.npz", x=X, y=y)
CONFIG = {"optimizer": "sgd", "learning_rate": 0.1, "batch_size": 32, "epochs": 1}


def trainer_of(source, *, build="model.py:build", task=None, target=None, seed=0, **train):
    if task is None and source == "bits":
        task = "regression"
    named_source = source if ":" in source or "." in source else f"{source}.npz"
    section = DataSection(source=named_source, task=task, target=target, validation=0.3, test=0)
    settings = Settings(data=section, model=ModelSection(build=build), train=TrainSection(**train))
    return Trainer.load(settings, FOLDER, data.load(section, FOLDER, seed))


def trained(trainer, epochs=1, **config):
    """Train by the fit engine; return the model after its last epoch, and that epoch's report."""
    engine = FitEngine(trainer)
    engine.start(Assignment(Member(0), {**CONFIG, **config, "epochs": epochs}, epochs, seed=3))
    for epoch in range(1, epochs + 1):
        (event,) = engine.advance()
        assert isinstance(event, EpochEnd), event.detail
        model = engine._reporter.model
        weights = model.get_weights()
        engine.apply([Verdict(Member(0), ends=epoch == epochs)])
    model.set_weights(weights)
    return model, dict(event.metrics)


def sigmoid(x):
    return 1 / (1 + np.exp(-x.astype("float64")))


def softmax(x):
    raised = np.exp(x.astype("float64") - x.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


class Truth:
    """Labels and outputs of the validation rows, in every form that a metric may be made for."""

    def __init__(self, trainer, model, *, is_logits, squash=None):
        y, info = trainer.data.y_validation, trainer.data.info
        self.raw = np.asarray(keras.ops.convert_to_numpy(model(trainer.data.x_validation, training=False)))
        width = self.raw.shape[1]
        self.width, self.is_classes = width, info.classes > 0
        squash = squash or (softmax if self.is_classes and width > 1 else sigmoid)
        self.p = squash(self.raw) if is_logits else self.raw.astype("float64")
        if self.is_classes:
            self.ids = y.argmax(axis=1) if y.ndim == 2 and y.shape[1] > 1 else y.reshape(-1).astype(int)
            self.dense = self.ids[:, None].astype(float) if width == 1 else np.eye(width)[self.ids]
        else:
            self.dense = y.reshape(len(y), -1).astype("float64")
        self.guess = self.p.argmax(axis=1) if width > 1 else (self.p[:, 0] > 0.5).astype(int)


def plain(metric, labels, outputs):
    """What plain Keras has for one batch of labels and outputs."""
    metric.update_state(np.asarray(labels, "float32"), np.asarray(outputs, "float32"))
    return float(np.asarray(keras.ops.convert_to_numpy(metric.result())).reshape(()))


AT = {"PrecisionAtRecall": {"recall": 0.6}, "RecallAtPrecision": {"precision": 0.6},
      "SensitivityAtSpecificity": {"specificity": 0.6}, "SpecificityAtSensitivity": {"sensitivity": 0.6}}  # fmt: skip


def metric_options(name, classes):
    return {
        **AT, "FBetaScore": {"beta": 2}, "IoU": {"num_classes": classes, "target_class_ids": [0, 1]},
        "MeanIoU": {"num_classes": classes}, "OneHotIoU": {"num_classes": classes, "target_class_ids": [1]},
        "OneHotMeanIoU": {"num_classes": classes}, "TopKCategoricalAccuracy": {"k": 2}, "SparseTopKCategoricalAccuracy": {"k": 2},
        "PearsonCorrelation": {"axis": 0}, "ConcordanceCorrelation": {"axis": 0},
    }.get(name, {})  # fmt: skip


def right_metric(name, truth):
    """The right value of a metric, by scikit-learn or arithmetic; by plain Keras for what is binned by thresholds."""
    t, p, raw = truth.dense, truth.p, truth.raw.astype("float64")
    cut = (p > 0.5).astype(float)
    hits, false = (cut * t).sum(), (cut * (1 - t)).sum()
    clip = np.clip(p, 1e-7, 1 - 1e-7)
    signs = 2 * t - 1 if np.isin(t, (0, 1)).all() else t

    def jaccards(labels):
        return sk.jaccard_score(truth.ids, truth.guess, labels=labels, average="macro")

    def f(beta):
        if truth.is_classes:
            average = "binary" if truth.width == 1 else "macro"
            return sk.fbeta_score(truth.ids, truth.guess, beta=beta, average=average)
        return sk.fbeta_score(t, cut, beta=beta, average="macro")

    def top_2():
        return np.mean([i in np.argsort(-row)[:2] for i, row in zip(t.argmax(axis=1), raw, strict=True)])

    kinds = {
        "Accuracy": lambda: sk.accuracy_score(truth.ids, truth.guess) if truth.is_classes else np.mean(cut == t),
        "BinaryAccuracy": lambda: np.mean(cut == t),
        "AUC": lambda: plain(keras.metrics.AUC(), t, p),
        "BinaryCrossentropy": lambda: -np.mean(t * np.log(clip) + (1 - t) * np.log(1 - clip)),
        "BinaryIoU": lambda: np.mean([sk.jaccard_score(t.ravel(), cut.ravel(), pos_label=label) for label in (0, 1)]),
        "F1Score": lambda: f(1), "FBetaScore": lambda: f(2),
        "TruePositives": lambda: hits, "FalsePositives": lambda: false,
        "FalseNegatives": ((1 - cut) * t).sum, "TrueNegatives": ((1 - cut) * (1 - t)).sum,
        "Precision": lambda: sk.precision_score(t.ravel(), cut.ravel()), "Recall": lambda: sk.recall_score(t.ravel(), cut.ravel()),
        **{n: lambda n=n: plain(getattr(keras.metrics, n)(**AT[n]), t, p) for n in AT},
        "KLDivergence": lambda: np.mean((np.clip(t, 1e-7, 1) * np.log(np.clip(t, 1e-7, 1) / clip)).sum(axis=1)),
        "Poisson": lambda: np.mean(p - t * np.log(p + 1e-7)),
        "CategoricalCrossentropy": lambda: -np.mean((t * np.log(clip / clip.sum(axis=1, keepdims=True))).sum(axis=1)),
        "SparseCategoricalCrossentropy": lambda: sk.log_loss(truth.ids, p, labels=range(truth.width)),
        "CategoricalAccuracy": lambda: np.mean(t.argmax(axis=1) == raw.argmax(axis=1)),
        "SparseCategoricalAccuracy": lambda: np.mean(t.argmax(axis=1) == raw.argmax(axis=1)),
        "TopKCategoricalAccuracy": top_2, "SparseTopKCategoricalAccuracy": top_2,
        "IoU": lambda: jaccards([0, 1]), "MeanIoU": lambda: jaccards(None),
        "OneHotIoU": lambda: jaccards([1]), "OneHotMeanIoU": lambda: jaccards(None),
        "Hinge": lambda: np.mean(np.maximum(1 - signs * raw, 0)),
        "SquaredHinge": lambda: np.mean(np.maximum(1 - signs * raw, 0) ** 2),
        "CategoricalHinge": lambda: np.mean(np.maximum(((1 - t) * raw).max(axis=1) - (t * raw).sum(axis=1) + 1, 0)),
        "CosineSimilarity": lambda: np.mean((t * p).sum(axis=1) / np.maximum(np.linalg.norm(t, axis=1) * np.linalg.norm(p, axis=1), 1e-12)),
        "LogCoshError": lambda: np.mean(np.log(np.cosh(p - t))),
        "MeanAbsoluteError": lambda: sk.mean_absolute_error(t, p),
        "MeanAbsolutePercentageError": lambda: 100 * np.mean(np.abs(t - p) / np.maximum(np.abs(t), 1e-7)),
        "MeanSquaredError": lambda: sk.mean_squared_error(t, p),
        "MeanSquaredLogarithmicError": lambda: np.mean((np.log(np.maximum(p, 1e-7) + 1) - np.log(t + 1)) ** 2),
        "R2Score": lambda: sk.r2_score(t, p), "RootMeanSquaredError": lambda: sk.mean_squared_error(t, p) ** 0.5,
        "PearsonCorrelation": lambda: np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(t.T, p.T, strict=True)]),
        "ConcordanceCorrelation": lambda: np.mean(
            [2 * np.cov(a, b, bias=True)[0, 1] / (a.var() + b.var() + (a.mean() - b.mean()) ** 2) for a, b in zip(t.T, p.T, strict=True)]
        ),
    }  # fmt: skip
    return float(kinds[name]())


def right_loss(name, truth, **options):
    """The right value of a loss: plain Keras told nothing of logits, on labels and outputs in their form."""
    needs_ids = name in ("SparseCategoricalCrossentropy", "CategoricalGeneralizedCrossEntropy", "Circle")
    takes_raw = name not in (
        "CategoricalCrossentropy",
        "SparseCategoricalCrossentropy",
        "BinaryCrossentropy",
        "KLDivergence",
        "Dice",
        "BinaryFocalCrossentropy",
        "CategoricalFocalCrossentropy",
        "Tversky",
        "CategoricalGeneralizedCrossEntropy",
    )
    labels = truth.ids if needs_ids else truth.dense
    outputs = truth.raw if takes_raw else truth.p
    return float(getattr(keras.losses, name)(**options)(np.asarray(labels, "float32"), np.asarray(outputs, "float32")))


def close(a, b, tolerance=2e-4):
    return bool(np.isfinite(a) and np.isfinite(b) and abs(a - b) <= tolerance * max(1, abs(b)))
