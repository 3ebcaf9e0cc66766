"""`manyfit clean`: delete the files that a study no longer needs, and count their bytes."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path

from search.engines import checkpoints
from search.spec.study import beside
from search.storage import records, schema
from search.storage.holding import hold


@dataclass(frozen=True)
class Cleaned:
    """The deleted files and their `bytes`; the `kept` weight files of the best trials take `kept_bytes`."""

    gone: list[Path]
    bytes: int
    kept: int
    kept_bytes: int


def clean(path: Path, name: str, *, weights: bool) -> Cleaned:
    """Delete checkpoints that no trial resumes from, weights of trials that are not among the best, half-written files.

    With `weights`, also delete the best trials' weights. The database is unchanged. StoreError while it is in use.
    """
    with hold(path):
        stored = records.load(path, name)
        folder = stored.files
        best = [] if weights else stored.complete[: stored.file.settings.run.keep]
        unfinished = [member for trial in stored.trials if not trial.is_ended for member in trial.members]
        # Weights of an unfinished trial wait for its other trainings.
        kept = [*(member for trial in best for member in trial.members), *unfinished]
        gone = checkpoints.tidy(folder, kept, unfinished)
        best_path = beside(path, name, ".best.json")
        gone |= checkpoints.delete(path.parent.glob(f".{glob.escape(best_path.name)}.[0-9]*.partial"))
        # Left by a killed restore or backup. Both need the lock, which is held here, so nobody writes these files now.
        partials = (f".{path.name}{suffix}.new{journal}" for suffix in ("", ".backup") for journal in schema.JOURNALS)
        gone |= checkpoints.delete(path.with_name(partial) for partial in partials)
    sizes = [file.stat().st_size for file in folder.glob("trial-*.npz")]
    return Cleaned(list(gone), sum(gone.values()), len(sizes), sum(sizes))
