"""Rows and values: what a study says is written into Optuna's tables and ours here, and read back out of them here."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from search.spec.study import StudyFile
from search.trials.distributions import distribution
from search.trials.history import Epoch, HistoryEvent, TrialState
from search.trials.objective import Objective
from search.trials.trial import Trial, make_trial
from spaces import Space


def moment(at: datetime | None) -> str | None:
    """Write a moment as Optuna's SQLite columns hold it: naive UTC."""
    return None if at is None else at.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")


def when(text: str | None) -> datetime | None:
    """Read what `moment` wrote."""
    return None if text is None else datetime.fromisoformat(text).replace(tzinfo=UTC)


def path_value(path: Path) -> str | bytes:
    """Return a path as SQLite takes it: text, or the bytes of one that is not UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return os.fsencode(path)
    return str(path)


def note_attrs(note: str) -> dict[str, Any]:
    """Return the attributes in which optuna-dashboard 0.21 keeps a study's note, split as it wants them."""
    size = 2045
    parts = [note[start : start + size] for start in range(0, len(note), size)]
    return {"dashboard:note_ver": 1, **{f"dashboard:note_str:{i}": part for i, part in enumerate(parts)}}


def param_rows(params: Mapping[str, Any], space: Space) -> list[tuple[str, float, str]]:
    """Return (param_name, param_value, distribution_json) of each parameter."""
    from optuna.distributions import distribution_to_json

    rows = []
    for name, label in params.items():
        drawn_from = distribution(space[name])
        rows.append((name, float(drawn_from.to_internal_repr(label)), distribution_to_json(drawn_from)))
    return rows


def params(values: Mapping[str, float], space: Space) -> dict[str, Any]:
    """Return params from the rows' param_value."""
    return {name: distribution(space[name]).to_external_repr(value) for name, value in values.items()}


def epoch(one: Epoch, trial_id: int) -> tuple[Any, ...]:
    """Return the row of manyfit_epochs."""
    return (trial_id, one.member.replica, one.epoch, one.seconds, json.dumps(one.metrics))


def event(one: HistoryEvent, study_id: int) -> tuple[Any, ...]:
    """Return the row of manyfit_events."""
    return (study_id, moment(one.at), one.kind, json.dumps(one.detail))


def read_event(at: str, kind: str, detail: str) -> tuple[datetime, str, dict[str, Any]]:
    """Return the moment of an event, its kind and its detail."""
    return when(at) or datetime.now(UTC), kind, json.loads(detail)


def shown_attrs(state: TrialState) -> dict[str, Any]:
    """Return what optuna-dashboard shows of a trial beside its values, and what recovery needs."""
    attrs: dict[str, Any] = {"ended": state.ended, "why": state.why, "epochs": state.epochs}
    if state.best_epoch is not None:
        attrs["best_epoch"] = state.best_epoch
    attrs["seconds"] = round(state.seconds, 3)
    if state.detail:
        attrs["detail"] = state.detail
    return attrs


def trial(
    file: StudyFile,
    row: Mapping[str, Any],
    *,
    values: Mapping[str, float],
    curve: Iterable[tuple[float, str]],
    value: float | None,
    shown: Mapping[str, Any],
    attrs: dict[str, Any],
) -> Trial:
    """Return a trial of its row in Optuna's table and of what belongs to it.

    Args:
        values: param_value of each parameter.
        curve: (seconds, metrics as JSON) of each epoch, in order.
        shown: what `shown_attrs` returned; empty for one that has not ended.
    """
    found = make_trial(file, row["number"], params(values, file.space))
    found.state, found.attrs = row["state"], attrs
    found.started_at, found.ended_at = when(row["datetime_start"]), when(row["datetime_complete"])
    for seconds, metrics in curve:
        found.seconds.append(seconds)
        found.curve.append(json.loads(metrics))
    found.ended, found.why, found.detail = shown.get("ended", ""), shown.get("why", ""), shown.get("detail", "")
    found.value, found.best_epoch = value, shown.get("best_epoch")
    if not found.is_ended:
        found.value, found.best_epoch = Objective.of(file).best_of(found.curve)
    return found
