"""What several tests need: studies on disk, the real command in a real process, tables to compare."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from forking import PATH, server

from search.core import loop
from search.engines.devices import Device
from search.errors import Interrupted, StoreError
from search.policies import samplers
from search.policies.samplers import SearchProblem
from search.policies.samplers.draws import Draws
from search.reading import studyfile
from search.spec.identity import Record, declared
from search.spec.settings import Named, SearchSection
from search.spec.study import StudyFile
from search.storage.records import load
from search.storage.store import Store
from search.storage.studies import Stored
from search.trials.events import Assignment, Member
from search.trials.objective import Objective
from search.trials.trial import Training, Trial, Trials
from search.workers.inprocess import Replaying
from spaces import Space

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = ROOT / "tests" / "programs"
BROUGHT = ROOT / "tests" / "brought"
SHARED = ROOT.parent / "shared" / "data"
MANYFIT = [sys.executable, "-P", "-c", "from search.cli import main; main()"]

SMALL = """
[study]
objective = "val_accuracy"
trials = {trials}
epochs = {epochs}
[data]
source = "sklearn:digits"
limit = 300
[model]
build = "mlp"
units = [16]
[train]
optimizer = "adamw"
[space]
learning_rate = {{ low = 1e-4, high = 1e-1, log = true }}
dropout = {{ low = 0.0, high = 0.5 }}
batch_size = [32, 64]
[search]
pruner = {{ name = "halving", first_rung = 2, eta = 2 }}
"""


# What a study says of itself in a model file.
ORIGIN = {
    "study": "s", "database": "s.db", "trials": [0], "config": {}, "objective": "val_loss", "value": None, "epoch": 1,
}  # fmt: skip


def write_study(folder: Path, text: str = SMALL, *, name: str = "small", **values: Any) -> Path:
    """Write a study file; `values` fill the braces of SMALL."""
    path = folder / f"{name}.toml"
    filled = text.format(**{"trials": 5, "epochs": 4, **values}) if text is SMALL else text
    path.write_text(filled, encoding="utf-8")
    return path


def manyfit(
    *arguments: object, cwd: Path | None = None, timeout: float = 200, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the real command to its end."""
    if env is None and not is_counting_lines():
        return server().command([*map(str, arguments)], cwd, timeout)
    return subprocess.run(
        [*MANYFIT, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **(env or {})},
    )


def is_counting_lines() -> bool:
    """Whether coverage is measured: lines of a process that is forked are not counted."""
    return any(name.startswith("COV") for name in os.environ)


