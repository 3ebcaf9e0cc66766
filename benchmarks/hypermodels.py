"""Compares the best configs that KerasTuner and manyfit find of a hypermodel in as many trials of as many epochs.

Prints the best val_accuracy of each search, for each seed of the search, on scikit-learn's digits and 3000 images
of Fashion-MNIST (../shared/data). No trial is pruned, so the budgets are equal. JAX on the CPU trains for both.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from measuring import CPU, MANYFIT, hardware, heading, versions

from search.spec.settings import DataSection

HERE = Path(__file__).resolve().parent
FASHION = HERE.parents[1] / "shared" / "data" / "fashion_mnist.npz"
SOURCES = {"digits": ("sklearn:digits", None), "fashion_mnist": (str(FASHION), 3000)}
SEARCHES = {
    "KerasTuner BayesianOptimization": "BayesianOptimization",
    "manyfit bayes": "bayes",
}


def by_kerastuner(name: str, data_name: str, trials: int, epochs: int, seed: int) -> float:
    """Search with KerasTuner in this process; return the best val_accuracy."""
    import keras_tuner  # type: ignore[import-untyped]
    from hypermodel import build

    from search import data

    source, limit = SOURCES[data_name]
    loaded = data.load(DataSection(source=source, limit=limit), HERE, 0)
    with tempfile.TemporaryDirectory() as folder:
        kind = getattr(keras_tuner, name)
        tuner = kind(build, objective="val_accuracy", max_trials=trials, seed=seed, directory=folder)
        tuner.search(
            loaded.x_train,
            loaded.y_train,
            validation_data=(loaded.x_validation, loaded.y_validation),
            epochs=epochs,
            verbose=0,
        )
        return float(max(trial.score for trial in tuner.oracle.trials.values() if trial.score is not None))


def by_manyfit(sampler: str, data_name: str, trials: int, epochs: int, seed: int) -> float:
    """Search with `manyfit run --build`; return the best val_accuracy."""
    source, limit = SOURCES[data_name]
    settings = {
        "study.objective": "val_accuracy", "study.epochs": epochs, "search.sampler": sampler, "search.pruner": "none",
        "run.engine": "fit", "run.backend": "jax", "run.devices": '["cpu"]', "run.keep": 0,
    }  # fmt: skip
    settings |= {} if limit is None else {"data.limit": limit}
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "hypermodel.py").write_bytes((HERE / "hypermodel.py").read_bytes())
        where = ["--build", "hypermodel.py:build", "--data", source, "--trials", str(trials), "--seed", str(seed)]
        done = subprocess.run(
            [*MANYFIT, "run", *where, *words], cwd=folder, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(done.stderr)
        return float(json.loads(done.stdout)["value"])


def search(name: str, *arguments: Any) -> tuple[float, float]:
    """Return the best val_accuracy of one search, and the seconds of its whole process."""
    began = time.perf_counter()
    if not name.startswith("KerasTuner"):
        return by_manyfit(SEARCHES[name], *arguments), time.perf_counter() - began
    command = [sys.executable, __file__, "--one", SEARCHES[name], *map(str, arguments)]
    environment = {**os.environ, **CPU.environment("jax")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(done.stdout.splitlines()[-1]), time.perf_counter() - began


def report(trials: int, epochs: int, seeds: Sequence[int]) -> None:
    """Run all searches and print a line for each."""
    print(heading(hardware(), versions()))
    shown = ", ".join(map(str, seeds))
    print(f"{trials} trials of {epochs} epochs each; best val_accuracy for the seeds {shown}; mean; seconds")
    for data_name in SOURCES:
        for name in SEARCHES:
            results = [search(name, data_name, trials, epochs, seed) for seed in seeds]
            values = "  ".join(f"{value:.4f}" for value, _ in results)
            mean, seconds = (fmean(column) for column in zip(*results, strict=True))
            print(f"{data_name:14} {name:33} {values}   {mean:.4f}   {seconds:5.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3, help="how many repetitions")
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        name, data_name, *numbers = given.one
        print(by_kerastuner(name, data_name, *map(int, numbers)))
    else:
        report(given.trials, given.epochs, range(1, given.seeds + 1))


if __name__ == "__main__":
    main()
