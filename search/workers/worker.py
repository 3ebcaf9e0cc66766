"""The worker process: hosts an engine, knows nothing of samplers, pruners or storage.

Started as `python -P manyfit/start.py FD` with its environment (backend, device, threads) set by the pool. Speaks
`messages` over the socket FD; what it prints goes to stderr, which the pool keeps. It ends when its coordinator is gone.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import time
import traceback
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from search.engines import failures, pins
from search.engines.checkpoints import Checkpoints
from search.engines.protocol import Declined, Engine, Make, SaveModel, Wanted
from search.errors import DataError, UsageError
from search.registry import ENGINES
from search.spec import sources
from search.spec.ready import Ready
from search.spec.usercode import Reference
from search.trials.events import Assignment, Noted, Spent, Verdict, not_kept
from search.workers import descendants
from search.workers.messages import Go, Keep, Looking, Message, Refused, Saved, WorkerSpec, decode, encode

if TYPE_CHECKING:
    from search.engines.training import Trainer

# A refusal may repeat what the user's own code raised.
MOST_REFUSAL = 4_000


def main(descriptor: int) -> None:
    """Serve until the coordinator says so or is gone."""
    # Nothing of a user's may be read from or printed into the channel.
    sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115, PTH123 (for the life of the process)
    sys.stdout = sys.stderr
    # A real one ends the process, which blames nobody; a KeyboardInterrupt is then the user's code's own.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    connection = Connection(descriptor)
    (spec,) = decode(connection.recv_bytes())
    assert isinstance(spec, WorkerSpec)  # noqa: S101 (the pool sends it first)
    inbox: queue.Queue[list[Message]] = queue.Queue()
    engines: list[Engine] = []
    # From the beginning: a builder that never returns must not outlive its coordinator.
    threading.Thread(target=_receive, args=(connection, inbox, engines), daemon=True).start()
    try:
        engine, ready, trainer = _prepare(spec, connection)
    except UsageError as error:
        refusal = failures.shortened(str(error), MOST_REFUSAL)
        connection.send_bytes(encode([Refused(refusal, is_data=isinstance(error, DataError))]))
        return
    engines.append(engine)
    connection.send_bytes(encode([ready]))
    # The first wait is for the study to begin.
    told, saving, spent_before = 0.0, 0.0, dict.fromkeys(engine.seconds, 0.0)
    while True:
        # A tick: verdicts free places, assignments fill them, then all members go on by an epoch.
        messages = inbox.get()
        if isinstance(messages[0], Keep):
            why = engine.keep(messages[0].member, Path(messages[0].path))
            noted = [not_kept(messages[0].member, why)] if why else []
            connection.send_bytes(encode(noted))
            continue
        if isinstance(messages[0], SaveModel):
            from search.engines import exporting

            connection.send_bytes(encode([exporting.saved(trainer, messages[0])]))
            continue
        verdicts = [message for message in messages if isinstance(message, Verdict)]
        engine.apply(verdicts)
        engine.checkpoints.end(verdict.member for verdict in verdicts if verdict.ends)
        for message in messages:
            if isinstance(message, Assignment):
                engine.start(message)
        if not any(isinstance(message, Go) for message in messages):
            continue
        began, inside = time.perf_counter(), sum(engine.seconds.values())
        events = [*engine.advance()]
        ended, now = time.perf_counter(), dict(engine.seconds)
        spent = {part: seconds - spent_before[part] for part, seconds in now.items()}
        spent |= {
            "wait": began - (told or began),
            "train": ended - began - (sum(now.values()) - inside),
            "save": saving,
        }
        if trouble := engine.checkpoints.take_trouble():
            events.append(Noted("no checkpoint", {"why": trouble}))
        connection.send_bytes(encode([*events, Spent(spent), Saved(engine.checkpoints.are_whole)]))
        # While the coordinator judges.
        began = time.perf_counter()
        engine.save()
        told, spent_before = time.perf_counter(), now
        saving = told - began


def _receive(connection: Connection, inbox: queue.Queue[list[Message]], engines: list[Engine]) -> None:
    try:
        _listen(connection, inbox, engines)
    except BaseException:  # noqa: BLE001 (a worker that hears nothing more would wait for ever)
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def _listen(connection: Connection, inbox: queue.Queue[list[Message]], engines: list[Engine]) -> NoReturn:
    while True:
        try:
            messages = decode(connection.recv_bytes())
        except (EOFError, OSError):
            # The coordinator has closed the channel, or is gone. Training may be deep in C; nothing of it is to be kept, nor
            # of what a model has started: the pool made this process the first of its group.
            known = descendants.below(os.getpid())
            if mark := os.environ.get(descendants.MARK, ""):
                descendants.end(mark, known, spare=os.getpid())
            if os.getpgrp() == os.getpid():
                os.killpg(0, signal.SIGKILL)
            os._exit(0)
        for message in messages:
            if isinstance(message, Assignment):
                engines[0].prefetch(message)
        inbox.put(messages)


def _prepare(spec: WorkerSpec, connection: Connection) -> tuple[Engine, Ready, Trainer]:
    """Load data and builder, try them, and choose the engine; UsageError for what a person must mend."""
    settings, base = spec.settings, Path(spec.base)
    if settings.run.deterministic:
        _make_deterministic()
    pins.import_keras()
    # All of ours is imported before anything of the user's, whose modules may bear the same names.
    from search import data
    from search.engines import preflight, training

    kinds: list[tuple[str, Make]] = [(name, ENGINES.get(name)) for name in spec.engines]
    if Reference.parse(settings.model.build, base) is None:
        training.builtin(settings.model.build)
    before = pins.Pins.now()
    loaded = data.load(settings.data, base, settings.study.seed)
    if not sources.is_imported(settings, base):
        # The source of a data function is no part of a study's identity: it may set nothing for training.
        before.set()
    trainer = training.Trainer.load(settings, base, loaded)
    training.leave_tensorflow_out()
    # A callback of the user's may know of earlier epochs, and can't be saved: then trials begin anew.
    can_go_on = not settings.train.callbacks
    files = Checkpoints(Path(spec.folder), spec.number, settings.run.disk, can_go_on=can_go_on)
    connection.send_bytes(encode([Looking()]))
    ready = _with_sources(preflight.inspect(trainer, spec.fixed), trainer)
    why = spec.why
    wanted = Wanted(trainer, files, spec.fixed, spec.lanes, spec.workers, is_chosen=len(kinds) == 1)
    for name, make in kinds:
        try:
            made = make(wanted)
        except Declined as reason:
            if wanted.is_chosen:
                raise UsageError(f'run.engine: {name} can\'t train this model: {reason}; set engine = "fit"') from None
            why = str(reason)
            continue
        why = why if name == kinds[-1][0] else ""
        ready = replace(ready, engine=name, why=why, lanes=made.lanes, memory=made.memory)
        return made.engine, ready, trainer
    raise UsageError(f"run.engine: no engine can train this model: {why}")


def _with_sources(ready: Ready, trainer: Any) -> Ready:
    """Add the files that the user's functions are made of, those included that building has imported."""
    settings, base = trainer.settings, trainer.base
    files = sources.hashes(sources.written(settings, base) | sources.imported(settings, base))
    if not files:
        return ready  # the hash of our own builder is the source
    if Reference.parse(settings.model.build, base) is None:
        from search.engines import training

        files[f"manyfit:{settings.model.build}"] = training.builtin(settings.model.build).REVISION
    return replace(ready, source=sources.combined(files), files=files, source_before=trainer.source)


def _make_deterministic() -> None:
    """Ask the backend for the same bits at every run, at some cost in speed. Before anything is computed."""
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true".strip()
    if os.environ["KERAS_BACKEND"] == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


def run(descriptor: int) -> NoReturn:
    """Serve, then end the process."""
    try:
        main(descriptor)
    except BaseException:  # noqa: BLE001 (the edge: the pool reads what is printed here)
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    # Backends can take seconds to take themselves down, and nothing here needs that.
    sys.stderr.flush()
    os._exit(0)
