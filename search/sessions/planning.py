"""What a run would train, where and why, by the same first steps as a run."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from search.core.study import Study
from search.log import StudyLog
from search.reading import studychecks, unused
from search.sessions import earlier
from search.sessions.startup import resolve, workers
from search.spec import identity
from search.spec.resolved import describe
from search.spec.study import StudyFile
from search.storage import records


def plan(file: StudyFile) -> dict[str, Any]:
    """Load the data and build one model in a worker; return what a `run` would do. Writes nothing."""
    stored = records.find(file.storage, file.name)
    if stored is not None:
        file = identity.resumed(file, stored.identity)
    else:
        earlier.find(file)
    resolved, chosen = resolve(file, stored)
    with workers(file, resolved, chosen[:1], StudyLog()) as (_, ready, decided):
        resolved = replace(decided, devices=resolved.devices)
    done, is_new = 0, True
    if stored is not None:
        is_new = False
        identity.check_ready(file, stored.full_identity, ready)
        done = sum(trial.is_ended for trial in stored.trials)
    study, unread = Study(file), unused.find(file, ready)
    return {
        "study": file.name,
        "storage": str(file.storage),
        "trials": study.budget,
        "done": done,
        "epochs": file.epochs,
        "objective": f"{file.direction} {file.settings.study.objective}",
        "space": file.space.describe(),
        "data": dict(ready.data),
        "folds": file.settings.study.folds,
        "columns": [dict(column) for column in ready.columns],
        "model": dict(ready.model),
        "engine": resolved.engine,
        "how": describe(resolved),
        "why": resolved.why,
        "lanes": resolved.lanes.get("places", 0),
        "programs": resolved.lanes.get("programs", 0),
        "structures": dict(ready.counted),
        "memory": {"needed": ready.memory[0], "allowed": ready.memory[1]},
        **{
            key: value
            for key, value in asdict(resolved).items()
            if key in ("backend", "devices", "precision", "versions")
        },
        "warnings": [*map(str, unread), *ready.warnings],
        # A `run` refuses to begin with these; it resumes a study that has begun with them.
        "refused": [str(setting) for setting in unread if setting.is_certain and is_new],
        "notes": studychecks.notes(file),
    }
