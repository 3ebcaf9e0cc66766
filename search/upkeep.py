"""`manyfit clean`: what no longer serves a study, and what it takes on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from search import records
from search.engines import checkpoints
from search.engines.protocol import Member
from search.store import hold


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
        gone = checkpoints.tidy(folder, best, is_done=bool(stored.ended))
        for partial in path.parent.glob(f".{name}.best.json.[0-9]*.partial"):
            gone[partial] = partial.stat().st_size
            partial.unlink()
    kept = [found.stat().st_size for found in folder.glob("trial-*.npz")]
    return Cleaned(list(gone), sum(gone.values()), len(kept), sum(kept))
