"""The worker process: hosts an engine; does not know samplers, pruners or storage.

The pool starts it as `python -P manyfit/start.py FD`, with an environment for its backend, device and threads. It exchanges
`messages` over the socket FD. If a Python program made the study, a second descriptor holds the program's objects. All that
the worker prints goes to stderr, which the pool logs. It ends when the coordinator ends.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from search.engines import failures, pins
from search.engines.checkpoints import Checkpoints
from search.engines.protocol import Declined, Engine, EngineFactory, EngineRequest, Order
from search.errors import DataError, UsageError
from search.registry import ENGINES
from search.spec import code_files, keras_callbacks
from search.spec.declared_space import DeclaredSpace
from search.spec.finding import Finding
from search.spec.ready import Ready
from search.spec.usercode import Reference
from search.trials.events import Assignment, Noted, Spent, Verdict, not_kept
from search.trials.history import IMPORTED
from search.workers import descendants, handover
from search.workers.messages import (
    CheckStudy,
    FindSpace,
    First,
    Go,
    Inspecting,
    Keep,
    Message,
    Refused,
    Saved,
    UseModel,
    WorkerSpec,
    decode,
    encode,
)

if TYPE_CHECKING:
    import keras

    from search.engines.training import Trainer

_Prepared: TypeAlias = "tuple[Engine, Ready, Trainer, Callable[[Trainer, Order], Message]]"
"""The engine, its Ready, what builds models, and what carries out orders: a user's module may have the name of ours then."""

# A refusal may quote an error of the user's code, of any length.
MAX_REFUSAL_CHARACTERS = 4_000


def main(descriptor: int, objects: int | None = None) -> None:
    """Serve the coordinator until the channel closes, which ends the process."""
    # User code must not read from stdin, and its prints must go to stderr.
    sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115, PTH123 (for the life of the process)
    sys.stdout = sys.stderr
    # A real SIGINT ends the process, and no trial is blamed. So a KeyboardInterrupt can only come from the user's code.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    connection = Connection(descriptor)
    (spec,) = decode(connection.recv_bytes())
    assert isinstance(spec, First)  # noqa: S101 (the first message)
    inbox: queue.Queue[list[Message]] = queue.Queue()
    engines: list[Engine] = []
    # Before `_prepare`: a builder that never returns must not outlive the coordinator.
    threading.Thread(target=_receive, args=(connection, inbox, engines), daemon=True).start()
    began_at = time.time()
    if (prepared := _begin(spec, connection, objects)) is None:
        return
    engine, ready, trainer, answer = prepared
    engines.append(engine)
    connection.send_bytes(encode([ready]))
    # The first wait is for the study to begin, so it does not count as waiting for verdicts.
    idle_since, save_s, seconds_before = 0.0, 0.0, dict.fromkeys(engine.seconds, 0.0)
    imports = _Imports(trainer, set(ready.files), began_at)
    while True:
        # A tick: verdicts free places, assignments fill them, then all members train for one epoch.
        messages = inbox.get()
        if isinstance(messages[0], Keep):
            why = engine.keep(messages[0].member, Path(messages[0].path))
            noted = [not_kept(messages[0].member, why)] if why else []
            connection.send_bytes(encode(noted))
            continue
        if isinstance(messages[0], Order):
            connection.send_bytes(encode([answer(trainer, messages[0])]))
            continue
        verdicts = [message for message in messages if isinstance(message, Verdict)]
        engine.apply(verdicts)
        engine.checkpoints.mark_ended(verdict.member for verdict in verdicts if verdict.ends)
        for message in messages:
            if isinstance(message, Assignment):
                engine.start(message)
        if not any(isinstance(message, Go) for message in messages):
            continue
        began, other_s = time.perf_counter(), sum(engine.seconds.values())
        events = [*engine.advance()]
        ended, now = time.perf_counter(), dict(engine.seconds)
        spent = {part: seconds - seconds_before[part] for part, seconds in now.items()}
        spent |= {
            "wait": began - (idle_since or began),
            "train": ended - began - (sum(now.values()) - other_s),
            "save": save_s,
        }
        events += _noted(engine, imports)
        connection.send_bytes(encode([*events, Spent(spent), Saved(engine.checkpoints.is_saved)]))
        # Save while the coordinator decides on the verdicts.
        began = time.perf_counter()
        engine.save()
        idle_since, seconds_before = time.perf_counter(), now
        save_s = idle_since - began


