"""What `peers.py` measures, one contestant a process: does the work once and prints its own figures as JSON.

The work is told here once for all of them: data, network, space, epochs. Backends, tuners and Optuna are
imported inside functions, so that no contestant pays for another's imports.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras
    import optuna

    from search.data import Data
    from search.engines.protocol import Assignment

EPOCHS = 20
BATCH_SIZE = 32
SEED = 0
UNITS = [128, 128]
OBJECTIVE = "val_accuracy"
# name -> (low, high, log)
SPACE: dict[str, tuple[float, float, bool]] = {
    "learning_rate": (1e-4, 1e-1, True),
    "dropout": (0.0, 0.5, False),
    "weight_decay": (1e-6, 1e-2, True),
}
LANES = 16


@dataclass(frozen=True, slots=True)
class Figures:
    """What one contestant found out about itself.

    Attributes:
        trials: that it finished, all epochs each.
        seconds: from just before the first config is drawn until the last trial is told and stored.
        parts: of those seconds, where it can tell them apart.
        best: objective of its best trial; only to see that it did train.
    """

    trials: int
    seconds: float
    parts: Mapping[str, float] = field(default_factory=dict)
    best: float | None = None


def study_text(trials: int, *, sampler: str = "random", pruner: str = "none") -> str:
    """Write the work as a study file of manyfit."""
    space = "\n".join(
        f"{name} = {{ low = {low}, high = {high}, log = {str(log).lower()} }}"
        for name, (low, high, log) in SPACE.items()
    )
    return f"""
[study]
objective = "{OBJECTIVE}"
trials = {trials}
epochs = {EPOCHS}
seed = {SEED}
[data]
source = "sklearn:digits"
[model]
build = "mlp"
units = {UNITS}
[train]
optimizer = "adamw"
batch_size = {BATCH_SIZE}
[space]
{space}
[search]
sampler = "{sampler}"
pruner = "{pruner}"
"""


# -- training ----------------------------------------------------------------------------------------------


def load_data() -> Data:
    """Load the rows that manyfit would train on and judge by."""
    from search import data
    from search.settings import DataSection

    return data.load(DataSection(source="sklearn:digits"), Path(), SEED)


def make_model(config: Mapping[str, Any], data: Data) -> keras.Model:
    """Build and compile the network as a user of plain Keras would."""
    import keras

    from models import mlp

    model = mlp.build({"units": UNITS, "dropout": config["dropout"]}, data.info)
    model.compile(
        keras.optimizers.AdamW(config["learning_rate"], weight_decay=config["weight_decay"]),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def fit_arguments(data: Data) -> dict[str, Any]:
    """Return what `model.fit` is given, by its names."""
    return {
        "x": data.x_train,
        "y": data.y_train,
        "validation_data": (data.x_validation, data.y_validation),
        "epochs": EPOCHS,
        "batch_size": BATCH_SIZE,
        # What manyfit's fit engine takes: nothing of the ratio is to come from smaller batches here.
        "validation_batch_size": 256,
        "verbose": 0,
    }


def train_keras_tuner(trials: int, folder: Path) -> Figures:
    """Search with KerasTuner's RandomSearch; it also saves every trial's best weights, which is its way."""
    import keras_tuner  # type: ignore[import-untyped]

    data = load_data()

    def build(hp: Any) -> keras.Model:
        config = {
            name: hp.Float(name, low, high, sampling="log" if log else "linear")
            for name, (low, high, log) in SPACE.items()
        }
        return make_model(config, data)

    tuner = keras_tuner.RandomSearch(build, objective=OBJECTIVE, max_trials=trials, seed=1, directory=folder)
    began = time.perf_counter()
    tuner.search(**fit_arguments(data))
    seconds = time.perf_counter() - began
    finished = [trial for trial in tuner.oracle.trials.values() if trial.status == "COMPLETED"]
    return Figures(len(finished), seconds, best=max((trial.score for trial in finished), default=None))


def train_optuna(trials: int, folder: Path) -> Figures:
    """Search with Optuna on SQLite, `model.fit` in the objective, every epoch reported."""
    import keras

    data = load_data()

    def objective(trial: optuna.Trial) -> float:
        keras.backend.clear_session()
        model = make_model(suggest(trial), data)
        report = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: trial.report(logs[OBJECTIVE], epoch + 1)
        )
        history = model.fit(**fit_arguments(data), callbacks=[report])
        return float(max(history.history[OBJECTIVE]))

    study = optuna_study(folder, tpe=False)
    return optimize(study, objective, trials)


# -- overhead ----------------------------------------------------------------------------------------------


def score(trial: int, epoch: int) -> float:
    """Return the objective of a pretended epoch; each trial beats the last, so that none is pruned."""
    return trial + epoch / EPOCHS


def pretend(assignment: Assignment, epoch: int) -> dict[str, float]:
    """Return a pretended epoch with the metrics that a real one reports."""
    value = score(assignment.member.trial, epoch)
    metrics = {"loss": 1 / epoch, "accuracy": value, "val_loss": 1 / epoch, "learning_rate": 1e-3}
    return {**metrics, OBJECTIVE: value}


def drive_manyfit(trials: int, folder: Path, *, lanes: int, tpe: bool = False) -> Figures:
    """Run manyfit's scheduler, study and store on pretended curves."""
    from search import studyfile
    from search.engines.replay import ReplayEngine
    from search.identity import Record
    from search.scheduler import search
    from search.store import Store
    from search.study import Study

    path = folder / "study.toml"
    path.write_text(study_text(trials, sampler="tpe", pruner="hyperband") if tpe else study_text(trials))
    file = studyfile.read(path)
    with Store.create(file, Record({"versions": {}}, {}, "")) as store:
        study = Study(file)
        began = time.perf_counter()
        search(study, store, ReplayEngine(pretend, lanes), watch=lambda: None)
        seconds = time.perf_counter() - began
    whole = [trial for trial in study.trials if trial.state == "COMPLETE" and len(trial.curve) == EPOCHS]
    parts = {
        "sampler": study.sampler_seconds,
        "record+judge": seconds - study.sampler_seconds - store.seconds,
        "store": store.seconds,
    }
    return Figures(len(whole), seconds, parts)


