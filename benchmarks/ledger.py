"""The file of `quality.py --out`: one line of JSON per played match, so that an interrupted benchmark can resume."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from playing import Match, Played

from search.errors import UsageError

_OF_MATCH = ("task", "search", "lanes", "seed", "budget")
# Results that are recomputed on another machine may differ in their last digits.
_SAME = 1e-4


class Ledger:
    """Played matches. Without a path they are kept in memory only."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._played: dict[Match, Played] = {}
        if path is not None:
            for run in _read(path):
                self._played[run.match] = run

    def add(self, run: Played) -> None:
        """Store a run; after this returns, the match is never played again."""
        self._played[run.match] = run
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(_line(run))

    def __contains__(self, match: Match) -> bool:
        return match in self._played

    def __getitem__(self, match: Match) -> Played:
        return self._played[match]

    def check(self, matches: Iterable[Match], task: str, best: float, median: float) -> None:
        """Raise UsageError if one of these matches was played on other curves than the task's present ones."""
        for match in matches:
            run = self._played.get(match) if match.task == task else None
            if run and not (
                math.isclose(run.best, best, rel_tol=_SAME) and math.isclose(run.median, median, rel_tol=_SAME)
            ):
                raise UsageError(
                    f"{self._path} has runs on other curves named {task}: best {run.best:g} and median {run.median:g} there, "
                    f"{best:g} and {median:g} now; name another file"
                )


def _line(run: Played) -> str:
    table = asdict(run)
    return json.dumps({**table.pop("match"), **table}) + "\n"


def _read(path: Path) -> Iterable[Played]:
    """Read all runs; an incomplete last line, left by a crash, is removed from the file."""
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            path.write_text(whole, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} can't be used: {error.strerror}") from None
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            yield _run(json.loads(line))
        except (ValueError, TypeError, KeyError, AttributeError):
            raise UsageError(f"{path}, line {number} is no run of this benchmark; name another file") from None


def _run(table: dict[str, Any]) -> Played:
    match = Match(**{key: table.pop(key) for key in _OF_MATCH})
    trace = [(int(spent), float(objective)) for spent, objective in table.pop("trace")]
    return Played(match, trace=trace, **table)
