"""`manyfit clean`: what no longer serves a study, and what it takes on disk."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path

from search.engines import checkpoints
from search.spec.study import beside
from search.storage import records, schema
from search.storage.holding import hold
from search.trials.events import Member


@dataclass(frozen=True)
class Cleaned:
    """What was deleted, and the bytes that it took; `kept` weights of the best trials take `kept_bytes`."""

    gone: list[Path]
    bytes: int
    kept: int
    kept_bytes: int


def clean(path: Path, name: str, *, weights: bool) -> Cleaned:
    """Delete checkpoints that nothing goes on from, weights of trials that are not among the best, half-written files.

    With `weights` those of the best trials go, too. The database stays as it is. StoreError while another process holds it.
    """
    with hold(path):
        stored = records.load(path, name)
        folder = stored.files
        best = [] if weights else [Member(t.number) for t in stored.complete[: stored.file.settings.run.keep]]
        unfinished = [Member(trial.number) for trial in stored.trials if not trial.is_ended]
        gone = checkpoints.tidy(folder, best, unfinished)
        best_path = beside(path, name, ".best.json")
        gone |= checkpoints.delete(path.parent.glob(f".{glob.escape(best_path.name)}.[0-9]*.partial"))
        # A restoration or a backup that was killed; whoever holds the lock writes neither.
        halves = (f".{path.name}{kind}.new{journal}" for kind in ("", ".backup") for journal in schema.JOURNALS)
        gone |= checkpoints.delete(path.with_name(half) for half in halves)
    kept = [found.stat().st_size for found in folder.glob("trial-*.npz")]
    return Cleaned(list(gone), sum(gone.values()), len(kept), sum(kept))
