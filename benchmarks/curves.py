"""Recorded curves for searches: the tasks of LCBench, and curves in files. Nothing here trains.

A curve file is JSON:

    {"name": "digits", "objective": "val_accuracy", "direction": "maximize", "epochs": 27,
     "space": {"learning_rate": {"low": 1e-4, "high": 1.0, "log": true}, "units": [[32], [64, 64]]},
     "curves": [{"config": {"learning_rate": 0.01, "units": [32]}, "values": [0.31, 0.52, ...]}, ...]}

`space` is the [space] table of a study file, and `values` are the objective by epoch. Fewer values than `epochs` mean that
training diverged in the epoch after the last value; a search then diverges there, too. A drawn config plays the curve of the
nearest recorded config; distances are those of the sampler bayes. So there are only as many different results as curves, and
a small change of a config may switch to another curve. The fewer curves a task has, the noisier it is.

Make a curve file from a study that has ended, best from one with `sampler = "random"` and `pruner = "none"`:

    .venv/bin/python benchmarks/curves.py STUDY OUT.json      # a study file, or a database (with --name if it has several)
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, Literal, Protocol

import measuring
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from search.errors import ManyfitError, UsageError
from search.policies.samplers.encoding import Encoding
from search.reading.studyfile import locate
from search.spec.vocabulary import closest
from search.storage.records import load, only_name
from search.storage.studies import Stored
from spaces import Space, SpaceError

LCBENCH = Path(__file__).resolve().parents[2] / "shared" / "data" / "lcbench"
LCBENCH_FILES = ("model.onnx", "config_space.json", "encoding.json")
LCBENCH_EPOCHS = 52
LCBENCH_SPACE: dict[str, Any] = {
    "batch_size": {"low": 16, "high": 512, "log": True},
    "learning_rate": {"low": 1e-4, "high": 0.1, "log": True},
    "momentum": {"low": 0.1, "high": 0.99},
    "weight_decay": {"low": 1e-5, "high": 0.1},
    "num_layers": {"low": 1, "high": 5},
    "max_units": {"low": 64, "high": 1024, "log": True},
    "max_dropout": {"low": 0.0, "high": 1.0},
}
# The tasks that manyfit's searches were tuned on; the others were held out to check them.
TUNED = (
    *("126026", "146212", "167104", "167149", "167161", "167185"),
    *("168331", "168868", "189354", "189865", "189906", "3945"),
)

# Zero regret is the best of RANDOM_CONFIGS random configs, averaged over RANDOM_DRAWS draws, because a single draw's best is
# noisy.
RANDOM_CONFIGS, RANDOM_DRAWS = 1_500, 20
# Significant digits of an objective in a curve file.
DIGITS = 5

Array = NDArray[np.float64]


class Task(Protocol):
    """Curves of one objective over a space.

    Attributes:
        source: the argument with which `open_task` opens it again in another process.
        space: a study file's [space] table.
        epochs: of a full training.
        best: the best objective of `RANDOM_CONFIGS` random configs at the last epoch, averaged over draws.
        median: the median of their objectives.
    """

    source: str | Path
    name: str
    space: Mapping[str, Any]
    objective: str
    direction: str
    epochs: int
    best: float
    median: float

    def curve(self, params: Mapping[str, Any]) -> Sequence[float]:
        """Return the objective by epoch of a drawn config; shorter than `epochs` where training diverges."""


# -- LCBench -----------------------------------------------------------------------------------------------


class LCBench:
    """A task of LCBench by the surrogate of YAHPO Gym: validation accuracy in percent. Curves are smooth and never diverge.

    Sources: Zimmer et al. 2021 (arXiv:2006.13799); Pfisterer et al. 2022 (arXiv:2109.03670).
    """

    space: Mapping[str, Any] = LCBENCH_SPACE
    objective = "val_accuracy"
    direction = "maximize"
    epochs = LCBENCH_EPOCHS

    def __init__(self, name: str) -> None:
        if name not in (known := lcbench_names()):
            raise UsageError(f"no such task of LCBench: {name!r}{closest(name, known)}; there are {', '.join(known)}")
        self.source: str | Path = name
        self.name = name
        self._code = int(_lcbench_json("encoding.json")["OpenML_task_id"][name])
        last = [[self.epochs, *params.values()] for params in random_configs(Space.parse(self.space))]
        self.best, self.median = reference(self._accuracies(last), self.direction)

    def curve(self, params: Mapping[str, Any]) -> Sequence[float]:
        """Return the accuracy by epoch."""
        values = [params[name] for name in self.space]
        return [float(v) for v in self._accuracies([[epoch, *values] for epoch in range(1, self.epochs + 1)])]

    def _accuracies(self, rows: Sequence[Sequence[float]]) -> Array:
        """Return the surrogate's predictions; a row is an epoch and the params in order."""
        inputs = {"x_cat": np.full((len(rows), 1), self._code, np.int32), "x_cont": np.array(rows, np.float32)}
        predicted = _surrogate().run(None, inputs)[0]
        return np.asarray(predicted[:, 1], np.float64)


