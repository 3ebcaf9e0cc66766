"""The contestants of the benchmarks. Each runs in its own process, does the work once and prints its figures as JSON.

Run as `contestants.py MEASURE WORK TRIALS FOLDER`, the work as JSON. Backends, tuners and Optuna are imported inside
functions, so that no contestant pays for another's imports.
"""

from __future__ import annotations

import importlib
import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measuring import Figures
from works import DIGITS, EPOCHS, OBJECTIVE, SEED, SPACE, Work, study_text

if TYPE_CHECKING:
    import keras
    import numpy as np
    import optuna

    from search.data import Data
    from search.trials.events import Assignment

LANES = 16
# The machine's peak is measured by products of two square float32 matrices: their size, and the number of products.
MATRIX, PRODUCTS = 2048, 10


# -- training ----------------------------------------------------------------------------------------------


def load_data(work: Work) -> Data:
    """Load the same training and validation rows as manyfit."""
    from search import data
    from search.spec.settings import DataSection

    return data.load(DataSection(source=work.source, limit=work.limit), Path(), SEED)


def make_model(work: Work, config: Mapping[str, Any], data: Data) -> keras.Model:
    """Build and compile the network as a user of plain Keras would."""
    import keras

    model = importlib.import_module(f"models.{work.build}").build({**work.arguments, **config}, data.info)
    model.compile(
        keras.optimizers.AdamW(config["learning_rate"], weight_decay=config["weight_decay"]),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def fit_arguments(work: Work, config: Mapping[str, Any], data: Data) -> dict[str, Any]:
    """Return the arguments of `model.fit`."""
    return {
        "x": data.x_train,
        "y": data.y_train,
        "validation_data": (data.x_validation, data.y_validation),
        "epochs": work.epochs,
        "batch_size": work.batch_size_of(config),
        # As manyfit: smaller validation batches would be slower, and the comparison unfair.
        "validation_batch_size": 256,
        "verbose": 0,
    }


def train_fit(work: Work, trials: int, folder: Path) -> Figures:  # noqa: ARG001 (nothing is kept)
    """Train in a plain loop: draw a config, build, compile, fit, clear the session. No tuner, nothing stored."""
    import keras
    import numpy as np

    data = load_data(work)
    random = np.random.default_rng(SEED)
    values = []
    began = time.perf_counter()
    for _ in range(trials):
        config = draw(work, random)
        history = make_model(work, config, data).fit(**fit_arguments(work, config, data))
        values.append(float(max(history.history[OBJECTIVE])))
        keras.utils.clear_session()
    return Figures(len(values), time.perf_counter() - began, best=max(values))


def draw(work: Work, random: np.random.Generator) -> dict[str, Any]:
    """Draw a config of the space by hand."""
    config: dict[str, Any] = {
        name: math.exp(random.uniform(math.log(low), math.log(high))) if log else random.uniform(low, high)
        for name, (low, high, log) in SPACE.items()
    }
    return config | {name: values[int(random.integers(len(values)))] for name, values in work.choices.items()}


def train_keras_tuner(work: Work, trials: int, folder: Path) -> Figures:
    """Search with KerasTuner's RandomSearch, which always saves every trial's best weights."""
    import keras_tuner  # type: ignore[import-untyped]

    data = load_data(work)

    class Model(keras_tuner.HyperModel):  # type: ignore[misc]
        """The work in the form that KerasTuner documents: the network in `build`, the batch size in `fit`."""

        def build(self, hp: Any) -> keras.Model:
            config = {
                name: hp.Float(name, low, high, sampling="log" if log else "linear")
                for name, (low, high, log) in SPACE.items()
            }
            config |= {name: hp.Choice(name, list(values)) for name, values in work.choices.items()}
            return make_model(work, config, data)

        def fit(self, hp: Any, model: keras.Model, **arguments: Any) -> Any:
            return model.fit(**{**arguments, "batch_size": work.batch_size_of(hp.values)})

    tuner = keras_tuner.RandomSearch(Model(), objective=OBJECTIVE, max_trials=trials, seed=1, directory=folder)
    began = time.perf_counter()
    tuner.search(**fit_arguments(work, {}, data))
    seconds = time.perf_counter() - began
    finished = [trial for trial in tuner.oracle.trials.values() if trial.status == "COMPLETED"]
    return Figures(len(finished), seconds, best=max((trial.score for trial in finished), default=None))


def train_optuna(work: Work, trials: int, folder: Path) -> Figures:
    """Search with Optuna on SQLite, `model.fit` in the objective, every epoch reported."""
    import keras

    data = load_data(work)

    def objective(trial: optuna.Trial) -> float:
        keras.backend.clear_session()
        config = suggest(work, trial)
        report = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: trial.report(logs[OBJECTIVE], epoch + 1)
        )
        history = make_model(work, config, data).fit(**fit_arguments(work, config, data), callbacks=[report])
        return float(max(history.history[OBJECTIVE]))

    return optimize(optuna_study(folder, tpe=False), objective, trials, work.epochs)


