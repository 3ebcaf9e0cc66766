"""What is said of a run when it ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from search.trials.trial import Trial
from search.views.text import duration

if TYPE_CHECKING:
    from search.sessions.run import Outcome


def lines(outcome: Outcome) -> list[str]:
    """Return lines about what this `run` did, and about the whole study if that has more trials."""
    stored = outcome.stored
    ended = [trial for trial in stored.trials if trial.is_ended]
    reason = f" ({outcome.reason})" if outcome.reason else ""
    if not outcome.ended:
        wanted, done = stored.file.settings.study.trials, len(ended)
        of = f"{done} of {wanted} trials are done" if done <= wanted else f"{done} trials are done ({wanted} asked for)"
        return [f"{stored.name}: nothing left to do: {of}{reason}", f"trials: {_by_ending(ended)}"]
    now = [trial for trial in ended if trial.number in set(outcome.ended)]
    lines = [f"{stored.name}: {_trials(len(now))} in {duration(outcome.seconds)}{reason}", f"trials: {_by_ending(now)}"]
    if len(ended) > len(now):
        lines[0] = f"{stored.name}: {_trials(len(now))} in {duration(outcome.seconds)} by this command{reason}"
        lines.append(f"in all: {_trials(len(ended))} in {duration(stored.seconds)}: {_by_ending(ended)}")
    return lines


def _trials(count: int) -> str:
    return f"{count} trial{'' if count == 1 else 's'}"


def _by_ending(trials: Sequence[Trial]) -> str:
    return (
        ", ".join(f"{count} {ended}" for ended, count in Counter(trial.ended for trial in trials).most_common())
        or "none"
    )
