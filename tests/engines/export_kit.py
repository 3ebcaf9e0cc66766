"""What tests of exported models run in a process of its own: many models, each exported as a worker does it."""

import inspect
from pathlib import Path

import keras
import numpy as np
from support import ORIGIN

from search import data
from search.engines import exporting
from search.engines.checkpoints import Checkpoints
from search.engines.protocol import SaveModel
from search.engines.training import Trainer, leave_tensorflow_out, weights_of
from search.errors import UsageError
from search.spec.settings import DataSection, ModelSection, RunSection, Settings, TrainSection
from search.spec.vocabulary import OPTIMIZERS, SCHEDULES
from search.trials.events import Member

leave_tensorflow_out()
FOLDER = Path.cwd()
SOURCES = {
    "binary": {"source": "sklearn:breast_cancer", "scale": "standard", "limit": 120},
    "classes": {"source": "sklearn:wine", "scale": "minmax"},
    "numbers": {"source": "sklearn:diabetes", "scale": "none", "limit": 150},
}
(FOLDER / "own.py").write_text(
    """
import keras


def build(config, data):
    ends = {"binary": "sigmoid", "classification": "softmax", "regression": "softplus"}
    return keras.Sequential([
        keras.Input(data.input_shape),
        keras.layers.Dense(4, activation="tanh"),
        keras.layers.Dense(data.outputs, activation=ends[data.task]),
    ])
"""
)


class RefusedError(Exception):
    """A study itself can't train so."""


def trainer_of(data_section, model=None, precision="auto", **train):
    settings = Settings(
        data=DataSection(**data_section),
        model=ModelSection(**(model or {"build": "mlp", "units": [4]})),
        train=TrainSection(**train),
        run=RunSection(precision=precision),
    )
    return Trainer.load(settings, FOLDER, data.load(settings.data, FOLDER, 0))


def export(name, data_section, model=None, learning_rate=0.005, config=(), **train):
    """Export a model whose weights are random; describe the file and what its study has."""
    trainer = trainer_of(data_section, model, **train)
    settings = trainer.settings
    config = {
        **settings.model.arguments,
        "optimizer": settings.train.optimizer,
        "batch_size": 32,
        "epochs": 3,
        **settings.train.numbers,
        **dict(config),
    }
    try:
        model = trainer.model(config, 3)
    except UsageError as error:
        raise RefusedError(str(error)[:200]) from None
    arrays = {
        name: np.array(variable)
        for name, variable in weights_of(model.trainable_variables, model.non_trainable_variables)
    }
    Checkpoints(None).keep(FOLDER / f"{name}.npz", arrays, {"trial": 0})
    path = FOLDER / f"{name}.keras"
    loaded, info = trainer.data, trainer.data.info
    # As the study evaluates: its own objects on the rows that it trains on.
    try:
        study = model.evaluate(loaded.x_validation, loaded.y_validation, batch_size=256, verbose=0, return_dict=True)
    except Exception as error:
        raise RefusedError(f"{type(error).__name__}: {error}"[:200]) from None
    study = {name: float(value) for name, value in study.items() if np.ndim(value) == 0}
    order = SaveModel(Member(0), config, 3, str(FOLDER / f"{name}.npz"), str(path), ORIGIN, learning_rate)
    detail = exporting.save(trainer, order).detail
    lines = detail["lines"]
    y = loaded.y_validation
    labels = y.argmax(axis=-1) if loaded.raw.is_one_hot else y
    stays = loaded.raw.is_one_hot and not any("whole numbers" in line for line in lines)
    if stays or any(line.startswith("evaluate takes one-hot labels") for line in lines):
        y = np.eye(info.classes, dtype="float32")[np.asarray(labels).reshape(-1).astype(int)]
    elif loaded.raw.is_one_hot:
        y = labels.reshape(-1, 1)
    is_scaled = any("scaling is NOT inside" in line for line in lines)
    np.savez(FOLDER / f"{name}.rows.npz", x=loaded.x_validation if is_scaled else loaded.raw.x_validation, y=y)
    return {
        "path": str(path),
        "study": study,
        "is_scaled": loaded.scaling.kind != "none" or loaded.scaling.divisor != 1,
        "weights": int(model.count_params()),
        **detail,
    }


def export_all(cases):
    """Export all cases; return a description of each."""
    found = {}
    for name, case in cases.items():
        found[name] = export(name, **case)
        keras.utils.clear_session()
    return found


ARGUMENTS = {
    "SensitivityAtSpecificity": {"specificity": 0.5},
    "SpecificityAtSensitivity": {"sensitivity": 0.5},
    "PrecisionAtRecall": {"recall": 0.5},
    "RecallAtPrecision": {"precision": 0.5},
    "IoU": {"num_classes": 3, "target_class_ids": [0, 1]},
    "OneHotIoU": {"num_classes": 3, "target_class_ids": [0, 1]},
    "MeanIoU": {"num_classes": 3},
    "OneHotMeanIoU": {"num_classes": 3},
    "MeanRelativeError": {"normalizer": [1.0]},
}
ABSTRACT = ("Metric", "Mean", "Sum", "MeanMetricWrapper", "Loss")


def entries(module, base):
    """Walk a module of Keras: a study file's entry for each of its losses or metrics."""
    kinds = {name: kind for name, kind in vars(module).items() if inspect.isclass(kind) and issubclass(kind, base)}
    return [{"name": name, **ARGUMENTS.get(name, {})} for name in sorted(kinds) if name not in ABSTRACT]


def export_gallery(task, model, part):
    """Export every loss with every optimizer and schedule in turn, or every metric; return what came of it."""
    found, refused = {}, {}
    data_section = SOURCES[task]
    optimizers, metrics = [name.lower() for name in OPTIMIZERS], ["mae"] if task == "numbers" else ["accuracy"]

    def attempt(name, **case):
        try:
            found[name] = export(f"{part}-{name}", data_section, model, **case)
        except RefusedError as error:
            refused[name] = str(error)
        keras.utils.clear_session()

    def several(chosen):
        before = len(refused)
        name = "+".join(entry["name"] for entry in chosen)
        attempt(name, metrics=chosen)
        if len(refused) > before and len(chosen) > 1:
            del refused[name]
            several(chosen[: len(chosen) // 2])
            several(chosen[len(chosen) // 2 :])

    if part == "losses":
        for place, entry in enumerate([None, *entries(keras.losses, keras.losses.Loss)]):
            attempt(
                entry["name"] if entry else "default",
                loss=entry,
                metrics=metrics,
                optimizer=optimizers[place % len(optimizers)],
                schedule=SCHEDULES[place % len(SCHEDULES)],
                warmup=0.1 * (place % 2),
            )
    else:
        # The best k of a single output are told differently by TensorFlow and JAX.
        chosen = [
            entry
            for entry in entries(keras.metrics, keras.metrics.Metric)
            if task == "classes" or "TopK" not in entry["name"]
        ]
        for start in range(0, len(chosen), 8):
            several(chosen[start : start + 8])
    return {"found": found, "refused": refused}
