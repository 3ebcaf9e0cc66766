"""The ended trials of a study: their order, the best of them, and failures in a row."""

from __future__ import annotations

import bisect
from datetime import UTC, datetime, timedelta

from search.errors import ManyfitError
from search.trials.objective import Objective
from search.trials.trial import REFUSED, Trial

# The study ends after so many failures in a row with the same reason: the cause is then the study and not a config.
REPEATED_FAILURES = 3


class RepeatedFailureError(ManyfitError):
    """The same failure happened three times in a row, so the cause is the study and not a config."""

    def __init__(self, reason: str, detail: str) -> None:
        self.detail = detail
        super().__init__(
            f"{REPEATED_FAILURES} trials in a row failed alike: {reason}; mend the cause and repeat the command"
            + (f"\n\n{detail.rstrip()}" if detail else "")
        )


class Ended:
    """The ended trials of a study.

    Attributes:
        trials: in the order in which they ended.
        best: the best COMPLETE ones, as many as there are weights to keep and at least one, the best first.
    """

    def __init__(self, objective: Objective, keep: int) -> None:
        self._objective, self._most_best = objective, max(1, keep)
        self.trials: list[Trial] = []
        self.best: list[Trial] = []
        self._failures: list[str] = []

    def add(self, trial: Trial) -> None:
        """Add a trial with its `ended_at`."""
        bisect.insort(self.trials, trial, key=_when_ended)
        if trial.state != "FAIL" and trial.ended != REFUSED:
            self._failures.clear()
        if trial.state == "COMPLETE" and trial.value is not None:
            # `rank` puts the lower number first among equal values, whichever ended first.
            bisect.insort(self.best, trial, key=self._objective.rank)
            del self.best[self._most_best :]

    def count_failure(self, reason: str, detail: str) -> RepeatedFailureError | None:
        """Count the failure of the trial that ended last; return the error that ends the study, or None."""
        self._failures.append(reason)
        last = self._failures[-REPEATED_FAILURES:]
        is_repeated = len(last) == REPEATED_FAILURES and len(set(last)) == 1
        return RepeatedFailureError(reason, detail) if is_repeated else None

    def now(self) -> datetime:
        """Return the time, or 1 us after the last trial's end if the clock stands still or was put back.

        A resumed study reads the order in which trials ended from these times.
        """
        now = datetime.now(UTC)
        last = self.trials[-1].ended_at if self.trials else None
        return now if last is None else max(now, last + timedelta(microseconds=1))

    def scores(self) -> list[float | None]:
        """Return the scores of all trials that were trained and ended, None for those that can't be the best."""
        sign, trained = self._objective.sign, [trial for trial in self.trials if trial.ended != REFUSED]
        return [sign * t.value if t.value is not None and t.state == "COMPLETE" else None for t in trained]


def _when_ended(trial: Trial) -> tuple[datetime, int]:
    return trial.ended_at or datetime.min.replace(tzinfo=UTC), trial.number
