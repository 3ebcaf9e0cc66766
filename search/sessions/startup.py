"""What "auto" comes to: engine, backend, precision and lanes, fixed at a study's first start, and devices."""

from __future__ import annotations

from dataclasses import replace

from search.engines import devices
from search.errors import UsageError
from search.registry import ENGINES
from search.spec import identity
from search.spec.resolved import Resolved
from search.spec.study import StudyFile
from search.storage import records
from search.storage.records import Stored


def resolve(file: StudyFile) -> tuple[Resolved, list[devices.Device]]:
    """Decide what "auto" means on this machine; UsageError for what is not there."""
    run = file.settings.run
    chosen = devices.choose(run.devices)
    engine, why = run.engine, ""
    if engine == "lanes" and run.backend == "tensorflow":
        raise UsageError('run.backend: lanes need jax; set backend = "jax", or engine = "fit"')
    if engine == "auto" and run.backend == "tensorflow":
        engine, why = "fit", "run.backend is tensorflow, and lanes need jax"
    elif engine == "auto" and "jax" not in devices.installed_backends():
        engine, why = (
            "fit",
            "jax is not installed, and lanes need it: run `pip install -e '.[jax]'` in manyfit's folder",
        )
    backend = devices.choose_backend("jax" if engine in ("auto", "lanes") else run.backend)
    precision = "float32" if run.precision == "auto" else run.precision
    return Resolved(engine, backend, [device.name for device in chosen], identity.versions(), precision, why), chosen


def resolution(file: StudyFile) -> tuple[Resolved, list[devices.Device]]:
    """Return what a `run` would go by: what the study was resolved to at its first start, or would be now."""
    if records.exists(file.storage, file.name):
        return as_before(file, records.load(file.storage, file.name, with_trials=False))
    return resolve(file)


def as_before(file: StudyFile, stored: Stored) -> tuple[Resolved, list[devices.Device]]:
    """Return what the study was resolved to at its first start; UsageError if the file now asks for something else."""
    run, before = file.settings.run, records.resolved(stored)
    for key, wanted in (("backend", run.backend), ("engine", run.engine), ("precision", run.precision)):
        was = getattr(before, key)
        if wanted not in ("auto", was):
            raise UsageError(
                f"study {file.name!r} was started on {was}, run.{key} now says {wanted}; results would not compare: "
                f"give it another --name, or leave run.{key} at auto"
            )
    if before.engine not in ENGINES:
        raise UsageError(
            f"study {file.name!r} was trained by the engine {before.engine!r}, which is not installed here"
        )
    chosen = devices.choose(run.devices)
    devices.choose_backend(before.backend)
    resolved = replace(before, devices=[device.name for device in chosen])
    # Lanes that had to be given up for want of memory would not fit now, either.
    given_up = [detail for _, kind, detail in stored.events if kind == "out of memory"]
    if resolved.lanes and given_up:
        places = min(detail["lanes"] for detail in given_up)
        width = min(places, resolved.lanes.get("width", places))
        resolved = replace(resolved, lanes={**resolved.lanes, "places": places, "width": width})
    places = resolved.lanes.get("places", run.lanes)
    if run.lanes not in ("auto", places) and not given_up:
        raise UsageError(
            f"study {file.name!r} was started with {places} lanes, run.lanes now says {run.lanes}; "
            "give it another --name, or leave run.lanes at auto"
        )
    return resolved, chosen
