"""What `manyfit verify` prints, for people and for programs."""

from __future__ import annotations

import shlex
from collections import defaultdict
from pathlib import Path
from typing import Any

from search.storage.backup import Backup, Ended, Restored
from search.storage.paths import backup_of
from search.storage.verify import Report


def lines(report: Report) -> list[str]:
    """Return a line per problem, or the counts of a sound database and its backup."""
    if not report.is_sound:
        return [str(problem) for problem in report.problems]
    studies, trials = len(report.studies), sum(report.studies.values())
    return [
        (
            f"{report.path} is sound: {_count(studies, 'study', 'studies')}, {_count(trials, 'trial')}, "
            f"{_count(report.epochs, 'epoch')}"
        ),
        *_deleted(report.deleted),
        f"backup: {_describe(report.backup)}" if report.backup else "backup: none yet",
    ]


def remedy(report: Report, study: Path) -> str:
    """Return what to do about a database or a backup that is not sound; "" if the problems themselves say it."""
    backup_path = backup_of(report.path)
    if report.is_damaged:
        if report.backup:
            return f"`manyfit verify {shlex.quote(str(study))} --restore` brings back its backup: {_describe(report.backup)}"
        return "its backup is damaged, too" if backup_path.exists() else "there is no backup"
    if report.studies and report.backup is None and backup_path.exists():
        return f"delete {backup_path.name}; the next `manyfit run` writes another"
    return ""


def to_json(report: Report, restored: Restored | None = None) -> dict[str, Any]:
    """Return a report, and what was restored, as plain JSON."""
    document: dict[str, Any] = {
        "path": str(report.path),
        "sound": report.is_sound,
        "studies": report.studies,
        "epochs": report.epochs,
        "problems": [{"study": p.study, "trial": p.trial, "what": p.what} for p in report.problems],
        "backup": report.backup
        and {
            "path": str(report.backup.path),
            "at": report.backup.at.isoformat(timespec="seconds"),
            "trials": len(report.backup.ended),
        },
    }
    if restored is not None:
        document["restored"] = {
            "kept": restored.kept and str(restored.kept),
            "trials": len(restored.backup.ended),
            "left_out": list(restored.left_out),
            "lost": None if restored.lost is None else {k: sorted(v) for k, v in _by_study(restored.lost).items()},
        }
    return document


def restored_lines(report: Report, restored: Restored) -> list[str]:
    """Return lines about what was restored, what is kept and what is lost."""
    lines = [f"{report.path} is restored: {_describe(restored.backup)}"]
    if restored.kept is not None:
        lines.append(f"kept: {restored.kept.name}, as it was")
    if restored.left_out:
        lines.append(f"left out: {', '.join(restored.left_out)}, deleted since the backup was made")
    if restored.lost is None:
        lines.append("lost: what had ended since can't be read; `manyfit run` trains it again")
    elif restored.lost:
        which = "; ".join(f"{study} {_ranges(numbers)}" for study, numbers in sorted(_by_study(restored.lost).items()))
        lines.append(f"lost: {_count(len(restored.lost), 'trial')} ({which}); `manyfit run` trains again what is lost")
    return lines


def _deleted(count: int) -> list[str]:
    deleted = _count(count, "deleted study", "deleted studies")
    return [f"rows of {deleted} are left; the next `manyfit run` drops them"] if count else []


def _describe(backup: Backup) -> str:
    return f"{_count(len(backup.ended), 'ended trial')} of {backup.at:%Y-%m-%d %H:%M:%S} UTC"


def _by_study(trials: Ended) -> dict[str, list[int]]:
    numbers: dict[str, list[int]] = defaultdict(list)
    for study, number in sorted(trials):
        numbers[study].append(number)
    return numbers


def _ranges(numbers: list[int]) -> str:
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][-1] + 1:
            ranges[-1].append(number)
        else:
            ranges.append([number])
    return ", ".join(str(r[0]) if len(r) == 1 else f"{r[0]} to {r[-1]}" for r in ranges)


def _count(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"
