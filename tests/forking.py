"""A server that forks a process for each command that tests run, with all that the command line imports there already.

What it forks is the real command in a process of its own: own pid, files and exit code. A fresh Python would take a second
of processor time first. A command whose environment matters while Python starts is run by a fresh one.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

IMPORTED = (
    "search.cli",
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


class Commands:
    """The server, seen from a test."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, arguments: Sequence[str], cwd: Path | None, timeout: float) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; subprocess.TimeoutExpired, and its end, if that takes longer."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            files = [f"/proc/{os.getpid()}/fd/{file.fileno()}" for file in (out, err)]
            asked = {"arguments": list(arguments), "cwd": os.fspath(cwd or Path.cwd()), "env": dict(os.environ)}
            pid = int(self._ask({**asked, "files": files}))
            code = self._ask({"wait": pid, "timeout": timeout})
            said = []
            for file in (out, err):
                file.seek(0)
                said.append(file.read().decode("utf-8", "replace"))
        if not code:
            raise subprocess.TimeoutExpired([*arguments], timeout, *said)
        return subprocess.CompletedProcess(["manyfit", *arguments], int(code), *said)

    def close(self) -> None:
        """End the server."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)

    def _ask(self, question: object) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()


def _serve() -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        if "wait" in asked:
            print(_wait(asked["wait"], asked["timeout"]), flush=True)
            continue
        pid = os.fork()
        if not pid:
            _child(**asked)
        print(pid, flush=True)


def _wait(pid: int, timeout: float) -> str:
    """Return the exit code, as subprocess has it; "" for a process that had to be ended."""
    late = False

    def end(*_: object) -> None:
        nonlocal late
        late = True
        os.kill(pid, signal.SIGKILL)

    signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, timeout)
    status = os.waitpid(pid, 0)[1]
    signal.setitimer(signal.ITIMER_REAL, 0)
    return "" if late else str(os.waitstatus_to_exitcode(status))


def _child(arguments: list[str], cwd: str, env: dict[str, str], files: list[str]) -> None:
    code = 1
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(env)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for descriptor, file in enumerate(files, 1):
            os.dup2(os.open(file, os.O_WRONLY | os.O_APPEND), descriptor)
        sys.argv = ["-c", *arguments]
        from search.cli import main

        main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                code = code or 1
        os._exit(code)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    for name in IMPORTED:
        importlib.import_module(name)
    _serve()
