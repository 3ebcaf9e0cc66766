"""`manyfit plan`: what would run, where and why, told by the same steps that `run` begins with."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from search.cli import launch
from search.core.study import Study
from search.log import StudyLog
from search.reading import studychecks, unused
from search.spec import identity
from search.spec.study import StudyFile
from search.storage import records
from search.workers import resolved as resolved_as


def plan(file: StudyFile) -> dict[str, Any]:
    """Load the data and build one model in a worker, and tell what a `run` would do. Writes nothing."""
    resolved, chosen = resolved_as.resolution(file)
    with launch.workers(file, resolved, chosen[:1], StudyLog()) as (_, ready, came_to):
        resolved = replace(came_to, devices=resolved.devices)
    done = 0
    if records.exists(file.storage, file.name):
        stored = records.load(file.storage, file.name)
        identity.check_ready(file, stored.identity, ready)
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
        "how": resolved_as.how(resolved),
        "why": resolved.why,
        "lanes": resolved.lanes.get("places", 0),
        "programs": resolved.lanes.get("programs", 0),
        "memory": {"needed": ready.memory[0], "allowed": ready.memory[1]},
        **{
            key: value
            for key, value in asdict(resolved).items()
            if key in ("backend", "devices", "precision", "versions")
        },
        "warnings": [*map(str, unused.find(file, ready)), *ready.warnings],
        "notes": studychecks.notes(file),
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
    rows.add_row("engine", found["how"])
    if found["memory"]["needed"]:
        needed, allowed = (f"{found['memory'][key] / 1e6:,.0f} MB" for key in ("needed", "allowed"))
        rows.add_row("memory", f"at most {needed} for all lanes, by the compiler's estimate; {allowed} may be used")
    for warning in found["warnings"]:
        rows.add_row("warning", warning)
    for note in found["notes"]:
        rows.add_row("note", note)
    return rows
