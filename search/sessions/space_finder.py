"""Finds the space of a study whose builder has KerasTuner's form, in a process of its own."""

from __future__ import annotations

from dataclasses import dataclass

from search.engines import devices
from search.log import StudyLog
from search.sessions.reporter import LOGGING, Reporter
from search.spec import identity
from search.spec.declared_space import DeclaredSpace
from search.spec.study import StudyFile
from search.storage import records
from search.workers import asking, handover
from search.workers.local import Processes
from search.workers.messages import FindSpace


@dataclass(frozen=True)
class SpaceFinder:
    """Runs a study's builder, unless the study is stored with the space that an unchanged builder had."""

    reporter: Reporter = LOGGING

    def __call__(self, file: StudyFile) -> DeclaredSpace:
        """Return the space of a study without one; UsageError if its builder has another form, asks for nothing or fails."""
        return _stored(file) or self._run(file)

    def _run(self, file: StudyFile) -> DeclaredSpace:
        run = file.settings.run
        backend = devices.choose_backend("jax" if run.engine == "lanes" else run.backend)
        with self.reporter.waiting(f"running {file.settings.model.build} to find its hyperparameters, on {backend}"):
            answer = _ask(file, backend)
        conditional = sum("when" in entry for entry in answer.space.values() if isinstance(entry, dict))
        also = f", {conditional} of them conditional" if conditional else ""
        plural = "" if len(answer.space) == 1 else "s"
        self.reporter.line(f"space: {len(answer.space)} parameter{plural}{also}, found in {answer.builds} builds")
        for remark in answer.remarks:
            self.reporter.note(remark)
        return answer


def _ask(file: StudyFile, backend: str) -> DeclaredSpace:
    with handover.shared(file.given) as objects:
        order = FindSpace(file.settings, str(file.base))
        process = Processes(backend, StudyLog(), 1, objects).start(0, devices.choose(("cpu",))[0], order)
        try:
            answer = asking.reply(process, "ran the builder")
        finally:
            process.end()
    assert isinstance(answer, DeclaredSpace)  # noqa: S101 (the only other reply to FindSpace)
    return answer


def _stored(file: StudyFile) -> DeclaredSpace | None:
    """Return the space that a stored study began with; None if its builder has changed since, which may change the space."""
    stored = records.find(file.storage, file.name, with_trials=False)
    if stored is None or not identity.has_same_files(file, stored.full_identity):
        return None
    settings = stored.file.settings
    start = settings.search.start[0] if settings.search.start else {}
    return DeclaredSpace(settings.space, start, settings.study.epochs or 0)
