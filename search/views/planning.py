"""`manyfit plan`: what would run, where and why, told by the same steps that `run` begins with."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from search import identity, launch, records, studyfile
from search.engines.protocol import Ready
from search.log import StudyLog
from search.study import Study
from search.studyfile import StudyFile


def plan(file: StudyFile) -> dict[str, Any]:
    """Load the data and build one model in a worker, and tell what a `run` would do. Writes nothing."""
    resolved, chosen = launch.resolution(file)
    with launch.workers(file, resolved, chosen[:1], StudyLog()) as pool:
        ready = pool.wait_until_ready()
    done = 0
    if records.exists(file.storage, file.name):
        stored = records.load(file.storage, file.name)
        identity.check_unchanged(file.name, stored.identity, identity.full(file, ready))
        done = sum(trial.is_ended for trial in stored.trials)
    study = Study(file)
    return {
        "study": file.name,
        "storage": str(file.storage),
        "trials": study.budget,
        "done": done,
        "epochs": file.epochs,
        "objective": f"{file.direction} {file.settings.study.objective}",
        "space": file.space.describe(),
        "data": dict(ready.data),
        "model": dict(ready.model),
        "engine": resolved.engine,
        "why": _why(resolved, ready),
        "lanes": ready.places if resolved.engine == "lanes" else 0,
        "programs": ready.programs,
        **{key: value for key, value in asdict(resolved).items() if key in ("backend", "devices", "versions")},
        "warnings": [*studyfile.warnings(file), *ready.warnings],
    }


def table(found: dict[str, Any]) -> RenderableType:
    """Return a plan for people."""
    data, model = found["data"], found["model"]
    rows = Table.grid(padding=(0, 2))
    rows.add_row("study", f"{found['study']} in {found['storage']}: {found['objective']}")
    rows.add_row("trials", f"{found['trials']} of up to {found['epochs']} epochs, {found['done']} done")
    rows.add_row(
        "data",
        f"{data['task']}, rows of shape {tuple(data['input_shape'])}: {data['train_rows']} for training, "
        f"{data['validation_rows']} for validation, {data['test_rows']} held out",
    )
    rows.add_row(
        "model",
        f"{model['parameters']:,} parameters in {model['layers']} layers, {model['optimizer']}, {model['loss']}"
        if "parameters" in model
        else f"its builder fails in the middle of the space: {model.get('error', 'no model')}",
    )
    rows.add_row("space", ", ".join(found["space"]))
    rows.add_row("engine", f"{found['engine']} on {found['backend']}, {', '.join(found['devices'])}: {found['why']}")
    for warning in found["warnings"]:
        rows.add_row("warning", warning)
    return rows


def _why(resolved: launch.Resolved, ready: Ready) -> str:
    each = "in one worker" if len(resolved.devices) == 1 else f"in each of {len(resolved.devices)} workers"
    if resolved.engine == "fit":
        return f"model.fit, one trial at a time {each}"
    many = "one compiled program" if ready.programs == 1 else f"{ready.programs} compiled programs"
    return f"{ready.places} trials at a time {each}, in the lanes of {many}"
