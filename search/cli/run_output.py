"""What `manyfit run` prints when it ends."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console

from search.cli import standard_streams
from search.sessions import outcomes
from search.sessions.run import Outcome
from search.views import export, standing


def show(outcome: Outcome, chosen: str, console: Console) -> None:
    """Print the best config to stdout as JSON, everything else to the console. `chosen` are the words that name the study."""
    stored = outcome.stored
    for line in outcomes.lines(outcome):
        console.print(line, markup=False)
    if stored.complete:
        best = export.best(stored, 1).configs[0]
        console.print(standing.line(stored, export.DEFAULT_TOP))
        console.print(outcomes.best_line(stored))
        print(json.dumps(best.model_dump(mode="json", exclude={"curve", "seconds", "config", "rank"}), indent=2))
        if error := standard_streams.stdout_error():
            console.print(
                f"stdout can't be written ({error.strerror}): the best config is in {outcome.best_path.name} only"
            )
    else:
        console.print(f"no trial is complete, so there is no best config yet; {standing.line(stored, 1)}")
    console.print(
        f"written: {_relative(outcome.best_path)}; look closer: manyfit show {chosen}, manyfit dashboard {chosen}",
        markup=False,
    )


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