@dataclass
class _Imports:
    """The user's files that training imports, such as a module whose name a builder makes from its config.

    Attributes:
        known: names of the files that were reported.
        began_at: when this process started, before any of the user's code ran.
        modules: how many modules, and executed files, there were at the last look.
    """

    trainer: Trainer
    known: set[str]
    began_at: float
    modules: int = 0

    def take_new(self) -> dict[str, str]:
        """Return the hashes of files that were imported since the last call."""
        modules = len(sys.modules) + code_files.executed()
        if modules == self.modules:
            return {}
        self.modules = modules
        files = code_files.imported_since(self.known, self.trainer.settings, self.trainer.base, self.began_at)
        self.known |= set(files)
        return files


def _noted(engine: Engine, imports: _Imports) -> Iterator[Noted]:
    if files := imports.take_new():
        yield Noted(IMPORTED, {"files": files})
    if why := engine.checkpoints.take_error():
        yield Noted("no checkpoint", {"why": why})


def _receive(connection: Connection, inbox: queue.Queue[list[Message]], engines: list[Engine]) -> None:
    try:
        _listen(connection, inbox, engines)
    except BaseException:  # noqa: BLE001 (a worker that receives nothing more would wait forever)
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def _listen(connection: Connection, inbox: queue.Queue[list[Message]], engines: list[Engine]) -> NoReturn:
    while True:
        try:
            messages = decode(connection.recv_bytes())
        except (EOFError, OSError):
            # The coordinator closed the channel or ended. Training may be deep in C code, so end the process without it. End
            # also all that a model started: the pool made this process the leader of its group.
            known = descendants.find(os.getpid())
            if tag := os.environ.get(descendants.TAG, ""):
                descendants.kill(tag, known, spare=os.getpid())
            if os.getpgrp() == os.getpid():
                os.killpg(0, signal.SIGKILL)
            os._exit(0)
        for message in messages:
            if isinstance(message, Assignment):
                engines[0].prefetch(message)
        inbox.put(messages)


def _begin(spec: First, connection: Connection, objects: int | None) -> _Prepared | None:
    """Prepare to train; None if the worker has nothing more to do: it has refused to start, or has done its only order."""
    try:
        if isinstance(spec, WorkerSpec):
            return _prepare(spec, connection, objects)
        if isinstance(spec, CheckStudy):
            _check(spec, connection, objects)
        elif isinstance(spec, UseModel):
            connection.send_bytes(encode([_used(spec)]))
        else:
            connection.send_bytes(encode([_space_of(spec, objects)]))
    except UsageError as error:
        refusal = failures.shortened(str(error), MAX_REFUSAL_CHARACTERS)
        connection.send_bytes(encode([Refused(refusal, is_data=isinstance(error, DataError))]))
    return None


def _check(order: CheckStudy, connection: Connection, objects: int | None) -> None:
    """Check a study and send each finding at once; UsageError for errors that a person must correct."""
    if order.settings.run.deterministic:
        _make_deterministic()
    pins.import_keras()
    # Import our modules before the user's, which may have the same names.
    from search.checking import checker, training_checks  # noqa: F401
    from search.engines import training
    from search.engines.hypermodels import stand_in

    stand_in.offer()
    if Reference.parse(order.settings.model.build, Path(order.base)) is None:
        training.builtin(order.settings.model.build)
    if objects is not None:
        handover.take(objects)
    parts = {"has_data": order.has_data, "may_move": order.may_move}
    for message in checker.check(order.settings, Path(order.base), order.config, **parts):
        connection.send_bytes(encode([message]))


def _used(order: UseModel) -> Noted:
    """Use a model file without its study; UsageError for errors that a person must correct."""
    pins.import_keras()
    # Import our modules before the user's, which may have the same names.
    from search.engines import plotting, predicting, training
    from search.engines.hypermodels import stand_in

    stand_in.offer()
    training.leave_tensorflow_out()
    try:
        task = {"predict": predicting.predict, "plot": plotting.plot}[order.task]
        return task(Path(order.model), order.options)
    except UsageError:
        raise
    except Exception as error:  # noqa: BLE001 (the user's layers may raise anything)
        traceback.print_exc()
        raise UsageError(f"{order.model}: {failures.one_line(error)}") from None


def _space_of(order: FindSpace, objects: int | None) -> DeclaredSpace:
    """Run a builder in KerasTuner's form and return its space; UsageError for errors that a person must correct."""
    pins.import_keras()
    from search.engines.hypermodels import finding, stand_in

    stand_in.offer()
    if objects is not None:
        handover.take(objects)
    return finding.find(order.settings, Path(order.base))


