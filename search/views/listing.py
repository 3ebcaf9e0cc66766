"""What `manyfit list` prints: the studies of some databases, with the state of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from search.storage.holder import Holder, holder
from search.storage.records import Brief
from search.storage.studies import Stored
from search.views import standing
from search.views.text import duration


def table(briefs: Sequence[Brief], base: Path) -> RenderableType:
    """Return the studies as a table; databases below `base` are named relative to it."""
    rows = Table(box=None, header_style="bold", pad_edge=False)
    counted = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}
    if any("REFUSED" in brief.counts for brief in briefs):
        counted["refused"] = "REFUSED"
    for column in ("study", "state", "trials", *counted, "best", "objective", "time", "database"):
        is_text = column in ("study", "state", "objective", "database")
        rows.add_column(column, justify="left" if is_text else "right", overflow="fold")
    for brief in briefs:
        path = brief.path.relative_to(base) if brief.path.is_relative_to(base) else brief.path
        rows.add_row(
            f"{brief.name} (of manyfit confirm)" if brief.confirms else brief.name,
            state(brief),
            f"{brief.ended_trials}/{brief.wanted}",
            *(str(brief.counts.get(key, 0)) for key in counted.values()),
            # The best of several trainings of one config is luck.
            "-" if brief.confirms else standing.best_of(brief),
            brief.objective,
            duration(brief.seconds),
            str(path),
        )
    return rows


def to_json(brief: Brief) -> dict[str, Any]:
    """Return a study's summary as plain JSON."""
    return {
        "study": brief.name,
        "database": str(brief.path),
        **state_json(brief),
        "trials": brief.trials,
        "ended": brief.ended_trials,
        "wanted": brief.wanted,
        "counts": brief.counts,
        "objective": brief.objective,
        "best": brief.best,
        "ahead": brief.ahead and dict(zip(("value", "trial", "state"), brief.ahead, strict=True)),
        "seconds": brief.seconds,
        **({"confirms": brief.confirms} if brief.confirms else {}),
    }


def state(study: Brief | Stored) -> str:
    """Return the state of a study, and the process that works on it."""
    word, process = _state_and_process(study)
    return f"{word} ({process})" if process else word


def state_json(study: Brief | Stored) -> dict[str, Any]:
    """Return the same as plain JSON."""
    word, process = _state_and_process(study)
    details = process and {"pid": process.pid, "host": process.host, "since": process.since.isoformat()}
    return {"state": word, "process": details}


def _state_and_process(study: Brief | Stored) -> tuple[str, Holder | None]:
    if study.ended:
        return "done", None
    counts: Mapping[str, int] = (
        study.counts if isinstance(study, Brief) else Counter(trial.state for trial in study.trials)
    )
    process = holder(study.path)
    if process is not None and (counts.get("RUNNING") or not counts):
        # A process on another machine may have died; this machine can't see that.
        return "running" if not process.host else "running or cut off", process
    return "cut off" if counts.get("RUNNING") else "unfinished", None
