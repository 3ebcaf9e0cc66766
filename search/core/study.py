"""A study in memory: its trials, what is drawn next, and what becomes of each. The truth while a search runs.

Nothing here imports keras or touches a file; a storage writes down what `pending` says.
"""

from __future__ import annotations

import bisect
import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from search.core.judge import judge
from search.errors import ManyfitError
from search.policies import stopping
from search.policies.chosen import Policies
from search.policies.pruners import Standings
from search.spec.study import StudyFile
from search.trials.events import (
    Assignment,
    EpochEnd,
    Event,
    Failed,
    Lost,
    Member,
    Noted,
    Overdue,
    Spent,
    Stopped,
    Verdict,
)
from search.trials.history import Commit, Epoch, History, HistoryEvent, TrialStart, TrialState
from search.trials.objective import Objective
from search.trials.trial import Trial, Trials, make_trial

# Failures of one kind in a row that end a study: the fault is then in the study and not in a config.
LIKE_FAILURES = 3
# How a study ends that ran out of neither time nor configs.
ALL_TRIALS = "all trials"

# Recomputed epochs may differ by rounding; more than this is worth a line in the study's history.
SAME = 1e-6


@dataclass(slots=True)
class _Pending:
    """What has happened since the last commit, each thing once: numbers of trials, and of their epochs."""

    started: list[int] = field(default_factory=list)
    epochs: list[tuple[int, int]] = field(default_factory=list)
    restated: set[int] = field(default_factory=set)
    events: list[HistoryEvent] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.started or self.epochs or self.restated or self.events)


