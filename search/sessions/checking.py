"""Checks a study before its search, in a process of its own. Writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from search.checking.exhibit import Exhibit
from search.checking.report import Checked, Report
from search.engines import devices
from search.log import StudyLog
from search.sessions.startup import resolve
from search.signals import Interruptions, signals
from search.spec import given, identity
from search.spec.finding import Finding
from search.spec.resolved import Resolved
from search.spec.study import StudyFile
from search.storage import records
from search.workers import asking, handover
from search.workers.local import Process, Processes
from search.workers.messages import CheckStudy


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


def check(file: StudyFile, follower: Follower | None = None, *, interruptions: Interruptions = signals) -> Report:
    """Check a study's data and the training of its start config, or of the middle of its space.

    Raises UsageError or DataError for a study that a `run` would refuse to start, Interrupted for a signal.
    """
    follower = follower or Silent()
    stored = records.find(file.storage, file.name, with_trials=False)
    if stored is not None:
        file = identity.resumed(file, stored.identity)
    given.check(file.settings, file.given, file.storage)
    resolved, chosen = resolve(file, stored)
    params = checked_params(file)
    config = {**file.fixed(), **file.space.config(params)}
    with interruptions() as interruption, handover.shared(file.given) as objects:
        backends, results = _backends(file, resolved), _Results()
        for backend in backends:
            order = _order(file, resolved, config, has_data=backend == backends[0], may_move=backend != backends[-1])
            process = Processes(backend, StudyLog(), 1, objects).start(0, chosen[0], order)
            try:
                moves = _follow(process, backend, results, follower, interruption)
            finally:
                process.end()
            if not moves:
                break
        return Report(
            file.name, backend, params, config, tuple(results.findings), results.left_out, tuple(results.exhibits)
        )


@dataclass
class _Results:
    """The findings of a check so far, what it left out and what it showed."""

    findings: list[Finding] = field(default_factory=list)
    exhibits: list[Exhibit] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def _backends(file: StudyFile, resolved: Resolved) -> list[str]:
    """Return the backends to try in turn: "auto" trains by `model.fit`, on its own default, what lanes on JAX can't."""
    first = devices.choose_backend(resolved.backend)
    if resolved.engine != "auto" or file.settings.run.backend != "auto":
        return [first]
    return list(dict.fromkeys([first, devices.choose_backend("auto")]))


def _order(
    file: StudyFile, resolved: Resolved, config: Mapping[str, Any], *, has_data: bool, may_move: bool
) -> CheckStudy:
    run = file.settings.run.model_copy(update={"precision": resolved.precision})
    return CheckStudy(file.settings.model_copy(update={"run": run}), str(file.base), config, has_data, may_move)


def _follow(
    process: Process, backend: str, results: _Results, follower: Follower, interruption: Callable[[], int]
) -> bool:
    """Follow a check to its end; return whether it is to go on on the next backend."""
    with follower.waiting(f"checking the data and the model, on {backend}"):
        while not isinstance(answer := _next(process, interruption), Checked):
            if isinstance(answer, Finding):
                results.findings.append(answer)
                follower.finding(answer)
            else:
                results.exhibits.append(answer)
    results.left_out |= answer.left_out
    return answer.moves


def checked_params(file: StudyFile) -> dict[str, Any]:
    """Return the first start config, completed by the middle of each range."""
    start = file.settings.search.start
    wanted = file.space.check(start[0]) if start else {}
    params: dict[str, Any] = {}
    for name, parameter in file.space.items():
        if file.space.is_active(name, params):
            params[name] = wanted[name] if name in wanted else parameter.middle()
    return params


def _next(process: Process, interruption: Callable[[], int]) -> Finding | Exhibit | Checked:
    answer = asking.reply(process, "checked the study", "stopped; a check changes nothing", interruption)
    assert isinstance(answer, Finding | Exhibit | Checked)  # noqa: S101 (the only other replies to CheckStudy)
    return answer
