"""Where the Python interface reports its progress: a bar or a live view, or the logger `manyfit`, in Python's words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search.python.arguments import in_python

if TYPE_CHECKING:
    from search.sessions.reporter import Reporter
    from search.spec.finding import Finding


class InPython:
    """A reporter that passes everything on in the words of a Python program."""

    def __init__(self, reporter: Reporter) -> None:
        self.waiting, self.following = reporter.waiting, reporter.following
        self._reporter = reporter

    def line(self, text: str) -> None:
        self._reporter.line(in_python(text))

    def note(self, text: str) -> None:
        self._reporter.note(in_python(text))

    def warning(self, text: str) -> None:
        self._reporter.warning(in_python(text))


class Verdicts:
    """A follower of a check that reports each verdict as a line."""

    def __init__(self, reporter: Reporter) -> None:
        self.waiting, self._reporter = reporter.waiting, reporter

    def finding(self, finding: Finding) -> None:
        from search.views import findings

        self._reporter.line(findings.line(finding).plain)


def reporter_of(*, progress: bool) -> Reporter:
    """Return a reporter that shows progress where a person sees it; without `progress` one that logs."""
    from search.sessions.reporter import LOGGING
    from search.views import console, notebook

    if not progress:
        return InPython(LOGGING)
    is_here = notebook.is_here()
    return InPython(notebook.NotebookReporter() if is_here else console.ConsoleReporter(console.stderr()))
