"""Start-up: resolve "auto" settings and start the workers.

Engine, backend, precision and lanes are decided here at a study's first start and stay fixed. Devices are chosen at every
start. An engine itself may decline a model, and decides how many lanes fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

from search.data.uses import Use
from search.engines import devices
from search.errors import Interrupted, StartError, UsageError
from search.log import StudyLog
from search.registry import ENGINES
from search.sessions.reporter import LOGGING, Reporter
from search.spec import given, identity
from search.spec.ready import Ready
from search.spec.resolved import Resolved
from search.spec.study import StudyFile
from search.storage import records
from search.storage.studies import Stored
from search.workers import handover
from search.workers.local import Processes
from search.workers.messages import WorkerSpec
from search.workers.pool import WorkerLimits, WorkerPool

# The engines that "auto" tries, in this order; the last one accepts any model.
AUTO = ("lanes", "fit")


def resolve(file: StudyFile, stored: Stored | None = None) -> tuple[Resolved, list[devices.Device]]:
    """Resolve "auto" settings for this machine, or return those of the study that is `stored` already.

    UsageError if a requested device or backend is missing, or if the file of a stored study asks for others.
    """
    if stored is not None:
        return _load_resolved(file, stored)
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


def _load_resolved(file: StudyFile, stored: Stored) -> tuple[Resolved, list[devices.Device]]:
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
    if before.versions != identity.versions():
        # The keys of structures may differ between versions: let all trials train in lanes.
        resolved = replace(resolved, structures=[])
    # Lanes that were given up for lack of memory would not fit now either.
    memory_events = [detail for _, kind, detail in stored.events if kind == "out of memory"]
    if resolved.lanes and memory_events:
        places = min(detail["lanes"] for detail in memory_events)
        width = min(places, resolved.lanes.get("width", places))
        resolved = replace(resolved, lanes={**resolved.lanes, "places": places, "width": width})
    places = resolved.lanes.get("places", run.lanes)
    if run.lanes not in ("auto", places) and not memory_events:
        raise UsageError(
            f"study {file.name!r} was started with {places} lanes, run.lanes now says {run.lanes}; "
            "give it another --name, or leave run.lanes at auto"
        )
    return resolved, chosen


def worker_spec(file: StudyFile, resolved: Resolved, use: Use = "study", *, checks: bool = False) -> WorkerSpec:
    """Return the spec of a study's workers. It has the number of the first one; the pool sets the others."""
    run = file.settings.run.model_copy(update={"precision": resolved.precision})
    return WorkerSpec(
        settings=file.settings.model_copy(update={"run": run}),
        base=str(file.base),
        fixed=file.fixed(),
        engines=AUTO if resolved.engine == "auto" else (resolved.engine,),
        why=resolved.why,
        lanes=resolved.lanes,
        structures=tuple(resolved.structures),
        database=str(file.storage),
        name=file.name,
        number=0,
        workers=max(1, resolved.devices.count("cpu")),
        checks=checks,
        use=use,
    )


def start_ready(
    spec: WorkerSpec,
    start: Callable[[WorkerSpec], WorkerPool],
    tick: Callable[[], None] = lambda: None,
    meanwhile: Callable[[], None] = lambda: None,
) -> tuple[WorkerPool, Ready]:
    """Start workers and wait until they are ready; return the pool and the Ready of its first worker.

    `meanwhile` is called while they start.

    If the spec has several engines and the workers die or hang while the first one inspects the model, the workers restart
    without that engine. It runs the builder for more configs than the next engine does, and one config caused the failure.
    """
    while True:
        pool = start(spec)
        try:
            meanwhile()
            return pool, pool.wait_until_ready(tick=tick)
        except StartError as error:
            pool.close()
            if len(spec.engines) == 1:
                raise
            spec = replace(spec, engines=spec.engines[1:], why=error.why)
        except BaseException:
            pool.close()
            raise


@contextmanager
def workers(  # noqa: PLR0913 (what a start depends on)
    file: StudyFile,
    resolved: Resolved,
    chosen: list[devices.Device],
    log: StudyLog,
    *,
    reporter: Reporter = LOGGING,
    interruption: Callable[[], int] = lambda: 0,
    has_trials: bool = False,
    use: Use = "study",
    checks: bool = False,
    meanwhile: Callable[[], None] = lambda: None,
) -> Iterator[tuple[WorkerPool, Ready, Resolved]]:
    """Start the workers of a study, wait until they are ready, and end them when the context ends.

    Yields the pool, the first worker's Ready and the final settings. If "auto" resolves to fit, and fit has another
    default backend than lanes, the workers restart on that backend. `has_trials`: whether the study has begun before.
    `checks`: whether the first worker looks for what would waste the study. `meanwhile` is called while the workers start.
    """
    given.check(file.settings, file.given, file.storage)
    memory = file.settings.run.worker_memory
    limits = WorkerLimits(memory=None if memory == "auto" else int(memory), trial_s=file.settings.run.trial_time)

    def start(spec: WorkerSpec, backend: str) -> WorkerPool:
        processes = Processes(backend, log, len(chosen), objects)
        return WorkerPool(spec, chosen, processes, log, limits=limits, interruption=interruption)

    def tick() -> None:
        if number := interruption():
            if has_trials:
                raise Interrupted("stopped before training resumed; the same command continues the study", number)
            raise Interrupted("stopped before the first trial; the same command starts it", number)

    def wait(spec: WorkerSpec, backend: str) -> tuple[WorkerPool, Ready]:
        with reporter.waiting(f"starting {backend} on {', '.join(resolved.devices)}, loading the data"):
            return start_ready(spec, lambda changed: start(changed, backend), tick, meanwhile)

    with closing(log), handover.shared(file.given) as objects:
        pool, ready = wait(worker_spec(file, resolved, use, checks=checks), resolved.backend)
        try:
            if resolved.engine == "auto":
                resolved = replace(resolved, engine=ready.engine, why=ready.why)
                backend = devices.choose_backend(file.settings.run.backend)
                if ready.engine == "fit" and backend != resolved.backend:
                    pool.close()
                    resolved = replace(resolved, backend=backend)
                    pool, ready = wait(worker_spec(file, resolved, use, checks=checks), backend)
            resolved = replace(resolved, lanes=dict(ready.lanes), structures=list(ready.structures))
            pool.replace_spec(worker_spec(file, resolved, use))
            yield pool, ready, resolved
        finally:
            pool.close()


@contextmanager
def one_worker(
    stored: Stored,
    reporter: Reporter,
    *,
    file: StudyFile | None = None,
    interruption: Callable[[], int] = lambda: 0,
    use: Use = "study",
) -> Iterator[tuple[WorkerPool, Ready]]:
    """Start one worker of a stored study, without lanes, on the backend that trained it; `file` replaces the study's own.

    Yields the pool and the worker's Ready.
    """
    file = file or stored.file
    resolved, chosen = resolve(file, stored)
    resolved = replace(resolved, engine="fit", lanes={}, structures=[])
    started = workers(file, resolved, chosen[:1], StudyLog(), reporter=reporter, interruption=interruption, use=use)
    with started as (pool, ready, _):
        yield pool, ready
