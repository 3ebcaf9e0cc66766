"""What is said of a run when it ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from search.errors import ManyfitError
from search.storage.studies import Stored
from search.trials.trial import Trial
from search.views.text import duration, number

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


def best_line(stored: Stored) -> str:
    """Return the line about the best trial of a study that has one."""
    best = stored.complete[0]
    value = f"{stored.file.settings.study.objective} {number(best.value)}"
    return f"best: {value}, trial {best.number}, epoch {best.best_epoch}"


def check(outcome: Outcome, more: str) -> None:
    """Raise ManyfitError if no trial of a study was trained; `more` is how to ask for {trials} in all."""
    trials = outcome.stored.trials
    if trials and all(trial.ended == "refused" for trial in trials):
        raise ManyfitError(
            f"every trial was refused by a limit, the last one by: {trials[-1].why}; raise the limit under another --name, "
            "or narrow the space"
        )
    if trials and all(trial.state == "FAIL" for trial in trials):
        raise ManyfitError(
            f"every trial failed, the last one by: {trials[-1].why}; mend the cause and repeat the command: with a changed "
            f"builder the study begins anew; else {more.format(trials=2 * len(trials))} tries {len(trials)} more"
        )


def _trials(count: int) -> str:
    return f"{count} trial{'' if count == 1 else 's'}"


def _by_ending(trials: Sequence[Trial]) -> str:
    return (
        ", ".join(f"{count} {ended}" for ended, count in Counter(trial.ended for trial in trials).most_common())
        or "none"
    )