def multiply_matrices(work: Work, trials: int, folder: Path) -> Figures:  # noqa: ARG001 (the machine's own measure)
    """Time matrix products in JAX with the precision of training; `parts["best"]` are the seconds of the quickest."""
    import jax
    import jax.numpy as jnp

    product = jax.jit(jnp.matmul)
    left, right = jax.random.normal(jax.random.key(SEED), (2, MATRIX, MATRIX), jnp.float32)
    product(left, right).block_until_ready()
    seconds = []
    for _ in range(PRODUCTS):
        began = time.perf_counter()
        product(left, right).block_until_ready()
        seconds.append(time.perf_counter() - began)
    return Figures(trials, sum(seconds), {"best": min(seconds)})


# -- overhead ----------------------------------------------------------------------------------------------


def score(trial: int, epoch: int) -> float:
    """Return the objective of a simulated epoch; each trial beats the last, so that none is pruned."""
    return trial + epoch / EPOCHS


def simulate(assignment: Assignment, epoch: int) -> dict[str, float]:
    """Return the metrics of a simulated epoch, the same ones as a real epoch has."""
    value = score(assignment.member.trial, epoch)
    metrics = {"loss": 1 / epoch, "accuracy": value, "val_loss": 1 / epoch, "learning_rate": 1e-3}
    return {**metrics, OBJECTIVE: value}


def drive_manyfit(trials: int, folder: Path, *, lanes: int, tpe: bool = False) -> Figures:
    """Run manyfit's loop, study and store on simulated curves."""
    from search.core.loop import search
    from search.core.study import Study
    from search.reading import studyfile
    from search.spec.identity import Record
    from search.storage.store import Store
    from search.workers.inprocess import Replaying

    path = folder / "study.toml"
    policies = {"sampler": "tpe", "pruner": "hyperband"} if tpe else {}
    path.write_text(study_text(DIGITS, trials, **policies))
    file = studyfile.read(path)
    with Store.create(
        file, Record({"engine": "fit", "backend": "jax", "devices": [], "versions": {}}, {"data": {}, "model": {}}, "")
    ) as store:
        study = Study(file)
        began = time.perf_counter()
        search(study, store, Replaying(simulate, lanes), watch=lambda: None)
        seconds = time.perf_counter() - began
    whole = [trial for trial in study.trials if trial.state == "COMPLETE" and len(trial.curve) == EPOCHS]
    parts = {
        "sampler": study.sampler_seconds,
        "record+judge": seconds - study.sampler_seconds - store.seconds,
        "store": store.seconds,
    }
    return Figures(len(whole), seconds, parts)


def drive_optuna(trials: int, folder: Path, *, tpe: bool = False) -> Figures:
    """Run Optuna on SQLite with the same simulated curves, and call its pruner every epoch."""

    def objective(trial: optuna.Trial) -> float:
        suggest(DIGITS, trial)
        for epoch in range(1, EPOCHS + 1):
            trial.report(score(trial.number, epoch), epoch)
            trial.should_prune()
        return score(trial.number, EPOCHS)

    return optimize(optuna_study(folder, tpe=tpe), objective, trials, EPOCHS)


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


def suggest(work: Work, trial: optuna.Trial) -> dict[str, Any]:
    """Let Optuna draw a config of the space."""
    config: dict[str, Any] = {
        name: trial.suggest_float(name, low, high, log=log) for name, (low, high, log) in SPACE.items()
    }
    return config | {name: trial.suggest_categorical(name, list(values)) for name, values in work.choices.items()}


def optimize(study: optuna.Study, objective: Callable[[optuna.Trial], float], trials: int, epochs: int) -> Figures:
    """Run a study of plain Optuna and time it."""
    began = time.perf_counter()
    study.optimize(objective, n_trials=trials)
    seconds = time.perf_counter() - began
    whole = [t for t in study.trials if len(t.intermediate_values) == epochs and t.value is not None]
    return Figures(len(whole), seconds, best=study.best_value)


MEASURES: dict[str, Callable[[Work, int, Path], Figures]] = {
    "train-fit": train_fit,
    "train-keras-tuner": train_keras_tuner,
    "train-optuna": train_optuna,
    "drive-manyfit": lambda _, trials, folder: drive_manyfit(trials, folder, lanes=1),
    "drive-manyfit-lanes": lambda _, trials, folder: drive_manyfit(trials, folder, lanes=LANES),
    "drive-manyfit-tpe": lambda _, trials, folder: drive_manyfit(trials, folder, lanes=1, tpe=True),
    "drive-optuna": lambda _, trials, folder: drive_optuna(trials, folder),
    "drive-optuna-tpe": lambda _, trials, folder: drive_optuna(trials, folder, tpe=True),
    "multiply-matrices": multiply_matrices,
}


if __name__ == "__main__":
    measure, work_json, count, folder = sys.argv[1:]
    print(json.dumps(asdict(MEASURES[measure](Work(**json.loads(work_json)), int(count), Path(folder)))))
