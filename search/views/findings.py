"""What `manyfit check` prints, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

from rich.console import Console
from rich.status import Status
from rich.text import Text

from search.checking.report import Report
from search.spec.finding import Finding
from search.views.text import short

_STYLES = {"ok": "green", "look": "yellow", "stop": "bold red"}


class Lines:
    """Prints findings to `out` as they come, and to `err` what the check does; with `out` None no findings."""

    def __init__(self, out: Console | None, err: Console) -> None:
        self._out, self._err = out, err
        self._status: Status | None = None

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Show what the check does while the context lasts."""
        if not self._err.is_terminal:
            self._err.print(what, markup=False)
            yield
            return
        self._status = self._err.status(Text(what))
        with self._status:
            yield
        self._status = None

    def finding(self, finding: Finding) -> None:
        """Print a finding."""
        if self._out is None:
            return
        # A status takes the terminal's last line, and what is printed to stdout meanwhile.
        if self._status is not None:
            self._status.stop()
        self._out.print(line(finding), soft_wrap=True)
        if self._status is not None:
            self._status.start()


def line(finding: Finding) -> Text:
    """Return a finding as one line, with what to do."""
    text = Text.assemble((f"{finding.level:<4}", _STYLES[finding.level]), f"  {finding.name}: {finding.text}")
    if finding.advice:
        text.append(f"; {finding.advice}", style="dim" if finding.level == "ok" else "")
    return text


def end(report: Report) -> list[str]:
    """Return the last lines: whose model was checked, which checks don't apply, and the counts."""
    params = ", ".join(f"{name} {short(value)}" for name, value in report.params.items())
    lines = [f"config: {params}; on {report.backend}"] if params else []
    if report.left_out:
        lines.append(f"left out: {', '.join(f'{name} ({why})' for name, why in report.left_out.items())}")
    counts = {level: sum(finding.level == level for finding in report.findings) for level in _STYLES}
    return [*lines, ", ".join(f"{count} {level}" for level, count in counts.items())]


def to_json(report: Report) -> dict[str, Any]:
    """Return a report as plain JSON; a number that is not finite is null."""
    table = asdict(replace(report, exhibits=()))
    del table["exhibits"]
    for finding in table["findings"]:
        numbers = finding["numbers"].items()
        finding["numbers"] = {key: value if abs(value) < float("inf") else None for key, value in numbers}
    return table
