"""A study as tables of pandas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from search.storage.studies import Stored

if TYPE_CHECKING:
    import pandas as pd


def trials(stored: Stored) -> pd.DataFrame:
    """Return all trials: number, state, what ended it, value, epochs, seconds, and one column per parameter."""
    import pandas as pd

    rows = [
        {
            "trial": trial.number,
            "state": trial.state,
            "ended": trial.ended,
            "value": trial.value,
            "best_epoch": trial.best_epoch,
            "epochs": len(trial.curve),
            "seconds": round(sum(trial.seconds), 3),
            "started": trial.started_at and trial.started_at.isoformat(),
            **{f"params.{name}": trial.params.get(name) for name in stored.file.space},
        }
        for trial in stored.trials
    ]
    columns = ["trial", "state", "ended", "value", "best_epoch", "epochs", "seconds", "started"]
    columns += [f"params.{name}" for name in stored.file.space]
    frame = pd.DataFrame(rows, columns=columns)
    frame["best_epoch"] = frame["best_epoch"].astype("Int64")
    return frame


def curves(stored: Stored) -> pd.DataFrame:
    """Return every epoch of every training: trial, repeat or fold (if several), epoch, seconds, and every metric.

    A value that is not finite, or that an epoch lacks, is NaN. A metric with the name of another column gets `metric.` before
    its name.
    """
    import pandas as pd

    study = stored.file.settings.study
    index = ["trial", *([study.replica] if study.replicas > 1 else []), "epoch", "seconds"]
    rows: list[dict[str, Any]] = []
    for trial in stored.trials:
        for training in trial.trainings:
            for epoch, (metrics, seconds) in enumerate(zip(training.curve, training.seconds, strict=True), 1):
                row = {
                    "trial": trial.number,
                    study.replica: training.member.replica,
                    "epoch": epoch,
                    "seconds": seconds,
                }
                values = {f"metric.{name}" if name in row else name: value for name, value in metrics.items()}
                rows.append({**{name: row[name] for name in index}, **values})
    names = list(dict.fromkeys(name for row in rows for name in row if name not in index))
    return pd.DataFrame(rows, columns=[*index, *names]).astype(dict.fromkeys(names, "float64"))
