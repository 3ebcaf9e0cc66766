"""Export the best configs as JSON, described by `best.schema.json`, and all trials as CSV. Files are written atomically."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from search import durable
from search.errors import UsageError
from search.spec.code_files import source_files
from search.spec.identity import versions
from search.spec.study import StudyFile
from search.storage.paths import backup_of, lock_of, with_journals
from search.storage.studies import Stored
from search.trials import baseline
from search.trials.confirmation import Confirmed
from search.trials.objective import Objective
from search.trials.trial import Trial
from search.views import confirmed, standing

DEFAULT_TOP = 5
_SQLITE = b"SQLite format 3\0"


class Repeat(BaseModel):
    """One training of a config."""

    model_config = ConfigDict(extra="forbid")
    seed: int = Field(ge=0, description="what its weights, shuffles and dropout depended on")
    value: float = Field(description="the objective at the config's best epoch")


class Again(BaseModel):
    """A config that was trained again with fresh seeds."""

    model_config = ConfigDict(extra="forbid")
    values: list[float] = Field(description="each measured as the search measures a trial")
    failed: int = Field(ge=0, description="trainings that ended without a value")
    mean: float
    low: float | None = Field(description="the lower end of the 95 % interval of the mean; null with one value")
    high: float | None = Field(description="its upper end")
    luck: float = Field(description="by how much the search's value is better than the mean")


class Config(BaseModel):
    """One config and what it reached."""

    model_config = ConfigDict(extra="forbid")
    rank: int = Field(ge=1, description="1 is the best; of equal values the lower trial number ranks first")
    trial: int = Field(ge=0, description="the trial's number in the study")
    value: float = Field(description="the objective at the trial's best epoch")
    epoch: int = Field(ge=1, description="that epoch, counted from 1: train this long to get there again")
    params: dict[str, Any] = Field(description="the searched parameters; inactive conditional ones are absent")
    config: dict[str, Any] = Field(description="params and everything fixed: what the builder and training read")
    seed: int = Field(ge=0, description="what its weights, shuffles and dropout depended on")
    ended: str = Field(description="what ended it: finished, stopped early, callback, timeout or time")
    curve: dict[str, list[float | None]] = Field(
        description="every metric, one number an epoch (null: not finite), and the seconds of each epoch"
    )
    repeats: list[Repeat] | None = Field(
        default=None,
        description="its trainings, whose mean the value is; only with study.repeats or study.folds above 1, then one a fold",
        exclude_if=lambda value: value is None,
    )
    standard_error: float | None = Field(
        default=None,
        description="of the value, as the mean of the repeats or folds; only with study.repeats or study.folds above 1",
        exclude_if=lambda value: value is None,
    )
    confirmed: Again | None = Field(
        default=None,
        description="the same config, trained again by `manyfit confirm`; absent if it was not",
        exclude_if=lambda value: value is None,
    )
    seconds: list[float | None] | None = Field(
        default=None,
        description="the seconds of each epoch; only where a metric is named seconds, which then stands in the curve",
        exclude_if=lambda value: value is None,
    )


class Start(BaseModel):
    """The best config of `search.start`, and how much better the search has become."""

    model_config = ConfigDict(extra="forbid")
    trial: int = Field(ge=0, description="its trial's number in the study")
    value: float = Field(description="the objective at that trial's best epoch")
    gain: float = Field(ge=0, description="by how much the best config is better, in the unit of the objective")


class Ahead(BaseModel):
    """A trial that was not trained fully, and was better than one of the configs nevertheless."""

    model_config = ConfigDict(extra="forbid")
    trial: int = Field(ge=0, description="the trial's number in the study")
    value: float = Field(description="the objective at its best epoch so far")
    epoch: int = Field(ge=1, description="that epoch, counted from 1")
    epochs: int = Field(ge=1, description="how many it was trained")
    state: str = Field(description="PRUNED, RUNNING or WAITING (interrupted)")
    params: dict[str, Any] = Field(description="the searched parameters; inactive conditional ones are absent")


class Best(BaseModel):
    """The best configs of a study."""

    model_config = ConfigDict(extra="forbid", title="manyfit best.json")
    format: Literal[1] = 1
    versions: dict[str, str] = Field(description="of the program that wrote this file, and of what trained")
    study: str
    objective: str = Field(description="the metric a trial is judged by, at its best epoch")
    direction: Literal["minimize", "maximize"]
    trials: dict[str, int] = Field(
        description="how many trials there are, by state; REFUSED: beyond a limit, not trained"
    )
    identity: dict[str, Any] = Field(description="space, data and model with their fingerprints: what was searched")
    settings: dict[str, Any] = Field(description="the study file, defaults filled in")
    resolved: dict[str, Any] = Field(description="engine, backend, devices and versions of the first start")
    configs: list[Config] = Field(
        description="the best of the trials that were trained fully, the best first; empty while no trial is complete"
    )
    start: Start | None = Field(
        default=None,
        description="the best config of search.start; absent without one that was trained fully",
        exclude_if=lambda value: value is None,
    )
    test_evaluations: int = Field(
        default=0,
        ge=0,
        description="how often `manyfit evaluate` has used the test rows, which no model gets otherwise; absent if never",
        exclude_if=lambda count: not count,
    )
    ahead: list[Ahead] = Field(
        default=[],
        description="trials that beat one of the configs at their best epoch without being trained fully, the best first, "
        "as many as there may be configs; absent if there are none",
        exclude_if=lambda trials: not trials,
    )


def best(stored: Stored, top: int = DEFAULT_TOP) -> Best:
    """Return the `top` best configs of a study."""
    listed = stored.complete[:top]
    confirmation = confirmed.of(stored)
    again = {} if confirmation is None else {config.trial: config for config in confirmation.configs}
    return Best(
        versions={**stored.resolved.get("versions", {}), **versions()},
        study=stored.name,
        objective=stored.file.settings.study.objective,
        direction="maximize" if stored.file.direction == "maximize" else "minimize",
        trials=dict(Counter(trial.counted_as for trial in stored.trials)),
        identity=stored.identity,
        settings=stored.file.settings.model_dump(mode="json"),
        resolved=stored.resolved,
        configs=[_config(rank, trial, stored, again.get(trial.number)) for rank, trial in enumerate(listed, 1)],
        start=_start(stored),
        test_evaluations=stored.test_evaluations,
        ahead=[_ahead(trial, stored) for trial in standing.ahead(stored.trials, stored.file.direction, listed)[:top]],
    )


def to_json(document: BaseModel) -> str:
    """Return a document as strict JSON: no NaN, no Infinity."""
    return json.dumps(_finite(document.model_dump(mode="json")), indent=2, allow_nan=False) + "\n"


def to_csv(stored: Stored) -> str:
    """Return all trials as CSV: number, state, what ended it, value, epochs, seconds, and one column per parameter."""
    from search.views import trial_frames

    return trial_frames.trials(stored).to_csv(index=False)


def is_ours(path: Path) -> bool:
    """Return whether a file holds what `to_json` gives of a study, perhaps of an earlier format."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(document, dict) and {"format", "study", "configs"} <= document.keys()


