"""A study in memory: it draws trials and decides when they end. While a search runs, this object is the current state.

Nothing here imports keras or touches a file; a storage writes what `pending` returns.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from search.core.changes import Changes
from search.core.ended import Ended, RepeatedFailureError
from search.core.judge import by_clock, judge
from search.core.members import Members
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
from search.trials.history import IMPORTED, RECOMPUTED, Commit, Epoch, History, HistoryEvent
from search.trials.objective import Objective
from search.trials.trial import REFUSED, Training, Trial, Trials, make_trial

# The ending of a study that has run all its trials.
ALL_TRIALS = "all trials"

# Recomputed epochs may differ by rounding. A larger difference than this is noted in the study's history.
SAME = 1e-6


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
        self.gave_up: RepeatedFailureError | None = None
        # The history events of this command, for the views.
        self.noted: list[HistoryEvent] = []
        self._objective = Objective.of(file)
        self._standings, self._log_position = Standings(), 0
        self._policies = Policies.of(file, self.trials, study_attrs or {})
        # A copy, because a sampler may change its attributes in place.
        self._stored_attrs = deepcopy(dict(study_attrs or {}))
        self._changes = Changes()
        self._members = Members()
        self._ended = Ended(self._objective, file.settings.run.keep)
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
        return [self.trials[number] for number in dict.fromkeys(member.trial for member in self._members.running)]

    @property
    def best(self) -> Trial | None:
        """The best COMPLETE trial; among equal ones that with the lowest number."""
        return self._ended.best[0] if self._ended.best else None

    @property
    def seconds(self) -> float:
        """Seconds spent on this study by all commands that have worked on it."""
        return self.seconds_before + time.monotonic() - self._began

    @property
    def ending(self) -> str:
        """Why the study has ended; "" while something is left to do."""
        if self._members:
            return ""
        return self._out_of_time or self._nothing_to_draw

    def is_done(self) -> bool:
        """Return whether nothing is left to do; `ending` is the reason."""
        return bool(self.ending)

    @property
    def unfinished(self) -> list[Member]:
        """The members that run, and the interrupted ones that wait to go on."""
        return self._members.unfinished

    def next_assignment(self) -> Assignment | None:
        """Return the next member to start: an interrupted one, one of a newly drawn trial, or None if none may start now.

        Interrupted trials are resumed even after the study's time is used up: each trains one more epoch and then ends.
        """
        if self._members.one_is_alone:
            return None
        if not self._members.waiting:
            if self._out_of_time or self._nothing_to_draw:
                return None
            drawn = self._draw()
            self._changes.started.append(drawn.number)
            self._members.waiting += drawn.trainings
        training = self._members.start_next()
        if training is None:
            return None
        trial = self.trials[training.member.trial]
        if trial.state == "WAITING":
            self._set_state(trial, "RUNNING")
        trial.started_at = trial.started_at or datetime.now(UTC)
        return Assignment(
            member=training.member,
            config=trial.config,
            epochs=trial.epochs,
            seed=training.seed,
            limit_s=self.file.settings.run.trial_time,
            done=len(training.curve),
        )

    def record(self, events: Sequence[Event]) -> list[Member]:
        """Record all events of a tick, before any trial is judged; return the touched members in order."""
        touched = set()
        for event in events:
            if isinstance(event, Noted):
                self._record_note(event)
            elif isinstance(event, Spent):
                self.spent.update(event.seconds)
            else:
                touched.add(event.member)
                trial = self.trials[event.member.trial]
                if not trial.is_ended:  # a late result of a trial that has ended is normal, not an error
                    self._record_result(trial, event)
        return sorted(touched)

    def judge(self, touched: Sequence[Member]) -> list[Verdict]:
        """Decide which trials of members that events have touched go on; return a verdict on each of these members.

        If a trial ends, all its members that still train get a verdict, too. A member that has finished its epochs ends.
        """
        for number in dict.fromkeys(member.trial for member in touched):
            trial = self.trials[number]
            if self._members.train(trial):
                self._judge_running(trial)
            if not trial.is_ended:
                self._release(trial)
        return self._members.verdicts(touched)

    @property
    def has_changes(self) -> bool:
        """Whether there are changes that have not been stored."""
        return bool(self._changes)

    def worth_keeping(self, touched: Sequence[Member]) -> list[Member]:
        """Return the members that have just ended and whose weights are kept."""
        kept = set(self.kept)
        return self._members.have_just_ended(member for member in touched if member in kept)

    @property
    def kept(self) -> list[Member]:
        """The members whose weights are kept: of the best trials, and finished ones whose trial has others still to train."""
        if not self.file.settings.run.keep:
            return []
        is_busy = set(self.unfinished)
        under_way = dict.fromkeys(member.trial for member in sorted(is_busy))
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
        return self._ended.best[: self.file.settings.run.keep]

    def pending(self) -> Commit:
        """Return all changes since the last call of `mark_stored`."""
        attrs = deepcopy(dict(self._policies.sampler.study_attrs))
        return replace(
            self._changes.commit(self.trials),
            study_attrs={key: value for key, value in attrs.items() if self._stored_attrs.get(key) != value},
            seconds=self.seconds,
            spent=dict(self.spent),
            ended=self.ending,
        )

    def mark_stored(self, commit: Commit) -> None:
        """Clear the pending changes; `commit`, which holds them, is stored."""
        self._stored_attrs |= commit.study_attrs
        self._changes = Changes()

    def put_back(self) -> None:
        """Make all running trials wait; they will start again with the same config and number."""
        for number in sorted({member.trial for member in self.unfinished}):
            if self.trials[number].state == "RUNNING":
                self._set_state(self.trials[number], "WAITING")
        self._members.put_back()

    def note(self, kind: str, **detail: Any) -> None:
        """Add an event to the study's history."""
        event = HistoryEvent(kind, detail, datetime.now(UTC))
        self.noted.append(event)
        self._changes.events.append(event)

    # -- drawing -----------------------------------------------------------------------------------------------------

    @property
    def _nothing_to_draw(self) -> str:
        stop_after = self.file.settings.study.stop_after
        if stop_after and stopping.stagnates(self._ended.scores(), stop_after):
            return f"no better value in the last {stop_after} trials"
        if used_up := self._policies.draws.used_up(self.trials):
            return used_up
        return "" if len(self.trials) < self.file.settings.study.trials else ALL_TRIALS

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
            self._ended.add(trial)
        else:
            if trial.state == "RUNNING":
                # Its process died. It may have to wait, and must not be shown as running meanwhile.
                self._set_state(trial, "WAITING")
            unfinished = [training for training in trial.trainings if len(training.curve) < trial.epochs]
            # If all epochs are stored but no verdict, one training recomputes its last, so that the loop judges the trial.
            self._members.waiting += unfinished or trial.trainings[-1:]

    # -- recording ---------------------------------------------------------------------------------------------------

    def _record_note(self, event: Noted) -> None:
        if event.kind == IMPORTED and any((n.kind, n.detail) == (event.kind, event.detail) for n in self.noted):
            return  # another worker has imported the same files
        self.compiled += event.kind == "program compiled"
        self.note(event.kind, **event.detail)

    def _record_result(self, trial: Trial, event: EpochEnd | Stopped | Failed | Lost | Overdue | OverLimit) -> None:
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
        self._changes.epochs.append(Epoch(event.member, event.epoch, event.seconds, metrics, value))

    def _compare(self, training: Training, epoch: int, value: float | None) -> None:
        """Note in the history if a recomputed epoch differs from the stored one. The stored one stays."""
        stored = training.curve[epoch - 1].get(self.file.settings.study.objective)
        is_same = stored is not None and value is not None and math.isclose(stored, value, rel_tol=SAME, abs_tol=SAME)
        if not is_same:
            number = training.member.trial
            self.note(RECOMPUTED, trial=number, epoch=epoch, stored=stored, now=value)

    def _lose(self, trial: Trial, event: Lost) -> None:
        if event.member not in self._members:
            return  # its trial has gone on without it in the same tick
        self.note("worker lost", trial=trial.number, reason=event.reason, detail=event.detail)
        training = self._training(event.member)
        if not self._members.lose(training, trained=event.trained, hung=event.hung, alone=event.alone):
            self._fail(trial, "crashed", event.reason, event.detail)
        elif not self._members.train(trial):
            self._set_state(trial, "WAITING")

    def _fail(self, trial: Trial, ended: str, reason: str, detail: str) -> None:
        trial.detail = detail
        self._end(trial, "FAIL", ended, reason)
        self.gave_up = self._ended.count_failure(reason, detail) or self.gave_up

    # -- judging -----------------------------------------------------------------------------------------------------

    def _judge_running(self, trial: Trial) -> None:
        before = min(training.judged for training in trial.trainings)
        # The other trainings have nothing new to judge: an epoch was recomputed after a crash, or only another has one.
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
        self._members.release(done)
        if trial.early is not None and len(done) == len(trial.trainings):
            self._end(trial, "COMPLETE", *trial.early[1:])

    def _training(self, member: Member) -> Training:
        return self.trials[member.trial].trainings[member.replica]

    def _end(self, trial: Trial, state: str, ended: str, why: str) -> None:
        self._set_state(trial, state)
        trial.ended, trial.why = ended, why
        if trial.has_no_value:
            trial.value = trial.best_epoch = None
        trial.ended_at = self._ended.now()
        self._members.release(trial.members)
        self.trials.touch(trial)
        self._ended.add(trial)

    def _set_state(self, trial: Trial, state: str) -> None:
        trial.state = state
        self._changes.restated.add(trial.number)
