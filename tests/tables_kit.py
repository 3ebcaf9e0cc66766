"""Studies of every sampler and pruner, whole and cut off: what a change of structure must not change.

`python tests/tables_kit.py` writes their tables as the right ones. Do that only where a search is meant to come out otherwise.
"""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from support import cut_off, replay, replay_file

from search.registry import PRUNERS
from search.trials.events import Assignment

TABLES = Path(__file__).parent / "assets" / "tables.json"

STUDY = """
[study]
objective = "val_loss"
trials = 24
epochs = 9
[data]
source = "sklearn:digits"
[space]
learning_rate = { low = 1e-4, high = 1e-1, log = true }
dropout = { low = 0.0, high = 0.5, step = 0.125 }
units = { low = 8, high = 64, log = true }
optimizer = ["sgd", "adam"]
momentum = { low = 0.0, high = 0.9, when = { optimizer = "sgd" } }
"""
GRID = """
[study]
objective = "val_loss"
trials = 12
epochs = 9
[data]
source = "sklearn:digits"
[space]
learning_rate = [1e-3, 1e-2, 1e-1]
dropout = [0.0, 0.25]
optimizer = ["sgd", "adam"]
"""
SAMPLERS = ("bayes", "random", "tpe", "cmaes", "qmc", "grid")


def curves(assignment: Assignment, epoch: int) -> Mapping[str, float]:
    """A loss with crossings, a divergence, and one that never gets going."""
    config = assignment.config
    off = abs(math.log10(config["learning_rate"]) + 2) + config["dropout"] + 0.2 * (config["optimizer"] == "sgd")
    if assignment.member.trial % 11 == 7 and epoch > 3:
        return {"loss": math.nan, "val_loss": math.nan}
    loss = (0.1 + off) / (epoch ** (0.3 + off / 4)) + (assignment.seed % 97) / 1e4
    return {"loss": loss * 0.9, "val_loss": loss}


def cases() -> dict[str, dict[str, Any]]:
    """Return what is played: lanes and settings by name."""
    found: dict[str, dict[str, Any]] = {}
    for sampler in SAMPLERS:
        for lanes in (1, 4):
            found[f"{sampler}, {lanes} lanes"] = {"search__sampler": sampler, "lanes": lanes}
    for pruner in PRUNERS:
        found[f"random + {pruner}"] = {"search__sampler": "random", "search__pruner": pruner, "lanes": 3}
    stopping = {"search__early_stopping": {"patience": 2}, "study__stop_after": 8}
    found["bayes, stopping early"] = {"search__sampler": "bayes", "lanes": 2, **stopping}
    return found


def played(folder: Path, *, lanes: int, cut: bool, **settings: Any) -> list[list[Any]]:
    """Return the table of a case, cut off after five ticks with three trials under way, or not."""
    text = GRID if settings["search__sampler"] == "grid" else STUDY
    file = replay_file(folder, text, **settings)
    if cut:
        cut_off(file, 5, curves)
    stored = replay(file, curves, lanes=lanes)
    rows = [
        [t.number, t.state, t.ended, t.why, t.params, t.value, t.best_epoch, len(t.curve), digest(t.curve), t.attrs]
        for t in stored.trials
    ]
    return list(json.loads(json.dumps(rows)))


def digest(curve: Any) -> str:
    """Return what tells a curve from any other, to its last bit."""
    return hashlib.sha256(json.dumps(curve).encode()).hexdigest()[:12]


def rounding() -> str:
    """Return what tells machines apart on which a Gaussian process rounds differently, and may draw other configs."""
    points = np.linspace(0.1, 0.9, 64).reshape(16, 4)
    kernel = np.exp(-((points[:, None] - points[None]) ** 2).sum(-1)) + 1e-6 * np.eye(16)
    return hashlib.sha256(np.linalg.inv(np.linalg.cholesky(kernel @ kernel.T)).tobytes()).hexdigest()[:16]


def main() -> None:
    """Write the tables that stand as the right ones."""
    found: dict[str, Any] = {"rounding": rounding()}
    for name, settings in cases().items():
        for cut in (False, True):
            with tempfile.TemporaryDirectory() as folder:
                found[f"{name}{', cut' if cut else ''}"] = played(Path(folder), cut=cut, **settings)
    TABLES.write_text("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in found.items()) + "\n}\n")


if __name__ == "__main__":
    main()