class Study:
    """One search: draws trials, records what engines report, judges, and knows when it is done."""

    def __init__(
        self,
        file: StudyFile,
        trials: Iterable[Trial] = (),
        *,
        study_attrs: Mapping[str, Any] | None = None,
        seconds: float = 0.0,
        spent: Mapping[str, float] | None = None,
    ) -> None:
        self.file = file
        self.trials = Trials()
        self.seconds_before = seconds
        self.sampler_seconds = 0.0
        # Where the workers' time went, in seconds by part.
        self.spent: Counter[str] = Counter(spent or {})
        # Programs that this command has compiled.
        self.compiled = 0
        self.gave_up: LikeFailuresError | None = None
        # Of this command, for those who watch.
        self.noted: list[HistoryEvent] = []
        self._objective = Objective.of(file)
        self._standings, self._seen = Standings(file.epochs), 0
        self._policies = Policies.of(file, self.trials, study_attrs or {})
        # Copies: a sampler may change its own.
        self._stored_attrs = deepcopy(dict(study_attrs or {}))
        self._pending = _Pending()
        self._waiting: list[Trial] = []
        self._running: dict[int, Trial] = {}
        self._best: list[Trial] = []
        # Those that have ended, in the order in which they did.
        self._endings: list[Trial] = []
        self._failures: list[str] = []
        self._began = time.monotonic()
        for trial in trials:
            self._restore(trial)

    @classmethod
    def of(cls, history: History, file: StudyFile) -> Study:
        """Return the study of a history, to go on with it under the settings of `file`."""
        return cls(file, history.trials, study_attrs=history.study_attrs, seconds=history.seconds, spent=history.spent)

    def begin(self) -> None:
        """Start the study's clock: what came before (starting workers, loading data) does not count."""
        self._began = time.monotonic()

    # -- what the loop asks ------------------------------------------------------------------------------------------

    @property
    def budget(self) -> int:
        """How many trials the study may have: its `trials`, or all configs that there are if these are fewer."""
        wanted = self.file.settings.study.trials
        return wanted if self._policies.draws.configs is None else min(wanted, self._policies.draws.configs)

    @property
    def running(self) -> list[Trial]:
        """The trials that an engine is training now, in order of their numbers."""
        return [self._running[number] for number in sorted(self._running)]

    @property
    def best(self) -> Trial | None:
        """The best COMPLETE trial; of equals the first."""
        return self._best[0] if self._best else None

    @property
    def seconds(self) -> float:
        """Seconds spent on this study by all commands that have worked on it."""
        return self.seconds_before + time.monotonic() - self._began

    @property
    def ending(self) -> str:
        """Why nothing is left to do; "" while something is."""
        if self._running or self._waiting:
            return ""
        return self._out_of_time or self._nothing_to_draw

    def is_done(self) -> bool:
        """Tell whether nothing is left to do; `ending` says why."""
        return bool(self.ending)

    @property
    def unfinished(self) -> list[Member]:
        """Those that are under way, and those that wait to go on."""
        return [Member(trial.number) for trial in (*self._waiting, *self.running)]

    def next_trial(self) -> Trial | None:
        """Return the next trial to start: an interrupted one, a newly drawn one, or None if none is to be.

        An interrupted one goes on when the study's time is over, too: its next epoch is then its last, and it has a value.
        """
        if any(trial.deaths >= 2 for trial in self._running.values()):
            return None
        if self._waiting:
            if self._waiting[0].deaths >= 2 and self._running:
                return None  # it lived through two deaths in a row: now it goes on alone, so that a third has one cause
            trial = self._waiting.pop(0)
            trial.state = "RUNNING"
            self._pending.restated.add(trial.number)
        elif not self._out_of_time and not self._nothing_to_draw:
            trial = self._draw()
            self._pending.started.append(trial.number)
        else:
            return None
        trial.started_at = trial.started_at or datetime.now(UTC)
        self._running[trial.number] = trial
        return trial

    def record(self, events: Sequence[Event]) -> list[Trial]:
        """Take in what happened, all of it before anything is judged; return the trials touched, in order of numbers."""
        touched = set()
        for event in events:
            if isinstance(event, Noted):
                self.compiled += event.kind == "program compiled"
                self.note(event.kind, **event.detail)
                continue
            if isinstance(event, Spent):
                self.spent.update(event.seconds)
                continue
            touched.add(event.member.trial)
            trial = self.trials[event.member.trial]
            if trial.is_ended:
                continue  # a late result of a trial already given up is normal, not an error
            if isinstance(event, EpochEnd):
                self._record_epoch(trial, event)
            elif isinstance(event, Stopped):
                self._end_early(trial, "callback", "a callback stopped it")
            elif isinstance(event, Overdue):
                self.note("timeout", trial=trial.number, epochs=len(trial.curve), waited=event.seconds)
                self._end_early(trial, "timeout", "an epoch was not done when the trial's time was long over")
            elif isinstance(event, Failed):
                self._fail(trial, "failed", event.reason, event.detail)
            else:
                self._lose(trial, event)
        return [self.trials[number] for number in sorted(touched)]

    def judge(self, trial: Trial) -> Verdict:
        """Decide what becomes of a trial that an event has touched."""
        # An epoch that was computed again after a crash has been judged before.
        if trial.number in self._running and len(trial.curve) > trial.judged:
            trial.judged = len(trial.curve)
            self._judge_running(trial)
        return Verdict(Member(trial.number), ends=trial.number not in self._running)

    @property
    def has_changes(self) -> bool:
        """Whether `pending` has anything to say that has not been stored."""
        return bool(self._pending)

    def worth_keeping(self, touched: Sequence[Trial]) -> list[Member]:
        """Return those that have just ended among the best of the study, as many as `run.keep`."""
        best = {trial.number for trial in self.best_trials}
        return [Member(trial.number) for trial in touched if trial.number in best and trial.is_ended]

    @property
    def standings(self) -> Standings:
        """The scores of all trials as they are now."""
        changed, self._seen = self.trials.since(self._seen)
        for trial in changed:
            self._standings.see(trial, self._objective)
        return self._standings

    @property
    def best_trials(self) -> list[Trial]:
        """The best COMPLETE trials, as many as `run.keep`, the best first; of equals the lower number first."""
        return self._best[: self.file.settings.run.keep]

    def pending(self) -> Commit:
        """Return what has happened since `mark_stored` was called last."""
        objective = self.file.settings.study.objective
        attrs = deepcopy(dict(self._policies.sampler.study_attrs))
        return Commit(
            started=tuple(
                TrialStart(trial.number, trial.params, trial.started_at, trial.attrs)
                for trial in map(self.trials.__getitem__, self._pending.started)
            ),
            epochs=tuple(
                Epoch(Member(number), epoch, self.trials[number].seconds[epoch - 1], metrics, metrics[objective] or 0.0)
                for number, epoch in self._pending.epochs
                for metrics in (self.trials[number].curve[epoch - 1],)
            ),
            states=tuple(_state(self.trials[number]) for number in sorted(self._pending.restated)),
            study_attrs={key: value for key, value in attrs.items() if self._stored_attrs.get(key) != value},
            events=tuple(self._pending.events),
            seconds=self.seconds,
            spent=dict(self.spent),
            ended=self.ending,
        )

    def mark_stored(self, commit: Commit) -> None:
        """Forget all that was pending: `commit` said it, and is stored."""
        self._stored_attrs |= commit.study_attrs
        self._pending = _Pending()

    def put_back(self) -> None:
        """Stop where we are: what is running waits to be started again, with its config and number."""
        for trial in self.running:
            trial.state = "WAITING"
            self._pending.restated.add(trial.number)
        self._waiting = self.running + self._waiting
        self._running.clear()

    def note(self, kind: str, **detail: Any) -> None:
        """Write an event into the study's history."""
        event = HistoryEvent(kind, detail, datetime.now(UTC))
        self.noted.append(event)
        self._pending.events.append(event)

    def assignment(self, trial: Trial) -> Assignment:
        """Return what an engine needs to train `trial`."""
        return Assignment(
            member=Member(trial.number),
            config=trial.config,
            epochs=trial.epochs,
            seed=trial.seed,
            limit_s=self.file.settings.run.trial_time,
            done=len(trial.curve),
        )

    # -- drawing -----------------------------------------------------------------------------------------------------

    @property
    def _nothing_to_draw(self) -> str:
        stop_after = self.file.settings.study.stop_after
        if stop_after and stopping.stagnates(self._results(), stop_after):
            return f"no better value in the last {stop_after} trials"
        if used_up := self._policies.draws.used_up(self.trials):
            return used_up
        return "" if len(self.trials) < self.file.settings.study.trials else ALL_TRIALS

    def _results(self) -> list[float | None]:
        """Return the scores of all that has ended, None for what can't be the best."""
        sign = self._objective.sign
        return [sign * t.value if t.value is not None and t.state == "COMPLETE" else None for t in self._endings]

    @property
    def _out_of_time(self) -> str:
        limit = self.file.settings.study.time
        return "" if limit is None or self.seconds < limit else f"the study's time of {limit:g} s is used up"

    def _draw(self) -> Trial:
        began = time.perf_counter()
        number = len(self.trials)
        params, attrs = self._policies.draws.draw(self.trials)
        self.sampler_seconds += time.perf_counter() - began
        trial = self.trial(number, params)
        trial.attrs = attrs
        self.trials.append(trial)
        return trial

    def trial(self, number: int, params: Mapping[str, Any]) -> Trial:
        """Make trial `number` of this study from its params, with nothing trained yet."""
        return make_trial(self.file, number, params)

    def _restore(self, trial: Trial) -> None:
        self.trials.append(trial)
        # A trial that was cut off between its last epoch and the verdict on it has yet to be judged.
        trial.judged = min(len(trial.curve), trial.epochs - 1)
        if trial.is_ended:
            self._close(trial)
        else:
            if trial.state == "RUNNING":
                # Its process died. It may wait for long, and what nobody trains must not be shown as running.
                trial.state = "WAITING"
                self._pending.restated.add(trial.number)
            self._waiting.append(trial)

    # -- recording ---------------------------------------------------------------------------------------------------

    def _record_epoch(self, trial: Trial, event: EpochEnd) -> None:
        objective = self.file.settings.study.objective
        if objective not in event.metrics:
            known = ", ".join(event.metrics)
            self._fail(
                trial, "failed", f"training reports no {objective!r}; it reports {known}; mend study.objective", ""
            )
            return
        metrics = {name: value if math.isfinite(value) else None for name, value in event.metrics.items()}
        if event.epoch <= len(trial.curve):
            self._compare(trial, event.epoch, metrics[objective])
            return
        value = metrics[objective]
        if value is None or not math.isfinite(event.metrics.get("loss", 0.0)):
            self._end(trial, "PRUNED", "diverged", f"{objective} or loss was not finite at epoch {event.epoch}")
            return
        trial.curve.append(metrics)
        trial.seconds.append(event.seconds)
        # Two deaths in a row are two without an epoch between them.
        trial.deaths = 0
        if self._objective.is_better(value, trial.value):
            trial.value, trial.best_epoch = value, event.epoch
        self.trials.touch(trial)
        self._pending.epochs.append((trial.number, event.epoch))

    def _compare(self, trial: Trial, epoch: int, value: float | None) -> None:
        """Hold an epoch that is computed again against what is stored; what is stored stays."""
        stored = trial.curve[epoch - 1].get(self.file.settings.study.objective)
        same = stored is not None and value is not None and math.isclose(stored, value, rel_tol=SAME, abs_tol=SAME)
        if not same:
            self.note("recomputed epoch differs", trial=trial.number, epoch=epoch, stored=stored, now=value)

    def _lose(self, trial: Trial, event: Lost) -> None:
        # A queued member was not training when the worker died, so this death does not count against it.
        trial.deaths += event.trained
        if event.hung and event.trained:
            # One of them is to blame: they go on one at a time at once, so that the next to stand still is the one.
            trial.deaths = max(2, trial.deaths)
        self.note("worker lost", trial=trial.number, reason=event.reason, detail=event.detail)
        if event.alone and trial.deaths >= 2:
            self._fail(trial, "crashed", event.reason, event.detail)
            return
        del self._running[trial.number]
        trial.state = "WAITING"
        self._waiting = sorted([trial, *self._waiting], key=lambda waiting: waiting.number)
        self._pending.restated.add(trial.number)

    def _fail(self, trial: Trial, ended: str, reason: str, detail: str) -> None:
        trial.detail = detail
        trial.value = trial.best_epoch = None
        self._end(trial, "FAIL", ended, reason)
        self._failures.append(reason)
        if len(self._failures) >= LIKE_FAILURES and len(set(self._failures[-LIKE_FAILURES:])) == 1:
            self.gave_up = LikeFailuresError(reason, detail)

    # -- judging -----------------------------------------------------------------------------------------------------

    def _judge_running(self, trial: Trial) -> None:
        ruling = judge(trial, self.file, self.standings, self._policies.pruner, is_out_of_time=bool(self._out_of_time))
        if ruling is None:
            return
        if ruling.is_of_clock:
            self.note(ruling.ended, trial=trial.number, epochs=len(trial.curve))
            self._end_early(trial, ruling.ended, ruling.why)
        else:
            self._end(trial, ruling.state, ruling.ended, ruling.why)

    def _end_early(self, trial: Trial, ended: str, why: str) -> None:
        """End a trial that is not to go on: what it reached so far is its value; without an epoch it failed."""
        if trial.value is None:
            self._fail(trial, ended, why, "")
        else:
            self._end(trial, "COMPLETE", ended, why)

    def _end(self, trial: Trial, state: str, ended: str, why: str) -> None:
        trial.state, trial.ended, trial.why = state, ended, why
        if ended == "diverged" or state == "FAIL":
            trial.value = trial.best_epoch = None
        trial.ended_at = self._now()
        self._running.pop(trial.number, None)
        self.trials.touch(trial)
        self._close(trial)
        self._pending.restated.add(trial.number)

    def _now(self) -> datetime:
        """Return the time, or a moment after the last ending if the clock stands still or was put back.

        The order of the endings is read from their times.
        """
        now = datetime.now(UTC)
        last = self._endings[-1].ended_at if self._endings else None
        return now if last is None else max(now, last + timedelta(microseconds=1))

    def _close(self, trial: Trial) -> None:
        bisect.insort(self._endings, trial, key=_when_ended)
        if trial.state != "FAIL":
            self._failures.clear()
        if trial.state == "COMPLETE" and trial.value is not None:
            # Of equal values the lower number wins, whichever ended first.
            bisect.insort(self._best, trial, key=self._objective.rank)
            del self._best[max(1, self.file.settings.run.keep) :]


def _when_ended(trial: Trial) -> tuple[datetime, int]:
    return trial.ended_at or datetime.min.replace(tzinfo=UTC), trial.number


class LikeFailuresError(ManyfitError):
    """The same failure came three times in a row, so it is the study's and not a config's."""

    def __init__(self, reason: str, detail: str) -> None:
        self.detail = detail
        super().__init__(
            f"{LIKE_FAILURES} trials in a row failed alike: {reason}; mend the cause and repeat the command"
            + (f"\n\n{detail.rstrip()}" if detail else "")
        )


def _state(trial: Trial) -> TrialState:
    return TrialState(
        number=trial.number,
        state=trial.state,
        ended=trial.ended,
        why=trial.why,
        detail=trial.detail,
        value=trial.value,
        best_epoch=trial.best_epoch,
        epochs=len(trial.curve),
        seconds=sum(trial.seconds),
        ended_at=trial.ended_at,
        attrs=trial.attrs,
    )
