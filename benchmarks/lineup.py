"""The rows of `lanes.py`: contestants, their work, the aims, and the measured outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import measuring
from measuring import LONG_TRIALS, Needs, Run
from works import DIGITS, Work

OURS, WARM = "manyfit, lanes", "manyfit, lanes, warm cache"
GPU_LANES = 256
# Measures: keys of `contestants.MEASURES`, and LANES, which is `manyfit run` itself.
TUNER, OPTUNA, FIT, DRIVE, LANES = "train-keras-tuner", "train-optuna", "train-fit", "drive-manyfit-lanes", "lanes"
NAMES = {TUNER: "KerasTuner random", OPTUNA: "Optuna + model.fit", FIT: "model.fit"}
BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX"}
INITIALIZERS = ("glorot_uniform", "he_normal", "lecun_normal", "random_normal")

T = TypeVar("T", int, int | None)


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured.

    Attributes:
        rivals: the most trials that each rival runs; None for as many as manyfit.
        is_quick: everything is small, and the figures are no claim.
        data: the folder of MNIST and Fashion-MNIST.
        device: "cpu" or "gpu".
    """

    rivals: int | None
    is_quick: bool
    data: Path
    device: str

    def pick(self, whole: T, quick: T) -> T:
        """Return the count for this scale."""
        return quick if self.is_quick else whole


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table.

    Attributes:
        measure: one of the measures above.
        trials: how many it runs; `of`: how many manyfit runs of the same work.
        at_least: the aim: the row's seconds a trial divided by manyfit's; 0 for no aim.
        settings: further settings for `manyfit run`.
    """

    work: Work
    name: str
    measure: str
    trials: int
    of: int
    backend: str = ""
    needs: Needs = ()
    at_least: float = 0.0
    settings: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return f"{self.work.title}: {self.name}"

    @property
    def trains(self) -> bool:
        return self.measure != DRIVE

    @property
    def beside(self) -> str:
        """The title of manyfit's row, which this one is compared with."""
        return f"{self.work.title}: {OURS}"

    @property
    def missing(self) -> str:
        """What this row needs that is missing here; "" if nothing is."""
        if lacking := measuring.to_install(self.needs):
            return f"to measure it: {lacking}"
        source = Path(self.work.source)
        return f"no {source}; --data FOLDER names another folder" if source.suffix and not source.exists() else ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The measured rows (title -> runs), and why the others were not measured (title -> reason)."""

    rows: Sequence[Row]
    runs: Mapping[str, Sequence[Run]]
    reasons: Mapping[str, str]


PEAK = Row(
    replace(DIGITS, title="machine"), "matrix product", "multiply-matrices", 1, 1, "jax", measuring.backend_needs("jax")
)
"""Measures the machine's peak, for the shares of it in the table. It is no row of the table itself."""


def lineup(scale: Scale) -> list[Row]:
    """Return all rows, also those that can't be measured here; manyfit's are the last ones of each section."""
    digits = replace(DIGITS, epochs=scale.pick(DIGITS.epochs, 2))
    mixed = replace(
        digits,
        title="digits, mixed",
        choices={"batch_size": [32, 64, 128], "initializer": list(INITIALIZERS)},
    )
    mnist = Work("MNIST", source=str(scale.data / "mnist.npz"), batch_size=128, epochs=3, limit=scale.pick(None, 3000))
    alone = replace(digits, title="one trial of digits alone")
    trials, mnist_trials = scale.pick(128, 12), scale.pick(32, 8)
    rows = [
        _rival(scale, digits, trials, TUNER, "tensorflow", at_least=20),
        _rival(scale, digits, trials, TUNER, "jax", at_least=12),
        _rival(scale, digits, trials, OPTUNA, "tensorflow", at_least=20),
        _ours(digits, trials),
        _ours(digits, trials, name=WARM),
        _rival(scale, mixed, trials, TUNER, "tensorflow", at_least=12),
        _ours(mixed, trials),
        _rival(scale, mnist, mnist_trials, FIT, "tensorflow", at_least=4),
        _rival(scale, mnist, mnist_trials, FIT, "jax", at_least=3),
        _ours(mnist, mnist_trials),
        _rival(scale, alone, 1, FIT, "jax", at_least=1),
        _ours(alone, 1),
    ]
    if scale.device == "gpu":
        convnet = Work(
            "Fashion-MNIST",
            source=str(scale.data / "fashion_mnist.npz"),
            build="cnn",
            arguments={"filters": [32, 64], "units": 128},
            batch_size=128,
            epochs=scale.pick(5, 2),
            limit=scale.pick(None, 3000),
        )
        lanes = scale.pick(GPU_LANES, 16)
        rows += [_rival(scale, convnet, lanes, FIT, "jax"), _ours(convnet, lanes, f"run.lanes={lanes}")]
    driven = scale.pick(LONG_TRIALS, 200)
    return [*rows, Row(replace(DIGITS, title="no training"), "manyfit's coordinator", DRIVE, driven, driven)]


def _rival(scale: Scale, work: Work, trials: int, measure: str, backend: str, *, at_least: float = 0.0) -> Row:
    """Make the row of a rival. Its aim counts only in a full run on a CPU, for which it was set."""
    name = f"{NAMES[measure]}, {BACKENDS[backend]}"
    needs = measuring.tuner_needs(backend) if measure == TUNER else measuring.backend_needs(backend)
    is_judged = scale.device == "cpu" and not scale.is_quick
    own = trials if scale.rivals is None else min(scale.rivals, trials)
    return Row(work, name, measure, own, trials, backend, needs, at_least=at_least if is_judged else 0.0)


def _ours(work: Work, trials: int, *settings: str, name: str = OURS) -> Row:
    return Row(work, name, LANES, trials, trials, "jax", measuring.backend_needs("jax"), settings=settings)
