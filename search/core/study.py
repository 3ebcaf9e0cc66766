"""A study in memory: it draws trials and decides when they end. While a search runs, this object is the current state.

Nothing here imports keras or touches a file; a storage writes what `pending` returns.
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

from search.core.judge import by_clock, judge
from search.errors import ManyfitError
from search.policies import stopping
from search.policies.of_study import Policies
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
    OverLimit,
    Spent,
    Stopped,
    Verdict,
)
from search.trials.history import IMPORTED, Commit, Epoch, History, HistoryEvent, TrialStart, TrialState
from search.trials.objective import Objective
from search.trials.trial import REFUSED, Training, Trial, Trials, make_trial

# The study ends after so many failures in a row with the same reason: the cause is then the study and not a config.
LIKE_FAILURES = 3
# The ending of a study that has run all its trials.
ALL_TRIALS = "all trials"

# Recomputed epochs may differ by rounding. A larger difference than this is noted in the study's history.
SAME = 1e-6


@dataclass(slots=True)
class _Pending:
    """All changes since the last commit, each one once: numbers of trials, epochs of members, and events."""

    started: list[int] = field(default_factory=list)
    epochs: list[Epoch] = field(default_factory=list)
    restated: set[int] = field(default_factory=set)
    events: list[HistoryEvent] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.started or self.epochs or self.restated or self.events)


class Study:
    """One search: draws trials, records events of engines, judges trials, and decides when the search is done."""

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
        # The workers' time in seconds by part.
        self.spent: Counter[str] = Counter(spent or {})
        # The number of programs that this command has compiled.
        self.compiled = 0
        self.gave_up: LikeFailuresError | None = None
        # The history events of this command, for the views.
        self.noted: list[HistoryEvent] = []
        self._objective = Objective.of(file)
        self._standings, self._log_position = Standings(), 0
        self._policies = Policies.of(file, self.trials, study_attrs or {})
        # A copy, because a sampler may change its attributes in place.
        self._stored_attrs = deepcopy(dict(study_attrs or {}))
        self._pending = _Pending()
        self._waiting: list[Training] = []
        self._running: dict[Member, Training] = {}
        # Members that still trained when their trial ended; their engines do not know yet.
        self._released: set[Member] = set()
        # Members whose engines were told that they end, and those told last.
        self._gone: set[Member] = set()
        self._just_ended: set[Member] = set()
        self._best: list[Trial] = []
        # Ended trials, in the order in which they ended.
        self._ended: list[Trial] = []
        self._failures: list[str] = []
        self._began = time.monotonic()
        for trial in trials:
            self._restore(trial)

    @classmethod
    def of(cls, history: History, file: StudyFile) -> Study:
        """Return the study of a history, to continue it under the settings of `file`."""
        return cls(file, history.trials, study_attrs=history.study_attrs, seconds=history.seconds, spent=history.spent)

    def begin(self) -> None:
        """Start the study's clock: the time before (starting workers, loading data) does not count."""
        self._began = time.monotonic()

    # -- what the loop calls -----------------------------------------------------------------------------------------

    @property
    def budget(self) -> int:
        """How many trials the study may have: its `trials`, or the number of all configs if that is lower."""
        wanted = self.file.settings.study.trials
        return wanted if self._policies.draws.configs is None else min(wanted, self._policies.draws.configs)

    @property
    def running(self) -> list[Trial]:
        """The trials that an engine is training now, in order of their numbers."""
        return [self.trials[number] for number in sorted({member.trial for member in self._running})]

    @property
    def best(self) -> Trial | None:
        """The best COMPLETE trial; among equal ones that with the lowest number."""
        return self._best[0] if self._best else None

    @property
    def seconds(self) -> float:
        """Seconds spent on this study by all commands that have worked on it."""
        return self.seconds_before + time.monotonic() - self._began

    @property
    def ending(self) -> str:
        """Why the study has ended; "" while something is left to do."""
        if self._running or self._waiting:
            return ""
        return self._out_of_time or self._nothing_to_draw

    def is_done(self) -> bool:
        """Return whether nothing is left to do; `ending` is the reason."""
        return bool(self.ending)

    @property
    def unfinished(self) -> list[Member]:
        """The members that run, and the interrupted ones that wait to go on."""
        return [*(training.member for training in self._waiting), *sorted(self._running)]

    def next_assignment(self) -> Assignment | None:
        """Return the next member to start: an interrupted one, one of a newly drawn trial, or None if none may start now.

        Interrupted trials are resumed even after the study's time is used up: each trains one more epoch and then ends.
        """
        # Two workers in a row died with a member: train it alone, so that a third death has one cause.
        if any(training.deaths >= 2 for training in self._running.values()):
            return None
        if not self._waiting:
            if self._out_of_time or self._nothing_to_draw:
                return None
            drawn = self._draw()
            self._pending.started.append(drawn.number)
            self._waiting += drawn.trainings
        if self._waiting[0].deaths >= 2 and self._running:
            return None
        training = self._waiting.pop(0)
        trial = self.trials[training.member.trial]
        if trial.state == "WAITING":
            trial.state = "RUNNING"
            self._pending.restated.add(trial.number)
        trial.started_at = trial.started_at or datetime.now(UTC)
        self._running[training.member] = training
        self._gone.discard(training.member)
        return self._assignment(trial, training)

    def record(self, events: Sequence[Event]) -> list[Member]:
        """Record all events of a tick, before any trial is judged; return the touched members in order."""
        touched = set()
        for event in events:
            if isinstance(event, Noted):
                if event.kind == IMPORTED and any(
                    (known.kind, known.detail) == (event.kind, event.detail) for known in self.noted
                ):
                    continue  # another worker has imported the same files
                self.compiled += event.kind == "program compiled"
                self.note(event.kind, **event.detail)
                continue
            if isinstance(event, Spent):
                self.spent.update(event.seconds)
                continue
            touched.add(event.member)
            trial = self.trials[event.member.trial]
            if trial.is_ended:
                continue  # a late result of a trial that has ended is normal, not an error
            if isinstance(event, EpochEnd):
                self._record_epoch(trial, event)
            elif isinstance(event, Stopped):
                self._end_early(trial, self._training(event.member), "callback", "a callback stopped it")
            elif isinstance(event, Overdue):
                self.note("timeout", trial=trial.number, epochs=len(trial.curve), waited=event.seconds)
                why = "an epoch was not done when the trial's time was long over"
                self._end_early(trial, self._training(event.member), "timeout", why)
            elif isinstance(event, OverLimit):
                self._end(trial, "PRUNED", REFUSED, event.reason)
            elif isinstance(event, Failed):
                self._fail(trial, "failed", event.reason, event.detail)
            else:
                self._lose(trial, event)
        return sorted(touched)

    def judge(self, touched: Sequence[Member]) -> list[Verdict]:
        """Decide which trials of members that events have touched go on; return a verdict on each of these members.

        If a trial ends, all its members that still train get a verdict, too. A member that has finished its epochs ends.
        """
        for number in dict.fromkeys(member.trial for member in touched):
            trial = self.trials[number]
            if not self._running.keys().isdisjoint(trial.members):
                self._judge_running(trial)
            if not trial.is_ended:
                self._release(trial)
        members, self._released = sorted({*touched, *self._released}), set()
        verdicts = [Verdict(member, ends=member not in self._running) for member in members]
        ending = {verdict.member for verdict in verdicts if verdict.ends}
        self._just_ended = ending - self._gone
        self._gone |= ending
        return verdicts

    @property
    def has_changes(self) -> bool:
        """Whether there are changes that have not been stored."""
        return bool(self._pending)

    def worth_keeping(self, touched: Sequence[Member]) -> list[Member]:
        """Return the members that have just ended and whose weights are kept."""
        kept = set(self.kept)
        return [member for member in touched if member in kept and member in self._just_ended]

    @property
    def kept(self) -> list[Member]:
        """The members whose weights are kept: of the best trials, and finished ones whose trial has others still to train."""
        is_busy = {*self._running, *(training.member for training in self._waiting)}
        under_way = dict.fromkeys(member.trial for member in sorted(is_busy))
        if not self.file.settings.run.keep:
            return []
        waiting = [member for number in under_way for member in self.trials[number].members if member not in is_busy]
        return [*(member for trial in self.best_trials for member in trial.members), *waiting]

    @property
    def standings(self) -> Standings:
        """The scores of all trials as they are now."""
        changed, self._log_position = self.trials.since(self._log_position)
        for trial in changed:
            self._standings.update(trial, self._objective)
        return self._standings

    @property
    def best_trials(self) -> list[Trial]:
        """The best `run.keep` COMPLETE trials, the best first; among equal ones the lower number first."""
        return self._best[: self.file.settings.run.keep]

    def pending(self) -> Commit:
        """Return all changes since the last call of `mark_stored`."""
        attrs = deepcopy(dict(self._policies.sampler.study_attrs))
        return Commit(
            started=tuple(
                TrialStart(trial.number, trial.params, trial.started_at, trial.attrs)
                for trial in map(self.trials.__getitem__, self._pending.started)
            ),
            epochs=tuple(self._pending.epochs),
            states=tuple(_state(self.trials[number]) for number in sorted(self._pending.restated)),
            study_attrs={key: value for key, value in attrs.items() if self._stored_attrs.get(key) != value},
            events=tuple(self._pending.events),
            seconds=self.seconds,
            spent=dict(self.spent),
            ended=self.ending,
        )

    def mark_stored(self, commit: Commit) -> None:
        """Clear the pending changes; `commit`, which holds them, is stored."""
        self._stored_attrs |= commit.study_attrs
        self._pending = _Pending()

    def put_back(self) -> None:
        """Make all running trials wait; they will start again with the same config and number."""
        for number in sorted({member.trial for member in self.unfinished}):
            if self.trials[number].state == "RUNNING":
                self.trials[number].state = "WAITING"
                self._pending.restated.add(number)
        self._waiting = [self._running[member] for member in sorted(self._running)] + self._waiting
        self._running.clear()

    def note(self, kind: str, **detail: Any) -> None:
        """Add an event to the study's history."""
        event = HistoryEvent(kind, detail, datetime.now(UTC))
        self.noted.append(event)
        self._pending.events.append(event)

    def _assignment(self, trial: Trial, training: Training) -> Assignment:
        return Assignment(
            member=training.member,
            config=trial.config,
            epochs=trial.epochs,
            seed=training.seed,
            limit_s=self.file.settings.run.trial_time,
            done=len(training.curve),
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
        """Return the scores of all trials that were trained and ended, None for those that can't be the best."""
        sign, trained = self._objective.sign, [trial for trial in self._ended if trial.ended != REFUSED]
        return [sign * t.value if t.value is not None and t.state == "COMPLETE" else None for t in trained]

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
        for training in trial.trainings:
            # All epochs count as judged but the last possible one: a crash may have come before its verdict.
            training.judged = min(len(training.curve), trial.epochs - 1)
        if trial.is_ended:
            self._close(trial)
        else:
            if trial.state == "RUNNING":
                # Its process died. It may have to wait, and must not be shown as running meanwhile.
                trial.state = "WAITING"
                self._pending.restated.add(trial.number)
            unfinished = [training for training in trial.trainings if len(training.curve) < trial.epochs]
            # If all epochs are stored but no verdict, one training recomputes its last, so that the loop judges the trial.
            self._waiting += unfinished or trial.trainings[-1:]

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
        training = self._training(event.member)
        if event.epoch <= len(training.curve):
            self._compare(training, event.epoch, metrics[objective])
            return
        value = metrics[objective]
        if value is None or not math.isfinite(event.metrics.get("loss", 0.0)):
            self._end(trial, "PRUNED", "diverged", f"{objective} or loss was not finite at epoch {event.epoch}")
            return
        is_last = trial.add_epoch(event.member.replica, metrics, event.seconds)
        # Only deaths in a row count, and an epoch breaks the row.
        training.deaths = 0
        value = trial.curve[event.epoch - 1][objective] if is_last else None
        if value is not None:
            if self._objective.is_better(value, trial.value):
                trial.value, trial.best_epoch = value, event.epoch
            self.trials.touch(trial)
        self._pending.epochs.append(Epoch(event.member, event.epoch, event.seconds, metrics, value))

    def _compare(self, training: Training, epoch: int, value: float | None) -> None:
        """Note in the history if a recomputed epoch differs from the stored one. The stored one stays."""
        stored = training.curve[epoch - 1].get(self.file.settings.study.objective)
        is_same = stored is not None and value is not None and math.isclose(stored, value, rel_tol=SAME, abs_tol=SAME)
        if not is_same:
            number = training.member.trial
            self.note("recomputed epoch differs", trial=number, epoch=epoch, stored=stored, now=value)

    def _lose(self, trial: Trial, event: Lost) -> None:
        if event.member not in self._running:
            return  # its trial has gone on without it in the same tick
        training = self._training(event.member)
        # A queued member was not training when the worker died, so this death does not count against it.
        training.deaths += event.trained
        if event.hung and event.trained:
            # One of the members hung. Let them go on one at a time, so that the next one to hang is the cause.
            training.deaths = max(2, training.deaths)
        self.note("worker lost", trial=trial.number, reason=event.reason, detail=event.detail)
        if event.alone and training.deaths >= 2:
            self._fail(trial, "crashed", event.reason, event.detail)
            return
        del self._running[event.member]
        self._waiting = sorted([training, *self._waiting], key=lambda waiting: waiting.member)
        if self._running.keys().isdisjoint(trial.members):
            trial.state = "WAITING"
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
        before = min(training.judged for training in trial.trainings)
        # Others have nothing new: an epoch was recomputed after a crash, or another training has one.
        further = [training for training in trial.trainings if len(training.curve) > training.judged]
        for training in further:
            training.judged = len(training.curve)
        if min(training.judged for training in trial.trainings) > before:
            ruling = judge(trial, self.file, self.standings, self._policies.pruner)
            if ruling is not None:
                self._end(trial, ruling.state, ruling.ended, ruling.why)
                return
        for training in further:
            ruling = by_clock(training, self.file, is_out_of_time=bool(self._out_of_time))
            if ruling is not None and not trial.is_ended and len(training.curve) < trial.goal:
                self.note(ruling.ended, trial=trial.number, epochs=len(training.curve))
                self._end_early(trial, training, ruling.ended, ruling.why)

    def _end_early(self, trial: Trial, training: Training, ended: str, why: str) -> None:
        """End a training before its last epoch, and with it its trial, as soon as the others have come as far.

        A trial keeps its best value so far; without any value it has failed. If the study's time is used up, the others only
        train until the trial has a value.
        """
        reached = len(training.curve)
        if not reached:
            self._fail(trial, ended, why, "")
            return
        if ended == "time":
            reached = max(1, min(len(one.curve) for one in trial.trainings))
        if trial.early is None or reached < trial.early[0]:
            trial.early = reached, ended, why
        self._release(trial)

    def _release(self, trial: Trial) -> None:
        """Free the places of the members that have come as far as their trial goes; end the trial when all have."""
        done = {one.member for one in trial.trainings if len(one.curve) >= trial.goal}
        self._released.update(member for member in done if self._running.pop(member, None))
        self._waiting = [training for training in self._waiting if training.member not in done]
        if trial.early is not None and len(done) == len(trial.trainings):
            self._end(trial, "COMPLETE", *trial.early[1:])

    def _training(self, member: Member) -> Training:
        return self.trials[member.trial].trainings[member.replica]

    def _end(self, trial: Trial, state: str, ended: str, why: str) -> None:
        trial.state, trial.ended, trial.why = state, ended, why
        if trial.has_no_value:
            trial.value = trial.best_epoch = None
        trial.ended_at = self._now()
        self._released.update(member for member in trial.members if self._running.pop(member, None))
        self._waiting = [training for training in self._waiting if training.member.trial != trial.number]
        self.trials.touch(trial)
        self._close(trial)
        self._pending.restated.add(trial.number)

    def _now(self) -> datetime:
        """Return the time, or 1 us after the last trial's end if the clock stands still or was put back.

        A resumed study reads the order in which trials ended from these times.
        """
        now = datetime.now(UTC)
        last = self._ended[-1].ended_at if self._ended else None
        return now if last is None else max(now, last + timedelta(microseconds=1))

    def _close(self, trial: Trial) -> None:
        bisect.insort(self._ended, trial, key=_when_ended)
        if trial.state != "FAIL" and trial.ended != REFUSED:
            self._failures.clear()
        if trial.state == "COMPLETE" and trial.value is not None:
            # `rank` puts the lower number first among equal values, whichever ended first.
            bisect.insort(self._best, trial, key=self._objective.rank)
            del self._best[max(1, self.file.settings.run.keep) :]


def _when_ended(trial: Trial) -> tuple[datetime, int]:
    return trial.ended_at or datetime.min.replace(tzinfo=UTC), trial.number


class LikeFailuresError(ManyfitError):
    """The same failure happened three times in a row, so the cause is the study and not a config."""

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