def lcbench_names() -> list[str]:
    """Return the names of all tasks of LCBench that the surrogate has."""
    parameters = _lcbench_json("config_space.json")["hyperparameters"]
    return list(next(entry["choices"] for entry in parameters if entry["name"] == "OpenML_task_id"))


def check_lcbench() -> None:
    """Raise UsageError, with what to do, if the tasks of LCBench can't be played here."""
    if lacking := [name for name in LCBENCH_FILES if not (LCBENCH / name).is_file()]:
        raise UsageError(
            f"LCBench's surrogate is not there: {LCBENCH} has no {', '.join(lacking)}; put it there, or search in recorded "
            "curves: --curves FILE"
        )
    if install := measuring.to_install((("onnxruntime", ".[bench]"),)):
        raise UsageError(f"LCBench's surrogate needs the package onnxruntime; {install}")


@lru_cache
def _lcbench_json(name: str) -> Any:
    check_lcbench()
    return json.loads((LCBENCH / name).read_text(encoding="utf-8"))


@lru_cache(maxsize=1)
def _surrogate() -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(LCBENCH / "model.onnx", options, providers=["CPUExecutionProvider"])


# -- the scale of regret -----------------------------------------------------------------------------------


def random_configs(space: Space) -> list[dict[str, Any]]:
    """Draw the params of `RANDOM_DRAWS` times `RANDOM_CONFIGS` configs evenly, always the same ones."""
    encoding, rng = Encoding(space), np.random.default_rng(0)
    return [encoding.params(point) for point in rng.random((RANDOM_DRAWS * RANDOM_CONFIGS, len(encoding)))]