def check_target(path: Path, stored: Stored) -> None:
    """Raise UsageError if writing `path` would replace a database, or what the study is made of."""
    check_free(path, stored.file, stored.path)


def check_free(path: Path, file: StudyFile, storage: Path) -> None:
    """Do the same for a study that may not have begun; `storage` is its database."""
    database = (storage, backup_of(storage), lock_of(storage))
    data = file.base / file.settings.data.source.partition(":")[0]
    made_of = {
        "the study's database": [name for one in database for name in with_journals(one)],
        "the study file": [file.path],
        "code of the study": list(source_files(file.settings, file.base).values()),
        "the study's data": [data],
    }
    for what, paths in made_of.items():
        if any(_is_same(path, one) for one in paths):
            raise UsageError(f"{path} is {what}; name another file")
    with suppress(OSError):
        if path.is_file() and path.open("rb").read(len(_SQLITE)) == _SQLITE:
            raise UsageError(f"{path} is a database; name another file")


def _is_same(one: Path, other: Path) -> bool:
    with suppress(OSError):
        return one.samefile(other)
    return False


def write(path: Path, text: str) -> None:
    """Write a file so that it is the old one or the new one at any moment; UsageError if it can't be written.

    A device or a pipe (/dev/null, /dev/stdout) is written to directly.
    """
    if path.is_dir() or not path.name:
        raise UsageError(f"{path} is a folder; name a file with -o")
    path = path.resolve()  # replace the target of a link, not the link
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        if durable.is_special(path):
            with path.open("w", encoding="utf-8") as file:
                file.write(text)
            return
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
        durable.replace(partial, path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise UsageError(f"{path} can't be written: {error.strerror or error}; name another file with -o") from None


def schema() -> str:
    """Return the JSON Schema of best.json; `search/views/best.schema.json` holds the same text."""
    return (
        json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **Best.model_json_schema()}, indent=2)
        + "\n"
    )


def curves(trial: Trial) -> dict[str, list[float | None]]:
    """Return a trial's metrics by name, one number per epoch, and its seconds unless a metric has the name `seconds`."""
    names = dict.fromkeys(name for metrics in trial.curve for name in metrics)
    by_name: dict[str, list[float | None]] = {name: [m.get(name) for m in trial.curve] for name in names}
    return by_name if "seconds" in by_name else {**by_name, "seconds": _seconds(trial)}


def _seconds(trial: Trial) -> list[float | None]:
    return [round(seconds, 6) for seconds in trial.seconds[: len(trial.curve)]]


def _config(rank: int, trial: Trial, stored: Stored, again: Confirmed | None) -> Config:
    objective = Objective.of(stored.file)
    repeats = [
        Repeat(seed=training.seed, value=value)
        for training, value in zip(trial.trainings, objective.repeats(trial), strict=False)
    ]
    return Config(
        rank=rank,
        trial=trial.number,
        value=trial.value or 0.0,
        epoch=trial.best_epoch or 1,
        params=stored.file.space.config(trial.params),
        config=trial.config,
        seed=trial.trainings[0].seed,
        ended=trial.ended,
        curve=curves(trial),
        repeats=repeats if len(repeats) > 1 else None,
        standard_error=objective.standard_error(trial),
        confirmed=_again(again),
        seconds=_seconds(trial) if any("seconds" in metrics for metrics in trial.curve) else None,
    )


def _again(config: Confirmed | None) -> Again | None:
    if config is None or config.mean is None or config.luck is None:
        return None
    return Again(
        values=list(config.values),
        failed=config.failed,
        mean=config.mean,
        low=config.low,
        high=config.high,
        luck=config.luck,
    )


def _start(stored: Stored) -> Start | None:
    gain = baseline.gain(stored)
    if gain is None:
        return None
    return Start(trial=gain.start.number, value=gain.start.value or 0.0, gain=gain.value)


def _ahead(trial: Trial, stored: Stored) -> Ahead:
    return Ahead(
        trial=trial.number,
        value=trial.value or 0.0,
        epoch=trial.best_epoch or 1,
        epochs=len(trial.curve),
        state=trial.state,
        params=stored.file.space.config(trial.params),
    )


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
