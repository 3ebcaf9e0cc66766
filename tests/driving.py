"""Searches with the replay engine in processes of their own, which tests kill: the command's steps without Keras's start.

As a script it is a server that forks a process for each search it is asked for (0.1 s each, where a fresh Python takes a
second). What it forks is a process like any other: own pid, own files, really killed.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from support import curve, record, replay_file

from search import failpoints
from search.core.loop import search
from search.core.study import Study
from search.errors import ManyfitError
from search.signals import signals
from search.storage import connecting, records, verify
from search.storage import store as stores
from search.storage.store import Store
from search.trials.files import StudyFiles
from search.views import export
from search.workers.inprocess import Replaying


@dataclass(frozen=True)
class Ended:
    """How a process ended: `code` as subprocess has it, -9 for a kill."""

    code: int
    said: str


class Driver:
    """The server, seen from a test. A context manager."""

    def __enter__(self) -> Driver:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *error: object) -> None:
        self._process.stdin.close()
        self._process.wait(timeout=30)

    def start(self, folder: Path, action: str = "search", **options: Any) -> int:
        """Start a process that searches (or restores, or exports) and return its pid; see `_act` for the options."""
        return int(self._ask({"folder": str(folder), "action": action, **options}))

    def wait(self, pid: int) -> Ended:
        """Wait for it to end."""
        code, said = json.loads(self._ask({"wait": pid}))
        return Ended(code, said)

    def run(self, folder: Path, action: str = "search", **options: Any) -> Ended:
        """Start one and wait for it."""
        return self.wait(self.start(folder, action, **options))

    def kill_after(self, seconds: float, folder: Path, action: str = "search", **options: Any) -> Ended:
        """Start one and kill it after a time, if it has not ended by then."""
        pid = self.start(folder, action, **options)
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)  # it is not waited for yet, so the pid is still its own
        return self.wait(pid)

    def _ask(self, question: Mapping[str, Any]) -> str:
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()


def _serve() -> None:
    errors: dict[int, Path] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        if "wait" in asked:
            pid = asked["wait"]
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            print(json.dumps([code, errors[pid].read_text()]), flush=True)
            errors.pop(pid).unlink()
            continue
        folder = Path(asked.pop("folder"))
        said = folder.with_name(f"{folder.name}.{time.monotonic_ns()}.stderr")
        said.touch()
        pid = os.fork()
        if not pid:
            _child(folder, said, **asked)
        errors[pid] = said
        print(pid, flush=True)


def _child(folder: Path, said: Path, action: str, kill_at: int = 0, **options: Any) -> None:
    code = 1
    try:
        # `nohup pytest` would leave it deaf to a terminal's end.
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with said.open("w") as file:
            os.dup2(file.fileno(), 2)
        os.environ["MANYFIT_KILL_AT"] = str(kill_at)
        importlib.reload(failpoints)
        code = _act(folder, action, **options)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def _act(
    folder: Path,
    action: str,
    *,
    settings: Mapping[str, Any] | None = None,
    epoch_s: float = 0.0,
    backup_every_s: float = 0.0,
    file_size: int = 0,
    busy_for_s: float = 0.0,
    is_nobody: bool = False,
) -> int:
    """Do what a command does; return its exit code.

    Args:
        epoch_s: how long an epoch takes.
        backup_every_s: how often a backup is written.
        file_size: the most bytes that a file may have; 0 for no limit.
        busy_for_s: how long a locked database is waited for; 0 for as long as ever.
        is_nobody: whether to be a user who may read no files of root's.
    """
    stores.BACKUP_EVERY_S = backup_every_s
    if not backup_every_s:
        stores.BACKUP_SHARE = 1e9
    if busy_for_s:
        connecting.BUSY_FOR_S = busy_for_s
    if is_nobody and os.getuid() == 0:
        os.setuid(65534)
    if file_size:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    try:
        if action == "restore":
            verify.restore(folder / "replay.db")
        elif action == "export":
            stored = records.load(folder / "replay.db", "replay")
            text = export.to_json(export.best(stored))
            while True:
                export.write(folder / "best.json", text)
        else:
            _search(folder, settings or {}, epoch_s)
    except ManyfitError as error:
        print(f"manyfit: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    return 0


def _search(folder: Path, settings: Mapping[str, Any], epoch_s: float) -> None:
    file = replay_file(folder, **settings)

    def curves(assignment: Any, epoch: int) -> Mapping[str, float]:
        time.sleep(epoch_s)
        return curve(assignment, epoch)

    with signals() as interruption:
        if records.exists(file.storage, file.name):
            store = Store.open(file.storage, file.name, interruption=interruption)
        else:
            store = Store.create(file, record(file), interruption=interruption)
        with store:
            stored = records.load(file.storage, file.name)
            study = Study.of(stored, file)
            store.renew(file)
            try:
                search(study, store, Replaying(curves), interruption=interruption, watch=lambda: None)
            finally:
                store.back_up()
            export.write(StudyFiles.of(file).best, export.to_json(export.best(records.load(store.path, file.name))))


if __name__ == "__main__":
    # All that a search imports late, so that what is forked has it already.
    for name in ("optuna.storages", "alembic.command", "search.storage.backup", "search.durable", "sqlalchemy.pool"):
        importlib.import_module(name)
    _serve()
