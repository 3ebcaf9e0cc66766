"""Servers that fork a process for what tests run, with all that it imports there already.

What is forked is the real command, in a process of its own: own pid, files and exit code, and its workers are processes
below it. Only what a fresh Python imports first, seconds of processor time a worker, is there already. What depends on how
Python starts (its environment, a closed stream, a signal meanwhile) is run by a fresh one, and so are workers on TensorFlow
and those whose environment says otherwise than the server's what JAX reads while it is imported.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from search.engines.devices import Device

COMMANDS = (
    "search.cli.run_output",
    "search.sessions.run",
    "search.sessions.planning",
    "search.views.console",
    "search.views.report",
    "search.policies.samplers.bayes",
    "search.storage.verify",
    "optuna.storages",
    "alembic.command",
    "scipy.stats",
    "sqlalchemy.pool",
)
PATH = [str(Path(__file__).parent / "engines"), str(Path(__file__).parent)]
"""Where tests' functions find their kits, and what users bring."""

ENGINES = (
    "support",
    "search.data",
    "search.engines.preflight",
    "search.engines.fit",
    "search.engines.exporting",
    "search.workers.worker",
    "sklearn.datasets",
    "sklearn.model_selection",
    "sklearn.preprocessing",
)


LATE = "late"


class Server:
    """A server whose Keras runs on a backend, seen from a test."""

    def __init__(self, backend: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, backend],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **Device().environment(backend)},
        )

    def command(self, arguments: Sequence[str], cwd: Path | None, timeout: float) -> subprocess.CompletedProcess[str]:
        """Run `manyfit` to its end; subprocess.TimeoutExpired, and its end, if that takes longer than `timeout` seconds."""
        return self._run({"arguments": list(arguments)}, dict(os.environ), cwd, timeout)

    def function(
        self, where: Sequence[Any], cwd: Path | None, environment: Mapping[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Do what `call` does, in an environment that may be another."""
        return self._run({"where": where}, environment, cwd, timeout)

    def close(self) -> None:
        """End the server."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)

    def _run(
        self, what: Mapping[str, Any], environment: Mapping[str, str], cwd: Path | None, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            files = [f"/proc/{os.getpid()}/fd/{file.fileno()}" for file in (out, err)]
            cwd = cwd or Path.cwd()
            try:
                pid = int(self._ask({"what": what, "cwd": os.fspath(cwd), "environment": environment, "files": files}))
                code = self._ask({"wait": pid, "timeout": timeout})
            except BaseException:
                # A test's own time is over: an answer that nobody has read would be taken for the next one's.
                self._process.kill()
                server.cache_clear()
                raise
            said = []
            for file in (out, err):
                file.seek(0)
                said.append(file.read().decode("utf-8", "replace"))
        if code == LATE:
            raise subprocess.TimeoutExpired(str(what), timeout, *said)
        return subprocess.CompletedProcess([f"{what}"], int(code), *said)

    def _ask(self, question: object) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        if not (answer := self._process.stdout.readline()):
            raise RuntimeError("the server that forks has ended")
        return answer.strip()


@functools.cache
def server(backend: str = "jax") -> Server:
    """Return the server of this test process for a backend."""
    started = Server(backend)
    atexit.register(started.close)
    return started


def call(file: str, function: str, arguments: Sequence[Any]) -> None:
    """Call a function of a test's file, and print what it returns, as JSON."""
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    print(json.dumps(getattr(module, function)(*arguments)))


def _serve(backend: str) -> None:
    sys.path[:0] = [str(Path(__file__).resolve().parents[1]), *PATH]
    from search.engines import pins

    pins.import_keras()
    for name in (*COMMANDS, *ENGINES, *(["search.engines.lanes.engine"] if backend == "jax" else [])):
        importlib.import_module(name)
    for line in sys.stdin:
        asked = json.loads(line)
        if "wait" in asked:
            print(_wait(asked["wait"], asked["timeout"]), flush=True)
            continue
        pid = os.fork()
        if not pid:
            _child(**asked, imported_with=dict(os.environ))
        print(pid, flush=True)


def _wait(pid: int, timeout: float) -> str:
    """Return the exit code, as subprocess has it, or LATE for a process that had to be ended."""
    late = False

    def end(*_: object) -> None:
        nonlocal late
        late = True
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, timeout)
    status = os.waitpid(pid, 0)[1]
    signal.setitimer(signal.ITIMER_REAL, 0)
    return LATE if late else str(os.waitstatus_to_exitcode(status))


def _child(
    what: dict[str, Any], cwd: str, environment: dict[str, str], files: list[str], imported_with: dict[str, str]
) -> NoReturn:
    def work() -> None:
        os.chdir(cwd)
        _become(environment)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for descriptor, file in enumerate(files, 1):
            os.dup2(os.open(file, os.O_WRONLY | os.O_APPEND), descriptor)
        if "where" in what:
            call(*what["where"])
            return
        from search.cli import main
        from search.workers import local

        sys.argv = ["-c", *what["arguments"]]
        local.launch = _launching(imported_with, local.launch)  # type: ignore[assignment]  # a Forked will do
        main()

    _end_with(work)


_kept: list[ModuleType] = []


def _become(environment: Mapping[str, str]) -> None:
    """Be as a process that has just begun, with that environment."""
    atexit._clear()  # what the server would do at its own end
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGALRM, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    # Tests' own modules would count as a part of the user's code.
    here = str(Path(__file__).parent)
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(here):
            _kept.append(sys.modules.pop(name))
    sys.modules["__main__"] = ModuleType("__main__")
    os.environ.clear()
    os.environ.update(environment)
    random.seed()
    sys.modules["numpy"].random.seed()


def _end_with(work: Callable[[], object]) -> NoReturn:
    """Do it, and end as a Python program does."""
    code = 1
    try:
        work()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
    finally:
        threading._shutdown()  # type: ignore[attr-defined]  # waits for threads that are no daemons, as Python does
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                code = code or 120
        os._exit(code)


class Forked:
    """A worker that its coordinator has forked, as `subprocess.Popen` shows one."""

    def __init__(self, pid: int, stderr: int) -> None:
        self.pid, self.stderr = pid, os.fdopen(stderr, "rb")
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self.wait(os.WNOHANG)

    def wait(self, how: int = 0) -> int | None:
        if self.returncode is None:
            ended, status = os.waitpid(self.pid, how)
            self.returncode = os.waitstatus_to_exitcode(status) if ended else None
        return self.returncode


def _launching(imported_with: Mapping[str, str], launch: Callable[..., Any]) -> Callable[..., Any]:
    """Return what starts workers by a fork where that comes to the same as a fresh Python."""

    def read_when_imported(environment: Mapping[str, str]) -> dict[str, str]:
        names = ("JAX_", "KERAS_", "PYTHON", "OMP_", "OPENBLAS_", "MKL_", "CUDA_VISIBLE")
        return {name: value for name, value in environment.items() if name.startswith(names)}

    def forked(descriptor: int, environment: Mapping[str, str], objects: int | None = None) -> Any:
        if objects is not None or read_when_imported(environment) != read_when_imported(imported_with):
            return launch(descriptor, environment, objects)
        stderr, theirs = os.pipe()
        pid = os.fork()
        if pid:
            os.close(theirs)
            return Forked(pid, stderr)
        _end_with(lambda: serve(descriptor, theirs, environment))

    def serve(descriptor: int, theirs: int, environment: Mapping[str, str]) -> None:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(0, 1)
        os.dup2(theirs, 2)
        os.closerange(3, descriptor)
        os.closerange(descriptor + 1, max(int(opened.name) for opened in Path("/proc/self/fd").iterdir()) + 1)
        # Of their own: a thread may have been about to write into those of the coordinator.
        sys.stdout, sys.stderr = (os.fdopen(n, "w", buffering=1, errors="backslashreplace") for n in (1, 2))
        _become(environment)
        from search.workers.worker import run

        run(descriptor)

    return forked


if __name__ == "__main__":
    _serve(sys.argv[1])
