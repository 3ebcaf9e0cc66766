"""What `run` of a notebook shows while it works: one line with a bar, and the lines of text below it. Needs no widgets."""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from search.core.study import Study
from search.views.console import REFRESH_S, Progress
from search.views.plain import PlainConsole

# A cell keeps at most so many lines.
_MAX_LINES = 40


def is_here() -> bool:
    """Return whether this process is the kernel of a notebook."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return getattr(shell, "kernel", None) is not None


class NotebookReporter:
    """Shows in the output of a notebook's cell what a session does. It updates one output in place."""

    def __init__(self) -> None:
        self._status, self._bar = "", (0, 0)
        self._lines: list[tuple[str, str]] = []
        self._output: Any = None

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        self._status = what
        self._show()
        yield
        self._status = ""

    def line(self, text: str) -> None:
        self._add("", text)

    def note(self, text: str) -> None:
        self._add("note", text)

    def warning(self, text: str) -> None:
        self._add("warning", text)

    @contextmanager
    def following(self, study: Study, *, programs: int) -> Iterator[Callable[[], None]]:
        progress = Progress(study, PlainConsole(quiet=True), programs=programs)
        drawn = 0.0

        def update() -> None:
            nonlocal drawn
            if (now := time.monotonic()) - drawn >= REFRESH_S:
                drawn = now
                self._follow(study, progress)

        self._follow(study, progress)
        try:
            yield update
        finally:
            self._follow(study, progress)
            self._status = ""

    def _follow(self, study: Study, progress: Progress) -> None:
        ended = sum(trial.is_ended for trial in study.trials)
        self._bar = (ended, study.budget)
        self._status = (
            f"{study.file.name}: {ended} of {study.budget} trials, {progress.best_text().plain}; {progress.pace()}, "
            f"{progress.time_left(ended)}"
        )
        self._show()

    def _add(self, kind: str, text: str) -> None:
        self._lines = [*self._lines, (kind, text)][-_MAX_LINES:]
        self._show()

    def _show(self) -> None:
        from IPython.display import display

        texts = [f"{kind}: {text}" if kind else text for kind, text in self._lines]
        data = {"text/html": self._html(), "text/plain": "\n".join([*texts, self._status]).strip()}
        if self._output is None:
            self._output = display(data, raw=True, display_id=True)
        elif self._output is not None:
            self._output.update(data, raw=True)

    def _html(self) -> str:
        done, budget = self._bar
        bar = f'<progress value="{done}" max="{budget}" style="width: 20em"></progress> ' if budget else ""
        rows = [f"{f'<b>{kind}:</b> ' if kind else ''}{html.escape(text)}" for kind, text in self._lines]
        return "<br>".join([*rows, f"{bar}{html.escape(self._status)}"])