def _prepare(spec: WorkerSpec, connection: Connection, objects: int | None) -> _Prepared:
    """Load data and builder, inspect them, and choose the engine; UsageError for errors that a person must correct."""
    settings, base, began_at = spec.settings, Path(spec.base), time.time()
    # Before any of the user's code runs, which may write modules.
    code_files.record_executed()
    named = code_files.hashes(code_files.source_files(settings, base))
    if settings.run.deterministic:
        _make_deterministic()
    pins.import_keras()
    # Import our modules before the user's, which may have the same names.
    with pins.no_collections():
        from search import data
        from search.checking import quick
        from search.engines import feeding, orders, preflight, training
        from search.engines.hypermodels import stand_in

        # The file of the data function may hold the builder, too.
        stand_in.offer()
        engines: list[tuple[str, EngineFactory]] = [(name, ENGINES.get(name)) for name in spec.engines]
    if Reference.parse(settings.model.build, base) is None:
        training.builtin(settings.model.build)
    before = pins.Pins.now()
    if objects is not None:
        named |= handover.take(objects)
    loaded = data.load(settings.data, base, settings.data.seed, spec.use, settings.study.folds)
    if not code_files.is_imported(settings, base):
        # A data function's source is not part of a study's identity, so it must not change settings of training.
        before.set()
    trainer = training.Trainer.load(settings, base, loaded)
    training.leave_tensorflow_out()
    # The state of a user's own callback, loop or stream can't be saved, so such trials restart instead of resuming.
    can_resume = keras_callbacks.can_resume(settings.train.callbacks) and not trainer.has_own_fit
    can_resume = can_resume and feeding.can_resume(trainer)
    files = Checkpoints(spec.files, spec.number, settings.run.disk, can_resume=can_resume)
    connection.send_bytes(encode([Inspecting()]))
    findings: list[Finding] = []

    def look(model: keras.Model) -> None:
        if spec.checks and spec.number == 0:
            findings.extend([*quick.of_data(loaded), *quick.of_model(model, trainer)])

    inspected = replace(preflight.inspect(trainer, spec.fixed, look), resumes=can_resume, findings=tuple(findings))
    ready = _with_sources(inspected, trainer, named, began_at)
    why = spec.why
    request = EngineRequest(
        trainer, files, spec.fixed, spec.lanes, spec.structures, spec.workers, is_chosen=len(engines) == 1
    )
    for name, make in engines:
        try:
            made = make(request)
        except Declined as reason:
            if request.is_chosen:
                raise UsageError(f'run.engine: {name} can\'t train this model: {reason}; set engine = "fit"') from None
            why = str(reason)
            continue
        why = why if name == engines[-1][0] else ""
        ready = replace(ready, engine=name, why=why, lanes=made.lanes, memory=made.memory)
        ready = replace(ready, structures=made.structures, counted=made.counted)
        return made.engine, ready, trainer, orders.answer
    raise UsageError(f"run.engine: no engine can train this model: {why}")


def _with_sources(ready: Ready, trainer: Any, named: dict[str, str], began_at: float) -> Ready:
    """Add the source files of the user's functions, including modules that the builder imported while it ran.

    `named` are those that the code named at the start. Of the others, a file that is newer than `began_at` has no hash, as
    `code_files.imported_since` says.
    """
    settings, base = trainer.settings, trainer.base
    paths = code_files.source_files(settings, base) | code_files.imported_files(settings, base)
    files = code_files.hashes(paths, began_at) | named
    if not files:
        return ready  # our own builder: `source` is already its hash
    if Reference.parse(settings.model.build, base) is None:
        from search.engines import training

        files[f"manyfit:{settings.model.build}"] = training.builtin(settings.model.build).REVISION
    return replace(ready, source=code_files.combine_hashes(files), files=files, legacy_source=trainer.source)


def _make_deterministic() -> None:
    """Make the backend compute the same bits in every run, at some cost in speed. Call it before any computation."""
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true".strip()
    if os.environ["KERAS_BACKEND"] == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


def run(descriptor: int, objects: int | None = None) -> NoReturn:
    """Serve, then end the process."""
    try:
        main(descriptor, objects)
    except BaseException:  # noqa: BLE001 (the outermost edge: the pool reads this from stderr)
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    # Skip the shutdown of the backend, which can take seconds.
    sys.stderr.flush()
    os._exit(0)