def start(*arguments: object, cwd: Path | None = None) -> subprocess.Popen[str]:
    """Start the real command in the background."""
    return subprocess.Popen(
        [*MANYFIT, *map(str, arguments)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class DiedError(Exception):
    """A process got no memory, or no thread, and ended: nothing of what it was to show was shown."""


# What LLVM, C++ and Python say then.
_NO_MEMORY = ("LLVM ERROR", "bad_alloc", "MemoryError", "can't start new thread", "Resource temporarily unavailable")


# Compiling is most of the work of such a process, and takes half as long so. No value changes by more than rounding.
_UNOPTIMIZED = {"XLA_FLAGS": "--xla_backend_optimization_level=0"}


def ran(
    program: Callable[..., Any],
    *arguments: Any,
    backend: str = "jax",
    cwd: Path | None = None,
    optimized: bool = False,
    timeout: float = 1200,
) -> subprocess.CompletedProcess[str]:
    """Call a function of a test's file in a process of its own, where it may import Keras; it prints what it returns.

    XLA optimizes nothing that it compiles there, unless `optimized`.
    """
    where = [program.__code__.co_filename, program.__name__, [*arguments]]
    path = os.pathsep.join([*PATH, os.environ.get("PYTHONPATH", "")])
    flags = {} if optimized else _UNOPTIMIZED
    environment = {**os.environ, **Device().environment(backend), **flags, "PYTHONPATH": path}
    if not is_counting_lines():
        return server(backend).function(where, cwd, environment, timeout)
    command = [sys.executable, "-c", f"import forking; forking.call(*{where!r})"]
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=timeout)


def in_keras(program: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Return what a function of a test's file returns in a process of its own, as JSON has it; `options` are those of `ran`."""
    return told(ran(program, *arguments, **options))


def told(done: subprocess.CompletedProcess[str]) -> Any:
    """Return what a process has printed last, as JSON."""
    assert done.returncode == 0, done.stderr[-6000:]
    return json.loads(done.stdout.splitlines()[-1])


def in_jax(program: Callable[..., Any], *arguments: Any, optimized: bool = False, timeout: float = 1200) -> Any:
    """Do so on the JAX backend; DiedError where there was no memory for it."""
    try:
        done = ran(program, *arguments, timeout=timeout, optimized=optimized)
    except subprocess.TimeoutExpired:
        raise DiedError("it waits for a thread that got no memory") from None
    if done.returncode < 0 or (done.returncode and any(words in done.stderr for words in _NO_MEMORY)):
        raise DiedError(f"{done.returncode}: {done.stderr}")
    return told(done)


def settings(how: list[str]) -> list[str]:
    """Return the words of a command line for a list of KEY=VALUE."""
    return [word for setting in how for word in ("--set", setting)]


def dice() -> random.Random:
    """Return random numbers whose seed is told, and may be given by MANYFIT_TEST_SEED."""
    seed = int(os.environ.get("MANYFIT_TEST_SEED", time.time_ns() % 10**9))
    print(f"MANYFIT_TEST_SEED={seed}")
    return random.Random(seed)


def cut_off(
    file: StudyFile, after: int, curves: Callable[[Assignment, int], Mapping[str, float]] | None = None
) -> None:
    """Leave a study as a process does that dies after so many ticks with three trials under way."""
    with pytest.raises(Interrupted):
        replay(file, curves or curve, lanes=3, interruption=iter([*[0] * after, *[2] * 9]).__next__)
    with closing(sqlite3.connect(file.storage)) as connection, connection:
        connection.execute("UPDATE trials SET state = 'RUNNING' WHERE state = 'WAITING'")


def wait_for(condition: Callable[[], Any], what: str, timeout: float = 90) -> Any:
    """Wait until `condition` returns something true."""
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        try:
            if found := condition():
                return found
        except (sqlite3.Error, OSError, StoreError):
            pass
        time.sleep(0.05)
    raise AssertionError(f"not within {timeout} s: {what}")


class Drawing:
    """A sampler and the trials that it draws from, which are drawn, told of and ended one by one. Their objective is val_loss."""

    def __init__(
        self,
        name: str,
        space: Space,
        *,
        options: Mapping[str, Any] | None = None,
        direction: str = "minimize",
        seed: int = 0,
        epochs: int = 9,
        start: Sequence[Mapping[str, Any]] = (),
        study_attrs: Mapping[str, Any] | None = None,
        trials: Iterable[Trial] = (),
    ) -> None:
        problem = SearchProblem(space, Objective("val_loss", direction), seed, epochs, study_attrs or {})
        self.sampler: Any = samplers.make(name, options or {}, problem)
        section = SearchSection(sampler=Named(name=name, **(options or {})), start=tuple(start), duplicates=True)
        self._draws = Draws(self.sampler, section, space, seed)
        self.trials = Trials(trials)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sampler, name)

    def draw(self, number: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Draw the next trial; return its labels and what is kept with it."""
        assert number == len(self.trials)
        labels, attrs = self._draws.draw(self.trials)
        self.trials.append(Trial(number, labels, labels, 99, [Training(Member(number), number)], attrs=attrs))
        return labels, attrs

    def redraw(self, attempt: int) -> dict[str, Any]:
        """Return another config for the last trial."""
        before = Trials(list(self.trials)[:-1])
        return dict(self.sampler.draw(before, attempt, {})[0])

    def put(self, number: int, labels: Mapping[str, Any]) -> None:
        """Let the last trial, or the next one, have these labels."""
        if number == len(self.trials):
            self.trials.append(Trial(number, {}, {}, 99, [Training(Member(number), number)]))
        self.trials[number].params = dict(labels)

    def report(self, number: int, epoch: int, value: float) -> None:
        """Let a trial be an epoch further; epochs that are left out have nothing to tell."""
        trial = self.trials[number]
        trial.trainings[0].curve += [{} for _ in range(epoch - 1 - len(trial.curve))]
        trial.curve.append({"val_loss": value})
        self.trials.touch(trial)

    def tell(self, number: int, state: str, value: float | None = None, *, diverged: bool = False) -> None:
        """End a trial."""
        trial = self.trials[number]
        trial.state, trial.value, trial.ended = state, value, "diverged" if diverged else "finished"
        self.trials.touch(trial)

    def vetoes_pruning(self, number: int, epoch: int) -> bool:
        """Return whether the sampler lets a trial go on that halving would prune."""
        return bool(self.sampler.vetoes_pruning(self.trials, number, epoch))

    def outlook(self) -> Any:
        """Return what the sampler has learned."""
        return self.sampler.outlook(self.trials)


def training(number: int, replica: int = 0, *, done: int = 0, **config: Any) -> Assignment:
    """Return what an engine is given to train trial `number`."""
    return Assignment(Member(number, replica), config, epochs=99, seed=number, done=done)


def query(database: Path, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """Ask a database that another process may be writing."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return connection.execute(sql, parameters).fetchall()


def table(database: Path, name: str) -> list[tuple[Any, ...]]:
    """Return a study as what must come out the same: numbers, states, endings, params, values, curves."""
    return [
        (t.number, t.state, t.ended, t.why, t.params, t.value, t.best_epoch, t.curve)
        for t in load(database, name).trials
    ]


def children(pid: int) -> list[int]:
    """Return the worker processes of a coordinator."""
    import psutil

    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def is_alive(pid: int) -> bool:
    """Tell whether a process is there and has not ended."""
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def end(process: subprocess.Popen[str], number: signal.Signals = signal.SIGKILL) -> tuple[int, str, str]:
    """Signal a process started here and collect what it said; it must end within 10 s."""
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    return process.returncode, out, err


REPLAY = """
[study]
objective = "val_loss"
trials = 20
epochs = 9
[data]
source = "sklearn:digits"
[space]
learning_rate = { low = 1e-4, high = 1e-1, log = true }
dropout = { low = 0.0, high = 0.5 }
[search]
sampler = "tpe"
pruner = { name = "halving", first_rung = 3, eta = 3 }
"""


def replay_file(folder: Path, text: str = REPLAY, **settings: Any) -> StudyFile:
    """Write and read a study for the replay engine; `settings` are `--set` with dots as double underscores."""
    path = write_study(folder, text, name="replay")
    overrides = [f"{key.replace('__', '.')}={toml(value)}" for key, value in settings.items()]
    # No builder is asked: parameters may be called anything.
    return studyfile.read(path, overrides, allow_unused=True)


def toml(value: Any) -> str:
    """Write a value as TOML."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


def curve(assignment: Assignment, epoch: int) -> dict[str, float]:
    """A loss that falls the faster the nearer the learning rate is to 0.01, with a little of the seed in it."""
    import math

    off = abs(math.log10(assignment.config["learning_rate"]) + 2)
    loss = (0.1 + off + assignment.config["dropout"]) / epoch + assignment.seed % 97 / 1e4
    return {"loss": loss * 0.9, "val_loss": loss}


def record(file: StudyFile) -> Record:
    """Return what a first start would store, without a worker to ask."""
    resolved = {
        "engine": "fit",
        "backend": "jax",
        "devices": ["cpu"],
        "versions": {"manyfit": "0"},
        "precision": "float32",
    }
    return Record(resolved, declared(file), "a note")


def replay(
    file: StudyFile,
    curves: Callable[[Assignment, int], Mapping[str, float]] = curve,
    *,
    lanes: int = 1,
    interruption: Callable[[], int] = lambda: 0,
) -> Stored:
    """Search with the replay engine through the real loop and store, going on if the study is there."""
    loop.run(file, record(file), Store, Replaying(curves, lanes), interruption=interruption)
    return load(file.storage, file.name)
