"""Checks a study before its search, in a process of its own. Writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from search.checking.checker import MODEL
from search.checking.report import Checked, Report
from search.engines import devices
from search.errors import DataError, Interrupted, UsageError
from search.log import StudyLog
from search.sessions.startup import resolve_or_load
from search.signals import signals
from search.spec import given, identity
from search.spec.finding import Finding
from search.spec.resolved import Resolved
from search.spec.study import StudyFile
from search.storage import records
from search.workers import handover
from search.workers.local import Process, Processes
from search.workers.messages import CheckStudy, Refused
from search.workers.transport import Gone

_TICK_S = 0.1


class Follower(Protocol):
    """Is told of a check while it works."""

    def waiting(self, what: str) -> AbstractContextManager[object]:
        """Report what the check does while the context lasts."""

    def finding(self, finding: Finding) -> None:
        """Report a finding as soon as it is known."""


class Silent:
    """A follower that reports nothing."""

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:  # noqa: ARG002 (of the protocol)
        yield

    def finding(self, finding: Finding) -> None:
        pass


def check(file: StudyFile, follower: Follower | None = None) -> Report:
    """Check a study's data and the training of its start config, or of the middle of its space.

    Raises UsageError or DataError for a study that a `run` would refuse to start, Interrupted for a signal.
    """
    follower = follower or Silent()
    if records.exists(file.storage, file.name):
        stored = records.load(file.storage, file.name, with_trials=False)
        file = identity.resumed(file, stored.identity)
    given.check(file.settings, file.given, file.storage)
    resolved, chosen = resolve_or_load(file)
    params = checked_params(file)
    config = {**file.fixed(), **file.space.config(params)}
    with signals() as interruption, handover.shared(file.given) as objects:
        for backend in (backends := _backends(file, resolved)):
            process = Processes(backend, StudyLog(), 1, objects).start(0, chosen[0], _order(file, resolved, config))
            try:
                may_fail = backend != backends[-1]
                answers = _follow(process, backend, follower, interruption, may_fail=may_fail)
            finally:
                process.end()
            if answers is not None:
                return Report(file.name, backend, params, config, *answers)
            follower = _Later(follower)
    raise AssertionError("the last backend gives a report")


def _backends(file: StudyFile, resolved: Resolved) -> list[str]:
    """Return the backends to try in turn: "auto" trains what JAX can't build by `model.fit` on its own default."""
    first = devices.choose_backend(resolved.backend)
    if resolved.engine != "auto" or file.settings.run.backend != "auto":
        return [first]
    return list(dict.fromkeys([first, devices.choose_backend("auto")]))


def _order(file: StudyFile, resolved: Resolved, config: Mapping[str, Any]) -> CheckStudy:
    run = file.settings.run.model_copy(update={"precision": resolved.precision})
    return CheckStudy(file.settings.model_copy(update={"run": run}), str(file.base), config)


def _follow(
    process: Process, backend: str, follower: Follower, interruption: Callable[[], int], *, may_fail: bool
) -> tuple[tuple[Finding, ...], dict[str, str]] | None:
    """Follow a check and return what it found and left out; None if the model can't be built here, which `may_fail`."""
    findings: list[Finding] = []
    with follower.waiting(f"checking the data and the model, on {backend}"):
        while not isinstance(answer := _next(process, interruption), Checked):
            if may_fail and answer.name == MODEL and answer.level == "stop":
                return None
            findings.append(answer)
            follower.finding(answer)
    return tuple(findings), dict(answer.left_out)


class _Later:
    """Follows the check on a second backend: what the first one found is known already."""

    def __init__(self, follower: Follower) -> None:
        self._follower, self._is_new = follower, False
        self.waiting = follower.waiting

    def finding(self, finding: Finding) -> None:
        self._is_new |= finding.name == MODEL
        if self._is_new:
            self._follower.finding(finding)


def checked_params(file: StudyFile) -> dict[str, Any]:
    """Return the first start config, completed by the middle of each range."""
    start = file.settings.search.start
    wanted = file.space.check(start[0]) if start else {}
    params: dict[str, Any] = {}
    for name, parameter in file.space.items():
        if file.space.is_active(name, params):
            params[name] = wanted[name] if name in wanted else parameter.middle()
    return params


def _next(process: Process, interruption: Callable[[], int]) -> Finding | Checked:
    while not process.has_sent(within_s=_TICK_S):
        if number := interruption():
            raise Interrupted("stopped; a check changes nothing", number)
    try:
        (answer,) = process.receive()
    except Gone:
        process.process.wait()
        words = f":\n{process.last_words}" if process.last_words else ""
        raise UsageError(f"the process that checked the study {process.death}{words}") from None
    if isinstance(answer, Refused):
        raise DataError(answer.message) if answer.is_data else UsageError(answer.message)
    assert isinstance(answer, Finding | Checked)  # noqa: S101 (the only other replies to CheckStudy)
    return answer
