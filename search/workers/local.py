"""Workers as processes on this machine. Nothing here imports keras."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import uuid
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from multiprocessing import connection as mp
from pathlib import Path
from typing import Any

import psutil

from search.engines import pins
from search.engines.devices import Device
from search.engines.failures import shortened
from search.log import StudyLog
from search.workers import descendants, output
from search.workers.messages import First, Message, decode, encode
from search.workers.transport import Gone, Link

START = Path(__file__).resolve().parents[2] / "manyfit" / "start.py"
"""The script that a worker process runs."""

STDERR_LINES = 20


def launch(descriptor: int, environment: Mapping[str, str], objects: int | None = None) -> subprocess.Popen[bytes]:
    """Start a worker process that speaks over the socket `descriptor`; `objects` is that of `handover.shared`."""
    descriptors = [descriptor] if objects is None else [descriptor, objects]
    return subprocess.Popen(
        # -P and a path to the script: the working directory or PYTHONPATH may contain a user's search.py.
        [sys.executable, "-P", str(START), *map(str, descriptors)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        pass_fds=descriptors,
        # Only the coordinator handles Ctrl-C; a worker that also got the signal would die in the middle of its reply.
        start_new_session=True,
    )


class Process:
    """A worker in a process, reached by a socket. The log names the worker by its number."""

    def __init__(self, number: int, environment: Mapping[str, str], log: StudyLog, objects: int | None = None) -> None:
        self._number, self._log = number, log
        self._tag = uuid.uuid4().hex  # all processes that it starts inherit this
        self._stderr: deque[str] = deque(maxlen=STDERR_LINES)
        self.channel, theirs = mp.Pipe()
        self.process = launch(theirs.fileno(), {**environment, descendants.TAG: self._tag}, objects)
        theirs.close()
        self._reader = threading.Thread(target=self._keep_stderr, daemon=True)
        self._reader.start()

    def _keep_stderr(self) -> None:
        assert self.process.stderr is not None  # noqa: S101 (launched with a pipe)
        for line in output.lines(self.process.stderr.fileno()):
            self._stderr.append(line)
            self._log.write(f"worker {self._number}: {line}")

    def send(self, messages: Sequence[Message]) -> None:
        with suppress(OSError):
            self.channel.send_bytes(encode(messages))

    def receive(self) -> Sequence[Message]:
        try:
            return decode(self.channel.recv_bytes())
        except (EOFError, OSError):
            raise Gone from None

    def has_sent(self, *, within_s: float = 0.0) -> bool:
        try:
            return self.channel.poll(within_s)
        except OSError:
            return True

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    @property
    def memory(self) -> int:
        try:
            return int(psutil.Process(self.process.pid).memory_info().rss)
        except psutil.Error:
            return 0

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            # The worker leads its process group, so this also kills children that a model started.
            os.killpg(self.process.pid, signal.SIGKILL)

    def end(self) -> None:
        if self.channel.closed:
            return
        with suppress(OSError):
            self.channel.close()
        known = descendants.find(self.process.pid)
        self.kill()
        self.process.wait()
        # `kill` reached only the worker's own session.
        descendants.kill(self._tag, known)
        self._reader.join(timeout=1)
        if self.process.stderr is not None and not self._reader.is_alive():
            self.process.stderr.close()

    @property
    def death(self) -> str:
        code = self.process.returncode
        if code is not None and code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"

    @property
    def last_words(self) -> str:
        return shortened("\n".join(self._stderr))


class Processes:
    """Starts workers as processes and waits for them.

    Args:
        count: how many workers run at a time.
        objects: the descriptor of a Python program's objects, from `handover.shared`; None if there are none.
    """

    def __init__(self, backend: str, log: StudyLog, count: int, objects: int | None = None) -> None:
        self._backend, self._log, self._count, self._objects = backend, log, count, objects

    def start(self, number: int, device: Device, spec: First) -> Process:
        environment = {**pins.clean(os.environ), **device.environment(self._backend)}
        started = Process(number, environment, self._log, self._objects)
        device.claim(started.process.pid, number, self._count)
        started.send([spec])
        return started

    def wait(self, links: Collection[Link], *, for_s: float) -> Collection[Link]:
        channels: dict[Any, Link] = {link.channel: link for link in links if isinstance(link, Process)}
        return [channels[channel] for channel in mp.wait(list(channels), timeout=for_s)]
