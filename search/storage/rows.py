"""Convert params, epochs, events and trials to rows of Optuna's tables and ours, and back."""

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
    """Return a moment as Optuna's SQLite columns hold it: naive UTC."""
    return None if at is None else at.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")


def read_moment(text: str | None) -> datetime | None:
    """Parse the text that `moment` returned."""
    return None if text is None else datetime.fromisoformat(text).replace(tzinfo=UTC)


def path_value(path: Path) -> str | bytes:
    """Return a path as a value for SQLite: text, or bytes if the path is not UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return os.fsencode(path)
    return str(path)


def note_attrs(note: str) -> dict[str, Any]:
    """Return the attributes in which optuna-dashboard 0.21 keeps a study's note: parts of at most 2045 characters."""
    size = 2045
    parts = [note[start : start + size] for start in range(0, len(note), size)]
    return {"dashboard:note_ver": 1, **{f"dashboard:note_str:{i}": part for i, part in enumerate(parts)}}


def param_rows(params: Mapping[str, Any], space: Space) -> list[tuple[str, float, str]]:
    """Return (param_name, param_value, distribution_json) of each parameter."""
    from optuna.distributions import distribution_to_json

    rows = []
    for name, value in params.items():
        drawn_from = distribution(space[name])
        rows.append((name, float(drawn_from.to_internal_repr(value)), distribution_to_json(drawn_from)))
    return rows


def params(values: Mapping[str, float], space: Space) -> dict[str, Any]:
    """Return the params: name -> value, from name -> param_value."""
    return {name: distribution(space[name]).to_external_repr(value) for name, value in values.items()}


def epoch(one: Epoch, trial_id: int) -> tuple[Any, ...]:
    """Return the row of manyfit_epochs."""
    return (trial_id, one.member.replica, one.epoch, one.seconds, json.dumps(one.metrics))


def event(one: HistoryEvent, study_id: int) -> tuple[Any, ...]:
    """Return the row of manyfit_events."""
    return (study_id, moment(one.at), one.kind, json.dumps(one.detail))


def read_event(at: str, kind: str, detail: str) -> tuple[datetime, str, dict[str, Any]]:
    """Return the moment of an event, its kind and its detail."""
    return read_moment(at) or datetime.now(UTC), kind, json.loads(detail)


def shown_attrs(state: TrialState) -> dict[str, Any]:
    """Return the user attributes of an ended trial: optuna-dashboard shows them, and recovery reads them."""
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
    curve: Iterable[tuple[int, float, str]],
    value: float | None,
    shown: Mapping[str, Any],
    attrs: dict[str, Any],
) -> Trial:
    """Return a trial, made of its row in Optuna's table and of the rows that belong to it.

    Args:
        values: param_value of each parameter.
        curve: (replica, seconds, metrics as JSON) of each epoch, in order.
        shown: what `shown_attrs` returned; empty for a trial that has not ended.
    """
    stored = make_trial(file, row["number"], params(values, file.space))
    stored.state, stored.attrs = row["state"], attrs
    stored.started_at, stored.ended_at = read_moment(row["datetime_start"]), read_moment(row["datetime_complete"])
    for replica, seconds, metrics in curve:
        stored.add_epoch(replica, json.loads(metrics), seconds)
    stored.ended, stored.why, stored.detail = shown.get("ended", ""), shown.get("why", ""), shown.get("detail", "")
    stored.value, stored.best_epoch = value, shown.get("best_epoch")
    if not stored.is_ended:
        stored.value, stored.best_epoch = Objective.of(file).best_of(stored.curve)
    return stored