def reference(last: Array, direction: str) -> tuple[float, float]:
    """Return the best of each `RANDOM_CONFIGS` objectives in `last`, averaged, and the median of all.

    nan, where training diverged, counts as the worst objective.
    """
    sign = 1.0 if direction == "maximize" else -1.0
    scores = sign * last
    if np.isnan(scores).all():
        raise UsageError("all random configs diverge: there is nothing to find")
    scores = np.where(np.isnan(scores), np.nanmin(scores), scores)
    draws = np.array_split(scores, max(1, len(scores) // RANDOM_CONFIGS))
    best, median = fmean(float(draw.max()) for draw in draws), float(np.median(scores))
    if best <= median:
        raise UsageError(
            f"half of the random configs reach the best there is, {sign * best:g}: there is nothing to find"
        )
    return sign * best, sign * median


# -- curves in files ---------------------------------------------------------------------------------------


class Curve(BaseModel):
    """A recorded config and its objective by epoch."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    config: dict[str, Any]
    values: tuple[Annotated[float, Field(strict=True, allow_inf_nan=False)], ...]


class CurveFile(BaseModel):
    """The content of a curve file."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = Field(min_length=1)
    objective: str = Field(min_length=1)
    direction: Literal["maximize", "minimize"]
    epochs: int = Field(ge=1, strict=True)
    space: dict[str, Any]
    curves: tuple[Curve, ...] = Field(min_length=1)

    @classmethod
    def read(cls, path: Path) -> CurveFile:
        """Read a curve file; UsageError with the wrong key if it is not valid."""
        try:
            return cls.model_validate(json.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise UsageError(f"{path} can't be read: {error.strerror}") from None
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(map(str, first["loc"])) or "the whole"
            hint = "; end a curve before the epoch that diverged" if first["type"] == "finite_number" else ""
            raise UsageError(f"{path}: {key}: {first['msg']}; received {first['input']!r:.60}{hint}") from None
        except ValueError as error:
            raise UsageError(f"{path} is not JSON: {error}") from None

    def write(self, path: Path) -> None:
        """Write the file with one line per curve."""
        table = self.model_dump(mode="json")
        curves = ",\n".join(json.dumps(curve) for curve in table.pop("curves"))
        path.write_text(f'{json.dumps(table)[:-1]}, "curves": [\n{curves}\n]}}\n', encoding="utf-8")


class Recorded:
    """The curves of a file: a config plays the curve of the nearest recorded config, the first of equally near ones."""

    def __init__(self, path: Path) -> None:
        file = CurveFile.read(path)
        self.source: str | Path = path
        self.name, self.objective, self.epochs = file.name, file.objective, file.epochs
        self.direction: str = file.direction
        self.space: Mapping[str, Any] = file.space
        try:
            space = _space_of(file)
            self._encoding = Encoding(space)
            points = [self._encoding.point(_params(space, index, curve)) for index, curve in enumerate(file.curves)]
            self._features = self._encoding.features(np.array(points))
            self._curves = [_values(file, index) for index in range(len(file.curves))]
            last = [
                values[-1] if len(values := self.curve(params)) == self.epochs else np.nan
                for params in random_configs(space)
            ]
            self.best, self.median = reference(np.array(last), self.direction)
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from None

    def curve(self, params: Mapping[str, Any]) -> Sequence[float]:
        """Return the objective by epoch of the nearest recorded config; shorter than `epochs` if that diverged."""
        features = self._encoding.features(self._encoding.point(params)[None])
        return self._curves[int(np.square(self._features - features).sum(axis=1).argmin())]


def _space_of(file: CurveFile) -> Space:
    try:
        space = Space.parse(file.space)
    except SpaceError as error:
        raise UsageError(f"space.{error.key}: {error}") from None
    if not space:
        raise UsageError("space: there is nothing to search; it needs at least one parameter")
    if "epochs" in space:
        raise UsageError("space.epochs: curves of different lengths can't be played; leave the epochs fixed")
    return space


def _params(space: Space, index: int, curve: Curve) -> dict[str, Any]:
    """Return the params of a recorded config; UsageError if it does not have exactly the active parameters."""
    try:
        given = space.check(curve.config)
    except SpaceError as error:
        raise UsageError(f"curves.{index}.config.{error.key}: {error}") from None
    params: dict[str, Any] = {}
    for name in space:
        if not space.is_active(name, params):
            continue
        if name not in given:
            raise UsageError(
                f"curves.{index}.config: {name} is missing; a config has a value for each of its parameters"
            )
        params[name] = given[name]
    if inactive := sorted(set(given) - set(params)):
        raise UsageError(f"curves.{index}.config: {', '.join(inactive)} is not drawn beside the others; leave it out")
    return params


def _values(file: CurveFile, index: int) -> Sequence[float]:
    values = file.curves[index].values
    if len(values) > file.epochs:
        raise UsageError(f"curves.{index}.values: there are {len(values)} of {file.epochs} epochs")
    return values


@lru_cache
def open_task(source: str | Path) -> Task:
    """Return the LCBench task of that name, or the task of a curve file. Tasks are cached."""
    return Recorded(source) if isinstance(source, Path) else LCBench(source)


# -- from a study to a curve file --------------------------------------------------------------------------


def recorded(stored: Stored) -> tuple[CurveFile, int]:
    """Return the curves of a study, and how many trials were left out.

    Trials that were pruned or stopped early are left out, because the rest of their curve is unknown. UsageError if no trial
    is left.
    """
    file = stored.file
    objective = file.settings.study.objective
    if "epochs" in file.space:
        raise UsageError(f"{stored.name} searches epochs: curves of different lengths can't be played")
    whole = [trial for trial in stored.trials if trial.ended == "diverged" or len(trial.curve) == trial.epochs]
    if not whole:
        raise UsageError(f"{stored.name} has no trial that came to its last epoch or diverged; search without a pruner")
    curves = [
        Curve(
            config=file.space.config(trial.params),
            values=tuple(float(f"{metrics[objective]:.{DIGITS}g}") for metrics in trial.curve),
        )
        for trial in whole
    ]
    curve_file = CurveFile(
        name=stored.name,
        objective=objective,
        direction="maximize" if file.direction == "maximize" else "minimize",
        epochs=file.epochs,
        space=file.space.describe(),
        curves=tuple(curves),
    )
    return curve_file, len(stored.trials) - len(whole)


def main() -> None:
    """Write the curves of a study into a file."""
    parser = argparse.ArgumentParser(description="Write the curves of a study that has ended into a file.")
    parser.add_argument("study", type=Path, metavar="STUDY", help="a study file, or a database")
    parser.add_argument("out", type=Path, metavar="OUT.json", help="the curve file to write")
    parser.add_argument("--name", metavar="NAME", help="the study's name, where its database has several")
    options = parser.parse_args()
    try:
        if options.study.suffix == ".toml":
            database, name = locate(options.study)
        else:
            database, name = options.study, options.name or only_name(options.study)
        file, left_out = recorded(load(database, options.name or name))
        file.write(options.out)
    except ManyfitError as error:
        print(f"curves: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    diverged = sum(len(curve.values) < file.epochs for curve in file.curves)
    print(f"{options.out}: {len(file.curves)} curves, {diverged} of them diverge", file=sys.stderr)
    if left_out:
        print(f"left out: {left_out} trials that were pruned, stopped early or failed", file=sys.stderr)


if __name__ == "__main__":
    main()