def drive_optuna(trials: int, folder: Path, *, tpe: bool = False) -> Figures:
    """Run Optuna on SQLite with the same pretended curves, asking its pruner every epoch."""

    def objective(trial: optuna.Trial) -> float:
        suggest(trial)
        for epoch in range(1, EPOCHS + 1):
            trial.report(score(trial.number, epoch), epoch)
            trial.should_prune()
        return score(trial.number, EPOCHS)

    return optimize(optuna_study(folder, tpe=tpe), objective, trials)


# -- Optuna, for both --------------------------------------------------------------------------------------


def optuna_study(folder: Path, *, tpe: bool) -> optuna.Study:
    """Make a study of plain Optuna on SQLite: random and unpruned, or TPE and Hyperband."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(
        storage=f"sqlite:///{folder / 'study.db'}",
        sampler=optuna.samplers.TPESampler(seed=SEED) if tpe else optuna.samplers.RandomSampler(seed=SEED),
        pruner=optuna.pruners.HyperbandPruner(max_resource=EPOCHS) if tpe else optuna.pruners.NopPruner(),
        direction="maximize",
    )


def suggest(trial: optuna.Trial) -> dict[str, float]:
    """Draw a config of the space."""
    return {name: trial.suggest_float(name, low, high, log=log) for name, (low, high, log) in SPACE.items()}


def optimize(study: optuna.Study, objective: Callable[[optuna.Trial], float], trials: int) -> Figures:
    """Run a study of plain Optuna and time it."""
    began = time.perf_counter()
    study.optimize(objective, n_trials=trials)
    seconds = time.perf_counter() - began
    whole = [t for t in study.trials if len(t.intermediate_values) == EPOCHS and t.value is not None]
    return Figures(len(whole), seconds, best=study.best_value)


MEASURES: dict[str, Callable[[int, Path], Figures]] = {
    "train-keras-tuner": train_keras_tuner,
    "train-optuna": train_optuna,
    "drive-manyfit": lambda trials, folder: drive_manyfit(trials, folder, lanes=1),
    "drive-manyfit-lanes": lambda trials, folder: drive_manyfit(trials, folder, lanes=LANES),
    "drive-manyfit-tpe": lambda trials, folder: drive_manyfit(trials, folder, lanes=1, tpe=True),
    "drive-optuna": drive_optuna,
    "drive-optuna-tpe": lambda trials, folder: drive_optuna(trials, folder, tpe=True),
}


if __name__ == "__main__":
    measure, count, place = sys.argv[1:]
    print(json.dumps(asdict(MEASURES[measure](int(count), Path(place)))))
